//! What a pane of text shows: a workspace's journal with the newest command's output, or a service's log, made plain.

use pyro_sdk::{
    Pyro, Result,
    contract::{Logs, ServiceLogs},
    limits::{MaxOutputBytes, TailCount, TailLines},
};

use super::state::Target;
use crate::render::{journal, plain_lines};

/// Width of a tab stop.
const TAB: usize = 8;

/// Reads the lines of a pane.
pub(super) async fn read(pyro: &Pyro, target: &Target) -> Result<Vec<String>> {
    let workspace = target.workspace_id.parse::<pyro_sdk::text::WorkspaceReference>()?;
    let Some(service) = &target.service else { return read_journal(pyro, workspace).await };
    let request = ServiceLogs {
        workspace,
        name: service.parse()?,
        tail_lines: TailLines::default(),
        all: false,
        cursor: None,
        max_output_bytes: MaxOutputBytes::default(),
    };
    Ok(readable(&pyro.service_logs(&request).await?.log))
}

async fn read_journal(pyro: &Pyro, workspace: pyro_sdk::text::WorkspaceReference) -> Result<Vec<String>> {
    let mut request = Logs {
        workspace,
        sequence: None,
        tail: TailCount::default(),
        stdout_offset: None,
        stderr_offset: None,
        network: false,
        after: None,
        max_output_bytes: MaxOutputBytes::default(),
    };
    let answer = pyro.logs(request.clone()).await?;
    let mut lines: Vec<String> = journal(&answer).lines().map(ToOwned::to_owned).collect();
    let Some(newest) = answer.commands.iter().map(|command| command.sequence).max() else {
        return Ok(vec!["no commands so far".to_owned()]);
    };
    request.sequence = Some(newest);
    let output = pyro.logs(request).await?.output.unwrap_or_default();
    for (name, text) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
        if !text.is_empty() {
            lines.extend([String::new(), format!("── {name} of #{newest} ──")]);
            lines.extend(readable(text));
        }
    }
    Ok(lines)
}

/// Makes lines of what a program wrote for a terminal: without its escapes, and of a line written over again the last form.
fn readable(text: &str) -> Vec<String> {
    let text = without_escapes(text);
    let plain = plain_lines(&text.replace("\r\n", "\n").replace('\r', "\u{0}"));
    plain.lines().map(|line| expand(line.trim_end_matches('\u{fffd}').rsplit('\u{fffd}').next().unwrap_or_default())).collect()
}

/// Takes sequences of ECMA-48 away: `ESC [ … letter`, strings as `ESC ] … BEL`, and `ESC` with what belongs to it.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        let mut characters = after.chars();
        rest = match characters.next() {
            Some('[') => after[1..].find(|character| ('@'..='~').contains(&character)).map_or("", |end| &after[end + 2..]),
            Some(']' | 'P' | '_' | '^') => {
                let string = after.find(['\u{7}', '\u{1b}']).map_or("", |end| &after[end..]);
                string.strip_prefix('\u{7}').unwrap_or(string)
            }
            Some('(' | ')' | '#') => after.get(2..).unwrap_or_default(),
            Some(_) => characters.as_str(),
            None => "",
        };
    }
    plain.push_str(rest);
    plain
}

fn expand(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut column = 0;
    for character in line.chars() {
        if character == '\t' {
            let width = TAB - column % TAB;
            text.extend(std::iter::repeat_n(' ', width));
            column += width;
        } else {
            text.push(character);
            column += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, lines: &[&str]) {
        assert_eq!(readable(text), lines, "{text:?}");
    }

    #[test]
    fn lines_are_what_a_terminal_would_show_of_them() {
        check("a\tb\r\n\x1b[1;31mred\x1b[0m\n", &["a       b", "red"]);
        check("10 %\r50 %\r100 %\ndone", &["100 %", "done"]);
        check("10 %\r50 %\r", &["50 %"]);
        check("\x1b]0;title\x07x\x1b]8;;http://a\x1b\\link\x1b(B", &["xlink"]);
        check("cut \x1b[3", &["cut "]);
        check("bell\u{7}", &["bell"]);
    }
}
