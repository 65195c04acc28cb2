//! Where the lines of a hunk are, and if they are nowhere, what comes closest.

use std::{cell::Cell, cmp::Reverse};

use crate::path::printable_cut;

/// Comparisons of lines spent on explanations of one patch, so that a hostile one cannot keep us busy.
const COMPARISONS_MAX: usize = 20_000_000;
/// Longest line shown, in bytes.
const SHOWN_MAX_BYTES: usize = 160;

/// What explanations may still cost.
#[derive(Debug)]
pub(super) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(COMPARISONS_MAX))
    }
}

/// Returns every place where `wanted` stands in `lines`, in time linear in both (Knuth, Morris and Pratt).
pub(super) fn occurrences(wanted: &[&[u8]], lines: &[&[u8]]) -> Vec<usize> {
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
    for (at, line) in lines.iter().enumerate() {
        while matched > 0 && (matched == wanted.len() || *line != wanted[matched]) {
            matched = border[matched - 1];
        }
        matched += usize::from(*line == wanted[matched]);
        if matched == wanted.len() {
            found.push(at + 1 - matched);
        }
    }
    found
}

/// Says what stands where the lines of a hunk come closest to being.
pub(super) fn describe(old: &[&[u8]], lines: &[&[u8]], done: usize, expected: Option<usize>, budget: &Budget) -> String {
    if lines.is_empty() {
        return "the file is empty".to_owned();
    }
    let before = occurrences(old, &lines[..done.min(lines.len())]);
    if let Some(at) = before.first() {
        return format!("its lines are at line {}, before the end of the hunk above; put the hunks in the order of the file", at + 1);
    }
    let expected = expected.unwrap_or(done).min(lines.len());
    // As far around the expected place as the budget allows.
    let places = budget.0.get() / old.len();
    let reach = places / 2;
    let range = expected.saturating_sub(reach)..expected.saturating_add(reach).min(lines.len());
    budget.0.set(budget.0.get().saturating_sub(range.len() * old.len()));
    let equal = |at: usize| old.iter().zip(&lines[at..]).filter(|(wanted, found)| wanted == found).count();
    let best = range.map(|at| (equal(at), Reverse(at.abs_diff(expected)), at)).max();
    let Some((count, _, at)) = best.filter(|(count, ..)| *count > 0) else {
        let line = old.iter().find(|line| !line.trim_ascii().is_empty()).unwrap_or(&old[0]);
        return match lines.iter().position(|found| squeezed(found).eq(squeezed(line))) {
            Some(at) => differs(line, at, Some(lines[at])),
            None => format!("none of its lines is in the file\n  expected: `{}`", shown(line)),
        };
    };
    let wrong = (0..old.len()).find(|position| lines.get(at + position) != Some(&old[*position])).unwrap_or(0);
    let found = lines.get(at + wrong).copied();
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
            fn split(bytes: &[u8]) -> Vec<&[u8]> {
                bytes.chunks(1).collect()
            }
            let plain: Vec<usize> = lines.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted).map(|(at, _)| at).collect();
            prop_assert_eq!(occurrences(&split(&wanted), &split(&lines)), plain);
        }
    }
}
