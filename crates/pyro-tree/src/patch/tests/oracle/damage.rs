//! What happens to patches on their way.

use proptest::prelude::*;

/// One thing that happens. Numbers choose among the lines there are.
#[derive(Debug, Clone)]
pub(super) enum Damage {
    Drop(usize),
    Insert(usize, &'static str),
    Duplicate(usize),
    Mark(usize, u8),
    Unmark(usize),
    Swap(usize),
    Indent(usize),
    /// After a line, or within one.
    Truncate(usize),
    TruncateWithin(usize, usize),
    /// A number of a hunk header.
    Count(usize, usize, i64),
    Bare(usize),
    Twice,
    LoseLastNewline,
    LoseBlanks,
    Prose,
    Fence,
}

pub(super) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let at = 0..256_usize;
    let lines = proptest::sample::select(vec![
        "",
        " ",
        "...",
        "unmarked",
        "one",
        "+one",
        "-one",
        " one",
        "+added",
        "@@ -1 +1 @@",
        "@@",
        "@@ ... @@",
        "--- a/f",
        "+++ b/f",
        "diff --git a/f b/f",
        "```",
        "-- ",
        "--",
        "2.39.2",
        "\\ No newline at end of file",
        "\\",
        "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001",
        "- item",
        "Index: f",
        "diff = 1",
        "```diff",
        "Only in a: b",
        "index 1..2",
        "new mode 100755",
    ]);
    let damage = prop_oneof![
        3 => at.clone().prop_map(Damage::Drop),
        4 => (at.clone(), lines).prop_map(|(at, line)| Damage::Insert(at, line)),
        2 => at.clone().prop_map(Damage::Duplicate),
        2 => (at.clone(), proptest::sample::select(b" +-".to_vec())).prop_map(|(at, mark)| Damage::Mark(at, mark)),
        3 => at.clone().prop_map(Damage::Unmark),
        1 => at.clone().prop_map(Damage::Swap),
        1 => at.clone().prop_map(Damage::Indent),
        3 => at.clone().prop_map(Damage::Truncate),
        1 => (at.clone(), 0..16_usize).prop_map(|(at, within)| Damage::TruncateWithin(at, within)),
        4 => (at.clone(), 0..4_usize, -3..4_i64).prop_map(|(at, number, by)| Damage::Count(at, number, by)),
        1 => at.prop_map(Damage::Bare),
        1 => Just(Damage::Twice),
        1 => Just(Damage::LoseLastNewline),
        1 => Just(Damage::LoseBlanks),
        1 => Just(Damage::Prose),
        1 => Just(Damage::Fence),
    ];
    proptest::collection::vec(damage, 1..3)
}

pub(super) fn damaged(patch: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = patch.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    for damage in damages {
        let count = lines.len();
        if count == 0 {
            break;
        }
        let hunks: Vec<usize> = (0..count).filter(|at| lines[*at].starts_with(b"@@ -")).collect();
        match damage {
            Damage::Drop(at) => drop(lines.remove(at % count)),
            Damage::Insert(at, line) => lines.insert(at % (count + 1), [line.as_bytes(), b"\n"].concat()),
            Damage::Duplicate(at) => lines.insert(at % count, lines[at % count].clone()),
            Damage::Mark(at, mark) => lines[at % count][0] = if lines[at % count][0] == b'\n' { b'\n' } else { *mark },
            Damage::Unmark(at) => {
                if lines[at % count].len() > 1 {
                    lines[at % count].remove(0);
                }
            }
            Damage::Swap(at) => lines.swap(at % count, (at + 1) % count),
            Damage::Indent(at) => lines[at % count..].iter_mut().for_each(|line| line.insert(0, b' ')),
            Damage::Truncate(at) => lines.truncate(at % count + 1),
            Damage::TruncateWithin(at, within) => {
                lines.truncate(at % count + 1);
                let last = &mut lines[at % count];
                last.truncate(within % last.len());
            }
            Damage::Count(at, number, by) if !hunks.is_empty() => {
                let line = &mut lines[hunks[at % hunks.len()]];
                *line = renumbered(line, *number, *by);
            }
            Damage::Bare(at) if !hunks.is_empty() => lines[hunks[at % hunks.len()]] = b"@@ ... @@\n".to_vec(),
            Damage::Count(..) | Damage::Bare(_) => {}
            Damage::Twice => lines.extend(lines.clone()),
            Damage::LoseLastNewline => {
                if lines[count - 1].ends_with(b"\n") {
                    lines[count - 1].pop();
                }
            }
            Damage::LoseBlanks => lines.iter_mut().filter(|line| *line == b" \n").for_each(|line| *line = b"\n".to_vec()),
            Damage::Prose => {
                lines.insert(0, b"Here it is:\n\n".to_vec());
                lines.push(b"\nThat was it.\n".to_vec());
            }
            Damage::Fence => {
                lines.insert(0, b"```diff\n".to_vec());
                lines.push(b"```\n".to_vec());
            }
        }
        // Pieces of several lines count as such from here on.
        lines = lines.concat().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    }
    lines.concat()
}

/// Adds to one of the four numbers of a hunk header.
fn renumbered(header: &[u8], number: usize, by: i64) -> Vec<u8> {
    let text = String::from_utf8_lossy(header).into_owned();
    let Some((ranges, rest)) = text[3..].split_once(" @@") else { return header.to_vec() };
    let mut numbers = Vec::new();
    for range in ranges.split(' ') {
        let (start, count) = range[1..].split_once(',').unwrap_or((&range[1..], "1"));
        for part in [start, count] {
            let Ok(part) = part.parse::<i64>() else { return header.to_vec() };
            numbers.push(part);
        }
    }
    if let Some(number) = numbers.get_mut(number) {
        *number = (*number + by).max(0);
    }
    match numbers.as_slice() {
        [old, old_count, new, new_count] => format!("@@ -{old},{old_count} +{new},{new_count} @@{rest}").into_bytes(),
        _ => header.to_vec(),
    }
}
