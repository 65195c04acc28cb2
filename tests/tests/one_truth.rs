//! Whoever looks at an installation sees the same workspaces live, whatever its environment, its namespaces and its user are.

use std::{path::Path, process::Command};

use pyro_tests::{Home, Output, binary, finish};

/// Runs `pyro ARGUMENTS` through another program that changes how it runs.
fn through(home: &Home, program: &str, before: &[&str], arguments: &[&str]) -> Output {
    let mut command = home.program(Path::new(program));
    command.args(before).arg(binary()).args(arguments);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    finish(command.spawn().unwrap_or_else(|error| panic!("`{program}` does not start: {error}")))
}

/// Runs `pyro ARGUMENTS` with these variables besides `HOME`.
fn with(home: &Home, variables: &[(&str, &Path)], arguments: &[&str]) -> Output {
    let mut command = home.command(arguments);
    command.envs(variables.iter().copied());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    finish(command.spawn().expect("pyro starts"))
}

fn state_of(output: &Output, workspace: &str) -> String {
    let listed = output.json();
    let mut workspaces = listed["workspaces"].as_array().expect("a list").iter();
    let found = workspaces.find(|found| found["workspace_id"] == workspace).unwrap_or_else(|| panic!("{workspace} is not in {listed}"));
    found["state"].as_str().expect("a state").to_owned()
}

const LIST: [&str; 3] = ["workspace", "list", "--json"];

#[test]
fn programs_with_other_runtime_folders_see_one_machine_and_end_it_whole() {
    let home = Home::of_a_user();
    let runtime = |name: &str| {
        let folder = home.path().join(name);
        std::fs::create_dir_all(&folder).expect("writable");
        folder
    };
    let (one, other) = (runtime("run-1"), runtime("run-2"));
    let create = ["workspace", "create", pyro_tests::ENVIRONMENT, "--mem-mib", pyro_tests::MEM_MIB, "--id-only"];
    let w = with(&home, &[("XDG_RUNTIME_DIR", &one)], &create).ok().text();
    let processes = home.live_processes();
    // A chat host that hands on another one, and cron, which hands on none.
    for variables in [&[("XDG_RUNTIME_DIR", other.as_path())][..], &[]] {
        assert_eq!(state_of(&with(&home, variables, &LIST).ok(), &w), "running");
        let _ = with(&home, variables, &["workspace", "start", &w]).ok();
        assert_eq!(home.live_processes(), processes, "no second machine was started");
        assert_eq!(with(&home, variables, &["workspace", "exec", &w, "--", "echo", "here"]).ok().text(), "here");
    }
    // The folder may go with a logout; the machine stays what it is.
    std::fs::remove_dir_all(&one).expect("its own");
    assert_eq!(state_of(&with(&home, &[], &LIST).ok(), &w), "running");
    // A data folder of its own does not make another installation of one registry.
    let elsewhere = home.path().join("elsewhere");
    assert_eq!(with(&home, &[("XDG_DATA_HOME", &elsewhere)], &["workspace", "exec", &w, "--", "echo", "here"]).ok().text(), "here");
    assert!(!elsewhere.exists(), "nothing is made where no disk is");
    let _ = with(&home, &[("XDG_RUNTIME_DIR", &other)], &["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn an_empty_environment_and_sudo_see_what_the_user_sees() {
    let home = Home::of_a_user();
    let w = home.create(&[]);
    let folder = format!("HOME={}", home.path().display());
    let processes = home.live_processes();
    let ways: [(&str, &[&str]); 2] = [("/usr/bin/env", &["-i", &folder]), ("/usr/bin/sudo", &["--non-interactive", &folder])];
    for (program, before) in ways {
        assert_eq!(state_of(&through(&home, program, before, &LIST).ok(), &w), "running", "{program}");
        let _ = through(&home, program, before, &["workspace", "start", &w]).ok();
        assert_eq!(home.live_processes(), processes, "{program} starts no second machine");
        assert_eq!(through(&home, program, before, &["workspace", "exec", &w, "--", "echo", "here"]).ok().text(), "here");
    }
    let _ = through(&home, ways[1].0, ways[1].1, &["workspace", "stop", &w]).ok();
    assert_eq!(home.state(&w), "stopped");
    let _ = through(&home, ways[0].0, ways[0].1, &["workspace", "start", &w]).ok();
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

/// Returns what puts a program into namespaces of its own; without root they come with one of users.
fn namespaces() -> &'static [&'static str] {
    let apart = &["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--mount"];
    if rustix::process::geteuid().is_root() { &apart[2..] } else { apart }
}

#[test]
fn a_client_in_namespaces_of_its_own_takes_nobody_for_dead_and_ends_nobody_else() {
    let home = Home::new();
    let w = home.create(&[]);
    let processes = home.live_processes();
    let apart = |arguments: &[&str]| through(&home, "/usr/bin/unshare", namespaces(), arguments);
    assert_eq!(state_of(&apart(&LIST).ok(), &w), "running");
    assert_eq!(apart(&["workspace", "exec", &w, "--", "echo", "here"]).ok().text(), "here");
    let _ = apart(&["workspace", "start", &w]).ok();
    let _ = apart(&["system", "prune"]).ok();
    assert_eq!(home.live_processes(), processes);
    // What is started in there ends with the namespace, as in a container; so nothing that starts a machine is tried.
    let _ = apart(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn another_user_of_one_home_neither_sees_it_dead_nor_is_kept_from_working() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be two users");
        return;
    }
    let home = Home::new();
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(home.path()).status().expect("chown starts");
    assert!(owned.success());
    let user = |arguments: &[&str]| through(&home, "/usr/bin/setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups"], arguments);
    let create = ["workspace", "create", pyro_tests::ENVIRONMENT, "--mem-mib", pyro_tests::MEM_MIB, "--id-only"];
    let theirs = user(&create).ok().text();
    assert_eq!(state_of(&home.pyro(&LIST).ok(), &theirs), "running", "root sees it");
    assert_eq!(home.exec(&theirs, &["echo", "here"]).ok().text(), "here");
    let roots = home.create(&[]);
    assert_eq!(state_of(&user(&LIST).ok(), &roots), "running", "what root made is root's, and not dead");
    assert_eq!(user(&["workspace", "exec", &theirs, "--", "echo", "here"]).ok().text(), "here");
    let refused = user(&["workspace", "exec", &roots, "--", "true"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("ermission denied"), "{}", refused.stderr);
    assert_eq!(state_of(&home.pyro(&LIST).ok(), &roots), "running");
    for w in [&theirs, &roots] {
        let _ = home.pyro(&["workspace", "delete", w]).ok();
    }
    assert_eq!(user(&LIST).ok().json()["workspaces"], serde_json::json!([]));
    home.assert_nothing_left();
}

#[test]
fn a_machine_that_no_row_knows_is_found_and_ended() {
    let home = Home::new();
    let w = home.create(&[]);
    let record = home.registry().find_workspace(&w).expect("there");
    let machine = record.machine.expect("it runs");
    // What a lost registry leaves: a machine, and nothing that says so.
    home.registry().remove_machine(&machine).expect("removes");
    home.registry().remove_workspace(&record.id).expect("removes");
    let doctor = home.pyro(&["doctor", "--json"]).json();
    let check = doctor["checks"].as_array().expect("a list").iter().find(|check| check["name"] == "machines").expect("a check").clone();
    assert_eq!((check["status"].as_str(), check["fix"].as_str()), (Some("warn"), Some("pyro system prune")), "{check}");
    let used = home.pyro(&["system", "df", "--json"]).ok().json();
    assert_eq!(used["orphan_count"], 1, "{used}");
    let pruned = home.pyro(&["system", "prune", "--json"]).ok().json();
    let found =
        pruned["removed"].as_array().expect("a list").iter().any(|item| item["kind"] == "orphan" && item["name"] == machine.as_str());
    assert!(found, "{pruned}");
    home.assert_nothing_left();
}
