//! The keys that are for us and not for the shell: `Ctrl-]` begins, `q` detaches.
//!
//! ```text
//!            Ctrl-]            q
//! ┌ open ──────────────► held ────► detached
//! │   ▲  Ctrl-]: sends one │
//! │   └─ other: sends both ┘
//! └─ other: sent
//! ```
//!
//! Programs can make a terminal send keys as sequences (the kitty protocol, xterm's modifyOtherKeys). Both keys are known in that form, too,
//! when the whole sequence is in one piece, as terminals send it. A sequence in two pieces is not waited for: Escape must not wait.

/// `Ctrl-]`, in the forms terminals send it.
const PREFIX: [&[u8]; 4] = [b"\x1d", b"\x1b[93;5u", b"\x1b[93;5:1u", b"\x1b[27;5;93~"];
const QUIT: [&[u8]; 4] = [b"q", b"\x1b[113u", b"\x1b[113;1u", b"\x1b[113;1:1u"];
/// `Ctrl-]` let go, and Control let go, which comes between the two keys.
const RELEASE: [&[u8]; 4] = [b"\x1b[93;5:3u", b"\x1b[93;1:3u", b"\x1b[57442;5:3u", b"\x1b[57442;1:3u"];

/// What came of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Typed {
    /// For the shell.
    pub(super) bytes: Vec<u8>,
    /// Whether to detach after that; what follows in the piece is nobody's.
    pub(super) detach: bool,
}

/// Looks for the keys in what is typed, whatever pieces it comes in.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    /// The `Ctrl-]` that waits for the next key, as it came.
    held: Option<Vec<u8>>,
}

fn at_start(bytes: &[u8], forms: &[&[u8]]) -> Option<usize> {
    forms.iter().find(|form| bytes.starts_with(form)).map(|form| form.len())
}

impl DetachKeys {
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(piece.len());
        while !piece.is_empty() {
            let prefix = at_start(piece, &PREFIX);
            let length = match (self.held.take(), prefix) {
                (None, Some(length)) => {
                    self.held = Some(piece[..length].to_vec());
                    length
                }
                (None, None) => {
                    bytes.push(piece[0]);
                    1
                }
                (Some(held), Some(length)) => {
                    bytes.extend(held);
                    length
                }
                (Some(held), None) => {
                    if at_start(piece, &QUIT).is_some() {
                        return Typed { bytes, detach: true };
                    }
                    match at_start(piece, &RELEASE) {
                        Some(length) => {
                            self.held = Some(held);
                            length
                        }
                        None => {
                            bytes.extend(held);
                            bytes.push(piece[0]);
                            1
                        }
                    }
                }
            };
            piece = &piece[length..];
        }
        Typed { bytes, detach: false }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pieces: &[&[u8]], sent: &[u8], detached: bool) {
        let mut keys = DetachKeys::default();
        let mut bytes = Vec::new();
        for piece in pieces {
            let typed = keys.take(piece);
            bytes.extend(typed.bytes);
            if typed.detach {
                assert_eq!((bytes.as_slice(), true), (sent, detached));
                return;
            }
        }
        assert_eq!((bytes.as_slice(), false), (sent, detached));
    }

    #[test]
    fn prefix_and_q_detach_and_everything_else_is_sent() {
        check(&[b"ls\r"], b"ls\r", false);
        check(&[b"a\x1dqb"], b"a", true);
        check(&[b"a\x1d", b"q"], b"a", true);
        check(&[b"\x1d\x1d"], b"\x1d", false);
        check(&[b"\x1d\x1dq"], b"\x1dq", false);
        check(&[b"\x1d", b"x\x1d", b"q"], b"\x1dx", true);
        check(&[b"\x1d\x03"], b"\x1d\x03", false);
        check(&[b"q\x1b[A"], b"q\x1b[A", false);
    }

    #[test]
    fn keys_sent_as_sequences_are_known() {
        check(&[b"\x1b[93;5u", b"q"], b"", true);
        check(&[b"\x1b[27;5;93~", b"q"], b"", true);
        check(&[b"\x1b[93;5:1u\x1b[93;5:3u", b"\x1b[57442;1:3u", b"\x1b[113;1:1u"], b"", true);
        check(&[b"\x1b[93;5u", b"\x1b[93;5u"], b"\x1b[93;5u", false);
        check(&[b"\x1b[93;5u\x1b[A"], b"\x1b[93;5u\x1b[A", false);
    }

    /// The same, one byte at a time and by the rule as a person is told it.
    fn by_the_rule(bytes: &[u8]) -> Typed {
        let (mut sent, mut held) = (Vec::new(), false);
        for &byte in bytes {
            match (held, byte) {
                (false, 0x1d) => held = true,
                (true, b'q') => return Typed { bytes: sent, detach: true },
                (true, 0x1d) => {
                    sent.push(0x1d);
                    held = false;
                }
                (true, other) => {
                    sent.extend([0x1d, other]);
                    held = false;
                }
                (false, other) => sent.push(other),
            }
        }
        Typed { bytes: sent, detach: false }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            bytes in prop::collection::vec(prop_oneof![Just(0x1d), Just(b'q'), Just(b'a'), any::<u8>().prop_filter("sequences", |byte| *byte != 0x1b)], 0..64),
            cuts in prop::collection::vec(0usize..64, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let (mut keys, mut found) = (DetachKeys::default(), Typed { bytes: Vec::new(), detach: false });
            for pair in cuts.windows(2) {
                let typed = keys.take(&bytes[pair[0]..pair[1]]);
                found.bytes.extend(typed.bytes);
                if typed.detach {
                    found.detach = true;
                    break;
                }
            }
            prop_assert_eq!(found, by_the_rule(&bytes));
        }
    }
}
