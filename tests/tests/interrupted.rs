//! Whatever is killed in the middle of a change of files or disks: afterwards there is the old state or the new one.

use std::{fs, path::Path, time::Duration};

use pyro_tests::{ENVIRONMENT, Home, MEM_MIB, SmallDisk, eventually};

/// Waits until a workspace that was interrupted has come to rest, and starts it.
fn bring_back(home: &Home, workspace: &str) {
    eventually("it has come to rest", 90, || matches!(home.state(workspace).as_str(), "stopped" | "running"));
    let _ = home.pyro(&["workspace", "start", workspace]).ok();
}

/// Starts a command, lets it run for a moment, and does something terrible.
fn interrupt(home: &Home, arguments: &[&str], moment: Duration, then: impl FnOnce(&mut std::process::Child)) {
    let mut client = home.start(arguments);
    std::thread::sleep(moment);
    then(&mut client);
    drop(client.kill());
    drop(client.wait());
}

fn write_version(folder: &Path, version: &str) {
    for number in 0..200 {
        let folder = folder.join(format!("d{}", number % 5));
        fs::create_dir_all(&folder).expect("writable");
        fs::write(folder.join(format!("f{number}")), format!("{version}\n")).expect("writable");
    }
}

#[test]
fn a_machine_killed_during_a_push_has_all_of_it_or_nothing() {
    let home = Home::new();
    let w = home.create(&[]);
    let source = home.path().join("source");
    let push = ["workspace", "sync", "push", &w, &source.to_string_lossy()].map(str::to_owned);
    let push: Vec<&str> = push.iter().map(String::as_str).collect();
    write_version(&source, "v0");
    let _ = home.pyro(&push).ok();
    let _ = home.sh(&w, "sync");
    let mut outcomes = Vec::new();
    for (round, moment_ms) in [30, 90, 150, 210, 300, 450].into_iter().enumerate() {
        let before = home.sh(&w, "cat d*/f* | sort | uniq -c | tr -s ' '");
        write_version(&source, &format!("v{}", round + 1));
        interrupt(&home, &push, Duration::from_millis(moment_ms), |_| home.kill_machines());
        bring_back(&home, &w);
        let after = home.sh(&w, "cat d*/f* | sort | uniq -c | tr -s ' '");
        let whole = format!("200 v{}", round + 1);
        assert!(after == before || after.trim() == whole, "half of it: {after}");
        outcomes.push(after == before);
        assert_eq!(home.sh(&w, "ls -A /workspace | tr '\\n' ' '"), "d0 d1 d2 d3 d4", "nothing of the attempt is seen");
    }
    assert!(outcomes.contains(&true), "no moment was early enough: {outcomes:?}");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_machine_killed_during_a_patch_has_all_of_it_or_nothing() {
    let home = Home::new();
    let seed = home.path().join("seed");
    write_version(&seed, "old");
    let w = home.create(&["--seed-path", &seed.to_string_lossy()]);
    let patch = home.path().join("patch");
    for (from, to, moment_ms) in [("old", "p1", 40), ("p1", "p2", 120), ("p2", "p3", 250)] {
        let now = home.sh(&w, "cat d0/f0");
        let (from, to) = if now == from { (from, to) } else { (now.as_str(), to) };
        let text: String = (0..200).map(|n| format!("--- a/d{0}/f{n}\n+++ b/d{0}/f{n}\n@@ -1 +1 @@\n-{from}\n+{to}\n", n % 5)).collect();
        fs::write(&patch, text).expect("writable");
        let apply = ["workspace", "patch", "apply", &w, "--patch-file", &patch.to_string_lossy()].map(str::to_owned);
        let apply: Vec<&str> = apply.iter().map(String::as_str).collect();
        let _ = home.sh(&w, "sync");
        interrupt(&home, &apply, Duration::from_millis(moment_ms), |_| home.kill_machines());
        bring_back(&home, &w);
        let after = home.sh(&w, "cat d*/f* | sort | uniq -c | tr -s ' '");
        assert!([from, to].iter().any(|version| after.trim() == format!("200 {version}")), "half of it: {after}");
    }
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn snapshots_interrupted_at_any_moment_are_there_or_not() {
    let home = Home::new();
    let w = home.create(&[]);
    for (round, moment_ms) in [5, 20, 40, 70, 110, 160, 220].into_iter().enumerate() {
        let _ = home.sh(&w, &format!("echo {round} > round; sync"));
        let name = format!("s{round}");
        let mut arguments = vec!["workspace", "snapshot", "create", &w, &name];
        if round % 2 == 0 {
            arguments.push("--live");
        }
        interrupt(&home, &arguments, Duration::from_millis(moment_ms), |_| home.kill_machines());
        bring_back(&home, &w);
        assert_eq!(home.sh(&w, "cat round"), round.to_string(), "what was there before is there");
        let listed = home.pyro(&["workspace", "snapshot", "list", &w, "--json"]).ok().json();
        let has = listed["snapshots"].as_array().expect("a list").iter().any(|snapshot| snapshot["snapshot_name"] == name.as_str());
        if has {
            let _ = home.sh(&w, "echo later > round");
            let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", &name]).ok();
            assert_eq!(home.sh(&w, "cat round"), round.to_string(), "a snapshot that is listed works");
        }
    }
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
    assert_eq!(fs::read_dir(home.dirs().checkpoints()).map_or(0, Iterator::count), 0, "no memory is left");
}

#[test]
fn resets_interrupted_at_any_moment_leave_the_old_state_or_the_new() {
    let home = Home::new();
    let seed = home.path().join("seed");
    fs::create_dir_all(&seed).expect("writable");
    fs::write(seed.join("file"), "seed\n").expect("writable");
    let w = home.create(&["--seed-path", &seed.to_string_lossy()]);
    for (round, moment_ms) in [5, 30, 80, 150, 250].into_iter().enumerate() {
        let _ = home.sh(&w, "echo changed > file; sync");
        let whose = round % 2;
        interrupt(&home, &["workspace", "reset", &w], Duration::from_millis(moment_ms), |client| {
            if whose == 0 {
                home.kill_machines();
            } else {
                drop(client.kill());
            }
        });
        bring_back(&home, &w);
        let file = home.sh(&w, "cat file");
        assert!(file == "changed" || file == "seed", "{file}");
        eventually("there is one machine", 20, || {
            let _ = home.state(&w);
            home.live_processes().len() == 2
        });
    }
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn forks_interrupted_at_any_moment_leave_whole_workspaces_or_none() {
    let home = Home::new();
    let w = home.create(&[]);
    let _ = home.sh(&w, "echo shared > file");
    for moment_ms in [10, 60, 120, 200, 350] {
        interrupt(&home, &["workspace", "fork", &w, "--count", "2"], Duration::from_millis(moment_ms), |client| drop(client.kill()));
        assert_eq!(home.sh(&w, "cat file"), "shared", "the origin goes on");
    }
    eventually("every workspace is whole or gone", 100, || {
        !home.pyro(&["workspace", "list", "--json"]).ok().json().to_string().contains("creating")
    });
    for record in home.registry().workspaces().expect("readable") {
        bring_back(&home, record.id.as_str());
        assert_eq!(home.sh(record.id.as_str(), "cat file"), "shared");
        let _ = home.pyro(&["workspace", "delete", record.id.as_str(), "--force"]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn a_full_host_disk_refuses_what_needs_room_and_loses_nothing() {
    let Some(small) = SmallDisk::mount() else { return };
    {
        let home = Home::in_folder(small.path());
        let seed = small.path().join("seed");
        write_version(&seed, "v0");
        let w = home.create(&["--seed-path", &seed.to_string_lossy()]);
        let _ = home.sh(&w, "echo kept > kept; head -c 20000000 /dev/urandom > /dev/shm/memory; sync");
        let big = tempfile::tempdir().expect("a folder");
        fs::write(big.path().join("big"), vec![5; 40 << 20]).expect("writable");
        let big = big.path().to_string_lossy().into_owned();
        small.fill_up_to(6 << 20);
        let full = |arguments: &[&str]| {
            let output = home.pyro(arguments);
            assert_ne!(output.code, 0, "{arguments:?}: {output:?}");
            assert!(
                (output.stderr.contains("full") || output.stderr.contains("No space")) && output.stderr.contains("hint:"),
                "{arguments:?}: {}",
                output.stderr
            );
        };
        full(&["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB, "--seed-path", &big]);
        full(&["workspace", "snapshot", "create", &w, "live", "--live"]);
        full(&["workspace", "fork", &w]);
        full(&["workspace", "sync", "push", &w, &big]);
        small.empty();
        eventually("the machine goes on by itself", 30, || home.exec(&w, &["true"]).code == 0);
        assert_eq!(home.sh(&w, "cat kept; cat d*/f* | sort | uniq -c | tr -s ' '"), "kept\n 200 v0");
        let listed = home.pyro(&["workspace", "snapshot", "list", &w, "--json"]).ok().json().to_string();
        assert!(!listed.contains("live"), "half a snapshot is none: {listed}");
        assert_eq!(home.registry().workspaces().expect("readable").len(), 1, "half a fork is none");
        let _ = home.pyro(&["workspace", "snapshot", "create", &w, "live", "--live"]).ok();
        let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", "live"]).ok();
        assert_eq!(home.sh(&w, "cat kept"), "kept");
        let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
        home.assert_nothing_left();
    }
}
