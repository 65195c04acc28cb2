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
