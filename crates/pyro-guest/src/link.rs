//! The stream under a connection: remembers what was read too far, and notices when the host starts over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use pyro_proto::channel::{FRAME_BYTES, FrameKind, frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One read of the stream; the port hands out one write of the host at a time, at most a page.
const PIECE_BYTES: usize = 16 << 10;

/// A byte stream between two connections: what follows START, and what a connection leaves behind, is kept here.
#[derive(Debug)]
pub(crate) struct Link<S> {
    pub(crate) stream: S,
    /// Read from the stream and not yet consumed.
    unread: Vec<u8>,
    /// How much of `unread` the connection has taken.
    taken: usize,
    /// The host has started over: the connection is to be dropped as it is.
    cut: Arc<AtomicBool>,
    /// The first half of a CALL, the same in every one.
    call: [u8; FRAME_BYTES / 2],
}

impl<S> Link<S> {
    pub(crate) fn new(stream: S) -> Self {
        let mut call = [0; FRAME_BYTES / 2];
        call.copy_from_slice(&frame(FrameKind::Call, &[0; 16])[..FRAME_BYTES / 2]);
        Self { stream, unread: Vec::new(), taken: 0, cut: Arc::default(), call }
    }

    /// Tells when the connection on this link is to be dropped as it is: what it still wants to write is of no use to anybody.
    pub(crate) fn cut(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cut)
    }

    /// Ends the connection on this link; returns what it has not taken.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        self.cut.store(false, Ordering::Relaxed);
        let taken = std::mem::take(&mut self.taken);
        std::mem::take(&mut self.unread).split_off(taken)
    }

    /// Puts back what belongs to the next connection.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.unread = bytes.to_vec();
    }

    /// Whether nothing but CALLs is in a piece: a host that waits for an answer sends nothing else, and a command's input that holds
    /// one among other bytes must not end its own connection.
    fn is_call(&self) -> bool {
        let mut frames = self.unread.chunks_exact(FRAME_BYTES);
        !self.unread.is_empty() && frames.all(|frame| frame.starts_with(&self.call)) && frames.remainder().is_empty()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Link<S> {
    /// Reads as the stream does; a piece of CALLs ends the connection (0 bytes) and stays in `unread`.
    ///
    /// HTTP/2 must not see them: cut in the middle of a frame, it would swallow a CALL after the other as what was missing. So pieces are
    /// read here, whole, whatever room the connection has.
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        if this.taken == this.unread.len() {
            this.taken = 0;
            this.unread.resize(PIECE_BYTES, 0);
            let mut piece = ReadBuf::new(&mut this.unread);
            let read = Pin::new(&mut this.stream).poll_read(context, &mut piece);
            let count = piece.filled().len();
            this.unread.truncate(count);
            ready!(read)?;
            if this.is_call() {
                this.cut.store(true, Ordering::Relaxed);
                return Poll::Ready(Ok(()));
            }
        }
        let rest = &this.unread[this.taken..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Link<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The end of one connection is not the end of the stream.
        Poll::Ready(Ok(()))
    }
}
