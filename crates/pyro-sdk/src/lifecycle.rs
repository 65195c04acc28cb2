//! Create, start, stop and delete: the client's half of a workspace's state machine (see `pyro_store`'s registry for the whole).
//!
//! A machine is placed under a workspace in one of two ways, tried in this order: a standby machine is claimed, or a supervisor is started.
//! Either way its supervisor is asked to adopt the workspace, and it, not the client, enters `running`.
//!
//! Clients take turns (`turn`), and what one places holds only under its own tenure (`pyro_store`'s registry). When a client dies in the
//! middle, the next client command finds a workspace between two states that nobody has a turn at, and puts it right.

use std::time::Duration;

use pyro_image::{Environment, EnvironmentName};
use pyro_proto::{
    error::ErrorKind,
    v1::{AdoptRequest, StopRequest, adopt_progress},
};
use pyro_store::{
    COMMAND_LINE_GENERATION, MachineId, MachineRole, MachineShape, NetworkPolicy, NewMachine, NewWorkspace, Resume, StoreError,
    SupervisorArguments, Tenure, WorkspaceId, WorkspaceState, file_identity, start_supervisor,
};

use crate::{
    Observer, Progress, Pyro, Workspace, apply,
    client::{Reap, blocking},
    config::Origin,
    contract::{WorkspaceCreate, WorkspaceDelete, WorkspaceDeleted, WorkspaceStatus},
    error::{Cause, Error, Problem, Result},
    limits::{MemMib, VcpuCount},
    running::Running,
    secrets,
    seed::{SeedRequest, store_seed},
    supervisor::{DELETE_DEADLINE, STOP_DEADLINE},
    text::{LiteralSecret, ShellId},
    turn::{FORCED_PATIENCE, TURN_PATIENCE, Turn},
    workspace::{INSPECT_DEADLINE, Inspected, check_labels},
};

/// How long a supervisor may be silent while it makes a machine ready. It repeats its phase every other second, however long that takes: one
/// that says nothing is stopped or stuck.
const ADOPT_SILENCE: Duration = Duration::from_secs(30);
/// How often whoever watches hears a phase again that lasts.
const PHASE_EVERY: Duration = Duration::from_secs(10);

/// What an interrupted creation leaves.
pub(crate) const NO_WORKSPACE: &str = "no workspace was created";

/// What a workspace is made of, before it has an id.
pub(crate) struct Plan {
    pub(crate) request: WorkspaceCreate,
    pub(crate) one_shot: bool,
}

impl Pyro {
    /// Creates a workspace and returns when commands run in it.
    ///
    /// Dropping the future before it is done leaves a workspace that the next client command removes.
    ///
    /// # Errors
    /// The environment cannot be built, a limit is passed, the name is taken, or no machine can be started; nothing is left then.
    pub async fn create_workspace(&self, request: WorkspaceCreate, observer: &Observer) -> Result<Workspace> {
        self.create_planned(Plan { request, one_shot: false }, observer).await
    }

    pub(crate) async fn create_planned(&self, Plan { request, one_shot }: Plan, observer: &Observer) -> Result<Workspace> {
        let network_rules = self.network_rules(&request)?;
        let (secret_records, said) = secrets::planned(&request)?;
        secrets::check_reach(&secret_records, &network_rules)?;
        let labels = request.labels.into_iter().map(|label| (label.key, label.value)).collect();
        check_labels(&labels)?;
        // Told before minutes go into building an environment no machine could use.
        self.qemu_identity()?;
        let shaped = async {
            let environment = self.environment(request.environment, observer).await?;
            let digest = environment.digest.as_str().to_owned();
            let shape = self.shape(digest, request.vcpu_count, request.mem_mib, request.network_policy.into(), observer).await?;
            Ok((environment, shape))
        };
        let (environment, shape) = observer.unless_called_off(NO_WORKSPACE, shaped).await?;
        let seeded = match request.seed_path {
            Some(path) => {
                let options = self.source_options(request.seed_all, !request.no_git, request.strict);
                Some(self.make_seed(SeedRequest { path, options, disk_gib: request.disk_gib.get() }, observer).await?)
            }
            None => None,
        };
        let seed_layer = seeded.as_ref().map(|seeded| seeded.layer.clone());
        let new = NewWorkspace {
            id: WorkspaceId::random(),
            name: request.name,
            labels,
            environment: environment.name.to_string(),
            shape: shape.clone(),
            disk_gib: request.disk_gib.get(),
            root_disk_gib: request.root_disk_gib.get(),
            ttl_seconds: request.ttl_seconds.get(),
            on_expire: request.on_expire.into(),
            one_shot,
            seed: seeded.as_ref().map(|seeded| seeded.record.clone()),
            baseline_layer: seed_layer.as_ref().map(|layer| layer.id.clone()),
            root_layer: None,
            workspace_layer: seed_layer.as_ref().map(|layer| layer.id.clone()),
            new_layer: seed_layer,
            network_policy: request.network_policy.into(),
            network_rules,
            secrets: secret_records,
            forked_from: None,
        };
        let observer_of_seed = observer.clone();
        let id = new.id.clone();
        let (turn, (tenure, record)) = self
            .register_in_turn(&id, "create", move |pyro, registry| {
                pyro.reap_with(registry, Reap::WhenDue)?;
                let tenure = registry.insert_workspace(&new)?;
                if let Some(mut seeded) = seeded {
                    seeded.keep();
                    if let Err(error) = store_seed(pyro.dirs(), &new.id, &seeded) {
                        // Nothing else knows of it yet; what cannot be removed now is removed by the next look.
                        drop(registry.erase_workspace(pyro.dirs(), &new.id));
                        return Err(error);
                    }
                    if seeded.left_out_count > 0 {
                        observer_of_seed.notify(Progress::LeftOut { entries: seeded.left_out.clone(), count: seeded.left_out_count });
                    }
                    if !seeded.notes.is_empty() {
                        observer_of_seed.notify(Progress::Notes(seeded.notes.clone()));
                    }
                }
                Ok((tenure, registry.workspace(&new.id)?))
            })
            .await?;
        let workspace = Workspace::new(self.clone(), &record);
        let placed = async {
            let values = workspace.gather_secrets(&record, said).await?;
            workspace.place("create", &tenure, shape, &values, observer).await
        };
        match observer.unless_called_off(NO_WORKSPACE, placed).await {
            Ok(()) => Ok(workspace),
            Err(error) => {
                let cleanup = workspace.erase(Duration::ZERO, Some(turn)).await;
                Err(error.gone().with_cleanup("create", workspace.label(), cleanup))
            }
        }
    }

    /// Finds an environment, building it first when it is not there.
    pub(crate) async fn environment(&self, name: EnvironmentName, observer: &Observer) -> Result<Environment> {
        match self.find_environment(name).await? {
            Some(environment) => Ok(environment),
            None => self.pull(name, false, observer).await,
        }
    }

    pub(crate) async fn shape(
        &self,
        environment_digest: String,
        vcpu_count: VcpuCount,
        mem_mib: MemMib,
        network_policy: NetworkPolicy,
        observer: &Observer,
    ) -> Result<MachineShape> {
        let accelerator = self.accelerator(observer).await?;
        let qemu_identity = self.qemu_identity()?;
        Ok(MachineShape {
            environment_digest,
            vcpu_count: u32::try_from(vcpu_count.get()).unwrap_or(u32::MAX),
            mem_mib: mem_mib.get(),
            network_card: network_policy.has_egress(),
            accelerator,
            agent_digest: pyro_image::agent::agent_digest().to_owned(),
            qemu_identity,
            command_line_generation: COMMAND_LINE_GENERATION,
        })
    }

    fn qemu_identity(&self) -> Result<String> {
        file_identity(&self.configuration().settings.qemu).map_err(|error| {
            // Its path is the user's, not one of Pyro's own files.
            if let StoreError::File { source } = error {
                Problem::NoQemu { setting: self.qemu_setting(), source }.into()
            } else {
                error.into()
            }
        })
    }

    /// Names the setting that says where QEMU is; `None` when nobody said anything.
    pub(crate) fn qemu_setting(&self) -> Option<String> {
        let origin = &self.configuration().values.iter().find(|value| value.key == "qemu")?.origin;
        match origin {
            Origin::Default => None,
            Origin::File(path) => Some(format!("`qemu` in `{}`", path.display())),
            Origin::Variable(name) => Some(format!("`{name}`")),
            Origin::Flag(flag) => Some(format!("`{flag}`")),
        }
    }

    /// Deletes a workspace.
    ///
    /// # Errors
    /// There is none, or a command, a service or a program in a shell is running in it, or may be, and the request does not insist.
    pub async fn delete_workspace(&self, request: WorkspaceDelete, observer: &Observer) -> Result<WorkspaceDeleted> {
        let (workspace, record) = self.find(&request.workspace, Reap::Now).await?;
        if !request.force {
            let running = match workspace.inspect(&record).await {
                Inspected::Answered(answer) => {
                    let id = record.id.clone();
                    let services = self.store(move |_, registry| Ok(registry.services(&id)?)).await?;
                    let alive = services.iter().filter(|service| service.state.is_alive());
                    Running {
                        commands: answer.running.len(),
                        services: alive.map(|service| service.name.to_string()).collect(),
                        shells: answer.busy_shells.iter().map(|number| ShellId::new(*number).to_string()).collect(),
                    }
                }
                Inspected::Absent => Running::default(),
                Inspected::Silent => {
                    let source = Cause::new(format!("its supervisor said nothing for {} s", INSPECT_DEADLINE.as_secs()));
                    let silent = Problem::CommandsUnknown { workspace: workspace.label().to_owned(), source };
                    return Err(Error::from(silent).about(workspace.label()));
                }
            };
            if !running.is_nothing() {
                let refused = Problem::StillRunning { workspace: workspace.label().to_owned(), running };
                return Err(Error::from(refused).about(workspace.label()));
            }
        }
        let name = record.name.as_ref().map(ToString::to_string);
        workspace.delete_in_turn(request.force, observer).await?;
        Ok(WorkspaceDeleted { workspace_id: record.id.to_string(), name, deleted: true })
    }
}

impl Workspace {
    /// Gives the workspace a machine and waits until it runs.
    pub(crate) async fn place(
        &self,
        operation: &'static str,
        tenure: &Tenure,
        shape: MachineShape,
        secrets: &secrets::Values,
        observer: &Observer,
    ) -> Result<()> {
        let (held, key) = (tenure.clone(), shape.key());
        let claim = self.pyro().store(move |_, registry| Ok(registry.claim_standby(&held, &key)?)).await;
        let claimed = claim.map_err(|error| error.about(self.label()))?;
        if let Some(machine) = claimed {
            match self.adopt(operation, &machine, secrets, observer).await {
                Ok(()) => return Ok(()),
                // The standby machine died or was broken. One that had not adopted the workspace never touched its disks, so another
                // machine can have them.
                Err(error) if is_machines_fault(&error) && self.waits_for_a_machine(tenure).await? => {
                    observer.notify(Progress::Machine { phase: format!("a standby machine failed ({error}); starting another") });
                    self.pyro().bury_machine(&machine, Duration::ZERO).await?;
                    let held = tenure.clone();
                    let put_back = self.pyro().store(move |_, registry| Ok(registry.put_back(&held, &machine)?)).await;
                    put_back.map_err(|error| error.about(self.label()))?;
                }
                Err(error) => return Err(error),
            }
        }
        let machine = self.start_machine(operation, tenure, shape, None).await?;
        self.adopt(operation, &machine, secrets, observer).await
    }

    async fn waits_for_a_machine(&self, tenure: &Tenure) -> Result<bool> {
        let record = self.record().await?;
        Ok(record.generation == tenure.generation && matches!(record.state, WorkspaceState::Creating | WorkspaceState::Starting))
    }

    /// Gives the workspace a machine that goes on where a live snapshot was taken, and waits until it runs.
    pub(crate) async fn place_resumed(
        &self,
        operation: &'static str,
        tenure: &Tenure,
        shape: MachineShape,
        resume: Resume,
        secrets: &secrets::Values,
        observer: &Observer,
    ) -> Result<()> {
        let machine = self.start_machine(operation, tenure, shape, Some(resume)).await?;
        self.adopt(operation, &machine, secrets, observer).await
    }

    async fn start_machine(
        &self,
        operation: &'static str,
        tenure: &Tenure,
        shape: MachineShape,
        resume: Option<Resume>,
    ) -> Result<MachineId> {
        let machine = NewMachine { id: MachineId::random(), shape, role: MachineRole::Workspace, tenure: Some(tenure.clone()) };
        let id = machine.id.clone();
        let start = move |pyro: &Pyro, registry: &mut pyro_store::Registry| {
            let settings = pyro.configuration().settings.clone();
            let arguments = SupervisorArguments { machine: machine.id.clone(), dirs: pyro.dirs().clone(), settings, resume };
            Ok(start_supervisor(pyro.binary(), &arguments, &machine, registry)?)
        };
        let mut child = self.pyro().store(start).await.map_err(|error| {
            Error::workspace(operation, self.label(), error.kind(), Cause::new(error.to_string()).because(error.causes()))
                .about(self.label())
        })?;
        // The supervisor outlives this process; while this one lives, somebody must take its exit status or it stays a zombie.
        std::thread::spawn(move || child.wait());
        Ok(id)
    }

    async fn adopt(&self, operation: &'static str, machine: &MachineId, secrets: &secrets::Values, observer: &Observer) -> Result<()> {
        let silent = || {
            Error::workspace(
                operation,
                self.label(),
                ErrorKind::MachineFailed,
                Cause::new(format!("its supervisor said nothing for {} s", ADOPT_SILENCE.as_secs())),
            )
        };
        let mut client = self.pyro().supervisor(machine, operation, self.label()).await?;
        self.give_secrets(operation, machine, &mut client, secrets).await?;
        let request = AdoptRequest {
            workspace_id: self.id().to_string(),
            settings: serde_json::to_string(&self.pyro().configuration().settings).expect("plain fields serialise"),
        };
        let mut progress = match tokio::time::timeout(ADOPT_SILENCE, client.adopt(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(self.pyro().call_failed(machine, operation, self.label(), &status).await),
            Err(_) => return Err(silent()),
        };
        let mut told: Option<(String, tokio::time::Instant)> = None;
        loop {
            let message = match tokio::time::timeout(ADOPT_SILENCE, progress.message()).await {
                Ok(Ok(message)) => message,
                Ok(Err(status)) => return Err(self.pyro().call_failed(machine, operation, self.label(), &status).await),
                Err(_) => return Err(silent()),
            };
            match message.map(|message| message.progress) {
                Some(Some(adopt_progress::Progress::Ready(_))) => return Ok(()),
                Some(Some(adopt_progress::Progress::Phase(phase))) => {
                    let news = told.as_ref().is_none_or(|(last, at)| *last != phase || at.elapsed() >= PHASE_EVERY);
                    if news {
                        told = Some((phase.clone(), tokio::time::Instant::now()));
                        observer.notify(Progress::Machine { phase });
                    }
                }
                // A phase of a newer supervisor.
                Some(None) => {}
                None => {
                    let ended = tonic::Status::unavailable("the supervisor ended the call before the machine was ready");
                    return Err(self.pyro().call_failed(machine, operation, self.label(), &ended).await);
                }
            }
        }
    }

    /// Starts a stopped workspace; one that runs is left as it is.
    ///
    /// Dropping the future before it is done leaves a workspace that the next client command finds stopped.
    ///
    /// # Errors
    /// It is being created, stopped or deleted, a literal secret is not given, or no machine can be started; it is stopped again then.
    pub async fn start(&self, secrets: &[LiteralSecret], observer: &Observer) -> Result<WorkspaceStatus> {
        let _turn = self.turn("start", TURN_PATIENCE, observer).await?;
        // What a client left that was killed in its turn is put right now that nobody else has one.
        self.pyro().reap().await?;
        let record = self.record().await?;
        if record.state == WorkspaceState::Running {
            if !secrets.is_empty() {
                return Err(Error::from(Problem::SecretsWhileRunning { workspace: self.label().to_owned() }).about(self.label()));
            }
            return self.status().await;
        }
        let values = self.gather_secrets(&record, secrets::said(secrets)?).await?;
        let limits = (VcpuCount::new(record.shape.vcpu_count.into()), MemMib::new(record.shape.mem_mib));
        let shape =
            self.pyro().shape(record.shape.environment_digest.clone(), limits.0?, limits.1?, record.network_policy, observer).await?;
        let id = self.id().clone();
        let begun = self.pyro().store(move |_, registry| Ok(registry.begin_start(&id)?)).await;
        let tenure = begun.map_err(|error| error.about(self.label()))?;
        let placed = observer.unless_called_off("the workspace is stopped", self.place("start", &tenure, shape, &values, observer));
        if let Err(error) = placed.await {
            let cleanup = self.fall_back_to_stopped(&tenure, &error).await;
            return Err(error.with_cleanup("start", self.label(), cleanup));
        }
        self.status().await
    }

    /// Ends what was placed under this tenure, and enters that the workspace is stopped. What another client has placed since is its own.
    pub(crate) async fn fall_back_to_stopped(&self, tenure: &Tenure, error: &Error) -> Result<()> {
        let record = self.record().await?;
        if let Some(machine) = record.machine.filter(|_| record.generation == tenure.generation) {
            self.pyro().bury_machine(&machine, Duration::ZERO).await?;
        }
        let (held, reason) = (tenure.clone(), format!("could not be started: {error}"));
        self.pyro().store(move |_, registry| Ok(registry.abandon(&held, &reason)?)).await
    }

    /// Stops the workspace: processes end, disks stay. One that is stopped is left as it is.
    ///
    /// Dropping the future does not call the stop off.
    ///
    /// # Errors
    /// It is being created, started or deleted. A machine that does not stop in a minute is killed, and that is no error: its disks
    /// are as after a power cut.
    pub async fn stop(&self, observer: &Observer) -> Result<WorkspaceStatus> {
        let _turn = self.turn("stop", TURN_PATIENCE, observer).await?;
        let record = self.record().await?;
        let Some(machine) = record.machine.clone().filter(|_| matches!(record.state, WorkspaceState::Running | WorkspaceState::Stopping))
        else {
            if record.state == WorkspaceState::Stopped {
                return self.status().await;
            }
            let refused = pyro_store::StoreError::WrongState { workspace: self.label().to_owned(), state: record.state.as_str() };
            return Err(Error::from(refused).about(self.label()));
        };
        if let Err(error) = self.ask_to_stop(&machine, "requested", STOP_DEADLINE).await
            && error.kind() == ErrorKind::HostDiskFull
        {
            // The guest waits for space to write to; killing it would lose what it has not written.
            return Err(error);
        }
        self.pyro().bury_machine(&machine, DELETE_DEADLINE).await?;
        // A supervisor that was killed has not entered the stop.
        self.pyro().reap().await?;
        self.status().await
    }

    /// Deletes the workspace with everything that runs in it.
    ///
    /// Dropping the future leaves a workspace in state `deleting`, which the next client command removes.
    ///
    /// # Errors
    /// The host refuses to remove a file.
    pub async fn delete(&self) -> Result<()> {
        self.delete_in_turn(false, &Observer::none()).await
    }

    pub(crate) async fn delete_in_turn(&self, force: bool, observer: &Observer) -> Result<()> {
        let patience = if force { FORCED_PATIENCE } else { TURN_PATIENCE };
        let turn = match self.turn("delete", patience, observer).await {
            Ok(turn) => Some(turn),
            // Whoever has the turn may be stuck; it finds out at its next step that it was overtaken.
            Err(error) if force && error.kind() == ErrorKind::WrongState => None,
            Err(error) => return Err(error),
        };
        // Whatever is half done on the host can be put right only with what goes with the workspace. Held to the end: nobody shall begin
        // to apply what is being deleted.
        let _history = self.settle_host(force).await?;
        let id = self.id().clone();
        let begun = self.pyro().store(move |_, registry| Ok(registry.begin_delete(&id)?)).await;
        let machine = begun.map_err(|error| error.about(self.label()))?;
        if let Some(machine) = machine {
            // A supervisor that does not answer is killed below.
            drop(self.ask_to_stop(&machine, "deleted", DELETE_DEADLINE).await);
        }
        self.erase(DELETE_DEADLINE, turn).await
    }

    /// Puts files of the host right that an apply was changing when it was cut off.
    ///
    /// # Errors
    /// They cannot be, and it is not forced; or changes are being applied right now.
    async fn settle_host(&self, force: bool) -> Result<Option<apply::History>> {
        let (dirs, id, label) = (self.pyro().dirs().clone(), self.id().clone(), self.label().to_owned());
        let settled = blocking(move || apply::settle_for_delete(&dirs, &id, &label, force)).await;
        let Some((history, put_back)) = settled.map_err(|error| error.about(self.label()))? else { return Ok(None) };
        self.pyro().add_put_back(put_back);
        Ok(Some(history))
    }

    /// Removes the workspace and its machine, which has `patience` to end by itself.
    pub(crate) async fn erase(&self, patience: Duration, turn: Option<Turn>) -> Result<()> {
        let erased = self.erase_rows(patience).await;
        // The folder with the lock in it goes last, by whoever holds it.
        match (erased, turn) {
            (Ok(()), Some(turn)) => blocking(move || turn.end()).await,
            (erased, _) => erased,
        }
    }

    async fn erase_rows(&self, patience: Duration) -> Result<()> {
        match self.record().await {
            Ok(record) => {
                if let Some(machine) = &record.machine {
                    self.pyro().bury_machine(machine, patience).await?;
                }
            }
            // The supervisor or another client was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let id = self.id().clone();
        self.pyro().store(move |pyro, registry| Ok(registry.erase_workspace(pyro.dirs(), &id)?)).await
    }

    async fn ask_to_stop(&self, machine: &MachineId, reason: &str, deadline: Duration) -> Result<()> {
        let ask = async {
            let mut client = self.pyro().supervisor(machine, "stop", self.label()).await?;
            match client.stop(StopRequest { reason: reason.to_owned() }).await {
                Ok(_) => Ok(()),
                Err(status) => Err(self.pyro().call_failed(machine, "stop", self.label(), &status).await),
            }
        };
        let late = |_| {
            Error::workspace(
                "stop",
                self.label(),
                ErrorKind::DeadlineExceeded,
                Cause::new(format!("it did not end within {} s", deadline.as_secs())),
            )
        };
        tokio::time::timeout(deadline, ask).await.map_err(late)?
    }
}

/// Tells whether another machine may do better.
fn is_machines_fault(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::MachineFailed | ErrorKind::Internal | ErrorKind::Incompatible | ErrorKind::DeadlineExceeded | ErrorKind::Io
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Home, shape};

    #[tokio::test]
    async fn a_workspace_whose_machine_is_gone_without_a_word_is_found_stopped() {
        let home = Home::new().await;
        let (mut registry, id) = (home.registry(), home.workspace.id());
        let tenure = registry.begin_start(id).unwrap();
        let machine = NewMachine { id: MachineId::random(), shape: shape(), role: MachineRole::Workspace, tenure: Some(tenure) };
        registry.insert_machine(&machine, home.pyro.dirs().machines().as_path(), 0).unwrap();
        registry.adopt(&machine.id, id).unwrap();
        registry.remove_machine(&machine.id).unwrap();
        let found = home.pyro.workspace(&home.reference).await.unwrap().status().await.unwrap();
        assert_eq!((found.state, found.stop_reason.as_deref()), (crate::contract::WorkspaceState::Stopped, Some("its supervisor died")));
    }
}
