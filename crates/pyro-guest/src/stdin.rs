//! Standard input of a command: bytes wait here for a command that does not read.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf as _, Bytes};
use tokio::net::unix::pipe::Sender;

/// Most bytes of stdin kept for a command that does not read. Past it, inputs wait in the HTTP/2 stream, signals behind them included.
const STDIN_QUEUE_BYTES: usize = 8 << 20;

/// Bytes on their way to a command that has not read them yet.
#[derive(Debug, Default)]
pub(crate) struct StdinQueue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
}

impl StdinQueue {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() && !self.closed {
            self.bytes += bytes.len();
            self.pieces.push_back(bytes);
        }
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn discard(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }

    pub(crate) fn has_work(&self) -> bool {
        self.closed || !self.pieces.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes < STDIN_QUEUE_BYTES
    }

    pub(crate) fn is_done(&self) -> bool {
        self.closed && self.pieces.is_empty()
    }

    /// Writes some of the queue. Nothing is lost when the future is dropped.
    pub(crate) async fn write(&mut self, pipe: Option<&Sender>) -> io::Result<()> {
        let (Some(pipe), Some(piece)) = (pipe, self.pieces.front_mut()) else { return Ok(()) };
        pipe.writable().await?;
        let count = match pipe.try_write(piece) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            result => result?,
        };
        piece.advance(count);
        self.bytes -= count;
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Ok(())
    }
}
