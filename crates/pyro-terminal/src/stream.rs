//! Prepares raw bytes for the emulator's parser, so that no cut in the stream and no length in it can matter.
//!
//! The parser (`vte`) has three habits we must not depend on:
//!
//! - It treats a multi-byte character differently when the character arrives in two pieces (U+0085 is a control in one piece and nothing
//!   in two). So a cut character is held back here until it is whole, and what is not UTF-8 becomes U+FFFD before the parser sees it.
//! - It keeps an operating-system command (titles, clipboard, colours, links) in memory until its end, however long. None of them shows
//!   in text, so their content is dropped here; only the opening and the terminator pass.
//! - It repeats a character up to 65 535 times for nine bytes (`CSI Ps b`). So the parameters of a control sequence are held back until
//!   its last byte says what it is, and a repeat is brought down to [`REPEATS_MAX`].
//!
//! A second copy of parser state lives here, and is exact only because each rule of it mirrors one of `vte`'s: escape starts a sequence
//! from any state, `]` right after it opens a command, `[` a control sequence. [`State::Other`] promises that no byte but an
//! escape does more than print or move the cursor to the next row.

/// A longest UTF-8 sequence.
const CHARACTER_BYTES_MAX: usize = 4;

/// A row of the widest screen; programs repeat within a row (and tmux does no more).
const REPEATS_MAX: usize = 1000;
/// More than any sequence in use has; the parser keeps 32 numbers. Of a longer one the first number is brought down as if it repeated.
const PARAMETERS_MAX: usize = 256;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;
/// CAN and SUB end any sequence.
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;

/// One whole character, or what stands for bytes that are none.
enum Unit {
    Character(usize),
    Invalid(usize),
    /// The bytes may still become a character.
    Cut,
}

fn next_unit(bytes: &[u8]) -> Unit {
    let window = &bytes[..bytes.len().min(CHARACTER_BYTES_MAX)];
    if window.first().is_some_and(u8::is_ascii) {
        return Unit::Character(1);
    }
    match std::str::from_utf8(window) {
        Ok(text) => Unit::Character(text.chars().next().map_or(0, char::len_utf8)),
        Err(error) if error.valid_up_to() > 0 => {
            let valid = std::str::from_utf8(&window[..error.valid_up_to()]).unwrap_or_default();
            Unit::Character(valid.chars().next().map_or(0, char::len_utf8))
        }
        Err(error) => error.error_len().map_or(Unit::Cut, Unit::Invalid),
    }
}

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Text, or a sequence that does nothing worth watching.
    #[default]
    Other,
    Escape,
    /// Within an escape sequence of three bytes or more.
    Intermediate,
    Control,
    Command,
}

/// The filter between a raw stream and the parser.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// The beginning of a character.
    held: Vec<u8>,
    state: State,
    /// What a control sequence has between `CSI` and its last byte, so far.
    parameters: Vec<u8>,
}

impl Stream {
    /// Feeds everything, in pieces as long as possible.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
        while !self.held.is_empty() && !bytes.is_empty() {
            let taken = self.feed_unit(bytes, sink);
            bytes = &bytes[taken..];
        }
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.pass(chunk.valid().as_bytes(), sink);
            if chunk.invalid().is_empty() {
                continue;
            }
            if chunks.peek().is_none() && matches!(next_unit(chunk.invalid()), Unit::Cut) {
                self.held.extend_from_slice(chunk.invalid());
            } else {
                self.pass(REPLACEMENT, sink);
            }
        }
    }

    /// How many of the bytes, up to `most`, are text and controls outside of any sequence.
    pub(crate) fn run_length(&self, bytes: &[u8], most: usize) -> usize {
        if self.state != State::Other || !self.held.is_empty() {
            return 0;
        }
        let bytes = &bytes[..bytes.len().min(most)];
        bytes.iter().position(|&byte| byte == ESCAPE).unwrap_or(bytes.len())
    }

    /// Feeds the next character; returns how many bytes it took, which is none when they show that the held ones were no character.
    pub(crate) fn feed_unit(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) -> usize {
        if self.held.is_empty() {
            return match next_unit(bytes) {
                Unit::Character(length) => {
                    self.pass(&bytes[..length], sink);
                    length
                }
                Unit::Invalid(length) => {
                    self.pass(REPLACEMENT, sink);
                    length
                }
                Unit::Cut => {
                    self.held.extend_from_slice(bytes);
                    bytes.len()
                }
            };
        }
        let Some(&byte) = bytes.first() else { return 0 };
        self.held.push(byte);
        match next_unit(&self.held) {
            Unit::Character(_) => {
                let held = std::mem::take(&mut self.held);
                self.pass(&held, sink);
                1
            }
            // The offending byte is not part of what is replaced: it starts the next character.
            Unit::Invalid(_) => {
                self.held.clear();
                self.pass(REPLACEMENT, sink);
                0
            }
            Unit::Cut => 1,
        }
    }

    fn pass(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
        while let Some(&byte) = bytes.first() {
            let before = self.state;
            let length = match before {
                State::Other => match bytes.iter().position(|&byte| byte == ESCAPE) {
                    Some(index) => {
                        self.state = State::Escape;
                        index + 1
                    }
                    None => bytes.len(),
                },
                State::Escape | State::Intermediate | State::Control | State::Command => {
                    self.state = before.after(byte);
                    1
                }
            };
            let (piece, rest) = bytes.split_at(length);
            bytes = rest;
            match (before, self.state) {
                (State::Command, State::Command) => {}
                (State::Control, State::Control) if is_parameter(byte) => self.hold_parameter(byte, sink),
                (State::Control, State::Other | State::Escape | State::Intermediate | State::Command) => {
                    self.pass_parameters(byte == b'b', sink);
                    sink(piece);
                }
                (State::Other | State::Escape | State::Intermediate | State::Control | State::Command, _) => sink(piece),
            }
        }
    }

    fn hold_parameter(&mut self, byte: u8, sink: &mut impl FnMut(&[u8])) {
        if self.parameters.len() == PARAMETERS_MAX {
            self.pass_parameters(true, sink);
        }
        self.parameters.push(byte);
    }

    fn pass_parameters(&mut self, repeats: bool, sink: &mut impl FnMut(&[u8])) {
        let parameters = std::mem::take(&mut self.parameters);
        let digits = parameters.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (first, rest) = parameters.split_at(digits);
        let number = first.iter().fold(0_usize, |number, digit| number.saturating_mul(10).saturating_add(usize::from(digit - b'0')));
        if repeats && number > REPEATS_MAX {
            sink(REPEATS_MAX.to_string().as_bytes());
            sink(rest);
        } else {
            sink(&parameters);
        }
    }
}

/// Numbers, separators, markers and intermediates.
fn is_parameter(byte: u8) -> bool {
    (0x20..0x40).contains(&byte)
}

impl State {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (_, ESCAPE) => Self::Escape,
            (_, CANCEL | SUBSTITUTE) | (Self::Command, BELL) => Self::Other,
            (Self::Escape, b'[') => Self::Control,
            (Self::Escape, b']') => Self::Command,
            (Self::Escape | Self::Intermediate, 0x20..=0x2f) => Self::Intermediate,
            (Self::Escape | Self::Intermediate, 0x30..=0x7e) => Self::Other,
            (Self::Control, 0x40..=0x7e) => Self::Other,
            // Controls within a sequence are carried out without ending it; what is not ASCII is ignored there.
            (state @ (Self::Other | Self::Escape | Self::Intermediate | Self::Control | Self::Command), _) => state,
        }
    }
}
