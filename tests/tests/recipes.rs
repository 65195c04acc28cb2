//! The stories of `docs/recipes.md` that shells and services are for, as they stand there.

use std::fs;

use pyro_tests::{Home, open_shell, type_line};

#[test]
fn review_reads_a_checklist_runs_it_exports_the_report_and_goes_back() {
    let home = Home::new();
    let seed = home.path().join("seed");
    fs::create_dir_all(&seed).expect("writable");
    fs::write(seed.join("CHECKLIST.md"), "1. run the checks\n2. export the report\n").expect("writable");
    fs::write(seed.join("check.sh"), "echo two checks passed\n").expect("writable");
    let w = home.create(&["--name", "review", "--seed-path", &seed.to_string_lossy()]);
    let _ = home.pyro(&["workspace", "snapshot", "create", "review", "pre-review"]).ok();
    let (shell, _) = open_shell(&home, "review", &[]);
    let seen = type_line(&home, "review", &shell, "cat CHECKLIST.md");
    assert!(seen.contains("1. run the checks\n2. export the report"), "{seen}");
    let _ = home.exec("review", &["sh", "-c", "sh check.sh > report.txt 2>&1; cat report.txt"]).ok();
    let summary = home.pyro(&["workspace", "summary", "review"]).ok().text();
    assert!(summary.contains("report.txt") && summary.contains("check.sh"), "{summary}");
    let report = home.path().join("report.txt");
    let _ = home.pyro(&["workspace", "export", "review", "report.txt", "--output", &report.to_string_lossy()]).ok();
    assert_eq!(fs::read_to_string(report).expect("it was exported"), "two checks passed\n");
    let _ = home.pyro(&["workspace", "reset", "review", "--snapshot", "pre-review"]).ok();
    assert_eq!(home.pyro(&["workspace", "diff", "review", "--json"]).ok().json()["changed"], false);
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn cold_start_serves_is_asked_and_tells_what_happened() {
    let home = Home::new();
    let seed = home.path().join("seed");
    fs::create_dir_all(&seed).expect("writable");
    fs::write(seed.join("README.md"), "Start with `perl serve.pl`.\n").expect("writable");
    let server = "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 9, ReuseAddr => 1) or die; \
                  while ($c = $s->accept) { while (<$c>) { last if /^\\r?$/ } print $c \"HTTP/1.0 200 OK\\r\\n\\r\\nserved\"; close $c }\n";
    fs::write(seed.join("serve.pl"), server).expect("writable");
    let w = home.create(&["--name", "cold", "--seed-path", &seed.to_string_lossy(), "--network-policy", "published-ports"]);
    let readme = home.pyro(&["workspace", "file", "read", "cold", "README.md", "--content-only"]).ok().text();
    assert!(readme.contains("perl serve.pl"));
    let start = [
        "workspace",
        "service",
        "start",
        "cold",
        "web",
        "--ready-http",
        "http://localhost:8000/",
        "--publish",
        "8000",
        "--",
        "perl",
        "serve.pl",
    ];
    let started = home.pyro(&start).ok().text();
    assert!(started.starts_with("127.0.0.1:") && started.ends_with(" -> 8000"), "{started}");
    let listed = home.pyro(&["workspace", "port", "list", "cold"]).ok().text();
    assert!(listed.contains("8000") && listed.contains("web"), "{listed}");
    let events = home.pyro(&["workspace", "events", "cold", "--json"]).ok().json().to_string();
    assert!(events.contains("service_ready"), "{events}");
    let held = home.pyro(&["workspace", "delete", "cold"]).code(67);
    assert!(held.stderr.contains("web") && held.stderr.contains("--force"), "{}", held.stderr);
    let _ = home.pyro(&["workspace", "delete", &w, "--force"]).ok();
    home.assert_nothing_left();
}
