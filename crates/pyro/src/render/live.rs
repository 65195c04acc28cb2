//! Passes a command's output on as it comes, on a thread of its own: a reader that pauses (a pager, a slow pipe) must not keep signals
//! from reaching the command. The queue is short, so a paused reader pauses the command and memory stays bounded.

use std::{
    io::{self, Write as _},
    thread::JoinHandle,
};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Pieces waiting to be written, each at most 128 KiB.
const QUEUE: usize = 8;

/// Which of our streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A thread that writes output.
#[derive(Debug)]
pub(crate) struct LiveOutput {
    sender: mpsc::Sender<(Stream, Bytes)>,
    thread: JoinHandle<io::Result<()>>,
}

impl LiveOutput {
    pub(crate) fn start() -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Stream, Bytes)>(QUEUE);
        let thread = std::thread::spawn(move || {
            while let Some((stream, bytes)) = receiver.blocking_recv() {
                match stream {
                    // Locked only while writing: the end's status line comes from another thread.
                    Stream::Stdout => {
                        let mut stdout = io::stdout().lock();
                        stdout.write_all(&bytes)?;
                        stdout.flush()?;
                    }
                    Stream::Stderr => io::stderr().lock().write_all(&bytes)?,
                }
            }
            Ok(())
        });
        Self { sender, thread }
    }

    /// Hands a piece over, waiting while the queue is full; `false` when nobody reads any more.
    pub(crate) async fn write(&self, stream: Stream, bytes: Bytes) -> bool {
        self.sender.send((stream, bytes)).await.is_ok()
    }

    /// Waits until nobody reads any more.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Waits until everything is written.
    pub(crate) fn finish(self) -> io::Result<()> {
        drop(self.sender);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
