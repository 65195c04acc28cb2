//! Operations on a workspace's commands.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommandAnswer, CommandEntry, GuestCommand, NetworkEntry, operation::operation};
use crate::{
    limits::{MaxOutputBytes, TailCount, TimeoutSeconds, YieldAfterMs},
    text::{GuestPath, GuestUser, SecretVariable, Signal, Variable, WorkspaceReference, variable_map},
};

/// Run a command in a workspace
///
/// It runs as root in `/workspace` and is entered in the journal with a sequence number. A command that still runs when the call yields
/// goes on: wait for it or kill it by its sequence. Several commands may run at once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceExec {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Time the command has, in seconds: 1 to 86400. On the command line 0 means no limit
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS", default_value_t))]
    pub timeout_seconds: TimeoutSeconds,
    /// User in the guest, by name or number; root by default
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub user: Option<GuestUser>,
    /// Folder in the guest, absolute or relative to `/workspace`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH", default_value_t))]
    pub cwd: GuestPath,
    /// Variable for the command, beside those a login has
    #[serde(default, with = "variable_map")]
    #[schemars(with = "BTreeMap<String, String>")]
    #[cfg_attr(feature = "cli", arg(long = "env", value_name = "NAME=VALUE"))]
    pub env: Vec<Variable>,
    /// Secret that the command gets as a variable: `NAME`, or `NAME=VARIABLE`
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "secret-env", value_name = "NAME[=VARIABLE]"))]
    pub secret_env: Vec<SecretVariable>,
    /// Answer after so many milliseconds although the command still runs: 1000 to 55000
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MS"))]
    pub yield_after_ms: Option<YieldAfterMs>,
    /// Output an answer carries, head and tail, in bytes: 1 to 1048576. Streamed output is never cut
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTES", default_value_t))]
    pub max_output_bytes: MaxOutputBytes,
    /// The command: a list of arguments run as it is, or a string run by `sh -c`
    #[cfg_attr(feature = "cli", command(flatten))]
    pub command: GuestCommand,
}

/// Wait for a running command and show how it ended
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ExecWait {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Number of the command in the journal
    #[cfg_attr(feature = "cli", arg(value_name = "SEQUENCE"))]
    pub sequence: u64,
    /// How long to wait, in seconds: 1 to 86400; without it, until the command ends
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS"))]
    pub timeout_seconds: Option<TimeoutSeconds>,
    /// Output an answer carries, head and tail, in bytes: 1 to 1048576
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTES", default_value_t))]
    pub max_output_bytes: MaxOutputBytes,
}

/// Send a running command a signal
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ExecKill {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Number of the command in the journal
    #[cfg_attr(feature = "cli", arg(value_name = "SEQUENCE"))]
    pub sequence: u64,
    /// Signal for the command's process group, by name or number
    #[serde(default = "default_signal")]
    #[cfg_attr(feature = "cli", arg(long, default_value_t = default_signal()))]
    pub signal: Signal,
}

const fn default_signal() -> Signal {
    Signal::KILL
}

/// What became of a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecKillAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Number of the command
    pub sequence: u64,
    /// False when the command had ended already
    pub delivered: bool,
}

/// Show a workspace's journal: commands, how they ended, and their output
///
/// Works on stopped workspaces too.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Only this command, with its output
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub sequence: Option<u64>,
    /// How many commands or entries, the newest last: 1 to 1000
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub tail: TailCount,
    /// Byte of standard output to read on from, with `sequence`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTE", requires = "sequence"))]
    pub stdout_offset: Option<u64>,
    /// Byte of standard error to read on from, with `sequence`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTE", requires = "sequence"))]
    pub stderr_offset: Option<u64>,
    /// What its network did instead: every connection, refusal and question, the newest last
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "sequence"))]
    pub network: bool,
    /// With `network`: only entries after this number, the oldest first
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", requires = "network"))]
    pub after: Option<u64>,
    /// Output an answer carries, in bytes: 1 to 1048576. Head and tail, or from the offset on
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTES", default_value_t))]
    pub max_output_bytes: MaxOutputBytes,
}

/// A workspace's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogsAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Commands, oldest first
    pub commands: Vec<CommandEntry>,
    /// Output, when one command was asked for
    pub output: Option<LogOutput>,
    /// Of the network, when it was asked for
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<NetworkEntry>>,
}

/// Output of one command as it is kept on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogOutput {
    /// Standard output; bytes that are not UTF-8 are replaced
    pub stdout: String,
    /// Standard error, likewise
    pub stderr: String,
    /// Bytes of standard output that are kept
    pub stdout_kept_bytes: u64,
    /// Bytes of standard error that are kept
    pub stderr_kept_bytes: u64,
    /// Where standard output goes on; absent at its end or when head and tail were asked for
    pub stdout_next_offset: Option<u64>,
    /// Where standard error goes on, likewise
    pub stderr_next_offset: Option<u64>,
    /// Whether output is missing from this answer
    pub truncated: bool,
}

operation!(WorkspaceExec => CommandAnswer, "workspace_exec", cli: ["workspace", "exec"], python: Some("exec_workspace"),
    mcp: Some("workspace_exec"), Core, Changes, Counts, |request, pyro, _observer| pyro.exec(request));
operation!(ExecWait => CommandAnswer, "workspace_exec_wait", cli: ["workspace", "exec-wait"], python: Some("wait_exec"),
    mcp: Some("workspace_exec_wait"), Core, Reads, Harmless, |request, pyro, _observer| pyro.exec_wait(request));
operation!(ExecKill => ExecKillAnswer, "workspace_exec_kill", cli: ["workspace", "exec-kill"], python: Some("kill_exec"),
    mcp: Some("workspace_exec_kill"), Core, Destroys, Harmless, |request, pyro, _observer| pyro.exec_kill(request));
operation!(Logs => LogsAnswer, "workspace_logs", cli: ["workspace", "logs"], python: Some("workspace_logs"),
    mcp: Some("workspace_logs"), Core, Reads, Harmless, |request, pyro, _observer| pyro.logs(request));
