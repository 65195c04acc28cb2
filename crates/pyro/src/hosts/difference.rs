//! Shows a change of text as a unified difference, for people: what looks like another server's secret beside it is not shown.

use std::{borrow::Cow, ops::Range};

use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

use crate::mcp::without_credentials;

/// Lines shown around a change.
const CONTEXT: u32 = 2;
/// A line up to which it is shown whole.
const LINE_MAX_BYTES: usize = 200;
/// Words in the name of what a shared screen, or a model that runs this command, should not be shown.
const SECRET_WORDS: [&str; 6] = ["TOKEN", "KEY", "SECRET", "PASSWORD", "AUTH", "BEARER"];

/// Writes the hunks that make `after` of `before`.
pub(super) fn difference(before: &str, after: &str) -> String {
    let input = InternedInput::new(before, after);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let hunks: Vec<Hunk> = diff.hunks().collect();
    let length = u32::try_from(input.before.len()).unwrap_or(u32::MAX);
    let line = |token: Option<&imara_diff::Token>| token.map_or("", |token| input.interner[*token]);
    let mut text = String::new();
    let mut write = |mark: char, line: &str| {
        text.push(mark);
        text.push_str(&without_credentials(line));
        if mark != '@' && !line.ends_with('\n') {
            text.push('\n');
        }
    };
    // Changes whose surroundings touch are shown together.
    for group in hunks.chunk_by(|one, next| next.before.start - one.before.end <= 2 * CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let lead = first.before.start.min(CONTEXT);
        let tail = (length - last.before.end).min(CONTEXT);
        let old = first.before.start - lead..last.before.end + tail;
        let new = first.after.start - lead..last.after.end + tail;
        write('@', &format!("@ -{} +{} @@\n", place(&old), place(&new)));
        let mut at = old.start;
        for hunk in group {
            (at..hunk.before.start).for_each(|position| write(' ', &without_secret(line(input.before.get(position as usize)))));
            let old: Vec<&str> = hunk.before.clone().map(|position| line(input.before.get(position as usize))).collect();
            let new: Vec<&str> = hunk.after.clone().map(|position| line(input.after.get(position as usize))).collect();
            old.iter().enumerate().for_each(|(index, line)| write('-', &changed(line, new.get(index).copied())));
            new.iter().enumerate().for_each(|(index, line)| write('+', &changed(line, old.get(index).copied())));
            at = hunk.before.end;
        }
        (at..old.end).for_each(|position| write(' ', &without_secret(line(input.before.get(position as usize)))));
    }
    text
}

fn place(lines: &Range<u32>) -> String {
    // Nothing has no first line: the one before it is named.
    let start = if lines.is_empty() { lines.start } else { lines.start + 1 };
    format!("{start},{}", lines.len())
}

/// Shows of a long line only what differs from the other one: a file of one line holds everything else, secrets included.
fn changed<'a>(line: &'a str, other: Option<&str>) -> Cow<'a, str> {
    let other = other.unwrap_or_default();
    if line.len().max(other.len()) <= LINE_MAX_BYTES {
        return line.into();
    }
    let start = line.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let (rest, of_other) = (&line.as_bytes()[start..], &other.as_bytes()[start..]);
    let end = rest.iter().rev().zip(of_other.iter().rev()).take_while(|(one, other)| one == other).count();
    let middle = String::from_utf8_lossy(&rest[..rest.len() - end]);
    format!("…{}…\n", middle.trim_end_matches('\n')).into()
}

/// Hides the value of a line whose name speaks of a secret.
fn without_secret(line: &str) -> String {
    let upper = line.to_ascii_uppercase();
    let secret = SECRET_WORDS.iter().any(|word| upper.contains(word));
    match line.find([':', '=']).filter(|_| secret) {
        Some(at) => format!("{} …\n", &line[..=at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_what_is_around_them() {
        assert_eq!(difference("a\n", "a\n"), "");
        assert_eq!(difference("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10";
        assert_eq!(
            difference(before, "1\n2\n3\nx\n5\n6\n7\n8\n9\n10\n"),
            "@@ -2,5 +2,5 @@\n 2\n 3\n-4\n+x\n 5\n 6\n@@ -8,3 +8,3 @@\n 8\n 9\n-10\n+10\n"
        );
    }

    #[test]
    fn of_a_file_of_one_line_only_the_change_is_shown() {
        let before = format!("{{\"token\":\"t0p\",\"x\":\"{}\"}}", "y".repeat(300));
        let after = before.replacen('{', "{\"new\":1,", 1);
        assert_eq!(difference(&before, &after), "@@ -1,1 +1,1 @@\n-……\n+…new\":1,\"…\n");
    }

    #[test]
    fn secrets_beside_a_change_are_hidden_and_the_change_is_not() {
        let before = "API_KEY: \"k\"\nold\n  auth_token = \"t\"\nbare KEY\n";
        assert_eq!(
            difference(before, &before.replace("old", "KEY: new")),
            "@@ -1,4 +1,4 @@\n API_KEY: …\n-old\n+KEY: new\n   auth_token = …\n bare KEY\n"
        );
    }
}
