//! Services and their ports: started, watched, published, ended whole.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use pyro_tests::{Home, Output, eventually};
use serde_json::Value;

/// A web server in the one interpreter the smallest environment has. It says which workspace's file it serves.
const SERVER: &str = r#"
use strict; use IO::Socket::INET; $| = 1; $SIG{PIPE} = 'IGNORE';
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 128, ReuseAddr => 1) or die "cannot listen: $!";
print "listening on $ARGV[0]\n";
while (my $c = $s->accept) {
  my $line = <$c> // ''; while (my $h = <$c>) { last if $h =~ /^\r?\n$/ }
  open(my $f, '<', '/workspace/answer'); my $body = join '', <$f>; close $f;
  print $c "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body"; close $c; print "served $line";
}
"#;

fn start(home: &Home, w: &str, name: &str, more: &[&str]) -> Output {
    let mut arguments = vec!["workspace", "service", "start", w, name, "--json"];
    arguments.extend(more);
    home.pyro(&arguments)
}

fn service(home: &Home, w: &str, name: &str) -> Value {
    home.pyro(&["workspace", "service", "status", w, name, "--json"]).ok().json()
}

fn logs(home: &Home, w: &str, name: &str) -> String {
    home.pyro(&["workspace", "service", "logs", w, name]).ok().text()
}

fn get(port: u64) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(("127.0.0.1", u16::try_from(port).expect("a port")))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn host_port(service: &Value) -> u64 {
    service["published_ports"][0]["host_port"].as_u64().unwrap_or_else(|| panic!("no port: {service}"))
}

fn serve(home: &Home, w: &str) -> Value {
    let _ = home.pyro(&["workspace", "file", "write", w, "server.pl", "--text", SERVER]).ok();
    let _ = home.sh(w, "hostname > answer");
    let ready = ["--ready-http", "http://127.0.0.1:8080/", "--publish", "8080", "--", "perl", "server.pl", "8080"];
    start(home, w, "web", &ready).ok().json()
}

#[test]
fn a_web_service_becomes_ready_is_reached_from_the_host_and_is_ended() {
    let home = Home::new();
    let w = home.create(&["--name", "site", "--network-policy", "published-ports"]);
    let web = serve(&home, &w);
    assert_eq!((&web["outcome"], &web["state"]), (&"ready".into(), &"ready".into()), "{web}");
    assert!(get(host_port(&web)).expect("it answers").ends_with("site\n"));
    assert_eq!(home.exec(&w, &["sh", "-c", "ls /sys/class/net"]).ok().text(), "lo", "no network card is needed for it");
    let status = home.status(&w);
    assert_eq!((&status["running_service_count"], &status["expires_at"]), (&1.into(), &Value::Null), "{status}");
    assert!(logs(&home, &w, "web").contains("listening on 8080"));
    assert_eq!(home.sh(&w, "find /workspace -name '*log*' | wc -l"), "0", "logs lie outside");
    let again = start(&home, &w, "web", &["--", "true"]).code(66);
    assert!(again.stdout.is_empty() || String::from_utf8_lossy(&again.stdout).contains("already_exists"), "{again:?}");
    let stopped = home.pyro(&["workspace", "service", "stop", &w, "web", "--json"]).ok().json();
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert!(get(host_port(&web)).is_err(), "its port went with it");
    assert_eq!(home.status(&w)["published_ports"], Value::Array(Vec::new()));
    let web = start(&home, &w, "web", &["--ready-tcp", "8080", "--", "perl", "server.pl", "8080"]).ok().json();
    assert_eq!(web["outcome"], "ready");
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    assert_eq!(service(&home, &w, "web")["state"], "stopped");
    assert!(logs(&home, &w, "web").contains("listening"), "logs of a stopped workspace can be read");
    let _ = home.pyro(&["workspace", "start", &w]).ok();
    assert_eq!(service(&home, &w, "web")["state"], "stopped", "processes do not come back");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_service_that_fails_is_reported_with_its_last_lines() {
    let home = Home::new();
    let w = home.create(&[]);
    let failed = start(&home, &w, "broken", &["--ready-tcp", "1", "--", "sh", "-c", "echo about to fail; exit 3"]).code(67).json();
    assert_eq!((&failed["outcome"], &failed["state"], &failed["exit_code"]), (&"exited".into(), &"failed".into(), &3.into()), "{failed}");
    assert!(failed["log_tail"].to_string().contains("about to fail"), "{failed}");
    let missing = start(&home, &w, "missing", &["--", "no-such-program"]).code(67).json();
    assert!(missing["stop_reason"].as_str().is_some_and(|reason| reason.contains("no-such-program")), "{missing}");
    // Crash loops end, and the wait between two starts grows.
    let began = Instant::now();
    let looping = ["--restart", "on-failure", "--ready-file", "/nowhere", "--", "sh", "-c", "echo $$ try; exit 1"];
    let looped = start(&home, &w, "loop", &looping).code(67).json();
    assert!(looped["restart_count"].as_u64() == Some(4) && looped["state"] == "failed", "{looped}");
    assert!(looped["stop_reason"].as_str().is_some_and(|reason| reason.contains("5 times")), "{looped}");
    assert!(began.elapsed() > Duration::from_secs(3), "200 + 400 + 800 + 1600 ms lie between");
    assert_eq!(logs(&home, &w, "loop").matches("try").count(), 5);
    let done = start(&home, &w, "task", &["--", "sh", "-c", "echo fine"]).ok();
    assert_eq!(done.code, 0);
    eventually("it has ended by itself", 10, || service(&home, &w, "task")["state"] == "exited");
    let events = home.pyro(&["workspace", "events", &w, "--json"]).ok().json().to_string();
    for expected in ["service_end", "service_restart", "about to fail"] {
        assert!(events.contains(expected), "{expected} is not in {events}");
    }
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn readiness_in_every_form_in_time_and_late() {
    let home = Home::new();
    let w = home.create(&[]);
    let file = ["--ready-file", "flag", "--ready-interval-ms", "100", "--", "sh", "-c", "sleep 1; touch flag; sleep 600"];
    assert_eq!(start(&home, &w, "by-file", &file).ok().json()["outcome"], "ready");
    let command = ["--ready-command", "test -e flag", "--", "sleep", "600"];
    assert_eq!(start(&home, &w, "by-command", &command).ok().json()["outcome"], "ready");
    let late = [
        "--ready-file",
        "later",
        "--ready-timeout-seconds",
        "1",
        "--ready-interval-ms",
        "100",
        "--",
        "sh",
        "-c",
        "sleep 4; touch later; sleep 600",
    ];
    let late = start(&home, &w, "late", &late).code(75).json();
    assert_eq!((&late["outcome"], &late["state"]), (&"timed_out".into(), &"running".into()), "{late}");
    // A probe that hangs is given up with what it started, and the start is not held up past its time.
    let began = Instant::now();
    let hanging = ["--ready-command", "sleep 4321", "--ready-timeout-seconds", "2", "--", "sleep", "600"];
    assert_eq!(start(&home, &w, "hanging", &hanging).code(75).json()["outcome"], "timed_out");
    assert!(began.elapsed() < Duration::from_secs(20));
    eventually("it became ready after its time", 20, || service(&home, &w, "late")["state"] == "ready");
    let _ = home.pyro(&["workspace", "service", "stop", &w, "hanging"]).ok();
    eventually("nothing of the probe is left", 20, || {
        home.sh(&w, "grep -l '[s]leep.4321' /proc/[0-9]*/cmdline 2>/dev/null | wc -l") == "0"
    });
    let https = start(&home, &w, "tls", &["--ready-http", "https://localhost:1/", "--", "true"]);
    assert_eq!(https.code, 64, "{https:?}");
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn nothing_escapes_by_forking_twice_and_stubborn_ones_are_killed() {
    let home = Home::new();
    let w = home.create(&[]);
    // The first process ends with 0; its grandchild lives in a session of its own and ignores TERM.
    let daemon = "(setsid sh -c 'trap \"\" TERM HUP; echo $$ > pid; while :; do sleep 5432; done' > /dev/null 2>&1 &) ; exit 0";
    let _ = start(&home, &w, "daemon", &["--ready-file", "pid", "--", "sh", "-c", daemon]).ok();
    let status = service(&home, &w, "daemon");
    assert!(status["state"] == "ready" && status["process_count"].as_u64().is_some_and(|count| count >= 1), "{status}");
    let began = Instant::now();
    let stopped = home.pyro(&["workspace", "service", "stop", &w, "daemon", "--grace-seconds", "1", "--json"]).ok().json();
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert!(began.elapsed() >= Duration::from_secs(1), "it had its grace");
    assert_eq!(
        home.sh(&w, "test -d /proc/$(cat pid) && echo alive || echo gone; grep -l '[s]leep.5432' /proc/[0-9]*/cmdline 2>/dev/null | wc -l"),
        "gone\n0"
    );
    // One that fails takes its children along.
    let parent = "setsid sleep 6543 & sleep 0.3; exit 9";
    let _ = start(&home, &w, "parent", &["--", "sh", "-c", parent]).ok();
    eventually("it failed", 10, || service(&home, &w, "parent")["state"] == "failed");
    assert_eq!(home.sh(&w, "grep -l '[s]leep.6543' /proc/[0-9]*/cmdline 2>/dev/null | wc -l"), "0");
    // A stop in the middle of a start.
    let slow = home.start(&["workspace", "service", "start", &w, "slow", "--ready-file", "never", "--json", "--", "sleep", "600"]);
    eventually("it is there", 10, || home.pyro(&["workspace", "service", "status", &w, "slow"]).code == 0);
    let _ = home.pyro(&["workspace", "service", "stop", &w, "slow"]).ok();
    let answer = pyro_tests::finish(slow).code(67).json();
    assert_eq!(answer["outcome"], "stopped", "{answer}");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn old_services_give_way_and_a_frozen_group_of_the_guest_s_holds_nothing_up() {
    let home = Home::new();
    let w = home.create(&[]);
    let trap = "cd /sys/fs/cgroup; for i in 0 1 2 3 4 5; do mkdir -p pyro-$((4611686018427387904 + i)); echo 1 > pyro-$((4611686018427387904 + i))/cgroup.freeze; done";
    let _ = home.sh(&w, trap);
    assert_eq!(start(&home, &w, "first", &["--", "sleep", "600"]).ok().json()["outcome"], "ready");
    for number in 0..33 {
        let _ = start(&home, &w, &format!("task{number}"), &["--", "true"]).ok();
        eventually("it has ended", 10, || service(&home, &w, &format!("task{number}"))["state"] == "exited");
    }
    let listed = home.pyro(&["workspace", "service", "list", &w, "--json"]).ok().json();
    let listed = listed["services"].as_array().expect("a list");
    assert_eq!(listed.len(), 32);
    assert!(listed.iter().any(|service| service["service_name"] == "first"), "one that runs stays");
    let _ = home.pyro(&["workspace", "service", "status", &w, "task0"]).code(65);
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let stopped = service(&home, &w, "first");
    assert_eq!((&stopped["state"], &stopped["pid"]), (&"stopped".into(), &Value::Null), "{stopped}");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_gigabyte_of_logs_leaves_the_newest_part_and_disturbs_nobody() {
    let home = Home::new();
    let w = home.create(&[]);
    let flood =
        "yes 'a line of the flood that is repeated until a gibibyte has gone by' | head -c 1073741824; echo the very last line; sleep 600";
    let _ = start(&home, &w, "flood", &["--", "sh", "-c", flood]).ok();
    // Meanwhile the workspace answers.
    assert_eq!(home.sh(&w, "echo here"), "here");
    eventually("the flood is over", 240, || logs(&home, &w, "flood").ends_with("the very last line"));
    let answer = home.pyro(&["workspace", "service", "logs", &w, "flood", "--cursor", "0", "--json"]).ok().json();
    assert!(answer["truncated_before"].as_u64().is_some_and(|at| at > 900 << 20), "{}", answer["truncated_before"]);
    let kept = std::process::Command::new("du").args(["-sm", &home.dirs().state.to_string_lossy()]).output().expect("du runs");
    let kept: u64 = String::from_utf8_lossy(&kept.stdout).split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
    assert!(kept < 80, "{kept} MiB of logs are kept");
    let (supervisor, _) = home.processes(&w);
    let memory = std::fs::read_to_string(format!("/proc/{supervisor}/status")).expect("it runs");
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells").trim().to_owned();
    println!("peak memory of the supervisor: {peak}");
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_reset_ends_services_and_a_fork_answers_on_a_port_of_its_own() {
    let home = Home::new();
    let w = home.create(&["--name", "origin", "--network-policy", "published-ports"]);
    let web = serve(&home, &w);
    let _ = home.pyro(&["workspace", "snapshot", "create", &w, "serving", "--live"]).ok();
    let answer = home.pyro(&["workspace", "fork", &w, "--name", "copy", "--json"]).ok().json();
    let fork = answer["forks"][0]["workspace_id"].as_str().expect("an id").to_owned();
    let copied = service(&home, &fork, "web");
    assert_eq!(copied["state"], "ready", "{copied}");
    assert_ne!(host_port(&copied), host_port(&web));
    let _ = home.sh(&fork, "echo the copy > answer");
    eventually("the copy answers", 20, || get(host_port(&copied)).is_ok_and(|answer| answer.ends_with("the copy\n")));
    assert!(get(host_port(&web)).expect("the origin answers").ends_with("origin\n"));
    assert!(logs(&home, &fork, "web").contains("listening"), "its log begins with the origin's");
    let _ = home.pyro(&["workspace", "delete", &fork, "--force"]).ok();
    let _ = home.sh(&w, "echo after the snapshot > answer");
    let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", "serving"]).ok();
    let back = service(&home, &w, "web");
    assert_eq!((&back["state"], host_port(&back)), (&"ready".into(), host_port(&web)), "the same port as before: {back}");
    eventually("it answers as it was", 20, || get(host_port(&back)).is_ok_and(|answer| answer.ends_with("origin\n")));
    let _ = home.pyro(&["workspace", "reset", &w]).ok();
    assert_eq!(home.pyro(&["workspace", "service", "list", &w, "--json"]).ok().json()["services"], Value::Array(Vec::new()));
    eventually("the port is closed", 20, || get(host_port(&back)).is_err());
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}

#[test]
fn ports_are_checked_published_live_and_do_not_let_slow_clients_stall_the_rest() {
    let home = Home::new();
    let closed = home.create(&["--name", "closed"]);
    let refused = start(&home, &closed, "web", &["--publish", "8080", "--", "sleep", "600"]).code(67);
    assert!(
        String::from_utf8_lossy(&refused.stdout).contains("published-ports") || refused.stderr.contains("published-ports"),
        "{refused:?}"
    );
    let _ = home.pyro(&["workspace", "service", "status", &closed, "web"]).code(65);
    let w = home.create(&["--name", "open", "--network-policy", "published-ports"]);
    let web = serve(&home, &w);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let number = taken.local_addr().expect("it is bound").port().to_string();
    let conflict = home.pyro(&["workspace", "port", "publish", &w, &format!("{number}:8080")]).code(68);
    assert!(conflict.stderr.contains(&number) && conflict.stderr.contains("hint:"), "{}", conflict.stderr);
    drop(taken);
    let _ = home.pyro(&["workspace", "port", "publish", &w, &format!("{number}:8080")]).ok();
    assert!(get(number.parse().expect("a number")).expect("it answers").ends_with("open\n"));
    let listed = home.pyro(&["workspace", "port", "list", &w, "--json"]).ok().json();
    assert_eq!(listed["published_ports"].as_array().map(Vec::len), Some(2), "{listed}");
    // Connections that say nothing, and one nobody reads.
    let port = u16::try_from(host_port(&web)).expect("a port");
    let silent: Vec<_> = (0..120).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("it is accepted or waits")).collect();
    assert_eq!(home.sh(&w, "echo here"), "here");
    drop(silent);
    eventually("it answers again", 30, || get(u64::from(port)).is_ok_and(|answer| answer.ends_with("open\n")));
    let nobody = home.pyro(&["workspace", "port", "publish", &w, "9", "--json"]).ok().json();
    let nobody = nobody["host_port"].as_u64().unwrap_or_else(|| panic!("{nobody}"));
    assert!(get(nobody).is_err(), "nobody listens there in the guest");
    let _ = home.pyro(&["workspace", "port", "unpublish", &w, &format!("{number}:8080")]).ok();
    assert!(get(number.parse().expect("a number")).is_err());
    assert!(get(u64::from(port)).is_ok(), "the other one stays");
    let _ = home.pyro(&["workspace", "port", "unpublish", &w, "4711"]).code(65);
    for workspace in [&w, &closed] {
        let _ = home.pyro(&["workspace", "delete", workspace, "--force"]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn large_bodies_pass_whole_in_both_directions() {
    let home = Home::new();
    let w = home.create(&["--network-policy", "published-ports"]);
    let echo = r#"
use strict; use IO::Socket::INET; $SIG{CHLD} = 'IGNORE';
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 7, Listen => 16, ReuseAddr => 1) or die;
while (my $c = $s->accept) { if (fork() == 0) { my $b; while (sysread($c, $b, 65536)) { my $o = 0; while ($o < length $b) { $o += syswrite($c, $b, length($b) - $o, $o) } } exit } close $c }
"#;
    let _ = home.pyro(&["workspace", "file", "write", &w, "echo.pl", "--text", echo]).ok();
    let echo = start(&home, &w, "echo", &["--ready-tcp", "7", "--publish", "7", "--", "perl", "echo.pl"]).ok().json();
    let port = u16::try_from(host_port(&echo)).expect("a port");
    let threads: Vec<_> = (0..4_u8)
        .map(|seed| {
            std::thread::spawn(move || {
                let body: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8 ^ seed).collect();
                let stream = TcpStream::connect(("127.0.0.1", port)).expect("it is accepted");
                stream.set_read_timeout(Some(Duration::from_secs(60))).expect("it is a socket");
                let mut writer = stream.try_clone().expect("it can be shared");
                let sent = body.clone();
                let writing = std::thread::spawn(move || {
                    writer.write_all(&sent).expect("it is taken");
                    writer.shutdown(std::net::Shutdown::Write).expect("half of it closes");
                });
                let mut back = Vec::new();
                (&stream).read_to_end(&mut back).expect("it comes back");
                writing.join().expect("the writer does not panic");
                assert!(back == body, "{} of {} bytes came back as they were", back.len(), body.len());
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("every body came back");
    }
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}
