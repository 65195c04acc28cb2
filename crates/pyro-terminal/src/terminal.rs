//! A terminal that is fed a stream from its beginning, for its screen alone.

use std::time::Duration;

use alacritty_terminal::vte::ansi::{Processor, Timeout};

use crate::reading::Reading;
use crate::repaint;
use crate::screen::Screen;
use crate::size::Size;
use crate::stream::Stream;

/// Shows synchronized updates as they come.
///
/// The parser would hold back what follows `CSI ? 2026 h` for 150 ms or 2 MiB, and both depend on how the stream is cut and when.
#[derive(Default)]
struct AtOnce;

impl Timeout for AtOnce {
    fn set_timeout(&mut self, _duration: Duration) {}

    fn clear_timeout(&mut self) {}

    fn pending_timeout(&self) -> bool {
        false
    }
}

/// The state of a terminal after the bytes so far. Keeps no scrollback: memory is bounded by the size of the screen.
pub struct Terminal {
    pub(crate) stream: Stream,
    processor: Processor<AtOnce>,
    pub(crate) screen: Screen,
}

impl Terminal {
    /// Returns a terminal as it is before the first byte.
    pub fn new(size: Size) -> Self {
        Self { stream: Stream::default(), processor: Processor::new(), screen: Screen::new(size) }
    }

    /// Shows the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { stream, processor, screen } = self;
        stream.feed(bytes, &mut |bytes| processor.advance(screen, bytes));
    }

    /// Changes the size, as the stream's terminal did between the bytes before and those after.
    pub fn resize(&mut self, size: Size) {
        self.screen.resize(size);
    }

    /// Starts a read here, of at most `max_chars` characters of text (at least 1).
    pub fn read(self, max_chars: usize) -> Reading {
        Reading::new(self, max_chars)
    }

    /// Returns escape sequences that paint this screen on another terminal and put it into the same modes, for a person who attaches.
    ///
    /// The other terminal should be of the same size; whatever state it is in is reset. The main screen beneath a full-screen program and
    /// the scrollback are not painted.
    pub fn repaint(&self) -> Vec<u8> {
        repaint::paint(&self.screen)
    }

    /// Shows the next character; returns how many bytes it took.
    pub(crate) fn feed_unit(&mut self, bytes: &[u8]) -> usize {
        let Self { stream, processor, screen } = self;
        stream.feed_unit(bytes, &mut |bytes| processor.advance(screen, bytes))
    }
}
