//! Finds the host on the byte stream and serves it, one connection after the other, for as long as the machine lives.
//!
//! ```text
//!            CALL: answer            START                 GOAWAY, error, CALL, 0 bytes
//! scanning ───────────────▶ scanning ──────▶ connected ─────────────────────────────────▶ scanning
//!     ▲ 0 bytes: no host attached, back off
//! ```
//!
//! A connection owns the calls made on it: when it ends, their futures are dropped. What a dropped call leaves behind is said at each
//! operation; a command with an id goes on (see `commands`). The next connection starts clean.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use pyro_proto::channel::{FrameKind, Scanner, frame};
use pyro_proto::limits;
use pyro_proto::v1::guest_server::GuestServer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::link::Link;
use crate::log;
use crate::service::Agent;

/// How long the agent sleeps when it reads 0 bytes, first and at most: a restored machine must be found within milliseconds, and a
/// machine without a host must not keep a core busy.
const DETACHED_FIRST: Duration = Duration::from_millis(1);
const DETACHED_MAX: Duration = Duration::from_millis(10);

/// How long a host may take to let go of a connection the agent has said goodbye to. A frozen host never does.
const FAREWELL: Duration = Duration::from_secs(2);

/// Largest piece the scanner reads; the port hands out one page at a time anyway.
const SCAN_BYTES: usize = 4096;

/// What it means when the stream reads 0 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quiet {
    /// No host is attached at the moment: a virtio-serial port.
    Detached,
    /// The stream has ended: a socket.
    Ended,
}

/// Serves `agent` on `stream`; returns when a stream that can end has ended.
///
/// # Errors
/// What reading or writing a preamble failed with.
pub async fn serve<S>(stream: S, quiet: Quiet, agent: Agent) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut link = Link::new(stream);
    while scan(&mut link, quiet).await? == Scan::Connected {
        connect(&mut link, &agent).await;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Scan {
    Connected,
    Ended,
}

/// Answers calls until the host starts a connection.
async fn scan<S>(link: &mut Link<S>, quiet: Quiet) -> io::Result<Scan>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut scanner = Scanner::default();
    let mut answered = None;
    let mut pause = DETACHED_FIRST;
    let mut piece = [0; SCAN_BYTES];
    loop {
        let unread = link.take_unread();
        let mut bytes = unread.iter();
        while let Some(&byte) = bytes.next() {
            match scanner.push(byte) {
                Ok(Some((FrameKind::Call, nonce))) => {
                    answered = Some(nonce);
                    link.stream.write_all(&frame(FrameKind::Answer, &nonce)).await?;
                    link.stream.flush().await?;
                }
                Ok(Some((FrameKind::Start, nonce))) => {
                    // A START for a call of an earlier life is as stale as the bytes around it.
                    if answered == Some(nonce) {
                        link.put_back(bytes.as_slice());
                        return Ok(Scan::Connected);
                    }
                }
                // The host's own frames are never sent to it.
                Ok(Some((FrameKind::Answer, _)) | None) => {}
                // Only the host can flood here, and giving up would lose the machine; scanning on costs it nothing.
                Err(pyro_proto::channel::Flooded) => scanner = Scanner::default(),
            }
        }
        let count = link.stream.read(&mut piece).await?;
        link.put_back(&piece[..count]);
        if count > 0 {
            pause = DETACHED_FIRST;
        } else if quiet == Quiet::Ended {
            return Ok(Scan::Ended);
        } else {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(DETACHED_MAX);
        }
    }
}

/// Speaks HTTP/2 until either end is done with this connection.
async fn connect<S>(link: &mut Link<S>, agent: &Agent)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let agent = agent.for_connection();
    let cut = link.cut();
    let service = GuestServer::new(agent.clone())
        .max_decoding_message_size(limits::MESSAGE_MAX_BYTES)
        .max_encoding_message_size(limits::MESSAGE_MAX_BYTES);
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
            .max_frame_size(limits::FRAME_MAX_BYTES)
            .max_concurrent_streams(limits::CONCURRENT_CALLS_MAX)
            // One chunk in flight and one behind it keep the port busy; more would only sit in memory.
            .max_send_buf_size(2 * limits::FRAME_MAX_BYTES as usize)
            .serve_connection(TokioIo::new(link), TowerToHyperService::new(service))
    );
    let ended = tokio::select! {
        ended = poll_fn(|context| match connection.as_mut().poll(context) {
            // It would first write out what nobody reads as HTTP/2 any more.
            Poll::Pending if cut.load(Ordering::Relaxed) => Poll::Ready(Ok(())),
            ended @ (Poll::Ready(_) | Poll::Pending) => ended,
        }) => ended,
        () = agent.farewell() => {
            // Calls in progress, the one that asked for this among them, are still answered.
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended
        && !is_end_of_stream(&error)
    {
        log::failure(&error);
    }
}

/// Whether a connection has ended as every one does: the host let go of the stream.
fn is_end_of_stream(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}
