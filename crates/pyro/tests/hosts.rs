//! `pyro host` from outside, on files in a home of each test's own. The hosts' programs themselves are in `tests/tests/hosts.rs`.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const HOSTS: [(&str, &str, &str); 6] = [
    ("claude-code", ".claude.json", ".mcp.json"),
    ("codex", ".codex/config.toml", ".codex/config.toml"),
    ("opencode", ".config/opencode/opencode.json", "opencode.json"),
    ("cursor", ".cursor/mcp.json", ".cursor/mcp.json"),
    ("vscode", ".config/Code/User/mcp.json", ".vscode/mcp.json"),
    ("gemini", ".gemini/settings.json", ".gemini/settings.json"),
];

/// A user with a home and a project.
struct User {
    home: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("the test can set itself up");
        fs::create_dir(home.path().join("project")).expect("writable");
        Self { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below home")).expect("writable");
        fs::write(path, text).expect("writable");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("it is there")
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pyro"));
        command.arg("host").args(arguments).env_clear().env("HOME", self.home.path()).envs(variables.iter().copied());
        command.current_dir(self.path("project")).stdin(Stdio::null()).output().expect("the binary was built")
    }

    /// Runs a command that succeeds, and returns its one object.
    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments = [arguments, &["--json"]].concat();
        let output = self.run(&arguments, &[]);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("one object")
    }

    fn transcript(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.run(arguments, variables);
        let home = self.home.path().to_string_lossy().into_owned();
        let redact = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace(env!("CARGO_BIN_EXE_pyro"), "/usr/bin/pyro").replace(&home, "HOME");
            text.split_inclusive('\n').map(without_stamp).collect::<String>()
        };
        let mut transcript = String::new();
        for (name, value) in variables {
            write!(transcript, "{name}={value} ").expect("memory");
        }
        writeln!(transcript, "$ pyro host {}", arguments.join(" ")).expect("memory");
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                write!(transcript, "--- {name}\n{}", redact(bytes)).expect("memory");
            }
        }
        writeln!(transcript, "--- exit code {}\n", output.status.code().unwrap_or(-1)).expect("memory");
        transcript
    }
}

/// Replaces the moment in a backup's name.
fn without_stamp(line: &str) -> String {
    const MARK: &str = ".pyro-backup-";
    let Some(at) = line.find(MARK) else { return line.to_owned() };
    let end =
        line[at + MARK.len()..].find(|character: char| !character.is_ascii_alphanumeric()).map_or(line.len(), |end| at + MARK.len() + end);
    format!("{}{MARK}STAMP{}", &line[..at], &line[end..])
}

#[test]
fn what_is_told_is_as_recorded() {
    let user = User::new();
    let mut text = String::new();
    for (host, ..) in HOSTS {
        text.push_str(&user.transcript(&["connect", host, "--no-verify"], &[]));
        text.push_str(&user.transcript(&["connect", host, "--no-verify", "--mode", "inspect"], &[("PYRO_HOME", "/srv/pyro")]));
        text.push_str(&user.transcript(&["connect", host, "--no-verify", "--mode", "inspect"], &[("PYRO_HOME", "/srv/pyro")]));
        text.push_str(&user.transcript(&["connect", host, "--no-verify", "--scope", "project", "--dry-run"], &[]));
        text.push_str(&user.transcript(&["disconnect", host], &[]));
        text.push_str(&user.transcript(&["print-config", host], &[]));
    }
    user.write(".cursor/mcp.json", "{\n  \"mcpServers\": {\n    \"pyro\": { \"command\": \"other\" },\n  },\n}\n");
    user.write(".gemini/settings.json", "{\n  \"theme\": 'x'\n}\n");
    for arguments in [
        &["connect", "cursor", "--no-verify", "--dry-run"][..],
        &["disconnect", "cursor"],
        &["repair", "cursor"],
        &["disconnect", "vscode"],
        &["connect", "gemini", "--no-verify"],
        &["doctor", "gemini"],
        &["doctor", "codex"],
        &["doctor"],
        &["connect", "codex", "--name", "two words"],
        &["connect", "codex", "--mode", "inspect", "--profile", "vm-run"],
        &["connect", "codex", "--repo-ref", "main"],
        &["connect", "emacs"],
    ] {
        text.push_str(&user.transcript(arguments, &[]));
    }
    text.push_str(&user.transcript(&["connect", "codex", "--no-verify"], &[("HOME", "")]));
    check_snapshot("hosts.txt", &text);
}

#[test]
fn second_connect_changes_nothing_and_leaves_no_backup() {
    let user = User::new();
    for (host, file, project) in HOSTS {
        for (scope, file) in [("user", file.to_owned()), ("project", format!("project/{project}"))] {
            let connect = ["connect", host, "--scope", scope, "--no-verify"];
            let first = user.json(&connect);
            assert_eq!((first["action"].as_str(), first["path"].as_str()), (Some("added"), user.path(&file).to_str()), "{host}");
            let written = user.read(&file);
            let second = user.json(&connect);
            assert_eq!(
                (second["action"].as_str(), second["diff"].as_str(), &second["backup"]),
                (Some("unchanged"), Some(""), &serde_json::Value::Null)
            );
            assert_eq!(user.read(&file), written);
            let file = user.path(&file);
            let backup = format!("{}.pyro-", file.file_name().and_then(|name| name.to_str()).expect("a name"));
            let beside = fs::read_dir(file.parent().expect("below home")).expect("readable").flatten();
            assert!(beside.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().starts_with(&backup)), "{host}");
            assert_eq!(user.json(&["disconnect", host, "--scope", scope])["action"], "removed");
        }
    }
}

#[test]
fn dry_run_writes_nothing() {
    let user = User::new();
    for (host, file, _) in HOSTS {
        let answer = user.json(&["connect", host, "--dry-run"]);
        assert!(answer["diff"].as_str().is_some_and(|diff| diff.contains("+++ ")) && answer["dry_run"] == true, "{answer}");
        assert!(!user.path(file).exists());
    }
}

#[test]
fn a_large_state_file_keeps_every_other_byte_and_its_backup_is_the_old_one() {
    let user = User::new();
    let (head, tail) = (
        "{\n  \"numStartups\": 12,\n",
        "  \"oauthAccount\": { \"accessToken\": \"very-secret\" },\n  \"cost\": 1.50e-3,\n  \"emoji\": \"\\ud83e\\udd80\"\n}",
    );
    let servers = "  \"mcpServers\": {\n    \"other\": { \"command\": \"x\" , \"env\":{\"API_KEY\":\"k-123\"} }\n  },\n";
    user.write(".claude.json", &format!("{head}{servers}{tail}"));
    let answer = user.json(&["connect", "claude-code", "--no-verify"]);
    let text = user.read(".claude.json");
    assert!(text.starts_with(head) && text.ends_with(tail), "{text}");
    assert!(text.contains("    \"other\": { \"command\": \"x\" , \"env\":{\"API_KEY\":\"k-123\"} },\n"), "{text}");
    let diff = answer["diff"].as_str().expect("a text");
    assert!(!diff.contains("very-secret"), "secrets around the change are not shown: {diff}");
    let backup = fs::read_to_string(answer["backup"].as_str().expect("it is named")).expect("it is there");
    assert_eq!(backup, format!("{head}{servers}{tail}"));
    let _ = user.json(&["disconnect", "claude-code"]);
    assert_eq!(user.read(".claude.json"), backup);
}

#[test]
fn an_invalid_file_is_named_with_its_place_and_not_touched() {
    let user = User::new();
    for (host, file, place) in [
        ("claude-code", ".claude.json", "line 2, column 3"),
        ("codex", ".codex/config.toml", "line 1, column 1"),
        ("opencode", ".config/opencode/opencode.json", "line 2"),
    ] {
        let text = if host == "opencode" { "{ // fine\n  \"a\": ,\n}" } else { "{\n  // not here\n}" };
        user.write(file, text);
        let output = user.run(&["connect", host, "--no-verify"], &[]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.contains(place) && told.contains(file) && told.contains("hint: correct the file"), "{told}");
        assert_eq!(user.read(file), text);
    }
}

#[test]
fn variables_of_the_hosts_move_their_files() {
    let user = User::new();
    let elsewhere = user.path("elsewhere");
    let elsewhere = elsewhere.to_str().expect("text");
    let file = format!("{elsewhere}/custom.json");
    for (host, variable, value, path) in [
        ("claude-code", "CLAUDE_CONFIG_DIR", elsewhere, "elsewhere/.claude.json"),
        ("codex", "CODEX_HOME", elsewhere, "elsewhere/config.toml"),
        ("opencode", "XDG_CONFIG_HOME", elsewhere, "elsewhere/opencode/opencode.json"),
        ("opencode", "OPENCODE_CONFIG", &file, "elsewhere/custom.json"),
        ("vscode", "XDG_CONFIG_HOME", elsewhere, "elsewhere/Code/User/mcp.json"),
        ("gemini", "GEMINI_CLI_HOME", elsewhere, "elsewhere/.gemini/settings.json"),
    ] {
        assert!(user.run(&["connect", host, "--no-verify"], &[(variable, value)]).status.success(), "{variable}");
        assert!(user.read(path).contains("\"pyro\"") || user.read(path).contains(".pyro]"), "{variable}");
    }
}

#[test]
fn opencode_is_written_where_and_how_it_is_already() {
    let user = User::new();
    user.write(".config/opencode/opencode.json", "{}");
    user.write(
        ".config/opencode/opencode.jsonc",
        "{\n  // newer\n  \"mcp\": { \"servers\": { \"x\": { \"type\": \"local\", \"command\": [\"y\"] } } }\n}\n",
    );
    let _ = user.json(&["connect", "opencode", "--no-verify"]);
    let text = user.read(".config/opencode/opencode.jsonc");
    assert!(text.contains("// newer") && !text.contains("enabled"), "{text}");
    assert_eq!(user.read(".config/opencode/opencode.json"), "{}");
    let servers = text.find("\"servers\"").expect("it is there");
    assert!(text.find("\"pyro\"").expect("it is there") > servers, "{text}");
    // An entry in the other file is found there.
    user.write(
        ".config/opencode/opencode.json",
        "{ \"mcp\": { \"old\": { \"type\": \"local\", \"command\": [\"/x/pyro\", \"mcp\", \"serve\"] } } }",
    );
    let answer = user.json(&["disconnect", "opencode", "--name", "old"]);
    assert!(answer["path"].as_str().is_some_and(|path| path.ends_with("opencode.json")), "{answer}");
}

#[test]
fn repair_mends_path_form_and_switch_and_keeps_what_the_user_added() {
    let user = User::new();
    let old = "{ \"mcp\": { \"pyro\": { \"type\": \"local\", \"command\": \"/gone/pyro\", \"args\": [\"mcp\", \"serve\", \"--profile\", \"vm-run\"], \"enabled\": false, \"timeout\": 9 } } }";
    user.write(".config/opencode/opencode.json", old);
    let report = user.run(&["doctor", "opencode", "--json"], &[]);
    assert_eq!(report.status.code(), Some(71));
    let answer = user.json(&["repair", "opencode", "--dry-run"]);
    assert_eq!((answer["action"].as_str(), user.read(".config/opencode/opencode.json").as_str()), (Some("updated"), old));
    let _ = user.run(&["repair", "opencode"], &[]);
    let text = user.read(".config/opencode/opencode.json");
    let entry: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let entry = &entry["mcp"]["pyro"];
    assert_eq!(entry["command"], serde_json::json!([env!("CARGO_BIN_EXE_pyro"), "mcp", "serve", "--profile", "vm-run"]));
    assert_eq!((&entry["enabled"], &entry["timeout"], entry.get("args")), (&true.into(), &9.into(), None));
}

#[test]
fn a_link_keeps_leading_to_the_dotfiles() {
    let user = User::new();
    user.write("dotfiles/config.toml", "# mine\nmodel = \"o\"\n");
    fs::create_dir(user.path(".codex")).expect("writable");
    std::os::unix::fs::symlink("../dotfiles/config.toml", user.path(".codex/config.toml")).expect("writable");
    let _ = user.json(&["connect", "codex", "--no-verify"]);
    assert!(fs::symlink_metadata(user.path(".codex/config.toml")).expect("it is there").is_symlink());
    assert!(user.read("dotfiles/config.toml").starts_with("# mine\nmodel = \"o\"\n\n[mcp_servers.pyro]\n"));
}

#[test]
fn a_server_that_does_not_start_is_not_written() {
    let user = User::new();
    // A project that is not there: the server ends before it answers.
    let output = user.run(&["connect", "codex", "--json", "--project-path", "/no/such"], &[]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert!(!output.status.success() && told["error"]["hint"].as_str().is_some_and(|hint| hint.contains("--no-verify")), "{told}");
    assert!(!user.path(".codex").exists());
}

fn check_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    #[expect(clippy::disallowed_methods, reason = "a test's switch, not the product's")]
    if std::env::var_os("PYRO_UPDATE").is_some() {
        fs::write(&path, text).expect("the test can set itself up");
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    let differs = recorded.lines().zip(text.lines()).find(|(recorded, found)| recorded != found);
    assert!(recorded == text, "{} is stale: {differs:?}\nregenerate: PYRO_UPDATE=1 cargo test -p pyro", path.display());
}
