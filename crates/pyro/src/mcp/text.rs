//! The short text beside a structured answer: what a model needs to go on, at most about ten thousand tokens.

use serde_json::Value;

use super::tokens;
use crate::render::{acts, plain};

/// Tokens a text may cost by our estimate. It is made for prose and JSON; of digits and letters without sense it misses a fifth.
const TEXT_MAX_TOKENS: usize = 7_500;
/// Entries named that were left out.
const LEFT_OUT_NAMED: usize = 10;
/// Entries of a list that a text names.
const LIST_MAX: usize = 400;

/// Writes the text for a tool's answer.
pub(super) fn of(tool: &str, answer: &Value) -> String {
    let text = match tool {
        "vm_run" | "vm_exec" | "workspace_exec" | "workspace_exec_wait" => command(answer),
        "workspace_logs" => logs(answer),
        "workspace_summary" => string(answer, "markdown").to_owned(),
        "workspace_file_read" | "workspace_disk_read" => file(answer),
        "workspace_file_list" | "workspace_disk_list" => lines(answer, "entries", entry),
        "workspace_file_search" => {
            lines(answer, "matches", |found| format!("{}:{}: {}", name(found, "path"), found["line"], string(found, "text")))
        }
        "workspace_diff" => diff(answer),
        "workspace_create" | "workspace_status" | "workspace_update" | "workspace_reset" | "workspace_start" | "workspace_stop"
        | "vm_create" | "vm_start" | "vm_stop" | "vm_status" => status(answer),
        "workspace_list" => lines(answer, "workspaces", workspace),
        "workspace_fork" => lines(answer, "forks", workspace),
        "shell_read" => format!("{}\n[{}]", string(answer, "output"), brief(answer, &["output"])),
        "service_logs" => format!("{}\n[{}]", string(answer, "log"), brief(answer, &["log"])),
        "service_start" => match answer.get("log_tail").and_then(Value::as_str) {
            Some(log) => format!("{}\n{log}", brief(answer, &["log_tail"])),
            None => brief(answer, &[]),
        },
        _ if tool.ends_with("_list") => match answer.as_object().into_iter().flatten().find(|(_, value)| value.is_array()) {
            Some((field, _)) => lines(answer, field, |item| brief(item, &[])),
            None => brief(answer, &[]),
        },
        _ => brief(answer, &[]),
    };
    capped(&without_escapes(&text))
}

/// Takes out what only a terminal acts on, and characters that are not seen: a model pays for them, and they can hide what it is told.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                // A sequence with parameters ends with a letter or one of `@[\\]^_`{|}~`.
                Some('[') => while characters.next().is_some_and(|inner| !('@'..='~').contains(&inner)) {},
                // A title or a link ends with a bell, or with an escape and a backslash.
                Some(']') => {
                    while let Some(inner) = characters.next() {
                        match inner {
                            '\u{7}' => break,
                            '\u{1b}' => {
                                let _ = characters.next();
                                break;
                            }
                            '\n' => {
                                plain.push('\n');
                                break;
                            }
                            _ => {}
                        }
                    }
                }
                Some(_) | None => {}
            },
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => plain.push('\n'),
            '\n' | '\t' => plain.push(character),
            '\u{e0000}'..='\u{e007f}' => {}
            _ if acts(character) => {}
            _ => plain.push(character),
        }
    }
    plain
}

fn string<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Returns a name, which the guest may have chosen to look like several lines of ours.
fn name(value: &Value, field: &str) -> String {
    plain(string(value, field))
}

fn is_true(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or(false)
}

fn command(answer: &Value) -> String {
    let sequence = answer.get("sequence").map(|sequence| format!(", sequence {sequence}")).unwrap_or_default();
    let head = match (answer.get("exit_code"), string(answer, "state")) {
        (_, "running") => format!("[still running{sequence}]"),
        (Some(code), _) => {
            let timed_out = if is_true(answer, "timed_out") { ", timed out: raise timeout_seconds" } else { "" };
            let duration = answer.get("duration_ms").and_then(Value::as_f64).map(|ms| format!(", {ms:.0} ms")).unwrap_or_default();
            format!("[exit code {code}{timed_out}{duration}{sequence}]")
        }
        (None, _) => format!("[ended{sequence}]"),
    };
    let failure = answer.get("failure").and_then(Value::as_str).map(|failure| format!("\n{failure}")).unwrap_or_default();
    let mut text = format!("{head}{failure}\n{}", string(answer, "stdout"));
    let stderr = string(answer, "stderr");
    if !stderr.is_empty() {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("[stderr]\n{stderr}"));
    }
    if let Some(refused) = answer.get("network_refused").and_then(Value::as_array).filter(|refused| !refused.is_empty()) {
        let rules: Vec<String> = refused.iter().filter_map(Value::as_str).map(plain).collect();
        text.push_str(&format!("\n[the network of this workspace refused: {}; no retry helps until a rule allows it]", rules.join(" ")));
    }
    if is_true(answer, "truncated") {
        text.push_str("\n[output was left out; workspace_logs with this sequence and stdout_offset reads it]");
    }
    text
}

fn logs(answer: &Value) -> String {
    let mut text = lines(answer, "commands", |entry| {
        let end = entry.get("exit_code").map_or_else(|| string(entry, "state").to_owned(), |code| format!("exit {code}"));
        format!("#{} {end}: {}", entry["sequence"], words(entry))
    });
    if let Some(output) = answer.get("output") {
        text.push_str(&format!("\n{}", string(output, "stdout")));
        if !string(output, "stderr").is_empty() {
            text.push_str(&format!("\n[stderr]\n{}", string(output, "stderr")));
        }
        let next = [("stdout_offset", "stdout_next_offset"), ("stderr_offset", "stderr_next_offset")];
        for (field, next) in next.into_iter().filter_map(|(field, next)| Some((field, output.get(next)?))) {
            text.push_str(&format!("\n[goes on at {field} {next}]"));
        }
    }
    text
}

fn file(answer: &Value) -> String {
    let Some(content) = answer.get("content").and_then(Value::as_str) else {
        return format!("[{}; no text: look at it with a command, or export it]", brief(answer, &[]));
    };
    let size = &answer["size_bytes"];
    let offset = answer.get("offset").and_then(Value::as_u64).unwrap_or(0);
    if content.is_empty() && size.as_u64().is_some_and(|size| size > 0) {
        return format!("[nothing there; {size} bytes in all]");
    }
    // Only the head: the way to the rest is known.
    let shown = head(content);
    if shown.len() < content.len() {
        return format!("{shown}\n[{size} bytes in all; goes on at offset {}]", offset + shown.len() as u64);
    }
    match answer.get("next_offset") {
        Some(next) => format!("{content}\n[{size} bytes in all; goes on at offset {next}]"),
        None => content.to_owned(),
    }
}

fn entry(entry: &Value) -> String {
    match string(entry, "artifact_type") {
        "directory" => format!("{}/", name(entry, "path")),
        "symlink" => format!("{} -> {}", name(entry, "path"), name(entry, "link_target")),
        _ => format!("{} ({} bytes)", name(entry, "path"), entry["size_bytes"]),
    }
}

fn workspace(status: &Value) -> String {
    let name = status.get("name").and_then(Value::as_str).map(|name| format!(" {name}")).unwrap_or_default();
    format!("{}{name} {} {}", string(status, "workspace_id"), string(status, "state"), string(status, "environment"))
}

/// Writes what a model needs of a workspace to go on; the rest is in the structured answer.
fn status(answer: &Value) -> String {
    let mut text = workspace(answer);
    let mut add = |line: String| text.push_str(&format!("\n{line}"));
    if let Some(reason) = answer.get("stop_reason").and_then(Value::as_str) {
        add(format!("stopped because: {reason}"));
    }
    let seed = &answer["workspace_seed"];
    if let Some(path) = seed.get("seed_path").and_then(Value::as_str) {
        add(format!("/workspace began with {path}: {} entries, {} bytes", seed["entry_count"], seed["bytes_written"]));
    }
    if let Some(count) = answer.get("left_out_count").and_then(Value::as_u64).filter(|count| *count > 0) {
        let named = answer["left_out"].as_array().into_iter().flatten().take(LEFT_OUT_NAMED);
        let named = named.map(|entry| format!("{} ({})", name(entry, "path"), name(entry, "reason"))).collect::<Vec<_>>().join(", ");
        add(format!("{count} entries were left out: {named}"));
    }
    for note in answer.get("notes").and_then(Value::as_array).into_iter().flatten() {
        add(format!("note: {}: {}", name(note, "path"), string(note, "text")));
    }
    if let Some(last) = answer.get("last_command") {
        let end = last.get("exit_code").map_or_else(|| string(last, "state").to_owned(), |code| format!("exit {code}"));
        add(format!("last command: #{} {end}: {}", last["sequence"], words(last)));
    }
    for service in answer.get("services").and_then(Value::as_array).into_iter().flatten() {
        add(format!("service {}: {}", name(service, "service_name"), string(service, "state")));
    }
    for port in answer.get("published_ports").and_then(Value::as_array).into_iter().flatten() {
        add(format!("port {} is at {}:{}", port["guest_port"], string(port, "host"), port["host_port"]));
    }
    match answer.get("expires_at").and_then(Value::as_str) {
        Some(at) => add(format!("expires {at} if left alone")),
        None => add("does not expire while something runs".to_owned()),
    }
    text
}

/// Writes the arguments of a journal's entry.
fn words(entry: &Value) -> String {
    let words: Vec<&str> = entry["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    plain(&words.join(" "))
}

fn diff(answer: &Value) -> String {
    let ignored = match answer["ignored_count"].as_u64().unwrap_or(0) {
        0 => String::new(),
        count => format!("\n[{count} ignored new files left out; include_ignored shows them]"),
    };
    if !is_true(answer, "changed") {
        return format!("[nothing has changed]{ignored}");
    }
    let patch = string(answer, "patch");
    let entries = answer["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = entries.iter().take(LIST_MAX).map(|entry| format!("{} {}", string(entry, "change"), name(entry, "path")));
    let mut text = named.collect::<Vec<_>>().join("\n");
    if !patch.is_empty() {
        text.push_str(&format!("\n\n{patch}"));
    }
    text + &ignored
}

/// Writes a list, a line for each item.
fn lines(answer: &Value, field: &str, line: impl Fn(&Value) -> String) -> String {
    let items = answer.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "[none]".to_owned();
    }
    let mut text = items.iter().take(LIST_MAX).map(line).collect::<Vec<_>>().join("\n");
    if items.len() > LIST_MAX || is_true(answer, "truncated") {
        text.push_str("\n[there are more; narrow the request]");
    }
    text
}

/// Writes the plain fields of an answer on one line, and how many there are of the others.
fn brief(answer: &Value, without: &[&str]) -> String {
    let fields = answer.as_object().into_iter().flatten().filter(|(name, _)| !without.contains(&name.as_str()));
    let shown = fields.filter_map(|(name, value)| match value {
        Value::Null => None,
        Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(format!("{name}={}", plain(text))),
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => Some(format!("{name}={}", list(items))),
        Value::Object(map) if map.is_empty() => None,
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => Some(format!("{name}={value}")),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn list(items: &[Value]) -> String {
    let shown: Vec<String> = items.iter().take(20).map(|item| item.as_str().map_or_else(|| item.to_string(), plain)).collect();
    let more = if items.len() > shown.len() { format!(" and {} more", items.len() - shown.len()) } else { String::new() };
    format!("[{}{more}]", shown.join(", "))
}

/// Returns as much of a text, from its beginning, as may be told.
fn head(text: &str) -> &str {
    let mut bytes = text.len();
    while bytes > TEXT_MAX_TOKENS - 100 && tokens::estimate(&text[..bytes]) > TEXT_MAX_TOKENS - 100 {
        bytes = text.floor_char_boundary(bytes * 4 / 5);
    }
    &text[..bytes]
}

/// Keeps head and tail of a text that would cost too much.
pub(super) fn capped(text: &str) -> String {
    // No tokenizer makes more tokens than bytes, and few texts more than one for three bytes.
    if text.len() <= TEXT_MAX_TOKENS || tokens::estimate(text) <= TEXT_MAX_TOKENS {
        return text.to_owned();
    }
    let mut half_bytes = (TEXT_MAX_TOKENS * 2).min(text.len() / 2);
    loop {
        let (head, tail) = (&text[..text.floor_char_boundary(half_bytes)], &text[text.ceil_char_boundary(text.len() - half_bytes)..]);
        if half_bytes < 1024 || tokens::estimate(head) + tokens::estimate(tail) <= TEXT_MAX_TOKENS {
            let left_out = text.len() - head.len() - tail.len();
            return format!("{head}\n[… {left_out} bytes left out: ask for a part, by offset, lines, path or a smaller limit …]\n{tail}");
        }
        half_bytes = half_bytes * 4 / 5;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_text_keeps_its_ends_within_the_budget() {
        let tokenizer = tiktoken_rs::o200k_base().expect("its vocabulary is built in");
        for line in ["0123456789abcdef fedcba\n", "the quick brown fox, again\n", "漢字かな交じり文です\n", "{}[]();,.!?\"'\n"] {
            let text = format!("first\n{}last", line.repeat(60_000));
            let short = capped(&text);
            assert!(short.starts_with("first\n") && short.ends_with("last") && short.contains("bytes left out"));
            let tokens = tokenizer.encode_ordinary(&short).len();
            assert!(tokens <= 10_000, "{line:?}: {tokens}");
        }
        assert_eq!(capped("short"), "short");
    }

    #[test]
    fn escapes_and_unseen_characters_are_not_told() {
        let coloured = "\u{1b}[1;31mred\u{1b}[0m\u{1b}]0;title\u{7} a\u{1b}]8;;x\u{1b}\\link \u{202e}b\u{e0041}\r\n10%\r20%\ttab\u{1b}";
        assert_eq!(without_escapes(coloured), "red alink b\n10%\n20%\ttab");
    }

    #[test]
    fn long_file_is_read_on_where_its_text_ended() {
        let content = "a line of words\n".repeat(4096);
        let answer = json!({ "content": content, "size_bytes": 90_000, "offset": 1000, "next_offset": 66_536 });
        let text = of("workspace_file_read", &answer);
        let (shown, note) = text.rsplit_once("\n[").expect("a note");
        assert_eq!(note, format!("90000 bytes in all; goes on at offset {}]", 1000 + shown.len()));
        assert!(content.starts_with(shown) && shown.len() > 10_000, "{}", shown.len());
        let past = json!({ "content": "", "size_bytes": 5, "offset": 9 });
        assert_eq!(of("workspace_file_read", &past), "[nothing there; 5 bytes in all]");
    }

    #[test]
    fn workspace_is_told_in_the_few_words_that_matter() {
        let answer = json!({
            "workspace_id": "5bcd", "name": "w", "state": "running", "environment": "debian:12", "mem_mib": 256, "left_out_count": 2,
            "left_out": [{ "path": "big.iso", "reason": "too large" }, { "path": "sub", "reason": "a submodule" }],
            "notes": [{ "path": ".git", "text": "it is a partial clone" }],
            "workspace_seed": { "seed_path": "/p", "entry_count": 3, "bytes_written": 9 }, "expires_at": "T"
        });
        assert_eq!(
            of("workspace_create", &answer),
            "5bcd w running debian:12\n/workspace began with /p: 3 entries, 9 bytes\n2 entries were left out: big.iso (too large), sub (a \
             submodule)\nnote: .git: it is a partial clone\nexpires T if left alone"
        );
    }

    #[test]
    fn command_tells_how_it_ended_before_what_it_said() {
        let answer = json!({ "state": "exited", "exit_code": 1, "duration_ms": 41.2, "sequence": 3, "stdout": "out", "stderr": "err" });
        assert_eq!(of("workspace_exec", &answer), "[exit code 1, 41 ms, sequence 3]\nout\n[stderr]\nerr");
        let answer = json!({ "state": "running", "sequence": 4, "stdout": "", "stderr": "" });
        assert!(of("workspace_exec", &answer).starts_with("[still running, sequence 4]"));
    }
}
