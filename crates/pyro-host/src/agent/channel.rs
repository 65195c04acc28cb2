//! Opens a connection on the guest's byte stream, as `pyro_proto::channel` tells.

use std::{os::unix::net::UnixStream as StdUnixStream, time::Duration};

use pyro_proto::channel::{FrameKind, Nonce, Scanner, frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::error::{Doing as _, HostError, HostResult};

/// How long an answer may take before the next call: a restored guest answers in 10–30 ms, and an agent that took the first call for
/// HTTP/2 needs a second one.
const CALL_EVERY: Duration = Duration::from_millis(50);

/// Calls the agent until it answers, and leaves the stream where HTTP/2 begins. Dropping the future closes the stream.
///
/// # Errors
/// The stream breaks, or the guest floods it.
pub(super) async fn open(stream: StdUnixStream) -> HostResult<UnixStream> {
    let broken = |source| HostError::Channel { doing: "calling its agent", source };
    stream.set_nonblocking(true).doing("prepare the guest's channel")?;
    let mut stream = UnixStream::from_std(stream).doing("prepare the guest's channel")?;
    let mut scanner = Scanner::default();
    let mut last = Nonce::default();
    let mut heard = false;
    let mut calls = tokio::time::interval(CALL_EVERY);
    loop {
        tokio::select! {
            _ = calls.tick(), if !heard => {
                rustix::rand::getrandom(&mut last, rustix::rand::GetRandomFlags::empty()).doing("draw a nonce")?;
                let nonce = last;
                // A guest that does not read fills the socket's buffer; the caller's deadline ends that.
                stream.write_all(&frame(FrameKind::Call, &nonce)).await.map_err(broken)?;
            }
            byte = stream.read_u8() => {
                // One byte at a time, because the byte after the awaited frame belongs to HTTP/2. The frame is 32 bytes; what a flooding
                // guest sends before it is capped by the scanner.
                let byte = byte.map_err(broken)?;
                let found = scanner.push(byte).map_err(|error| broken(std::io::Error::other(error)))?;
                if let Some((FrameKind::Answer, nonce)) = found {
                    // Any answer tells that the agent listens; only the one to the last call is followed by nothing but HTTP/2.
                    heard = true;
                    if nonce == last {
                        stream.write_all(&frame(FrameKind::Start, &nonce)).await.map_err(broken)?;
                        return Ok(stream);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use pyro_proto::{channel::FRAME_BYTES, limits::FRAME_MAX_BYTES};

    use super::*;
    use crate::agent::Agent;

    /// Plays a guest on its own thread; the host must come to an end with a `machine_failed` in good time.
    fn check(guest: impl FnOnce(StdUnixStream) + Send + 'static) -> HostError {
        let (host, peer) = StdUnixStream::pair().expect("a pair");
        let guest = std::thread::spawn(move || guest(peer));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let error = runtime.block_on(Agent::connect(host, Duration::from_secs(3))).expect_err("no agent speaks here");
        drop(runtime);
        guest.join().expect("the guest's thread ends");
        assert_eq!(error.kind(), pyro_proto::error::ErrorKind::MachineFailed, "{error}");
        error
    }

    /// Answers the preamble as the agent would, and returns the stream where HTTP/2 begins.
    fn answer(mut stream: StdUnixStream) -> StdUnixStream {
        let mut scanner = Scanner::default();
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the host calls");
            match scanner.push(byte[0]).expect("within the cap") {
                Some((FrameKind::Call, nonce)) => stream.write_all(&frame(FrameKind::Answer, &nonce)).expect("the host listens"),
                Some((FrameKind::Start, _)) => return stream,
                Some((FrameKind::Answer, _)) | None => {}
            }
        }
    }

    #[test]
    fn a_guest_that_closes_its_channel_is_given_up() {
        check(drop);
    }

    #[test]
    fn a_guest_that_never_answers_is_given_up_at_the_deadline() {
        let error = check(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
        assert!(matches!(error, HostError::AgentTimeout { .. }), "{error}");
    }

    #[test]
    fn a_guest_that_floods_instead_of_answering_is_given_up() {
        check(|mut stream| while stream.write_all(&[0x5a; 65536]).is_ok() {});
    }

    #[test]
    fn a_guest_that_answers_calls_nobody_made_is_not_believed() {
        let error = check(|mut stream| while stream.write_all(&frame(FrameKind::Answer, &[7; 16])).is_ok() {});
        assert!(matches!(error, HostError::AgentTimeout { .. } | HostError::Channel { .. }), "{error}");
    }

    #[test]
    fn garbage_after_the_preamble_is_a_clear_failure() {
        check(|stream| drop(answer(stream).write_all(&[0xff; 4096])));
    }

    #[test]
    fn a_frame_over_the_cap_is_refused_before_it_is_held() {
        check(|stream| {
            let mut stream = answer(stream);
            // An empty SETTINGS frame, then the header of a DATA frame one byte over what the host allows.
            let length = (FRAME_MAX_BYTES + 1).to_be_bytes();
            let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
            bytes.extend([length[1], length[2], length[3], 0, 0, 0, 0, 0, 1]);
            drop(stream.write_all(&bytes));
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
        });
    }

    #[test]
    fn stale_bytes_before_the_answer_are_skipped() {
        check(|mut stream| {
            let mut stale = vec![0xa5; 10_000];
            stale.extend_from_slice(&frame(FrameKind::Answer, &[1; 16])[..FRAME_BYTES - 1]);
            stale.extend_from_slice(&[0; 64]);
            stream.write_all(&stale).expect("the host listens");
            // Reaching HTTP/2 at all proves that the answer was found.
            drop(answer(stream));
        });
    }
}
