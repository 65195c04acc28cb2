//! Shells: terminals an agent types into and reads, from the prompt to full-screen programs.

use std::time::{Duration, Instant};

use pyro_tests::{Home, McpClient, Tmux, bring, eventually, open_shell, read_shell, type_line, write_shell};
use serde_json::json;

#[test]
fn a_shell_keeps_its_state_between_calls_and_says_when_its_prompt_is_back() {
    let home = Home::new();
    let w = home.create(&[]);
    let (shell, _) = open_shell(&home, &w, &[]);
    assert!(type_line(&home, &w, &shell, "cd /tmp; export GREETING='hello there'").contains("cd /tmp"));
    let seen = type_line(&home, &w, &shell, "echo \"$GREETING from $PWD\"; shopt -q login_shell && echo login; tty");
    for expected in ["hello there from /tmp", "\nlogin\n", "/dev/pts/"] {
        assert!(seen.contains(expected), "{seen}");
    }
    // A substitution runs in the shell's own group, and the shell reads what it prints: that is no prompt.
    let began = Instant::now();
    assert!(type_line(&home, &w, &shell, "x=$(sleep 2); echo done-$((40 + 2))").contains("done-42"));
    assert!(began.elapsed() >= Duration::from_secs(2));
    let size = type_line(&home, &w, &shell, "stty size");
    assert!(size.contains("30 120"), "{size}");
    let _ = home.pyro(&["workspace", "shell", "resize", &w, &shell, "--cols", "90", "--rows", "20"]).ok();
    assert!(type_line(&home, &w, &shell, "stty size").contains("20 90"));
    let listed = home.pyro(&["workspace", "shell", "list", &w, "--json"]).ok().json();
    assert_eq!((&listed["shells"][0]["state"], &listed["shells"][0]["cols"]), (&"open".into(), &90.into()), "{listed}");
    let _ = home.pyro(&["workspace", "shell", "close", &w, &shell]).ok();
    let ended = read_shell(&home, &w, &shell, 0, &["--plain"]);
    assert!(ended["state"] == "ended" && ended["output"].as_str().is_some_and(|text| text.contains("done-42")), "{ended}");
    let refused = home.pyro(&["workspace", "shell", "write", &w, &shell, "--input", "x"]).code(67);
    assert!(refused.stderr.contains("has ended") && refused.stderr.contains("hint:"), "{}", refused.stderr);
    let _ = home.pyro(&["workspace", "shell", "read", &w, "sh99"]).code(65);
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_shell_that_still_starts_is_not_called_quiet() {
    let home = Home::new();
    let w = home.create(&[]);
    let shell = home.pyro(&["workspace", "shell", "open", &w, "--id-only"]).ok().text();
    let _ = write_shell(&home, &w, &shell, "echo A; sleep 0.2; echo B-$((1 + 1))");
    let read = read_shell(&home, &w, &shell, 0, &["--plain", "--wait-for-idle-ms", "300"]);
    assert!(read["wait"] == "prompt" || read["program"] == true, "{read}");
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_read_tells_quiet_prompt_and_time_apart_and_a_signal_reaches_the_foreground() {
    let home = Home::new();
    let w = home.create(&[]);
    let (shell, _) = open_shell(&home, &w, &[]);
    let from = write_shell(&home, &w, &shell, "echo begun; sleep 600");
    let quiet = read_shell(&home, &w, &shell, from, &["--wait-for-idle-ms", "1500"]);
    assert_eq!((&quiet["wait"], &quiet["program"]), (&"idle".into(), &true.into()), "{quiet}");
    assert_eq!(home.status(&w)["expires_at"], serde_json::Value::Null, "a program in the foreground holds the idle time");
    let refused = home.pyro(&["workspace", "delete", &w]).code(67);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    let _ = home.pyro(&["workspace", "shell", "signal", &w, &shell]).ok();
    let back = read_shell(&home, &w, &shell, from, &["--wait-for-idle-ms", "10000"]);
    assert_eq!((&back["wait"], &back["program"]), (&"prompt".into(), &false.into()), "{back}");
    let from = write_shell(&home, &w, &shell, "while :; do echo tick; sleep 0.1; done");
    let busy = read_shell(&home, &w, &shell, from, &["--wait-for-idle-ms", "5000", "--yield-after-ms", "2000"]);
    assert_eq!(busy["wait"], "timeout", "{busy}");
    // Between two commands of its loop bash may miss an interrupt, at any terminal; a person presses the key again.
    eventually("the loop was interrupted", 30, || {
        let _ = home.pyro(&["workspace", "shell", "write", &w, &shell, "--input", "\u{3}", "--no-newline"]).ok();
        read_shell(&home, &w, &shell, from, &["--wait-for-idle-ms", "2000", "--yield-after-ms", "2000"])["wait"] == "prompt"
    });
    let from = write_shell(&home, &w, &shell, "exit 7");
    let ended = read_shell(&home, &w, &shell, from, &["--wait-for-idle-ms", "10000"]);
    assert_eq!((&ended["wait"], &ended["exit_code"]), (&"ended".into(), &7.into()), "{ended}");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn output_that_left_the_ring_is_said_to_be_gone_and_cursors_stay_true() {
    let home = Home::new();
    let w = home.create(&[]);
    let (shell, cursor) = open_shell(&home, &w, &[]);
    let line = "i=0; while [ $i -lt 14 ]; do head -c 1000000 /dev/zero | tr '\\0' x | fold -w 99; i=$((i+1)); done; echo the-$((1 + 1))nd";
    let from = write_shell(&home, &w, &shell, line);
    eventually("all of it has come", 120, || {
        let end = read_shell(&home, &w, &shell, from, &["--max-chars", "1"])["end_cursor"].as_u64().expect("a number");
        let last = read_shell(&home, &w, &shell, end.saturating_sub(200).max(from), &["--plain"]);
        last["output"].as_str().is_some_and(|text| text.contains("the-2nd"))
    });
    let gone = read_shell(&home, &w, &shell, cursor, &["--max-chars", "10"]);
    let before = gone["truncated_before"].as_u64().expect("the beginning is gone");
    assert!(before > 4_000_000, "{gone}");
    assert_eq!(gone["next_cursor"].as_u64(), Some(before + 10), "{gone}");
    let past = home.pyro(&["workspace", "shell", "read", &w, &shell, "--cursor", "99999999999"]).code(64);
    assert!(past.stderr.contains("99999999999"), "{}", past.stderr);
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let stopped = read_shell(&home, &w, &shell, before, &["--max-chars", "5"]);
    assert_eq!((&stopped["state"], &stopped["output"].as_str().map(str::len)), (&"ended".into(), &Some(5)), "{stopped}");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

/// Compares what Pyro says the screen shows with what tmux shows for the same bytes.
fn compare(home: &Home, w: &str, shell: &str, from: u64, what: &str) -> String {
    let read = |more: &[&str]| read_shell(home, w, shell, 0, more);
    let (raw, plain) = (read(&["--max-chars", "1048576"]), read(&["--plain", "--max-chars", "1048576"]));
    assert_eq!(raw["next_cursor"], plain["next_cursor"], "nothing came in between: {what}");
    let bytes = home.path().join("bytes");
    std::fs::write(&bytes, raw["output"].as_str().expect("it is text")).expect("writable");
    let (columns, rows) = (plain["cols"].as_u64().expect("a width"), plain["rows"].as_u64().expect("a height"));
    let shown = Tmux::show(u32::try_from(columns).expect("small"), u32::try_from(rows).expect("small"), &bytes);
    let ours = plain["output"].as_str().expect("text").trim_end().to_owned();
    if plain["full_screen"] == true || what == "top" {
        // tmux keeps the history apart from the alternate screen, and puts a screen that is cleared, as by top, into it; Pyro clears it.
        assert!(shown.ends_with(&ours), "{what}:\n--- pyro\n{ours}\n--- tmux\n{shown}");
    } else {
        assert_eq!(ours, shown, "{what}");
    }
    let part = read_shell(home, w, shell, from, &["--plain", "--max-chars", "1048576"]);
    part["output"].as_str().expect("text").to_owned()
}

fn wait(home: &Home, w: &str, shell: &str, from: u64, expected: &str) {
    eventually(&format!("the screen shows `{expected}`"), 60, || {
        let read = read_shell(home, w, shell, from, &["--plain", "--wait-for-idle-ms", "500", "--yield-after-ms", "5000"]);
        read["output"].as_str().is_some_and(|text| text.contains(expected)) && read["wait"] != "timeout"
    });
}

#[test]
fn full_screen_programs_pagers_and_progress_bars_look_as_in_another_terminal() {
    let home = Home::new();
    let w = home.create_from("debian:12-base", &["--mem-mib", "512"]);
    bring(&home, &w, &["vim.tiny", "less", "top", "tmux"]);
    let _ = home.sh(&w, "mkdir -p /usr/share/terminfo; for i in $(seq 200); do echo \"line $i of the file\"; done > long.txt");
    let (shell, _) = open_shell(&home, &w, &["--cols", "100", "--rows", "24"]);
    let key = |keys: &str| {
        let answer = home.pyro(&["workspace", "shell", "write", &w, &shell, "--input", keys, "--no-newline", "--json"]).ok().json();
        answer["cursor"].as_u64().expect("a cursor")
    };
    let _ = type_line(&home, &w, &shell, "PATH=/workspace/tools:$PATH LESSCHARSET=utf-8 PS1='$ '");

    let bar = "for i in $(seq 0 10 100); do printf '\\r[%-20s] %d%%' \"$(head -c $((i / 5)) /dev/zero | tr '\\0' '#')\" $i; done; echo";
    let from = write_shell(&home, &w, &shell, bar);
    wait(&home, &w, &shell, from, "100%");
    let seen = compare(&home, &w, &shell, from, "a progress bar");
    assert!(seen.contains("[####################] 100%") && !seen.contains("50%"), "{seen}");

    let from = write_shell(&home, &w, &shell, "printf '日本語 emoji 🎉 e\\u0301 done\\n'; printf '%0150d\\n' 7");
    wait(&home, &w, &shell, from, "done");
    let seen = compare(&home, &w, &shell, from, "wide characters");
    assert!(seen.contains("日本語 emoji 🎉 e\u{301} done") && seen.contains(&format!("{:0150}", 7)), "{seen}");

    let from = write_shell(&home, &w, &shell, "less long.txt");
    wait(&home, &w, &shell, from, "line 1 of the file");
    let _ = key(" ");
    wait(&home, &w, &shell, from, "line 40 of");
    let seen = compare(&home, &w, &shell, from, "less");
    assert!(!seen.contains("line 1 of the file"), "{seen}");
    let _ = key("q");
    wait(&home, &w, &shell, from, "$");

    let from = write_shell(&home, &w, &shell, "vim.tiny -u NONE long.txt");
    wait(&home, &w, &shell, from, "line 5 of the file");
    let _ = key("Goadded by vim\u{1b}");
    wait(&home, &w, &shell, from, "added by vim");
    let seen = compare(&home, &w, &shell, from, "vim");
    assert!(seen.contains("line 200 of the file\nadded by vim"), "{seen}");
    let _ = key(":wq\r");
    let back = read_shell(&home, &w, &shell, from, &["--plain", "--wait-for-idle-ms", "10000"]);
    assert_eq!((&back["wait"], &back["full_screen"]), (&"prompt".into(), &false.into()), "{back}");
    assert_eq!(home.sh(&w, "tail -1 long.txt"), "added by vim");

    let from = write_shell(&home, &w, &shell, "top -d 600");
    wait(&home, &w, &shell, from, "load average");
    let seen = compare(&home, &w, &shell, from, "top");
    assert!(seen.contains("COMMAND"), "{seen}");
    let _ = key("q");
    let _ = read_shell(&home, &w, &shell, from, &["--wait-for-idle-ms", "10000"]);

    let from = write_shell(&home, &w, &shell, "tmux -f /dev/null new-session 'echo inside-$((1 + 1))-tmux; sleep 600'");
    wait(&home, &w, &shell, from, "inside-2-tmux");
    let seen = compare(&home, &w, &shell, from, "tmux in the shell");
    assert!(seen.contains("inside-2-tmux"), "{seen}");
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn interpreters_and_git_pagers_of_a_larger_environment_can_be_talked_to() {
    let home = Home::with_environment("debian:12");
    let w = home.create_from("debian:12", &["--mem-mib", "512"]);
    bring(&home, &w, &["less"]);
    let (shell, _) = open_shell(&home, &w, &[]);
    let _ = type_line(&home, &w, &shell, "PATH=$PATH:/workspace/tools PS1='$ '");
    let from = write_shell(&home, &w, &shell, "python3");
    wait(&home, &w, &shell, from, ">>>");
    let from = write_shell(&home, &w, &shell, "print(sum(range(101)))");
    wait(&home, &w, &shell, from, "5050");
    let seen = compare(&home, &w, &shell, from, "python3");
    assert!(seen.contains(">>> print(sum(range(101)))\n5050\n>>>"), "{seen}");
    let from = write_shell(&home, &w, &shell, "exit()");
    let _ = read_shell(&home, &w, &shell, from, &["--wait-for-idle-ms", "10000"]);
    let repository = "git init -q r && cd r && git config user.email a@b && git config user.name A && \
                      for i in $(seq 30); do echo $i > f; git add f; git commit -qm \"change $i\"; done; echo made-$((1 + 1))";
    let from = write_shell(&home, &w, &shell, repository);
    wait(&home, &w, &shell, from, "made-2");
    let from = write_shell(&home, &w, &shell, "git log --oneline");
    wait(&home, &w, &shell, from, "change 30");
    let seen = compare(&home, &w, &shell, from, "git log in a pager");
    assert!(seen.contains("change 30") && !seen.contains("change 1\n"), "{seen}");
    let _ = home.pyro(&["workspace", "shell", "write", &w, &shell, "--input", "q", "--no-newline"]).ok();
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

/// A program at a terminal that asks for bracketed paste, or not, and writes what it is sent to a file.
fn recorder(paste: bool, file: &str) -> String {
    let ask = if paste { "printf '\\033[?2004h'; " } else { "" };
    format!("stty raw -echo; {ask}echo ready-$((1 + 1)); exec dd of={file} bs=1 2>/dev/null")
}

#[test]
fn text_is_pasted_where_a_program_has_asked_for_it_as_tmux_does() {
    const TEXT: &str = "def f():\n\treturn 'ä'\n\nf()";
    let home = Home::new();
    let w = home.create(&[]);
    for paste in [true, false] {
        let recorded = home.path().join(format!("recorded-{paste}"));
        let tmux = Tmux::start(80, 24, &recorder(paste, &recorded.to_string_lossy()));
        eventually("the program is ready", 20, || tmux.screen(&[]).contains("ready-2"));
        assert!(tmux.run(&["set-buffer", TEXT]).status.success());
        assert!(tmux.run(if paste { &["paste-buffer", "-p"] } else { &["paste-buffer", "-r"] }).status.success());
        let expected = || std::fs::read(&recorded).unwrap_or_default();
        let length = TEXT.len() + if paste { 12 } else { 0 };
        eventually("tmux has pasted it", 20, || expected().len() == length);

        let shell = home.pyro(&["workspace", "shell", "open", &w, "--command", &recorder(paste, "seen"), "--id-only"]).ok().text();
        wait(&home, &w, &shell, 0, "ready-2");
        let written = home.pyro(&["workspace", "shell", "write", &w, &shell, "--input", TEXT, "--no-newline", "--json"]).ok().json();
        assert_eq!(written["pasted"], paste, "{written}");
        eventually("the guest's program has got it", 20, || home.sh(&w, "wc -c <seen") == length.to_string());
        assert_eq!(home.exec(&w, &["cat", "seen"]).ok().stdout, expected(), "{paste}");
        // Keys are keys, whoever has asked for what.
        for keys in ["q", ":wq\r", "\u{3}", "i\ta\nb\u{1b}", "\u{1b}[201~\t\n", "ls /e\t"] {
            let before: usize = home.sh(&w, "wc -c <seen").parse().expect("a number");
            let written = home.pyro(&["workspace", "shell", "write", &w, &shell, "--input", keys, "--no-newline", "--json"]).ok().json();
            assert_eq!((&written["pasted"], &written["bytes_written"]), (&false.into(), &keys.len().into()), "{keys:?}");
            eventually("the keys have come", 20, || home.sh(&w, "wc -c <seen") == (before + keys.len()).to_string());
            assert_eq!(home.exec(&w, &["tail", "-c", &keys.len().to_string(), "seen"]).ok().stdout, keys.as_bytes(), "{keys:?}");
        }
        let _ = home.pyro(&["workspace", "shell", "close", &w, &shell]).ok();
    }
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_line_editor_takes_tabs_and_newlines_of_a_text_as_text() {
    let home = Home::new();
    let w = home.create(&[]);
    // Nobody waits for the first prompt: what is written before it is not pressed, either.
    let shell = home.pyro(&["workspace", "shell", "open", &w, "--id-only"]).ok().text();
    let makefile = "cat >Makefile <<'END'\nall:\n\techo one\n\techo two!\nEND";
    let _ = write_shell(&home, &w, &shell, makefile);
    eventually("the file is there", 30, || home.exec(&w, &["cat", "Makefile"]).text() == "all:\n\techo one\n\techo two!");
    // A program that has not asked gets the bytes as they are, also at once behind the line that starts it.
    let _ = write_shell(&home, &w, &shell, "cat >typed");
    let _ = write_shell(&home, &w, &shell, "a\tb\nc\td");
    let _ = home.pyro(&["workspace", "shell", "write", &w, &shell, "--input", "\u{4}", "--no-newline"]).ok();
    eventually("the other file is there", 30, || home.exec(&w, &["cat", "typed"]).text() == "a\tb\nc\td");
    // The Tab key completes.
    let from = write_shell(&home, &w, &shell, "");
    let _ = home.pyro(&["workspace", "shell", "write", &w, &shell, "--input", "cat Makef\t", "--no-newline"]).ok();
    wait(&home, &w, &shell, from, "cat Makefile");
    let _ = type_line(&home, &w, &shell, "");
    // A copy knows what its programs have asked for.
    let answer = home.pyro(&["workspace", "fork", &w, "--json"]).ok().json();
    let fork = answer["forks"][0]["workspace_id"].as_str().expect("an id").to_owned();
    let written =
        home.pyro(&["workspace", "shell", "write", &fork, &shell, "--input", "cat >copy <<'END'\n\tx\nEND", "--json"]).ok().json();
    assert_eq!(written["pasted"], true, "{written}");
    eventually("the copy's file is there", 30, || home.exec(&fork, &["cat", "copy"]).stdout == b"\tx\n");
    for workspace in [&w, &fork] {
        let _ = home.pyro(&["workspace", "delete", workspace, "--force"]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn a_line_that_the_terminal_would_cut_is_refused() {
    let home = Home::new();
    let w = home.create(&[]);
    let (shell, _) = open_shell(&home, &w, &[]);
    let write = |input: &str, more: &[&str]| home.pyro(&[&["workspace", "shell", "write", &w, &shell, "--input", input], more].concat());
    // A line editor has no such limit.
    let _ = write(&format!("echo {} | wc -c", "x".repeat(6000)), &[]).ok();
    wait(&home, &w, &shell, 0, "6001");
    let from = write_shell(&home, &w, &shell, "cat >lines");
    let refused = write(&"y".repeat(4096), &[]);
    assert!(refused.code == 76 && refused.stderr.contains("a line can hold 4095 bytes; this one has 4096"), "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("pyro workspace file write {w} ")), "{}", refused.stderr);
    let _ = write(&format!("{}\n{}", "a".repeat(4095), "b".repeat(4095)), &[]).ok();
    // In pieces, too.
    let _ = write(&"c".repeat(3000), &["--no-newline"]).ok();
    assert_eq!(write(&"c".repeat(1096), &[]).code, 76);
    let _ = write(&"c".repeat(1095), &[]).ok();
    let _ = write("\u{4}", &["--no-newline"]).ok();
    eventually("all lines are there", 30, || home.sh(&w, "wc -c <lines; tr -d '\n' <lines | wc -c") == "12288\n12285");
    let _ = read_shell(&home, &w, &shell, from, &["--wait-for-idle-ms", "10000"]);
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn an_exclamation_mark_is_a_character_in_shells_of_models_and_recalls_history_in_those_of_people() {
    let home = Home::new();
    let w = home.create(&[]);
    let (of_people, _) = open_shell(&home, &w, &[]);
    assert!(type_line(&home, &w, &of_people, "echo \"one!two\"").contains("event not found"));
    let (plain, _) = open_shell(&home, &w, &["--no-history-expansion"]);
    let seen = type_line(&home, &w, &plain, "echo \"one!two\"");
    assert!(seen.contains("\none!two") && !seen.contains("not found"), "{seen}");
    let client = McpClient::connect(&home, &["--no-project-source"]);
    let opened = client.call("shell_open", json!({ "workspace": w }));
    let shell = opened["shell_id"].as_str().expect("an id");
    let first = read_shell(&home, &w, shell, 0, &["--plain", "--wait-for-idle-ms", "5000"]);
    assert!(!first["output"].as_str().expect("text").contains("+H"), "nothing shows how: {first}");
    let _ = client.call("shell_write", json!({ "workspace": w, "shell_id": shell, "input": "echo \"one!two\"" }));
    wait(&home, &w, shell, 0, "\none!two");
    assert!(client.close().success());
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_shell_goes_on_in_a_live_snapshot_and_in_every_fork() {
    let home = Home::new();
    let w = home.create(&[]);
    let (shell, _) = open_shell(&home, &w, &[]);
    assert!(type_line(&home, &w, &shell, "MARK=from-the-origin").contains("MARK"));
    let _ = home.pyro(&["workspace", "snapshot", "create", &w, "live", "--live"]).ok();
    let answer = home.pyro(&["workspace", "fork", &w, "--json"]).ok().json();
    let fork = answer["forks"][0]["workspace_id"].as_str().expect("an id").to_owned();
    assert!(type_line(&home, &fork, &shell, "echo $MARK-in-the-fork").contains("from-the-origin-in-the-fork"));
    assert!(type_line(&home, &w, &shell, "MARK=changed; echo $MARK-here").contains("changed-here"));
    let history = read_shell(&home, &fork, &shell, 0, &["--plain"]);
    let history = history["output"].as_str().expect("text");
    assert!(history.contains("MARK=from-the-origin") && !history.contains("changed"), "{history}");
    let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", "live"]).ok();
    assert!(type_line(&home, &w, &shell, "echo $MARK-again").contains("from-the-origin-again"));
    let _ = home.pyro(&["workspace", "reset", &w]).ok();
    let _ = home.pyro(&["workspace", "shell", "read", &w, &shell]).code(65);
    let (next, _) = open_shell(&home, &w, &[]);
    assert_ne!(next, shell, "an id is never another shell's");
    for workspace in [&w, &fork] {
        let _ = home.pyro(&["workspace", "delete", workspace, "--force"]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn a_killed_supervisor_leaves_ended_shells_with_their_output() {
    let home = Home::new();
    let w = home.create(&[]);
    let (shell, _) = open_shell(&home, &w, &[]);
    assert!(type_line(&home, &w, &shell, "echo before-the-end").contains("before-the-end"));
    home.kill_machines();
    let listed = home.pyro(&["workspace", "shell", "list", &w, "--json"]).ok().json();
    assert_eq!(listed["shells"][0]["state"], "ended", "{listed}");
    let read = read_shell(&home, &w, &shell, 0, &["--plain"]);
    assert!(read["output"].as_str().is_some_and(|text| text.contains("before-the-end")), "{read}");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
