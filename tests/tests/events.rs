//! The stream of what happened, and the summary told from it.

use std::io::{BufRead as _, BufReader};

use pyro_tests::{Home, eventually};
use serde_json::Value;

fn events(home: &Home, w: &str, cursor: u64) -> Value {
    home.pyro(&["workspace", "events", w, "--cursor", &cursor.to_string(), "--json"]).ok().json()
}

fn kinds(answer: &Value) -> Vec<String> {
    let events = answer["events"].as_array().expect("a list");
    events.iter().filter_map(|event| event["kind"].as_str()).map(str::to_owned).collect()
}

#[test]
fn everything_that_happens_is_in_one_stream_that_goes_on_where_a_reader_left_it() {
    let home = Home::new();
    let w = home.create(&["--name", "e", "--network-policy", "published-ports"]);
    let _ = home.exec(&w, &["sh", "-c", "exit 3"]).code(3);
    let first = events(&home, &w, 0);
    assert_eq!(kinds(&first), ["create", "start", "command_start", "command_end"], "{first}");
    assert_eq!(first["events"][3]["detail"]["exit_code"], 3, "{first}");
    let cursor = first["next_cursor"].as_u64().expect("a cursor");
    let _ = home.pyro(&["workspace", "file", "write", &w, "a", "--text", "x"]).ok();
    let shell = home.pyro(&["workspace", "shell", "open", &w, "--id-only"]).ok().text();
    let _ = home.pyro(&["workspace", "shell", "close", &w, &shell]).ok();
    let _ = home.pyro(&["workspace", "service", "start", &w, "s", "--publish", "80", "--", "sleep", "600"]).ok();
    let _ = home.pyro(&["workspace", "snapshot", "create", &w, "one"]).ok();
    let _ = home.pyro(&["workspace", "service", "stop", &w, "s"]).ok();
    let seen = kinds(&events(&home, &w, cursor));
    let expected = [
        "file_write",
        "shell_open",
        "shell_end",
        "service_start",
        "service_run",
        "port_publish",
        "snapshot_create",
        "service_end",
        "port_unpublish",
    ];
    for kind in expected {
        assert!(seen.iter().any(|seen| seen == kind), "{kind} is not in {seen:?}");
    }
    assert!(!seen.iter().any(|kind| kind == "create"), "nothing twice: {seen:?}");
    let _ = home.pyro(&["workspace", "reset", &w]).ok();
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let all = events(&home, &w, 0);
    let sequences: Vec<u64> = all["events"].as_array().expect("a list").iter().filter_map(|event| event["sequence"].as_u64()).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1) && sequences[0] == 1, "{sequences:?}");
    let kinds = kinds(&all);
    assert!(kinds.contains(&"reset".to_owned()) && kinds.last() == Some(&"stop".to_owned()), "{kinds:?}");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_follower_hears_of_everything_until_the_workspace_is_gone() {
    let home = Home::new();
    let w = home.create(&[]);
    let mut follower = home.start(&["workspace", "events", &w, "--follow", "--json"]);
    let lines = BufReader::new(follower.stdout.take().expect("it was piped")).lines();
    let (sender, heard) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let _ = sender.send(event["kind"].as_str().unwrap_or_default().to_owned());
        }
    });
    let _ = home.sh(&w, "true");
    let mut all = Vec::new();
    eventually("the follower has heard of the command", 10, || {
        all.extend(heard.try_iter());
        all.contains(&"command_end".to_owned())
    });
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let _ = home.pyro(&["workspace", "start", &w]).ok();
    eventually("it hears across a stop", 10, || {
        all.extend(heard.try_iter());
        all.iter().filter(|kind| *kind == "start").count() == 2
    });
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    eventually("it ends with the workspace", 10, || follower.try_wait().is_ok_and(|status| status.is_some()));
    reading.join().expect("every line was an object");
    home.assert_nothing_left();
}
