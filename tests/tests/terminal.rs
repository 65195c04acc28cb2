//! A person at a terminal: attached to a shell, and before the live view. The terminal is tmux.

use pyro_tests::{Home, Tmux, eventually, open_shell, read_shell, write_shell};

/// Returns a shell line that runs `pyro` in this home.
fn line(home: &Home, arguments: &[&str]) -> String {
    let command = home.command(arguments);
    let mut words = vec!["env".to_owned()];
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}='{}'", name.to_string_lossy(), value.to_string_lossy()));
        }
    }
    words.push(format!("'{}'", command.get_program().to_string_lossy()));
    words.extend(arguments.iter().map(|argument| format!("'{argument}'")));
    words.join(" ")
}

#[test]
fn a_person_attaches_types_resizes_detaches_and_comes_back() {
    let home = Home::new();
    let w = home.create(&["--name", "desk"]);
    let (shell, _) = open_shell(&home, &w, &[]);
    let _ = write_shell(&home, &w, &shell, "echo typed-before-$((40 + 2))");
    let attach = line(&home, &["workspace", "shell", "attach", "desk", &shell]);
    let tmux = Tmux::start(100, 28, "bash --norc --noprofile");
    tmux.keys(&[&format!("PS1='host> '; stty -g > {0}/before; {attach}; stty -g > {0}/after", home.path().display()), "Enter"]);
    let _ = tmux.wait_for("typed-before-42");
    tmux.keys(&["stty size; echo typed-$((1 + 1))", "Enter"]);
    let screen = tmux.wait_for("typed-2");
    assert!(screen.contains("28 100"), "the shell has this terminal's size: {screen}");
    tmux.resize(90, 20);
    eventually("the shell has the new size", 10, || read_shell(&home, &w, &shell, 0, &[])["cols"] == 90);
    // A key that would end us is the shell's.
    tmux.keys(&["sleep 500", "Enter"]);
    eventually("it sleeps", 10, || read_shell(&home, &w, &shell, 0, &["--wait-for-idle-ms", "10"])["program"] == true);
    // As often as it takes: a shell's child has the terminal before it has the signals that its program will have, and loses one till then.
    eventually("it was interrupted", 10, || {
        tmux.keys(&["C-c"]);
        read_shell(&home, &w, &shell, 0, &["--wait-for-idle-ms", "200"])["prompt"] == true
    });
    tmux.keys(&["C-]", "q"]);
    let _ = tmux.wait_for("host>");
    eventually("the terminal is as it was", 10, || {
        let read = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap_or_default();
        !read("after").is_empty() && read("before") == read("after")
    });
    tmux.keys(&["clear", "Enter", &attach, "Enter"]);
    let _ = tmux.wait_for("typed-2");
    tmux.keys(&["exit 3", "Enter"]);
    // The host's prompt was on the screen already.
    let _ = tmux.wait_for("exit code 3");
    drop(tmux);
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_killed_attachment_gives_the_terminal_back() {
    let home = Home::new();
    let w = home.create(&["--name", "desk"]);
    let (shell, _) = open_shell(&home, &w, &[]);
    let attach = line(&home, &["workspace", "shell", "attach", "desk", &shell]);
    let tmux = Tmux::start(100, 28, "bash --norc --noprofile");
    tmux.keys(&[&format!("PS1='host> '; {attach}"), "Enter"]);
    let _ = tmux.wait_for("root@desk");
    tmux.keys(&["printf '\\033[?1049h'; echo in-the-$((1 + 1))nd-screen; stty -echo", "Enter"]);
    let _ = tmux.wait_for("in-the-2nd-screen");
    let pid = std::process::Command::new("pgrep").args(["-f", &format!("shell attach desk {shell}")]).output().expect("pgrep runs");
    let pids: Vec<i32> = String::from_utf8_lossy(&pid.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    let ours = pids.into_iter().filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.contains(&*home.path().to_string_lossy()))
    });
    for pid in ours.filter_map(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    // The prompt of the shell before it may have come while the other screen was still shown.
    eventually("its guard has given the terminal back", 20, || {
        tmux.keys(&["Enter"]);
        tmux.screen(&[]).contains("host>")
    });
    tmux.keys(&["echo visible-$((40 + 2))", "Enter"]);
    let screen = tmux.wait_for("visible-42");
    assert!(screen.contains("echo visible"), "what is typed is echoed again: {screen}");
    assert!(!screen.contains("in-the-2nd-screen"), "the other screen is left: {screen}");
    eventually("the shell goes on", 10, || {
        home.pyro(&["workspace", "shell", "list", &w, "--json"]).ok().json()["shells"][0]["state"] == "open"
    });
    drop(tmux);
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn the_live_view_shows_workspaces_attaches_stops_and_deletes() {
    let home = Home::new();
    let w = home.create(&["--name", "watched", "--network-policy", "published-ports"]);
    let _ = home.pyro(&["workspace", "service", "start", &w, "web", "--publish", "80", "--", "sleep", "600"]).ok();
    let tmux = Tmux::start(120, 35, &line(&home, &["top"]));
    let screen = tmux.wait_for("watched");
    assert!(screen.contains("running"), "{screen}");
    let screen = tmux.wait_for("web");
    println!("{screen}");
    tmux.keys(&["a"]);
    let _ = tmux.wait_for("root@watched");
    tmux.keys(&["echo from-the-view-$((1 + 1))", "Enter"]);
    let _ = tmux.wait_for("from-the-view-2");
    tmux.keys(&["C-]", "q"]);
    let _ = tmux.wait_for("web");
    tmux.keys(&["x", "y"]);
    eventually("it is stopped", 30, || home.state(&w) == "stopped");
    let _ = tmux.wait_for("stopped");
    tmux.keys(&["d", "y"]);
    eventually("it is deleted", 30, || home.pyro(&["workspace", "status", &w]).code == 65);
    tmux.keys(&["q"]);
    drop(tmux);
    home.assert_nothing_left();
    let refused = home.pyro(&["top"]).code(64);
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
}
