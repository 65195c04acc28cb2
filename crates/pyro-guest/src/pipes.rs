//! The pipes of a command without a terminal.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use bytes::Bytes;
use pyro_proto::limits;
use pyro_proto::v1::{ExecOutput, exec_output};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{mpsc, watch};

use crate::commands::message;

/// The first read of a pipe; most commands say little, and a large buffer costs page faults.
pub(crate) const FIRST_READ_BYTES: usize = 8 << 10;
/// Pipe size of a command that says more.
const PIPE_BYTES: usize = 1 << 20;

/// The pipes of one command, both ends of each: the agent's and the command's.
#[derive(Debug)]
pub(crate) struct Pipes {
    stdin: Option<(Sender, OwnedFd)>,
    stdout: (Receiver, OwnedFd),
    stderr: (Receiver, OwnedFd),
}

impl Pipes {
    /// Makes pipes for what a command says.
    pub(crate) fn make() -> io::Result<Self> {
        Ok(Self { stdin: None, stdout: pipe_from_command()?, stderr: pipe_from_command()? })
    }

    /// Adds one for what it is told.
    pub(crate) fn with_stdin(self) -> io::Result<Self> {
        Ok(Self { stdin: Some(pipe_to_command()?), ..self })
    }

    /// Returns the command's ends: stdin, if there is one, stdout and stderr.
    pub(crate) fn theirs(&self) -> (Option<BorrowedFd<'_>>, BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.stdin.as_ref().map(|(_, theirs)| theirs.as_fd()), self.stdout.1.as_fd(), self.stderr.1.as_fd())
    }

    /// Keeps the agent's ends alone: a pipe ends when nobody holds the other one.
    pub(crate) fn into_ours(self) -> (Option<Sender>, Receiver, Receiver) {
        (self.stdin.map(|(ours, _)| ours), self.stdout.0, self.stderr.0)
    }
}

/// Sends what comes out of a pipe until it closes, or, once the process has ended, until what was in it then has been sent.
pub(crate) async fn pump(
    pipe: Receiver,
    kind: fn(Bytes) -> exec_output::Output,
    outputs: mpsc::Sender<ExecOutput>,
    mut end: watch::Receiver<bool>,
) {
    let mut size = FIRST_READ_BYTES;
    // Some once the process has ended: a background process may fill the pipe for ever.
    let mut left = None;
    loop {
        if left == Some(0) {
            return;
        }
        if left.is_none() && *end.borrow() {
            left = rustix::io::ioctl_fionread(&pipe).ok();
            continue;
        }
        let mut buffer = Vec::with_capacity(size);
        let mut read = || Ok(rustix::io::read(&pipe, rustix::buffer::spare_capacity(&mut buffer))?);
        // tokio reads only what epoll has reported. At the end the report may be on its way still: the process can be collected on
        // behalf of another's SIGCHLD.
        match if left.is_some() { read() } else { pipe.try_io(&mut read) } {
            Ok(0) => return,
            Ok(count) => {
                left = left.map(|left| left.saturating_sub(count as u64));
                if count == size && size < limits::OUTPUT_CHUNK_BYTES {
                    size = limits::OUTPUT_CHUNK_BYTES;
                    // Refused past the limit of pipe pages of an ordinary user; a small pipe works too.
                    let _ = fcntl_setpipe_size(&pipe, PIPE_BYTES);
                }
                if outputs.send(message(kind(buffer.into()))).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && left.is_none() => {
                tokio::select! {
                    ready = pipe.readable() => if ready.is_err() { return },
                    _ = end.changed() => {}
                }
            }
            // Drained after the end, or beyond help.
            Err(_) => return,
        }
    }
}

/// Makes a pipe: the agent's end, registered and non-blocking, and the command's, blocking as programs expect.
fn pipe_from_command() -> io::Result<(Receiver, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((Receiver::from_owned_fd_unchecked(ours)?, theirs))
}

/// Makes a pipe in the other direction.
fn pipe_to_command() -> io::Result<(Sender, OwnedFd)> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((Sender::from_owned_fd_unchecked(ours)?, theirs))
}
