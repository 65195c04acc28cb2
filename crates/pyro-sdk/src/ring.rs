//! Reads the output of shells and services from the host's files, while their supervisor writes the newest and removes the oldest.

use pyro_store::{RingReader, StoreResult};

/// How often a place is looked for that was removed between the look and the reading. Each time a mebibyte was written in between.
pub(crate) const TRIES: usize = 16;
/// Longest character in UTF-8.
const CHARACTER_BYTES: u64 = 4;

/// A part of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Position of the oldest byte that is kept.
    pub(crate) start: u64,
    /// Where the stream ends.
    pub(crate) end: u64,
    /// Where the bytes begin: where they were asked from, or at the oldest that are kept.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A part of a stream as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// Where it begins.
    pub(crate) cursor: u64,
    /// Where to read on.
    pub(crate) next_cursor: u64,
    pub(crate) end_cursor: u64,
    /// Whether there is more that did not fit; a character that is not complete yet is no more.
    pub(crate) cut: bool,
    /// The oldest position that is kept, when older ones were asked for.
    pub(crate) truncated_before: Option<u64>,
}

/// How much of a stream is wanted; at least a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    Characters(u64),
    Bytes(u64),
}

/// Whether a stream can go on: what its end cuts off may be completed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    GoesOn,
    HasEnded,
}

/// Reads up to `max_bytes` from `cursor` on, or from the oldest byte that is kept.
pub(crate) fn read_from(ring: &RingReader, cursor: u64, max_bytes: u64) -> StoreResult<Stretch> {
    let mut stretch = Stretch::default();
    for _ in 0..TRIES {
        let (start, end) = ring.range()?;
        stretch = Stretch { start, end, offset: cursor.max(start), bytes: Vec::new() };
        if stretch.offset >= end {
            break;
        }
        stretch.bytes = ring.read(stretch.offset, max_bytes)?;
        if !stretch.bytes.is_empty() {
            break;
        }
    }
    if !stretch.bytes.is_empty() {
        // What came since the look is read as well.
        stretch.end = stretch.end.max(stretch.offset + stretch.bytes.len() as u64);
    }
    Ok(stretch)
}

/// Reads text from `cursor` on. A position beyond the end is the caller's to refuse.
pub(crate) fn read_text(ring: &RingReader, cursor: u64, amount: Amount, stream: Stream) -> StoreResult<Text> {
    let max_bytes = match amount {
        Amount::Characters(count) => count.saturating_mul(CHARACTER_BYTES),
        Amount::Bytes(count) => count.max(CHARACTER_BYTES),
    };
    Ok(text_of(&read_from(ring, cursor, max_bytes)?, cursor, amount, stream))
}

fn text_of(stretch: &Stretch, cursor: u64, amount: Amount, stream: Stream) -> Text {
    let moved = stretch.offset > cursor;
    // Where the ring was cut, the rest of a character is nobody's fault and worth no replacement.
    let skipped = if moved { stretch.bytes.iter().take(3).take_while(|&&byte| byte & 0b1100_0000 == 0b1000_0000).count() } else { 0 };
    let bytes = &stretch.bytes[skipped..];
    let offset = stretch.offset + skipped as u64;
    let at_end = offset + bytes.len() as u64 == stretch.end;
    let (text, used, full) = decode(bytes, amount, at_end && stream == Stream::HasEnded);
    Text {
        text,
        cut: full || !at_end,
        cursor: offset,
        next_cursor: offset + used as u64,
        end_cursor: stretch.end,
        truncated_before: moved.then_some(stretch.start),
    }
}

/// Decodes bytes, replacing what is not UTF-8; returns how many were used, and whether the rest did not fit. A character that is not
/// complete at the end is left for the next reading, unless nothing can follow.
fn decode(bytes: &[u8], amount: Amount, complete: bool) -> (String, usize, bool) {
    let (mut text, mut used, mut characters) = (String::new(), 0, 0);
    let full = |used: usize, characters: u64, length: usize| match amount {
        Amount::Characters(most) => characters >= most,
        Amount::Bytes(most) => used > 0 && (used + length) as u64 > most,
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if full(used, characters, character.len_utf8()) {
                return (text, used, true);
            }
            text.push(character);
            used += character.len_utf8();
            characters += 1;
        }
        let invalid = chunk.invalid();
        let cut_off = used + invalid.len() == bytes.len() && is_incomplete(invalid);
        if invalid.is_empty() || (cut_off && !complete) {
            break;
        }
        if full(used, characters, invalid.len()) {
            return (text, used, true);
        }
        text.push(char::REPLACEMENT_CHARACTER);
        used += invalid.len();
        characters += 1;
    }
    (text, used, false)
}

fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Reads the last lines of a stream, at most `max_bytes` of them; they are cut when a line is too long for it. What follows the last line break is a line, too.
pub(crate) fn read_tail(ring: &RingReader, lines: u64, max_bytes: u64, stream: Stream) -> StoreResult<Text> {
    let (start, end) = ring.range()?;
    let wanted = end.saturating_sub(max_bytes).max(start);
    let stretch = read_from(ring, wanted, end - wanted)?;
    let mut breaks = memchr::memrchr_iter(b'\n', &stretch.bytes).filter(|at| at + 1 < stretch.bytes.len());
    let from = usize::try_from(lines.saturating_sub(1)).ok().and_then(|skipped| breaks.nth(skipped)).map(|at| at + 1);
    let begin = stretch.offset + from.unwrap_or(0) as u64;
    let cut = from.is_none() && stretch.offset > stretch.start;
    let missing = from.is_none() && !cut && stretch.start > 0;
    let kept = Stretch { offset: begin, bytes: stretch.bytes[from.unwrap_or(0)..].to_vec(), ..stretch };
    // Where a long line was cut its character may be, too: to ask from one byte earlier is to be moved.
    let asked = if cut || missing { begin.saturating_sub(1) } else { begin };
    let text = text_of(&kept, asked, Amount::Bytes(u64::MAX), stream);
    Ok(Text { truncated_before: missing.then_some(kept.start), cut, ..text })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use pyro_store::RingWriter;

    use super::*;

    /// How much a ring in these tests holds: the least there is, two segments of a mebibyte.
    const CAP_BYTES: u64 = 1;
    const SEGMENT_BYTES: usize = 1 << 20;

    pub(crate) fn ring(folder: &Path, pieces: &[&[u8]]) -> RingReader {
        let mut writer = RingWriter::open(folder, CAP_BYTES).unwrap();
        for piece in pieces {
            writer.write(piece).unwrap();
        }
        RingReader::new(folder.to_owned())
    }

    fn text(ring: &RingReader, cursor: u64, amount: Amount, stream: Stream) -> (String, u64) {
        let text = read_text(ring, cursor, amount, stream).unwrap();
        (text.text, text.next_cursor)
    }

    #[test]
    fn characters_are_not_cut_while_the_stream_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let ring = ring(folder.path(), &["aä€".as_bytes(), &"𝄞".as_bytes()[..3]]);
        let all = Amount::Characters(100);
        assert_eq!(text(&ring, 0, all, Stream::GoesOn), ("aä€".to_owned(), 6));
        assert_eq!(text(&ring, 6, all, Stream::GoesOn), (String::new(), 6));
        assert_eq!(text(&ring, 0, all, Stream::HasEnded), ("aä€\u{fffd}".to_owned(), 9));
        assert_eq!(text(&ring, 0, Amount::Characters(2), Stream::GoesOn), ("aä".to_owned(), 3));
        assert_eq!(text(&ring, 1, Amount::Bytes(1), Stream::GoesOn), ("ä".to_owned(), 3));
        assert_eq!(text(&ring, 0, Amount::Bytes(2), Stream::GoesOn), ("a".to_owned(), 1));
        // A position within a character is the reader's own.
        assert_eq!(text(&ring, 2, Amount::Characters(2), Stream::GoesOn), ("\u{fffd}€".to_owned(), 6));
    }

    #[test]
    fn pages_in_a_row_are_the_stream_whatever_their_size() {
        let folder = tempfile::tempdir().unwrap();
        let stream = [b"x\xff\xe2\x82 ".as_slice(), "ß𝄞\r\n€".as_bytes()].concat().repeat(9);
        let ring = ring(folder.path(), &[&stream]);
        for size in 1..40 {
            for amount in [Amount::Characters(size), Amount::Bytes(size)] {
                let (mut cursor, mut whole) = (0, String::new());
                while cursor < stream.len() as u64 {
                    let (text, next) = text(&ring, cursor, amount, Stream::GoesOn);
                    assert!(next > cursor, "{amount:?}");
                    whole.push_str(&text);
                    cursor = next;
                }
                assert_eq!(whole, String::from_utf8_lossy(&stream), "{amount:?}");
            }
        }
    }

    #[test]
    fn what_is_not_kept_any_more_is_told() {
        let folder = tempfile::tempdir().unwrap();
        // The second segment begins within a character.
        let first = "a".repeat(SEGMENT_BYTES - 1);
        let ring = ring(folder.path(), &[first.as_bytes(), "€".as_bytes(), &vec![b'b'; SEGMENT_BYTES], b"end"]);
        let (start, end) = ring.range().unwrap();
        assert_eq!((start, end), (SEGMENT_BYTES as u64, 2 * SEGMENT_BYTES as u64 + 5));
        let read = read_text(&ring, 5, Amount::Characters(3), Stream::GoesOn).unwrap();
        assert_eq!((read.text.as_str(), read.cursor, read.truncated_before, read.end_cursor), ("bbb", start + 2, Some(start), end));
        let read = read_text(&ring, end - 3, Amount::Characters(9), Stream::GoesOn).unwrap();
        assert_eq!((read.text.as_str(), read.next_cursor, read.truncated_before), ("end", end, None));
        assert_eq!(text(&ring, end, Amount::Characters(9), Stream::GoesOn), (String::new(), end));
        assert_eq!(text(&RingReader::new(folder.path().join("none")), 0, Amount::Bytes(9), Stream::GoesOn), (String::new(), 0));
    }

    fn tail(ring: &RingReader, lines: u64, max_bytes: u64) -> (String, bool, Option<u64>) {
        let tail = read_tail(ring, lines, max_bytes, Stream::HasEnded).unwrap();
        assert_eq!(tail.next_cursor, ring.range().unwrap().1);
        assert_eq!(tail.next_cursor - tail.cursor, tail.text.len() as u64);
        (tail.text, tail.cut, tail.truncated_before)
    }

    #[test]
    fn last_lines_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let ring = ring(folder.path(), &[b"one\ntwo\n\nfour\n"]);
        assert_eq!(tail(&ring, 1, 100), ("four\n".to_owned(), false, None));
        assert_eq!(tail(&ring, 3, 100), ("two\n\nfour\n".to_owned(), false, None));
        assert_eq!(tail(&ring, 4, 100), ("one\ntwo\n\nfour\n".to_owned(), false, None));
        assert_eq!(tail(&ring, 9, 100), ("one\ntwo\n\nfour\n".to_owned(), false, None));
        assert_eq!(tail(&ring, 9, 7), ("\n\nfour\n".to_owned(), true, None));
        let empty = RingReader::new(folder.path().join("none"));
        assert_eq!(tail(&empty, 9, 7), (String::new(), false, None));
    }

    #[test]
    fn last_lines_go_over_the_borders_of_segments() {
        let folder = tempfile::tempdir().unwrap();
        let filling = vec![b'x'; SEGMENT_BYTES - 3];
        let ring = ring(folder.path(), &[b"old\n", &filling[4..], "\nzwei €\nlast".as_bytes()]);
        assert_eq!(tail(&ring, 2, 1 << 20), ("zwei €\nlast".to_owned(), false, None));
        assert_eq!(tail(&ring, 1, 1 << 20), ("last".to_owned(), false, None));
        // A byte of the long line, cut where it is too long.
        assert_eq!(tail(&ring, 9, 15), ("x\nzwei €\nlast".to_owned(), true, None));
    }

    #[test]
    fn lines_that_are_not_kept_any_more_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let line = [vec![b'y'; 999], vec![b'\n']].concat();
        let ring = ring(folder.path(), &[&line.repeat(3000)]);
        let (start, end) = ring.range().unwrap();
        assert!(start > 0);
        let found = read_tail(&ring, 100_000, u64::MAX, Stream::GoesOn).unwrap();
        assert_eq!((found.cursor, found.next_cursor, found.truncated_before, found.cut), (start, end, Some(start), false));
    }
}
