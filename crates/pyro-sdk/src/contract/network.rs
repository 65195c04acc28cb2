//! Operations on what a workspace may reach.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GuestCommand, NetworkPolicy, operation::operation};
use crate::{
    limits::TimeoutSeconds,
    text::{NetworkGroup, NetworkRule, WorkspaceReference},
};

/// Let a workspace reach more, from now on
///
/// Needs a policy with `egress`. Where everything may be reached already, a rule opens an address that is refused unless it is named: private,
/// loopback, the host's own, metadata services.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct NetworkAllow {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// What it may reach: `api.example.com`, `*.example.org`, `203.0.113.7`, `10.0.0.0/8`, each with `:PORT` or `:FROM-TO`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(value_name = "RULE"))]
    pub rules: Vec<NetworkRule>,
    /// Group of rules in `[network_groups]` of config.toml
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long = "allow-group", value_name = "NAME"))]
    pub allow_groups: Vec<NetworkGroup>,
    /// From now on refuse everything that no rule allows
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub only: bool,
}

/// Keep a workspace from reaching something, from now on
///
/// A deny rule wins over every other. Connections it covers are reset.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct NetworkDeny {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// What it may not reach: rules as for `allow`
    #[cfg_attr(feature = "cli", arg(value_name = "RULE", required = true))]
    pub rules: Vec<NetworkRule>,
}

/// Show what a workspace may reach
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct NetworkList {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
}

/// What a workspace may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Its policy
    pub network_policy: NetworkPolicy,
    /// Whether only what `allow` names may be reached
    pub only_allowed: bool,
    /// What may be reached
    pub allow: Vec<String>,
    /// What may not, whatever else says so
    pub deny: Vec<String>,
    /// Connections that a change has ended
    pub ended_connection_count: u64,
}

/// Run a command with egress open, and tell the narrowest allow-list it needed
///
/// Needs a policy with `egress`. Other rules come back when the command ends. Addresses that are refused unless they are named stay refused.
/// The command's exit code is the exit code.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct NetworkLearn {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Name of the group that the rules are told as
    #[serde(default = "learnt_group")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", default_value_t = learnt_group()))]
    pub group: NetworkGroup,
    /// Time the command has, in seconds: 1 to 86400. On the command line 0 means no limit
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS", default_value_t))]
    pub timeout_seconds: TimeoutSeconds,
    /// The command: a list of arguments run as it is, or a string run by `sh -c`
    #[cfg_attr(feature = "cli", command(flatten))]
    pub command: GuestCommand,
}

fn learnt_group() -> NetworkGroup {
    "learnt".parse().expect("a name")
}

/// What a command needed of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkLearnAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Number of the command in the journal
    pub sequence: u64,
    /// The command's exit code; absent when it ended otherwise
    pub exit_code: Option<i32>,
    /// Whether its time was up
    pub timed_out: bool,
    /// The narrowest rules that allow what it reached
    pub rules: Vec<String>,
    /// The rules as flags of `workspace create`
    pub flags: String,
    /// The rules as a group for config.toml
    pub group: String,
    /// What was refused even so, by the narrowest rule that would allow it
    pub refused: Vec<String>,
}

/// An entry of a workspace's network log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkEntry {
    /// Counts from 1
    pub sequence: u64,
    /// When it happened
    pub at: String,
    /// `opened`, `closed`, `refused`, `unreachable`, `question`, `secret`, `rules` or `lost`
    pub event: String,
    /// Hash of the entry and the one before
    pub hash: String,
    /// What belongs to it: `flow`, `protocol`, `destination`, `name`, `rule`, `reason`, `would_allow`, `sent_bytes`, `received_bytes`,
    /// `duration_ms`, `end`, `question_type`, `outcome`, `addresses`, `secret`
    #[serde(flatten)]
    pub detail: BTreeMap<String, Value>,
}

/// Check that network logs are whole: no entry changed, taken out or put in
///
/// On the command line the exit code is 1 when one is not. A newest hash that is kept elsewhere proves everything before it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct AuditVerify {
    /// Workspace: its name, its id, or the beginning of its id; all by default
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: Option<WorkspaceReference>,
}

/// What became of the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditAnswer {
    /// Whether every log is whole
    pub whole: bool,
    /// The logs
    pub logs: Vec<AuditedLog>,
}

/// A network log that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditedLog {
    /// Id of the workspace
    pub workspace_id: String,
    /// Its name
    pub name: Option<String>,
    /// Whether it is whole
    pub whole: bool,
    /// What is wrong with it
    pub problem: Option<String>,
    /// Number of the oldest entry kept; 0 without any
    pub oldest_sequence: u64,
    /// Number of the newest entry
    pub newest_sequence: u64,
    /// Its hash; kept elsewhere, it proves all before it
    pub newest_hash: String,
}

operation!(NetworkAllow => NetworkAnswer, "network_allow", cli: ["workspace", "network", "allow"], python: Some("allow_network"),
    mcp: Some("network_allow"), Full, Changes, Harmless, |request, pyro, _observer| pyro.allow_network(request));
operation!(NetworkDeny => NetworkAnswer, "network_deny", cli: ["workspace", "network", "deny"], python: Some("deny_network"),
    mcp: Some("network_deny"), Full, Changes, Harmless, |request, pyro, _observer| pyro.deny_network(request));
operation!(NetworkList => NetworkAnswer, "network_list", cli: ["workspace", "network", "list"], python: Some("list_network"),
    mcp: Some("network_list"), Full, Reads, Harmless, |request, pyro, _observer| pyro.list_network(&request));
operation!(NetworkLearn => NetworkLearnAnswer, "network_learn", cli: ["network", "learn"], python: Some("learn_network"),
    mcp: None, None, Changes, Counts, |request, pyro, observer| pyro.learn_network(request, observer));
operation!(AuditVerify => AuditAnswer, "audit_verify", cli: ["audit", "verify"], python: Some("verify_audit"),
    mcp: None, None, Reads, Harmless, |request, pyro, _observer| pyro.verify_audit(request));
