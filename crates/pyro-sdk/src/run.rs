//! `pyro run`: a workspace that lives for one command.

use crate::{
    CommandSpec, Observer, Progress, Pyro, Workspace,
    contract::{CommandAnswer, ExpireAction, NetworkPolicy, VmRun, WorkspaceCreate},
    error::{Error, Problem, Result},
    exec::{Execution, Stdin},
    host_compat,
    lifecycle::Plan,
    limits::DiskGib,
};
use pyro_proto::error::ErrorKind;

/// A running one-shot command and the machine that goes with it.
///
/// Dropping it without [`finish`](Self::finish) ends the machine too: its supervisor removes it when its only command's call is cut.
#[derive(Debug)]
pub struct OneShot {
    workspace: Option<Workspace>,
    execution: Execution,
}

impl OneShot {
    /// Returns the command.
    pub fn execution(&mut self) -> &mut Execution {
        &mut self.execution
    }

    /// Returns the machine; a command on the host has none.
    #[must_use]
    pub const fn workspace(&self) -> Option<&Workspace> {
        self.workspace.as_ref()
    }

    /// Removes the machine, whether the command has ended or not.
    ///
    /// # Errors
    /// The host refuses to remove a file.
    pub async fn finish(self) -> Result<()> {
        drop(self.execution);
        match &self.workspace {
            Some(workspace) => match workspace.delete().await {
                // Its supervisor was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                result => result,
            },
            None => Ok(()),
        }
    }
}

impl Pyro {
    /// Starts a command in a fresh machine.
    ///
    /// Dropping the future leaves at most a machine that removes itself.
    ///
    /// # Errors
    /// No machine can be started, and the request does not allow the host instead.
    pub async fn start_run(&self, request: VmRun, stdin: Stdin, observer: &Observer) -> Result<OneShot> {
        let spec = CommandSpec {
            timeout: request.timeout_seconds,
            stdin,
            max_output_bytes: request.max_output_bytes,
            ..CommandSpec::new(request.command.clone())
        };
        match self.start_run_in_guest(&request, &spec, observer).await {
            Err(error) if request.allow_host_compat && no_guest_possible(&error) => {
                if request.network {
                    // Nothing would hold it to its rules there.
                    return Err(Problem::HostCompatRefused { refusal: "a command with a network needs a guest" }.into());
                }
                if request.seed_path.is_some() {
                    // What the command changed there would be gone with its folder, and what it reads is not what a guest would have.
                    return Err(Problem::HostCompatRefused { refusal: "a seed needs a guest" }.into());
                }
                observer.notify(Progress::HostCompat { reason: reason(&error) });
                let execution = host_compat::start(&spec).await?;
                Ok(OneShot { workspace: None, execution })
            }
            result => result,
        }
    }

    async fn start_run_in_guest(&self, request: &VmRun, spec: &CommandSpec, observer: &Observer) -> Result<OneShot> {
        let create = WorkspaceCreate {
            seed_path: request.seed_path.clone(),
            vcpu_count: request.vcpu_count,
            mem_mib: request.mem_mib,
            disk_gib: DiskGib::default(),
            root_disk_gib: request.root_disk_gib,
            ttl_seconds: request.ttl_seconds,
            on_expire: ExpireAction::Delete,
            network_policy: if request.network { NetworkPolicy::Egress } else { NetworkPolicy::Off },
            allow_hosts: request.allow_hosts.clone(),
            allow_groups: request.allow_groups.clone(),
            ..WorkspaceCreate::new(request.environment)
        };
        let workspace = self.create_planned(Plan { request: create, one_shot: true }, observer).await?;
        match workspace.start_command(spec).await {
            Ok(execution) => Ok(OneShot { workspace: Some(workspace), execution }),
            Err(error) => {
                let cleanup = workspace.delete().await;
                let cleanup = cleanup.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) });
                Err(error.with_cleanup("run a command in", workspace.label(), cleanup))
            }
        }
    }

    /// Runs a command in a fresh machine to its end, and removes the machine.
    ///
    /// # Errors
    /// As [`Self::start_run`], or the machine fails while the command runs.
    pub async fn run(&self, request: VmRun, observer: &Observer) -> Result<CommandAnswer> {
        let limit = request.max_output_bytes;
        let OneShot { workspace, execution } = self.start_run(request, Stdin::Empty, observer).await?;
        let answer = execution.collect(limit, None).await;
        let removed = match &workspace {
            Some(workspace) => workspace.delete().await,
            None => Ok(()),
        };
        match (answer, removed) {
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) if error.kind() != ErrorKind::NotFound => Err(error),
            (Ok(answer), _) => Ok(answer),
        }
    }
}

/// Tells whether the host, not the request, is why there is no guest.
fn no_guest_possible(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::HostNotReady | ErrorKind::MachineFailed | ErrorKind::EnvironmentUnavailable)
}

fn reason(error: &Error) -> String {
    std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ")
}
