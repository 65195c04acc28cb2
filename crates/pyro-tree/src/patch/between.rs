//! What stands between the files of a patch: prose, mails, what a comparison only mentions, and changes that would be lost there.
//!
//! Git reads over all of it. We do not where it can be part of a change: a hunk or a header line in the wrong place, a format that is not
//! a unified diff, and lines with marks behind text that follows a hunk, for that text may be a context line without its blank. After a
//! hunk whose counts are wrong that holds up to the next file, whatever the text looks like.

use super::{
    Left, SyntaxProblem,
    foreign::{self, Foreign},
    hunk::Problem,
    landmarks::{self, Mention, Surroundings, begins_commit, is_file_header, is_signature},
};
use crate::path::printable_cut;

/// Most separators of mails that are known at once. All mails of Git have the same.
const BOUNDARIES_MAX: usize = 32;
/// Longest name shown, in bytes.
const SHOWN_MAX_BYTES: usize = 200;

/// What was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that goes on: prose may say what it likes.
    Anything,
    /// A hunk that ended at this line.
    Hunk(usize),
    /// Text at once after a hunk, or after one whose counts are wrong: it may be a line of it.
    TextAtOnce,
    /// Text after a hunk and a blank line, with list items of these kinds in it.
    Text { minus: bool, plus: bool },
}

const TEXT: Before = Before::Text { minus: false, plus: false };

/// Reads what is not part of a file.
#[derive(Debug)]
pub(super) struct Between<'a> {
    before: Before,
    /// The hunk before it ended where its counts say.
    counted: bool,
    /// A commit begins with the next file.
    pub(super) begins_commit: bool,
    /// The mail says how its text is encoded, and that was looked at.
    encoding_seen: bool,
    pub(super) surroundings: Surroundings<'a>,
    /// What was mentioned first, and why that is no patch.
    pub(super) mentioned: Option<Problem>,
    pub(super) left_out: Left,
}

impl<'a> Between<'a> {
    pub(super) fn new() -> Self {
        Self {
            before: Before::Anything,
            counted: true,
            begins_commit: false,
            encoding_seen: false,
            surroundings: Surroundings::default(),
            mentioned: None,
            left_out: Left::default(),
        }
    }

    /// A file ended before line `at`; `counted` says how its last hunk did, if it has one.
    pub(super) fn file_ended(&mut self, at: usize, counted: Option<bool>) {
        self.begins_commit = false;
        self.before = counted.map_or(Before::Anything, |_| Before::Hunk(at));
        self.counted = counted.unwrap_or(true);
    }

    const fn text(&self) -> Before {
        if self.counted { TEXT } else { Before::TextAtOnce }
    }

    /// Something begins here that has nothing to do with the hunk before, if that was whole.
    fn over(&mut self) {
        self.before = if self.counted { Before::Anything } else { TEXT };
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
        // `git log` writes messages behind blanks, and they may show patches.
        if !self.begins_commit && landmarks::is_hidden_header(lines, at) {
            return Err((at, SyntaxProblem::Indented));
        }
        if let Some(name) = landmarks::cut_off_index(lines, at) {
            return Err((at, SyntaxProblem::ContentMissing(printable_cut(name, SHOWN_MAX_BYTES))));
        }
        if let Some(name) = landmarks::lone_command(lines, at) {
            self.left_out.add(name, "is named by the comparison without a change: it is empty, or the patch was cut off");
        }
        if begins_commit(lines, at) {
            (self.begins_commit, self.encoding_seen) = (true, false);
            self.over();
        }
        if let Some((path, mention)) = landmarks::mention(lines, at) {
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
            // Properties are written as hunks are.
            self.before = if mention == Mention::Properties { Before::Anything } else { self.text() };
        }
        let boundaries = &mut self.surroundings.boundaries;
        if let Some(boundary) = boundary(line).filter(|boundary| boundaries.len() < BOUNDARIES_MAX && !boundaries.contains(boundary)) {
            boundaries.push(boundary);
        }
        self.encoding(lines, at)?;
        self.stray(lines, at).map_err(|problem| (at, problem))
    }

    /// Refuses a mail whose patch cannot be seen before it is decoded.
    fn encoding(&mut self, lines: &[&[u8]], at: usize) -> Result<(), Problem> {
        let Some(encoding) = encoding(lines[at]).filter(|_| !self.encoding_seen) else { return Ok(()) };
        self.encoding_seen = true;
        let length = lines[at + 1..].iter().enumerate().take_while(|(offset, _)| !begins_commit(lines, at + 1 + offset)).count();
        let mail = &lines[at + 1..at + 1 + length];
        let encoded = match encoding {
            "quoted-printable" => mail.iter().any(|line| is_quoted_printable(line)),
            // What can be read was decoded by somebody who left the header.
            _ => !(0..mail.len()).any(|at| mail[at].starts_with(b"diff --git ") || is_file_header(mail, at)),
        };
        if encoded { Err((at, SyntaxProblem::Foreign(Foreign::Encoded(encoding.to_owned())))) } else { Ok(()) }
    }

    fn stray(&mut self, lines: &[&'a [u8]], at: usize) -> Result<(), SyntaxProblem> {
        let line = lines[at];
        let (minus, plus) = (line.starts_with(b"-"), line.starts_with(b"+") || landmarks::says_no_newline(line));
        if self.surroundings.closes_fence(line) {
            self.surroundings.fence = None;
            self.over();
            // A fence in a file that lost its blank is followed by the rest of its hunk.
            let next = lines.get(at + 1).is_some_and(|next| next.starts_with(b"-") || next.starts_with(b"+"));
            return if next && !self.counted { Err(SyntaxProblem::Stray) } else { Ok(()) };
        }
        if self.surroundings.fence.is_none() {
            self.surroundings.fence = landmarks::fence(line);
        }
        if is_signature(lines, at, self.counted) || self.surroundings.is_boundary(line) {
            self.over();
            return Ok(());
        }
        if let Before::Hunk(end) = self.before {
            self.before = match line.first() {
                None => return Ok(()),
                Some(b' ') => Before::Hunk(if end == at { at + 1 } else { end }),
                Some(_) if end == at => Before::TextAtOnce,
                Some(_) => self.text(),
            };
        }
        match self.before {
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
            Before::Anything | Before::Hunk(_) | Before::TextAtOnce | Before::Text { .. } => {}
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
