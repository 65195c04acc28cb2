//! Attributes: which files go through a filter, and what of the user's own attributes decides about line ends.
//!
//! Git runs filters; here they are only counted. Attributes are read as Git reads them: the last line of a file that matches counts, the
//! deepest file before those above it, `info/attributes` before all, then the user's own and the host's.

use std::collections::{BTreeMap, HashMap};

use crate::ignore::{Case, Negation, Pattern};

/// Largest file of attributes that is read; Git ignores one from 100 MiB on.
pub(in crate::source) const ATTRIBUTES_MAX_BYTES: u64 = 4 << 20;
/// Longest line that counts, as in Git.
const LINE_MAX_BYTES: usize = 2048;
/// How a line begins that defines a name for several attributes.
const MACRO: &[u8] = b"[attr]";
/// Attributes that decide what the content of a file is to Git, so that a checkout elsewhere needs them, too.
const CONVERSIONS: [&[u8]; 6] = [b"text", b"crlf", b"eol", b"ident", b"working-tree-encoding", b"binary"];

/// What a line says of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Set,
    Unset,
    Unspecified,
    Value(Vec<u8>),
}

type Assigned = Vec<(Vec<u8>, State)>;

/// A file of attributes.
#[derive(Debug, Clone, Default)]
pub(super) struct AttributesFile {
    lines: Vec<(Pattern, Assigned)>,
    macros: HashMap<Vec<u8>, Assigned>,
}

/// Whether a file may define names for several attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Macros {
    Allowed,
    Refused,
}

impl AttributesFile {
    pub(super) fn parse(bytes: &[u8], case: Case, macros: Macros) -> Self {
        let mut file = Self::default();
        for line in lines(bytes) {
            let Some(parsed) = Line::parse(line) else { continue };
            match parsed.defined {
                Some(name) if macros == Macros::Allowed => {
                    file.macros.insert(name, parsed.assigned);
                }
                Some(_) => {}
                None => file.lines.push((Pattern::new(&parsed.pattern, case, Negation::Plain), parsed.assigned)),
            }
        }
        file
    }

    fn is_about_filters(&self) -> bool {
        let mut assigned = self.lines.iter().map(|(_, assigned)| assigned).chain(self.macros.values()).flatten();
        assigned.any(|(name, _)| name == b"filter")
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.split(|byte| *byte == b'\n').filter(|line| line.len() < LINE_MAX_BYTES)
}

struct Line<'a> {
    /// The pattern as it is written, quotes included.
    written: &'a [u8],
    pattern: Vec<u8>,
    /// The name that the line defines, instead of speaking about files.
    defined: Option<Vec<u8>>,
    assigned: Assigned,
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let start = line.iter().position(|byte| !is_blank(*byte)).unwrap_or(line.len());
    let line = &line[start..];
    line.split_at(line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len()))
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let start = line.iter().position(|byte| !is_blank(*byte))?;
        let line = &line[start..];
        if line[0] == b'#' {
            return None;
        }
        let (mut written, mut rest) = word(line);
        let mut pattern = written.to_vec();
        if let Some((unquoted, length)) = unquote(line) {
            pattern = unquoted;
            (written, rest) = line.split_at(length);
        }
        let mut defined = None;
        if pattern.starts_with(MACRO) {
            // The name may stand apart.
            let name = if pattern.len() > MACRO.len() {
                pattern[MACRO.len()..].to_vec()
            } else {
                let (name, after) = word(rest);
                rest = after;
                name.to_vec()
            };
            defined = Some(name).filter(|name| is_name(name));
            defined.as_ref()?;
        } else if pattern.first() == Some(&b'!') {
            return None;
        }
        let mut assigned = Assigned::new();
        loop {
            let (next, after) = word(rest);
            if next.is_empty() {
                break;
            }
            rest = after;
            let (name, state) = match next {
                [b'-', name @ ..] => (name, State::Unset),
                [b'!', name @ ..] => (name, State::Unspecified),
                _ => match next.iter().position(|byte| *byte == b'=') {
                    Some(equals) => (&next[..equals], State::Value(next[equals + 1..].to_vec())),
                    None => (next, State::Set),
                },
            };
            // Git makes nothing of a line with a name that cannot be one.
            if !is_name(name) {
                return None;
            }
            assigned.push((name.to_vec(), state));
        }
        Some(Self { written, pattern, defined, assigned })
    }
}

fn is_name(name: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name[0] != b'-' && name.iter().all(fits)
}

/// Reads a pattern in quotes, as C writes a string; returns it and how long it was.
fn unquote(line: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut text = Vec::new();
    let mut bytes = line.strip_prefix(b"\"")?.iter().enumerate();
    loop {
        match bytes.next()? {
            (at, b'"') => return Some((text, at + 2)),
            (_, b'\\') => {
                let (_, escaped) = bytes.next()?;
                text.push(match escaped {
                    b'a' => 7,
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 11,
                    b'\\' | b'"' => *escaped,
                    b'0'..=b'3' => {
                        let mut digit = || bytes.next()?.1.checked_sub(b'0').filter(|digit| *digit < 8);
                        (escaped - b'0') * 64 + digit()? * 8 + digit()?
                    }
                    _ => return None,
                });
            }
            (_, byte) => text.push(*byte),
        }
    }
}

/// Returns the lines of a file that decide about the content of files, and nothing else of it; empty when there are none.
pub(super) fn conversions(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for line in lines(bytes).filter_map(Line::parse) {
        let assigned: Vec<_> = line.assigned.iter().filter(|(name, _)| CONVERSIONS.contains(&name.as_slice())).collect();
        // A name for several attributes may be used by lines of the checkout.
        if assigned.is_empty() && line.defined.is_none() {
            continue;
        }
        match &line.defined {
            Some(name) => kept.extend_from_slice(&[MACRO, name].concat()),
            None => kept.extend_from_slice(line.written),
        }
        for (name, state) in assigned {
            let (sign, value) = match state {
                State::Set => (&b" "[..], Vec::new()),
                State::Unset => (&b" -"[..], Vec::new()),
                State::Unspecified => (&b" !"[..], Vec::new()),
                State::Value(value) => (&b" "[..], [b"=", value.as_slice()].concat()),
            };
            kept.extend_from_slice(&[sign, name, &value].concat());
        }
        kept.push(b'\n');
    }
    kept
}

/// Every file of attributes that speaks for a checkout.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Some file says something of a filter.
    about_filters: bool,
    /// The host's and the user's, the weakest first.
    outside: Vec<AttributesFile>,
    /// By folder, relative to the checkout.
    folders: BTreeMap<Vec<u8>, AttributesFile>,
    info: AttributesFile,
}

impl Attributes {
    pub(super) fn add_outside(&mut self, file: AttributesFile) {
        self.about_filters |= file.is_about_filters();
        self.outside.push(file);
    }

    pub(super) fn add_folder(&mut self, folder: &[u8], file: AttributesFile) {
        self.about_filters |= file.is_about_filters();
        self.folders.insert(folder.to_vec(), file);
    }

    pub(super) fn set_info(&mut self, file: AttributesFile) {
        self.about_filters |= file.is_about_filters();
        self.info = file;
    }

    /// Returns whether any file can go through a filter.
    pub(super) const fn is_about_filters(&self) -> bool {
        self.about_filters
    }

    /// Returns the files that speak about a path with what they see of it, the strongest first.
    fn about<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = (&'a AttributesFile, &'a [u8])> {
        let ends = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| Some(at));
        let folders = ends.chain([None]).filter_map(move |end| {
            let file = self.folders.get(&path[..end.unwrap_or(0)])?;
            Some((file, end.map_or(path, |end| &path[end + 1..])))
        });
        let outside = self.outside.iter().rev().map(move |file| (file, path));
        [(&self.info, path)].into_iter().chain(folders).chain(outside)
    }

    /// Returns the filter that a file goes through.
    pub(super) fn filter(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut known = HashMap::new();
        for (file, below) in self.about(path) {
            for (_, assigned) in file.lines.iter().rev().filter(|(pattern, _)| pattern.matches(below, false)) {
                self.assign(assigned, path, &mut known);
                if let Some(state) = known.get(b"filter".as_slice()) {
                    return if let State::Value(value) = state { Some(value.clone()) } else { None };
                }
            }
        }
        None
    }

    /// Takes over what a line says, unless a stronger one has spoken. A name that stands for several attributes is as good as those.
    fn assign(&self, assigned: &Assigned, path: &[u8], known: &mut HashMap<Vec<u8>, State>) {
        let mut pending: Vec<&(Vec<u8>, State)> = assigned.iter().collect();
        while let Some((name, state)) = pending.pop() {
            if known.contains_key(name) {
                continue;
            }
            known.insert(name.clone(), state.clone());
            let defined = || self.about(path).find_map(|(file, _)| file.macros.get(name));
            if let Some(stands_for) = (*state == State::Set).then(defined).flatten() {
                pending.extend(stands_for);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> AttributesFile {
        AttributesFile::parse(text.as_bytes(), Case::Sensitive, Macros::Allowed)
    }

    #[test]
    fn the_strongest_file_that_speaks_about_a_filter_counts() {
        let mut attributes = Attributes::default();
        attributes.add_outside(file("* filter=outside\n"));
        attributes.add_folder(
            b"",
            file("[attr]large filter=lfs -text\n*.bin large\n\"a \\142\" filter=quoted\n/x -filter\n*.off filter=a -filter\n"),
        );
        attributes.add_folder(b"sub", file("*.bin !filter\n"));
        attributes.set_info(file("# note\n*.info filter=info\n"));
        for (path, expected) in [
            ("a.bin", Some("lfs")),
            ("deep/a.bin", Some("lfs")),
            ("sub/a.bin", None),
            ("sub/x", Some("outside")),
            ("x", None),
            ("a b", Some("quoted")),
            ("a.off", None),
            ("a.info", Some("info")),
        ] {
            assert_eq!(attributes.filter(path.as_bytes()).as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn of_the_users_attributes_only_those_about_content_are_kept() {
        let text = "# mine\n*.txt text eol=crlf diff=word\n*.rb diff=ruby\n[attr]lines text=auto -merge\n\"a b\" -text\nsecret text\x01\n*.png binary\n";
        let kept = String::from_utf8(conversions(text.as_bytes())).unwrap();
        assert_eq!(kept, "*.txt text eol=crlf\n[attr]lines text=auto\n\"a b\" -text\n*.png binary\n");
    }
}
