//! What a read of a terminal's stream says, tested through the public surface.

mod bounds;
mod cuts;
mod programs;
mod repaint;
mod text;
mod tmux;

use pyro_terminal::{Plain, Size, Terminal};

/// Small enough that tests show whole screens.
const SIZE: Size = Size { columns: 20, rows: 5 };
const MANY: usize = 65_536;

/// What a read says that begins after `history` and takes all of `bytes`.
fn read_at(size: Size, history: &[u8], bytes: &[u8]) -> Plain {
    let mut terminal = Terminal::new(size);
    terminal.feed(history);
    let mut reading = terminal.read(MANY);
    assert_eq!(reading.feed(bytes), bytes.len());
    reading.finish().0
}

fn check(history: &str, bytes: &str, expected: &str) {
    let plain = read_at(SIZE, history.as_bytes(), bytes.as_bytes());
    assert_eq!(plain, Plain { text: expected.to_owned(), truncated: false, full_screen: false });
}
