//! The workspace on top of a machine: adoption, commands, idle time, end.
//!
//! [`Supervisor`] is shared by the calls it serves; its one driver is `live`, which decides when it ends. State that several touch is
//! behind short locks that are never held across an await.

mod adopt;
mod checkpoint;
mod compact;
mod end;
mod exec;
mod files;
mod network;
mod ports;
mod prepare;
mod process;
mod secrets;
mod service;
mod services;
mod shell_write;
mod shells;
mod standby;

use std::{
    collections::BTreeMap,
    os::unix::net::UnixStream as StdUnixStream,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use pyro_proto::{
    error::Failure,
    v1::{ExecExit, ExecInput},
};
use pyro_secret::{SecretName, SecretValue};
use pyro_store::{LayerId, MachineRecord, Registry, ServiceName, Settings, SupervisorArguments, WorkspaceId, WorkspaceRecord};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

pub(crate) use self::service::Service;
use crate::{
    agent::Agent,
    error::{HostError, HostResult},
    lock,
    machine::Machine,
};

/// How far the machine is.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// Working on it; the text is for people.
    Preparing(String),
    /// The guest's agent answers.
    Ready,
    /// It will not become ready.
    Failed(Failure),
}

/// Why a supervisor ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// A client asked for it.
    Requested,
    /// The workspace is being deleted.
    Deleted,
    /// The idle time is over.
    Expired,
    /// QEMU ended by itself.
    MachineDied(String),
    /// The workspace has moved on to another machine.
    Superseded,
    /// Nobody needs this machine: a standby that expired, a workspace whose client went away before it was ready.
    Unneeded,
    /// The machine could not be made.
    Failed,
}

/// A request to end, with whom to tell.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) reason: EndReason,
    pub(crate) done: Option<oneshot::Sender<HostResult<()>>>,
}

/// A command that is running.
#[derive(Debug)]
struct Running {
    started_at_ms: u64,
    input: mpsc::Sender<ExecInput>,
    ended: watch::Receiver<Option<ExecExit>>,
}

/// One supervisor's state.
#[derive(Debug)]
pub(crate) struct Supervisor {
    arguments: SupervisorArguments,
    record: MachineRecord,
    registry: Mutex<Registry>,
    stage: watch::Sender<Stage>,
    machine: OnceLock<Machine>,
    agent: OnceLock<Agent>,
    workspace: OnceLock<WorkspaceId>,
    /// Settings of the client that adopted, which may differ from those a standby machine was started with.
    adopted_settings: OnceLock<Settings>,
    /// What hangs under the disks of a standby machine already: the blanks a new workspace of the usual sizes needs.
    prehung: OnceLock<Vec<LayerId>>,
    /// Whether a client has asked to adopt; one that never does has died.
    adoption_requested: AtomicBool,
    /// When this standby machine was first seen claimed, milliseconds since 1970.
    claim_seen_at_ms: OnceLock<i64>,
    /// Held while a snapshot is taken, and while layers are pulled up.
    layering: tokio::sync::Mutex<()>,
    /// Calls off the pulling up.
    layering_wanted: AtomicBool,
    /// Held while overlays are put on, and while a client reads the layers.
    keeping: Arc<tokio::sync::Mutex<()>>,
    /// Guards against two clients adopting at once.
    adopting: tokio::sync::Mutex<()>,
    running: Mutex<BTreeMap<u64, Running>>,
    /// Shells that run, by their numbers.
    shells: Mutex<BTreeMap<u64, Arc<shells::Shell>>>,
    /// Services that have a driver.
    services: Mutex<BTreeMap<ServiceName, services::Service>>,
    ports: Mutex<ports::Ports>,
    /// The other end of the machine's network card, until a workspace has it.
    card: Mutex<Option<StdUnixStream>>,
    network: OnceLock<network::Network>,
    /// Secrets for the workspace that will adopt the machine.
    given_secrets: Mutex<BTreeMap<SecretName, SecretValue>>,
    secrets: OnceLock<secrets::Secrets>,
    /// What the guest trusts beside its own.
    certificates: OnceLock<network::Certificates>,
    /// Places for connections of all ports.
    connections: Arc<Semaphore>,
    /// The machine is being ended: what ends in it now ends with it, and is entered with it.
    ending: AtomicBool,
    disk_full: watch::Sender<bool>,
    /// The idle time may have changed, or a first command has ended.
    activity: Notify,
    ends: mpsc::Sender<End>,
    /// Stop answers not yet handed to the transport.
    answers: AtomicUsize,
}

impl Supervisor {
    pub(crate) fn new(arguments: SupervisorArguments, record: MachineRecord, registry: Registry, ends: mpsc::Sender<End>) -> Self {
        Self {
            arguments,
            record,
            registry: Mutex::new(registry),
            stage: watch::Sender::new(Stage::Preparing("machine: starting".into())),
            machine: OnceLock::new(),
            agent: OnceLock::new(),
            workspace: OnceLock::new(),
            adopted_settings: OnceLock::new(),
            prehung: OnceLock::new(),
            adoption_requested: AtomicBool::new(false),
            claim_seen_at_ms: OnceLock::new(),
            layering: tokio::sync::Mutex::new(()),
            layering_wanted: AtomicBool::new(false),
            keeping: Arc::default(),
            adopting: tokio::sync::Mutex::new(()),
            running: Mutex::new(BTreeMap::new()),
            shells: Mutex::default(),
            services: Mutex::default(),
            ports: Mutex::default(),
            card: Mutex::default(),
            network: OnceLock::new(),
            given_secrets: Mutex::default(),
            secrets: OnceLock::new(),
            certificates: OnceLock::new(),
            connections: Arc::new(Semaphore::new(ports::MACHINE_CONNECTIONS_MAX)),
            ending: AtomicBool::new(false),
            disk_full: watch::Sender::new(false),
            activity: Notify::new(),
            ends,
            answers: AtomicUsize::new(0),
        }
    }

    fn machine(&self) -> HostResult<&Machine> {
        self.machine.get().ok_or_else(|| HostError::WrongState { problem: "the machine is not ready".into() })
    }

    fn agent(&self) -> HostResult<&Agent> {
        self.agent.get().ok_or_else(|| HostError::WrongState { problem: "the machine is not ready".into() })
    }

    /// Returns the settings in force.
    fn settings(&self) -> &Settings {
        self.adopted_settings.get().unwrap_or(&self.arguments.settings)
    }

    /// Returns the workspace this machine belongs to.
    fn adopted(&self) -> HostResult<&WorkspaceId> {
        self.workspace.get().ok_or_else(|| HostError::WrongState { problem: "this machine has no workspace yet".into() })
    }

    fn workspace_record(&self) -> HostResult<WorkspaceRecord> {
        Ok(lock(&self.registry).workspace(self.adopted()?)?)
    }

    /// Tells whether the workspace has not moved on to another machine.
    fn owns_workspace(&self) -> bool {
        self.workspace_record().is_ok_and(|workspace| workspace.machine.as_ref() == Some(&self.record.id))
    }

    /// Tells whether the machine is being ended.
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    fn tell(&self, phase: &str) {
        self.stage.send_replace(Stage::Preparing(phase.to_owned()));
    }

    /// Asks the driver to end, without waiting for it.
    fn request_end(&self, reason: EndReason) {
        // A full queue holds end requests already.
        drop(self.ends.try_send(End { reason, done: None }));
    }
}

/// Writes a line to the supervisor's log.
#[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
fn log_line(text: &str) {
    eprintln!("{text}");
}

/// Returns the wall clock in milliseconds since 1970.
fn now_ms() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
