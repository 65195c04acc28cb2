//! Whether the program at a terminal has asked for bracketed paste: it wants to tell text that is inserted from keys that are pressed, and
//! sets a mode of the terminal for that (`ESC [ ? 2004 h`, xterm's control sequences, "Bracketed Paste Mode").
//!
//! The agent reads a terminal's output anyway, and its memory goes with a machine that is copied or frozen, so the mode is known there, too.
//! Only what sets and resets the mode is understood; anything else is passed over.

/// The mode's number.
const BRACKETED_PASTE: &[u8] = b"2004";
/// Most bytes of a sequence's parameters that are kept; a longer sequence is none of ours.
const PARAMETERS_MAX_BYTES: usize = 64;

const ESCAPE: u8 = 0x1b;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;

/// Follows a terminal's output.
#[derive(Debug, Default)]
pub(crate) struct PasteMode {
    is_on: bool,
    place: Place,
    parameters: Vec<u8>,
}

/// Where in a sequence the output has stopped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    /// Behind `ESC`, and what else may stand before its last byte.
    Escape { plain: bool },
    /// Behind `ESC [`.
    Parameters,
    /// In a sequence that is none of ours.
    Other,
}

impl PasteMode {
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Takes the next piece of output.
    pub(crate) fn show(&mut self, bytes: &[u8]) {
        // Most output holds no sequence, and this search is fast.
        if self.place == Place::Text && !bytes.contains(&ESCAPE) {
            return;
        }
        bytes.iter().for_each(|&byte| self.byte(byte));
    }

    fn byte(&mut self, byte: u8) {
        self.place = match (self.place, byte) {
            (_, ESCAPE) => Place::Escape { plain: true },
            (_, CANCEL | SUBSTITUTE) => Place::Text,
            (Place::Text, _) => Place::Text,
            // Control characters within a sequence are carried out, and it goes on.
            (place, 0..=0x1f | 0x7f) => place,
            (Place::Escape { plain: true }, b'[') => {
                self.parameters.clear();
                Place::Parameters
            }
            (Place::Escape { plain }, _) => {
                if plain && byte == b'c' {
                    // A full reset (RIS).
                    self.is_on = false;
                }
                if (0x20..=0x2f).contains(&byte) { Place::Escape { plain: false } } else { Place::Text }
            }
            (Place::Parameters, 0x30..=0x3f) if self.parameters.len() < PARAMETERS_MAX_BYTES => {
                self.parameters.push(byte);
                Place::Parameters
            }
            (Place::Parameters, b'h' | b'l') => {
                self.set(byte == b'h');
                Place::Text
            }
            (Place::Parameters | Place::Other, 0x40..=0x7e) => Place::Text,
            (Place::Parameters | Place::Other, _) => Place::Other,
        };
    }

    fn set(&mut self, on: bool) {
        if let Some(modes) = self.parameters.strip_prefix(b"?")
            && modes.split(|&byte| byte == b';').any(|mode| mode == BRACKETED_PASTE)
        {
            self.is_on = on;
        }
    }
}

#[cfg(test)]
mod tests {
    use alacritty_terminal::event::VoidListener;
    use alacritty_terminal::term::test::TermSize;
    use alacritty_terminal::term::{Config, Term, TermMode};
    use alacritty_terminal::vte::ansi::Processor;
    use proptest::prelude::*;

    use super::*;

    fn mode_after(pieces: &[&[u8]]) -> bool {
        let mut mode = PasteMode::default();
        pieces.iter().for_each(|piece| mode.show(piece));
        mode.is_on()
    }

    #[test]
    fn mode_is_set_and_reset_by_its_own_sequence_only() {
        for (output, expected) in [
            (&b"\x1b[?2004h$ "[..], true),
            (b"\x1b[?2004h$ ls\x1b[?2004l\r\n", false),
            (b"\x1b[?1;2004;25h", true),
            (b"\x1b[2004h", false),
            (b"\x1b[?20040h\x1b[?12004h", false),
            (b"\x1b[?2004h\x1bc", false),
            (b"\x1b[?2004h\x1b(c", true),
            (b"\x1b[?2004\x18h", false),
            (b"\x1b[?20\x1b[?2004h", true),
            (b"[?2004h", false),
            (b"\x1b[?2004$p", false),
        ] {
            assert_eq!(mode_after(&[output]), expected, "{}", output.escape_ascii());
            let split: Vec<&[u8]> = output.chunks(1).collect();
            assert_eq!(mode_after(&split), expected, "{} byte by byte", output.escape_ascii());
        }
        let long = [b"\x1b[?".as_slice(), &b"1;".repeat(1000), b"2004h"].concat();
        assert!(!mode_after(&[&long]));
    }

    proptest! {
        /// A terminal emulator is the reference.
        #[test]
        fn mode_is_that_of_a_terminal(pieces in prop::collection::vec(prop::sample::select(vec![
            "\x1b[?2004h", "\x1b[?2004l", "\x1b[?1;2004h", "\x1b[?25;2004l", "\x1bc", "\x1b[", "?", "2004", "h", "l", ";", "\x1b", "text", "\x18",
            "\x1b[2004h", "\x1b[1m", "\x1b(B", "\r\n", "\x1b[?2004$p", "\u{e4}", "\x1b[?1049h", "\x07",
        ]), 0..20)) {
            let mut term = Term::new(Config::default(), &TermSize::new(80, 24), VoidListener);
            let mut processor: Processor = Processor::new();
            let mut mode = PasteMode::default();
            for piece in &pieces {
                processor.advance(&mut term, piece.as_bytes());
                mode.show(piece.as_bytes());
                prop_assert_eq!(mode.is_on(), term.mode().contains(TermMode::BRACKETED_PASTE), "{:?}", pieces);
            }
        }
    }
}
