//! Formats that are not unified diffs, told by what is typical of them, so that a refusal can name them.
//!
//! Some are recognized wherever they stand, because their change would be lost among the prose of a patch. Others look like prose and are
//! told only of a text without any patch in it.

use crate::path::printable;

/// Lines of a hunk looked at to tell a word diff.
const WORDS_LOOKED_AT: usize = 1000;

/// A format that is not a unified diff.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// `diff --cc`, `@@@`.
    #[error("this is a combined diff of a merge, which compares with several parents and cannot be applied")]
    Combined,
    /// `***` and `---` with stars.
    #[error("this is a context diff, not a unified diff")]
    Context,
    /// `1c1`.
    #[error("this is a diff in the normal format, which does not name files")]
    Normal,
    /// `1c` and a dot.
    #[error("this is an ed script, not a unified diff")]
    Ed,
    /// `[-old-]{+new+}`.
    #[error("this is a word diff, in which lines have no marks")]
    Words,
    /// With escapes.
    #[error("the patch contains color escapes")]
    Colored,
    /// `file | 2 +-`.
    #[error("this is a summary of changes (as `--stat` or `--name-status` prints it), not the changes themselves")]
    Summary,
    /// `*** Begin Patch`.
    #[error("this is the `apply_patch` format, not a unified diff")]
    ApplyPatch,
    /// `<<<<<<< SEARCH`.
    #[error("these are search and replace blocks, not a unified diff")]
    SearchReplace,
    /// A mail that was not decoded.
    #[error("the mail is encoded as {0}; a patch in it can only be read once it is decoded")]
    Encoded(String),
    /// UTF-16.
    #[error("the patch is UTF-16 text")]
    Utf16,
}

impl Foreign {
    /// Says what to send instead.
    pub(super) const fn hint(&self) -> &'static str {
        match self {
            Self::Combined => "make a patch against one parent: `git diff HEAD^1 HEAD` for the merge `HEAD`",
            Self::Context => "make it with `diff -u` instead of `diff -c`",
            Self::Normal | Self::Ed => "make it with `diff -u OLD NEW`",
            Self::Words => "make it without `--word-diff`",
            Self::Colored => "make it with `--no-color`",
            Self::Summary => "make it without the flag that asks for a summary, or add `-p` to that command",
            Self::ApplyPatch => {
                "write it as a unified diff: `--- a/PATH` and `+++ b/PATH` for each file, then `@@ -LINE,COUNT +LINE,COUNT @@` and the lines"
            }
            Self::SearchReplace => {
                "write it as a unified diff, or make each replacement with `pyro workspace file replace WORKSPACE PATH --old TEXT --new TEXT`"
            }
            Self::Encoded(_) => "decode it first: `git mailinfo MESSAGE PATCH < MAIL` writes the patch of one mail into the file PATCH",
            Self::Utf16 => "send it as UTF-8; PowerShell's `>` writes UTF-16, `git diff --output=FILE` does not",
        }
    }
}

/// Recognizes a format whose change would otherwise pass for prose.
pub(super) fn in_prose(lines: &[&[u8]], at: usize) -> Option<Foreign> {
    let (line, next) = (lines[at], lines.get(at + 1));
    let stars = |at: usize| lines.get(at).is_some_and(|line| line.starts_with(b"***************"));
    let begins = |prefix: &str| line.starts_with(prefix.as_bytes());
    let next_begins = |prefix: &str| next.is_some_and(|next| next.starts_with(prefix.as_bytes()));
    if begins("diff --cc ") || begins("diff --combined ") || begins("@@@ -") {
        Some(Foreign::Combined)
    } else if begins("*** Begin Patch") || begins("*** Update File: ") || begins("*** Add File: ") || begins("*** Delete File: ") {
        Some(Foreign::ApplyPatch)
    } else if begins("<<<<<<< SEARCH") {
        Some(Foreign::SearchReplace)
    } else if begins("*** ") && next_begins("--- ") && stars(at + 2) || stars(at) && next_begins("*** ") {
        Some(Foreign::Context)
    } else if is_normal_command(line, b"acd", true) && (next_begins("< ") || next_begins("> ")) {
        Some(Foreign::Normal)
    } else {
        None
    }
}

/// Recognizes a word diff by the lines of a hunk, which may go on behind other hunks and files.
pub(super) fn is_word_diff(lines: &[&[u8]]) -> bool {
    let is_word = |line: &&[u8]| {
        let has = |part: &[u8]| line.windows(2).any(|window| window == part);
        **line == *b"~" || has(b"[-") && has(b"-]") || has(b"{+") && has(b"+}")
    };
    lines.iter().take(WORDS_LOOKED_AT).take_while(|line| !line.starts_with(b"@@") && !line.starts_with(b"diff ")).any(is_word)
}

/// Returns whether a line is a header behind color escapes.
pub(super) fn is_colored_header(line: &[u8]) -> bool {
    let mut rest = line;
    while let Some(inner) = rest.strip_prefix(b"\x1b[") {
        let Some(end) = inner.iter().position(|byte| !byte.is_ascii_digit() && *byte != b';') else { return false };
        rest = &inner[end + 1..];
    }
    let headers: [&[u8]; 4] = [b"diff --git ", b"--- ", b"+++ ", b"@@ -"];
    rest.len() < line.len() && headers.iter().any(|header| rest.starts_with(header))
}

/// Names the format of a text in which there is no patch; returns the line that shows it.
pub(super) fn of_text(lines: &[&[u8]]) -> Option<(usize, Foreign)> {
    let first = lines.iter().position(|line| !line.is_empty())?;
    if is_normal_command(lines[first], b"acd", false) {
        return Some((first, Foreign::Ed));
    }
    lines.iter().position(|line| is_summary(line)).map(|at| (at, Foreign::Summary))
}

/// Returns whether a line is `1c1`, `2,3d1` or, without `both`, `1c`.
fn is_normal_command(line: &[u8], commands: &[u8], both: bool) -> bool {
    let range = |text: &[u8]| {
        let mut numbers = text.splitn(2, |byte| *byte == b',');
        numbers.all(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
    };
    let Some(at) = line.iter().position(|byte| commands.contains(byte)) else { return false };
    let (old, new) = (&line[..at], &line[at + 1..]);
    range(old) && if both { range(new) } else { new.is_empty() }
}

/// Returns whether a line is one of `--stat`, `--numstat`, `--name-status` or `--raw`.
fn is_summary(line: &[u8]) -> bool {
    let text = printable(line);
    let text = text.trim();
    let stat = text.rsplit_once(" | ").is_some_and(|(_, amount)| {
        let amount = amount.trim_start();
        let rest = amount.trim_start_matches(|character: char| character.is_ascii_digit());
        amount.starts_with("Bin ") || rest.len() < amount.len() && rest.trim_matches([' ', '+', '-']).is_empty()
    });
    let total = text.contains(" changed, ") && (text.contains(" insertion") || text.contains(" deletion"));
    let mut columns = line.split(|byte| *byte == b'\t');
    let (first, second) = (columns.next().unwrap_or_default(), columns.next());
    let number = |text: &[u8]| !text.is_empty() && (text == b"-" || text.iter().all(u8::is_ascii_digit));
    let status =
        |text: &[u8]| text.split_first().is_some_and(|(letter, rest)| b"ACDMRTU".contains(letter) && rest.iter().all(u8::is_ascii_digit));
    let raw = first.starts_with(b":") && first.rsplit(|byte| *byte == b' ').next().is_some_and(status);
    stat || total || second.is_some() && (number(first) && columns.next().is_some() || status(first) || raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_and_scripts_are_recognized() {
        for line in [
            " f | 2 +-",
            " a/b => c |   0",
            " x.png | Bin 0 -> 4 bytes",
            " 2 files changed, 3 insertions(+)",
            "1\t2\tf",
            "-\t-\tx.png",
            "M\tf",
            "R100\ta\tb",
            ":100644 100644 bcd1234 0123456 M\tf",
        ] {
            assert!(is_summary(line.as_bytes()), "{line}");
        }
        for line in ["text", "a | b", "1 2", "Mf", "one\ttwo"] {
            assert!(!is_summary(line.as_bytes()), "{line}");
        }
        assert!(
            is_normal_command(b"1c1", b"acd", true)
                && is_normal_command(b"1,2d0", b"acd", true)
                && is_normal_command(b"7,9c", b"acd", false)
        );
        assert!(
            !is_normal_command(b"c1", b"acd", true) && !is_normal_command(b"1x1", b"acd", true) && !is_normal_command(b"abc", b"acd", true)
        );
        assert!(
            is_colored_header(b"\x1b[1mdiff --git a/f b/f\x1b[m")
                && !is_colored_header(b"\x1b[1mtitle")
                && !is_colored_header(b"diff --git a b")
        );
    }
}
