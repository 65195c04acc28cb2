//! What is collected from the mark of a read on.
//!
//! `top` is the row of the main screen where the read's text begins. It starts at the line the cursor is on, goes up when the cursor
//! visits a row above (a progress display that redraws itself), and scrolls with the screen. Rows that leave the screen at its top go
//! into the emulator's history, are taken out of it here at once, and are text if they were at or below `top`.
//!
//! Until the main screen has been seen (a full-screen program was running at the mark) there is no `top`; it becomes the row where the
//! cursor is when that program gives the main screen back.

use std::ops::Range;

use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::term::{Term, TermMode};

use crate::cells;

/// Which rows an action of the emulator may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Only those where the cursor was and is.
    Cursor,
    /// Any.
    Screen,
}

/// Text and bookkeeping of one read.
pub(crate) struct Marked {
    /// Lines that left the screen, each with its newline, but for one that goes on on the screen.
    pub(crate) text: String,
    /// Characters of `text`.
    pub(crate) count: usize,
    /// Combining characters that may be on the screen: those there at the mark and all that came since.
    pub(crate) combining: usize,
    /// Rows whose text may have changed since this was last emptied.
    pub(crate) touched: Range<usize>,
    top: Option<usize>,
}

pub(crate) fn is_full_screen<T>(term: &Term<T>) -> bool {
    term.mode().contains(TermMode::ALT_SCREEN)
}

/// The row where the line begins that the cursor is on.
fn line_start<T>(term: &Term<T>) -> usize {
    let mut row = cursor_row(term);
    while row > 0 && cells::is_wrapped(&term.grid()[cells::line(row - 1)]) {
        row -= 1;
    }
    row
}

pub(crate) fn cursor_row<T>(term: &Term<T>) -> usize {
    // The emulator keeps its cursor on the screen.
    usize::try_from(term.grid().cursor.point.line.0).unwrap_or_default()
}

impl Marked {
    pub(crate) fn new<T>(term: &Term<T>) -> Self {
        let rows = 0..term.screen_lines();
        let combining = rows.clone().flat_map(|row| &term.grid()[cells::line(row)][..]).map(|cell| cells::combining(cell).len()).sum();
        let top = (!is_full_screen(term)).then(|| line_start(term));
        Self { text: String::new(), count: 0, combining, touched: rows, top }
    }

    /// Where the text begins on the main screen.
    pub(crate) fn top(&self) -> usize {
        self.top.unwrap_or_default()
    }

    /// Takes note of what an action did; `row` is where the cursor was before it.
    #[inline]
    pub(crate) fn note<T>(&mut self, term: &mut Term<T>, row: usize, reach: Reach) {
        if is_full_screen(term) {
            self.touched = 0..term.screen_lines();
            return;
        }
        let now = cursor_row(term);
        let scrolled = term.grid().history_size();
        if scrolled > 0 {
            self.harvest(term, scrolled);
        }
        if self.top.is_none_or(|top| now < top) {
            self.top = Some(line_start(term));
        }
        if scrolled > 0 || reach == Reach::Screen {
            self.touched = 0..term.screen_lines();
        } else {
            self.touch(row.min(now)..row.max(now) + 1);
        }
    }

    fn touch(&mut self, rows: Range<usize>) {
        self.touched = if self.touched.is_empty() { rows } else { self.touched.start.min(rows.start)..self.touched.end.max(rows.end) };
    }

    /// The screen has another size: rows were merged and split, so that the text begins at its top from here on. Lines that left it
    /// are kept, even from above the mark: to say a line twice is better than to lose it.
    pub(crate) fn note_resize<T>(&mut self, term: &mut Term<T>) {
        self.touched = 0..term.screen_lines();
        self.top = self.top.map(|_| 0);
        let scrolled = term.grid().history_size();
        if scrolled > 0 && !is_full_screen(term) {
            self.harvest(term, scrolled);
        }
    }

    fn harvest<T>(&mut self, term: &mut Term<T>, scrolled: usize) {
        if let Some(top) = self.top {
            for index in top..scrolled {
                let row = &term.grid()[cells::line(index) - scrolled];
                self.count += cells::push_row(row, &mut self.text);
                if !cells::is_wrapped(row) {
                    self.count = self.count.saturating_add_signed(cells::end_line(&mut self.text));
                }
            }
            self.top = Some(top.saturating_sub(scrolled));
        }
        term.grid_mut().clear_history();
    }
}
