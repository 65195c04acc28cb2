//! What new workspaces begin with when a model names nothing.

use std::{fs, path::Path, process::Command};

use pyro_tests::{ENVIRONMENT, Home, McpClient};
use serde_json::{Value, json};

fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=story", "-c", "user.email=story@example.org", "-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git is there");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn repository(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).expect("writable");
    git(folder, &["init", "--quiet", "--initial-branch=main"]);
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("writable");
        fs::write(path, text).expect("writable");
    }
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "--message=first"]);
}

fn created(client: &McpClient) -> Value {
    client.call("workspace_create", json!({ "environment": ENVIRONMENT, "mem_mib": 256, "name": "w" }))
}

fn listed(client: &McpClient) -> String {
    let found = client.call(
        "workspace_exec",
        json!({ "workspace": "w", "command": "cd /workspace && find . -type f -not -path './.git/*' | sort | tr '\\n' ' '" }),
    );
    found["stdout"].as_str().expect("text").trim().to_owned()
}

#[test]
fn a_messy_checkout_around_the_server_is_taken_and_what_is_not_is_told() {
    let home = Home::new();
    let part = home.path().join("part");
    repository(&part, &[("lib.c", "int x;\n")]);
    let checkout = home.path().join("checkout");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0000000000000000000000000000000000000000000000000000000000000000\nsize 99\n";
    repository(&checkout, &[("src/main.c", "int main;\n"), (".gitignore", "build/\n"), ("big.bin", pointer)]);
    git(&checkout, &["submodule", "--quiet", "add", &format!("file://{}", part.display()), "part"]);
    repository(&checkout.join("nested"), &[("own.txt", "own\n")]);
    fs::create_dir_all(checkout.join("build")).expect("writable");
    fs::write(checkout.join("build/out.o"), "generated").expect("writable");
    fs::write(checkout.join("new.txt"), "not yet added\n").expect("writable");
    rustix::fs::mkfifoat(rustix::fs::CWD, checkout.join("pipe"), rustix::fs::Mode::RUSR).expect("writable");

    let mut command = home.command(&["mcp", "serve", "--profile", "workspace-core"]);
    command.current_dir(checkout.join("src"));
    let client = McpClient::start_command(command);
    let _ = client.hello("2025-11-25");
    let tools = client.request("tools/list", json!({}))["result"]["tools"].clone();
    let told =
        tools.as_array().expect("a list").iter().find(|tool| tool["name"] == "workspace_create").expect("offered")["description"].clone();
    assert!(told.as_str().is_some_and(|text| text.contains(&checkout.display().to_string())), "{told}");
    let answer = client.call_any("workspace_create", json!({ "environment": ENVIRONMENT, "mem_mib": 256, "name": "w" }));
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    let files = listed(&client);
    for there in ["./src/main.c", "./new.txt", "./big.bin", "./.gitignore"] {
        assert!(files.split(' ').any(|file| file == there), "{there}: {files}");
    }
    assert!(!files.contains("build/out.o"), "{files}");
    let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
    let left_out = answer["result"]["structuredContent"]["left_out"].to_string();
    assert!(text.contains("left out") && left_out.contains("pipe"), "{text}\n{left_out}");
    let _ = client.call("workspace_delete", json!({ "workspace": "w" }));
    assert!(client.close().success());
    home.assert_nothing_left();
}

#[test]
fn a_repository_is_cloned_clean_for_the_server_and_goes_with_it() {
    let home = Home::new();
    let origin = home.path().join("origin");
    repository(&origin, &[("file", "one\n")]);
    git(&origin, &["tag", "v1"]);
    fs::write(origin.join("file"), "two\n").expect("writable");
    git(&origin, &["commit", "--quiet", "--all", "--message=second"]);
    fs::write(origin.join("dirt"), "").expect("writable");
    let url = format!("file://{}", origin.display());
    let client = McpClient::connect(&home, &["--repo-url", &url, "--repo-ref", "v1"]);
    let made = created(&client);
    assert_eq!(made["workspace_seed"]["origin_kind"], "git", "{made}");
    let seen = client.call("workspace_exec", json!({ "workspace": "w", "command": "cat file; ls -A | tr '\\n' ' '" }));
    assert_eq!(seen["stdout"].as_str().map(str::trim), Some("one\n.git file"));
    let _ = client.call("workspace_delete", json!({ "workspace": "w" }));
    assert!(client.close().success());
    let left = fs::read_dir(home.dirs().cache.join("sources")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the clone goes with the server");

    let wrong = McpClient::connect(&home, &["--repo-url", &format!("{url}-not"), "--repo-ref", "v1"]);
    let refused = wrong.call_failing("workspace_create", json!({ "environment": ENVIRONMENT }));
    assert!(refused.contains("cannot clone") && refused.contains("seed_path"), "{refused}");
    assert!(wrong.close().success());
    home.assert_nothing_left();
}

#[test]
fn no_source_and_no_checkout_begin_empty_and_a_missing_path_ends_the_server() {
    let home = Home::new();
    // Homes of tests are below Pyro's own checkout.
    let outside = tempfile::tempdir().expect("a folder");
    let checkout = outside.path().join("checkout");
    repository(&checkout, &[("file", "x\n")]);
    for (folder, arguments) in [(checkout.as_path(), &["--no-project-source"][..]), (outside.path(), &[])] {
        let mut command = home.command(&["mcp", "serve"]);
        command.args(arguments).current_dir(folder);
        let client = McpClient::start_command(command);
        let _ = client.hello("2025-11-25");
        let _ = created(&client);
        assert_eq!(listed(&client), "");
        let _ = client.call("workspace_delete", json!({ "workspace": "w" }));
        assert!(client.close().success());
    }
    let refused = home.pyro(&["mcp", "serve", "--project-path", "/no/such"]);
    assert!(refused.code != 0 && refused.stderr.contains("/no/such") && refused.stderr.contains("hint:"), "{refused:?}");
    home.assert_nothing_left();
}
