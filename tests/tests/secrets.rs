//! Where a secret may be found, and who has it when.
//!
//! The secrets are canaries: random texts, looked for byte by byte in what is printed, on the host's disk and in the memory of processes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};

use pyro_tests::{Canary, ENVIRONMENT, Home, MEM_MIB, Output, eventually, finish, open_shell, read_shell, type_line, world::World};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;

/// Writes both secrets to both streams, cut in two with a pause, in base64 at two places, and from the files they lie in; then asks for a
/// name that begins with one.
const TELL: &str = r#"
echo "$SAID"; echo "$OTHER" >&2
printf %.20s "$SAID"; sleep 0.3; echo "${SAID#????????????????????}"
printf %.30s "$OTHER" >&2; sleep 0.3; echo "${OTHER#??????????????????????????????}" >&2
printf %s "$SAID" | base64 -w0; echo
printf user:%s "$OTHER" | base64 -w0; echo
cat /run/pyro-secrets/SAID /run/pyro-secrets/FILED; echo
stat -c %a /run/pyro-secrets/SAID /run/pyro-secrets/FILED; stat -f -c %T /run/pyro-secrets
perl probe.pl "ask $SAID.test A 10.0.2.2" "ask $OTHER.test TXT 8.8.8.8 tcp"
"#;

/// Everything that a story was shown.
struct Shown<'a> {
    home: &'a Home,
    said: Vec<(String, Output)>,
}

impl Shown<'_> {
    fn pyro(&mut self, arguments: &[&str]) -> Output {
        let output = self.home.pyro(arguments);
        self.said.push((arguments.join(" "), output.clone()));
        output
    }

    fn assert_holds_none(&self, canary: &Canary) {
        for (arguments, output) in &self.said {
            let shown = [&output.stdout, output.stderr.as_bytes()].concat();
            assert!(!canary.is_in(&shown), "`pyro {arguments}` shows it: {}", String::from_utf8_lossy(&shown));
        }
    }
}

/// A file outside of any home.
fn file_of(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("there is room");
    fs::write(file.path(), content).expect("there is room");
    file
}

fn create_with_two(home: &Home, said: &Canary, filed: &Path, more: &[&str]) -> Output {
    let file = format!("FILED={}", filed.display());
    let mut arguments = vec!["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB, "--secret", "SAID", "--secret-file", &file];
    arguments.extend(more);
    let mut create = home.command(&arguments);
    create.env("SAID", said.text()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    finish(create.spawn().expect("pyro starts"))
}

fn kinds_and_marks(listed: &Value) -> Vec<(&str, bool)> {
    let snapshots = listed["snapshots"].as_array().expect("a list");
    snapshots.iter().map(|one| (one["kind"].as_str().unwrap_or_default(), one["may_hold_secrets"] == true)).collect()
}

#[test]
fn a_canary_secret_is_found_only_where_it_may_be() {
    let Some(world) = World::new() else { return };
    let home = world.home();
    let (said, filed) = (Canary::new(), Canary::new());
    let either = said.or(&filed);
    let file = file_of(&format!("{}\n", filed.text()));
    let before = home.create(&["--name", "before"]);
    let made = create_with_two(&home, &said, file.path(), &["--name", "w", "--network-policy", "egress", "--json"]).ok();
    let mut shown = Shown { home: &home, said: vec![("workspace create".into(), made)] };
    let after = home.create(&["--name", "after"]);
    let _ = shown.pyro(&["workspace", "file", "write", "w", "probe.pl", "--text", include_str!("../src/world/probe.pl")]).ok();

    let secrets = ["--secret-env", "SAID", "--secret-env", "FILED=OTHER"];
    let exec =
        |shown: &mut Shown<'_>, command: &[&str]| shown.pyro(&[&["workspace", "exec", "w"], &secrets[..], &["--"], command].concat());
    let told = exec(&mut shown, &["sh", "-c", TELL]).ok();
    let lines: Vec<String> = told.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 10, "{lines:#?}");
    assert_eq!(lines[..2], ["[REDACTED]", "[REDACTED]"]);
    assert!(lines[2].contains("[REDACTED]") && lines[3].contains("[REDACTED]"), "{lines:#?}");
    assert_eq!(lines[4..], ["[REDACTED][REDACTED]", "400", "400", "tmpfs", "NXDOMAIN", "NXDOMAIN"]);
    assert!(told.stderr.starts_with("[REDACTED]\n[REDACTED]\n"), "{}", told.stderr);
    assert!(world.names().asked().contains(&format!("{}.test", said.text())), "what the guest asks for is its own affair");
    assert_eq!(exec(&mut shown, &["sh", "-c", "\"$SAID\"; \"/$OTHER\""]).code, 127);
    assert_eq!(exec(&mut shown, &["sh", "-c", "exit 3 # $SAID"]).code, 3);
    assert_ne!(exec(&mut shown, &[said.text(), filed.text()]).code, 0);
    let _ = shown.pyro(&["workspace", "exec", "w", "--json", "--secret-env", "SAID", "--", "sh", "-c", "echo $SAID; echo $SAID >&2"]).ok();

    let (shell, _) = open_shell(&home, "w", &["--secret-env", "SAID"]);
    let typed = type_line(&home, "w", &shell, "echo \"<$SAID>\"; printf %.9s $SAID; sleep 0.3; echo \"${SAID#?????????}\"");
    assert!(typed.contains("<[REDACTED]>") && typed.contains("\n[REDACTED]"), "{typed}");
    let raw = read_shell(&home, "w", &shell, 0, &["--max-chars", "1000000"]).to_string();
    assert!(!said.is_in(typed.as_bytes()) && !said.is_in(raw.as_bytes()), "{typed}\n{raw}");
    let _ = shown.pyro(&["workspace", "shell", "read", "w", &shell, "--plain"]).ok();
    let service = |name, file, line| {
        [&["workspace", "service", "start", "w", name], &secrets[..], &["--ready-file", file, "--", "sh", "-c", line]].concat()
    };
    let _ = shown.pyro(&service("s", "/run/up", "echo $SAID; echo $OTHER >&2; touch /run/up; exec sleep 4321")).ok();
    let failed = shown.pyro(&service("t", "/run/never", "echo failed with $SAID; exit 4"));
    assert!(format!("{}{}", failed.text(), failed.stderr).contains("failed with [REDACTED]"), "{failed:?}");

    // What it looks like afterwards.
    for arguments in [
        &["workspace", "events", "w", "--json"][..],
        &["workspace", "logs", "w", "--json"],
        &["workspace", "logs", "w", "--sequence", "1"],
        &["workspace", "logs", "w", "--sequence", "1", "--json"],
        &["workspace", "logs", "w", "--network", "--json"],
        &["workspace", "service", "logs", "w", "s", "--all"],
        &["workspace", "service", "list", "w", "--json"],
        &["workspace", "service", "status", "w", "t", "--json"],
        &["workspace", "status", "w", "--json"],
        &["workspace", "summary", "w"],
        &["workspace", "diff", "w"],
        &["workspace", "list", "--json"],
        &["workspace", "snapshot", "create", "w", "disks", "--json"],
        &["workspace", "snapshot", "create", "w", "live", "--live", "--json"],
        &["workspace", "fork", "w", "--name", "fork", "--json"],
        &["system", "df", "--json"],
    ] {
        let output = shown.pyro(arguments).ok();
        match arguments[1..] {
            ["logs", _, "--network", ..] => {
                assert!(output.text().contains("[redacted].test") || output.text().contains("[REDACTED].test"), "{}", output.text())
            }
            ["service", "logs", ..] => assert_eq!(output.text(), "[REDACTED]\n[REDACTED]"),
            ["status", ..] => assert_eq!(output.json()["secrets"][0]["source_kind"], "literal", "{}", output.text()),
            _ => {}
        }
    }
    let export = home.path().join("exported");
    let _ = shown.pyro(&["workspace", "export", "w", ".", "--output", &export.to_string_lossy()]).ok();
    let _ = shown.pyro(&["workspace", "exec", "fork", "--secret-env", "SAID", "--", "sh", "-c", "echo $SAID"]).ok();
    let listed = shown.pyro(&["workspace", "snapshot", "list", "w", "--json"]).ok().json();
    assert_eq!(kinds_and_marks(&listed).iter().filter(|(_, marked)| *marked).count(), 1, "{listed}");
    assert!(
        listed["snapshots"].as_array().expect("a list").iter().any(|one| one["snapshot_name"] == "live" && one["may_hold_secrets"] == true)
    );
    shown.assert_holds_none(&either);

    // While it runs: processes, and the disk.
    either.assert_in_no_process_list(&home);
    let (supervisor, machine) = home.processes("w");
    for canary in [&said, &filed] {
        assert!(canary.is_in_memory_of(machine) && canary.is_in_memory_of(supervisor), "who looks for it finds it where it is");
    }
    for other in [&before, &after] {
        let (supervisor, machine) = home.processes(other);
        assert!(!either.is_in_memory_of(supervisor), "{other}'s supervisor has it");
        assert!(!either.is_in_memory_of(machine), "{other}'s machine has it");
    }
    let files = either.files_below(home.path());
    assert!(!files.is_empty(), "a live snapshot's memory has it, or looking for it shows nothing");
    for file in files {
        assert!(file.starts_with(home.dirs().checkpoints()), "it is in {}", file.display());
        assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600, "{}", file.display());
    }

    // Without the live snapshot and the machines nothing has it, and the offline disk does not show it either.
    for arguments in [
        &["workspace", "delete", "fork", "--force"][..],
        &["workspace", "snapshot", "delete", "w", "live"],
        &["workspace", "stop", "w", "--json"],
        &["workspace", "disk", "list", "w", "--recursive", "--json"],
        &["workspace", "status", "w", "--json"],
        &["workspace", "logs", "w", "--network"],
        &["workspace", "start", "w"],
    ] {
        let output = shown.pyro(arguments);
        assert_eq!(output.code, if arguments[1] == "start" { 67 } else { 0 }, "{arguments:?}: {output:?}");
    }
    let disk = home.path().join("disk");
    let _ = shown.pyro(&["workspace", "disk", "export", "w", "--output", &disk.to_string_lossy()]).ok();
    shown.assert_holds_none(&either);
    assert_eq!(either.files_below(home.path()), Vec::<std::path::PathBuf>::new());
    either.assert_in_no_process_list(&home);
    for workspace in ["w", "before", "after"] {
        let _ = home.pyro(&["workspace", "delete", workspace]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn no_process_that_has_a_secret_leaves_a_core_file() {
    let home = Home::new();
    let said = Canary::new();
    let file = file_of("unused");
    let _ = create_with_two(&home, &said, file.path(), &["--name", "w"]).ok();
    let (supervisor, machine) = home.processes("w");
    let limits = fs::read_to_string(format!("/proc/{machine}/limits")).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("Linux tells");
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    // As bad as it gets: somebody lets the supervisor leave core files.
    let here = tempfile::tempdir().expect("there is room");
    let mut other = std::process::Command::new("sleep").arg("1000").current_dir(here.path()).spawn().expect("sleep is there");
    let cores = |folder: &Path| {
        let names = fs::read_dir(folder).expect("readable").flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("core")).count()
    };
    let crashes_with_core = |pid: u32| {
        let folder = fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs");
        let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
        let known = cores(&folder);
        prlimit(Some(pid), Resource::Core, Rlimit { current: None, maximum: None }).expect("root may");
        kill_process(pid, Signal::ABORT).expect("it runs");
        (folder, known)
    };
    let _ = crashes_with_core(other.id());
    let _ = other.wait();
    let cores_are_left = fs::read_dir(here.path()).expect("readable").count() == 1;
    if !cores_are_left {
        println!("skipped in part: on this host no process leaves a core file in its folder");
    }
    let (folder, known) = crashes_with_core(supervisor);
    eventually("the machine ends with its supervisor", 20, || home.live_processes().is_empty());
    assert_eq!(cores(&folder), known, "there is a core file in {}", folder.display());
    assert_eq!(said.files_below(home.path()), Vec::<std::path::PathBuf>::new());
    let _ = home.pyro(&["workspace", "delete", "w"]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_secret_that_a_caller_writes_out_is_kept_out_of_what_stays() {
    let home = Home::new();
    let said = Canary::new();
    let file = file_of("unused");
    let _ = create_with_two(&home, &said, file.path(), &["--name", "w"]).ok();
    let (assignment, line) = (format!("X={}", said.text()), format!("echo {}; sleep 4321", said.text()));
    let mut shown = Shown { home: &home, said: Vec::new() };
    let _ = shown.pyro(&["workspace", "exec", "w", "--env", &assignment, "--", "sh", "-c", "echo $X"]).ok();
    let _ = shown.pyro(&["workspace", "exec", "w", "--detach", "--", "sh", "-c", &line]).ok();
    let _ = shown.pyro(&["workspace", "exec", "w", "--cwd", said.text(), "--", "true"]);
    let _ = shown.pyro(&["workspace", "exec", "w", "--user", said.text(), "--", "true"]);
    let _ = shown.pyro(&["workspace", "shell", "open", "w", "--command", &line]).ok();
    let _ = shown.pyro(&["workspace", "shell", "open", "w", "--cwd", said.text()]);
    // A service may have to be started again, by what the registry has of it.
    for arguments in [
        &["--", "sh", "-c", &line][..],
        &["--env", &assignment, "--", "sleep", "4321"],
        &["--", said.text()],
        &["--ready-command", &line, "--", "sleep", "4321"],
        &["--cwd", said.text(), "--", "sleep", "4321"],
    ] {
        let refused = shown.pyro(&[&["workspace", "service", "start", "w", "s"], arguments].concat());
        assert_fails(&refused, 64, &["`SAID`", "--secret-env SAID"]);
    }
    for arguments in [
        &["workspace", "events", "w", "--json"][..],
        &["workspace", "logs", "w", "--json"],
        &["workspace", "service", "list", "w", "--json"],
        &["workspace", "status", "w", "--json"],
        &["workspace", "shell", "list", "w", "--json"],
        &["workspace", "summary", "w"],
    ] {
        let _ = shown.pyro(arguments);
    }
    assert_eq!(said.files_below(home.path()), Vec::<std::path::PathBuf>::new());
    said.assert_in_no_process_list(&home);
    shown.assert_holds_none(&said);
    let _ = home.pyro(&["workspace", "delete", "w", "--force"]).ok();
    home.assert_nothing_left();
}

/// Asserts that commands get these values.
fn assert_has(home: &Home, workspace: &str, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        let same = format!("test \"$IT\" = '{value}' && test \"$(cat /run/pyro-secrets/{name})\" = '{value}'");
        let secret = format!("{name}=IT");
        let _ = home.pyro(&["workspace", "exec", workspace, "--secret-env", &secret, "--", "sh", "-c", &same]).ok();
    }
}

/// Asserts how a command fails: its kind's exit code, and words of its message and hint.
fn assert_fails(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    for word in words.iter().chain(&["error: ", "hint: "]) {
        assert!(output.stderr.contains(word), "`{word}` is not in: {}", output.stderr);
    }
}

#[test]
fn a_secret_comes_along_where_its_holder_lives_and_is_asked_for_where_not() {
    let home = Home::new();
    let said = Canary::new();
    let file = file_of("first\n");
    let _ = create_with_two(&home, &said, file.path(), &["--name", "w"]).ok();
    assert_has(&home, "w", &[("SAID", said.text()), ("FILED", "first")]);
    fs::write(file.path(), "second\n").expect("there is room");
    assert_has(&home, "w", &[("FILED", "first")]);
    let _ = home.pyro(&["workspace", "snapshot", "create", "w", "live", "--live"]).ok();
    let _ = home.pyro(&["workspace", "reset", "w"]).ok();
    assert_has(&home, "w", &[("SAID", said.text()), ("FILED", "second")]);
    fs::write(file.path(), "third").expect("there is room");
    let _ = home.pyro(&["workspace", "fork", "w", "--name", "f"]).ok();
    assert_has(&home, "f", &[("SAID", said.text())]);
    let _ = home.pyro(&["workspace", "reset", "w", "--snapshot", "live"]).ok();
    assert_has(&home, "w", &[("SAID", said.text())]);
    // Of a fork's fork, too.
    let _ = home.pyro(&["workspace", "fork", "f", "--name", "g"]).ok();
    let _ = home.pyro(&["workspace", "delete", "f"]).ok();
    assert_has(&home, "g", &[("SAID", said.text())]);
    let _ = home.pyro(&["workspace", "delete", "g"]).ok();

    let _ = home.pyro(&["workspace", "stop", "w"]).ok();
    let unavailable = |home: &Home| home.status("w")["secrets_unavailable"].clone();
    assert_eq!(unavailable(&home), serde_json::json!(["SAID"]));
    for verb in ["start", "reset", "fork"] {
        let refused = home.pyro(&["workspace", verb, "w"]);
        assert_fails(&refused, 67, &["SAID", "workspace start w --secret SAID"]);
        assert!(!refused.stderr.contains("FILED"), "{}", refused.stderr);
    }
    assert_fails(&home.pyro(&["workspace", "start", "w", "--secret", "NOPE=1"]), 65, &["NOPE"]);
    assert_fails(&home.pyro(&["workspace", "start", "w", "--secret", "SAID=x7q"]), 64, &["`SAID` is too short"]);
    assert_eq!(home.state("w"), "stopped");
    let _ = home.pyro(&["workspace", "start", "w", "--secret", "SAID=another"]).ok();
    assert_has(&home, "w", &[("SAID", "another"), ("FILED", "third")]);

    // Who held it was killed.
    home.kill_machines();
    assert_eq!(home.state("w"), "stopped");
    let refused = home.pyro(&["workspace", "start", "w", "--json"]);
    assert_eq!(refused.code, 67, "{refused:?}");
    assert_eq!(refused.json()["error"]["kind"], "wrong_state", "{refused:?}");
    fs::remove_file(file.path()).expect("it is there");
    let refused = home.pyro(&["workspace", "start", "w", "--secret", "SAID=fourth"]);
    assert!(refused.code == 74 && refused.stderr.contains(&*file.path().to_string_lossy()), "{refused:?}");
    let _ = home.pyro(&["workspace", "start", "w", "--secret", "SAID=fourth", "--secret", "FILED=said"]).ok();
    assert_has(&home, "w", &[("SAID", "fourth"), ("FILED", "said")]);
    let _ = home.pyro(&["workspace", "delete", "w"]).ok();
    home.assert_nothing_left();
}

#[test]
fn secrets_that_cannot_be_are_refused_and_leave_nothing() {
    let home = Home::new();
    let (long, binary) = (file_of(&"x".repeat((64 << 10) + 1)), file_of(""));
    fs::write(binary.path(), [0xff, 0xfe]).expect("there is room");
    let of = |file: &tempfile::NamedTempFile| format!("F={}", file.path().display());
    let (long, binary) = (of(&long), of(&binary));
    let many: Vec<String> = (0..65).map(|number| format!("S{number}=value-{number}")).collect();
    let many: Vec<&str> = many.iter().flat_map(|secret| ["--secret", secret]).collect();
    let all_but_one = &many[..128];
    for (arguments, code, words) in [
        (&["--secret", "NOWHERE"][..], 64, &["NOWHERE"][..]),
        (&["--secret", "A=1", "--secret-file", "A=/etc/hostname"], 64, &["`A`"]),
        (&["--secret-file", "A=/no/such/file"], 74, &["/no/such/file"]),
        (&["--secret-file", "A=/dev/zero"], 64, &["`A`"]),
        (&["--secret-file", &long], 64, &["`F`"]),
        (&["--secret-file", &binary], 64, &["`F`"]),
        (&many, 76, &["65", "64"]),
        (&["--secret", "A=1", "--secret-host", "api.test"], 64, &["--network-policy egress"]),
        (&["--secret", "A=1", "--secret-header", "X-Key"], 64, &["--secret-host"]),
        (&["--secret", "A=1", "--secret", "B=2", "--network-policy", "egress", "--secret-host", "api.test"], 64, &["--secret-host NAME"]),
        (&["--secret", "A=1", "--network-policy", "egress", "--secret-host", "C=api.test"], 65, &["`C`"]),
        (&["--secret", "A=one\ntwo", "--network-policy", "egress", "--secret-host", "api.test"], 64, &["`A`"]),
    ] {
        let refused = home.pyro(&[&["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB], arguments].concat());
        let first = arguments.iter().take(6).collect::<Vec<_>>();
        assert!(refused.code == code, "{first:?}: {} instead of {code}: {}", refused.code, refused.stderr);
        assert_fails(&refused, code, words);
    }
    // What stands in every line of output by chance is none, wherever it comes from. It is not repeated.
    let short = file_of("x7q\n");
    let short = of(&short);
    let variable = |value: &str| {
        let mut create = home.command(&["workspace", "create", ENVIRONMENT, "--secret", "MODE"]);
        finish(create.env("MODE", value).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pyro starts"))
    };
    for refused in [
        home.pyro(&["workspace", "create", ENVIRONMENT, "--secret", "MODE=x7q"]),
        home.pyro(&["workspace", "create", ENVIRONMENT, "--secret", "MODE=  x7q  "]),
        home.pyro(&["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB, "--secret-file", &short]),
        variable("x7q"),
        variable("        "),
    ] {
        assert_fails(&refused, 64, &["is too short: its value must have at least 4 bytes", "--env "]);
        assert!(!refused.stderr.contains("x7q"), "{}", refused.stderr);
    }
    // What is no secret at all is a mistake in the command line, which is not repeated.
    for secret in ["A=", "TO KEN=hunter2", "9=hunter2"] {
        let refused = home.pyro(&["workspace", "create", ENVIRONMENT, "--secret", secret]);
        assert!(refused.code == 64 && !refused.stderr.contains("hunter2"), "{refused:?}");
    }
    assert_eq!(home.registry().workspaces().expect("readable").len(), 0);
    home.assert_nothing_left();

    let w = home.create(all_but_one);
    assert_eq!(home.sh(&w, "ls /run/pyro-secrets | wc -l"), "64");
    let refused = home.pyro(&["workspace", "exec", &w, "--secret-env", "NOPE", "--", "true"]);
    assert!(
        refused.code == 125
            && refused.stderr.contains("has no secret `NOPE`")
            && refused.stderr.contains(&format!("pyro workspace status {w}")),
        "{refused:?}"
    );
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
