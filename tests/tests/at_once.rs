//! Several clients at one workspace at the same moment: they take turns, nobody waits in silence, and afterwards there is one machine.
//!
//! `PYRO_TEST_ROUNDS` sets how often; `make test-interrupts` takes many.

use std::time::{Duration, Instant};

use pyro_tests::{Home, Output, eventually, finish, rounds};

/// Longest round. Waiting for a lost adoption took three minutes; a round that queues takes a few seconds here.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// Starts these commands at the same moment and returns what became of them.
fn at_once(home: &Home, commands: &[&[&str]]) -> Vec<Output> {
    let started = Instant::now();
    let clients: Vec<_> = commands.iter().map(|arguments| home.start(arguments)).collect();
    let outputs = clients.into_iter().map(finish).collect();
    assert!(started.elapsed() < ROUND_MAX, "{commands:?} took {:?}: {outputs:?}", started.elapsed());
    outputs
}

#[test]
fn a_command_and_two_resets_at_the_same_moment_leave_one_running_machine() {
    let home = Home::new();
    let w = home.create(&[]);
    // Each has a race in it that was lost about once in ten times.
    for round in 0..3 * rounds() {
        let reset = ["workspace", "reset", &w];
        let outputs = at_once(&home, &[&["workspace", "exec", &w, "--", "sleep", "1"], &reset, &reset]);
        for output in &outputs[1..] {
            assert_eq!(output.code, 0, "round {round}: {}", output.stderr);
        }
        // The command ended, or its machine did; either is said.
        assert!(outputs[0].code == 0 || !outputs[0].stderr.is_empty(), "round {round}: {:?}", outputs[0]);
        assert_eq!(home.state(&w), "running", "round {round}");
        eventually("the machines of before have ended", 30, || home.live_processes().len() == 2);
    }
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn whatever_is_asked_at_the_same_moment_one_wins_and_the_others_wait_or_are_refused() {
    let home = Home::new();
    let w = home.create(&[]);
    let _ = home.pyro(&["workspace", "snapshot", "create", &w, "s"]).ok();
    let pairs: [(&[&str], &[&str]); 6] = [
        (&["workspace", "stop", &w], &["workspace", "start", &w]),
        (&["workspace", "stop", &w], &["workspace", "reset", &w]),
        (&["workspace", "reset", &w], &["workspace", "snapshot", "create", &w, "t", "--live"]),
        (&["workspace", "fork", &w, "--name", "copy"], &["workspace", "reset", &w, "--snapshot", "s"]),
        (&["workspace", "start", &w], &["workspace", "start", &w]),
        (&["workspace", "snapshot", "create", &w, "u"], &["workspace", "stop", &w]),
    ];
    for (one, other) in pairs {
        for output in at_once(&home, &[one, other]) {
            // Refused is what the state of that moment does not allow; nothing else may go wrong.
            assert!([0, 67].contains(&output.code), "{one:?} {other:?}: {output:?}");
        }
        assert!(matches!(home.state(&w).as_str(), "running" | "stopped"), "{one:?} {other:?}");
        if home.registry().find_workspace("copy").is_ok() {
            let _ = home.pyro(&["workspace", "delete", "copy"]).ok();
        }
        for name in ["t", "u"] {
            let _ = home.pyro(&["workspace", "snapshot", "delete", &w, name]);
        }
        let _ = home.pyro(&["workspace", "start", &w]).ok();
        eventually("there is one machine", 30, || home.live_processes().len() == 2);
        assert_eq!(home.sh(&w, "echo here"), "here", "{one:?} {other:?}");
    }
    let outputs = at_once(&home, &[&["workspace", "delete", &w], &["workspace", "reset", &w], &["workspace", "delete", &w]]);
    for output in outputs {
        // Who comes too late finds no workspace.
        assert!([0, 65, 67].contains(&output.code), "{output:?}");
    }
    home.assert_nothing_left();
}

#[test]
fn whoever_waits_for_another_client_says_so() {
    let home = Home::new();
    let w = home.create(&[]);
    let lock = pyro_store::FileLock::acquire(&home.dirs().lifecycle(&home.registry().find_workspace(&w).expect("there").id)).expect("free");
    let mut waiting = home.start(&["workspace", "reset", &w]);
    let mut stderr = std::io::BufReader::new(waiting.stderr.take().expect("it was piped"));
    let mut line = String::new();
    while !line.contains("waiting") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stderr, &mut line).expect("readable") > 0, "it ended without a word");
    }
    assert!(line.contains("another client") && line.contains(&w), "{line}");
    drop(lock);
    assert_eq!(finish(waiting).code, 0);
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
