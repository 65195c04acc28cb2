//! The binary from outside: exit code, standard output and standard error of what needs no guest.

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Runs `pyro` with a home of its own and nothing else in its environment.
fn pyro(home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pyro"));
    command.args(arguments).env_clear().env("PYRO_HOME", home).envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().expect("the binary was built")
}

fn transcript(home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = pyro(home, arguments, variables);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&*home.to_string_lossy(), "HOME");
    let mut transcript = String::new();
    for (name, value) in variables {
        write!(transcript, "{name}={value} ").expect("the test can set itself up");
    }
    writeln!(transcript, "$ pyro {}", arguments.join(" ")).expect("the test can set itself up");
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            write!(transcript, "--- {name}\n{}", text(bytes)).expect("the test can set itself up");
        }
    }
    writeln!(transcript, "--- exit code {}\n", output.status.code().unwrap_or(-1)).expect("the test can set itself up");
    transcript
}

#[test]
fn answers_without_a_guest_are_as_recorded() {
    let home = tempfile::tempdir().expect("the test can set itself up");
    let config = home.path().join("config");
    let mut text = String::new();
    for arguments in [
        &["--version"][..],
        &["version", "--json"],
        &[],
        &["nonsense"],
        &["workspace"],
        &["workspace", "list"],
        &["workspace", "list", "--json"],
        &["workspace", "status", "api"],
        &["workspace", "status", "api", "--json"],
        &["workspace", "status", "two words"],
        &["workspace", "delete", "api"],
        &["workspace", "create", "debian:99"],
        &["workspace", "create", "debian:12", "--disk-gib", "300"],
        &["workspace", "create", "debian:12", "--disk-gib", "0", "--json"],
        &["workspace", "create", "debian:12", "--name", "Not-A-Name"],
        &["workspace", "create", "debian:12", "--label", "novalue"],
        &["workspace", "create", "debian:12", "--ttl-seconds", "59"],
        &["workspace", "create", "debian:12", "--on-expire", "explode"],
        &["workspace", "create"],
        &["workspace", "exec", "api", "--", "true"],
        &["workspace", "exec", "api", "--json", "--", "true"],
        &["workspace", "exec", "api", "--timeout-seconds", "90000", "--", "true"],
        &["workspace", "exec", "api"],
        &["workspace", "exec-kill", "api", "1", "--signal", "NONE"],
        &["workspace", "logs", "api"],
        &["workspace", "update", "api", "--clear-name", "--name", "x"],
        &["workspace", "create", "debian:12", "--no-git"],
        &["workspace", "file", "read", "api", "/etc/passwd"],
        &["workspace", "file", "read", "api", "src/../../etc/passwd", "--json"],
        &["workspace", "file", "read", "api", "a.txt", "--lines", "5:2"],
        &["workspace", "file", "read", "api", "a.txt", "--max-bytes", "1048577"],
        &["workspace", "file", "list", "api", "--glob", "a{"],
        &["workspace", "file", "write", "api", "a.txt"],
        &["workspace", "file", "write", "api", "a.txt", "--text-file", "/no/such/file"],
        &["workspace", "patch", "apply", "api", "--patch", "x", "--patch-file", "y"],
        &["workspace", "sync", "push", "api", ".", "--dest", "/tmp"],
        &["workspace", "diff", "api"],
        &["workspace", "apply", "api", "--undo", "--dry-run"],
        &["workspace", "reset", "api", "--snapshot", "two words"],
        &["workspace", "fork", "api", "--count", "101"],
        &["workspace", "disk", "list", "api"],
        &["workspace", "shell"],
        &["workspace", "shell", "list", "api"],
        &["workspace", "shell", "open", "api", "--cols", "501"],
        &["workspace", "shell", "open", "api", "--rows", "4", "--json"],
        &["workspace", "shell", "read", "api", "one"],
        &["workspace", "shell", "read", "api", "sh1", "--wait-for-idle-ms", "5"],
        &["workspace", "shell", "write", "api", "sh1"],
        &["workspace", "shell", "signal", "api", "sh1", "--signal", "STOP"],
        &["workspace", "service"],
        &["workspace", "service", "start", "api", "web"],
        &["workspace", "service", "start", "api", "two words", "--", "true"],
        &["workspace", "service", "start", "api", "web", "--ready-tcp", "80", "--ready-file", "x", "--", "true"],
        &["workspace", "service", "start", "api", "web", "--ready-tcp", "localhost", "--", "true"],
        &["workspace", "service", "start", "api", "web", "--ready-http", "https://localhost/", "--", "true"],
        &["workspace", "service", "start", "api", "web", "--ready-http", "localhost:80", "--", "true", "--json"],
        &["workspace", "service", "start", "api", "web", "--publish", "127.0.0.1:80:80", "--", "true"],
        &["workspace", "service", "logs", "api", "web", "--all", "--tail-lines", "5"],
        &["workspace", "service", "logs", "api", "web", "--follow", "--json"],
        &["workspace", "port", "publish", "api", "0"],
        &["workspace", "port", "list", "api"],
        &["workspace", "events", "api", "--limit", "10001"],
        &["workspace", "events", "api", "--follow"],
        &["workspace", "create", "debian:12", "--network-policy", "everything"],
        &["workspace", "create", "debian:12", "--allow-host", "api.example.com"],
        &["workspace", "create", "debian:12", "--network-policy", "egress", "--allow-host", "https://example.com"],
        &["workspace", "create", "debian:12", "--network-policy", "egress", "--allow-group", "nobody"],
        &["workspace", "create", "debian:12", "--secret", "A=1", "--secret", "A=2"],
        &["workspace", "create", "debian:12", "--secret", "TOKEN"],
        &["workspace", "network", "allow", "api"],
        &["audit", "verify"],
        &["run", "debian:99", "--", "true"],
        &["env", "inspect", "debian:12"],
        &["env", "prune"],
        &["system", "df"],
        &["system", "prune", "--all", "--dry-run", "--json"],
        &["config", "show"],
        &["--accelerator", "tcg", "config", "show", "--json"],
        &["--accelerator", "gpu", "config", "show"],
    ] {
        text.push_str(&transcript(home.path(), arguments, &[]));
    }
    std::fs::create_dir_all(&config).expect("the test can set itself up");
    std::fs::write(config.join("config.toml"), "standby = 3\n").expect("the test can set itself up");
    text.push_str(&transcript(home.path(), &["config", "show"], &[("PYRO_ACCELERATOR", "tcg")]));
    text.push_str(&transcript(home.path(), &["config", "show"], &[("PYRO_STANDBY", "lots")]));
    std::fs::write(config.join("config.toml"), "standby = 3\nstandbye = 4\n").expect("the test can set itself up");
    text.push_str(&transcript(home.path(), &["workspace", "list"], &[]));
    text.push_str(&transcript(home.path(), &["workspace", "list", "--json"], &[]));
    check_snapshot("cli.txt", &text);
}

#[test]
fn without_a_home_the_error_says_what_to_set() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pyro")).args(["workspace", "list"]).env_clear().output().expect("the test can set itself up");
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("hint: set `PYRO_HOME` to a folder of your own"));
}

#[test]
fn json_has_sorted_keys() {
    let home = tempfile::tempdir().expect("the test can set itself up");
    let output = pyro(home.path(), &["env", "list", "--json"], &[]);
    let text = String::from_utf8(output.stdout).expect("the test can set itself up");
    let keys: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("      \"")).filter_map(|line| line.split('"').next()).collect();
    assert!(keys.contains(&"available"), "{text}");
    for environment in keys.chunk_by(|a, b| a < b) {
        assert_eq!(environment.first(), Some(&"available"), "keys are sorted within each object");
    }
}

#[test]
fn closed_standard_output_is_no_crash() {
    let home = tempfile::tempdir().expect("the test can set itself up");
    let (reader, writer) = std::io::pipe().expect("the test can set itself up");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_pyro"))
        .args(["config", "show"])
        .env_clear()
        .env("PYRO_HOME", home.path())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test can set itself up")
        .wait_with_output()
        .expect("the test can set itself up");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(141), ""));
}

#[test]
fn completions_and_manual_are_generated() {
    let home = tempfile::tempdir().expect("the test can set itself up");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = pyro(home.path(), &["completions", shell], &[]);
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("exec-wait"), "{shell}");
    }
    let output = pyro(home.path(), &["man"], &[]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with(".ie"), "a roff page");
    let folder = home.path().join("man");
    std::fs::create_dir(&folder).expect("the test can set itself up");
    assert!(pyro(home.path(), &["man", "--output", &folder.to_string_lossy()], &[]).status.success());
    assert!(folder.join("pyro-workspace-exec.1").is_file());
}

#[test]
fn host_compat_runs_on_the_host_and_says_so() {
    let home = tempfile::tempdir().expect("the test can set itself up");
    // A QEMU that is not there: the one failure that is the same on every host and needs no environment to be built first.
    let arguments = ["run", "debian:12", "--allow-host-compat", "--json", "--", "sh", "-c", "echo out; exit 7"];
    let output = pyro(home.path(), &arguments, &[("PYRO_QEMU", "/no/such/qemu")]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(
        (output.status.code(), answer["stdout"].as_str(), answer["execution_mode"].as_str()),
        (Some(7), Some("out\n"), Some("host_compat"))
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: the command runs on this host"));
}

fn check_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    #[expect(clippy::disallowed_methods, reason = "a test's switch, not the product's")]
    if std::env::var_os("PYRO_UPDATE").is_some() {
        std::fs::write(&path, text).expect("the test can set itself up");
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = recorded.lines().zip(text.lines()).find(|(recorded, found)| recorded != found);
    assert!(recorded == text, "{} is stale: {differs:?}\nregenerate: PYRO_UPDATE=1 cargo test -p pyro", path.display());
}
