//! Where the lines of a hunk are, and if they are nowhere, what comes closest.

use std::{cell::Cell, cmp::Reverse};

use super::{PatchError, text::Text};
use crate::path::printable_cut;

/// Lines of files looked at to find hunks that are not where they say. Long ones count more than once.
const SEARCHED_MAX: usize = 50_000_000;
/// Bytes compared in the time of one line.
const LINE_BYTES: usize = 64;
/// Comparisons of lines spent on explanations of one patch, so that a hostile one cannot keep us busy.
const COMPARISONS_MAX: usize = 20_000_000;
/// Longest line shown, in bytes.
const SHOWN_MAX_BYTES: usize = 160;

/// What searches and explanations of one patch may still cost.
#[derive(Debug)]
pub(super) struct Budget {
    searched: Cell<usize>,
    comparisons: Cell<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { searched: Cell::new(SEARCHED_MAX), comparisons: Cell::new(COMPARISONS_MAX) }
    }
}

impl Budget {
    fn search(&self, lines: usize) -> Result<(), PatchError> {
        self.searched.set(self.searched.get().checked_sub(lines).ok_or(PatchError::TooMuchSearch)?);
        Ok(())
    }
}

/// Returns every place where `wanted` stands in `text`, in time linear in both (Knuth, Morris and Pratt).
pub(super) fn occurrences(wanted: &[&[u8]], text: &Text<'_>, budget: &Budget) -> Result<Vec<usize>, PatchError> {
    budget.search(text.len() + text.range(0, text.len()).len() / LINE_BYTES)?;
    let mut border = vec![0; wanted.len()];
    let mut matched = 0;
    for at in 1..wanted.len() {
        while matched > 0 && wanted[at] != wanted[matched] {
            matched = border[matched - 1];
        }
        matched += usize::from(wanted[at] == wanted[matched]);
        border[at] = matched;
    }
    let mut found = Vec::new();
    matched = 0;
    for (at, line) in text.lines().enumerate() {
        while matched > 0 && (matched == wanted.len() || line != wanted[matched]) {
            matched = border[matched - 1];
        }
        matched += usize::from(line == wanted[matched]);
        if matched == wanted.len() {
            found.push(at + 1 - matched);
        }
    }
    Ok(found)
}

/// Says what stands where the lines of a hunk, which are nowhere, come closest to being.
pub(super) fn describe(old: &[&[u8]], text: &Text<'_>, expected: usize, budget: &Budget) -> String {
    if text.is_empty() {
        return "the file is empty".to_owned();
    }
    let expected = expected.min(text.len());
    // As far around the expected place as the budget allows.
    let cost = old.len() + old.iter().map(|line| line.len()).sum::<usize>() / LINE_BYTES;
    let places = budget.comparisons.get() / cost;
    let reach = places / 2;
    let range = expected.saturating_sub(reach)..expected.saturating_add(reach).min(text.len());
    budget.comparisons.set(budget.comparisons.get().saturating_sub(range.len() * cost));
    let equal = |at: usize| old.iter().zip(at..text.len()).filter(|(wanted, at)| **wanted == text.line(*at)).count();
    let best = range.map(|at| (equal(at), Reverse(at.abs_diff(expected)), at)).max();
    let Some((count, _, at)) = best.filter(|(count, ..)| *count > 0) else {
        let line = old.iter().find(|line| !line.trim_ascii().is_empty()).unwrap_or(&old[0]);
        let looked_at = places.min(text.len());
        return match text.lines().take(looked_at).position(|found| squeezed(found).eq(squeezed(line))) {
            Some(at) => differs(line, at, Some(text.line(at))),
            None => format!("none of its lines is in the file\n  expected: `{}`", shown(line)),
        };
    };
    let there = |at: usize| (at < text.len()).then(|| text.line(at));
    let wrong = (0..old.len()).find(|position| there(at + position) != Some(old[*position])).unwrap_or(0);
    let found = there(at + wrong);
    format!("it comes closest at line {}, where {count} of {} lines fit; {}", at + 1, old.len(), differs(old[wrong], at + wrong, found))
}

fn differs(wanted: &[u8], at: usize, found: Option<&[u8]>) -> String {
    let line = at + 1;
    let Some(found) = found else {
        return format!("the file ends before line {line}\n  expected: `{}`", shown(wanted));
    };
    let body = |line: &[u8]| line.strip_suffix(b"\n").unwrap_or(line).to_vec();
    let why = if body(wanted) == body(found) {
        let missing = if found.ends_with(b"\n") { "with" } else { "without" };
        format!("line {line} of the file ends {missing} a line break (`\\ No newline at end of file` says so in a patch)")
    } else if squeezed(wanted).eq(squeezed(found)) {
        format!("line {line} differs in white space or line end only")
    } else {
        format!("line {line} differs")
    };
    format!("{why}\n  expected: `{}`\n  found:    `{}`", shown(wanted), shown(found))
}

fn shown(line: &[u8]) -> String {
    printable_cut(line.strip_suffix(b"\n").unwrap_or(line), SHOWN_MAX_BYTES)
}

fn squeezed(line: &[u8]) -> impl Iterator<Item = &u8> {
    line.iter().filter(|byte| !byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn occurrences_are_those_a_plain_search_finds(wanted in proptest::collection::vec(0_u8..2, 1..5), lines in proptest::collection::vec(0_u8..2, 0..40)) {
            let text = |numbers: &[u8]| numbers.iter().flat_map(|number| [b'a' + number, b'\n']).collect::<Vec<u8>>();
            let (wanted, lines) = (text(&wanted), text(&lines));
            let wanted: Vec<&[u8]> = wanted.chunks(2).collect();
            let plain: Vec<&[u8]> = lines.chunks(2).collect();
            let plain: Vec<usize> = plain.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted).map(|(at, _)| at).collect();
            prop_assert_eq!(occurrences(&wanted, &Text::new(&lines).unwrap(), &Budget::default()).unwrap(), plain);
        }
    }
}
