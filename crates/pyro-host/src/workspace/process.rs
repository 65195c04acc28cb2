//! What shells and services share: processes of the guest that outlive every call, known to it by a number.

use std::{sync::Arc, time::Duration};

use pyro_proto::{
    error::{ErrorKind, Failure},
    process::ProcessId,
    v1::{EnvironmentVariable, ExecOutput, ExecStart, SpawnFailure, exec_output::Output},
};
use pyro_store::{CarriedProcesses, CheckpointRecord, ServiceState};
use tonic::Streaming;

use super::{Supervisor, network::Certificates};
use crate::{
    error::{HostError, HostResult},
    lock,
};

/// How long the guest may take to say whether a process could be started: it says so right after it answered the call.
const STARTED_DEADLINE: Duration = Duration::from_secs(20);

impl Supervisor {
    /// Adds what every command of this workspace finds in its environment; what the command itself says comes first.
    pub(super) fn equip(&self, mut start: ExecStart) -> ExecStart {
        let given: Vec<EnvironmentVariable> = self.certificates.get().map(Certificates::variables).unwrap_or_default();
        for variable in given {
            if !start.env.iter().any(|said| said.name == variable.name) {
                start.env.push(variable);
            }
        }
        start
    }
}

/// Waits for the first word of a process; returns its id in the guest.
///
/// # Errors
/// It could not be started, in the guest's words.
pub(super) async fn started(output: &mut Streaming<ExecOutput>) -> HostResult<u32> {
    let first = async {
        let mut pid = None;
        loop {
            let message = output.message().await.map_err(|status| Failure::from_status(&status, ErrorKind::MachineFailed))?;
            match message.and_then(|message| message.output) {
                Some(Output::Started(started)) if started.pid != 0 => return Ok(started.pid),
                Some(Output::Started(_)) => pid = Some(0),
                // Attached to one that has ended: the pump reads the rest.
                Some(Output::Exit(exit)) if exit.spawn_failure == 0 && pid.is_some() => {
                    return Err(Failure::message(ErrorKind::WrongState, "the process has ended already"));
                }
                Some(Output::Exit(exit)) => return Err(refusal(&exit.spawn_message, exit.spawn_failure())),
                Some(Output::Stdout(_) | Output::Stderr(_) | Output::Terminal(_)) | None => {
                    return Err(Failure::message(ErrorKind::MachineFailed, "the guest's agent answered out of order"));
                }
            }
        }
    };
    match tokio::time::timeout(STARTED_DEADLINE, first).await {
        Ok(result) => result.map_err(|source| HostError::PassedOn { source }),
        Err(_) => Err(HostError::AgentTimeout { seconds: STARTED_DEADLINE.as_secs(), doing: "starting a process" }),
    }
}

fn refusal(message: &str, failure: SpawnFailure) -> Failure {
    let message: String = message.chars().filter(|character| !character.is_control()).take(1000).collect();
    let kind = match failure {
        SpawnFailure::NotFound | SpawnFailure::User | SpawnFailure::WorkingDirectory => ErrorKind::NotFound,
        SpawnFailure::NotExecutable => ErrorKind::PermissionDenied,
        SpawnFailure::Unspecified | SpawnFailure::Other => ErrorKind::MachineFailed,
    };
    let message = if message.is_empty() { "the guest could not start the process".to_owned() } else { message };
    Failure::message(kind, message)
}

impl Supervisor {
    /// A process was lost with its call: waits a little to see whether its machine is going, too. Then its end is the machine's, and is
    /// entered with it.
    pub(super) async fn is_about_to_end(&self) -> bool {
        const PATIENCE: Duration = Duration::from_secs(2);
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let look = async {
            while !self.is_ending() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.is_ok()
    }

    /// Returns what goes on beside commands, for a machine that is frozen at this moment.
    pub(super) fn carried_processes(&self) -> HostResult<CarriedProcesses> {
        let cursors: std::collections::BTreeMap<_, _> = self.shell_cursors().into_iter().chain(self.service_cursors()).collect();
        let workspace = self.adopted()?;
        let registry = lock(&self.registry);
        let ports = registry.ports(workspace)?;
        if cursors.is_empty() && ports.is_empty() {
            return Ok(CarriedProcesses::default());
        }
        let mut shells = registry.shells(workspace)?;
        shells.retain(|shell| shell.ended_at_ms.is_none());
        let mut services = registry.services(workspace)?;
        services.retain(|service| service.state.is_alive());
        Ok(CarriedProcesses { workspace: Some(workspace.clone()), shells, services, ports, cursors })
    }

    /// Goes on with the shells and services of a machine that was frozen, `known` to its guest by their numbers, and publishes their ports.
    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    pub(super) async fn take_over_processes(self: &Arc<Self>, known: &[u64]) -> HostResult<()> {
        let workspace = self.adopted()?.clone();
        let (shells, services) = {
            let registry = lock(&self.registry);
            (registry.shells(&workspace)?, registry.services(&workspace)?)
        };
        for shell in shells.iter().filter(|shell| shell.ended_at_ms.is_none()) {
            let result = if known.contains(&ProcessId::Shell(shell.number).number()) {
                self.take_over_shell(&workspace, shell.number).await
            } else {
                Err(HostError::WrongState { problem: "it ended while the snapshot was taken".into() })
            };
            if let Err(error) = result {
                let reason = error.to_string();
                drop(lock(&self.registry).end_shell(&workspace, shell.number, None, Some(&reason)));
            }
        }
        for service in services {
            if !service.state.is_alive() {
                continue;
            }
            // One that waits to be started again has no process.
            let waits = service.state == ServiceState::Starting && service.pid.is_none();
            if waits || known.contains(&ProcessId::Service(service.number).number()) {
                self.take_over_service(service, !waits);
            } else {
                self.lose_service(&workspace, service, "it ended while the snapshot was taken")?;
            }
        }
        let Some(resume) = &self.arguments.resume else { return Ok(()) };
        let stored = CheckpointRecord::load(&self.arguments.dirs, &self.record.shape, &resume.checkpoint)?;
        let Some(carried) = stored.map(|stored| stored.processes) else { return Ok(()) };
        for port in carried.ports {
            // A copy's ports are its own; the same workspace gets back what it had, if nobody has taken it meanwhile.
            let wanted = if carried.workspace.as_ref() == Some(&workspace) { port.host_port } else { 0 };
            let published = match self.publish(port.guest_port, wanted, port.service.clone()) {
                Err(HostError::PortTaken { .. }) => self.publish(port.guest_port, 0, port.service.clone()),
                published => published,
            };
            if let Err(error) = published {
                eprintln!("cannot publish port {} again: {error}", port.guest_port);
            }
        }
        Ok(())
    }
}
