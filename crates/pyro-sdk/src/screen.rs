//! What a person would see of a shell, from its ring.
//!
//! The emulator is fed from the oldest byte that is kept, with the sizes the terminal had, whatever part is asked for. So an answer depends on
//! the stream alone: not on how it was cut into pieces, nor on who has read before.

use pyro_store::{RingReader, RingSize};
use pyro_terminal::{Plain, Reading, Size, Terminal};

use crate::{
    error::Result,
    ring::{TRIES, Text},
    shell_read::Part,
};

/// How much of a ring is held at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// What to write to a terminal so that it shows what a shell's does.
pub(crate) struct Picture {
    pub(crate) bytes: Vec<u8>,
    /// Up to where the stream is in it.
    pub(crate) cursor: u64,
}

/// A stream on its way into an emulator.
struct Feeding<'a> {
    output: &'a RingReader,
    /// Sizes to come.
    sizes: std::iter::Peekable<std::vec::IntoIter<RingSize>>,
    at: u64,
}

/// What is fed: a terminal, or one whose text is being read.
trait Screen {
    /// Takes bytes; returns how many.
    fn take(&mut self, bytes: &[u8]) -> usize;
    fn fit(&mut self, size: Size);
}

impl Screen for Terminal {
    fn take(&mut self, bytes: &[u8]) -> usize {
        self.feed(bytes);
        bytes.len()
    }

    fn fit(&mut self, size: Size) {
        self.resize(size);
    }
}

impl Screen for Reading {
    fn take(&mut self, bytes: &[u8]) -> usize {
        self.feed(bytes)
    }

    fn fit(&mut self, size: Size) {
        self.resize(size);
    }
}

impl<'a> Feeding<'a> {
    /// Begins where the ring does, with an empty terminal of the size it had then.
    fn begin(output: &'a RingReader, start: u64, size: (u16, u16)) -> (Self, Terminal) {
        let mut sizes = output.sizes();
        let known = sizes.iter().rposition(|size| size.offset <= start);
        let first = known.map_or(Size { columns: size.0, rows: size.1 }, |known| of(sizes[known]));
        sizes.drain(..known.map_or(0, |known| known + 1));
        (Self { output, sizes: sizes.into_iter().peekable(), at: start }, Terminal::new(first))
    }

    /// Feeds up to `end`, or as much as is taken; `false` when a part has left the ring meanwhile.
    fn feed(&mut self, screen: &mut impl Screen, end: u64) -> Result<bool> {
        while self.at < end {
            while let Some(size) = self.sizes.next_if(|size| size.offset <= self.at) {
                screen.fit(of(size));
            }
            let until = self.sizes.peek().map_or(end, |size| size.offset.min(end));
            let bytes = self.output.read(self.at, PIECE_BYTES.min(until - self.at))?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let taken = screen.take(&bytes);
            self.at += taken as u64;
            if taken < bytes.len() {
                break;
            }
        }
        Ok(true)
    }
}

fn of(size: RingSize) -> Size {
    Size { columns: size.columns, rows: size.rows }
}

/// Reads what a person would see from a position on. One beyond the end is the caller's to refuse.
pub(crate) fn read_plain(output: &RingReader, cursor: u64, max_chars: u64, size: (u16, u16)) -> Result<Part> {
    let mut oldest = 0;
    for _ in 0..TRIES {
        let (start, end) = output.range()?;
        oldest = start;
        let from = cursor.clamp(start, end);
        let (mut feeding, mut terminal) = Feeding::begin(output, start, size);
        if !feeding.feed(&mut terminal, from)? {
            continue;
        }
        let mut reading = terminal.read(usize::try_from(max_chars).unwrap_or(usize::MAX));
        if !feeding.feed(&mut reading, end)? {
            continue;
        }
        let next_cursor = feeding.at;
        let (Plain { text, truncated, full_screen }, _) = reading.finish();
        let text = Text {
            text,
            cursor: from,
            next_cursor,
            end_cursor: end,
            cut: truncated || next_cursor < end,
            truncated_before: (cursor < start).then_some(start),
        };
        return Ok(Part { text, full_screen });
    }
    // It writes faster than it can be drawn: there is nothing to see that would stay.
    let text =
        Text { text: String::new(), cursor: oldest, next_cursor: oldest, end_cursor: oldest, cut: true, truncated_before: Some(oldest) };
    Ok(Part { text, full_screen: false })
}

/// Draws what a shell's terminal shows, for one of another size. Its programs draw it anew when they hear of the size.
pub(crate) fn picture(output: &RingReader, had: (u16, u16), size: (u16, u16)) -> Result<Picture> {
    for _ in 0..TRIES {
        let (start, end) = output.range()?;
        let (mut feeding, mut terminal) = Feeding::begin(output, start, had);
        if feeding.feed(&mut terminal, end)? {
            terminal.resize(Size { columns: size.0, rows: size.1 });
            return Ok(Picture { bytes: terminal.repaint(), cursor: end });
        }
    }
    Ok(Picture { bytes: Vec::new(), cursor: output.range()?.1 })
}

#[cfg(test)]
mod tests {
    use pyro_store::RingWriter;

    use super::*;

    fn ring(write: impl FnOnce(&mut RingWriter)) -> (tempfile::TempDir, RingReader) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring");
        write(&mut RingWriter::open(&path, 2 << 20).unwrap());
        (folder, RingReader::new(path))
    }

    fn plain(output: &RingReader, cursor: u64, max_chars: u64) -> (String, u64) {
        let part = read_plain(output, cursor, max_chars, (80, 24)).unwrap();
        (part.text.text, part.text.next_cursor)
    }

    #[test]
    fn text_is_that_of_the_screen_from_any_cursor() {
        let (_owner, output) = ring(|ring| {
            ring.note_size(20, 5).unwrap();
            ring.write(b"$ make\r\n\x1b[32m 10%\r\x1b[3").unwrap();
            ring.write(b"3m 99%\x1b[0m\r\n").unwrap();
            ring.note_size(40, 6).unwrap();
            ring.write("wide ".repeat(7).as_bytes()).unwrap();
        });
        assert_eq!(plain(&output, 0, 1000).0, format!("$ make\n 99%\n{}", "wide ".repeat(7).trim_end()));
        // In the middle of an escape; the size changed after it, so the text goes on at the top of the screen.
        assert_eq!(plain(&output, 20, 1000).0, format!("$ make\n 99%\n{}", "wide ".repeat(7).trim_end()));
        let (_, end) = output.range().unwrap();
        assert_eq!(plain(&output, end, 1000), ("wide ".repeat(7).trim_end().to_owned(), end));
    }

    #[test]
    fn reading_on_shows_every_line_once_more_at_the_most() {
        let (_owner, output) = ring(|ring| {
            let lines: String = (0..2000).map(|number| format!("line {number}\r\n")).collect();
            ring.write(lines.as_bytes()).unwrap();
        });
        let (mut cursor, mut seen, mut reads) = (0, String::new(), 0);
        let (_, end) = output.range().unwrap();
        while cursor < end {
            let (text, next) = plain(&output, cursor, 4000);
            assert!(text.chars().count() <= 4000 && next > cursor);
            seen.push_str(&text);
            seen.push('\n');
            cursor = next;
            reads += 1;
        }
        assert!(reads > 3);
        for number in 0..2000 {
            assert!(seen.lines().any(|line| line == format!("line {number}")), "{number}");
        }
    }

    #[test]
    fn what_left_the_ring_is_told_and_a_picture_ends_where_the_stream_does() {
        let (_owner, output) = ring(|ring| {
            for number in 0..300_000 {
                ring.write(format!("number {number}\r\n").as_bytes()).unwrap();
            }
        });
        let part = read_plain(&output, 5, 100, (80, 24)).unwrap();
        let (start, end) = output.range().unwrap();
        assert_eq!((part.text.truncated_before, part.text.end_cursor), (Some(start), end));
        let picture = picture(&output, (80, 24), (100, 30)).unwrap();
        assert!(picture.cursor == end && String::from_utf8(picture.bytes).unwrap().contains("number 299999"));
    }
}
