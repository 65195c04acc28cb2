//! The emulator behind a handler of ours, which takes the actions the parser finds and does less, or better, than the emulator alone.
//!
//! - **Nothing is answered and nothing is announced.** Queries, titles, clipboard, bells, colours of the palette and keyboard protocols are
//!   not passed on: the trait's empty defaults swallow them.
//! - **Nothing piles up.** A cell keeps at most [`COMBINING_MAX`] combining characters.
//! - **A clear screen is erased, not scrolled away.** The emulator pushes it into its history, where a person would not look for it and
//!   a program that redraws by clearing would leave every frame.
//! - **Mistakes of the emulator are evened out**: see [`Screen::go`], `delete_chars`, `clear_screen`, `put_tab`, `move_backward_tabs`,
//!   `set_scrolling_region`, and the older names of the alternate screen in [`Screen::switch`].
//!
//! While a read is marked, every action is noted in [`Marked`], so that no more than one action's rows are ever in the history.

use std::ops::Range;

use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::Column;
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::term::{Config, Term, TermMode};
use alacritty_terminal::vte::ansi::{
    Attr, CharsetIndex, ClearMode, Handler, LineClearMode, Mode, NamedPrivateMode, PrivateMode, StandardCharset, TabulationClearMode,
};
use unicode_width::UnicodeWidthChar;

use crate::cells;
use crate::marked::{Marked, Reach, cursor_row, is_full_screen};
use crate::size::Size;

/// Generous for any script, and for emoji families.
const COMBINING_MAX: usize = 32;

/// Rows the history may hold between an action and the moment they are taken out. Only a resize comes near: a screen of the largest size
/// cut into rows of two columns.
const HISTORY_ROWS: usize = 600_000;

/// The alternate screen before it had a number that saves the cursor, too; the emulator knows 1049 only.
const ALTERNATE_SCREENS: [u16; 2] = [47, 1047];
const SAVE_CURSOR: u16 = 1048;

pub(crate) struct Screen {
    term: Term<VoidListener>,
    /// Rows that scroll. The emulator keeps its own copy and does not show it.
    region: Range<i32>,
    /// The character set in use, of which the emulator does not tell either.
    charset: CharsetIndex,
    marked: Option<Marked>,
}

fn config(scrolling_history: usize) -> Config {
    Config { scrolling_history, ..Config::default() }
}

impl Screen {
    pub(crate) fn new(size: Size) -> Self {
        let size = size.within_bounds();
        let term = Term::new(config(0), &size, VoidListener);
        Self { term, region: 0..i32::from(size.rows), charset: CharsetIndex::G0, marked: None }
    }

    pub(crate) fn term(&self) -> &Term<VoidListener> {
        &self.term
    }

    pub(crate) fn region(&self) -> Range<i32> {
        self.region.clone()
    }

    pub(crate) fn charset(&self) -> CharsetIndex {
        self.charset
    }

    pub(crate) fn is_full_screen(&self) -> bool {
        is_full_screen(&self.term)
    }

    /// Starts to collect.
    pub(crate) fn mark(&mut self) -> (&mut Marked, &Term<VoidListener>) {
        self.term.set_options(config(HISTORY_ROWS));
        (self.marked.insert(Marked::new(&self.term)), &self.term)
    }

    pub(crate) fn marked_and_term(&mut self) -> Option<(&mut Marked, &Term<VoidListener>)> {
        self.marked.as_mut().map(|marked| (marked, &self.term))
    }

    /// Ends the collecting.
    pub(crate) fn unmark(&mut self) -> Option<Marked> {
        self.term.set_options(config(0));
        self.marked.take()
    }

    pub(crate) fn resize(&mut self, size: Size) {
        let size = size.within_bounds();
        if size.screen_lines() == self.term.screen_lines() && size.columns() == self.term.columns() {
            return;
        }
        self.term.resize(size);
        self.region = 0..i32::from(size.rows);
        if let Some(marked) = &mut self.marked {
            marked.note_resize(&mut self.term);
        }
    }

    #[inline]
    fn act(&mut self, reach: Reach, action: impl FnOnce(&mut Term<VoidListener>)) {
        let row = cursor_row(&self.term);
        action(&mut self.term);
        if let Some(marked) = &mut self.marked {
            marked.note(&mut self.term, row, reach);
        }
    }

    /// Puts the cursor somewhere, given as rows and columns of the screen.
    ///
    /// In origin mode the emulator adds the scrolling region's first row to relative movements, too, which sends the cursor astray.
    fn go(&mut self, line: i32, column: usize) {
        let origin = if self.term.mode().contains(TermMode::ORIGIN) { self.region.start } else { 0 };
        self.act(Reach::Cursor, |term| term.goto(line - origin, column));
    }

    fn line(&self) -> i32 {
        self.term.grid().cursor.point.line.0
    }

    fn column(&self) -> usize {
        self.term.grid().cursor.point.column.0
    }

    /// Where moving up by `rows` ends: at the top margin, if the cursor is not above it already.
    fn up(&self, rows: usize) -> i32 {
        let line = self.line();
        let end = if line >= self.region.start { self.region.start } else { 0 };
        line.saturating_sub_unsigned(u32::try_from(rows).unwrap_or(u32::MAX)).max(end)
    }

    fn down(&self, rows: usize) -> i32 {
        let line = self.line();
        let rows_on_screen = i32::try_from(self.term.screen_lines()).unwrap_or(i32::MAX);
        let end = if line < self.region.end { self.region.end } else { rows_on_screen };
        line.saturating_add_unsigned(u32::try_from(rows).unwrap_or(u32::MAX)).min(end - 1)
    }

    /// The mode as the emulator knows it, and the old number for saving the cursor carried out.
    fn switch(&mut self, mode: PrivateMode, to: Switch) {
        let number = mode.raw();
        if number == SAVE_CURSOR {
            match to {
                Switch::On => self.save_cursor_position(),
                Switch::Off => self.restore_cursor_position(),
            }
            return;
        }
        let mode = if ALTERNATE_SCREENS.contains(&number) { NamedPrivateMode::SwapScreenAndSetRestoreCursor.into() } else { mode };
        // Column mode, which clears the screen, also gives up the region.
        if mode == NamedPrivateMode::ColumnMode.into() {
            self.region = 0..i32::try_from(self.term.screen_lines()).unwrap_or(i32::MAX);
        }
        self.act(Reach::Screen, |term| match to {
            Switch::On => term.set_private_mode(mode),
            Switch::Off => term.unset_private_mode(mode),
        });
    }

    /// The cell that a combining character would go to.
    fn combining_target(&self) -> &Cell {
        let cursor = &self.term.grid().cursor;
        let row = &self.term.grid()[cursor.point.line];
        let last = if cursor.input_needs_wrap { cursor.point.column } else { Column(cursor.point.column.saturating_sub(1)) };
        if row[last].flags.contains(Flags::WIDE_CHAR_SPACER) { &row[Column(last.saturating_sub(1))] } else { &row[last] }
    }

    fn combine(&mut self, character: char) {
        if cells::combining(self.combining_target()).len() >= COMBINING_MAX {
            return;
        }
        self.act(Reach::Cursor, |term| term.input(character));
        if let Some(marked) = &mut self.marked {
            marked.combining += 1;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

impl Handler for Screen {
    #[inline]
    fn input(&mut self, character: char) {
        if !character.is_ascii() && character.width() == Some(0) {
            self.combine(character);
        } else {
            self.act(Reach::Cursor, |term| term.input(character));
        }
    }

    fn goto(&mut self, line: i32, column: usize) {
        self.act(Reach::Cursor, |term| term.goto(line, column));
    }

    fn goto_line(&mut self, line: i32) {
        let column = self.column();
        self.act(Reach::Cursor, |term| term.goto(line, column));
    }

    fn goto_col(&mut self, column: usize) {
        self.go(self.line(), column);
    }

    fn insert_blank(&mut self, count: usize) {
        self.act(Reach::Cursor, |term| term.insert_blank(count));
    }

    fn move_up(&mut self, rows: usize) {
        self.go(self.up(rows), self.column());
    }

    fn move_down(&mut self, rows: usize) {
        self.go(self.down(rows), self.column());
    }

    fn move_forward(&mut self, columns: usize) {
        self.act(Reach::Cursor, |term| term.move_forward(columns));
    }

    fn move_backward(&mut self, columns: usize) {
        self.act(Reach::Cursor, |term| term.move_backward(columns));
    }

    fn move_down_and_cr(&mut self, rows: usize) {
        self.go(self.down(rows), 0);
    }

    fn move_up_and_cr(&mut self, rows: usize) {
        self.go(self.up(rows), 0);
    }

    /// At the end of a full row a tab stays; the emulator would begin the next row.
    fn put_tab(&mut self, count: u16) {
        if !self.term.grid().cursor.input_needs_wrap {
            self.act(Reach::Cursor, |term| term.put_tab(count));
        }
    }

    fn backspace(&mut self) {
        self.act(Reach::Cursor, |term| term.backspace());
    }

    #[inline]
    fn carriage_return(&mut self) {
        self.act(Reach::Cursor, |term| term.carriage_return());
    }

    #[inline]
    fn linefeed(&mut self) {
        self.act(Reach::Cursor, |term| term.linefeed());
    }

    fn newline(&mut self) {
        self.act(Reach::Cursor, |term| term.newline());
    }

    fn set_horizontal_tabstop(&mut self) {
        self.term.set_horizontal_tabstop();
    }

    fn scroll_up(&mut self, rows: usize) {
        self.act(Reach::Screen, |term| term.scroll_up(rows));
    }

    fn scroll_down(&mut self, rows: usize) {
        self.act(Reach::Screen, |term| term.scroll_down(rows));
    }

    fn insert_blank_lines(&mut self, rows: usize) {
        self.act(Reach::Screen, |term| term.insert_blank_lines(rows));
    }

    fn delete_lines(&mut self, rows: usize) {
        self.act(Reach::Screen, |term| term.delete_lines(rows));
    }

    fn erase_chars(&mut self, count: usize) {
        self.act(Reach::Cursor, |term| term.erase_chars(count));
    }

    /// Asked for more than the row has after the cursor, the emulator would erase before the cursor.
    fn delete_chars(&mut self, count: usize) {
        let count = count.min(self.term.columns() - self.column());
        self.act(Reach::Cursor, |term| term.delete_chars(count));
    }

    /// The emulator would still go to the next row before it prints.
    fn move_backward_tabs(&mut self, count: u16) {
        self.act(Reach::Cursor, |term| {
            term.move_backward_tabs(count);
            term.grid_mut().cursor.input_needs_wrap = false;
        });
    }

    fn move_forward_tabs(&mut self, count: u16) {
        self.act(Reach::Cursor, |term| term.move_forward_tabs(count));
    }

    fn save_cursor_position(&mut self) {
        self.term.save_cursor_position();
    }

    fn restore_cursor_position(&mut self) {
        self.act(Reach::Cursor, |term| term.restore_cursor_position());
    }

    fn clear_line(&mut self, mode: LineClearMode) {
        self.act(Reach::Cursor, |term| term.clear_line(mode));
    }

    fn clear_screen(&mut self, mode: ClearMode) {
        self.act(Reach::Screen, |term| match mode {
            ClearMode::All => term.grid_mut().reset_region(..),
            // From the second row the emulator would leave the first one.
            ClearMode::Above => {
                let line = term.grid().cursor.point.line;
                if line == 1 {
                    term.grid_mut().reset_region(..line);
                }
                term.clear_screen(mode);
            }
            ClearMode::Below => term.clear_screen(mode),
            // There is none: what has scrolled off is text already.
            ClearMode::Saved => {}
        });
    }

    fn clear_tabs(&mut self, mode: TabulationClearMode) {
        self.term.clear_tabs(mode);
    }

    fn set_tabs(&mut self, interval: u16) {
        self.term.set_tabs(interval);
    }

    fn reset_state(&mut self) {
        self.charset = CharsetIndex::G0;
        self.region = 0..i32::try_from(self.term.screen_lines()).unwrap_or(i32::MAX);
        self.act(Reach::Screen, |term| term.reset_state());
    }

    fn reverse_index(&mut self) {
        self.act(Reach::Screen, |term| term.reverse_index());
    }

    fn terminal_attribute(&mut self, attribute: Attr) {
        self.term.terminal_attribute(attribute);
    }

    fn set_mode(&mut self, mode: Mode) {
        self.term.set_mode(mode);
    }

    fn unset_mode(&mut self, mode: Mode) {
        self.term.unset_mode(mode);
    }

    fn set_private_mode(&mut self, mode: PrivateMode) {
        self.switch(mode, Switch::On);
    }

    fn unset_private_mode(&mut self, mode: PrivateMode) {
        self.switch(mode, Switch::Off);
    }

    /// A region that begins below the screen is none; the emulator would take it for an empty one, where nothing scrolls.
    fn set_scrolling_region(&mut self, top: usize, bottom: Option<usize>) {
        let rows = self.term.screen_lines();
        let bottom = bottom.unwrap_or(rows).min(rows);
        let (Ok(first), Ok(end)) = (i32::try_from(top), i32::try_from(bottom)) else { return };
        if first >= 1 && first < end {
            self.region = first - 1..end;
            self.act(Reach::Cursor, |term| term.set_scrolling_region(top, Some(bottom)));
        }
    }

    fn set_keypad_application_mode(&mut self) {
        self.term.set_keypad_application_mode();
    }

    fn unset_keypad_application_mode(&mut self) {
        self.term.unset_keypad_application_mode();
    }

    fn set_active_charset(&mut self, index: CharsetIndex) {
        self.charset = index;
        self.term.set_active_charset(index);
    }

    fn configure_charset(&mut self, index: CharsetIndex, charset: StandardCharset) {
        self.term.configure_charset(index, charset);
    }

    fn decaln(&mut self) {
        self.act(Reach::Screen, |term| term.decaln());
    }
}
