//! One line of a file of patterns, and how such a file is cut into lines.

use super::glob::{Case, Glob, Slash, is_special};

/// What a pattern is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// The name alone, for a pattern without a slash.
    Name(NameMatch),
    /// The path from the file of patterns down: what it must begin with, and what the rest must match.
    Path { prefix: Box<[u8]>, rest: Glob },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NameMatch {
    Whole(Box<[u8]>),
    End(Box<[u8]>),
    Glob(Glob),
}

/// A pattern of a `.gitignore` or of attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    target: Target,
    case: Case,
    only_folders: bool,
    pub(crate) negated: bool,
}

/// Whether a `!` at a pattern's beginning takes back what others say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Negation {
    Allowed,
    /// In attributes it means nothing, and whoever reads them has refused it.
    Plain,
}

impl Pattern {
    pub(crate) fn new(line: &[u8], case: Case, negation: Negation) -> Self {
        let (negated, text) = match line {
            [b'!', rest @ ..] if negation == Negation::Allowed => (true, rest),
            other => (false, other),
        };
        let (only_folders, pattern) = match text {
            [pattern @ .., b'/'] => (true, pattern),
            other => (false, other),
        };
        let literal = |text: &[u8]| text.iter().take_while(|byte| !is_special(**byte)).count();
        let target = if pattern.contains(&b'/') {
            let prefix = literal(pattern);
            // What follows the literal beginning is matched by itself, so that `a**/b` is `a` and then a `**` that stands alone.
            let rest = Glob::new(&pattern[prefix..], case, Slash::Separates);
            let prefix = pattern[..prefix].strip_prefix(b"/").unwrap_or(&pattern[..prefix]);
            Target::Path { prefix: prefix.into(), rest }
        } else if literal(pattern) == pattern.len() {
            Target::Name(NameMatch::Whole(pattern.into()))
        } else if pattern[0] == b'*' && literal(&text[1..]) == text.len() - 1 {
            Target::Name(NameMatch::End(pattern[1..].into()))
        } else {
            Target::Name(NameMatch::Glob(Glob::new(pattern, case, Slash::Plain)))
        };
        Self { target, case, only_folders, negated }
    }

    /// Returns whether the pattern is about a path; `below` is the path as seen from where the pattern was found.
    pub(crate) fn matches(&self, below: &[u8], folder: bool) -> bool {
        if self.only_folders && !folder {
            return false;
        }
        let same = |one: &[u8], other: &[u8]| match self.case {
            Case::Sensitive => one == other,
            Case::Folded => one.eq_ignore_ascii_case(other),
        };
        let name = || below.rsplit(|byte| *byte == b'/').next().unwrap_or(below);
        match &self.target {
            Target::Name(NameMatch::Whole(whole)) => same(whole, name()),
            Target::Name(NameMatch::End(end)) => {
                let name = name();
                name.len().checked_sub(end.len()).is_some_and(|at| same(end, &name[at..]))
            }
            Target::Name(NameMatch::Glob(glob)) => glob.matches(name()),
            Target::Path { prefix, rest } => {
                below.split_at_checked(prefix.len()).is_some_and(|(begin, end)| same(prefix, begin) && rest.matches(end))
            }
        }
    }
}

/// Cuts a file into its patterns, in order: a byte order mark, blank lines, comments and blanks at the end of a line are left out.
pub(crate) fn patterns(bytes: &[u8], case: Case) -> Vec<Pattern> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#');
    let lines = lines.map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // To Git, a line is text up to its first NUL.
        without_blanks(line.split(|byte| *byte == 0).next().unwrap_or(line))
    });
    lines.filter(|line| !line.is_empty()).map(|line| Pattern::new(line, case, Negation::Allowed)).collect()
}

/// Takes off the blanks at the end of a line, unless one is escaped.
fn without_blanks(line: &[u8]) -> &[u8] {
    let mut kept = 0;
    let mut at = 0;
    while at < line.len() {
        match line[at] {
            b' ' => at += 1,
            // An escape of nothing at all keeps the blanks before it, too.
            b'\\' if at + 1 == line.len() => return line,
            b'\\' => {
                at += 2;
                kept = at;
            }
            _ => {
                at += 1;
                kept = at;
            }
        }
    }
    &line[..kept]
}
