//! The size of a terminal, kept within what the emulator can hold.

use alacritty_terminal::grid::Dimensions;

/// A wide character needs two columns, so the emulator does.
const COLUMNS_MIN: u16 = 2;
/// Twice what a shell may be opened with; a screen of the largest size is 24 MB of cells.
const COLUMNS_MAX: u16 = 1000;
const ROWS_MAX: u16 = 1000;

/// Columns and rows of a terminal. Sizes that no screen has (no rows, thousands of columns) are brought within bounds when used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Cells per row.
    pub columns: u16,
    /// Rows of the screen.
    pub rows: u16,
}

impl Size {
    pub(crate) fn within_bounds(self) -> Self {
        Self { columns: self.columns.clamp(COLUMNS_MIN, COLUMNS_MAX), rows: self.rows.clamp(1, ROWS_MAX) }
    }
}

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.screen_lines()
    }

    fn screen_lines(&self) -> usize {
        usize::from(self.rows)
    }

    fn columns(&self) -> usize {
        usize::from(self.columns)
    }
}
