//! Whatever a signal or `kill -9` ends, the user's files are as before or as asked for, and nothing lies beside them.
//!
//! `PYRO_TEST_ROUNDS` sets how many random moments each command is interrupted at with each signal; `make test-interrupts` takes 20.

use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher as _, Hasher as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use pyro_tests::{ENVIRONMENT, Home, MEM_MIB, Output, eventually, finish, rounds};
use rustix::process::{Pid, Signal, kill_process};

/// Files of the trees that are changed; enough for a change to take a while.
const FILES: usize = 1500;

/// Returns a moment in each of as many parts of a duration as there are rounds.
fn moments(whole: Duration) -> impl Iterator<Item = Duration> {
    let part = whole / rounds();
    (0..rounds()).map(move |round| {
        let random = std::hash::RandomState::new().build_hasher().finish() % 1000;
        part * round + part * u32::try_from(random).expect("below 1000") / 1000
    })
}

fn send(child: &Child, signal: Signal) {
    // It may have ended a moment ago; it has not been waited for, so the number is still its own.
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Runs a command, sends it a signal after a while, twice as `timeout` does, and waits for its end.
fn interrupt(home: &Home, arguments: &[&str], moment: Duration, signal: Signal) -> Output {
    let client = home.start(arguments);
    std::thread::sleep(moment);
    send(&client, signal);
    std::thread::sleep(Duration::from_millis(1));
    send(&client, signal);
    finish(client)
}

/// Says how long a command takes that nobody interrupts.
fn timed(home: &Home, arguments: &[&str]) -> Duration {
    let started = Instant::now();
    let _ = home.pyro(arguments).ok();
    started.elapsed()
}

fn fill(folder: &Path, version: &str) {
    for number in 0..FILES {
        let folder = folder.join(format!("d{}", number % 10));
        fs::create_dir_all(&folder).expect("writable");
        fs::write(folder.join(format!("f{number}")), format!("{version} {number}\n")).expect("writable");
    }
}

/// Returns the only version all files of a tree have.
fn version(folder: &Path) -> String {
    let mut versions = BTreeSet::new();
    for number in 0..FILES {
        let text = fs::read_to_string(folder.join(format!("d{}/f{number}", number % 10))).unwrap_or_else(|_| "missing".to_owned());
        versions.insert(text.split(' ').next().unwrap_or_default().to_owned());
    }
    assert_eq!(versions.len(), 1, "half of it: {versions:?}");
    versions.pop_first().expect("one")
}

/// Asserts that a folder holds these names, and no name in it or below is Pyro's.
fn assert_only(folder: &Path, names: &[&str]) {
    let mut found: Vec<_> = fs::read_dir(folder).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    found.sort();
    assert_eq!(found, names);
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("readable").flatten() {
            assert!(!entry.file_name().to_string_lossy().contains("pyro-"), "{} lies about", entry.path().display());
            if entry.path().is_dir() {
                pending.push(entry.path());
            }
        }
    }
}

/// A folder for a user's files. What is brought there is synced with the whole file system it is on, so one without a disk is taken.
fn host_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// A stopped workspace whose files are all changed, and the folder it came from.
fn changed(home: &Home, host: &Path) -> (String, PathBuf) {
    let seed = host.join("seed");
    fill(&seed, "old");
    let w = home.create(&["--seed-path", &seed.to_string_lossy()]);
    let _ = home.sh(&w, "sed -i s/old/new/ d*/f*");
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    (w, seed)
}

/// Checks what an interrupted command says against what has become of its work.
fn assert_told(output: &Output, done: bool, not_done: &str) {
    match output.code {
        0 => assert!(done, "it says it is done: {}", output.stderr),
        130 => {
            assert!(!done, "it says it is not done: {}", output.stderr);
            // Before it could listen, the kernel ends it without a word.
            assert!(output.stderr.is_empty() || output.stderr.contains(&format!("interrupted: {not_done}")), "{}", output.stderr);
        }
        // The tree was applied before: then an undo has nothing to do, say.
        code => panic!("{code}: {}", output.stderr),
    }
}

#[test]
fn an_apply_and_its_undo_are_done_or_not_whatever_ends_them() {
    let (home, host) = (Home::new(), host_folder());
    let (w, seed) = changed(&home, host.path());
    let (apply, undo) = (["workspace", "apply", &w], ["workspace", "apply", &w, "--undo"]);
    let (to_apply, to_undo) = (timed(&home, &apply), timed(&home, &undo));
    let mut halves = 0;
    for signal in [Signal::INT, Signal::KILL] {
        for moment in moments(to_apply) {
            assert_eq!(version(&seed), "old");
            let output = interrupt(&home, &apply, moment, signal);
            let listed = home.pyro(&["workspace", "list"]).ok();
            halves += u32::from(listed.stderr.contains("restored"));
            let done = version(&seed) == "new";
            assert_only(&seed, &["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9"]);
            if signal == Signal::INT {
                assert!(!listed.stderr.contains("restored"), "a signal leaves nothing to the next command");
                assert_told(&output, done, "the host's files are as they were");
            }
            if done {
                let _ = home.pyro(&undo).ok();
            }
        }
        for moment in moments(to_undo) {
            let _ = home.pyro(&apply).ok();
            assert_eq!(version(&seed), "new");
            let output = interrupt(&home, &undo, moment, signal);
            let _ = home.pyro(&["workspace", "list"]).ok();
            let done = version(&seed) == "old";
            assert_only(&seed, &["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9"]);
            if signal == Signal::INT && output.code != 130 {
                assert_eq!((output.code, done), (0, true), "an undo that has begun is completed: {}", output.stderr);
            }
            if !done {
                let _ = home.pyro(&undo).ok();
            }
            assert_eq!(version(&seed), "old");
            let verdicts = home.pyro(&["workspace", "apply", &w, "--dry-run", "--json"]).ok().json();
            assert!(verdicts["files"].as_array().is_some_and(|files| files.iter().all(|file| file["verdict"] == "clean")), "{verdicts}");
        }
    }
    eprintln!("{halves} of {} kills left something to be restored", 2 * rounds());
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn an_export_leaves_the_old_folder_or_the_new_one_whatever_ends_it() {
    let (home, host) = (Home::new(), host_folder());
    let (w, _) = changed(&home, host.path());
    let outputs = host.path().join("outputs");
    let output = outputs.join("tree");
    let export = ["workspace", "export", &w, ".", "--output", &output.to_string_lossy(), "--force"].map(str::to_owned);
    let export: Vec<&str> = export.iter().map(String::as_str).collect();
    fill(&output, "old");
    let whole = timed(&home, &export);
    for signal in [Signal::INT, Signal::KILL] {
        for moment in moments(whole) {
            fill(&output, "old");
            let told = interrupt(&home, &export, moment, signal);
            if signal == Signal::KILL {
                let _ = home.pyro(&["workspace", "list"]).ok();
            } else {
                assert_told(&told, version(&output) == "new", "nothing was written");
            }
            let _ = version(&output);
            assert_only(&outputs, &["tree"]);
        }
    }
    let disk = outputs.join("disk");
    let export = ["workspace", "disk", "export", &w, "--output", &disk.to_string_lossy()].map(str::to_owned);
    let export: Vec<&str> = export.iter().map(String::as_str).collect();
    let whole = timed(&home, &export);
    for signal in [Signal::INT, Signal::KILL] {
        for moment in moments(whole) {
            fs::remove_file(&disk)
                .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
                .expect("ours");
            let _ = interrupt(&home, &export, moment, signal);
            if signal == Signal::KILL {
                let _ = home.pyro(&["workspace", "list"]).ok();
            }
            assert_only(&outputs, if disk.exists() { &["disk", "tree"] } else { &["tree"] });
        }
    }
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_push_has_all_of_it_or_nothing_whatever_ends_it() {
    let home = Home::new();
    let source = home.path().join("source");
    fill(&source, "v0");
    let w = home.create(&["--seed-path", &source.to_string_lossy()]);
    let push = ["workspace", "sync", "push", &w, &source.to_string_lossy()].map(str::to_owned);
    let push: Vec<&str> = push.iter().map(String::as_str).collect();
    let whole = timed(&home, &push);
    let mut number = 0;
    let mut possible = vec!["v0".to_owned()];
    for signal in [Signal::INT, Signal::KILL] {
        for moment in moments(whole) {
            number += 1;
            let after = format!("v{number}");
            fill(&source, &after);
            let told = interrupt(&home, &push, moment, signal);
            let mut found = String::new();
            // The guest ends what it was at when its client died, and a command may look while it does, or before.
            eventually("the workspace has all of one version", 60, || {
                found = home.sh(&w, "cat d*/f* | cut -d ' ' -f 1 | sort | uniq -c | tr -s ' '").trim().to_owned();
                possible.iter().chain([&after]).any(|version| found == format!("{FILES} {version}"))
            });
            let done = found.ends_with(&after);
            if signal == Signal::INT {
                assert_told(&told, done, "nothing was changed in the workspace");
            }
            eventually("nothing lies beside it", 60, || home.sh(&w, "ls -A /workspace | wc -l") == "10");
            match signal {
                Signal::KILL => possible.push(after),
                _ if done => possible = vec![after],
                _ => {}
            }
        }
    }
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_seed_becomes_a_workspace_or_nothing_whatever_ends_it() {
    let home = Home::new();
    let source = home.path().join("source");
    fill(&source, "v0");
    fs::write(source.join("large"), vec![7; 64 << 20]).expect("writable");
    let create = ["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB, "--id-only", "--seed-path", &source.to_string_lossy()];
    let started = Instant::now();
    let first = home.pyro(&create).ok().text();
    let whole = started.elapsed();
    let _ = home.pyro(&["workspace", "delete", &first]).ok();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        for moment in moments(whole) {
            let told = interrupt(&home, &create, moment, signal);
            if signal == Signal::KILL {
                // What one look cannot end yet, the next one does.
                eventually("every workspace is whole or gone", 60, || {
                    let workspaces = home.pyro(&["workspace", "list", "--json"]).ok().json();
                    let states = workspaces["workspaces"].as_array().expect("a list").iter().map(|found| found["state"].clone());
                    states.into_iter().all(|state| state == "running" || state == "stopped")
                });
            }
            let found: Vec<_> = home.registry().workspaces().expect("readable").into_iter().map(|record| record.id.to_string()).collect();
            if told.code == 0 || signal == Signal::KILL {
                assert!(found.len() <= 1, "{found:?}");
                for id in found {
                    let _ = home.pyro(&["workspace", "delete", &id]).ok();
                }
            } else {
                assert_eq!(found, Vec::<String>::new(), "{}", told.stderr);
                let expected = if signal == Signal::INT { 130 } else { 143 };
                assert_eq!(told.code, expected, "{}", told.stderr);
            }
            home.assert_nothing_left();
        }
    }
}

/// Starts an apply and kills it in the middle of its work.
fn cut_off(home: &Home, w: &str, seed: &Path) {
    for _ in 0..50 {
        let apply = home.start(&["workspace", "apply", w]);
        let watched = seed.join("d0/f0");
        eventually("the first file is changed", 60, || fs::read_to_string(&watched).is_ok_and(|text| text.starts_with("new")));
        send(&apply, Signal::KILL);
        drop(finish(apply));
        let last = seed.join(format!("d9/f{}", FILES - 1));
        if fs::read_to_string(last).is_ok_and(|text| text.starts_with("old")) {
            return;
        }
        let _ = home.pyro(&["workspace", "apply", w, "--undo"]).ok();
    }
    panic!("an apply is never caught in the middle");
}

#[test]
fn the_next_command_restores_what_a_killed_apply_changed_and_says_so() {
    let (home, host) = (Home::new(), host_folder());
    let (w, seed) = changed(&home, host.path());
    let owned = seed.join("d0/f10");
    fs::set_permissions(&owned, fs::Permissions::from_mode(0o600)).expect("ours");
    std::os::unix::fs::chown(&owned, Some(4242), Some(4243)).expect("we are root");
    for next in [&["workspace", "list"][..], &["workspace", "delete", &w]] {
        cut_off(&home, &w, &seed);
        let told = home.pyro(next).ok();
        assert!(told.stderr.contains("restored ") && told.stderr.contains(&*seed.to_string_lossy()), "{}", told.stderr);
        assert_eq!(version(&seed), "old");
        let status = fs::metadata(&owned).expect("there");
        assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (4242, 4243, 0o600));
        assert_only(&seed, &["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9"]);
    }
    home.assert_nothing_left();
}

#[test]
fn files_that_were_changed_after_a_killed_apply_stay_and_the_others_are_restored() {
    let (home, host) = (Home::new(), host_folder());
    let (w, seed) = changed(&home, host.path());
    cut_off(&home, &w, &seed);
    fs::write(seed.join("d0/f0"), "mine\n").expect("writable");
    let listed = home.pyro(&["workspace", "list"]).ok();
    assert!(listed.stderr.contains("restored") && listed.stderr.contains("left as they are"), "{}", listed.stderr);
    assert!(listed.stderr.contains("`d0/f0`"), "{}", listed.stderr);
    assert_eq!(fs::read_to_string(seed.join("d0/f0")).expect("there"), "mine\n");
    fs::write(seed.join("d0/f0"), "old 0\n").expect("writable");
    assert_eq!(version(&seed), "old");
    assert_only(&seed, &["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9"]);
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_killed_apply_is_not_forgotten_while_its_folder_is_away() {
    let (home, host) = (Home::new(), host_folder());
    let (w, seed) = changed(&home, host.path());
    cut_off(&home, &w, &seed);
    let away = host.path().join("away");
    fs::rename(&seed, &away).expect("ours");
    let told = |output: &Output| output.stderr.contains("cut off halfway") && output.stderr.contains(&format!("delete {w} --force`"));
    let doctor = home.pyro(&["doctor"]);
    assert!(doctor.text().contains("half changed"), "{}", doctor.text());
    let refused = home.pyro(&["workspace", "delete", &w]);
    assert!(refused.code != 0 && told(&refused), "{}", refused.stderr);
    fs::rename(&away, &seed).expect("ours");
    // Looks are not made with every command, but with this one.
    let _ = home.pyro(&["system", "prune"]).ok();
    assert_eq!(version(&seed), "old");
    assert_only(&seed, &["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8", "d9"]);
    cut_off(&home, &w, &seed);
    fs::rename(&seed, &away).expect("ours");
    let forced = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    assert!(forced.stderr.contains("stay half changed"), "{}", forced.stderr);
    home.assert_nothing_left();
}

#[test]
fn an_undo_keeps_what_was_changed_since_unless_it_is_forced() {
    let (home, host) = (Home::new(), host_folder());
    let (w, seed) = changed(&home, host.path());
    let _ = home.pyro(&["workspace", "apply", &w]).ok();
    fs::write(seed.join("d3/f3"), "mine\n").expect("writable");
    let refused = home.pyro(&["workspace", "apply", &w, "--undo"]).code(68);
    assert!(refused.stderr.contains("d3/f3") && refused.stderr.contains("--undo --force"), "{}", refused.stderr);
    let untouched = fs::read_to_string(seed.join("d3/f13")).expect("there");
    assert!(untouched.starts_with("new"), "nothing was undone");
    let _ = home.pyro(&["workspace", "apply", &w, "--undo", "--force"]).ok();
    assert_eq!(version(&seed), "old");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
