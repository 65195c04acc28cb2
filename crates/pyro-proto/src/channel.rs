//! How the two ends of the guest channel find each other on a byte stream that can be cut and made anew with stale bytes in it.
//!
//! The stream is one virtio-serial port. A restore, a fork or a claimed standby machine leaves bytes of an earlier life in it, in
//! either direction. So every connection opens with three fixed-size frames, and only then does HTTP/2 start:
//!
//! ```text
//! host  → guest   CALL   nonce      repeated with a fresh nonce until something is answered
//! guest → host    ANSWER nonce      once for every CALL
//! host  → guest   START  nonce      once the last CALL is answered; the next byte, either way, is HTTP/2
//! ```
//!
//! The host waits for the answer to its last call, because the answers to earlier ones are in the stream before it.
//!
//! Both ends scan: what is not the frame they wait for is skipped. Repeated CALLs cannot reach the HTTP/2 layer, because every one of
//! them precedes START in the stream. An agent that still believes in an old connection reads CALL as a broken HTTP/2 frame, ends that
//! connection and starts to scan, which is why the host repeats CALL.

/// Random bytes of one attempt.
pub type Nonce = [u8; 16];

/// Length of each frame: 16 bytes of magic, then the nonce.
pub const FRAME_BYTES: usize = 32;

/// Most bytes an end skips while it scans before it gives the connection up. A guest that floods ends here; stale output of an earlier
/// life is at most one HTTP/2 connection window of queued chunks, in practice what the virtio queue holds.
pub const SCAN_MAX_BYTES: usize = 64 << 20;

/// The three frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Host asks for a connection.
    Call,
    /// Guest heard a call.
    Answer,
    /// Host begins HTTP/2 with the next byte.
    Start,
}

impl FrameKind {
    // Random, so that no text or HTTP/2 frame resembles them; the first byte makes an HTTP/2 frame length above every accepted maximum.
    const fn magic(self) -> [u8; 16] {
        match self {
            Self::Call => *b"\xf7PYR\xe1\x0c\xd2\x9b\x31\xa6\x7e\x05\x88\xc4\x1f\x01",
            Self::Answer => *b"\xf7PYR\xe1\x0c\xd2\x9b\x31\xa6\x7e\x05\x88\xc4\x1f\x02",
            Self::Start => *b"\xf7PYR\xe1\x0c\xd2\x9b\x31\xa6\x7e\x05\x88\xc4\x1f\x03",
        }
    }
}

/// Builds a frame.
#[must_use]
pub fn frame(kind: FrameKind, nonce: &Nonce) -> [u8; FRAME_BYTES] {
    let mut bytes = [0; FRAME_BYTES];
    bytes[..16].copy_from_slice(&kind.magic());
    bytes[16..].copy_from_slice(nonce);
    bytes
}

/// Finds frames in a stream of arbitrary bytes, whatever pieces it arrives in, holding at most one frame's worth of them.
#[derive(Debug, Default)]
pub struct Scanner {
    window: Vec<u8>,
    skipped: usize,
}

/// The peer sent [`SCAN_MAX_BYTES`] without the awaited frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no preamble within {SCAN_MAX_BYTES} bytes")]
pub struct Flooded;

impl Scanner {
    /// Takes one byte; returns a frame when this byte completes it.
    ///
    /// # Errors
    /// [`Flooded`] once too much was skipped.
    pub fn push(&mut self, byte: u8) -> Result<Option<(FrameKind, Nonce)>, Flooded> {
        self.window.push(byte);
        // Keeps the longest suffix that can still become a frame.
        while !self.window.is_empty() && !self.may_become_frame() {
            self.window.remove(0);
            self.skipped += 1;
            if self.skipped > SCAN_MAX_BYTES {
                return Err(Flooded);
            }
        }
        if self.window.len() < FRAME_BYTES {
            return Ok(None);
        }
        let kind = [FrameKind::Call, FrameKind::Answer, FrameKind::Start].into_iter().find(|kind| self.window[..16] == kind.magic());
        let mut nonce = Nonce::default();
        nonce.copy_from_slice(&self.window[16..]);
        self.window.clear();
        Ok(kind.map(|kind| (kind, nonce)))
    }

    fn may_become_frame(&self) -> bool {
        let length = self.window.len().min(16);
        [FrameKind::Call, FrameKind::Answer, FrameKind::Start].iter().any(|kind| self.window[..length] == kind.magic()[..length])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(bytes: &[u8]) -> Vec<(FrameKind, Nonce)> {
        let mut scanner = Scanner::default();
        bytes.iter().filter_map(|&byte| scanner.push(byte).expect("within the cap")).collect()
    }

    proptest! {
        #[test]
        fn frame_is_found_behind_any_stale_bytes(stale in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..FRAME_BYTES, nonce: Nonce) {
            let mut bytes = stale;
            bytes.extend_from_slice(&frame(FrameKind::Call, &[7; 16])[..cut.min(15)]);
            bytes.extend_from_slice(&frame(FrameKind::Call, &nonce));
            prop_assert!(scan(&bytes).contains(&(FrameKind::Call, nonce)));
        }
    }

    #[test]
    fn frame_cut_inside_its_nonce_costs_at_most_the_next_frame() {
        let mut bytes = frame(FrameKind::Call, &[1; 16])[..20].to_vec();
        for nonce in [[2; 16], [3; 16], [4; 16]] {
            bytes.extend_from_slice(&frame(FrameKind::Call, &nonce));
        }
        assert_eq!(scan(&bytes).last(), Some(&(FrameKind::Call, [4; 16])));
    }

    #[test]
    fn flood_is_given_up() {
        let mut scanner = Scanner::default();
        assert!((0..=SCAN_MAX_BYTES).any(|_| scanner.push(0).is_err()));
    }
}
