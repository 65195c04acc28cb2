//! What `git diff --stat` shows, with its arithmetic.

use super::{Change, DiffEntry, quote::quoted};
use crate::entry::EntryKind;

/// Blanks, bars and margins of a line.
const MARGINS: usize = 6;
/// Fewest columns of plus and minus signs.
const GRAPH_MIN: usize = 6;

struct Row {
    name: String,
    insertions: u64,
    deletions: u64,
    binary: Option<(u64, u64)>,
}

pub(super) fn stat(entries: &[DiffEntry], columns: usize) -> String {
    let files = entries.iter().filter(|entry| entry.kind != EntryKind::Directory || entry.change == Change::TypeChanged);
    let rows: Vec<Row> = files.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let most = rows.iter().map(|row| to_usize(row.insertions + row.deletions)).max().unwrap_or(0);
    let binary = rows.iter().any(|row| row.binary.is_some());
    let number_width = most.to_string().len().max(if binary { 3 } else { 0 });
    let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let widest_binary = rows.iter().filter_map(|row| row.binary).map(|sizes| bytes(sizes).len()).max().unwrap_or(0);
    // What a binary file shows stands where others have their graph, less the blank before it.
    let wanted = most.max(if binary { (widest_binary + 3).saturating_sub(number_width) } else { 0 });
    let columns = columns.max(16 + 6 + number_width);
    let (mut names, mut graph) = (longest, wanted);
    if names + number_width + MARGINS + graph > columns {
        let share = (columns * 3 / 8).saturating_sub(number_width + MARGINS).max(GRAPH_MIN);
        graph = graph.min(share);
        if names > columns - number_width - MARGINS - graph {
            names = columns - number_width - MARGINS - graph;
        } else {
            graph = columns - number_width - MARGINS - names;
        }
    }
    let mut text = String::new();
    for row in &rows {
        let name = cut(&row.name, names);
        let padding = " ".repeat(names.saturating_sub(name.chars().count()));
        let body = match row.binary {
            Some(sizes) => format!("{:>number_width$} {}", "Bin", bytes(sizes)),
            None => {
                let total = row.insertions + row.deletions;
                let signs = signs(to_usize(row.insertions), to_usize(row.deletions), graph, most);
                format!("{total:>number_width$}{}{signs}", if total == 0 { "" } else { " " })
            }
        };
        text.push_str(&format!(" {name}{padding} | {body}\n"));
    }
    text.push_str(&summary(&rows));
    text
}

fn row(entry: &DiffEntry) -> Row {
    let new = quoted("", entry.path.as_bytes());
    let name = match &entry.old_path {
        Some(old) => format!("{} => {new}", quoted("", old.as_bytes())),
        None => new,
    };
    // A file that only moved or changed its mode has nothing to show of its content.
    let same = matches!(entry.change, Change::Renamed | Change::ModeChanged);
    let binary = (entry.binary && !same).then(|| (entry.old_size.unwrap_or(0), entry.new_size.unwrap_or(0)));
    Row { name, insertions: entry.insertions, deletions: entry.deletions, binary }
}

fn bytes((old, new): (u64, u64)) -> String {
    format!("{old} -> {new} bytes")
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Cuts a name at its left, at a slash if there is one.
fn cut(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(count - width.saturating_sub(3)).collect();
    format!("...{}", tail.find('/').map_or(tail.as_str(), |slash| &tail[slash..]))
}

fn signs(insertions: usize, deletions: usize, width: usize, most: usize) -> String {
    let scale = |count: usize| if count == 0 { 0 } else { 1 + count * (width - 1) / most };
    let (mut plus, mut minus) = (insertions, deletions);
    if width <= most {
        let mut total = scale(plus + minus);
        if total < 2 && plus > 0 && minus > 0 {
            total = 2;
        }
        if plus < minus {
            plus = scale(plus);
            minus = total - plus;
        } else {
            minus = scale(minus);
            plus = total - minus;
        }
    }
    "+".repeat(plus) + &"-".repeat(minus)
}

fn summary(rows: &[Row]) -> String {
    let plural = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let (insertions, deletions) = rows.iter().fold((0, 0), |(plus, minus), row| (plus + row.insertions, minus + row.deletions));
    let mut text = format!(" {} changed", plural(u64::try_from(rows.len()).unwrap_or(u64::MAX), "file", "files"));
    if insertions > 0 || deletions == 0 {
        text += &format!(", {}(+)", plural(insertions, "insertion", "insertions"));
    }
    if deletions > 0 || insertions == 0 {
        text += &format!(", {}(-)", plural(deletions, "deletion", "deletions"));
    }
    text + "\n"
}
