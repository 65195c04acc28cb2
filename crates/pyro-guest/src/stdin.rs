//! Standard input of a command: bytes wait here for a command that does not read.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use tokio::net::unix::pipe::Sender;

use crate::terminal::Terminal;

/// Most bytes of stdin kept for a command that does not read.
const STDIN_QUEUE_BYTES: usize = 8 << 20;

/// What becomes of input past the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// It waits in the HTTP/2 stream, whatever comes after it included.
    Wait,
    /// It is lost: what comes after it, such as the end of the command, must not wait for it.
    Drop,
}

/// Where stdin goes.
#[derive(Debug)]
pub(crate) enum Sink {
    Nowhere,
    Pipe(Sender),
    Terminal(Arc<Terminal>),
}

/// Bytes on their way to a command that has not read them yet.
#[derive(Debug)]
pub(crate) struct Stdin {
    sink: Sink,
    overflow: Overflow,
    pieces: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
}

impl Stdin {
    pub(crate) fn new(sink: Sink, overflow: Overflow) -> Self {
        Self { sink, overflow, pieces: VecDeque::new(), bytes: 0, closed: false }
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() || self.closed {
            return;
        }
        let fits = self.bytes < STDIN_QUEUE_BYTES || self.overflow == Overflow::Wait;
        match &self.sink {
            Sink::Nowhere => return,
            Sink::Pipe(_) => {}
            Sink::Terminal(terminal) if fits => terminal.accepted(piece.len()),
            Sink::Terminal(terminal) => terminal.dropped(piece.len()),
        }
        if fits {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Ends the stream after what waits in it. A terminal's goes on: it is one for as long as there is one.
    pub(crate) fn close(&mut self) {
        self.closed = matches!(self.sink, Sink::Nowhere | Sink::Pipe(_));
    }

    pub(crate) fn has_work(&self) -> bool {
        let is_ending = self.closed && matches!(self.sink, Sink::Pipe(_));
        is_ending || !self.pieces.is_empty()
    }

    /// Whether more may be pushed.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < STDIN_QUEUE_BYTES || self.overflow == Overflow::Drop
    }

    /// Writes some of what waits, and ends the stream when it is due. Nothing is lost when the future is dropped.
    pub(crate) async fn work(&mut self) {
        let Some(piece) = self.pieces.front_mut() else {
            if self.closed {
                self.sink = Sink::Nowhere;
            }
            return;
        };
        let written = match &self.sink {
            Sink::Nowhere => Ok(piece.len()),
            Sink::Pipe(pipe) => write(pipe, piece).await,
            Sink::Terminal(terminal) => terminal.write(piece).await,
        };
        match written {
            Ok(count) => {
                piece.advance(count);
                self.bytes -= count;
                if piece.is_empty() {
                    self.pieces.pop_front();
                }
            }
            // The command has closed its end (EPIPE), or its terminal was hung up (EIO), after which it may get another.
            Err(_) => {
                match &self.sink {
                    Sink::Nowhere => {}
                    Sink::Pipe(_) => self.sink = Sink::Nowhere,
                    Sink::Terminal(terminal) => terminal.dropped_all(),
                }
                self.pieces.clear();
                self.bytes = 0;
            }
        }
    }
}

async fn write(pipe: &Sender, piece: &[u8]) -> io::Result<usize> {
    pipe.writable().await?;
    match pipe.try_write(piece) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
