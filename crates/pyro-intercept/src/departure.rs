//! Whether a guest is gone, or has only said all that it has to say.
//!
//! Both read as the end of its stream. One that is half closed still waits for its answer; for one that is gone the upstream would work
//! on, at somebody's expense, until it answers. Only the kernel knows: a socket hangs up when neither direction is left (`poll(2)`, `POLLHUP`).

use std::io;
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::UnixStream;

/// Watches a stream that others read and write, by a descriptor of its own: it must end when they do, or the socket stays open.
#[derive(Debug)]
pub(crate) struct Departure(UnixStream);

impl Departure {
    /// Begins to watch a guest.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor left.
    pub(crate) fn of(guest: &UnixStream) -> io::Result<Self> {
        UnixStream::from_std(guest.as_fd().try_clone_to_owned()?.into()).map(Self)
    }

    /// Waits until the guest is gone. Dropping the future loses nothing.
    pub(crate) async fn happened(&self) {
        // Hanging up is told whatever is asked for. That there is room to write is asked for since it changes least often.
        while let Ok(ready) = self.0.ready(Interest::WRITABLE).await {
            if ready.is_write_closed() {
                return;
            }
            // Forgets that there is room, so as to wait for the next change.
            let full: io::Result<()> = self.0.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into()));
            drop(full);
        }
    }
}
