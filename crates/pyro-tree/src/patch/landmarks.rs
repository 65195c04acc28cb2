//! Lines that show where something of a patch begins or ends: headers of files and commits, signatures, fences, what comparisons mention.
//!
//! Each is held against the lines beside it. A context line that lost its blank can look like many of them (`diff = a - b`, a fence in a
//! Markdown file), and whoever takes it for one loses the rest of its hunk.

/// Shortest line, in bytes, that says a line has no line break: it is translated, but never as short as a mark by accident.
const NO_NEWLINE_MIN_BYTES: usize = 11;

/// What prose said about what ends a hunk in it.
#[derive(Debug, Default)]
pub(super) struct Surroundings<'a> {
    /// What the parts of mails are separated by.
    pub(super) boundaries: Vec<&'a [u8]>,
    /// The code fence that is open.
    pub(super) fence: Option<&'a [u8]>,
}

/// What a comparison mentions without holding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mention {
    /// A file that one side does not have.
    OneSide,
    /// One side is a link, or both are.
    Kind,
    /// Binary files that differ.
    Binary,
    /// Properties of Subversion, which look like hunks.
    Properties,
    /// A submodule, as `git diff --submodule=log` shows it.
    Submodule,
}

fn begins(lines: &[&[u8]], at: usize, prefix: &str) -> bool {
    lines.get(at).is_some_and(|line| line.starts_with(prefix.as_bytes()))
}

pub(super) fn says_no_newline(line: &[u8]) -> bool {
    line.starts_with(b"\\ ") && line.len() >= NO_NEWLINE_MIN_BYTES
}

/// Returns whether a line can stand in a hunk.
pub(super) fn is_marked(line: &[u8]) -> bool {
    matches!(line.first(), None | Some(b' ' | b'+' | b'-')) || says_no_newline(line)
}

/// Returns whether `lines[at]` is the first line of a file header without `diff --git`.
pub(super) fn is_file_header(lines: &[&[u8]], at: usize) -> bool {
    begins(lines, at, "--- ") && begins(lines, at + 1, "+++ ")
}

/// Returns whether a mail's signature begins at `lines[at]`: `-- ` and the version of Git.
///
/// Where the counts of a hunk are filled it may be anybody's, as long as it cannot be mistaken for changes.
pub(super) fn is_signature(lines: &[&[u8]], at: usize, anybodys: bool) -> bool {
    if !matches!(lines[at], b"-- " | b"--") {
        return false;
    }
    let Some(first) = lines.get(at + 1).filter(|line| !line.is_empty() && !is_marked(line)) else { return false };
    let (number, rest) = first.split_at(first.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(first.len()));
    let is_version = !number.is_empty() && rest.first() == Some(&b'.') && rest.get(1).is_some_and(u8::is_ascii_digit);
    if is_version && (lines.get(at + 2).is_none_or(|line| line.is_empty()) || begins_commit(lines, at + 2)) {
        return true;
    }
    let mut paragraph = lines[at + 1..].iter().take_while(|line| !line.is_empty());
    anybodys && paragraph.all(|line| !is_marked(line) && !line.starts_with(b"@@") && !line.starts_with(b"\\"))
}

/// Returns whether a commit begins at `lines[at]`: in a mailbox, or in what `git log`, `git show` and `hg export` print.
pub(super) fn begins_commit(lines: &[&[u8]], at: usize) -> bool {
    let Some(line) = lines.get(at) else { return false };
    let id = |text: &[u8]| {
        let id = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        (7..=64).contains(&id.len()) && id.iter().all(u8::is_ascii_hexdigit)
    };
    let next = |prefixes: &[&str]| prefixes.iter().any(|prefix| begins(lines, at + 1, prefix));
    let mail = line.strip_prefix(b"From ").is_some_and(|rest| rest.len() > 40 && id(rest))
        && next(&["From: ", "Date: ", "Subject: ", "Content-", "MIME-"]);
    let log = line.strip_prefix(b"commit ").is_some_and(id) && next(&["Author: ", "Merge: ", "tree "]);
    mail || log || *line == b"# HG changeset patch" && next(&["# "])
}

/// Returns whether `lines[at]` is the command of a comparison, as `diff -r` prints it above each file.
fn is_command(lines: &[&[u8]], at: usize) -> bool {
    let option = lines[at].strip_prefix(b"diff -").and_then(<[u8]>::first).is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
    let next = at + 1;
    option
        && (lines.get(next).is_none_or(|line| line.is_empty())
            || begins(lines, next, "diff -")
            || is_file_header(lines, next)
            || is_git_header(lines, next))
}

/// Returns whether `lines[at]` stands below `diff --git`.
fn is_git_header(lines: &[&[u8]], at: usize) -> bool {
    ["index ", "old mode ", "new file mode ", "deleted file mode ", "similarity index ", "dissimilarity index "]
        .iter()
        .any(|prefix| begins(lines, at, prefix))
}

/// Returns whether `lines[at]` is above the header of a file in Subversion, CVS or quilt.
fn is_index(lines: &[&[u8]], at: usize) -> bool {
    begins(lines, at, "Index: ") && begins(lines, at + 1, "====")
}

/// Returns whether `lines[at]` is the header of a file or a hunk, but for blanks or quotation marks in front of it.
pub(super) fn is_hidden_header(lines: &[&[u8]], at: usize) -> bool {
    let bare = |at: usize| {
        let line: &[u8] = lines.get(at).copied().unwrap_or_default();
        let text = line.trim_ascii_start();
        let text = text.strip_prefix(b">").or_else(|| text.strip_prefix(b"|")).unwrap_or(text).trim_ascii_start();
        (text.len() < line.len()).then_some(text)
    };
    let begins = |at: usize, prefix: &str| bare(at).is_some_and(|text| text.starts_with(prefix.as_bytes()));
    begins(at, "diff --git ") || begins(at, "--- ") && begins(at + 1, "+++ ") || begins(at, "@@ -")
}

/// Returns the file whose changes `Index: ` announces at `lines[at]`, if the patch ends there.
pub(super) fn cut_off_index<'a>(lines: &[&'a [u8]], at: usize) -> Option<&'a [u8]> {
    let name = lines[at].strip_prefix(b"Index: ")?;
    let mut rest = lines[at + 1..].iter().skip_while(|line| line.starts_with(b"===="));
    rest.all(|line| line.trim_ascii().is_empty()).then_some(name)
}

/// Returns the file that the command of a comparison names at `lines[at]`, if nothing about it follows.
pub(super) fn lone_command<'a>(lines: &[&'a [u8]], at: usize) -> Option<&'a [u8]> {
    let next = at + 1;
    let lone = lines.get(next).is_none_or(|line| line.is_empty()) || begins(lines, next, "diff -");
    // Git's own has lines below it, and is read elsewhere.
    let name = lines[at].rsplit(|byte| *byte == b' ').next().filter(|name| !name.is_empty())?;
    (lone && is_command(lines, at)).then_some(name)
}

/// Returns the fence of a line that begins or ends a block of code: three or more of its characters.
pub(super) fn fence(line: &[u8]) -> Option<&[u8]> {
    let first = *line.first().filter(|first| matches!(first, b'`' | b'~'))?;
    let length = line.iter().take_while(|byte| **byte == first).count();
    (length >= 3).then(|| &line[..length])
}

impl Surroundings<'_> {
    /// Returns whether a line ends the block of code that is open.
    pub(super) fn closes_fence(&self, line: &[u8]) -> bool {
        let closing = fence(line).filter(|fence| line[fence.len()..].trim_ascii().is_empty());
        matches!((self.fence, closing), (Some(open), Some(closing)) if closing.starts_with(open))
    }

    /// Returns whether a line is one of those that separate the parts of a mail.
    pub(super) fn is_boundary(&self, line: &[u8]) -> bool {
        let name = line.strip_prefix(b"--").map(|name| name.strip_suffix(b"--").unwrap_or(name));
        name.is_some_and(|name| self.boundaries.contains(&name))
    }

    /// Returns whether what stands at `lines[at]` has nothing to do with the hunk before it.
    pub(super) fn is_landmark(&self, lines: &[&[u8]], at: usize) -> bool {
        begins(lines, at, "@@")
            || begins(lines, at, "diff --git ")
            || is_file_header(lines, at)
            || is_signature(lines, at, false)
            || begins_commit(lines, at)
            || is_command(lines, at)
            || is_index(lines, at)
            || self.closes_fence(lines[at])
            || mention(lines, at).is_some()
    }
}

/// Reads what a comparison mentions without holding it.
pub(super) fn mention(lines: &[&[u8]], at: usize) -> Option<(Vec<u8>, Mention)> {
    let line = lines[at];
    let find = |text: &[u8], wanted: &[u8]| text.windows(wanted.len()).position(|window| window == wanted);
    if let Some(rest) = line.strip_prefix(b"Only in ") {
        let colon = find(rest, b": ")?;
        return Some(([&rest[..colon], b"/", &rest[colon + 2..]].concat(), Mention::OneSide));
    }
    let names = line.strip_prefix(b"Symbolic links ").and_then(|rest| rest.strip_suffix(b" differ"));
    if let Some((names, and)) = names.and_then(|names| Some((names, find(names, b" and ")?))) {
        return Some((names[and + 5..].to_vec(), Mention::Kind));
    }
    if let Some(rest) = line.strip_prefix(b"File ").filter(|rest| find(rest, b" while file ").is_some()) {
        let name = &rest[find(rest, b" while file ")? + 12..];
        return Some((name[..find(name, b" is a ").unwrap_or(name.len())].to_vec(), Mention::Kind));
    }
    let differ = line.strip_prefix(b"Binary files ").or_else(|| line.strip_prefix(b"Files "));
    if let Some(names) = differ.and_then(|rest| rest.strip_suffix(b" differ")) {
        let and = find(names, b" and ")?;
        return Some((names[and + 5..].to_vec(), Mention::Binary));
    }
    if let Some(name) = line.strip_prefix(b"Property changes on: ").filter(|_| begins(lines, at + 1, "____")) {
        return Some((name.to_vec(), Mention::Properties));
    }
    let rest = line.strip_prefix(b"Submodule ")?;
    let said = [" contains modified content", " contains untracked content"].into_iter().find_map(|end| rest.strip_suffix(end.as_bytes()));
    let name = said.or_else(|| {
        let commits = find(rest, b"..")?;
        let name = &rest[..rest[..commits].iter().rposition(|byte| *byte == b' ')?];
        rest.last().is_some_and(|last| matches!(last, b':' | b')')).then_some(name)
    })?;
    Some((name.to_vec(), Mention::Submodule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_only_look_like_landmarks_are_none() {
        let is = |text: &str, fence: Option<&'static [u8]>| {
            let lines: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
            Surroundings { fence, ..Surroundings::default() }.is_landmark(&lines, 0)
        };
        for text in [
            "diff = a - b",
            "diff -= 1",
            "diff -u",
            "diff -x - y\n+z",
            "Index: 3\n+x",
            "From here on",
            "commit 1234567\n+x",
            "commit early",
            "File a",
            "Files are read",
            "Only in theory",
            "```",
            "~~~",
            "--\n+x",
            "-- \nx",
            "--\n2.39.2\n+x",
            "Submodule x",
            "From 0123456789012345678901234567890123456789 to\n+x",
        ] {
            assert_eq!(is(text, None), text == "diff -u", "{text}");
        }
        assert!(
            is("```", Some(b"```"))
                && is("````  ", Some(b"```"))
                && !is("```", Some(b"````"))
                && !is("```diff", Some(b"```"))
                && !is("~~~", Some(b"```"))
        );
        for text in [
            "diff --git a/f b/f",
            "diff -ru a b\n--- a\n+++ b",
            "diff -ruN a b\ndiff -ruN c d",
            "Index: f\n=====",
            "commit 1234567\nAuthor: T",
            "commit 1234567 (HEAD)\nMerge: 1 2",
            "Only in a: b",
            "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: T",
            "-- \n2.39.2",
            "--\n2.39.2 (Apple Git-143)\n",
            "Submodule x 1234567..89abcde:",
        ] {
            assert!(is(text, None), "{text}");
        }
    }
}
