//! Keys, from the bytes a terminal sends for them.

/// A key this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Tab,
    Backspace,
    /// `Ctrl-C`, which is a byte like any other in raw mode.
    Interrupt,
    /// `Ctrl-L`: draw everything again.
    Redraw,
    Character(char),
}

/// Makes keys of bytes, whatever pieces they come in. A lone Escape at the end of a piece is the key: nothing waits to see whether more comes.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    rest: Vec<u8>,
}

impl Decoder {
    pub(super) fn take(&mut self, piece: &[u8]) -> Vec<Key> {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        let mut keys = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            match next(&bytes[at..]) {
                Some((key, length)) => {
                    keys.extend(key);
                    at += length;
                }
                None => {
                    self.rest = bytes.split_off(at);
                    break;
                }
            }
        }
        keys
    }
}

/// Returns the first key, if it is one we know, and its length; `None` when more must come.
fn next(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    match bytes {
        [0x1b, b'[' | b'O', rest @ ..] => {
            let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte))?;
            Some((sequence(&rest[..=end]), end + 3))
        }
        [0x1b, ..] => Some((Some(Key::Escape), 1)),
        [b'\r' | b'\n', ..] => Some((Some(Key::Enter), 1)),
        [b'\t', ..] => Some((Some(Key::Tab), 1)),
        [0x7f | 0x08, ..] => Some((Some(Key::Backspace), 1)),
        [0x03, ..] => Some((Some(Key::Interrupt), 1)),
        [0x0c, ..] => Some((Some(Key::Redraw), 1)),
        [first, ..] => {
            let length = match first {
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => 1,
            };
            let character = std::str::from_utf8(bytes.get(..length)?).ok().and_then(|text| text.chars().next());
            Some((character.filter(|character| !character.is_control()).map(Key::Character), length))
        }
        [] => None,
    }
}

/// Knows what follows `ESC [` or `ESC O`.
fn sequence(bytes: &[u8]) -> Option<Key> {
    match bytes {
        [.., b'A'] => Some(Key::Up),
        [.., b'B'] => Some(Key::Down),
        [.., b'H'] | b"1~" | b"7~" => Some(Key::Home),
        [.., b'F'] | b"4~" | b"8~" => Some(Key::End),
        b"5~" => Some(Key::PageUp),
        b"6~" => Some(Key::PageDown),
        [.., b'Z'] => Some(Key::Tab),
        [.., b'M'] => Some(Key::Enter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_whatever_pieces_they_come_in() {
        let bytes = "jq\x1b[A\x1bOB\x1b[1;5A\x1b[5~\r\t\x7f\x03é🦀\x1b[200~".as_bytes();
        let keys = [
            Key::Character('j'),
            Key::Character('q'),
            Key::Up,
            Key::Down,
            Key::Up,
            Key::PageUp,
            Key::Enter,
            Key::Tab,
            Key::Backspace,
            Key::Interrupt,
            Key::Character('é'),
            Key::Character('🦀'),
        ];
        assert_eq!(Decoder::default().take(bytes), keys);
        for cut in 0..bytes.len() {
            // Between Escape and what follows it is a key of its own.
            if bytes[..cut].last() != Some(&0x1b) {
                let mut decoder = Decoder::default();
                let found = [decoder.take(&bytes[..cut]), decoder.take(&bytes[cut..])].concat();
                assert_eq!(found, keys, "{cut}");
            }
        }
        assert_eq!(Decoder::default().take(b"\x1b"), [Key::Escape]);
    }

    #[test]
    fn bytes_that_are_no_text_are_no_keys() {
        assert_eq!(Decoder::default().take(b"\xff\x00\xc3(a"), [Key::Character('a')]);
    }
}
