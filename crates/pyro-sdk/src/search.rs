//! Searches a workspace's files on the host, with ripgrep's engine, in what its disk holds.
//!
//! The guest is held still meanwhile, so there is a time after which the answer is what has been found so far.
//!
//! What is matched is what is shown: a line without its end, be that LF or CR LF. The engine's own CR LF mode is not that. It takes a CR
//! anywhere for the end of a line, so that `.` and `$` see other lines than those that are counted and shown.

use std::{
    io::{self, Read},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use grep_matcher::{LineMatchKind, LineTerminator, Match, Matcher, NoCaptures, NoError};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkFinish, SinkMatch};
use pyro_disk::{EntryKind, Tree, TreeEntry};

use crate::{
    Pyro,
    client::Reap,
    contract::{FileSearch, FileSearchAnswer, SearchMatch},
    disk_view::{View, Wanted},
    error::{Cause, Error, Problem, Result},
    follow::follow,
    guest_files::SPECIAL,
    text::{Glob, WorkspacePath},
    workspace_path::path_text,
};

/// How long the guest may be held still for a search.
const BUDGET: Duration = Duration::from_secs(20);
/// Folders of version control systems.
const VCS_FOLDERS: [&[u8]; 4] = [b".git", b".hg", b".svn", b".jj"];
/// Longest line shown, in characters.
const LINE_MAX_CHARS: usize = 300;
/// Characters shown before a match in a line that is cut.
const LINE_LEAD_CHARS: usize = 80;
/// Longest line searched: a file with longer ones is none of text.
const LINE_MAX_BYTES: usize = 16 << 20;
/// What a compiled expression may take: as ripgrep's own limit is a tenth of the memory of a small host, a little less.
const PATTERN_MAX_BYTES: usize = 16 << 20;

impl Pyro {
    /// Searches a workspace's text files. Does not count as activity.
    ///
    /// # Errors
    /// The pattern is none, there is nothing at the path, or the disk cannot be read.
    pub async fn search_files(&self, request: FileSearch) -> Result<FileSearchAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let matcher = LineMatcher::new(request.pattern.as_str())?;
        let search = move |view: View| {
            let mut search = Search {
                matcher,
                searcher: searcher(),
                glob: request.glob,
                max: request.max.get(),
                end: Instant::now() + BUDGET,
                found: Found::default(),
            };
            search.walk(&view.now, &request.path)?;
            Ok(search.found)
        };
        let found = workspace.view("search the files of", Wanted::Now, search).await?;
        Ok(FileSearchAnswer {
            workspace_id: record.id.to_string(),
            matches: found.matches,
            file_count: found.file_count,
            binary_count: found.binary_count,
            truncated: found.truncated,
        })
    }
}

fn searcher() -> Searcher {
    SearcherBuilder::new().binary_detection(BinaryDetection::quit(0)).line_number(true).heap_limit(Some(LINE_MAX_BYTES)).build()
}

/// Matches lines as they are shown.
struct LineMatcher {
    regex: RegexMatcher,
    /// Whether the pattern is a piece of text. Nothing in it can match the end of a line, so many lines may be looked at together.
    literal: bool,
}

impl LineMatcher {
    fn new(pattern: &str) -> Result<Self> {
        let regex = RegexMatcherBuilder::new()
            .line_terminator(Some(b'\n'))
            .size_limit(PATTERN_MAX_BYTES)
            .dfa_size_limit(PATTERN_MAX_BYTES)
            .build(pattern)
            .map_err(|error| Problem::Pattern { source: Cause::new(error.to_string().trim().to_owned()) })?;
        let literal = pattern
            .chars()
            .all(|character| character.is_alphanumeric() || character.is_whitespace() || "_:;,/=<>\"'@%!".contains(character));
        Ok(Self { regex, literal: literal && !pattern.contains('\r') })
    }
}

impl Matcher for LineMatcher {
    type Captures = NoCaptures;
    type Error = NoError;

    fn find_at(&self, haystack: &[u8], at: usize) -> Result<Option<Match>, NoError> {
        let line = if self.literal { haystack } else { without_end(haystack) };
        // A search that goes on where a line's end begins has found all there is in it.
        if at > line.len() { Ok(None) } else { self.regex.find_at(line, at) }
    }

    fn new_captures(&self) -> Result<NoCaptures, NoError> {
        Ok(NoCaptures::new())
    }

    fn line_terminator(&self) -> Option<LineTerminator> {
        // Without one the searcher asks for each line by itself.
        self.regex.line_terminator().filter(|_| self.literal)
    }

    fn find_candidate_line(&self, haystack: &[u8]) -> Result<Option<LineMatchKind>, NoError> {
        self.regex.find_candidate_line(haystack)
    }
}

/// Returns a line without the LF or CR LF at its end.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[derive(Debug, Default)]
struct Found {
    matches: Vec<SearchMatch>,
    file_count: u64,
    binary_count: u64,
    truncated: bool,
}

struct Search {
    matcher: LineMatcher,
    searcher: Searcher,
    glob: Option<Glob>,
    max: u64,
    end: Instant,
    found: Found,
}

impl Search {
    fn walk(&mut self, tree: &Tree, path: &WorkspacePath) -> Result<()> {
        let entry = follow(tree, path)?;
        match entry.kind {
            EntryKind::File => return self.file(tree, &entry),
            EntryKind::Directory => {}
            EntryKind::Link | EntryKind::Other => return Err(Problem::NotAFile { path: path.text(), what: SPECIAL }.into()),
        }
        let top = &entry.path[..];
        let mut failed = None;
        tree.list(top, true, &mut |entry| {
            // Entries that are not searched take time, too.
            if Instant::now() >= self.end {
                self.found.truncated = true;
                return ControlFlow::Break(());
            }
            let below = if top.is_empty() { &entry.path[..] } else { &entry.path[(top.len() + 1).min(entry.path.len())..] };
            if entry.kind != EntryKind::File || is_vcs(below) || self.glob.as_ref().is_some_and(|glob| !glob.matches(below)) {
                return ControlFlow::Continue(());
            }
            if let Err(error) = self.file(tree, &entry) {
                failed = Some(error);
            }
            if failed.is_some() || self.found.truncated { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn file(&mut self, tree: &Tree, entry: &TreeEntry) -> Result<()> {
        let first = self.found.matches.len();
        let mut reader = Timed { content: tree.reader_of(entry)?, end: self.end, late: false, failed: None };
        let mut lines =
            Lines { matcher: &self.matcher, path: path_text(&entry.path), max: self.max, found: &mut self.found, binary: false };
        let searched = self.searcher.search_reader(&self.matcher, &mut reader, &mut lines);
        let binary = lines.binary || searched.is_err();
        if let Some(error) = reader.failed {
            return Err(Error::io("read", path_text(&entry.path), error));
        }
        self.found.truncated |= reader.late;
        // Beside the disk only a line that is too long makes a search fail, and such a file is none of text.
        if binary {
            // What stood before the first zero byte was no text, either.
            self.found.matches.truncate(first);
            self.found.binary_count += 1;
        } else {
            self.found.file_count += 1;
        }
        Ok(())
    }
}

/// Tells whether a path lies in a folder of a version control system.
fn is_vcs(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|name| VCS_FOLDERS.contains(&name))
}

/// Ends a file where the time is over.
struct Timed<R> {
    content: R,
    end: Instant,
    late: bool,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Timed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.end {
            self.late = true;
            return Ok(0);
        }
        self.content.read(buffer).inspect_err(|error| self.failed = Some(io::Error::new(error.kind(), error.to_string())))
    }
}

/// Takes the lines of one file.
struct Lines<'a> {
    matcher: &'a LineMatcher,
    path: String,
    max: u64,
    found: &'a mut Found,
    binary: bool,
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, line: &SinkMatch<'_>) -> io::Result<bool> {
        if self.found.matches.len() as u64 == self.max {
            self.found.truncated = true;
            return Ok(false);
        }
        let bytes = line.bytes();
        let start = self.matcher.find(bytes).ok().flatten().map_or(0, |found| found.start());
        let text = shown(bytes, start);
        self.found.matches.push(SearchMatch { path: self.path.clone(), line: line.line_number().unwrap_or(0), text });
        Ok(true)
    }

    fn finish(&mut self, _: &Searcher, finish: &SinkFinish) -> io::Result<()> {
        self.binary = finish.binary_byte_offset().is_some();
        Ok(())
    }
}

/// Shows a line without its end; a long one around the match that begins at byte `start`.
fn shown(line: &[u8], start: usize) -> String {
    let line = without_end(line);
    let (before, after) = line.split_at(start.min(line.len()));
    let before = String::from_utf8_lossy(before);
    // A character takes at most four bytes: the rest of a line of megabytes is not looked at.
    let after = String::from_utf8_lossy(&after[..after.len().min(4 * LINE_MAX_CHARS)]).into_owned();
    let (lead, length) = (before.chars().count(), after.chars().count());
    if lead + length <= LINE_MAX_CHARS && before.len() + after.len() >= line.len() {
        return format!("{before}{after}");
    }
    let skipped = lead.saturating_sub(LINE_LEAD_CHARS);
    let text: String = before.chars().skip(skipped).chain(after.chars()).take(LINE_MAX_CHARS).collect();
    let cut = lead - skipped + length > LINE_MAX_CHARS || start + 4 * LINE_MAX_CHARS < line.len();
    format!("{}{text}{}", if skipped > 0 { "…" } else { "" }, if cut { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_line_is_shown_around_its_match() {
        assert_eq!(shown(b"  let x = 1;\r\n", 6), "  let x = 1;");
        let line = format!("{}needle{}\n", "ä".repeat(500), "b".repeat(5000));
        let text = shown(line.as_bytes(), 1000);
        assert!(text.starts_with("…ä") && text.contains("needle") && text.ends_with("b…"), "{text}");
        assert_eq!(text.chars().count(), LINE_MAX_CHARS + 2);
        assert_eq!(shown(&[b'x'; 400], 0), format!("{}…", "x".repeat(LINE_MAX_CHARS)));
    }

    /// Returns number and text of every line of `file` that the engine finds.
    fn lines(pattern: &str, file: &[u8]) -> Vec<(u64, String)> {
        let matcher = LineMatcher::new(pattern).unwrap();
        let mut found = Found::default();
        let mut lines = Lines { matcher: &matcher, path: String::new(), max: 1000, found: &mut found, binary: false };
        searcher().search_reader(&matcher, file, &mut lines).unwrap();
        found.matches.into_iter().map(|found| (found.line, found.text)).collect()
    }

    fn numbers(pattern: &str, file: &[u8]) -> Vec<u64> {
        lines(pattern, file).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn line_is_matched_as_it_is_shown_whatever_ends_it() {
        let windows = b"one needle\r\ntwo\r\n\r\nneedle three\r\nneedle";
        for (pattern, expected) in [
            ("needle$", &[1, 5][..]),
            ("^needle", &[4, 5]),
            ("^$", &[3]),
            ("^two$", &[2]),
            ("o$", &[2]),
            ("(?m)^two$", &[2]),
            (r"\Atwo\z", &[2]),
            (r"two\b", &[2]),
            (r"\r", &[]),
            ("two.", &[]),
            (r"\s$", &[]),
            ("needle", &[1, 4, 5]),
            ("needle|two", &[1, 2, 4, 5]),
        ] {
            assert_eq!(numbers(pattern, windows), expected, "{pattern}");
            let unix: Vec<u8> = windows.iter().copied().filter(|&byte| byte != b'\r').collect();
            assert_eq!(numbers(pattern, &unix), expected, "{pattern} with LF");
        }
        assert_eq!(lines("needle$", windows)[0], (1, "one needle".to_owned()));
    }

    #[test]
    fn carriage_return_within_a_line_is_a_character_of_it() {
        let file = b"progress 1\rprogress 2\r\r\nend\n";
        for (pattern, expected) in [("1.progress", &[1][..]), ("1$", &[]), (r"2\r$", &[1]), (r"^progress 2", &[]), (r"\rprogress", &[1])] {
            assert_eq!(numbers(pattern, file), expected, "{pattern}");
        }
        assert_eq!(lines("end", b"old\rmac\rend"), [(1, "old\rmac\rend".to_owned())]);
    }

    #[test]
    fn text_with_a_byte_order_mark_is_searched_as_text() {
        let utf_16: Vec<u8> = std::iter::once(0xfeff).chain("one\r\nn\u{e4}edle\r\n".encode_utf16()).flat_map(u16::to_le_bytes).collect();
        assert_eq!(lines("^n\u{e4}edle$", &utf_16), [(2, "n\u{e4}edle".to_owned())]);
        assert_eq!(numbers("^one$", &utf_16), [1]);
        assert_eq!(lines("^one$", b"\xef\xbb\xbfone\r\ntwo\r\n"), [(1, "one".to_owned())]);
    }

    /// Returns the numbers of the lines that grep finds, in Perl's syntax, which is nearest to ours.
    fn grep(pattern: &str, text: &str) -> Vec<u64> {
        use std::io::{Seek as _, Write as _};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        let grep = std::process::Command::new("grep").args(["-naP", "--", pattern]).env("LC_ALL", "C.UTF-8").stdin(file).output().unwrap();
        assert!(grep.stderr.is_empty(), "{}", String::from_utf8_lossy(&grep.stderr));
        let number = |line: &str| line.split(':').next().unwrap().parse().unwrap();
        String::from_utf8(grep.stdout).unwrap().lines().map(number).collect()
    }

    proptest::proptest! {
        /// The reference is grep, on the lines as they are shown.
        #[test]
        fn every_line_is_found_that_matches_by_itself(
            pieces in proptest::collection::vec(proptest::sample::select(vec!["a", "b", " ", "\r", "\n", "\r\n", "ab", "."]), 0..40),
            pattern in proptest::sample::select(vec![
                "a", "ab", "^a", "b$", "^$", "a.", r"\s$", r"\bb", r"b\b", "[^a]$", "^.b", r"\r", "(?m)a$", r"a\z", "a|b$", "b a", ".*", "a[.]$", "$",
            ]),
        ) {
            let file = pieces.concat();
            let shown: Vec<&str> =
                file.split_inclusive('\n').map(|line| std::str::from_utf8(without_end(line.as_bytes())).unwrap()).collect();
            let found = grep(pattern, &shown.iter().map(|line| format!("{line}\n")).collect::<String>());
            let expected: Vec<(u64, String)> = found.into_iter().map(|number| (number, shown[number as usize - 1].to_owned())).collect();
            proptest::prop_assert_eq!(lines(pattern, file.as_bytes()), expected, "{} in {:?}", pattern, file);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(shown(b"caf\xe9\n", 0), "caf\u{fffd}");
    }

    #[test]
    fn folders_of_version_control_are_left_out() {
        assert!(is_vcs(b".git/config") && is_vcs(b"sub/.hg/x"));
        assert!(!is_vcs(b".gitignore") && !is_vcs(b"git/x"));
    }
}
