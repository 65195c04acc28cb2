//! Answers that several operations give.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LeftOut, ServiceState, SourceNote};

/// Where a workspace is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum WorkspaceState {
    /// Its machine is not ready
    Creating,
    /// Commands run
    Running,
    /// Its machine is shutting down
    Stopping,
    /// Only its disks and journal exist
    Stopped,
    /// It is getting a machine again
    Starting,
    /// It is being removed
    Deleting,
}

impl From<pyro_store::WorkspaceState> for WorkspaceState {
    fn from(state: pyro_store::WorkspaceState) -> Self {
        match state {
            pyro_store::WorkspaceState::Creating => Self::Creating,
            pyro_store::WorkspaceState::Running => Self::Running,
            pyro_store::WorkspaceState::Stopping => Self::Stopping,
            pyro_store::WorkspaceState::Stopped => Self::Stopped,
            pyro_store::WorkspaceState::Starting => Self::Starting,
            pyro_store::WorkspaceState::Deleting => Self::Deleting,
        }
    }
}

impl WorkspaceState {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Deleting => "deleting",
        }
    }
}

/// What happens when the idle time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ExpireAction {
    /// The machine ends, the disks are kept
    #[default]
    Stop,
    /// Nothing is kept
    Delete,
}

impl From<ExpireAction> for pyro_store::OnExpire {
    fn from(action: ExpireAction) -> Self {
        match action {
            ExpireAction::Stop => Self::Stop,
            ExpireAction::Delete => Self::Delete,
        }
    }
}

impl From<pyro_store::OnExpire> for ExpireAction {
    fn from(action: pyro_store::OnExpire) -> Self {
        match action {
            pyro_store::OnExpire::Stop => Self::Stop,
            pyro_store::OnExpire::Delete => Self::Delete,
        }
    }
}

/// What a guest may reach, and what may reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum NetworkPolicy {
    /// Nothing: it has no network card, and none of its ports is published
    #[default]
    Off,
    /// It reaches the outside, as far as its rules allow
    Egress,
    /// Both of its neighbours
    #[serde(rename = "egress+published-ports")]
    #[cfg_attr(feature = "cli", value(name = "egress+published-ports"))]
    EgressAndPublishedPorts,
    /// Ports of it can be published on the host's 127.0.0.1. It has no network card
    PublishedPorts,
}

impl NetworkPolicy {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.stored().as_str()
    }

    /// Tells whether the guest has a network card.
    #[must_use]
    pub const fn has_egress(self) -> bool {
        self.stored().has_egress()
    }

    /// Tells whether ports can be published.
    #[must_use]
    pub const fn has_published_ports(self) -> bool {
        self.stored().has_published_ports()
    }

    /// Tells whether everything this policy allows is allowed by `ceiling`.
    #[must_use]
    pub const fn is_within(self, ceiling: Self) -> bool {
        (!self.has_egress() || ceiling.has_egress()) && (!self.has_published_ports() || ceiling.has_published_ports())
    }

    const fn stored(self) -> pyro_store::NetworkPolicy {
        match self {
            Self::Off => pyro_store::NetworkPolicy::Off,
            Self::Egress => pyro_store::NetworkPolicy::Egress,
            Self::EgressAndPublishedPorts => pyro_store::NetworkPolicy::EgressAndPublishedPorts,
            Self::PublishedPorts => pyro_store::NetworkPolicy::PublishedPorts,
        }
    }
}

impl From<NetworkPolicy> for pyro_store::NetworkPolicy {
    fn from(policy: NetworkPolicy) -> Self {
        policy.stored()
    }
}

impl From<pyro_store::NetworkPolicy> for NetworkPolicy {
    fn from(policy: pyro_store::NetworkPolicy) -> Self {
        match policy {
            pyro_store::NetworkPolicy::Off => Self::Off,
            pyro_store::NetworkPolicy::Egress => Self::Egress,
            pyro_store::NetworkPolicy::EgressAndPublishedPorts => Self::EgressAndPublishedPorts,
            pyro_store::NetworkPolicy::PublishedPorts => Self::PublishedPorts,
        }
    }
}

/// Where commands ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ExecutionMode {
    /// In a microVM
    Guest,
    /// On the host itself, because the caller allowed it and no guest could be started
    HostCompat,
}

impl ExecutionMode {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::HostCompat => "host_compat",
        }
    }
}

/// Whether a command still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CommandState {
    /// It does: wait for it or kill it by its sequence
    Running,
    /// It does not
    Exited,
}

/// How a command ended, or that it still runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandAnswer {
    /// Id of the workspace
    pub workspace_id: Option<String>,
    /// Number in the workspace's journal; absent for a command on the host
    pub sequence: Option<u64>,
    /// Whether it still runs
    pub state: CommandState,
    /// As a shell reports it: the status, 128 + signal, 124 after a timeout, 126 or 127 when it could not be started
    pub exit_code: Option<i32>,
    /// The signal that ended it
    pub signal: Option<i32>,
    /// Whether its time was up
    pub timed_out: bool,
    /// From its start to its end, by the guest's clock
    pub duration_ms: Option<f64>,
    /// Folder it ran in
    pub cwd: String,
    /// Standard output, head and tail when there was too much; bytes that are not UTF-8 are replaced
    pub stdout: String,
    /// Standard error, likewise
    pub stderr: String,
    /// Bytes of standard output in all
    pub stdout_bytes: u64,
    /// Bytes of standard error in all
    pub stderr_bytes: u64,
    /// Bytes of both that are kept in the journal; absent when the output came from the command itself
    pub kept_bytes: Option<u64>,
    /// Whether output was left out; all that is kept can be read with the workspace's logs
    pub truncated: bool,
    /// Why it could not be started, or why its end is not known
    pub failure: Option<String>,
    /// What the workspace's network refused while it ran, as the narrowest rules that would allow it; 16 at the most
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_refused: Vec<String>,
    /// Where it ran
    pub execution_mode: ExecutionMode,
    /// How guest instructions were executed: `kvm` or `tcg`
    pub accelerator: Option<String>,
}

/// One command of a workspace's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandEntry {
    /// Number in the journal, from 1
    pub sequence: u64,
    /// The argument list
    pub command: Vec<String>,
    /// Folder it ran in
    pub cwd: String,
    /// Whether it still runs
    pub state: CommandState,
    /// As a shell reports it
    pub exit_code: Option<i32>,
    /// The signal that ended it
    pub signal: Option<i32>,
    /// Whether its time was up
    pub timed_out: bool,
    /// By the guest's clock
    pub duration_ms: Option<f64>,
    /// When it was started
    pub started_at: String,
    /// When it ended
    pub ended_at: Option<String>,
    /// Why it could not be started, or why its end is not known
    pub failure: Option<String>,
    /// Bytes of standard output in all
    pub stdout_bytes: u64,
    /// Bytes of standard error in all
    pub stderr_bytes: u64,
}

/// Where the first content of `/workspace` came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceSeed {
    /// `empty` or `seeded`
    pub mode: String,
    /// Path on the host
    pub seed_path: Option<String>,
    /// What it was: `empty`, `directory`, `git` or `archive`
    pub origin_kind: String,
    /// Commit of a Git checkout
    pub origin_ref: Option<String>,
    /// Files, folders and links
    pub entry_count: u64,
    /// Bytes of files
    pub bytes_written: u64,
}

/// A secret of a workspace; its value is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Secret {
    /// Its name
    pub name: String,
    /// `literal` or `file`
    pub source_kind: String,
    /// Hosts it is sent to; it does not enter the guest then
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Header of requests to them in which it stands
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// A guest port that is reachable from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenPort {
    /// In the guest
    pub guest_port: u16,
    /// On the host
    pub host_port: u16,
    /// Address on the host
    pub host: String,
    /// `tcp`
    pub protocol: String,
    /// The service it lives and dies with; absent when that is the machine
    pub service_name: Option<String>,
}

/// A service, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceInBrief {
    /// Its name
    pub service_name: String,
    /// Where it is in its life
    pub state: ServiceState,
    /// As a shell reports it
    pub exit_code: Option<i32>,
    /// How often it was started again
    pub restart_count: u64,
}

impl From<&pyro_store::ServiceRecord> for ServiceInBrief {
    fn from(service: &pyro_store::ServiceRecord) -> Self {
        Self {
            service_name: service.name.to_string(),
            state: service.state.into(),
            exit_code: service.exit_code,
            restart_count: service.restart_count,
        }
    }
}

impl From<&pyro_store::PortRecord> for OpenPort {
    fn from(port: &pyro_store::PortRecord) -> Self {
        Self {
            guest_port: port.guest_port,
            host_port: port.host_port,
            host: "127.0.0.1".to_owned(),
            protocol: "tcp".to_owned(),
            service_name: port.service.as_ref().map(ToString::to_string),
        }
    }
}

/// A workspace and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceStatus {
    /// Its id
    pub workspace_id: String,
    /// Its name
    pub name: Option<String>,
    /// Its labels
    pub labels: BTreeMap<String, String>,
    /// Environment it was made from
    pub environment: String,
    /// Where it is in its life
    pub state: WorkspaceState,
    /// Why it stopped
    pub stop_reason: Option<String>,
    /// Virtual CPUs
    pub vcpu_count: u32,
    /// Guest memory
    pub mem_mib: u64,
    /// Size of `/workspace`
    pub disk_gib: u64,
    /// Room for installed packages
    pub root_disk_gib: u64,
    /// Idle time until it expires
    pub ttl_seconds: u64,
    /// What happens then
    pub on_expire: ExpireAction,
    /// What the guest may reach, and what may reach it
    pub network_policy: NetworkPolicy,
    /// Where commands run
    pub execution_mode: ExecutionMode,
    /// How guest instructions are executed: `kvm` or `tcg`
    pub accelerator: String,
    /// Where the first content of `/workspace` came from
    pub workspace_seed: WorkspaceSeed,
    /// Secrets, by name
    pub secrets: Vec<Secret>,
    /// Names of those that the next start must be given: nobody keeps a literal of a stopped workspace
    #[serde(default)]
    pub secrets_unavailable: Vec<String>,
    /// Commands so far
    pub command_count: u64,
    /// Commands that run now
    pub running_command_count: u64,
    /// The newest command
    pub last_command: Option<CommandEntry>,
    /// Resets so far
    pub reset_count: u64,
    /// When it was last reset
    pub last_reset_at: Option<String>,
    /// Services
    pub service_count: u64,
    /// Services that run now
    pub running_service_count: u64,
    /// The services, by name
    pub services: Vec<ServiceInBrief>,
    /// Shells that run now
    pub open_shell_count: u64,
    /// Ports reachable from the host
    pub published_ports: Vec<OpenPort>,
    /// When something was last done in it
    pub last_activity_at: String,
    /// When it was made
    pub created_at: String,
    /// When it expires if nothing happens; absent while a command, a service or a program in a shell runs
    pub expires_at: Option<String>,
    /// Bytes of the host's disk that are only its own
    pub disk_used_bytes: u64,
    /// Bytes of the host's memory, supervisor included; absent when it is not running or was not asked
    pub memory_used_bytes: Option<u64>,
    /// Whether it is paused because the host's disk is full
    pub host_disk_full: bool,
}

/// A workspace that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceCreated {
    /// What is known of it
    #[serde(flatten)]
    pub status: WorkspaceStatus,
    /// What of the seed was not taken, the first 1000
    pub left_out: Vec<LeftOut>,
    /// How much was not taken
    pub left_out_count: u64,
    /// How Git in the workspace differs from Git on the host: missing filters, objects that were not fetched
    #[serde(default)]
    pub notes: Vec<SourceNote>,
}

/// Workspaces, newest activity first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceList {
    /// The workspaces
    pub workspaces: Vec<WorkspaceStatus>,
}

/// A workspace that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceDeleted {
    /// The id it had
    pub workspace_id: String,
    /// The name it had
    pub name: Option<String>,
    /// Always true
    pub deleted: bool,
}
