//! A connection to a port of the guest, carried in one call, and a stream of the host relayed over it.
//!
//! ```text
//! stream ── upload ──▶ data, at most the credit unacknowledged ──▶ guest
//! stream ◀── writer ◀── queue ◀── messages ◀── data, likewise ◀── guest
//!                └── passed_on ──▶              └── passed_on: credit for upload
//! ```
//!
//! The three run side by side in one task. The messages are always read, so that a client that does not read its answers still hears that
//! what it sends was taken. The guest is hostile: data past its credit ends the connection, and credit it gives never adds up to more than
//! there was.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use pyro_proto::{
    error::{ErrorKind, Failure},
    limits::PORT_CREDIT_BYTES,
    v1::{ConnectClosed, ConnectInput, ConnectOpen, ConnectOutput, connect_input::Input, connect_output::Output},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Agent, passed_on, refused, within};
use crate::error::{HostError, HostResult};

/// Messages on their way to the guest.
const QUEUE: usize = 8;
/// How much one read of the stream takes.
const PIECE_BYTES: usize = 64 << 10;
/// After how much the other end is told that it may send more, unless it waits already.
const REPORT_BYTES: u64 = PORT_CREDIT_BYTES / 4;

/// An open connection to a port of the guest. Dropping it closes it there.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: mpsc::Sender<ConnectInput>,
    output: tonic::Streaming<ConnectOutput>,
}

impl Agent {
    /// Connects to a port of the guest.
    pub(crate) async fn connect_port(&self, open: ConnectOpen, deadline: std::time::Duration) -> HostResult<Connection> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        // The queue is empty, so this cannot wait.
        drop(sender.try_send(ConnectInput { input: Some(Input::Open(open)) }));
        let mut client = self.client.clone();
        let call = async {
            let mut output = client.connect(ReceiverStream::new(receiver)).await.map_err(|status| passed_on(&status))?.into_inner();
            match output.message().await.map_err(|status| passed_on(&status))?.and_then(|message| message.output) {
                Some(Output::Opened(_)) => Ok(Connection { sender, output }),
                Some(Output::Data(_) | Output::Closed(_) | Output::PassedOn(_)) | None => {
                    let failure = Failure::message(ErrorKind::MachineFailed, "the guest's agent answered out of order");
                    Err(refused(&failure.into_status(), "connecting to a port"))
                }
            }
        };
        within(deadline, "connecting to a port", call).await
    }
}

/// Carries bytes between `stream` and the guest until both directions have ended.
///
/// # Errors
/// Either end was cut, or the guest broke the rules.
pub(crate) async fn relay(stream: impl AsyncRead + AsyncWrite, connection: Connection) -> io::Result<()> {
    let Connection { sender, mut output } = connection;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let credit = Semaphore::new(PORT_CREDIT_BYTES as usize);
    let (queue, mut queued) = mpsc::unbounded_channel::<Bytes>();
    // Bytes of the guest that wait in the queue.
    let waiting = AtomicU64::new(0);

    let upload = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            if reader.read_buf(&mut buffer).await? == 0 {
                let closed = ConnectInput { input: Some(Input::Closed(ConnectClosed {})) };
                // A guest that is done already has let go of the call.
                drop(sender.send(closed).await);
                return Ok(());
            }
            while !buffer.is_empty() {
                let piece = buffer.split_to(buffer.len().min(PIECE_BYTES)).freeze();
                let permits = u32::try_from(piece.len()).map_err(io::Error::other)?;
                // It is never closed.
                credit.acquire_many(permits).await.map_err(io::Error::other)?.forget();
                if sender.send(ConnectInput { input: Some(Input::Data(piece)) }).await.is_err() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        }
    };
    let messages = async {
        let mut queue = Some(queue);
        loop {
            let message = output.message().await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
            match message.and_then(|message| message.output) {
                Some(Output::Data(bytes)) => {
                    let length = bytes.len() as u64;
                    if waiting.fetch_add(length, Ordering::Relaxed) + length > PORT_CREDIT_BYTES {
                        return Err(io::Error::from(io::ErrorKind::InvalidData));
                    }
                    if let Some(queue) = &queue {
                        // Its receiver lives as long as this function.
                        drop(queue.send(bytes));
                    }
                }
                Some(Output::PassedOn(count)) => {
                    let missing = PORT_CREDIT_BYTES.saturating_sub(credit.available_permits() as u64);
                    credit.add_permits(usize::try_from(count.min(missing)).unwrap_or(0));
                }
                Some(Output::Closed(_)) => queue = None,
                // A second opening has no meaning.
                Some(Output::Opened(_)) => {}
                None if queue.is_none() => return Ok(()),
                None => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
    };
    let write = async {
        let mut unreported = 0;
        while let Some(bytes) = queued.recv().await {
            writer.write_all(&bytes).await?;
            waiting.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
            unreported += bytes.len() as u64;
            if unreported >= REPORT_BYTES {
                let report = ConnectInput { input: Some(Input::PassedOn(std::mem::take(&mut unreported))) };
                drop(sender.send(report).await);
            }
        }
        writer.shutdown().await
    };
    tokio::try_join!(upload, messages, write).map(drop)
}

/// Connects to a port of the guest and returns a stream of it, for a client that speaks a protocol over it.
pub(crate) async fn connected(
    agent: &Agent,
    open: ConnectOpen,
    deadline: std::time::Duration,
) -> Result<tokio::io::DuplexStream, HostError> {
    let connection = agent.connect_port(open, deadline).await?;
    let (ours, theirs) = tokio::io::duplex(PIECE_BYTES);
    // It ends with its client, which has a deadline.
    tokio::spawn(async move { drop(relay(theirs, connection).await) });
    Ok(ours)
}
