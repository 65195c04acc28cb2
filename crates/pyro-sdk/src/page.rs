//! Pages of text out of bytes: never half a character, never bytes that are no text shown as if they were.

/// How much of a file's beginning tells whether it is text, as Git and ripgrep look at it.
pub(crate) const HEAD_BYTES: u64 = 8 << 10;
/// Longest character of UTF-8: a page holds at least one, however little was asked for.
pub(crate) const CHARACTER_BYTES: u64 = 4;

/// A page of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Page {
    /// The file, or this part of it, is no text.
    Binary,
    /// Text that begins at a byte and goes on at another.
    Text {
        /// It.
        text: String,
        /// Where it begins: behind `offset` when that lies within a character.
        offset: u64,
        /// Where the file goes on; `None` at its end.
        next: Option<u64>,
    },
}

/// Makes a page of at most `max` bytes of what was read from `offset` on; at least [`CHARACTER_BYTES`] should have been, where there are.
/// `size` is that of the file.
pub(crate) fn page(bytes: &[u8], offset: u64, max: u64, size: u64) -> Page {
    if is_binary(bytes) {
        return Page::Binary;
    }
    let at_end = offset.saturating_add(bytes.len() as u64) >= size;
    // Bytes a character begins with are never of this form, so at most three are skipped.
    let skipped = if offset == 0 { 0 } else { bytes.iter().take(3).take_while(|&&byte| byte & 0xc0 == 0x80).count() };
    let body = &bytes[skipped..];
    let valid = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && !at_end => {
            std::str::from_utf8(&body[..error.valid_up_to()]).expect("the part before the error is valid")
        }
        Err(_) => return Page::Binary,
    };
    let max = usize::try_from(max).unwrap_or(usize::MAX).min(valid.len());
    let mut end = (0..=max).rev().find(|&at| valid.is_char_boundary(at)).unwrap_or(0);
    if end == 0 {
        end = valid.chars().next().map_or(0, char::len_utf8);
    }
    let offset = offset.saturating_add(skipped as u64);
    let next = offset.saturating_add(end as u64);
    Page::Text { text: valid[..end].to_owned(), offset, next: (next < size && !bytes.is_empty()).then_some(next) }
}

/// Tells whether bytes are those of a binary file.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    memchr::memchr(0, bytes).is_some()
}

/// Takes the lines of a range out of a file that comes in pieces.
#[derive(Debug)]
pub(crate) struct LineCollector {
    range: crate::text::LineRange,
    max: u64,
    line: u64,
    position: u64,
    /// Byte at which the range begins.
    pub(crate) offset: u64,
    /// What was taken.
    pub(crate) bytes: Vec<u8>,
    /// Whether the range goes on behind what was taken.
    pub(crate) full: bool,
    /// Whether the file is none of text.
    pub(crate) binary: bool,
}

impl LineCollector {
    pub(crate) const fn new(range: crate::text::LineRange, max: u64) -> Self {
        Self { range, max, line: 1, position: 0, offset: 0, bytes: Vec::new(), full: false, binary: false }
    }

    /// Takes the next piece; `false` when no more are wanted.
    pub(crate) fn push(&mut self, mut piece: &[u8]) -> bool {
        if self.position < HEAD_BYTES && is_binary(piece) {
            self.binary = true;
            return false;
        }
        while !piece.is_empty() {
            if self.range.last().is_some_and(|last| self.line > last) {
                return false;
            }
            let end = memchr::memchr(b'\n', piece).map(|at| at + 1);
            let (line, rest) = piece.split_at(end.unwrap_or(piece.len()));
            if self.line >= self.range.first() {
                if self.bytes.is_empty() {
                    self.offset = self.position;
                }
                // A character more than was asked for, so that there always is one.
                let room = usize::try_from(self.max.max(CHARACTER_BYTES)).unwrap_or(usize::MAX) - self.bytes.len();
                if line.len() > room {
                    self.bytes.extend_from_slice(&line[..room]);
                    self.full = true;
                    return false;
                }
                self.bytes.extend_from_slice(line);
            }
            self.position += line.len() as u64;
            self.line += u64::from(end.is_some());
            piece = rest;
        }
        true
    }
}

/// Guesses from a file's first bytes and its name what it is. Only what an agent meets; everything else is bytes.
pub(crate) fn media_type(head: &[u8], binary: bool) -> &'static str {
    const MAGIC: [(&[u8], &str); 18] = [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"BM", "image/bmp"),
        (b"%PDF-", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
        (b"\x1f\x8b", "application/gzip"),
        (b"\x28\xb5\x2f\xfd", "application/zstd"),
        (b"\xfd7zXZ\0", "application/x-xz"),
        (b"BZh", "application/x-bzip2"),
        (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        (b"\x7fELF", "application/x-elf"),
        (b"!<arch>\n", "application/x-archive"),
        (b"\0asm", "application/wasm"),
        (b"SQLite format 3\0", "application/vnd.sqlite3"),
        (b"OggS", "application/ogg"),
        (b"ID3", "audio/mpeg"),
        (b"\xca\xfe\xba\xbe", "application/java-vm"),
    ];
    if !binary {
        return "text/plain";
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        return "image/webp";
    }
    if head.get(257..262) == Some(b"ustar") {
        return "application/x-tar";
    }
    MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map_or("application/octet-stream", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str, offset: u64, next: Option<u64>) -> Page {
        Page::Text { text: text.to_owned(), offset, next }
    }

    /// Reads a page as the callers do.
    fn read(file: &[u8], offset: u64, max: u64) -> Page {
        let start = file.len().min(offset as usize);
        let end = file.len().min(start + max.max(CHARACTER_BYTES) as usize);
        page(&file[start..end], offset, max, file.len() as u64)
    }

    #[test]
    fn pages_end_between_characters() {
        let file = "aäöü€".as_bytes();
        assert_eq!(read(file, 0, 2), text("a", 0, Some(1)));
        assert_eq!(read(file, 1, 3), text("ä", 1, Some(3)));
        assert_eq!(read(file, 2, 100), text("öü€", 3, None));
        assert_eq!(read(file, 7, 1), text("€", 7, None));
        assert_eq!(read(file, 99, 10), text("", 99, None));
        assert_eq!(read(b"", 0, 10), text("", 0, None));
    }

    #[test]
    fn pages_in_a_row_are_the_file_whatever_their_size() {
        let file = "x€ß𝄞\n".repeat(50);
        for max in 1..40 {
            let (mut offset, mut whole) = (0, String::new());
            loop {
                let Page::Text { text, offset: start, next } = read(file.as_bytes(), offset, max) else { panic!("text") };
                assert_eq!(start, offset);
                whole.push_str(&text);
                match next {
                    Some(next) => offset = next,
                    None => break,
                }
            }
            assert_eq!(whole, file, "{max}");
        }
    }

    #[test]
    fn what_is_no_text_is_not_shown_as_text() {
        assert_eq!(read(b"a\0b", 0, 10), Page::Binary);
        assert_eq!(read(b"caf\xe9 au lait", 0, 100), Page::Binary);
        // A character cut off by the end of the file is none.
        assert_eq!(read(b"a\xe2\x82", 0, 100), Page::Binary);
    }

    fn lines(file: &[u8], range: &str, max: u64, piece: usize) -> (String, u64, bool) {
        let mut collector = LineCollector::new(range.parse().unwrap(), max);
        file.chunks(piece).all(|piece| collector.push(piece));
        (String::from_utf8(collector.bytes).unwrap(), collector.offset, collector.full)
    }

    #[test]
    fn lines_are_found_however_the_file_comes() {
        let file = b"one\ntwo\n\nfour\nlast";
        for piece in 1..30 {
            let check = |range: &str, expected: &str, offset| {
                assert_eq!(lines(file, range, 100, piece), (expected.to_owned(), offset, false), "{range} in pieces of {piece}");
            };
            check("1", "one\n", 0);
            check("2:3", "two\n\n", 4);
            check("4:", "four\nlast", 9);
            check(":2", "one\ntwo\n", 0);
            check("5:9", "last", 14);
            check("7:9", "", 0);
            assert_eq!(lines(file, "2:", 5, piece), ("two\n\n".to_owned(), 4, true), "{piece}");
        }
    }

    #[test]
    fn media_types_are_guessed_from_the_first_bytes() {
        assert_eq!(media_type(b"\x89PNG\r\n\x1a\nrest", true), "image/png");
        assert_eq!(media_type(b"\0\x01", true), "application/octet-stream");
        assert_eq!(media_type(b"BM is a text", false), "text/plain");
    }
}
