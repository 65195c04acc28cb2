//! QEMU's monitor protocol over an inherited socket.
//!
//! Our own client, for two reasons the kept crates do not meet (docs/adr/0002): a command must be able to carry a descriptor in the very
//! bytes that name it (`SCM_RIGHTS`), and QEMU counts as hostile once its guest has taken it over, so a line is capped before it is held.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
    os::unix::net::UnixStream as StdUnixStream,
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Interest},
    net::UnixStream,
    sync::{mpsc, oneshot},
};

use crate::error::{Doing as _, HostError, HostResult};

/// Longest line accepted. The longest answer asked for is well under a kilobyte.
const LINE_MAX_BYTES: u64 = 1 << 20;
/// A command is answered in milliseconds; saving device state took 2 ms. Ten seconds tell a stuck QEMU from a loaded host.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

/// What QEMU tells by itself and we act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QmpEvent {
    /// A disk could not be written because the host's is full; the guest is paused.
    HostDiskFull,
}

/// Sends commands; cheap to share by reference.
#[derive(Debug)]
pub(crate) struct Qmp {
    commands: mpsc::Sender<Command>,
}

struct Command {
    name: &'static str,
    line: Vec<u8>,
    descriptor: Option<std::os::fd::OwnedFd>,
    answer: oneshot::Sender<HostResult<Value>>,
}

impl Qmp {
    /// Takes over the socket. Events go to `events`; the queue closes when QEMU does.
    pub(crate) fn start(stream: StdUnixStream, events: mpsc::Sender<QmpEvent>) -> HostResult<Self> {
        stream.set_nonblocking(true).doing("prepare QEMU's monitor")?;
        let stream = UnixStream::from_std(stream).doing("prepare QEMU's monitor")?;
        let (commands, queue) = mpsc::channel(16);
        tokio::spawn(run(stream, queue, events));
        Ok(Self { commands })
    }

    /// Finishes the greeting; QEMU accepts no other command before.
    pub(crate) async fn negotiate(&self) -> HostResult<()> {
        self.execute("qmp_capabilities", json!({})).await.map(drop)
    }

    /// Executes a command and waits for its answer.
    pub(crate) async fn execute(&self, name: &'static str, arguments: Value) -> HostResult<Value> {
        self.send(name, arguments, None).await
    }

    /// Executes a command that comes with a descriptor.
    pub(crate) async fn execute_with(&self, name: &'static str, arguments: Value, descriptor: BorrowedFd<'_>) -> HostResult<Value> {
        let descriptor = descriptor.try_clone_to_owned().doing("duplicate a descriptor")?;
        self.send(name, arguments, Some(descriptor)).await
    }

    async fn send(&self, name: &'static str, arguments: Value, descriptor: Option<std::os::fd::OwnedFd>) -> HostResult<Value> {
        let mut line = json!({ "execute": name, "arguments": arguments }).to_string().into_bytes();
        line.push(b'\n');
        let (answer, answered) = oneshot::channel();
        let gone = |_| HostError::Monitor { problem: "is gone" };
        self.commands.send(Command { name, line, descriptor, answer }).await.map_err(|_| HostError::Monitor { problem: "is gone" })?;
        match tokio::time::timeout(COMMAND_DEADLINE, answered).await {
            Ok(answer) => answer.map_err(gone)?,
            Err(_) => Err(HostError::Monitor { problem: "did not answer within 10 s" }),
        }
    }
}

/// The one task that owns the socket: commands go out one at a time, each waits for its answer, events pass by.
async fn run(stream: UnixStream, mut queue: mpsc::Receiver<Command>, events: mpsc::Sender<QmpEvent>) {
    let (reader, writer) = stream.into_split();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    let mut waiting: Option<(&'static str, oneshot::Sender<HostResult<Value>>)> = None;
    loop {
        // What was read of a line when a command came in between stays in `line`, and counts.
        let mut rest_of_line = (&mut lines).take(LINE_MAX_BYTES - line.len() as u64);
        tokio::select! {
            read = rest_of_line.read_until(b'\n', &mut line) => {
                match read {
                    Ok(1..) if line.ends_with(b"\n") => {}
                    // End of file, an error, or a line over the cap: the monitor is lost, and with it the machine.
                    Ok(_) | Err(_) => return,
                }
                let Ok(message) = serde_json::from_slice::<Value>(&line) else { return };
                line.clear();
                if let Some(name) = message.get("event").and_then(Value::as_str) {
                    // A full queue holds the same news already; a QEMU that floods us finds no room.
                    if let Some(event) = parse_event(name, &message) {
                        let _ = events.try_send(event);
                    }
                } else if let Some(result) = message.get("return") {
                    if let Some((_, answer)) = waiting.take() {
                        drop(answer.send(Ok(result.clone())));
                    }
                } else if let Some(error) = message.get("error")
                    && let Some((command, answer)) = waiting.take()
                {
                    let reason = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given").chars().take(500).collect();
                    drop(answer.send(Err(HostError::Qmp { command, reason })));
                }
            }
            command = queue.recv(), if waiting.is_none() => {
                let Some(command) = command else { return };
                if write(&writer, &command).await.is_err() {
                    return;
                }
                waiting = Some((command.name, command.answer));
            }
        }
    }
}

fn parse_event(name: &str, message: &Value) -> Option<QmpEvent> {
    let no_space = message.pointer("/data/nospace").and_then(Value::as_bool).unwrap_or(false);
    (name == "BLOCK_IO_ERROR" && no_space).then_some(QmpEvent::HostDiskFull)
}

/// Sends the line, and with its first bytes the descriptor.
async fn write(writer: &tokio::net::unix::OwnedWriteHalf, command: &Command) -> std::io::Result<()> {
    let stream: &UnixStream = writer.as_ref();
    let mut sent = 0;
    while sent < command.line.len() {
        stream.writable().await?;
        let result = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors: Vec<BorrowedFd<'_>> = command.descriptor.iter().map(AsFd::as_fd).collect();
            if sent == 0 && !descriptors.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            sendmsg(stream, &[IoSlice::new(&command.line[sent..])], &mut ancillary, SendFlags::NOSIGNAL).map_err(Into::into)
        });
        match result {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
