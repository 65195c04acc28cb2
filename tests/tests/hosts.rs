//! The hosts' own programs, with what `pyro host connect` wrote for them. They run offline, in a home of each test's own.
//!
//! `script/install-test-clients` brings them. No guest is started: a server's list of tools needs none.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use pyro_tests::{Output, binary, finish};

/// A user with a home, a project and the hosts' programs on `PATH`.
struct User {
    folder: tempfile::TempDir,
    path: String,
}

impl User {
    fn new() -> Self {
        let binary = binary();
        let programs = binary.ancestors().map(|folder| folder.join("host-programs")).find(|folder| folder.join("installed").exists());
        let programs = programs.expect("the hosts' programs are installed: run `script/install-test-clients`");
        let path = format!("{}:/usr/bin:/bin", programs.join("bin").display());
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("project")).expect("writable");
        Self { folder, path }
    }

    fn home(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, mut command: Command) -> Output {
        command.env("HOME", self.home()).env("PATH", &self.path).env("NO_COLOR", "1").current_dir(self.home().join("project"));
        finish(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
    }

    /// Runs `pyro host …`.
    fn pyro(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.env_clear().env("PYRO_HOME", self.home().join("pyro")).arg("host").args(arguments);
        self.run(command)
    }

    /// Runs a host's program, and returns what it printed on both streams.
    fn host(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        // Started anew, so that it hands down nothing the entry does not.
        command.env_clear().args(arguments);
        // None of them may look for news or send any.
        command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1").env("OPENCODE_DISABLE_AUTOUPDATE", "1");
        let output = self.run(command);
        format!("{}\n{}", output.text(), output.stderr)
    }

    /// Connects, connects again, and lets `pyro host doctor` look.
    fn connect(&self, host: &str) {
        let first = self.pyro(&["connect", host, "--json"]).ok().json();
        assert_eq!(first["action"], "added");
        assert!(first["tool_count"].as_u64().is_some_and(|count| count > 0), "the server was started and answered: {first}");
        let second = self.pyro(&["connect", host, "--json"]).ok().json();
        assert_eq!(second["action"], "unchanged");
        let report = self.pyro(&["doctor", host, "--json"]).ok().json();
        let report = &report["hosts"][0];
        assert_eq!((&report["state"], &report["tool_count"]), (&"ready".into(), &first["tool_count"]), "{report}");
        let checks = report["checks"].as_array().expect("a list");
        assert!(checks.iter().all(|check| check["status"] == "ok"), "{report}");
    }

    fn disconnect(&self, host: &str) {
        let _ = self.pyro(&["disconnect", host]).ok();
    }
}

fn line<'a>(text: &'a str, word: &str) -> &'a str {
    text.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no `{word}` in {text}"))
}

#[test]
fn claude_code_starts_the_server_and_keeps_its_file() {
    let user = User::new();
    user.connect("claude-code");
    let listed = user.host("claude", &["mcp", "list"]);
    assert!(line(&listed, "pyro: ").contains("Connected"), "{listed}");
    // It has written its own state into the same file by now; both stay.
    let state = std::fs::read_to_string(user.home().join(".claude.json")).expect("it is there");
    assert!(state.contains("firstStartTime") && state.contains("workspace-core"), "{state}");
    user.disconnect("claude-code");
    let state = std::fs::read_to_string(user.home().join(".claude.json")).expect("it is there");
    assert!(state.contains("firstStartTime") && !state.contains("workspace-core"), "{state}");
    assert!(!user.host("claude", &["mcp", "list"]).contains("pyro: "));
}

#[test]
fn claude_code_asks_before_it_starts_a_projects_server() {
    let user = User::new();
    let told = user.pyro(&["connect", "claude-code", "--scope", "project"]).ok();
    assert!(told.stderr.contains("asks each user once"), "{}", told.stderr);
    let listed = user.host("claude", &["mcp", "list"]);
    assert!(line(&listed, "pyro: ").contains("Pending approval"), "{listed}");
}

#[test]
fn codex_knows_the_server() {
    let user = User::new();
    user.connect("codex");
    let listed = user.host("codex", &["mcp", "list"]);
    assert!(line(&listed, "mcp serve").contains("enabled"), "{listed}");
    let entry = user.host("codex", &["mcp", "get", "pyro"]);
    assert!(entry.contains("startup_timeout_sec: 20") && entry.contains("tool_timeout_sec: 600"), "{entry}");
    user.disconnect("codex");
    assert!(user.host("codex", &["mcp", "list"]).contains("No MCP servers"));
}

#[test]
fn opencode_starts_the_server_in_both_forms() {
    let user = User::new();
    user.connect("opencode");
    let listed = user.host("opencode", &["mcp", "list"]);
    assert!(line(&listed, "pyro").contains("connected"), "{listed}");
    let file = user.home().join(".config/opencode/opencode.json");
    std::fs::write(&file, "{ \"mcp\": { \"servers\": {} } }").expect("writable");
    user.connect("opencode");
    assert!(!std::fs::read_to_string(&file).expect("it is there").contains("enabled"), "the second form has no such key");
    let listed = user.host("opencode", &["mcp", "list"]);
    assert!(line(&listed, "pyro").contains("connected"), "{listed}");
}

#[test]
fn gemini_starts_the_server_in_a_folder_that_is_trusted() {
    let user = User::new();
    user.connect("gemini");
    let listed = user.host("gemini", &["mcp", "list"]);
    assert!(line(&listed, "pyro: ").contains("Disabled") && listed.contains("untrusted"), "{listed}");
    let folder = std::fs::canonicalize(user.home().join("project")).expect("it is there");
    let trusted = serde_json::json!({ folder.to_string_lossy(): "TRUST_FOLDER" });
    std::fs::write(user.home().join(".gemini/trustedFolders.json"), trusted.to_string()).expect("writable");
    let listed = user.host("gemini", &["mcp", "list"]);
    assert!(line(&listed, "pyro: ").contains("Connected"), "{listed}");
}
