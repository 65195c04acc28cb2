//! Reads hunks: where one ends, and that nothing of it is lost.
//!
//! ```text
//!             ┌ counts filled, no change after them ──────────────► as many lines as announced, as Git takes them
//! header ─────┤
//!             └ counts wrong, or none ─► lines up to the first without mark ─┬ the patch ends, lines missing ─► cut off
//!                                                                            ├ text at once ────────────────► unmarked
//!                                                                            └ header, fence, blank line … ──► all of them
//! ```
//!
//! Git itself believes the counts: what stands after as many lines as announced is prose to it, changes included.

use super::{
    SyntaxProblem,
    foreign::{self, Foreign},
    landmarks::{Surroundings, is_file_header, is_marked, is_signature, says_no_newline},
    names,
};

/// A line of the patch, counted from 0, and what is wrong with it.
pub(super) type Problem = (usize, SyntaxProblem);

/// What a line of a hunk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Context,
    Remove,
    Add,
}

/// A line of a hunk; `text` ends with a line break unless the file does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HunkLine {
    pub(super) mark: Mark,
    pub(super) text: Vec<u8>,
}

/// Where a hunk says it goes: lines counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) old: usize,
    pub(super) new: usize,
}

/// A hunk as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hunk {
    /// Line of the patch where it begins, counted from 1.
    pub(super) line: usize,
    /// Its header as it is shown.
    pub(super) header: Vec<u8>,
    /// Where it says it begins; `None` for a bare `@@`.
    pub(super) start: Option<Start>,
    pub(super) lines: Vec<HunkLine>,
}

impl Hunk {
    /// Returns the lines that must be there.
    pub(super) fn old_lines(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.lines.iter().filter(|line| line.mark != Mark::Add).map(|line| line.text.as_slice())
    }

    /// Returns the lines that will be there.
    pub(super) fn new_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(|line| line.mark != Mark::Remove).map(|line| line.text.as_slice())
    }

    /// Returns whether a line of it says that it has no line break.
    pub(super) fn speaks_of_line_breaks(&self) -> bool {
        self.lines.iter().any(|line| !line.text.ends_with(b"\n"))
    }
}

#[derive(Clone, Copy)]
struct Range {
    start: usize,
    count: usize,
}

fn range(text: &[u8]) -> Option<Range> {
    let text = std::str::from_utf8(text).ok()?;
    let (start, count) = text.split_once(',').unwrap_or((text, "1"));
    Some(Range { start: start.parse().ok()?, count: count.parse().ok()? })
}

/// Returns whether a word is, or was meant to be, a range of lines.
fn is_range_like(word: &[u8]) -> bool {
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits > 0 && word.iter().all(|byte| byte.is_ascii_digit() || b"-+,".contains(byte))
}

/// Reads `@@ -1,2 +1,3 @@ …`; the bare `@@` of some models gives no ranges.
fn ranges(header: &[u8]) -> Result<Option<(Range, Range)>, SyntaxProblem> {
    let inner = header.strip_prefix(b"@@").ok_or(SyntaxProblem::HunkHeader)?;
    if inner.starts_with(b"@") {
        return Err(SyntaxProblem::Foreign(Foreign::Combined));
    }
    if !matches!(inner.first(), None | Some(b' ')) && !inner.starts_with(b"...") {
        return Err(SyntaxProblem::HunkHeader);
    }
    let mut words = inner.split(|byte| *byte == b' ').filter(|part| !part.is_empty());
    let (first, second, third) = (words.next(), words.next(), words.next());
    // Whoever gives numbers means them.
    if !first.is_some_and(is_range_like) && !second.is_some_and(is_range_like) {
        return Ok(None);
    }
    let old = first.and_then(|word| range(word.strip_prefix(b"-")?));
    let new = second.and_then(|word| range(word.strip_prefix(b"+")?));
    let closed = third.is_some_and(|word| word.starts_with(b"@@"));
    match (old, new) {
        (Some(old), Some(new)) if closed => Ok(Some((old, new))),
        _ => Err(SyntaxProblem::HunkHeader),
    }
}

fn is_change(line: &[u8]) -> bool {
    matches!(line.first(), Some(b'+' | b'-')) || says_no_newline(line)
}

/// Returns where the lines from `at` on stop being those of a hunk, whatever was announced.
fn run_end(lines: &[&[u8]], mut at: usize, is_end: impl Fn(usize) -> bool) -> usize {
    while at < lines.len() && is_marked(lines[at]) && !is_file_header(lines, at) && !is_end(at) {
        at += 1;
    }
    at
}

/// Returns where as many lines end as were announced; `None` when there are not so many, or more.
fn filled(lines: &[&[u8]], from: usize, announced: (usize, usize)) -> Option<usize> {
    let (mut old, mut new) = (0, 0);
    let mut at = from;
    while (old, new) != announced {
        let line = lines.get(at)?;
        match line.first() {
            None | Some(b' ') => (old, new) = (old + 1, new + 1),
            Some(b'-') => old += 1,
            Some(b'+') => new += 1,
            Some(b'\\') if says_no_newline(line) => {}
            Some(_) => return None,
        }
        if old > announced.0 || new > announced.1 {
            return None;
        }
        at += 1;
    }
    Some(at + usize::from(lines.get(at).is_some_and(|line| at > from && says_no_newline(line))))
}

/// Returns the lines of a body with their marks; `None` when one that has no line break is missing.
fn taken(lines: &[&[u8]]) -> Option<Vec<HunkLine>> {
    let mut taken: Vec<HunkLine> = Vec::with_capacity(lines.len());
    for line in lines {
        let (mark, text) = match line.split_first() {
            None => (Mark::Context, *line),
            Some((b'+', text)) => (Mark::Add, text),
            Some((b'-', text)) => (Mark::Remove, text),
            Some((b'\\', _)) => {
                let last = taken.last_mut()?;
                if last.text.last() == Some(&b'\n') {
                    last.text.pop();
                }
                continue;
            }
            Some((_, text)) => (Mark::Context, text),
        };
        taken.push(HunkLine { mark, text: [text, b"\n"].concat() });
    }
    Some(taken)
}

fn counts(lines: &[&[u8]]) -> (usize, usize) {
    let count = |without: u8| lines.iter().filter(|line| !matches!(line.first(), Some(b'\\')) && line.first() != Some(&without)).count();
    (count(b'+'), count(b'-'))
}

/// A hunk, and how it was read.
pub(super) struct Read {
    pub(super) hunk: Hunk,
    /// The line after it.
    pub(super) end: usize,
    /// It ends where its counts say, and not only where its marks do.
    pub(super) counted: bool,
}

/// Reads the hunk at `lines[at]`.
pub(super) fn read(lines: &[&[u8]], at: usize, surroundings: &Surroundings<'_>) -> Result<Read, Problem> {
    let announced = ranges(lines[at]).map_err(|problem| (at, problem))?;
    let body = at + 1;
    let counts = announced.map(|(old, new)| (old.count, new.count));
    let by_counts = counts.map_or(Ok(None), |counts| by_counts(lines, body, counts, surroundings))?;
    let end = by_counts.map_or_else(|| by_marks(lines, at, announced, surroundings), Ok)?;
    let Some(taken) = taken(&lines[body..end]) else { return Err((body, SyntaxProblem::Unmarked)) };
    if taken.iter().all(|line| line.mark == Mark::Context) {
        let words = foreign::is_word_diff(&lines[body..]);
        let stopped = lines.get(end).is_some_and(|line| !is_marked(line) && !line.starts_with(b"@@"));
        return Err(match (words, stopped) {
            (true, _) => (at, SyntaxProblem::Foreign(Foreign::Words)),
            (false, true) if counts.is_some_and(|counts| counts != self::counts(&lines[body..end])) => (end, unmarked(lines, end)),
            _ => (at, SyntaxProblem::EmptyHunk),
        });
    }
    // A start of 0 means the file is empty or not there; a range without lines begins after the line it names.
    let start = announced.map(|(old, new)| {
        let start = if old.count == 0 { old.start.saturating_add(1) } else { old.start.max(1) };
        Start { old: start, new: new.start.max(1) }
    });
    let hunk = Hunk { line: at + 1, header: lines[at].to_vec(), start, lines: taken };
    Ok(Read { hunk, end, counted: by_counts.is_some() })
}

fn unmarked(lines: &[&[u8]], at: usize) -> SyntaxProblem {
    if foreign::is_word_diff(&lines[at..]) { SyntaxProblem::Foreign(Foreign::Words) } else { SyntaxProblem::Unmarked }
}

/// Returns where a body ends whose counts fit; `None` when they do not.
fn by_counts(lines: &[&[u8]], body: usize, announced: (usize, usize), surroundings: &Surroundings<'_>) -> Result<Option<usize>, Problem> {
    let Some(end) = filled(lines, body, announced) else { return Ok(None) };
    // What is left of a line that says that there is no line break.
    if lines.get(end).is_some_and(|line| line.starts_with(b"\\")) && !is_marked(lines[end]) {
        return Err((end, SyntaxProblem::Unmarked));
    }
    let rest = end..run_end(lines, end, |at| is_signature(lines, at, true) || surroundings.is_boundary(lines[at]));
    if let Some(at) = lines[rest.clone()].iter().position(|line| is_change(line)).map(|at| rest.start + at) {
        let half = lines[at].starts_with(b"--- ") || lines[at].starts_with(b"+++ ");
        return if half && lines[at..rest.end].len() == 1 { Err((at, SyntaxProblem::HalfHeader)) } else { Ok(None) };
    }
    // What is left is context at most, or was meant to be a patch.
    let is_part = |line: &&[u8]| {
        let text = line.trim_ascii_start();
        text.starts_with(b"@@ -") || text.starts_with(b"diff --git ")
    };
    if let Some(at) = lines[rest.clone()].iter().position(is_part) {
        return Err((rest.start + at, SyntaxProblem::Indented));
    }
    // Context that goes on is held against the file, too. Behind a blank line it is prose.
    if rest.start < rest.end && !lines[rest.start].trim_ascii().is_empty() {
        return Ok(None);
    }
    // A removal of `-- a/x` and an addition of `++ b/x` look like a header, and counts that are too large make a header look like them.
    let header = end >= body + 2 && lines.get(end).is_some_and(|line| line.starts_with(b"@@")) && is_file_header(lines, end - 2);
    if header && names::are_of_one_file(&lines[end - 2][4..], &lines[end - 1][4..]) {
        return Err((end - 2, SyntaxProblem::HeaderOrChange));
    }
    Ok(Some(end))
}

/// Returns where a body ends that has no counts, or wrong ones: every line with a mark belongs to it.
fn by_marks(lines: &[&[u8]], at: usize, announced: Option<(Range, Range)>, surroundings: &Surroundings<'_>) -> Result<usize, Problem> {
    let body = at + 1;
    let stop = run_end(lines, body, |at| is_signature(lines, at, false));
    // Blank lines at the end stand between this hunk and what follows.
    let end = lines[body..stop].iter().rposition(|line| !line.is_empty()).map_or(body, |last| body + last + 1);
    let half = |at: &usize| {
        let header = lines[*at].starts_with(b"--- ") || lines[*at].starts_with(b"+++ ");
        header && lines.get(at + 1).is_some_and(|line| line.starts_with(b"@@"))
    };
    if let Some(at) = (body..stop).find(half) {
        return Err((at, SyntaxProblem::HalfHeader));
    }
    match lines.get(stop) {
        None => {
            let Some((old, new)) = announced else { return Ok(end) };
            let (found_old, found_new) = counts(&lines[body..end]);
            let short = found_old <= old.count && found_new <= new.count && (found_old, found_new) != (old.count, new.count);
            if short {
                let header = format!("@@ -{},{found_old} +{},{found_new} @@", old.start, new.start);
                let last = lines.len().saturating_sub(1);
                return Err((last, SyntaxProblem::CutOff { old: old.count, new: new.count, found_old, found_new, header }));
            }
            Ok(end)
        }
        Some(_) if end == stop && !surroundings.is_landmark(lines, stop) => Err((stop, unmarked(lines, stop))),
        Some(_) => Ok(end),
    }
}
