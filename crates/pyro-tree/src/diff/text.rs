//! The hunks of a text file.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

/// Lines shown around a change.
const CONTEXT: u32 = 3;
/// Where Git looks for a NUL that makes a file binary.
const BINARY_PROBE_BYTES: usize = 8000;

/// Returns whether Git would take this content for binary.
pub(super) fn is_binary(content: &[u8]) -> bool {
    content[..content.len().min(BINARY_PROBE_BYTES)].contains(&0)
}

/// How many lines came and went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) insertions: u64,
    pub(super) deletions: u64,
}

/// Writes the hunks that make `after` of `before`.
pub(super) fn hunks(before: &[u8], after: &[u8], patch: &mut Vec<u8>) -> Counts {
    let input = InternedInput::new(before, after);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let counts = Counts { insertions: diff.count_additions().into(), deletions: diff.count_removals().into() };
    let mut group: Vec<imara_diff::Hunk> = Vec::new();
    let mut write = |group: &[imara_diff::Hunk]| {
        if let (Some(first), Some(last)) = (group.first(), group.last()) {
            write_group(group, first, last, &input, patch);
        }
    };
    for hunk in diff.hunks() {
        // Changes whose context would touch share a hunk.
        if group.last().is_some_and(|last| hunk.before.start > last.before.end.saturating_add(2 * CONTEXT)) {
            write(&group);
            group.clear();
        }
        group.push(hunk);
    }
    write(&group);
    counts
}

fn write_group(
    group: &[imara_diff::Hunk],
    first: &imara_diff::Hunk,
    last: &imara_diff::Hunk,
    input: &InternedInput<&[u8]>,
    patch: &mut Vec<u8>,
) {
    let lead = first.before.start.min(CONTEXT);
    let length = u32::try_from(input.before.len()).unwrap_or(u32::MAX);
    let tail = (length - last.before.end).min(CONTEXT);
    let old = first.before.start - lead..last.before.end + tail;
    let new = first.after.start - lead..last.after.end + tail;
    patch.extend_from_slice(format!("@@ -{} +{} @@\n", range(&old), range(&new)).as_bytes());
    let mut at = old.start;
    for hunk in group {
        lines(b' ', at..hunk.before.start, &input.before, input, patch);
        lines(b'-', hunk.before.clone(), &input.before, input, patch);
        lines(b'+', hunk.after.clone(), &input.after, input, patch);
        at = hunk.before.end;
    }
    lines(b' ', at..old.end, &input.before, input, patch);
}

fn range(range: &Range<u32>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        count => format!("{},{count}", range.start + 1),
    }
}

fn lines(mark: u8, range: Range<u32>, tokens: &[imara_diff::Token], input: &InternedInput<&[u8]>, patch: &mut Vec<u8>) {
    for position in range {
        let Some(token) = usize::try_from(position).ok().and_then(|position| tokens.get(position)) else { return };
        let line = input.interner[*token];
        patch.push(mark);
        patch.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            patch.extend_from_slice(b"\n\\ No newline at end of file\n");
        }
    }
}
