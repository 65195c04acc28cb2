//! Which of a terminal's two screens is shown, as told by what is written to it.
//!
//! It must be known, because leaving the alternate screen where it is not shown is not nothing: xterm and tmux put the cursor where it was when
//! some program entered it, maybe an hour ago.

/// Sequences that enter and leave it, without what begins them.
const ENTER: [&[u8]; 3] = [b"[?1049h", b"[?1047h", b"[?47h"];
const LEAVE: [&[u8]; 3] = [b"[?1049l", b"[?1047l", b"[?47l"];
const ESCAPE: u8 = 0x1b;
/// The longest of them, with what begins it.
const LONGEST: usize = 8;

/// Which screen is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Shown {
    #[default]
    Main,
    Alternate,
}

/// Watches what is written, whatever pieces it comes in.
#[derive(Debug, Default)]
pub(super) struct ScreenWatch {
    shown: Shown,
    /// A sequence that may have been cut.
    rest: Vec<u8>,
}

impl ScreenWatch {
    /// Takes a piece and returns what is shown after it.
    pub(super) fn take(&mut self, piece: &[u8]) -> Shown {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        for at in bytes.iter().enumerate().filter(|(_, byte)| **byte == ESCAPE).map(|(at, _)| at) {
            let sequence = &bytes[at + 1..];
            if ENTER.iter().any(|enter| sequence.starts_with(enter)) {
                self.shown = Shown::Alternate;
            } else if LEAVE.iter().any(|leave| sequence.starts_with(leave)) {
                self.shown = Shown::Main;
            }
        }
        let tail = bytes.len().saturating_sub(LONGEST - 1);
        if let Some(at) = bytes[tail..].iter().rposition(|byte| *byte == ESCAPE) {
            self.rest = bytes.split_off(tail + at);
        }
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_is_known_whatever_pieces_the_sequences_come_in() {
        let text = b"a\x1b[1m\x1b[?1049hb\x1b[?25l\x1b[?1049lc\x1b[?47h";
        assert_eq!(ScreenWatch::default().take(text), Shown::Alternate);
        assert_eq!(ScreenWatch::default().take(&text[..text.len() - 6]), Shown::Main);
        for cut in 0..text.len() {
            let mut watch = ScreenWatch::default();
            watch.take(&text[..cut]);
            assert_eq!(watch.take(&text[cut..]), Shown::Alternate, "{cut}");
        }
        let mut watch = ScreenWatch::default();
        let shown: Vec<_> = b"\x1b[?1049h".iter().map(|byte| watch.take(&[*byte])).collect();
        assert_eq!(shown.last(), Some(&Shown::Alternate));
    }
}
