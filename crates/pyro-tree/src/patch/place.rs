//! Applies the hunks of one file, each at the one place where its lines are.
//!
//! A hunk whose lines are where its header says goes there. One whose lines are elsewhere goes to the only place they are at. If there are
//! several, every way to read the header must point at the same one: the line of the old side moved as the hunk before was, and what Git
//! takes, which is the place nearest to the line of the new side and, without context at its end, the end of the file.

use super::{
    PatchError, Section,
    hunk::{Hunk, Mark},
    nearest::{self, Budget},
    text::Text,
};
use crate::path::printable_cut;

/// Places named for a hunk that fits several.
const CANDIDATES_SHOWN: usize = 8;
/// Longest hunk header shown, in bytes.
const HEADER_SHOWN_BYTES: usize = 120;

/// Why content cannot be changed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It does not fit, for these reasons.
    Reasons(Vec<String>),
    /// It would take too long.
    Limit(PatchError),
}

impl From<PatchError> for Refusal {
    fn from(error: PatchError) -> Self {
        Self::Limit(error)
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Reasons(vec![reason])
    }
}

/// Applies all hunks of a section; every hunk that does not fit is named.
pub(super) fn hunks(section: &Section, before: &[u8], budget: &Budget) -> Result<Vec<u8>, Refusal> {
    // A patch whose own line ends were changed says nothing about the file's; the file does, if all of them are alike.
    let mut lines = before.split_inclusive(|byte| *byte == b'\n');
    let crlf = section.mangled && !before.is_empty() && lines.all(|line| line.ends_with(b"\r\n") || !line.ends_with(b"\n"));
    let restored: Vec<Hunk>;
    let hunks = if crlf {
        restored = section.hunks.iter().map(with_carriage_returns).collect();
        &restored
    } else {
        &section.hunks
    };
    let refusal = match all(hunks, before, budget) {
        Ok(after) => return Ok(after),
        Err(Refusal::Limit(limit)) => return Err(Refusal::Limit(limit)),
        Err(refusal) => refusal,
    };
    // The file ends without line break, which nobody sees, and the patch does not say so: it was made as if there were one.
    if before.is_empty() || before.ends_with(b"\n") || section.hunks.iter().any(Hunk::speaks_of_line_breaks) {
        return Err(refusal);
    }
    let ending: &[u8] = if crlf { b"\r\n" } else { b"\n" };
    let ended = [before, ending].concat();
    let Ok(mut after) = all(hunks, &ended, budget) else { return Err(refusal) };
    // What stands last then ends as the file did, unless it is a line that had its line break all along.
    let last = hunks.last().map(|hunk| hunk.lines.as_slice()).unwrap_or_default();
    let removed_last = last.iter().rev().take_while(|line| line.mark == Mark::Remove).count() > 0;
    let shortened = removed_last && last.iter().rev().find(|line| line.mark != Mark::Remove).is_none_or(|line| line.mark == Mark::Context);
    if !shortened && after.ends_with(ending) {
        after.truncate(after.len() - ending.len());
    }
    Ok(after)
}

fn with_carriage_returns(hunk: &Hunk) -> Hunk {
    let mut hunk = hunk.clone();
    for line in &mut hunk.lines {
        if line.text.ends_with(b"\n") && !line.text.ends_with(b"\r\n") {
            line.text.pop();
            line.text.extend_from_slice(b"\r\n");
        }
    }
    hunk
}

fn all(hunks: &[Hunk], before: &[u8], budget: &Budget) -> Result<Vec<u8>, Refusal> {
    let text = Text::new(before).ok_or_else(|| "is too large".to_owned())?;
    let mut after = Vec::with_capacity(before.len());
    let mut failures = Vec::new();
    let mut placed = Placed::default();
    for (position, hunk) in hunks.iter().enumerate() {
        let old: Vec<&[u8]> = hunk.old_lines().collect();
        match place(hunk, &old, &text, &placed, budget)? {
            Ok(at) => {
                after.extend_from_slice(text.range(placed.end, at));
                let start = after.len();
                hunk.new_lines().for_each(|line| after.extend_from_slice(line));
                placed.add(hunk, at, old.len());
                // A line without an end would be joined with the one after it.
                let unended = hunk.new_lines().take(hunk.new_lines().count().saturating_sub(1)).any(|line| !line.ends_with(b"\n"));
                let joined = placed.end < text.len() && after.len() > start && !after.ends_with(b"\n");
                if unended || joined {
                    failures.push("`\\ No newline at end of file` stands after a line that is not the last".to_owned());
                }
            }
            Err(reason) => {
                let header = printable_cut(&hunk.header, HEADER_SHOWN_BYTES);
                failures.push(format!("hunk {} `{header}` (patch line {}): {reason}", position + 1, hunk.line));
            }
        }
    }
    after.extend_from_slice(text.range(placed.end, text.len()));
    if failures.is_empty() { Ok(after) } else { Err(Refusal::Reasons(failures)) }
}

/// The hunks placed so far.
#[derive(Default)]
struct Placed {
    /// Lines of the old text that they took, from and to, in order.
    taken: Vec<(usize, usize)>,
    /// Where the last one ends.
    end: usize,
    /// How far the last one was from where its header says.
    drift: isize,
    /// Lines that were added so far, less those removed.
    grown: isize,
}

impl Placed {
    fn add(&mut self, hunk: &Hunk, at: usize, old_count: usize) {
        if let Some(start) = hunk.start {
            self.drift = signed(at) - signed(start.old - 1);
        }
        self.end = at + old_count;
        self.taken.push((at, self.end));
        self.grown += signed(hunk.new_lines().count()) - signed(old_count);
    }

    /// Returns whether the lines `from..to` were not touched.
    fn is_free(&self, from: usize, to: usize) -> bool {
        let next = self.taken.partition_point(|(_, end)| *end <= from);
        self.taken.get(next).is_none_or(|(start, _)| *start >= to)
    }
}

/// Makes a count of lines signed; none comes near the limit but one that a header claims.
fn signed(lines: usize) -> isize {
    isize::try_from(lines).unwrap_or(isize::MAX / 4).min(isize::MAX / 4)
}

/// Finds the one place of a hunk; lines are counted from 0. Says why there is none.
fn place(hunk: &Hunk, old: &[&[u8]], text: &Text<'_>, placed: &Placed, budget: &Budget) -> Result<Result<usize, String>, PatchError> {
    if old.is_empty() {
        let only_adds = "it only adds lines and has no context, so its place is unknown; put the lines around it before and after it";
        return Ok(if text.is_empty() { Ok(0) } else { Err(only_adds.to_owned()) });
    }
    let expected = hunk.start.map(|start| (signed(start.old - 1) + placed.drift, signed(start.new - 1) - placed.grown));
    let named = expected.and_then(|(by_old, _)| usize::try_from(by_old).ok()).filter(|at| *at >= placed.end && text.has(old, *at));
    let context_ends = hunk.lines.last().is_some_and(|line| line.mark == Mark::Context);
    let at_end = text.len().checked_sub(old.len()).filter(|at| text.has(old, *at));
    if let (Some(at), Some((by_old, by_new))) = (named, expected)
        && placed.drift == 0
        && by_old == by_new
        && (context_ends || at_end.is_none_or(|end| end == at))
    {
        return Ok(Ok(at));
    }
    let mut found = nearest::occurrences(old, text, budget)?;
    found.retain(|at| placed.is_free(*at, at + old.len()));
    // Without a line number the order of the hunks says that it comes later; with one, it may be out of order.
    if expected.is_none() {
        let earlier = found.partition_point(|at| *at < placed.end);
        if earlier < found.len() {
            found.drain(..earlier);
        }
    }
    Ok(match found.as_slice() {
        [] => {
            let expected = expected.and_then(|(by_old, _)| usize::try_from(by_old).ok()).unwrap_or(placed.end);
            Err(nearest::describe(old, text, expected, budget))
        }
        [at] if *at < placed.end => {
            Err(format!("its lines are at line {}, before the end of the hunk above; put the hunks in the order of the file", at + 1))
        }
        [at] => Ok(*at),
        several => named.filter(|at| is_only_choice(*at, several, expected, context_ends, at_end)).ok_or_else(|| {
            let places: Vec<String> = several.iter().take(CANDIDATES_SHOWN).map(|at| (at + 1).to_string()).collect();
            let more = if several.len() > CANDIDATES_SHOWN { ", …" } else { "" };
            format!("its lines occur at lines {}{more}; correct the line number, or add context", places.join(", "))
        }),
    })
}

/// Returns whether every way to choose among several places chooses `at`.
fn is_only_choice(at: usize, several: &[usize], expected: Option<(isize, isize)>, context_ends: bool, at_end: Option<usize>) -> bool {
    let Some((_, by_new)) = expected else { return false };
    let distance = |place: usize| signed(place).abs_diff(by_new);
    let nearest = several.iter().all(|other| *other == at || distance(*other) > distance(at));
    nearest && (context_ends || at_end.is_none_or(|end| end == at))
}
