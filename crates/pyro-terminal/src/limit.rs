//! When a read has collected enough: counts the characters its text has, without counting the whole screen for every byte.
//!
//! The count takes in what scrolled off and what the screen shows from the mark on, because both are the read's text. A read ends with the
//! very character that reaches the limit, so that where the stream is cut cannot matter. As long as even a full screen would stay below
//! the limit nothing is counted; after that only rows that changed are, and not while the characters to come cannot reach it.

use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::term::Term;

use crate::cells;
use crate::marked::{Marked, is_full_screen};

pub(crate) struct Limit {
    max_chars: usize,
    /// The count at which the read is full: a row less than `max_chars`, since one character can uncover a row of blanks before it.
    stop: usize,
    rows: Vec<usize>,
}

impl Limit {
    /// `max_chars` is at least 1.
    pub(crate) fn new<T>(max_chars: usize, marked: &mut Marked, term: &Term<T>) -> Self {
        let mut limit = Self { max_chars, stop: 0, rows: Vec::new() };
        limit.renew(marked, term);
        limit
    }

    /// Sets where to stop anew, after the mark and after a resize.
    ///
    /// What is on the screen already counts, but a read always leaves room for something new, however long the line it began with:
    /// otherwise a reader that takes little at a time would not get past a line longer than that.
    pub(crate) fn renew<T>(&mut self, marked: &mut Marked, term: &Term<T>) {
        self.rows = vec![0; term.screen_lines()];
        marked.touched = 0..term.screen_lines();
        let margin = term.columns().min(self.max_chars / 2);
        let begun = self.count(marked, term);
        self.stop = (self.max_chars - margin).max(begun + margin.max(1));
    }

    pub(crate) fn is_reached<T>(&mut self, marked: &mut Marked, term: &Term<T>) -> bool {
        // A full-screen program's text is its screen, which is bounded by itself.
        !is_full_screen(term) && Self::most(marked, term) >= self.stop && self.count(marked, term) >= self.stop
    }

    /// How many bytes without escapes can be fed at once: so many that the limit is not reached by any of them.
    ///
    /// Such a byte prints, moves the cursor within its row, or moves it to the next row and scrolls by one row at most.
    pub(crate) fn room<T>(&mut self, marked: &mut Marked, term: &Term<T>) -> usize {
        if is_full_screen(term) {
            return usize::MAX;
        }
        let most = Self::most(marked, term);
        if most < self.stop {
            // A row that scrolls off is counted where it was, too.
            let room = (self.stop - most - 1) / (term.columns() + 2 + marked.combining);
            if room > 0 {
                return room;
            }
        }
        // A character may uncover blanks before it and blank rows above it, and fill up the row it wraps from.
        let growth = 2 * term.columns() + term.screen_lines() + 2;
        self.stop.saturating_sub(self.count(marked, term) + 1) / growth
    }

    /// The count if every cell of the screen were filled.
    fn most<T>(marked: &Marked, term: &Term<T>) -> usize {
        marked.count + term.screen_lines() * (term.columns() + 1) + marked.combining
    }

    fn count<T>(&mut self, marked: &mut Marked, term: &Term<T>) -> usize {
        for row in std::mem::take(&mut marked.touched) {
            if let Some(count) = self.rows.get_mut(row) {
                *count = cells::count_row(&term.grid()[cells::line(row)]);
            }
        }
        let shown = self.rows.get(marked.top()..).unwrap_or_default();
        let filled = shown.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
        marked.count + shown.iter().sum::<usize>() + filled
    }
}
