//! The virtio-serial port as an asynchronous byte stream.
//!
//! The port is odd in three ways (`drivers/char/virtio_console.c`): a read returns 0 while no host is attached and works again later;
//! poll then reports a hang-up, which tokio remembers for good; a write takes at most 32 KiB and `writev` is one host notification per
//! slice. So this type registers the descriptor anew after a hang-up, and gathers small slices itself.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::{Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What `port_fops_write` takes in one call.
const WRITE_MAX_BYTES: usize = 32 << 10;

/// A port, opened and non-blocking.
#[derive(Debug)]
pub(crate) struct Port {
    /// Shared with the registration, which can be dropped without closing it: the driver lets a port be opened once only.
    file: Arc<OwnedFd>,
    /// None after a hang-up, until the next use.
    registration: Option<AsyncFd<Arc<OwnedFd>>>,
    gathered: Vec<u8>,
}

impl Port {
    /// Opens the port at `path`.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let file = rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { file: Arc::new(file), registration: None, gathered: Vec::with_capacity(WRITE_MAX_BYTES) })
    }

    #[expect(deprecated, reason = "its replacement is unsafe; a descriptor shared by reference count stays open while registered")]
    fn registration(&mut self) -> io::Result<&AsyncFd<Arc<OwnedFd>>> {
        if self.registration.is_none() {
            self.registration = Some(AsyncFd::new(Arc::clone(&self.file))?);
        }
        Ok(self.registration.as_ref().expect("it was just set"))
    }

    fn poll_send(&mut self, context: &mut Context<'_>, bytes: Outgoing<'_>) -> Poll<io::Result<usize>> {
        loop {
            let sent = rustix::io::write(
                &*self.file,
                match bytes {
                    Outgoing::Slice(slice) => slice,
                    Outgoing::Gathered => &self.gathered,
                },
            );
            match sent {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let mut guard = ready!(self.registration()?.poll_write_ready(context))?;
                    if guard.ready().is_write_closed() {
                        // The hang-up stays in tokio's eyes, so waiting on would spin. The reader registers anew.
                        return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                    }
                    guard.clear_ready();
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Outgoing<'a> {
    Slice(&'a [u8]),
    Gathered,
}

impl AsyncRead for Port {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match rustix::io::read(&*this.file, buffer.initialize_unfilled()) {
                Ok(0) => {
                    this.registration = None;
                    return Poll::Ready(Ok(()));
                }
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let mut guard = ready!(this.registration()?.poll_read_ready(context))?;
                    let hung_up = guard.ready().is_read_closed();
                    guard.clear_ready();
                    drop(guard);
                    if hung_up {
                        // EAGAIN means that a host is attached by now.
                        this.registration = None;
                    }
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(context, Outgoing::Slice(bytes))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        let Some(first) = filled.next() else { return Poll::Ready(Ok(0)) };
        if first.len() >= WRITE_MAX_BYTES || filled.next().is_none() {
            return this.poll_send(context, Outgoing::Slice(first));
        }
        // A frame's head and its payload leave in one notification; at most one write's worth is copied.
        this.gathered.clear();
        for slice in slices {
            let room = WRITE_MAX_BYTES - this.gathered.len();
            this.gathered.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        this.poll_send(context, Outgoing::Gathered)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Returns the device path of the port the host named `name`, or None while there is none.
pub(crate) fn find(name: &str) -> Option<String> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    for entry in ports.flatten() {
        let mut text = String::new();
        let file = File::open(entry.path().join("name"));
        if file.and_then(|mut file| io::Read::read_to_string(&mut file, &mut text)).is_ok() && text.trim_end() == name {
            return Some(format!("/dev/{}", entry.file_name().to_str()?));
        }
    }
    None
}
