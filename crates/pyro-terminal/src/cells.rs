//! What a row of cells says.
//!
//! A tab is kept in its cell as a tab, and the columns it skipped stay blank; a person sees blanks, so text has a space for each. The
//! second column of a wide character, and the column left over when one did not fit, are cells that say nothing.

use alacritty_terminal::grid::{Dimensions, Row};
use alacritty_terminal::index::Line;
use alacritty_terminal::term::Term;
use alacritty_terminal::term::cell::{Cell, Flags};

/// What a cell shows, or nothing when it only belongs to its neighbour.
pub(crate) fn shown(cell: &Cell) -> Option<char> {
    if cell.flags.intersects(Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER) {
        return None;
    }
    Some(if cell.c.is_control() { ' ' } else { cell.c })
}

/// Combining characters on a cell; those on a spacer are not shown.
pub(crate) fn combining(cell: &Cell) -> &[char] {
    cell.zerowidth().unwrap_or_default()
}

fn is_blank(cell: &Cell) -> bool {
    shown(cell).is_none_or(|character| character == ' ') && combining(cell).is_empty()
}

/// Whether the row goes on in the next one, because a line was longer than the screen.
pub(crate) fn is_wrapped(row: &Row<Cell>) -> bool {
    row[..].last().is_some_and(|cell| cell.flags.contains(Flags::WRAPLINE))
}

/// The cells up to the last one that shows something; all of them when the row goes on in the next one.
pub(crate) fn occupied(row: &Row<Cell>) -> &[Cell] {
    let cells = &row[..];
    if is_wrapped(row) {
        return cells;
    }
    let length = cells.iter().rposition(|cell| !is_blank(cell)).map_or(0, |last| last + 1);
    &cells[..length]
}

pub(crate) fn is_blank_row(row: &Row<Cell>) -> bool {
    row[..].iter().all(is_blank)
}

/// Appends what the row shows; returns how many characters that were.
pub(crate) fn push_row(row: &Row<Cell>, text: &mut String) -> usize {
    let mut count = 0;
    for cell in occupied(row) {
        if let Some(character) = shown(cell) {
            text.push(character);
            text.extend(combining(cell));
            count += 1 + combining(cell).len();
        }
    }
    count
}

/// How many characters [`push_row`] would append.
pub(crate) fn count_row(row: &Row<Cell>) -> usize {
    occupied(row).iter().filter(|cell| shown(cell).is_some()).map(|cell| 1 + combining(cell).len()).sum()
}

/// Ends a line: takes its trailing spaces away and appends a newline; returns how many characters the text grew by, which may be negative.
pub(crate) fn end_line(text: &mut String) -> isize {
    let trimmed = text.trim_end_matches(' ').len();
    let spaces = text.len() - trimmed;
    text.truncate(trimmed);
    text.push('\n');
    1 - spaces.cast_signed()
}

/// Rows of the screen as they are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// A line that went on in the next row is one line again.
    Lines,
    /// Each row is a line.
    Rows,
}

/// The screen's last row that shows something.
pub(crate) fn last_row<T>(term: &Term<T>) -> Option<usize> {
    (0..term.screen_lines()).rev().find(|&index| !is_blank_row(&term.grid()[line(index)]))
}

/// Appends the screen's rows from `first` on, without trailing spaces and trailing blank rows.
pub(crate) fn push_screen<T>(term: &Term<T>, first: usize, joining: Joining, text: &mut String) {
    let Some(last) = last_row(term) else { return };
    for index in first..=last {
        let row = &term.grid()[line(index)];
        push_row(row, text);
        if joining == Joining::Rows || !is_wrapped(row) || index == last {
            end_line(text);
        }
    }
}

/// The emulator's name of a row of the screen.
pub(crate) fn line(index: usize) -> Line {
    // The screen has at most `ROWS_MAX` rows.
    Line(i32::try_from(index).unwrap_or(i32::MAX))
}
