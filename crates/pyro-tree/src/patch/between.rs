//! What stands between the files of a patch: prose, mails, what a comparison only mentions, and changes that would be lost there.
//!
//! Git reads over all of it. We do not where it can be part of a change: a hunk or a header line in the wrong place, a format that is not
//! a unified diff, and lines with marks behind text that follows a hunk, for that text may be a context line without its blank.

use super::{Left, SyntaxProblem, foreign, foreign::Foreign, header, hunk, hunk::Problem};
use crate::path::printable_cut;

/// Most separators of mails that are known at once.
const BOUNDARIES_MAX: usize = 1000;
/// Longest name shown, in bytes.
const SHOWN_MAX_BYTES: usize = 200;

/// What was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that goes on: prose may say what it likes.
    Anything,
    /// A hunk that ended at this line.
    Hunk(usize),
    /// Text at once after a hunk, which may be a line of it.
    TextAtOnce,
    /// Text after a hunk and a blank line, with list items of these kinds in it.
    Text { minus: bool, plus: bool },
}

/// Reads what is not part of a file.
#[derive(Debug)]
pub(super) struct Between<'a> {
    before: Before,
    /// A commit begins with the next file.
    pub(super) begins_commit: bool,
    /// The mail says how its text is encoded, and that was looked at.
    encoding_seen: bool,
    /// What the parts of mails are separated by.
    pub(super) boundaries: Vec<&'a [u8]>,
    /// What was mentioned first, and why that is no patch.
    pub(super) mentioned: Option<Problem>,
    pub(super) left_out: Left,
}

impl<'a> Between<'a> {
    pub(super) fn new() -> Self {
        Self {
            before: Before::Anything,
            begins_commit: false,
            encoding_seen: false,
            boundaries: Vec::new(),
            mentioned: None,
            left_out: Left::default(),
        }
    }

    /// A file ended before line `at`, with a hunk or without.
    pub(super) fn file_ended(&mut self, at: usize, with_hunk: bool) {
        self.begins_commit = false;
        self.before = if with_hunk { Before::Hunk(at) } else { Before::Anything };
    }

    /// Reads over `lines[at]`.
    pub(super) fn line(&mut self, lines: &[&'a [u8]], at: usize) -> Result<(), Problem> {
        let (line, next) = (lines[at], lines.get(at + 1).copied());
        if let Some(format) = foreign::in_prose(lines, at) {
            return Err((at, SyntaxProblem::Foreign(format)));
        }
        if line.starts_with(b"@@") && matches!(line.get(2), None | Some(b' ')) {
            return Err((at, SyntaxProblem::NoHeader));
        }
        if is_header_line(line, next) {
            return Err((at, SyntaxProblem::Orphan));
        }
        if header::begins_commit(line) {
            (self.begins_commit, self.encoding_seen, self.before) = (true, false, Before::Anything);
        }
        if let Some((path, mention)) = mention(line) {
            let shown = printable_cut(&path, SHOWN_MAX_BYTES);
            let (problem, reason) = match mention {
                Mention::OneSide => {
                    (Some(SyntaxProblem::Mentioned(shown)), "exists on one side of the comparison only, and the patch does not contain it")
                }
                Mention::Kind => (Some(SyntaxProblem::Mentioned(shown)), "is or was a link, and the patch does not contain that"),
                Mention::Binary => (Some(SyntaxProblem::BinaryNamed(shown)), "is binary, and the patch does not contain its content"),
                Mention::Properties => (None, "has Subversion properties, which are not applied"),
                Mention::Submodule => (None, SUBMODULE),
            };
            self.mentioned = self.mentioned.take().or(problem.map(|problem| (at, problem)));
            self.left_out.add(&path, reason);
            self.before = Before::Anything;
        }
        if let Some(boundary) =
            boundary(line).filter(|boundary| self.boundaries.len() < BOUNDARIES_MAX && !self.boundaries.contains(boundary))
        {
            self.boundaries.push(boundary);
        }
        self.encoding(lines, at)?;
        self.stray(lines, at).map_err(|problem| (at, problem))
    }

    /// Refuses a mail whose patch cannot be seen before it is decoded.
    fn encoding(&mut self, lines: &[&[u8]], at: usize) -> Result<(), Problem> {
        let Some(encoding) = encoding(lines[at]).filter(|_| !self.encoding_seen) else { return Ok(()) };
        self.encoding_seen = true;
        let length = lines[at + 1..].iter().take_while(|line| !header::begins_commit(line)).count();
        let mail = &lines[at + 1..at + 1 + length];
        let encoded = match encoding {
            "quoted-printable" => mail.iter().any(|line| is_quoted_printable(line)),
            // What can be read was decoded by somebody who left the header.
            _ => !(0..mail.len()).any(|at| mail[at].starts_with(b"diff --git ") || hunk::is_file_header(mail, at)),
        };
        if encoded { Err((at, SyntaxProblem::Foreign(Foreign::Encoded(encoding.to_owned())))) } else { Ok(()) }
    }

    fn stray(&mut self, lines: &[&[u8]], at: usize) -> Result<(), SyntaxProblem> {
        let line = lines[at];
        let (minus, plus) = (line.starts_with(b"-"), line.starts_with(b"+"));
        let ends = line.starts_with(b"```") || line.starts_with(b"~~~") || line.starts_with(b"diff ") || line.starts_with(b"Index: ");
        if ends || hunk::is_signature(lines, at, true) || hunk::is_boundary(line, &self.boundaries) {
            self.before = Before::Anything;
            return Ok(());
        }
        match self.before {
            Before::Anything => {}
            Before::Hunk(end) if line.starts_with(b" ") => self.before = Before::Hunk(if end == at { at + 1 } else { end }),
            Before::Hunk(_) if line.is_empty() => {}
            Before::Hunk(end) => {
                self.before = if end == at { Before::TextAtOnce } else { Before::Text { minus: false, plus: false } };
                return self.stray(lines, at);
            }
            Before::TextAtOnce if minus || plus => return Err(SyntaxProblem::Stray),
            // A list has one kind of bullet, a blank and then a word. A rule has only dashes.
            Before::Text { minus: minus_seen, plus: plus_seen } if minus || plus => {
                let item = line.get(1) == Some(&b' ') && line.get(2).is_some_and(|byte| !byte.is_ascii_whitespace());
                let rule = line.len() >= 3 && line.iter().all(|byte| *byte == b'-');
                let both = minus && plus_seen || plus && minus_seen;
                if !rule && (!item || both) {
                    return Err(SyntaxProblem::Stray);
                }
                self.before = Before::Text { minus: minus_seen || minus && !rule, plus: plus_seen || plus };
            }
            Before::TextAtOnce | Before::Text { .. } => {}
        }
        Ok(())
    }
}

/// Returns whether a line belongs to the header of a file, and nothing else looks like that.
fn is_header_line(line: &[u8], next: Option<&[u8]>) -> bool {
    let mode = |prefix: &str| {
        line.strip_prefix(prefix.as_bytes()).is_some_and(|mode| mode.len() == 6 && mode.iter().all(|digit| (b'0'..=b'7').contains(digit)))
    };
    let percent = |prefix: &str| line.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.ends_with(b"%") && rest.len() <= 4);
    let moved = |from: &str, to: &str| line.starts_with(from.as_bytes()) && next.is_some_and(|next| next.starts_with(to.as_bytes()));
    ["old mode ", "new mode ", "new file mode ", "deleted file mode "].into_iter().any(mode)
        || ["similarity index ", "dissimilarity index "].into_iter().any(percent)
        || moved("rename from ", "rename to ")
        || moved("copy from ", "copy to ")
        || line == b"GIT binary patch"
}

/// What a comparison mentions without holding it.
enum Mention {
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

fn mention(line: &[u8]) -> Option<(Vec<u8>, Mention)> {
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
    if let Some(name) = line.strip_prefix(b"Property changes on: ") {
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

/// Why nothing comes of a submodule.
pub(super) const SUBMODULE: &str = "is a submodule: only its commit changes, so its directory was left alone";

/// Reads what a mail of several parts says they are separated by.
fn boundary(line: &[u8]) -> Option<&[u8]> {
    let header =
        line.starts_with(b" ") || line.starts_with(b"\t") || line.get(..13).is_some_and(|name| name.eq_ignore_ascii_case(b"content-type:"));
    let value = line.windows(10).position(|window| window == b"boundary=\"").filter(|_| header)? + 10;
    let end = line[value..].iter().position(|byte| *byte == b'"').filter(|end| *end > 0)?;
    Some(&line[value..value + end])
}

/// Reads a mail's header that says how its text is encoded, if it is one that hides a patch.
fn encoding(line: &[u8]) -> Option<&'static str> {
    let name = b"content-transfer-encoding:";
    let value = line.split_at_checked(name.len()).filter(|(found, _)| found.eq_ignore_ascii_case(name))?.1.trim_ascii();
    ["quoted-printable", "base64"].into_iter().find(|encoding| value.eq_ignore_ascii_case(encoding.as_bytes()))
}

/// Returns whether a line shows that a text is quoted-printable: a soft line break, or a byte written as digits.
fn is_quoted_printable(line: &[u8]) -> bool {
    let written =
        |window: &[u8]| window[0] == b'=' && window[1..].iter().all(|digit| digit.is_ascii_digit() || (b'A'..=b'F').contains(digit));
    line.ends_with(b"=") || line.windows(3).any(written)
}
