//! Escape sequences that bring another terminal to the same screen and modes.
//!
//! What is not brought over: the main screen beneath a full-screen program, saved cursors, tab stops, and which rows were one line (each
//! is placed by itself, with wrapping off, so that a terminal with other ideas of a character's width stays in step at least by row).
//! Modes are set or reset explicitly, never assumed: the person's terminal has its own past.

use std::fmt::Write;

use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::term::TermMode;
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::vte::ansi::{CharsetIndex, Color, NamedColor, StandardCharset};

use crate::cells;
use crate::marked::cursor_row;
use crate::screen::Screen;

/// Plain characters and attributes, replace mode, no origin, no wrapping, scrolling everywhere.
const NEUTRAL: &str = "\x1b[0m\x1b(B\x1b)B\x0f\x1b[4l\x1b[?6l\x1b[?7l\x1b[r";

/// What the keyboard and the mouse send. Mouse modes exclude each other, so all are switched off before one is switched on.
const PRIVATE_MODES: [(TermMode, u16); 9] = [
    (TermMode::APP_CURSOR, 1),
    (TermMode::MOUSE_REPORT_CLICK, 1000),
    (TermMode::MOUSE_DRAG, 1002),
    (TermMode::MOUSE_MOTION, 1003),
    (TermMode::FOCUS_IN_OUT, 1004),
    (TermMode::UTF8_MOUSE, 1005),
    (TermMode::SGR_MOUSE, 1006),
    (TermMode::BRACKETED_PASTE, 2004),
    (TermMode::SHOW_CURSOR, 25),
];

const ATTRIBUTES: [(Flags, u8); 7] = [
    (Flags::BOLD, 1),
    (Flags::DIM, 2),
    (Flags::ITALIC, 3),
    (Flags::ALL_UNDERLINES, 4),
    (Flags::INVERSE, 7),
    (Flags::HIDDEN, 8),
    (Flags::STRIKEOUT, 9),
];

/// How a cell is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    foreground: Color,
    background: Color,
    flags: Flags,
}

impl Look {
    const PLAIN: Self =
        Self { foreground: Color::Named(NamedColor::Foreground), background: Color::Named(NamedColor::Background), flags: Flags::empty() };

    fn of(cell: &Cell) -> Self {
        let drawn = ATTRIBUTES.iter().fold(Flags::empty(), |all, (flags, _)| all | *flags);
        Self { foreground: cell.fg, background: cell.bg, flags: cell.flags & drawn }
    }

    /// Whether a blank looks like an empty screen.
    fn leaves_blanks_empty(self) -> bool {
        let visible = Flags::ALL_UNDERLINES | Flags::INVERSE | Flags::STRIKEOUT;
        self.background == Self::PLAIN.background && !self.flags.intersects(visible)
    }

    fn write(self, out: &mut Out) {
        out.put("\x1b[0");
        for (flags, number) in ATTRIBUTES {
            if self.flags.intersects(flags) {
                out.number(";", number);
            }
        }
        out.color(self.foreground, 30);
        out.color(self.background, 40);
        out.put("m");
    }
}

/// The sequences so far.
#[derive(Default)]
struct Out(String);

impl Out {
    fn put(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn number(&mut self, before: &str, number: impl std::fmt::Display) {
        // A string takes whatever is written to it.
        let _ = write!(self.0, "{before}{number}");
    }

    /// `base` is 30 for the foreground, 40 for the background.
    fn color(&mut self, color: Color, base: u8) {
        match color {
            Color::Named(name) => match name as usize {
                index @ 0..8 => self.number(";", usize::from(base) + index),
                index @ 8..16 => self.number(";", usize::from(base) + 60 + index - 8),
                // The default colour, after a reset.
                _ => {}
            },
            Color::Indexed(index) => {
                self.number(";", base + 8);
                self.number(";5;", index);
            }
            Color::Spec(rgb) => {
                self.number(";", base + 8);
                self.number(";2;", rgb.r);
                self.number(";", rgb.g);
                self.number(";", rgb.b);
            }
        }
    }

    fn place(&mut self, row: usize, column: usize) {
        self.number("\x1b[", row + 1);
        self.number(";", column + 1);
        self.put("H");
    }

    fn private_mode(&mut self, number: u16, on: bool) {
        self.number("\x1b[?", number);
        self.put(if on { "h" } else { "l" });
    }

    fn glyph(&mut self, cells: &[Cell], column: usize) {
        match cells::shown(&cells[column]) {
            Some(character) if !is_half(cells, column) => {
                self.0.push(character);
                self.0.extend(cells::combining(&cells[column]));
            }
            Some(_) | None => self.put(" "),
        }
    }
}

/// Whether the cell is a wide character without its second column, which inserting or deleting took away. It is drawn as a blank.
fn is_half(cells: &[Cell], column: usize) -> bool {
    cells[column].flags.contains(Flags::WIDE_CHAR)
        && !cells.get(column + 1).is_some_and(|next| next.flags.contains(Flags::WIDE_CHAR_SPACER))
}

/// Whether the cell is the second column of the wide character before it.
fn is_second(cells: &[Cell], column: usize) -> bool {
    cells[column].flags.contains(Flags::WIDE_CHAR_SPACER)
        && column.checked_sub(1).is_some_and(|before| cells[before].flags.contains(Flags::WIDE_CHAR))
}

fn is_drawn(cells: &[Cell], column: usize) -> bool {
    let cell = &cells[column];
    let has_glyph = cells::shown(cell).is_some_and(|character| character != ' ') || !cells::combining(cell).is_empty();
    has_glyph && !is_half(cells, column) || !Look::of(cell).leaves_blanks_empty()
}

pub(crate) fn paint(screen: &Screen) -> Vec<u8> {
    let mut out = Out::default();
    out.put(NEUTRAL);
    out.private_mode(1049, screen.is_full_screen());
    out.put("\x1b[H\x1b[2J");
    paint_rows(screen, &mut out);
    paint_modes(screen, &mut out);
    out.0.into_bytes()
}

fn paint_rows(screen: &Screen, out: &mut Out) {
    let mut look = Look::PLAIN;
    for row in 0..screen.term().screen_lines() {
        let cells = &screen.term().grid()[cells::line(row)][..];
        let Some(last) = (0..cells.len()).rev().find(|&column| is_drawn(cells, column)) else { continue };
        out.place(row, 0);
        for column in (0..=last).filter(|&column| !is_second(cells, column)) {
            let wanted = Look::of(&cells[column]);
            if wanted != look {
                wanted.write(out);
                look = wanted;
            }
            out.glyph(cells, column);
        }
    }
}

/// Sets modes, and the cursor between those that move it and those that change what printing does.
fn paint_modes(screen: &Screen, out: &mut Out) {
    let term = screen.term();
    let mode = term.mode();
    let region = screen.region();
    let origin = mode.contains(TermMode::ORIGIN);
    out.number("\x1b[", region.start + 1);
    out.number(";", region.end);
    out.put("r");
    out.private_mode(6, origin);
    out.private_mode(7, mode.contains(TermMode::LINE_WRAP));
    paint_cursor(screen, if origin { usize::try_from(region.start).unwrap_or_default() } else { 0 }, out);

    for (flag, number) in PRIVATE_MODES {
        if !mode.contains(flag) {
            out.private_mode(number, false);
        }
    }
    for (flag, number) in PRIVATE_MODES {
        if mode.contains(flag) {
            out.private_mode(number, true);
        }
    }
    out.put(if mode.contains(TermMode::APP_KEYPAD) { "\x1b=" } else { "\x1b>" });
    out.put(if mode.contains(TermMode::INSERT) { "\x1b[4h" } else { "\x1b[4l" });
    out.put(if mode.contains(TermMode::LINE_FEED_NEW_LINE) { "\x1b[20h" } else { "\x1b[20l" });
    for (index, designation) in [(CharsetIndex::G0, "\x1b("), (CharsetIndex::G1, "\x1b)")] {
        out.put(designation);
        out.put(match term.grid().cursor.charsets[index] {
            StandardCharset::Ascii => "B",
            StandardCharset::SpecialCharacterAndLineDrawing => "0",
        });
    }
    out.put(if screen.charset() == CharsetIndex::G1 { "\x0e" } else { "\x0f" });
}

fn paint_cursor(screen: &Screen, first_row: usize, out: &mut Out) {
    let grid = screen.term().grid();
    let row = cursor_row(screen.term());
    let placed = row.saturating_sub(first_row);
    let column = grid.cursor.point.column.0;
    out.place(placed, column);
    // After the last column the next character goes to the next row. Only printing there again brings a terminal into that state.
    if grid.cursor.input_needs_wrap {
        let cells = &grid[cells::line(row)][..];
        let first = if is_second(cells, column) { column - 1 } else { column };
        out.place(placed, first);
        Look::of(&cells[first]).write(out);
        out.glyph(cells, first);
    }
    Look::of(&grid.cursor.template).write(out);
}
