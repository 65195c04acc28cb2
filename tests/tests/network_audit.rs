//! What a network did, told afterwards: learning the rules that a command needs, groups of rules, and a log that shows when it was touched.

use std::{fs, path::PathBuf};

use pyro_tests::{
    Home, eventually,
    world::{Answer, ELSEWHERE, OUTSIDE, Prober, World},
};
use serde_json::Value;

fn learn(home: &Home, workspace: &str, tries: &[&str]) -> Value {
    let command = ["network", "learn", workspace, "--group", "packages", "--json", "--", "perl", "probe.pl"];
    home.pyro(&[&command, tries].concat()).ok().json()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

#[test]
fn learning_tells_the_narrowest_rules_and_a_group_of_them_is_enough() {
    let Some(world) = World::new() else { return };
    world.names().set("api.test", Answer::addresses(&[OUTSIDE]));
    world.names().set("files.test", Answer::addresses(&[ELSEWHERE]));
    world.names().set("evil.test", Answer::addresses(&[OUTSIDE]));
    let home = world.home();
    let guest = Prober::create(&home, &["--allow-host", "api.test:80", "--deny-host", "evil.test"]);
    let tries = [
        "http api.test 80 api.test /",
        "http files.test 8000 files.test /",
        "tcp api.test 7 <hello>",
        "tcp 203.0.113.77 25 <hello>",
        "tcp 10.0.0.5 7",
        "ask evil.test A 10.0.2.2",
    ];
    let learnt = learn(&home, guest.id(), &tries);
    assert_eq!(strings(&learnt["rules"]), ["203.0.113.77:25", "api.test:7", "api.test:80", "files.test:8000"], "{learnt}");
    assert_eq!(strings(&learnt["refused"]), ["10.0.0.5:7"], "{learnt}");
    assert_eq!(learnt["exit_code"], 0);
    // It is over when it has answered.
    guest.meets(
        "ask files.test A 10.0.2.2 => NXDOMAIN
        tcp 203.0.113.77 25 => ECONNREFUSED
        http api.test 80 api.test / => 200",
    );
    // For a person: the command's output, then flags and a group for the operator's file.
    let told = home.pyro(&["network", "learn", guest.id(), "--", "perl", "probe.pl", tries[1]]).ok().text();
    assert!(told.starts_with("200 hello from files.test") && told.contains("--allow-host files.test:8000"), "{told}");
    // A failing command's code is the code, and it is told all the same what it needed.
    let failed = home.pyro(&["network", "learn", guest.id(), "--", "sh", "-c", "perl probe.pl 'tcp 203.0.113.77 25'; exit 7"]).code(7);
    assert!(failed.text().contains("203.0.113.77:25"), "{failed:?}");

    let config = home.dirs().config_file();
    fs::create_dir_all(config.parent().expect("a folder")).expect("writable");
    fs::write(&config, learnt["group"].as_str().expect("a group")).expect("writable");
    let other = Prober::create(&home, &["--allow-group", "packages"]);
    other.meets(
        "http api.test 80 api.test / => 200
        http files.test 8000 files.test / => 200
        tcp api.test 7 <hello> => got <hello>
        tcp 203.0.113.77 25 <hello> => got 220
        ask evil.test A 10.0.2.2 => NXDOMAIN
        tcp 198.51.100.7 7 => ECONNREFUSED",
    );
    let unknown = home.pyro(&["workspace", "network", "allow", guest.id(), "--allow-group", "nope"]);
    assert!(unknown.code == 65 && unknown.stderr.contains("`packages`"), "{unknown:?}");
    let _ = home.pyro(&["workspace", "network", "allow", guest.id(), "--allow-group", "packages"]).ok();
    guest.meets("http files.test 8000 files.test / => 200");
    for workspace in [guest.id(), other.id()] {
        let _ = home.pyro(&["workspace", "delete", workspace]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn a_commands_end_tells_what_the_network_refused_it() {
    let Some(world) = World::new() else { return };
    world.names().set("files.test", Answer::addresses(&[ELSEWHERE]));
    let home = world.home();
    let guest = Prober::create(&home, &["--allow-host", "api.test:80"]);
    let attempt =
        |more: &[&str], tries: &[&str]| home.pyro(&[&["workspace", "exec", guest.id()], more, &["--", "perl", "probe.pl"], tries].concat());
    let refused = ["http files.test 80 files.test /", "tcp 10.0.0.5 5432", "tcp 10.0.0.5 5432"];
    let answer = attempt(&["--json"], &refused).ok().json();
    assert_eq!(strings(&answer["network_refused"]), ["files.test", "10.0.0.5:5432"], "{answer}");
    // Not again, and not to a command that was refused nothing.
    assert!(attempt(&["--json"], &["ask api.test A 10.0.2.2"]).ok().json().get("network_refused").is_none());
    let told = attempt(&[], &refused[..1]).ok();
    let hint = format!("pyro workspace network allow {} files.test", guest.id());
    assert!(told.stderr.contains("the network refused files.test") && told.stderr.contains(&hint), "{}", told.stderr);
    let _ = home.pyro(&["workspace", "network", "allow", guest.id(), "files.test"]).ok();
    let after = attempt(&[], &refused[..1]).ok();
    assert!(after.text().starts_with("200") && !after.stderr.contains("refused"), "{after:?}");
}

#[test]
fn a_learner_that_is_killed_leaves_nothing_open() {
    let Some(world) = World::new() else { return };
    let home = world.home();
    let guest = Prober::create(&home, &["--allow-host", "203.0.113.9:7"]);
    let closed = "tcp 203.0.113.77 25 => ECONNREFUSED\ntcp 203.0.113.9 7 <hello> => got <hello>";
    guest.meets(closed);
    let mut learner =
        home.start(&["network", "learn", guest.id(), "--", "sh", "-c", "perl probe.pl 'hold 198.51.100.7 7 held' >said; sleep 4321"]);
    eventually("egress is open", 20, || guest.tries(&["tcp 203.0.113.77 25"]) == ["open"]);
    eventually("it has a connection", 20, || world.connections().iter().any(|to| *to.ip() == ELSEWHERE));
    // What is on the wire is the host's half; one that the guest has not got yet is refused, not reset.
    eventually("the guest has it, too", 20, || home.exec(guest.id(), &["sh", "-c", "cat said; true"]).text() == "held");
    learner.kill().expect("it runs");
    drop(learner.wait());
    eventually("egress is closed", 20, || guest.tries(&["tcp 203.0.113.77 25"]) == ["ECONNREFUSED"]);
    guest.meets(closed);
    eventually("what it had opened is reset", 20, || home.exec(guest.id(), &["sh", "-c", "cat held; true"]).text() == "ECONNRESET");
    let _ = home.pyro(&["workspace", "delete", guest.id(), "--force"]).ok();
    home.assert_nothing_left();
}

/// Puts a changed log in the place of a workspace's, looks at what is said of it, and puts the whole one back.
fn touched(home: &Home, workspace: &str, change: impl FnOnce(&mut Vec<String>)) -> Value {
    let log = log_file(home, workspace);
    let whole = fs::read_to_string(&log).expect("it has a log");
    let mut lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(&log, lines.join("\n") + "\n").expect("writable");
    let found = home.pyro(&["audit", "verify", "--json"]).code(1).json();
    assert_eq!(found["whole"], false, "{found}");
    fs::write(&log, whole).expect("writable");
    found["logs"].as_array().expect("a list").iter().find(|one| one["workspace_id"] == workspace).expect("it is there").clone()
}

fn log_file(home: &Home, workspace: &str) -> PathBuf {
    home.dirs().workspace(&workspace.parse().expect("an id")).join("network.log")
}

#[test]
fn a_log_that_was_touched_is_found_out_whatever_the_workspace_does() {
    let Some(world) = World::new() else { return };
    let home = world.home();
    let (guest, bystander) = (Prober::create(&home, &[]), Prober::create(&home, &[]));
    let many = vec!["tcp 203.0.113.9 7 <hello>"; 5];
    let _ = (guest.tries(&many), bystander.tries(&many[..1]));
    let _ = guest.logged(&["event=closed"]);
    let verify = |arguments: &[&str]| home.pyro(&[&["audit", "verify"], arguments, &["--json"]].concat());
    let whole = verify(&[]).ok().json();
    assert_eq!((whole["whole"].clone(), whole["logs"].as_array().map(Vec::len)), (true.into(), Some(2)), "{whole}");

    // Read on from where one was.
    let page = |more: &[&str]| home.pyro(&[&["workspace", "logs", guest.id(), "--network", "--json"], more].concat()).ok().json();
    let sequences = |page: &Value| -> Vec<u64> {
        let entries = page["entries"].as_array().expect("a list");
        entries.iter().map(|entry| entry["sequence"].as_u64().expect("a number")).collect()
    };
    assert_eq!(sequences(&page(&["--after", "0", "--tail", "3"])), [1, 2, 3]);
    assert_eq!(sequences(&page(&["--after", "3", "--tail", "2"])), [4, 5]);
    let newest = sequences(&page(&["--tail", "1"]))[0];
    let last = newest.to_string();
    assert_eq!(sequences(&page(&["--after", &last])), Vec::<u64>::new());
    let _ = guest.tries(&many[..1]);
    eventually("what came since is there", 10, || sequences(&page(&["--after", &last])).first() == Some(&(newest + 1)));

    // While it runs, after a stop, and when its supervisor was killed.
    for state in ["running", "stopped", "killed"] {
        match state {
            "stopped" => drop(home.pyro(&["workspace", "stop", guest.id()]).ok()),
            "killed" => {
                let _ = home.pyro(&["workspace", "start", guest.id()]).ok();
                let _ = guest.tries(&many[..1]);
                let _ = guest.logged(&["event=closed"]);
                home.kill_machines();
            }
            _ => eventually("the log is quiet", 10, || {
                let before = sequences(&page(&["--tail", "1"]));
                world.settle();
                page(&["--tail", "1"])["entries"][0]["event"] == "closed" && sequences(&page(&["--tail", "1"])) == before
            }),
        }
        assert_eq!(verify(&[]).ok().json()["whole"], true, "{state}");
        let before = verify(&[guest.id()]).ok().json()["logs"][0].clone();
        let changed = touched(&home, guest.id(), |lines| lines[2] = lines[2].replace("203.0.113.9", "203.0.113.8").replace("tcp", "udp"));
        assert!(changed["problem"].as_str().is_some_and(|problem| problem.contains("line 3 of")), "{state}: {changed}");
        let removed = touched(&home, guest.id(), |lines| drop(lines.remove(2)));
        assert!(removed["problem"].as_str().is_some_and(|problem| problem.contains("line 3 of")), "{state}: {removed}");
        let swapped = touched(&home, guest.id(), |lines| lines.swap(2, 3));
        assert!(swapped["problem"].as_str().is_some_and(|problem| problem.contains("line 3 of")), "{state}: {swapped}");
        let cut = touched(&home, guest.id(), |lines| drop(lines.pop()));
        assert!(cut["problem"].as_str().is_some_and(|problem| problem.contains("is missing")), "{state}: {cut}");
        let emptied = touched(&home, guest.id(), Vec::clear);
        assert_eq!(emptied["whole"], false, "{state}: {emptied}");
        // Nothing of it was repaired on the way.
        let after = verify(&[guest.id()]).ok().json()["logs"][0].clone();
        assert_eq!(after, before, "{state}");
    }
    // One that is touched is said to a person, too, and does not make the others wrong.
    let log = log_file(&home, guest.id());
    fs::remove_file(&log).expect("it has a log");
    let told = home.pyro(&["audit", "verify"]).code(1);
    assert!(format!("{}{}", told.text(), told.stderr).contains("missing"), "{told:?}");
    let _ = verify(&[bystander.id()]).ok();
    for workspace in [guest.id(), bystander.id()] {
        let _ = home.pyro(&["workspace", "delete", workspace]).ok();
    }
    home.assert_nothing_left();
}
