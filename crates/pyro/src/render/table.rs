//! Small forms: columns, sizes, durations.

/// Lines columns up, two spaces apart; the last one is not padded.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lines names and values up; values that are not there are left out.
pub(super) fn fields(fields: &[(&str, Option<String>)]) -> String {
    let rows: Vec<Vec<String>> =
        fields.iter().filter_map(|(name, value)| value.as_ref().map(|value| vec![(*name).to_owned(), value.clone()])).collect();
    columns(&rows)
}

/// Writes a size in the unit a person would choose.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 { format!("{value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Writes milliseconds in the unit a person would choose.
pub(crate) fn duration(milliseconds: f64) -> String {
    if milliseconds >= 60_000.0 {
        format!("{:.0} min {:.0} s", (milliseconds / 60_000.0).floor(), (milliseconds % 60_000.0) / 1000.0)
    } else if milliseconds >= 1000.0 {
        format!("{:.1} s", milliseconds / 1000.0)
    } else if milliseconds >= 10.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{milliseconds:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_readable_units() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(200 << 20)], ["0 B", "1023 B", "1.5 KiB", "200 MiB"]);
        assert_eq!([duration(0.25), duration(41.2), duration(1500.0), duration(90_000.0)], ["0.2 ms", "41 ms", "1.5 s", "1 min 30 s"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(columns(&rows), "a     b\nlong\n");
    }
}
