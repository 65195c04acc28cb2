//! What a model's workspaces reach: nothing without the operator's word, and with it no more than that.

use pyro_tests::{
    ENVIRONMENT, McpClient,
    world::{Answer, ELSEWHERE, LAN, OUTSIDE, Prober, World},
};
use serde_json::{Value, json};

fn small(mut arguments: Value) -> Value {
    arguments["mem_mib"] = json!(256);
    arguments["environment"] = json!(ENVIRONMENT);
    arguments
}

fn tools(client: &McpClient) -> Vec<String> {
    let listed = client.request("tools/list", json!({}));
    let tools = listed["result"]["tools"].as_array().expect("a list");
    tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn without_the_operators_word_no_tool_leads_out() {
    let Some(world) = World::new() else { return };
    let home = world.home();
    let client = McpClient::connect(&home, &["--no-project-source"]);
    let offered = tools(&client);
    assert!(!offered.iter().any(|tool| ["network_allow", "network_deny", "network_learn"].contains(&tool.as_str())), "{offered:?}");
    for policy in ["egress", "egress+published-ports"] {
        let refused = client.call_failing("workspace_create", small(json!({ "network_policy": policy })));
        assert!(refused.starts_with("limit_exceeded:") && refused.contains("--max-network-policy"), "{refused}");
    }
    for (tool, arguments) in [
        ("workspace_create", json!({ "allow_hosts": ["api.test"] })),
        ("vm_run", json!({ "command": "true", "network": true })),
        ("vm_create", json!({ "network": true })),
    ] {
        let refused = client.call_failing(tool, small(arguments));
        assert!(refused.starts_with("limit_exceeded:") || refused.starts_with("invalid_argument:"), "{tool}: {refused}");
    }
    assert_eq!(client.call_any("network_allow", json!({ "workspace": "w", "rules": ["api.test"] }))["error"]["code"], -32602);
    // Nor does one that its owner has made and opened let a copy of it out.
    let _ = Prober::create(&home, &["--name", "open"]);
    let refused = client.call_failing("workspace_fork", json!({ "workspace": "open" }));
    assert!(refused.starts_with("limit_exceeded:"), "{refused}");
    let made = client.call("workspace_create", small(json!({ "name": "w" })));
    assert_ne!(made["network_policy"], "egress", "{made}");
    assert_eq!(home.sh("w", "ls /sys/class/net"), "lo");
    for workspace in ["w", "open"] {
        let _ = home.pyro(&["workspace", "delete", workspace]).ok();
    }
    assert!(client.close().success());
    home.assert_nothing_left();
}

#[test]
fn with_the_operators_word_a_workspace_reaches_just_that() {
    let Some(world) = World::new() else { return };
    world.names().set("api.test", Answer::addresses(&[OUTSIDE]));
    world.names().set("evil.test", Answer::addresses(&[ELSEWHERE]));
    let home = world.home();
    let flags = ["--no-project-source", "--max-network-policy", "egress", "--allow-host", "api.test:80"];
    let client = McpClient::connect(&home, &flags);
    assert!(tools(&client).iter().any(|tool| tool == "network_allow"));
    for arguments in [
        json!({ "network_policy": "egress", "allow_hosts": ["evil.test"] }),
        json!({ "network_policy": "egress", "allow_hosts": ["api.test"] }),
        json!({ "network_policy": "egress", "allow_hosts": ["*.test:80"] }),
        json!({ "network_policy": "egress", "allow_groups": ["any"] }),
        json!({ "network_policy": "egress+published-ports" }),
    ] {
        let refused = client.call_failing("workspace_create", small(arguments));
        assert!(refused.starts_with("limit_exceeded:") || refused.starts_with("invalid_argument:"), "{refused}");
    }
    let _ = client.call("workspace_create", small(json!({ "name": "w", "network_policy": "egress" })));
    let probe = json!({ "workspace": "w", "path": "probe.pl", "text": include_str!("../src/world/probe.pl") });
    let _ = client.call("workspace_file_write", probe);
    let guest = Prober::of(&home, "w".to_owned());
    let reaches = || {
        guest.meets(
            "http api.test 80 api.test / => 200 hello from api.test
            tcp 203.0.113.9 7 => ECONNREFUSED
            tcp 10.0.0.5 8000 => ECONNREFUSED
            http 10.0.0.5 80 10.0.0.5 / => 403
            ask evil.test A 10.0.2.2 => NXDOMAIN
            http 198.51.100.7 80 evil.test / => 403
            http 203.0.113.9 80 evil.test / => 403",
        );
    };
    reaches();
    for rule in ["evil.test", "203.0.113.9", "0.0.0.0/0", "10.0.0.5:80", "api.test"] {
        let refused = client.call_failing("network_allow", json!({ "workspace": "w", "rules": [rule] }));
        assert!(refused.starts_with("limit_exceeded:") && refused.contains("api.test:80"), "{rule}: {refused}");
    }
    let _ = client.call("network_allow", json!({ "workspace": "w", "rules": ["api.test:80"] }));
    reaches();
    let fork = client.call("workspace_fork", json!({ "workspace": "w", "name": "f" }));
    assert!(fork.is_object());
    Prober::of(&home, "f".to_owned()).meets("http api.test 80 api.test / => 200\nask evil.test A 10.0.2.2 => NXDOMAIN");
    let _ = client.call("workspace_reset", json!({ "workspace": "w" }));
    let _ = home.pyro(&["workspace", "file", "write", "w", "probe.pl", "--text", include_str!("../src/world/probe.pl")]).ok();
    reaches();
    assert!(!world.connections().iter().any(|to| *to.ip() == LAN || *to.ip() == ELSEWHERE), "{:?}", world.connections());
    for workspace in ["w", "f"] {
        let _ = client.call("workspace_delete", json!({ "workspace": workspace }));
    }
    assert!(client.close().success());
    home.assert_nothing_left();
}
