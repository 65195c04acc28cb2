//! Commands in a live workspace.

use std::{io::Read as _, time::Instant};

use pyro_tests::{Home, eventually, finish};

#[test]
fn every_exit_code_comes_back() {
    let home = Home::new();
    let workspace = home.create(&[]);
    for code in 0..=255 {
        let _ = home.exec(&workspace, &["sh", "-c", &format!("exit {code}")]).code(code);
    }
}

#[test]
fn signals_missing_programs_and_folders_are_reported_as_a_shell_does() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let _ = home.exec(&workspace, &["sh", "-c", "kill -TERM $$"]).code(143);
    let _ = home.exec(&workspace, &["sh", "-c", "kill -KILL $$"]).code(137);
    let missing = home.exec(&workspace, &["no-such-program"]).code(127);
    assert!(missing.stderr.contains("no-such-program"), "{}", missing.stderr);
    let _ = home.exec(&workspace, &["/etc/passwd"]).code(126);
    let folder = home.pyro(&["workspace", "exec", &workspace, "--cwd", "/no/such", "--", "true"]);
    assert!(folder.code == 126 && folder.stderr.contains("/no/such"), "{folder:?}");
    let user = home.pyro(&["workspace", "exec", &workspace, "--user", "nobody-here", "--", "true"]);
    assert!(user.code == 126 && user.stderr.contains("nobody-here"), "{user:?}");
}

#[test]
fn a_command_gets_its_folder_user_environment_and_arguments_unchanged() {
    let home = Home::new();
    let workspace = home.create(&[]);
    assert_eq!(home.sh(&workspace, "pwd; id -u"), "/workspace\n0");
    let arguments = ["workspace", "exec", &workspace, "--cwd", "/tmp", "--user", "daemon", "--env", "GREETING=a b=c", "--"];
    let line = ["sh", "-c", r#"echo "$PWD $(id -un) $GREETING $1""#, "sh", "it's \"$HOME\"\n*"];
    let output = home.pyro(&[&arguments[..], &line[..]].concat()).ok();
    assert_eq!(output.text(), "/tmp daemon a b=c it's \"$HOME\"\n*");
}

#[test]
fn bytes_pass_in_and_out_untouched() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let every_byte: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let echoed = home.exec_with_input(&workspace, &["cat"], &every_byte).ok();
    assert!(echoed.stdout == every_byte, "{} bytes came back", echoed.stdout.len());
    let none = home.exec(&workspace, &["cat"]).ok();
    assert!(none.stdout.is_empty(), "without --stdin a command reads an empty stream");
}

#[test]
fn a_hundred_megabytes_stream_without_being_held() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let (supervisor, _) = home.processes(&workspace);
    let mut client = home.start(&["workspace", "exec", &workspace, "--", "dd", "if=/dev/zero", "bs=128k", "count=800", "status=none"]);
    let mut output = client.stdout.take().expect("it was piped");
    let mut buffer = vec![0; 1 << 20];
    let (mut total, mut client_peak) = (0, 0);
    loop {
        let count = output.read(&mut buffer).expect("readable");
        if count == 0 {
            break;
        }
        total += count;
        client_peak = client_peak.max(peak_mib(client.id()));
    }
    let _ = finish(client).ok();
    assert_eq!(total, 100 << 20);
    let supervisor_peak = peak_mib(supervisor);
    println!("peak memory: client {client_peak} MiB, supervisor {supervisor_peak} MiB");
    assert!(client_peak < 64 && supervisor_peak < 64, "100 MiB were held: client {client_peak} MiB, supervisor {supervisor_peak} MiB");
    let logged = home.pyro(&["workspace", "logs", &workspace, "--sequence", "1", "--json"]).ok().json();
    assert!(logged.to_string().contains("104857600"), "the journal counts every byte: {}", logged.to_string().len());
}

fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[test]
fn a_timeout_kills_the_whole_process_group() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let started = Instant::now();
    let arguments = ["workspace", "exec", &workspace, "--timeout-seconds", "1", "--json", "--"];
    let line = ["sh", "-c", "trap '' TERM; sleep 4711 & sleep 4711"];
    let output = home.pyro(&[&arguments[..], &line[..]].concat()).code(124);
    assert_eq!(output.json()["timed_out"], true);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    let left = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done | grep -c '^sleep 4711'";
    eventually("the group is gone", 10, || home.exec(&workspace, &["sh", "-c", left]).text() == "0");
}

#[test]
fn twenty_commands_at_once_and_a_stuck_one_do_not_disturb_each_other() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let stuck = home.start(&["workspace", "exec", &workspace, "--", "sleep", "600"]);
    let unread = home.start(&["workspace", "exec", &workspace, "--", "yes"]);
    let clients: Vec<_> =
        (0..20).map(|n| (n, home.start(&["workspace", "exec", &workspace, "--", "sh", "-c", &format!("echo {n}; exit {n}")]))).collect();
    for (n, client) in clients {
        assert_eq!(finish(client).code(n).text(), n.to_string());
    }
    for mut client in [stuck, unread] {
        client.kill().expect("it still runs");
        drop(client.wait());
    }
}

#[test]
fn a_running_command_can_be_left_waited_for_and_killed() {
    let home = Home::new();
    let workspace = home.create(&["--name", "left"]);
    let detached = home.pyro(&["workspace", "exec", "left", "--detach", "--json", "--", "sleep", "600"]).ok().json();
    let sequence = detached["sequence"].to_string();
    let waited = home.pyro(&["workspace", "exec-wait", "left", &sequence, "--timeout-seconds", "1", "--json"]);
    assert!(waited.json().to_string().contains("running"), "{waited:?}");
    let _ = home.pyro(&["workspace", "exec-kill", &workspace[..6], &sequence]).ok();
    let waited = home.pyro(&["workspace", "exec-wait", "left", &sequence, "--json"]);
    assert_eq!(waited.json()["exit_code"], 137, "{waited:?}");
    let _ = home.pyro(&["workspace", "exec-wait", "left", "99"]).code(65);
}

#[test]
fn killing_a_client_leaves_its_command_running_and_its_output_in_the_journal() {
    let home = Home::new();
    let workspace = home.create(&[]);
    let mut client = home.start(&["workspace", "exec", &workspace, "--", "sh", "-c", "echo begun; sleep 3; echo finished"]);
    let mut first = [0; 6];
    client.stdout.as_mut().expect("it was piped").read_exact(&mut first).expect("it prints");
    client.kill().expect("it runs");
    drop(client.wait());
    let waited = home.pyro(&["workspace", "exec-wait", &workspace, "1", "--json"]).json();
    assert_eq!(waited["exit_code"], 0, "{waited}");
    let logs = home.pyro(&["workspace", "logs", &workspace]).ok().text();
    assert!(logs.contains("begun") && logs.contains("finished"), "{logs}");
}
