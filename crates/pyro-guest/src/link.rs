//! The stream under a connection: remembers what was read too far, and notices when the host starts over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pyro_proto::channel::{FRAME_BYTES, FrameKind, frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream between two connections: what follows START, and what a connection leaves behind, is kept here.
#[derive(Debug)]
pub(crate) struct Link<S> {
    pub(crate) stream: S,
    /// Read from the stream and not yet consumed.
    pub(crate) unread: Vec<u8>,
    /// The first half of a CALL, the same in every one.
    call: [u8; FRAME_BYTES / 2],
}

impl<S> Link<S> {
    pub(crate) fn new(stream: S) -> Self {
        let mut call = [0; FRAME_BYTES / 2];
        call.copy_from_slice(&frame(FrameKind::Call, &[0; 16])[..FRAME_BYTES / 2]);
        Self { stream, unread: Vec::new(), call }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Link<S> {
    /// Reads as the stream does; a piece that begins with CALL ends the connection (0 bytes) and stays in `unread`.
    ///
    /// HTTP/2 would trip over the frame too, but would swallow it, and the host would wait for its next attempt. A frame that comes
    /// inside a piece is left to HTTP/2.
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.unread.is_empty() {
            if this.unread.starts_with(&this.call) {
                return Poll::Ready(Ok(()));
            }
            let count = this.unread.len().min(buffer.remaining());
            buffer.put_slice(&this.unread[..count]);
            this.unread.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let piece = &buffer.filled()[before..];
        if piece.starts_with(&this.call) {
            this.unread.extend_from_slice(piece);
            buffer.set_filled(before);
        }
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
