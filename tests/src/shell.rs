//! Shells of a story, driven by the command line as an agent drives them.

use serde_json::Value;

use crate::Home;

/// Opens a shell and waits for its first prompt. Returns its id and where its output has come to.
#[must_use]
pub fn open_shell(home: &Home, workspace: &str, more: &[&str]) -> (String, u64) {
    let mut arguments = vec!["workspace", "shell", "open", workspace, "--id-only"];
    arguments.extend(more);
    let shell = home.pyro(&arguments).ok().text();
    let first = read_shell(home, workspace, &shell, 0, &["--wait-for-idle-ms", "5000"]);
    assert_eq!(first["wait"], "prompt", "{first}");
    let cursor = first["next_cursor"].as_u64().expect("an answer has a cursor");
    (shell, cursor)
}

/// Reads a shell's output from a cursor on.
#[must_use]
pub fn read_shell(home: &Home, workspace: &str, shell: &str, cursor: u64, more: &[&str]) -> Value {
    let cursor = cursor.to_string();
    let mut arguments = vec!["workspace", "shell", "read", workspace, shell, "--cursor", &cursor, "--json"];
    arguments.extend(more);
    home.pyro(&arguments).ok().json()
}

/// Types a line, waits until the prompt is back, and returns what a person would see from the prompt on.
#[must_use]
pub fn type_line(home: &Home, workspace: &str, shell: &str, line: &str) -> String {
    let from = write_shell(home, workspace, shell, line);
    let answer = read_shell(home, workspace, shell, from, &["--plain", "--wait-for-idle-ms", "10000"]);
    assert_eq!(answer["wait"], "prompt", "`{line}`: {answer}");
    answer["output"].as_str().expect("an answer has output").to_owned()
}

/// Types a line and returns where the output was before.
#[must_use]
pub fn write_shell(home: &Home, workspace: &str, shell: &str, line: &str) -> u64 {
    let answer = home.pyro(&["workspace", "shell", "write", workspace, shell, "--input", line, "--json"]).ok().json();
    answer["cursor"].as_u64().expect("an answer has a cursor")
}
