//! Snapshots, reset, fork, and disks read without a machine.

use std::fs;

use pyro_tests::{Home, eventually};

/// What `/workspace` and an installed file are, in one line.
const LOOK: &str =
    "cd /workspace && (find . | sort; find . -type f | sort | xargs -r sha256sum) | sha256sum; cat /opt/installed 2>/dev/null || echo none";

#[test]
fn reset_brings_the_seed_back_and_forgets_packages_and_journal() {
    let home = Home::new();
    let seed = home.path().join("seed");
    fs::create_dir_all(seed.join("src")).expect("writable");
    fs::write(seed.join("src/a"), "a\n").expect("writable");
    let w = home.create(&["--name", "r", "--label", "k=v", "--seed-path", &seed.to_string_lossy()]);
    let before = home.sh(&w, LOOK);
    let _ = home.sh(&w, "echo b > src/a; echo c > src/c; echo x > /opt/installed; sleep 300 > /dev/null 2>&1 &");
    assert_ne!(home.sh(&w, LOOK), before);
    let _ = home.pyro(&["workspace", "reset", &w]).ok();
    let status = home.status("r");
    assert_eq!((&status["state"], &status["reset_count"], &status["command_count"]), (&"running".into(), &1.into(), &0.into()), "{status}");
    assert_eq!(status["labels"]["k"], "v");
    assert_eq!(home.sh(&w, LOOK), before);
    assert_eq!(home.sh(&w, "grep -l '^sleep$' /proc/[0-9]*/comm 2>/dev/null | wc -l"), "0");
    assert_eq!(home.pyro(&["workspace", "diff", &w, "--json"]).ok().json()["changed"], false);
    eventually("the old machine is gone", 10, || home.live_processes().len() == 2);
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let _ = home.pyro(&["workspace", "reset", &w]).ok();
    assert_eq!(home.sh(&w, LOOK), before, "a stopped workspace is reset, too, and runs");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_disk_snapshot_holds_both_disks_and_survives_heavy_writes() {
    let home = Home::new();
    let w = home.create(&[]);
    let _ = home.sh(&w, "echo one > one; echo first > /opt/installed");
    let before = home.sh(&w, LOOK);
    // A writer that never rests: whatever the snapshot catches must be a whole file system.
    let writer = "nohup sh -c 'i=0; while :; do i=$((i+1)); mkdir -p /var/tmp/w; head -c 200000 /dev/urandom > /var/tmp/w/f$((i % 50)); done' > /dev/null 2>&1 &";
    let _ = home.sh(&w, writer);
    let _ = home.pyro(&["workspace", "snapshot", "create", &w, "first"]).ok();
    let _ = home.sh(&w, "rm one; echo two > two; echo second > /opt/installed");
    let _ = home.pyro(&["workspace", "snapshot", "create", &w, "second"]).ok();
    let taken = home.pyro(&["workspace", "snapshot", "create", &w, "first"]).code(66);
    assert!(taken.stderr.contains("first") && taken.stderr.contains("hint:"), "{}", taken.stderr);
    let _ = home.pyro(&["workspace", "snapshot", "create", &w, "baseline"]).code(64);
    let against = home.pyro(&["workspace", "diff", &w, "--against", "first", "--json"]).ok().json()["entries"].to_string();
    assert!(against.contains("\"one\"") && against.contains("\"two\""), "{against}");
    let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", "first"]).ok();
    assert_eq!(home.sh(&w, LOOK), before);
    let check = "mount -o remount,ro /workspace 2>/dev/null; dmesg 2>/dev/null | grep -c 'EXT4-fs error' || true";
    assert_eq!(home.sh(&w, check), "0");
    let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", "second"]).ok();
    assert_eq!(home.sh(&w, "cat two /opt/installed"), "two\nsecond");
    let _ = home.pyro(&["workspace", "snapshot", "delete", &w, "first"]).ok();
    let listed = home.pyro(&["workspace", "snapshot", "list", &w, "--json"]).ok().json().to_string();
    assert!(listed.contains("baseline") && listed.contains("second") && !listed.contains("\"first\""), "{listed}");
    let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", "first"]).code(65);
    assert_eq!(home.sh(&w, "cat two"), "two", "a reset that is refused changes nothing");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn deleting_a_snapshot_gives_its_space_back_while_the_machine_runs() {
    let home = Home::new();
    let w = home.create(&[]);
    let layers_bytes = || -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let files = fs::read_dir(home.dirs().layers()).expect("is there").flatten();
        files.filter_map(|file| file.metadata().ok()).map(|status| status.blocks() * 512).sum()
    };
    let chain = || {
        let registry = home.registry();
        let top = registry.find_workspace(&w).expect("it exists").workspace_layer.expect("it has a disk");
        registry.layer_chain(&top).expect("readable").len()
    };
    let before = chain();
    for round in 0..3 {
        // The same file again: what the snapshot keeps is of no use to the running machine.
        let _ = home.sh(&w, "head -c 20000000 /dev/urandom > big; sync");
        let _ = home.pyro(&["workspace", "snapshot", "create", &w, &format!("s{round}")]).ok();
    }
    let _ = home.sh(&w, "head -c 20000000 /dev/urandom > big; sync; sha256sum big > sum");
    let full = layers_bytes();
    for round in 0..3 {
        let _ = home.pyro(&["workspace", "snapshot", "delete", &w, &format!("s{round}")]).ok();
    }
    eventually("the chain is as short as it was", 30, || chain() == before);
    eventually("space is given back", 30, || layers_bytes() + 35_000_000 < full);
    let _ = home.sh(&w, "sha256sum -c sum && rm -f x && echo 3 > /proc/sys/vm/drop_caches && sha256sum -c sum");
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let _ = home.pyro(&["workspace", "start", &w]).ok();
    let _ = home.sh(&w, "sha256sum -c sum");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_live_snapshot_brings_processes_back_where_they_were() {
    let home = Home::new();
    let w = home.create(&[]);
    let counter = "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; echo tick $i; sleep 0.1; done";
    let started = home.pyro(&["workspace", "exec", &w, "--detach", "--", "sh", "-c", counter]).ok().text();
    eventually("it counts", 60, || home.sh(&w, "cat /dev/shm/count 2>/dev/null || echo 0").parse::<u64>().is_ok_and(|count| count > 3));
    let _ = home.sh(&w, "echo disk > /workspace/file; echo memory > /dev/shm/note");
    let made = home.pyro(&["workspace", "snapshot", "create", &w, "live", "--live", "--json"]).ok().json();
    assert_eq!((&made["kind"], &made["may_hold_secrets"]), (&"live".into(), &true.into()), "{made}");
    let at: u64 = home.sh(&w, "cat /dev/shm/count").parse().expect("a number");
    eventually("it goes on counting", 60, || home.sh(&w, "cat /dev/shm/count").parse::<u64>().is_ok_and(|count| count > at + 20));
    let late: u64 = home.sh(&w, "cat /dev/shm/count").parse().expect("a number");
    let _ = home.sh(&w, "rm /workspace/file /dev/shm/note");
    for _ in 0..2 {
        let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", "live"]).ok();
        let count: u64 = home.sh(&w, "cat /workspace/file /dev/shm/note > /dev/null && cat /dev/shm/count").parse().expect("a number");
        assert!(count < late, "{count} is not before {late}");
        eventually("it goes on from there", 10, || home.sh(&w, "cat /dev/shm/count").parse::<u64>().is_ok_and(|now| now > count));
    }
    let status = home.status(&w);
    assert_eq!(status["running_command_count"], 1, "{status}");
    let registry = home.registry();
    let id = registry.find_workspace(&w).expect("it exists").id;
    let command = registry.command(&id, started.parse().expect("a number")).expect("it is in the journal");
    assert_eq!((command.ended_at_ms, command.failure), (None, None), "the machine left behind says nothing of it any more");
    let _ = home.pyro(&["workspace", "exec-kill", &w, &started]).ok();
    let ended = home.pyro(&["workspace", "exec-wait", &w, &started, "--json"]).json();
    assert_eq!(ended["state"], "exited", "{ended}");
    let logs = home.pyro(&["workspace", "logs", &w, "--sequence", &started]).ok().text();
    assert!(logs.contains("tick"), "its output after the reset is in the journal: {logs}");
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = fs::read_dir(home.dirs().checkpoints()).expect("is there").flatten().next().expect("one").path();
        fs::metadata(folder.join(name)).expect("is there").permissions().mode() & 0o777
    };
    assert_eq!((mode("memory"), mode("")), (0o600, 0o700));
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    assert_eq!(fs::read_dir(home.dirs().checkpoints()).expect("is there").count(), 0);
    home.assert_nothing_left();
}

#[test]
fn forks_go_on_with_their_processes_and_an_identity_of_their_own() {
    let home = Home::new();
    let w = home.create(&["--name", "origin", "--label", "team=web"]);
    let started = home
        .pyro(&[
            "workspace",
            "exec",
            &w,
            "--detach",
            "--",
            "sh",
            "-c",
            "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.1; done",
        ])
        .ok()
        .text();
    eventually("it counts", 10, || home.sh(&w, "cat /dev/shm/count 2>/dev/null || echo 0").parse::<u64>().is_ok_and(|count| count > 3));
    let _ = home.sh(&w, "echo shared > /workspace/file");
    let at: u64 = home.sh(&w, "cat /dev/shm/count").parse().expect("a number");
    let answer = home.pyro(&["workspace", "fork", &w, "--name", "try", "--count", "2", "--json"]).ok().json();
    let forks: Vec<String> =
        answer["forks"].as_array().expect("a list").iter().filter_map(|fork| fork["workspace_id"].as_str()).map(str::to_owned).collect();
    assert_eq!(forks.len(), 2);
    let identity = "cat /proc/sys/kernel/random/uuid; cat /etc/machine-id; hostname; head -c 8 /dev/urandom | od -An -tx1";
    let mut seen: Vec<String> = Vec::new();
    for (index, fork) in forks.iter().enumerate() {
        assert_eq!(home.status(&format!("try-{}", index + 1))["workspace_id"], fork.as_str());
        assert_eq!(home.status(fork)["labels"]["team"], "web");
        assert_eq!(home.sh(fork, "cat /workspace/file"), "shared");
        eventually("its process goes on", 10, || home.sh(fork, "cat /dev/shm/count").parse::<u64>().is_ok_and(|count| count >= at));
        let _ = home.sh(fork, &format!("echo {index} > /workspace/own"));
        let now: i64 = home.sh(fork, "date +%s").parse().expect("a number");
        let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs().cast_signed();
        assert!((now - here).abs() < 5, "its clock is right: {now} {here}");
        seen.extend(home.sh(fork, identity).lines().map(str::to_owned));
    }
    seen.extend(home.sh(&w, identity).lines().map(str::to_owned));
    let mut distinct = seen.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), seen.len(), "{seen:?}");
    assert_eq!(home.sh(&w, "ls /workspace"), "file", "a fork's files are its own");
    assert_eq!(home.sh(&forks[0], "cat own"), "0");
    let _ = home.pyro(&["workspace", "exec-kill", &forks[0], &started]).ok();
    eventually("killed in one, it goes on in the other", 10, || home.status(&forks[0])["running_command_count"] == 0);
    assert_eq!(home.status(&forks[1])["running_command_count"], 1);
    // A fork of a fork, after its origin is gone.
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    let again = home.pyro(&["workspace", "fork", &forks[1], "--json"]).ok().json();
    let grandchild = again["forks"][0]["workspace_id"].as_str().expect("an id").to_owned();
    assert_eq!(home.sh(&grandchild, "cat file own"), "shared\n1");
    let _ = home.pyro(&["workspace", "stop", &forks[0]]).ok();
    let cold = home.pyro(&["workspace", "fork", &forks[0], "--json"]).ok().json();
    let cold = cold["forks"][0]["workspace_id"].as_str().expect("an id").to_owned();
    assert_eq!(home.sh(&cold, "cat file own"), "shared\n0", "a stopped workspace's disks are forked");
    for workspace in forks.iter().chain([&grandchild, &cold]) {
        let _ = home.pyro(&["workspace", "delete", workspace, "--force"]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn disks_of_a_stopped_workspace_are_read_without_a_machine() {
    let home = Home::new();
    let w = home.create(&[]);
    let _ = home.sh(&w, "mkdir -p a/b; echo text > a/b/file; ln -s file a/b/link; head -c 5000000 /dev/urandom > a/big; mkdir -p /run/pyro-secrets; echo s > /run/pyro-secrets/x");
    let sum = home.sh(&w, "sha256sum < a/big");
    let running = home.pyro(&["workspace", "disk", "list", &w]).code(67);
    assert!(running.stderr.contains("stop"), "{}", running.stderr);
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let listed = home.pyro(&["workspace", "disk", "list", &w, "--recursive", "--json"]).ok().json()["entries"].to_string();
    for path in ["a/b/file", "a/b/link", "a/big"] {
        assert!(listed.contains(path), "{listed}");
    }
    assert!(!listed.contains("secrets") && !listed.contains("lost+found"), "{listed}");
    let read = home.pyro(&["workspace", "disk", "read", &w, "a/b/file", "--json"]).ok().json();
    assert_eq!(read["content"], "text\n", "{read}");
    let image = home.path().join("disk.ext4");
    let _ = home.pyro(&["workspace", "disk", "export", &w, "--output", &image.to_string_lossy()]).ok();
    let checked = std::process::Command::new("/usr/sbin/e2fsck").args(["-fn"]).arg(&image).output().expect("e2fsck runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let out = home.path().join("big");
    let dumped = std::process::Command::new("/usr/sbin/debugfs")
        .arg("-R")
        .arg(format!("dump /tree/a/big {}", out.display()))
        .arg(&image)
        .output()
        .expect("debugfs runs");
    assert!(dumped.status.success());
    let host = std::process::Command::new("sha256sum").stdin(fs::File::open(&out).expect("is there")).output().expect("runs");
    assert_eq!(host.stdout.get(..64), sum.as_bytes().get(..64));
    assert_eq!(home.live_processes(), Vec::<u32>::new(), "nothing was started for it");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn the_summary_tells_what_was_done_since_the_last_reset() {
    let home = Home::new();
    let w = home.create(&["--name", "s"]);
    let _ = home.sh(&w, "echo before");
    let _ = home.pyro(&["workspace", "reset", &w]).ok();
    let _ = home.pyro(&["workspace", "file", "write", &w, "a.txt", "--text", "x\n"]).ok();
    let _ = home.exec(&w, &["sh", "-c", "exit 3"]).code(3);
    let summary = home.pyro(&["workspace", "summary", &w]).ok().text();
    assert!(summary.contains("exit 3") && summary.contains("a.txt") && !summary.contains("echo before"), "{summary}");
    assert!(summary.len() < 4000, "short enough for a pull request: {}", summary.len());
    let json = home.pyro(&["workspace", "summary", &w, "--json"]).ok().json();
    assert_eq!(json["workspace_id"], w.as_str(), "{json}");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
