//! One read of a stream as plain text: from the mark until all is fed or enough is collected.

use crate::cells::{self, Joining};
use crate::limit::Limit;
use crate::size::Size;
use crate::terminal::Terminal;

/// What a person would have seen of a piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Lines separated by `\n`, without other control characters, trailing spaces and trailing blank lines.
    pub text: String,
    /// The beginning of the text was cut off, because the screen alone has more than `max_chars` characters.
    pub truncated: bool,
    /// A full-screen program runs, and the text is its screen.
    pub full_screen: bool,
}

/// A read that has begun.
///
/// The text begins with the line the cursor was on at the mark, whole, or with the topmost line the cursor has visited since; it ends
/// with the screen's last row that shows something. When a full-screen program runs in the end, the text is its screen only.
pub struct Reading {
    terminal: Terminal,
    max_chars: usize,
    limit: Limit,
    is_full: bool,
}

impl Reading {
    pub(crate) fn new(mut terminal: Terminal, max_chars: usize) -> Self {
        let max_chars = max_chars.max(1);
        let (marked, term) = terminal.screen.mark();
        let limit = Limit::new(max_chars, marked, term);
        Self { terminal, max_chars, limit, is_full: false }
    }

    /// Shows and collects the next bytes until all are taken or the read is full; returns how many bytes were taken.
    ///
    /// A full read takes no more: the next one begins after the bytes taken. It is full a line short of `max_chars`, so that nothing new
    /// has to be cut off.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_full {
            let rest = &bytes[taken..];
            let (marked, term) = self.terminal.screen.marked_and_term().expect(MARKED);
            let run = self.terminal.stream.run_length(rest, self.limit.room(marked, term));
            if run > 0 {
                self.terminal.feed(&rest[..run]);
                taken += run;
                continue;
            }
            taken += self.terminal.feed_unit(rest);
            let (marked, term) = self.terminal.screen.marked_and_term().expect(MARKED);
            self.is_full = self.limit.is_reached(marked, term);
        }
        taken
    }

    /// Whether enough is collected. What is fed to a full read is not taken.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Changes the size, as the stream's terminal did between the bytes before and those after. The text begins at the screen's top from
    /// here on, after what has scrolled off already.
    pub fn resize(&mut self, size: Size) {
        self.terminal.resize(size);
        let (marked, term) = self.terminal.screen.marked_and_term().expect(MARKED);
        self.limit.renew(marked, term);
    }

    /// Ends the read; returns its text, and the terminal as it is after all bytes taken, where the next read may begin.
    pub fn finish(mut self) -> (Plain, Terminal) {
        let marked = self.terminal.screen.unmark().expect(MARKED);
        let top = marked.top();
        let mut text = marked.text;
        let term = self.terminal.screen.term();
        let full_screen = self.terminal.screen.is_full_screen();
        if full_screen {
            text.clear();
            cells::push_screen(term, 0, Joining::Rows, &mut text);
        } else {
            cells::push_screen(term, top, Joining::Lines, &mut text);
        }
        text.truncate(text.trim_end_matches([' ', '\n']).len());
        let truncated = keep_end(&mut text, self.max_chars);
        (Plain { text, truncated, full_screen }, self.terminal)
    }
}

/// Why a reading's screen has its mark.
const MARKED: &str = "a reading marks its screen when it begins and unmarks it when it ends";

/// Cuts the beginning off until at most `max_chars` characters are left; returns whether that was needed.
///
/// Begins with a whole line if that costs no more than half of what may be kept.
fn keep_end(text: &mut String, max_chars: usize) -> bool {
    let count = text.chars().count();
    if count <= max_chars {
        return false;
    }
    let cut = text.char_indices().nth(count - max_chars).map_or(0, |(index, _)| index);
    let kept = &text[cut..];
    let begins_a_line = text[..cut].ends_with('\n');
    let line = kept.find('\n').map(|index| index + 1).filter(|&index| !begins_a_line && index <= kept.len() / 2);
    text.drain(..cut + line.unwrap_or(0));
    true
}
