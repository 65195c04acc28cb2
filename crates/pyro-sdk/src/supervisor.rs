//! Connections to supervisors, and what is told when one goes away in the middle of a call.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use pyro_proto::{
    error::{ErrorKind, Failure},
    limits,
    v1::supervisor_client::SupervisorClient,
};
use pyro_store::{FileLock, MachineId, MachineRecord, connect_stream};
use tokio::{net::UnixStream, time::Instant};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    Pyro,
    client::blocking,
    error::{Cause, Error, Result},
};

/// How long a supervisor has for a request to end the machine, before it is killed. It has disks to flush, and a guest has five seconds
/// to end its processes.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(60);
/// The same when nothing of the workspace is kept: there is nothing worth waiting for.
pub(crate) const DELETE_DEADLINE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end a killed supervisor and with it QEMU. Freeing gigabytes under load takes seconds.
const DEATH_DEADLINE: Duration = Duration::from_secs(30);
/// How often a lock is tried while its holder dies; each try is three system calls.
const DEATH_POLL: Duration = Duration::from_millis(2);
/// How much of a dead supervisor's log is shown.
const LOG_TAIL_BYTES: u64 = 4096;
const LOG_TAIL_LINES: usize = 5;

pub(crate) type Client = SupervisorClient<Channel>;

impl Pyro {
    /// Connects to a machine's supervisor, or returns the connection there is.
    pub(crate) async fn supervisor(&self, machine: &MachineId, operation: &'static str, workspace: &str) -> Result<Client> {
        let channel = match self.cached_channel(machine) {
            Some(channel) => channel,
            None => match connect(self.dirs().machine(machine)).await {
                Ok(channel) => {
                    self.cache_channel(machine, channel.clone());
                    channel
                }
                Err(error) => return Err(self.lost(machine, operation, workspace, &error).await),
            },
        };
        Ok(Client::new(channel).max_decoding_message_size(limits::MESSAGE_MAX_BYTES).max_encoding_message_size(limits::MESSAGE_MAX_BYTES))
    }

    /// Makes an error of a failed call: what the supervisor reported, or, when it is gone, the last it wrote to its log.
    pub(crate) async fn call_failed(&self, machine: &MachineId, operation: &'static str, workspace: &str, status: &Status) -> Error {
        if !status.details().is_empty() {
            return Error::reported(operation, workspace, Failure::from_status(status, ErrorKind::Internal));
        }
        self.lost(machine, operation, workspace, status).await
    }

    async fn lost(&self, machine: &MachineId, operation: &'static str, workspace: &str, error: &(dyn std::error::Error + Sync)) -> Error {
        self.forget_channel(machine);
        let folder = self.dirs().machine(machine);
        let gone = blocking({
            let folder = folder.clone();
            move || is_gone(&folder)
        })
        .await;
        let lines = blocking(move || log_tail(&folder)).await;
        let cause = if gone {
            Cause::new("its supervisor ended unexpectedly").because(lines)
        } else {
            let mut causes = vec![error.to_string()];
            causes.extend(std::iter::successors(error.source(), |&error| error.source()).map(ToString::to_string));
            Cause::new("its supervisor does not answer").because(causes)
        };
        // Puts the registry right at once: whoever looks next sees a stopped workspace.
        drop(self.reap().await);
        Error::workspace(operation, workspace, ErrorKind::MachineFailed, cause)
    }

    /// Waits until a machine's supervisor is gone, killing it when `patience` is over, and removes its folder and row.
    ///
    /// Dropping the future leaves the machine to the next client command.
    pub(crate) async fn bury_machine(&self, machine: &MachineId, patience: Duration) -> Result<()> {
        self.forget_channel(machine);
        let folder = self.dirs().machine(machine);
        if !wait_gone(&folder, patience).await {
            let id = machine.clone();
            let record = self.store(move |_, registry| Ok(registry.machine(&id)?)).await?;
            if let Some(pid) = record.as_ref().and_then(supervisor_pid) {
                // The lock is still held, so the process that wrote this number into the row is still there: it cannot be another's.
                if !is_gone(&folder) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            wait_gone(&folder, DEATH_DEADLINE).await;
        }
        let id = machine.clone();
        self.store(move |pyro, registry| match registry.machine(&id)? {
            Some(record) if is_gone(&pyro.dirs().machine(&id)) => Ok(registry.retire_machine(pyro.dirs(), &record)?),
            Some(_) | None => Ok(()),
        })
        .await
    }
}

fn supervisor_pid(record: &MachineRecord) -> Option<rustix::process::Pid> {
    record.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
}

/// Tells whether no supervisor holds the machine's lock.
fn is_gone(folder: &Path) -> bool {
    // A folder that is not there was removed after its supervisor's end.
    !folder.is_dir() || !matches!(FileLock::try_acquire(&folder.join("lock")), Ok(None))
}

async fn wait_gone(folder: &Path, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    loop {
        if is_gone(folder) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(DEATH_POLL).await;
    }
}

async fn connect(folder: std::path::PathBuf) -> std::result::Result<Channel, tonic::transport::Error> {
    // The address is only a label: the connector opens the socket. One connection: a machine's supervisor is never replaced under its id.
    Endpoint::from_static("http://supervisor")
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .connect_with_connector(tower::service_fn(move |_| {
            let folder = folder.clone();
            async move {
                let stream = connect_stream(&folder, "socket")?;
                let connect = || -> std::io::Result<UnixStream> {
                    stream.set_nonblocking(true)?;
                    UnixStream::from_std(stream)
                };
                Ok::<_, pyro_store::StoreError>(TokioIo::new(connect()?))
            }
        }))
        .await
}

/// Returns the last lines of a supervisor's log, made printable.
fn log_tail(folder: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(folder.join("supervisor.log"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
    tail.iter().map(|line| line.chars().filter(|character| !character.is_control()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_tail_is_short_and_printable() {
        let folder = tempfile::tempdir().unwrap();
        assert!(log_tail(folder.path()).is_empty());
        let text: String = (0..1000).map(|number| format!("line {number}\u{1b}[31m\n\n")).collect();
        fs_err::write(folder.path().join("supervisor.log"), text).unwrap();
        let tail = log_tail(folder.path());
        assert_eq!(tail.len(), LOG_TAIL_LINES);
        assert_eq!(tail[4], "line 999[31m");
    }

    #[test]
    fn machine_is_gone_when_nobody_holds_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_gone(folder.path()));
        let held = FileLock::acquire(&folder.path().join("lock")).unwrap();
        assert!(!is_gone(folder.path()));
        drop(held);
        assert!(is_gone(folder.path()) && is_gone(&folder.path().join("nowhere")));
    }
}
