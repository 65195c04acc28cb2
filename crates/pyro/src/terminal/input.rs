//! Keys of the terminal, read without a thread: one that waits in `read` cannot be called back, and would take the first key of whoever
//! reads next.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use bytes::Bytes;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read},
};
use tokio::io::{Interest, unix::AsyncFd};

/// More than a terminal's own queue holds, so that one read takes all of it.
const BYTES: usize = 8 << 10;

/// Reads the terminal's keys.
#[derive(Debug)]
pub(crate) struct TerminalInput {
    terminal: AsyncFd<OwnedFd>,
}

impl TerminalInput {
    pub(crate) fn open() -> io::Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        #[expect(deprecated, reason = "it is for descriptors one does not own; this one is, and the other function is unsafe")]
        let terminal = AsyncFd::with_interest(terminal, Interest::READABLE)?;
        Ok(Self { terminal })
    }

    /// Waits for keys; none when the terminal is gone. Dropping the future loses nothing.
    pub(crate) async fn next(&self) -> io::Result<Bytes> {
        loop {
            let mut ready = self.terminal.readable().await?;
            // The terminal must not be made non-blocking: the flag would be that of the shell that started us, too. So it is asked.
            let mut asked = [PollFd::new(self.terminal.get_ref(), PollFlags::IN)];
            match poll(&mut asked, Some(&Timespec::default())) {
                Ok(0) => {
                    ready.clear_ready();
                    continue;
                }
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let mut buffer = vec![0; BYTES];
            match read(self.terminal.get_ref(), &mut buffer) {
                Ok(count) => {
                    buffer.truncate(count);
                    return Ok(buffer.into());
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                // A terminal that was hung up.
                Err(Errno::IO) => return Ok(Bytes::new()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
