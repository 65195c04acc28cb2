//! The full screen: what ratatui draws, as bytes, written on a thread of its own.
//!
//! A picture is drawn only when the one before has reached the terminal. So a terminal that takes nothing costs a picture, never a key, and
//! ratatui's idea of what the terminal shows stays right.

use std::{convert::Infallible, fmt::Write as _, io, time::Duration};

use bytes::Bytes;
use ratatui::{
    Terminal,
    backend::{Backend, ClearType, WindowSize},
    buffer::Cell,
    layout::{Position, Size},
    style::{Color, Modifier},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::terminal::{self, Flow};

/// Alternate screen, cleared, without wrapping and cursor.
const ENTER: &str = "\x1b[?1049h\x1b[2J\x1b[?7l\x1b[?25l";
/// How long the last picture may take before the terminal counts as stuck.
const END_DEADLINE: Duration = Duration::from_millis(500);

/// The screen. The terminal must be in raw mode.
pub(super) struct Screen {
    terminal: Terminal<Ansi>,
    pictures: mpsc::Sender<Bytes>,
    writer: JoinHandle<io::Result<()>>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Screen")
    }
}

impl Screen {
    pub(super) fn open() -> Self {
        // One piece is being written, one waits: that is the picture after which nothing is drawn for a while.
        let (pictures, mut receiver) = mpsc::channel::<Bytes>(1);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(picture) = receiver.blocking_recv() {
                let mut stdout = io::stdout().lock();
                io::Write::write_all(&mut stdout, &picture)?;
                io::Write::flush(&mut stdout)?;
            }
            Ok(())
        });
        let backend = Ansi { text: ENTER.to_owned(), ..Ansi::default() };
        let terminal = match Terminal::new(backend) {
            Ok(terminal) => terminal,
            Err(never) => match never {},
        };
        Self { terminal, pictures, writer }
    }

    /// Draws, unless the terminal is still busy with the picture before; tells whether it did.
    pub(super) fn draw(&mut self, view: impl FnOnce(&mut ratatui::Frame<'_>)) -> bool {
        let Ok(place) = self.pictures.try_reserve() else { return false };
        match self.terminal.draw(view) {
            Ok(_) => {}
            Err(never) => match never {},
        }
        place.send(Bytes::from(std::mem::take(&mut self.terminal.backend_mut().text)));
        true
    }

    /// Waits until a picture can be drawn.
    pub(super) async fn idle(&self) {
        drop(self.pictures.reserve().await);
    }

    /// Forgets what the terminal shows: the next picture is whole.
    pub(super) fn redraw(&mut self) {
        match self.terminal.clear() {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Ends the writing; the terminal's modes are the caller's to put back.
    pub(super) async fn close(self) -> Flow {
        let Self { terminal, pictures, writer } = self;
        drop((terminal, pictures));
        match timeout(END_DEADLINE, writer).await {
            Ok(_) => Flow::Free,
            Err(_) => Flow::Stuck,
        }
    }
}

/// Writes cells as the sequences of ECMA-48, which every terminal of today knows.
#[derive(Debug, Default)]
struct Ansi {
    text: String,
    cursor: Position,
}

impl Ansi {
    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.text.write_fmt(arguments);
    }
}

/// Returns the number of one of the sixteen colours, from 30; the view uses no others.
fn colour(colour: Color) -> u8 {
    match colour {
        Color::Black => 30,
        Color::Red => 31,
        Color::Green => 32,
        Color::Yellow => 33,
        Color::Blue => 34,
        Color::Magenta => 35,
        Color::Cyan => 36,
        Color::Gray => 37,
        Color::DarkGray => 90,
        Color::LightRed => 91,
        Color::LightGreen => 92,
        Color::LightYellow => 93,
        Color::LightBlue => 94,
        Color::LightMagenta => 95,
        Color::LightCyan => 96,
        Color::White => 97,
        Color::Reset | Color::Rgb(..) | Color::Indexed(_) => 39,
    }
}

impl Backend for Ansi {
    type Error = Infallible;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> Result<(), Infallible> {
        let mut expected = None;
        let mut style = None;
        for (x, y, cell) in content {
            if expected != Some((x, y)) {
                self.push(format_args!("\x1b[{};{}H", y + 1, x + 1));
            }
            // Where the cursor is after a wide character is the terminal's opinion: so it is only known after a narrow one.
            expected = cell.symbol().is_ascii().then_some((x + 1, y));
            let wanted = (cell.fg, cell.bg, cell.modifier);
            if style != Some(wanted) {
                style = Some(wanted);
                self.push(format_args!("\x1b[0;{};{}", colour(cell.fg), colour(cell.bg) + 10));
                for (modifier, number) in
                    [(Modifier::BOLD, 1), (Modifier::DIM, 2), (Modifier::ITALIC, 3), (Modifier::UNDERLINED, 4), (Modifier::REVERSED, 7)]
                {
                    if cell.modifier.contains(modifier) {
                        self.push(format_args!(";{number}"));
                    }
                }
                self.text.push('m');
            }
            self.text.push_str(cell.symbol());
        }
        self.text.push_str("\x1b[0m");
        Ok(())
    }

    fn hide_cursor(&mut self) -> Result<(), Infallible> {
        self.text.push_str("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> Result<(), Infallible> {
        self.text.push_str("\x1b[?25h");
        Ok(())
    }

    fn get_cursor_position(&mut self) -> Result<Position, Infallible> {
        Ok(self.cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> Result<(), Infallible> {
        self.cursor = position.into();
        let Position { x, y } = self.cursor;
        self.push(format_args!("\x1b[{};{}H", y + 1, x + 1));
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Infallible> {
        self.text.push_str("\x1b[0m\x1b[2J");
        Ok(())
    }

    fn clear_region(&mut self, clear_type: ClearType) -> Result<(), Infallible> {
        self.text.push_str(match clear_type {
            ClearType::All => "\x1b[0m\x1b[2J",
            ClearType::AfterCursor => "\x1b[0J",
            ClearType::BeforeCursor => "\x1b[1J",
            ClearType::CurrentLine => "\x1b[2K",
            ClearType::UntilNewLine => "\x1b[0K",
        });
        Ok(())
    }

    fn size(&self) -> Result<Size, Infallible> {
        let (width, height) = terminal::size();
        Ok(Size { width, height })
    }

    fn window_size(&mut self) -> Result<WindowSize, Infallible> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::default() })
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn cells_are_written_with_their_style_and_place() {
        let mut backend = Ansi::default();
        let mut bold = Cell::new("b");
        bold.set_style(Style::new().fg(Color::Green).add_modifier(Modifier::BOLD));
        let cells = [(0, 0, Cell::new("a")), (1, 0, bold), (5, 1, Cell::new("é")), (6, 1, Cell::new("c"))];
        match backend.draw(cells.iter().map(|(x, y, cell)| (*x, *y, cell))) {
            Ok(()) => {}
            Err(never) => match never {},
        }
        let expected = "\x1b[1;1H\x1b[0;39;49ma\x1b[0;32;49;1mb\x1b[2;6H\x1b[0;39;49mé\x1b[2;7Hc\x1b[0m";
        assert_eq!(backend.text, expected);
    }
}
