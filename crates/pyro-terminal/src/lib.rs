//! What a terminal's bytes look like on its screen, as plain text.
//!
//! Pure: bytes in, text out. No clock, no I/O, no thread, and where a stream is cut into pieces never changes the answer. The bytes are
//! hostile (a guest wrote them), so nothing here panics on them and memory is bounded by the screen's size and the reader's `max_chars`.
//!
//! ```text
//!  history ─▶ Terminal ──read(max_chars)──▶ Reading ──finish──▶ Plain { text, … } and the Terminal, for the next read
//!                │                             │
//!             repaint                 feed says how far it got
//! ```
//!
//! The emulator is `alacritty_terminal`. What the next reader will get wrong about it is written where it is worked around: in `stream`
//! (the parser's habits), in `screen` (the emulator's) and in `cells` (what a row means).
//!
//! Where terminals differ from each other, we show what this emulator shows. Against tmux 3.3 that is: an emoji built of several code
//! points (joined by U+200D, or widened by U+FE0F) takes the sum of its parts' columns; a backspace after the last column goes to
//! the column before it, as in xterm; `CSI 2 J` does not push the screen into the scrollback; a synchronized update (`CSI ? 2026 h`) is shown as far as it has come, since only a clock could decide otherwise.

mod cells;
mod limit;
mod marked;
mod reading;
mod repaint;
mod screen;
mod size;
mod stream;
mod terminal;

pub use reading::{Plain, Reading};
pub use size::Size;
pub use terminal::Terminal;
