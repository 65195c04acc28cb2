//! The only printer. Data goes to standard output, everything else to standard error; nothing is coloured.

mod answers;
mod hosts;
mod live;
mod network;
mod plain;
mod processes;
mod progress;
mod table;
mod tools;
mod trees;

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use pyro_sdk::{CutOffApply, Error, ErrorKind, Observer};
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::{
    answers::{check_lines, command_line, disk_use, environment, environments, journal, pruned, settings, workspace, workspaces},
    hosts::{host_reports, host_snippets},
    live::{LiveOutput, Stream},
    network::{audit, network, network_fields, network_log},
    plain::{acts, plain, plain_lines},
    processes::{event, ports, ports_in_brief, service, services, shells},
    table::{bytes, duration},
    tools::tools,
    trees::{applied, diff_stat, files, forks, matches, patched, snapshots, summary},
};

/// A failure that can be told: what failed and why are its text and its sources.
pub(crate) trait Told: std::error::Error {
    fn kind(&self) -> ErrorKind;
    fn hint(&self) -> String;

    /// Returns the texts of the causes, outermost first.
    fn causes(&self) -> Vec<String> {
        std::iter::successors(self.source(), |cause| cause.source()).map(ToString::to_string).collect()
    }
}

impl Told for Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }

    fn hint(&self) -> String {
        self.hint()
    }
}

/// Prints, in the form the command was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a command's answer: one object, keys sorted, or `text`.
    pub(crate) fn answer<T: Serialize>(&self, answer: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        if self.json { self.content(&json_text(answer)) } else { self.content(&text(answer)) }
    }

    /// Prints one of many answers, as they come: an object on a line of its own, or `text`.
    pub(crate) fn line<T: Serialize>(&self, answer: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        if self.json { self.content(&json_line(answer)) } else { self.content(&text(answer)) }
    }

    /// Ends the line of what was printed, so that on a terminal the status line has one of its own.
    pub(crate) fn end_line(&self, text: &str) -> io::Result<()> {
        if !self.json && io::stdout().is_terminal() && !text.is_empty() && !text.ends_with('\n') { self.content("\n") } else { Ok(()) }
    }

    /// Shows text of the guest that says why something did not come out well.
    pub(crate) fn excerpt(&self, text: &str) {
        if !text.is_empty() {
            note(plain::plain_lines(text).trim_end());
        }
    }

    /// Prints content as it is.
    pub(crate) fn content(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            Stream::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Stream::Stderr => io::stderr().lock().write_all(bytes),
        }
    }

    /// Prints the one bracketed line that tells programs how a command ended. An object on standard output says it already.
    pub(crate) fn status(&self, name: &str, fields: &[(&str, Value)]) {
        if !self.json {
            note(&status_line(name, fields));
        }
    }

    /// Prints a failure in the form people read, or as an object.
    pub(crate) fn failure(&self, error: &impl Told) {
        if self.json {
            // Nobody is left to tell when this cannot be written.
            drop(self.content(&json_text(&failure_object(error))));
        } else {
            note(failure_text(error).trim_end());
        }
    }

    /// Prints something that did not stop the command.
    pub(crate) fn warning(&self, text: &str) {
        note(&format!("warning: {text}"));
    }

    /// Prints that a signal has ended the command, and what has become of what it was at.
    pub(crate) fn interrupted(&self, text: &str) {
        if self.json {
            drop(self.content(&json_text(&json!({ "error": { "kind": "interrupted", "message": text } }))));
        } else {
            note(text);
        }
    }

    /// Prints how much a comparison left out because it is ignored.
    pub(crate) fn ignored(&self, count: u64) {
        if count > 0 && !self.json {
            let files = if count == 1 { "1 ignored file was".to_owned() } else { format!("{count} ignored files were") };
            self.notice(&format!("{files} left out; `--include-ignored` shows them"));
        }
    }

    /// Prints that files of the user's were put back.
    pub(crate) fn put_back(&self, put_back: &CutOffApply) {
        if let Some(text) = self::put_back(put_back) {
            self.notice(&text);
        }
    }

    /// Prints something worth knowing.
    pub(crate) fn notice(&self, text: &str) {
        note(&format!("note: {text}"));
    }

    /// Prints a patch: as it is, for it must reach `git apply`, but safe where a terminal would act on what it holds.
    pub(crate) fn patch(&self, bytes: &[u8]) -> io::Result<()> {
        self.bytes(Stream::Stdout, &plain::patch(bytes, io::stdout().is_terminal()))
    }

    /// Prints a failure that standard output cannot carry, since it is what failed.
    pub(crate) fn output_failure(&self, error: &Error) {
        note(failure_text(error).trim_end());
    }

    /// Announces a bug.
    pub(crate) fn bug(&self, text: &str) -> ExitCode {
        note(&format!("error: {text}\n\nhint: {}", ErrorKind::Internal.hint()));
        ExitCode::from(ErrorKind::Internal.exit_code())
    }

    /// Prints help that was asked for.
    pub(crate) fn help(&self, text: &clap::builder::StyledStr) -> io::Result<()> {
        self.content(&text.to_string())
    }

    /// Prints what is wrong with a command line.
    pub(crate) fn usage(&self, text: &clap::builder::StyledStr) {
        note(text.to_string().trim_end());
    }

    /// Adds what a wrong command line may have meant.
    pub(crate) fn tip(&self, text: &str) {
        note(&format!("\n  tip: {text}"));
    }

    /// Makes an observer that shows progress: as a bar to a person, as lines to everyone else.
    pub(crate) fn observer(&self) -> Observer {
        progress::observer(io::stderr().is_terminal())
    }
}

/// Most files named that were left as they are.
const KEPT_NAMED: usize = 10;

/// Says that files of the user's were put back.
pub(crate) fn put_back(cut_off: &CutOffApply) -> Option<String> {
    let put_back = match cut_off {
        CutOffApply::PutBack(put_back) => put_back,
        CutOffApply::Stuck(why) => return Some(why.clone()),
    };
    let kept = match put_back.kept.as_slice() {
        [] => String::new(),
        kept => {
            let named = kept.iter().take(KEPT_NAMED).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
            let more = if kept.len() > KEPT_NAMED { format!(" and {} more", kept.len() - KEPT_NAMED) } else { String::new() };
            format!("; left as they are, since they were changed after that: {named}{more}")
        }
    };
    let files = match put_back.restored_count + put_back.removed_count {
        // It was cut off before its first change.
        0 if kept.is_empty() => return None,
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    Some(format!("restored {files} in `{}` that an interrupted apply had changed{kept}", put_back.target.display()))
}

/// Prints a line on standard error. When that is closed there is nobody to tell.
fn note(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Writes an object with its keys sorted.
pub(crate) fn json_text<T: Serialize>(value: &T) -> String {
    // Objects of `Value` keep their keys in a sorted map.
    let value =
        serde_json::to_value(value).unwrap_or_else(|error| json!({ "error": { "kind": "internal", "message": error.to_string() } }));
    format!("{value:#}\n")
}

/// Writes an object with its keys sorted on one line.
fn json_line<T: Serialize>(value: &T) -> String {
    let value =
        serde_json::to_value(value).unwrap_or_else(|error| json!({ "error": { "kind": "internal", "message": error.to_string() } }));
    format!("{value}\n")
}

/// Writes `[name] key=value …`.
pub(crate) fn status_line(name: &str, fields: &[(&str, Value)]) -> String {
    let mut line = format!("[{name}]");
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        line.push_str(&format!(" {key}={}", field(value)));
    }
    line
}

fn field(value: &Value) -> String {
    match value.as_str() {
        Some(text)
            if !text.is_empty()
                && text.chars().all(|character| !character.is_whitespace() && !character.is_control() && character != '"') =>
        {
            text.to_owned()
        }
        Some(_) | None => value.to_string(),
    }
}

/// Writes a failure in three parts: what failed, why, and what to type next.
pub(crate) fn failure_text(error: &impl Told) -> String {
    let mut text = format!("error: {}\n", one_line(error));
    for cause in error.causes() {
        let mut lines = cause.lines();
        text.push_str(&format!("  caused by: {}\n", lines.next().unwrap_or_default()));
        for line in lines {
            text.push_str(&format!("             {line}\n"));
        }
    }
    text.push_str(&format!("\nhint: {}\n", error.hint()));
    text
}

fn one_line(text: &impl Display) -> String {
    text.to_string().replace('\n', " ")
}

fn failure_object(error: &impl Told) -> Value {
    json!({ "error": { "kind": error.kind().code(), "message": error.to_string(), "causes": error.causes(), "hint": error.hint() } })
}

#[cfg(test)]
mod tests {
    use pyro_sdk::Failure;

    use super::*;
    use crate::cli::check_file;

    #[test]
    fn every_kind_of_failure_reads_well() {
        let mut text = String::new();
        for kind in ErrorKind::ALL {
            let failure = Failure {
                kind: kind.into(),
                message: format!("cannot start workspace `api` ({})", kind.code()),
                causes: vec!["first cause".into(), "second cause\nwith two lines".into()],
            };
            text.push_str(&format!("$ exit code {}\n{}\n", kind.exit_code(), failure_text(&Error::from(failure))));
        }
        text.push_str(&json_text(&failure_object(&Error::from(Failure::message(ErrorKind::NotFound, "there is no workspace `x`")))));
        check_file("crates/pyro/tests/snapshots/errors.txt", &text);
    }

    #[test]
    fn status_fields_are_words_or_quoted() {
        let fields =
            [("a", json!("plain")), ("b", json!("two words")), ("c", json!(3)), ("d", Value::Null), ("e", json!("")), ("f", json!(1.5))];
        assert_eq!(status_line("x", &fields), r#"[x] a=plain b="two words" c=3 e="" f=1.5"#);
    }

    #[test]
    fn object_has_sorted_keys() {
        #[derive(Serialize)]
        struct Answer {
            b: u8,
            a: u8,
        }
        assert_eq!(json_text(&Answer { b: 1, a: 2 }), "{\n  \"a\": 2,\n  \"b\": 1\n}\n");
    }
}
