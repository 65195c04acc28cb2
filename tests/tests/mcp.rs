//! The MCP server as a model meets it: whole stories over standard input and output, with a real guest behind every call.

use std::{fs, time::Duration};

use pyro_tests::{ENVIRONMENT, Home, McpClient, eventually};
use serde_json::{Value, json};

/// Arguments of a workspace of the stories.
fn small(more: Value) -> Value {
    let mut arguments = json!({ "environment": ENVIRONMENT, "mem_mib": 256 });
    for (key, value) in more.as_object().expect("an object") {
        arguments[key] = value.clone();
    }
    arguments
}

fn workspaces(client: &McpClient) -> usize {
    client.call("workspace_list", json!({}))["workspaces"].as_array().expect("a list").len()
}

#[test]
fn a_model_reproduces_a_failure_fixes_it_and_brings_the_patch_home() {
    let home = Home::new();
    let project = home.path().join("project");
    fs::create_dir_all(&project).expect("writable");
    fs::write(project.join("sum.sh"), "echo $(($1 - $2))\n").expect("writable");
    fs::write(project.join("test.sh"), "[ \"$(sh sum.sh 2 3)\" = 5 ]\n").expect("writable");
    let client = McpClient::connect(&home, &["--profile", "workspace-core", "--project-path", "project"]);
    let made = client.call("workspace_create", small(json!({ "name": "fix" })));
    assert_eq!(made["workspace_seed"]["entry_count"], 2, "{made}");
    let test = json!({ "workspace": "fix", "command": ["sh", "test.sh"] });
    assert_eq!(client.call("workspace_exec", test.clone())["exit_code"], 1);
    assert_eq!(client.call("workspace_file_read", json!({ "workspace": "fix", "path": "sum.sh" }))["content"], "echo $(($1 - $2))\n");
    let patch = "--- a/sum.sh\n+++ b/sum.sh\n@@ -1 +1 @@\n-echo $(($1 - $2))\n+echo $(($1 + $2))\n";
    assert_eq!(client.call("workspace_patch_apply", json!({ "workspace": "fix", "patch": patch }))["applied"], true);
    assert_eq!(client.call("workspace_exec", test)["exit_code"], 0);
    let diff = client.call("workspace_diff", json!({ "workspace": made["workspace_id"] }));
    assert!(diff["patch"].as_str().is_some_and(|patch| patch.contains("+echo $(($1 + $2))")), "{diff}");
    let output = home.path().join("sum.sh");
    let _ = client.call("workspace_export", json!({ "workspace": "fix", "path": "sum.sh", "output": output }));
    assert_eq!(fs::read_to_string(output).expect("exported"), "echo $(($1 + $2))\n");
    let summary = client.call_any("workspace_summary", json!({ "workspace": "fix" }));
    assert!(summary["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains("sh test.sh")), "{summary}");
    let _ = client.call("workspace_reset", json!({ "workspace": "fix" }));
    assert_eq!(client.call("workspace_diff", json!({ "workspace": "fix" }))["changed"], false);
    assert_eq!(client.call("workspace_delete", json!({ "workspace": "fix" }))["deleted"], true);
    let once = client.call("vm_run", small(json!({ "command": "cat /proc/sys/kernel/hostname; exit 7" })));
    assert_eq!((&once["exit_code"], &once["execution_mode"]), (&json!(7), &json!("guest")));
    assert!(client.close().success());
    home.assert_nothing_left();
}

#[test]
fn commands_yield_go_on_and_die_with_a_cancelled_call() {
    let home = Home::new();
    let client = McpClient::connect(&home, &["--no-project-source"]);
    let made = client.call("workspace_create", small(json!({ "name": "w" })));
    let yielded =
        client.call("workspace_exec", json!({ "workspace": "w", "command": "echo begun; sleep 4; echo done", "yield_after_ms": 1000 }));
    assert_eq!((&yielded["state"], &yielded["stdout"]), (&json!("running"), &json!("begun\n")));
    // A running command blocks no other call.
    assert_eq!(client.call("workspace_exec", json!({ "workspace": "w", "command": "true" }))["exit_code"], 0);
    let waited = client.call("workspace_exec_wait", json!({ "workspace": "w", "sequence": yielded["sequence"] }));
    assert_eq!((&waited["exit_code"], &waited["stdout"]), (&json!(0), &json!("begun\ndone\n")));

    let running = client.send_call("workspace_exec", json!({ "workspace": "w", "command": ["sleep", "4321"] }));
    let sleeps = |client: &McpClient| {
        let count =
            client.call("workspace_exec", json!({ "workspace": "w", "command": "grep -lz '^432[1]$' /proc/[0-9]*/cmdline | wc -l" }));
        count["stdout"].as_str().expect("text").trim().to_owned()
    };
    eventually("the command runs", 20, || sleeps(&client) == "1");
    client.cancel(running);
    eventually("the cancelled command is gone", 20, || sleeps(&client) == "0");
    assert_eq!(client.answer_within(running, Duration::from_millis(100)), None, "nobody answers a cancelled call");

    for tool in ["workspace_create", "vm_run"] {
        let mut arguments = small(json!({}));
        if tool == "vm_run" {
            arguments["command"] = json!("sleep 1000");
        }
        let begun = client.send_call(tool, arguments);
        eventually("a machine is on its way", 20, || home.registry().workspaces().expect("readable").len() == 2);
        client.cancel(begun);
        eventually("nothing of it is left", 60, || workspaces(&client) == 1);
    }
    let forking = client.send_call("workspace_fork", json!({ "workspace": "w", "count": 2 }));
    client.cancel(forking);
    eventually("no fork is left", 60, || workspaces(&client) == 1 && client.call("snapshot_list", json!({ "workspace": "w" })).is_object());
    let _ = client.call("workspace_delete", json!({ "workspace": made["workspace_id"], "force": true }));
    assert!(client.close().success());
    home.assert_nothing_left();
}

#[test]
fn a_client_that_goes_away_leaves_what_it_asked_for_and_nothing_more() {
    let home = Home::new();
    let client = McpClient::connect(&home, &["--no-project-source"]);
    let _ = client.call("workspace_create", small(json!({ "name": "kept" })));
    let left = client.call("workspace_exec", json!({ "workspace": "kept", "command": ["sleep", "5432"], "yield_after_ms": 1000 }));
    assert_eq!(left["state"], "running");
    let _ = client.send_call("workspace_exec", json!({ "workspace": "kept", "command": ["sleep", "6543"] }));
    let _ = client.send_call("vm_run", small(json!({ "command": "sleep 1000" })));
    eventually("the one-shot machine is on its way", 20, || home.registry().workspaces().expect("readable").len() == 2);
    let _ = client.send_call("workspace_create", small(json!({ "name": "never" })));
    eventually("a workspace is on its way", 20, || home.registry().workspaces().expect("readable").len() == 3);
    assert!(client.vanish().success());
    let listed = home.pyro(&["workspace", "list", "--json"]).ok().json();
    let names: Vec<&str> = listed["workspaces"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!((names.as_slice(), listed["workspaces"].as_array().map(Vec::len)), (&["kept"][..], Some(1)));
    let running = home.sh("kept", "for n in 543[2] 654[3]; do grep -lz \"^$n\\$\" /proc/[0-9]*/cmdline | wc -l; done | tr '\\n' ' '");
    assert_eq!(running.trim(), "1 0", "the command that had yielded goes on, the one that was waited for does not");
    let _ = home.pyro(&["workspace", "delete", "kept", "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn failures_tell_kind_message_and_hint_in_words_of_tools() {
    let home = Home::new();
    let client = McpClient::connect(&home, &["--no-project-source", "--profile", "workspace-core"]);
    let unknown = client.call_failing("workspace_status", json!({ "workspace": "nope" }));
    assert!(unknown.starts_with("not_found:") && unknown.contains("`workspace_list`"), "{unknown}");
    let field = client.call_failing("workspace_exec", json!({ "workspace": "x", "cmd": "true" }));
    assert!(field.contains("no field cmd") && field.contains("command, cwd"), "{field}");
    let hidden = client.call_failing("workspace_create", small(json!({ "network_policy": "published-ports" })));
    assert!(hidden.contains("no field network_policy"), "{hidden}");
    let kind = client.call_failing("workspace_exec", json!({ "workspace": "x", "command": "true", "timeout_seconds": "soon" }));
    assert!(kind.starts_with("invalid_argument:"), "{kind}");
    let missing = client.call_failing("workspace_exec", json!({ "workspace": "x" }));
    assert!(missing.contains("command"), "{missing}");
    let huge = client.call_failing("workspace_file_write", json!({ "workspace": "x", "path": "f", "text": "x".repeat(2 << 20) }));
    assert!(huge.len() < 1000, "{}", huge.len());
    for tool in ["nope", "shell_open", "workspace_apply"] {
        assert_eq!(client.call_any(tool, json!({}))["error"]["code"], -32602, "{tool}");
    }
    assert!(client.close().success());
    home.assert_nothing_left();
}

#[test]
fn null_is_as_good_as_absent_and_a_whole_number_may_have_a_point() {
    let home = Home::new();
    let client = McpClient::connect(&home, &["--no-project-source"]);
    let create =
        json!({ "environment": ENVIRONMENT, "mem_mib": 256.0, "name": "odd", "labels": null, "seed_path": null, "network_policy": null });
    assert_eq!(client.call("workspace_create", create)["mem_mib"], 256);
    let exec = |more: Value| {
        let mut arguments = json!({ "workspace": "odd", "command": ["sh", "-c", "pwd; id -un"], "cwd": null, "user": null, "env": null });
        arguments.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        arguments
    };
    let done = client.call("workspace_exec", exec(json!({ "timeout_seconds": 3e1, "yield_after_ms": null, "secret_env": null })));
    assert_eq!(done["stdout"], "/workspace\nroot\n", "{done}");
    let refused = client.call_failing("workspace_exec", exec(json!({ "timeout_seconds": "30" })));
    assert!(refused.contains("`timeout_seconds` must be an integer, got the text \"30\""), "{refused}");
    let refused = client.call_failing("workspace_exec", exec(json!({ "max_output_byte": 5 })));
    assert!(refused.contains("no field max_output_byte") && refused.contains("did you mean `max_output_bytes`?"), "{refused}");
    let refused = client.call_failing("workspace_create", json!({ "environment": ENVIRONMENT, "mem_mib": 1_u64 << 40 }));
    assert!(refused.contains("mem_mib"), "{refused}");
    let _ = client.call("workspace_delete", json!({ "workspace": "odd", "force": null }));
    assert!(client.close().success());
    home.assert_nothing_left();
}

#[test]
fn a_model_cannot_get_more_than_the_operator_allows() {
    let home = Home::new();
    let inside = home.path().join("inside");
    fs::create_dir_all(&inside).expect("writable");
    let folder = inside.to_string_lossy().into_owned();
    let arguments =
        ["--no-project-source", "--max-workspaces", "1", "--max-mem-mib", "256", "--max-network-policy", "off", "--host-folder", &folder];
    let client = McpClient::connect(&home, &[&arguments[..], &["--environment", ENVIRONMENT]].concat());
    let tools = client.request("tools/list", json!({}));
    let create =
        tools["result"]["tools"].as_array().expect("a list").iter().find(|tool| tool["name"] == "workspace_create").expect("offered");
    let fields = &create["inputSchema"]["properties"];
    assert_eq!((&fields["mem_mib"]["maximum"], &fields["mem_mib"]["default"]), (&json!(256), &json!(256)));
    assert!(fields.get("environment").is_none() && fields.get("network_policy").is_none(), "{fields}");
    let made = client.call("workspace_create", json!({ "name": "one" }));
    assert_eq!((&made["mem_mib"], &made["environment"]), (&json!(256), &json!(ENVIRONMENT)));
    for (tool, arguments) in [
        ("workspace_create", json!({})),
        ("vm_run", json!({ "command": "true" })),
        ("workspace_fork", json!({ "workspace": "one" })),
        ("vm_create", json!({ "mem_mib": 512 })),
    ] {
        let refused = client.call_failing(tool, arguments);
        assert!(refused.starts_with("limit_exceeded:") && refused.contains("--max-"), "{tool}: {refused}");
    }
    let _ = client.call("workspace_file_write", json!({ "workspace": "one", "path": "f", "text": "x" }));
    let export = |output: String| json!({ "workspace": "one", "path": "f", "output": output });
    let refused = client.call_failing("workspace_export", export(home.path().join("f").to_string_lossy().into_owned()));
    assert!(refused.starts_with("permission_denied:") && refused.contains("--host-folder"), "{refused}");
    let refused = client.call_failing("workspace_sync_push", json!({ "workspace": "one", "source": "/etc" }));
    assert!(refused.starts_with("permission_denied:"), "{refused}");
    let _ = client.call("workspace_export", export(format!("{folder}/f")));
    // A guest's link in the place of the folder would lead anywhere from then on.
    let _ = client.call("workspace_exec", json!({ "workspace": "one", "command": "ln -s /etc l" }));
    let link = json!({ "workspace": "one", "path": "l", "output": folder, "force": true });
    let refused = client.call_failing("workspace_export", link);
    assert!(refused.starts_with("permission_denied:") && inside.join("f").is_file(), "{refused}");
    let link = json!({ "workspace": "one", "path": "l", "output": format!("{folder}/l") });
    let _ = client.call("workspace_export", link);
    let refused = client.call_failing("workspace_sync_push", json!({ "workspace": "one", "source": format!("{folder}/l") }));
    assert!(refused.starts_with("permission_denied:"), "{refused}");
    for odd in [json!("256"), json!(-1), json!(256.5), json!([256]), json!(1e20)] {
        let refused = client.call_failing("vm_create", json!({ "mem_mib": odd }));
        assert!(refused.starts_with("invalid_argument:"), "{odd}: {refused}");
    }
    let _ = client.call("workspace_delete", json!({ "workspace": "one" }));
    assert!(client.close().success());

    // What somebody else has made is held to the limits, too.
    let outside = home.path().join("outside");
    fs::create_dir_all(&outside).expect("writable");
    let other = home.create(&["--seed-path", &outside.to_string_lossy(), "--network-policy", "published-ports"]);
    let flags = ["--no-project-source", "--max-network-policy", "off", "--host-folder", &folder, "--allow-apply"];
    let client = McpClient::connect(&home, &flags);
    assert_eq!(client.call_any("port_publish", json!({ "workspace": other, "port": "80" }))["error"]["code"], -32602);
    let service = json!({ "workspace": other, "name": "s", "command": "true", "publish": ["80"] });
    assert!(client.call_failing("service_start", service).contains("no field publish"));
    let fork = client.call_failing("workspace_fork", json!({ "workspace": other }));
    assert!(fork.starts_with("limit_exceeded:"), "{fork}");
    let _ = client.call("workspace_file_write", json!({ "workspace": other, "path": "new", "text": "x" }));
    let apply = client.call_failing("workspace_apply", json!({ "workspace": other }));
    assert!(apply.starts_with("permission_denied:") && fs::read_dir(&outside).expect("readable").count() == 0, "{apply}");
    // An undo changes files where the last apply went, and a push may have made another directory the one to apply to.
    let _ = home.pyro(&["workspace", "apply", &other]).ok();
    let undo = client.call_failing("workspace_apply", json!({ "workspace": other, "undo": true }));
    assert!(undo.starts_with("permission_denied:") && outside.join("new").exists(), "{undo}");
    let mine = client.call("workspace_create", small(json!({ "name": "mine", "seed_path": folder })))["workspace_id"].clone();
    let _ = home.pyro(&["workspace", "sync", "push", "mine", &outside.to_string_lossy(), "--delete"]).ok();
    let _ = client.call("workspace_file_write", json!({ "workspace": mine, "path": "new", "text": "y" }));
    let apply = client.call_failing("workspace_apply", json!({ "workspace": mine }));
    assert!(apply.starts_with("permission_denied:"), "{apply}");
    assert_eq!(fs::read_to_string(outside.join("new")).expect("there"), "x");
    for workspace in [json!(other), mine] {
        let _ = client.call("workspace_delete", json!({ "workspace": workspace }));
    }
    assert!(client.close().success());
    home.assert_nothing_left();
}

#[test]
fn services_shells_and_ports_work_through_tools() {
    let home = Home::new();
    let client = McpClient::connect(&home, &["--no-project-source"]);
    let _ = client.call("workspace_create", small(json!({ "name": "w", "network_policy": "published-ports" })));
    let started = client.call(
        "service_start",
        json!({ "workspace": "w", "name": "slow", "command": "sleep 1; touch /run/up; sleep 1000", "ready_file": "/run/up" }),
    );
    assert_eq!((&started["outcome"], &started["state"]), (&json!("ready"), &json!("ready")), "{started}");
    let shell = client.call("shell_open", json!({ "workspace": "w" }))["shell_id"].clone();
    let _ = client.call("shell_write", json!({ "workspace": "w", "shell_id": shell, "input": "echo $((40 + 2))" }));
    eventually("the shell answers", 30, || {
        let read = client.call("shell_read", json!({ "workspace": "w", "shell_id": shell, "plain": true, "wait_for_idle_ms": 300 }));
        read["output"].as_str().is_some_and(|text| text.lines().any(|line| line.trim() == "42"))
    });
    let port = client.call("port_publish", json!({ "workspace": "w", "port": "8080" }));
    assert!(port["host_port"].as_u64().is_some_and(|port| port > 0), "{port}");
    let network = client.call("vm_network_info", json!({ "workspace": "w" }));
    assert_eq!(network["published_ports"].as_array().map(Vec::len), Some(1), "{network}");
    let _ = client.call("vm_delete", json!({ "workspace": "w" }));
    assert!(client.call("vm_reap_expired", json!({}))["workspace_count"].is_u64());
    assert!(client.close().success());
    home.assert_nothing_left();
}
