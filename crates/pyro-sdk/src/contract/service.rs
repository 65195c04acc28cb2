//! Operations on services: processes that are started by name, watched until they can be used, and ended whole.

use std::collections::BTreeMap;

use pyro_store::ServiceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GuestCommand, OpenPort, operation::operation};
use crate::{
    limits::{GraceSeconds, MaxOutputBytes, ReadyIntervalMs, ReadyTimeoutSeconds, TailLines},
    text::{
        GuestLine, GuestPath, GuestUser, HttpUrl, PortPublication, ProbePath, SecretVariable, TcpTarget, Variable, WorkspaceReference,
        variable_map,
    },
};

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ServiceState {
    /// It is being started, or started again, or is not ready yet
    Starting,
    /// It runs; it has no readiness probe, or was not ready in time
    Running,
    /// Its readiness probe has succeeded
    Ready,
    /// It ended by itself with 0
    Exited,
    /// It ended by itself with something else, or could not be started
    Failed,
    /// It was ended
    Stopped,
}

impl ServiceState {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Tells whether something of it may run.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Ready)
    }
}

impl From<pyro_store::ServiceState> for ServiceState {
    fn from(state: pyro_store::ServiceState) -> Self {
        match state {
            pyro_store::ServiceState::Starting => Self::Starting,
            pyro_store::ServiceState::Running => Self::Running,
            pyro_store::ServiceState::Ready => Self::Ready,
            pyro_store::ServiceState::Exited => Self::Exited,
            pyro_store::ServiceState::Failed => Self::Failed,
            pyro_store::ServiceState::Stopped => Self::Stopped,
        }
    }
}

/// What happens when a service fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum RestartPolicy {
    /// Nothing
    #[default]
    Never,
    /// It is started again, later and later; five failures in a row are enough
    OnFailure,
}

/// How a service is found to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ProbeKind {
    /// It has no probe: it is taken to be ready once it runs
    None,
    /// A path is there
    File,
    /// A connection is accepted
    Tcp,
    /// A `GET` is answered with a status of 200 to 399
    Http,
    /// A shell line exits with 0
    Command,
}

/// How a service is found to be ready, and whether it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceReadiness {
    /// How it is found out
    pub kind: ProbeKind,
    /// The path, address, URL or line
    pub target: Option<String>,
    /// Whether the probe has succeeded; without a probe, whether it runs
    pub ready: bool,
    /// How long it may take to become ready
    pub timeout_seconds: u64,
    /// How long between two probes
    pub interval_ms: u64,
}

/// A service of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Id of the workspace
    pub workspace_id: String,
    /// Its name, unique within the workspace
    pub service_name: String,
    /// The argument list
    pub command: Vec<String>,
    /// Folder it runs in
    pub cwd: String,
    /// Whose it is
    pub user: String,
    /// Where it is in its life
    pub state: ServiceState,
    /// When it was first started
    pub started_at: String,
    /// When it was found to be ready
    pub ready_at: Option<String>,
    /// When it ended
    pub ended_at: Option<String>,
    /// As a shell reports it
    pub exit_code: Option<i32>,
    /// The signal that ended it
    pub signal: Option<i32>,
    /// Its first process in the guest
    pub pid: Option<u32>,
    /// How it is found to be ready
    pub readiness: ServiceReadiness,
    /// Why it does not run, or is not ready
    pub stop_reason: Option<String>,
    /// What happens when it fails
    pub restart: RestartPolicy,
    /// How often it was started again
    pub restart_count: u64,
    /// Processes it has now; absent when it does not run or the machine was not asked
    pub process_count: Option<u64>,
    /// Ports that live and die with it
    pub published_ports: Vec<OpenPort>,
}

/// How starting a service came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ServiceOutcome {
    /// It is ready; without a probe, it runs
    Ready,
    /// It ended, or could not be started, before it was ready
    Exited,
    /// It was not ready in time, and goes on
    TimedOut,
    /// It was stopped meanwhile
    Stopped,
}

impl ServiceOutcome {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Exited => "exited",
            Self::TimedOut => "timed_out",
            Self::Stopped => "stopped",
        }
    }
}

/// Start a service in a workspace, and wait until it is ready
///
/// Answers when it is ready, has ended, or was not ready in time (it goes on then), and says which. At most one readiness probe; without
/// one it counts as ready once it runs. A name whose service has ended is free again. At most 32 run; of more, the one that ended first is
/// forgotten.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ServiceStart {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Name, unique within the workspace: 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(value_name = "NAME"))]
    pub name: ServiceName,
    /// Folder in the guest, absolute or relative to `/workspace`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH", default_value_t))]
    pub cwd: GuestPath,
    /// User in the guest, by name or number; root by default
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub user: Option<GuestUser>,
    /// Variable for the service, beside those a login has
    #[serde(default, with = "variable_map")]
    #[schemars(with = "BTreeMap<String, String>")]
    #[cfg_attr(feature = "cli", arg(long = "env", value_name = "NAME=VALUE"))]
    pub env: Vec<Variable>,
    /// Secret that the command gets as a variable: `NAME`, or `NAME=VARIABLE`
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "secret-env", value_name = "NAME[=VARIABLE]"))]
    pub secret_env: Vec<SecretVariable>,
    /// Ready when this path is there: absolute, or relative to `cwd`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH", group = "probe"))]
    pub ready_file: Option<ProbePath>,
    /// Ready when a connection to `[HOST:]PORT` is accepted, seen from the guest
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "[HOST:]PORT", group = "probe"))]
    pub ready_tcp: Option<TcpTarget>,
    /// Ready when a `GET` of this `http://` URL is answered with a status of 200 to 399, seen from the guest
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "URL", group = "probe"))]
    pub ready_http: Option<HttpUrl>,
    /// Ready when this line, run by `sh -c` in `cwd`, exits with 0
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LINE", group = "probe"))]
    pub ready_command: Option<GuestLine>,
    /// How long it may take to become ready, in seconds: 1 to 3600
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS", default_value_t))]
    pub ready_timeout_seconds: ReadyTimeoutSeconds,
    /// How long between two probes, in milliseconds: 50 to 60000
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MS", default_value_t))]
    pub ready_interval_ms: ReadyIntervalMs,
    /// What happens when it fails
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value = "never"))]
    pub restart: RestartPolicy,
    /// Port of the guest to publish on the host's 127.0.0.1 for as long as it runs, at most 16: `[HOSTPORT:]GUESTPORT`. Needs the network
    /// policy `published-ports`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "[HOSTPORT:]GUESTPORT"))]
    pub publish: Vec<PortPublication>,
    /// The command: a list of arguments run as it is, or a string run by `sh -c`
    #[cfg_attr(feature = "cli", command(flatten))]
    pub command: GuestCommand,
}

/// A service that was started, and how that came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStarted {
    /// What is known of it
    #[serde(flatten)]
    pub service: Service,
    /// How starting it came out
    pub outcome: ServiceOutcome,
    /// Last lines of its log, when it is not ready
    pub log_tail: Option<String>,
}

/// List a workspace's services, by name
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ServiceList {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
}

/// A workspace's services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceListAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// The services, by name
    pub services: Vec<Service>,
}

/// Show a service of a workspace
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ServiceStatus {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Name of the service
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(value_name = "NAME"))]
    pub name: ServiceName,
}

/// Read a service's log: its last lines, or all that is kept of it page by page
///
/// The log begins anew with every start by hand, and goes on over restarts after a failure. It can be read after the service has ended.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ServiceLogs {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Name of the service
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(value_name = "NAME"))]
    pub name: ServiceName,
    /// How many lines from the end: 1 to 100000
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub tail_lines: TailLines,
    /// From the oldest line that is kept on
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, conflicts_with_all = ["tail_lines", "cursor"]))]
    pub all: bool,
    /// From this byte of the log on; `next_cursor` of the answer before
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTE", conflicts_with = "tail_lines"))]
    pub cursor: Option<u64>,
    /// Log an answer carries, in bytes: 1 to 1048576
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTES", default_value_t))]
    pub max_output_bytes: MaxOutputBytes,
}

/// A part of a service's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceLogsAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Name of the service
    pub service_name: String,
    /// Where it is in its life
    pub state: ServiceState,
    /// The log; bytes that are not UTF-8 are replaced
    pub log: String,
    /// Byte of the log at which the text begins
    pub cursor: u64,
    /// Byte to read on from
    pub next_cursor: u64,
    /// Byte at which the log ends now
    pub end_cursor: u64,
    /// Whether some of what was asked for did not fit
    pub truncated: bool,
    /// Oldest byte that is kept, when older ones were asked for
    pub truncated_before: Option<u64>,
}

/// Stop a service of a workspace, with every process it has started
///
/// It is asked to end, and ended when its grace is over. Its log can still be read. Stopping one that has ended is harmless.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ServiceStop {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Name of the service
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(value_name = "NAME"))]
    pub name: ServiceName,
    /// Time between asking and ending, in seconds: 0 to 300
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS", default_value_t))]
    pub grace_seconds: GraceSeconds,
}

operation!(ServiceStart => ServiceStarted, "service_start", cli: ["workspace", "service", "start"], python: Some("start_service"),
    mcp: Some("service_start"), Full, Changes, Counts, |request, pyro, observer| pyro.start_service(request, observer));
operation!(ServiceList => ServiceListAnswer, "service_list", cli: ["workspace", "service", "list"], python: Some("list_services"),
    mcp: Some("service_list"), Full, Reads, Harmless, |request, pyro, _observer| pyro.list_services(&request));
operation!(ServiceStatus => Service, "service_status", cli: ["workspace", "service", "status"], python: Some("service_status"),
    mcp: Some("service_status"), Full, Reads, Harmless, |request, pyro, _observer| pyro.service_status(&request));
operation!(ServiceLogs => ServiceLogsAnswer, "service_logs", cli: ["workspace", "service", "logs"], python: Some("service_logs"),
    mcp: Some("service_logs"), Full, Reads, Harmless, |request, pyro, _observer| pyro.service_logs(&request));
operation!(ServiceStop => Service, "service_stop", cli: ["workspace", "service", "stop"], python: Some("stop_service"),
    mcp: Some("service_stop"), Full, Destroys, Harmless, |request, pyro, _observer| pyro.stop_service(&request));
