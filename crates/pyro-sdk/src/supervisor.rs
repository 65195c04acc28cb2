//! Connections to supervisors, and what is told when one goes away in the middle of a call.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use pyro_proto::{
    error::{ErrorKind, Failure},
    limits,
    v1::supervisor_client::SupervisorClient,
};
use pyro_store::{MachineId, WorkspaceState, connect_stream, end_machine, machine_lives};
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
            None => match connect(self.machine_folder(machine).await?).await {
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
        let lives = self.lives(machine).await.unwrap_or(true);
        let lines = match self.machine_folder(machine).await {
            Ok(folder) => blocking(move || log_tail(&folder)).await,
            Err(_) => Vec::new(),
        };
        // Puts the registry right at once: whoever looks next sees a stopped workspace.
        drop(self.reap().await);
        let cause = if lives {
            let mut causes = vec![error.to_string()];
            causes.extend(std::iter::successors(error.source(), |&error| error.source()).map(ToString::to_string));
            Cause::new("its supervisor does not answer").because(causes)
        } else {
            let ending = self.ending_of(machine, workspace).await;
            Cause::new(ending.unwrap_or_else(|| "its supervisor ended unexpectedly".to_owned())).because(lines)
        };
        Error::workspace(operation, workspace, ErrorKind::MachineFailed, cause)
    }

    /// Says what became of a workspace whose machine went away in the middle of a call; `None` when nothing is known.
    async fn ending_of(&self, machine: &MachineId, workspace: &str) -> Option<String> {
        let (machine, reference) = (machine.clone(), workspace.to_owned());
        let found = self.store(move |_, registry| Ok(registry.find_workspace(&reference))).await.ok()?;
        match found {
            Ok(record) if record.machine.as_ref().is_some_and(|now| *now != machine) || record.state == WorkspaceState::Starting => {
                Some("it was reset or started again at the same time".to_owned())
            }
            Ok(record) if record.state == WorkspaceState::Stopped => {
                record.stop_reason.map(|reason| format!("it was stopped at the same time: {reason}"))
            }
            Ok(record) if record.state == WorkspaceState::Deleting => Some("it is being deleted".to_owned()),
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::NotFound => Some("it was deleted at the same time".to_owned()),
            Err(_) => None,
        }
    }

    /// Returns where a machine's socket and log are.
    async fn machine_folder(&self, machine: &MachineId) -> Result<PathBuf> {
        let id = machine.clone();
        self.store(move |pyro, registry| Ok(registry.machine_folder(pyro.dirs(), &id)?)).await
    }

    /// Tells whether a machine or its supervisor lives.
    async fn lives(&self, machine: &MachineId) -> Result<bool> {
        let id = machine.clone();
        self.store(move |pyro, registry| match registry.machine(&id)? {
            Some(record) => Ok(machine_lives(pyro.dirs(), registry, &record)?),
            None => Ok(false),
        })
        .await
    }

    /// Waits until a machine and its supervisor are gone, killing it when `patience` is over, and removes its folder and row.
    ///
    /// Dropping the future leaves the machine to the next client command.
    ///
    /// # Errors
    /// It lives on: it cannot be killed from here.
    pub(crate) async fn bury_machine(&self, machine: &MachineId, patience: Duration) -> Result<()> {
        self.forget_channel(machine);
        if !self.wait_gone(machine, patience).await? {
            let id = machine.clone();
            self.store(move |_, registry| Ok(registry.machine(&id)?.is_some_and(|record| end_machine(&record)))).await?;
            if !self.wait_gone(machine, DEATH_DEADLINE).await? {
                return Err(self.undying(machine).await);
            }
        }
        let id = machine.clone();
        self.store(move |pyro, registry| match registry.machine(&id)? {
            Some(record) if !machine_lives(pyro.dirs(), registry, &record)? => Ok(registry.retire_machine(pyro.dirs(), &record)?),
            Some(_) | None => Ok(()),
        })
        .await
    }

    async fn wait_gone(&self, machine: &MachineId, patience: Duration) -> Result<bool> {
        let end = Instant::now() + patience;
        loop {
            if !self.lives(machine).await? {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(DEATH_POLL).await;
        }
    }

    /// Makes the error of a machine that cannot be ended from here: its disks must not be touched while it lives.
    async fn undying(&self, machine: &MachineId) -> Error {
        let id = machine.clone();
        let record = self.store(move |_, registry| Ok(registry.machine(&id)?)).await.ok().flatten();
        let elsewhere = record.as_ref().and_then(|record| record.supervisor).is_some_and(|process| process.is_alive().is_none());
        let workspace = record.and_then(|record| record.workspace).map_or_else(|| machine.to_string(), |id| id.to_string());
        let cause = if elsewhere {
            "its machine does not answer and was started in another PID namespace, say a container: end it there"
        } else {
            "its machine could not be ended"
        };
        Error::workspace("end the machine of", &workspace, ErrorKind::MachineFailed, Cause::new(cause))
    }
}

async fn connect(folder: PathBuf) -> std::result::Result<Channel, tonic::transport::Error> {
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
}
