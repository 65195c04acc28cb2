//! The operation that tells what happened in a workspace, in order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::operation;
use crate::{limits::EventLimit, text::WorkspaceReference};

/// Show what happened in a workspace, in order
///
/// Commands, edits, shells, services, ports, snapshots, resets. The newest 10000 are kept, over stops and resets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceEvents {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Sequence to read on after; `next_cursor` of the answer before
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub cursor: u64,
    /// Most events in one answer: 1 to 10000
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub limit: EventLimit,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Counts from 1
    pub sequence: u64,
    /// When it happened
    pub at: String,
    /// What kind of thing, for example `command_end` or `service_ready`
    pub kind: String,
    /// What belongs to it
    pub detail: serde_json::Value,
}

/// What happened in a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceEventsAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Events, oldest first
    pub events: Vec<Event>,
    /// Sequence to read on after
    pub next_cursor: u64,
    /// Whether there are more than the limit
    pub truncated: bool,
    /// Sequence of the oldest event that is kept, when older ones were asked for
    pub truncated_before: Option<u64>,
}

operation!(WorkspaceEvents => WorkspaceEventsAnswer, "workspace_events", cli: ["workspace", "events"], python: Some("workspace_events"),
    mcp: Some("workspace_events"), Full, Reads, Harmless, |request, pyro, _observer| pyro.events(&request));
