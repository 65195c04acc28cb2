//! The operation that tells in short what was done in a workspace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommandEntry, DiffItem, DiffSummary, ServiceInBrief, WorkspaceState, operation::operation};
use crate::text::WorkspaceReference;

/// Show in short what was done in a workspace since its last reset: commands, services, edits, and what has changed
///
/// Short enough for a pull request.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Include new files that the seed's ignore rules exclude
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub include_ignored: bool,
}

/// What was done in a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SummaryAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Its name
    pub name: Option<String>,
    /// Environment it was made from
    pub environment: String,
    /// Where it is in its life
    pub state: WorkspaceState,
    /// When the summary begins: at the last reset, else when the workspace was made
    pub since: String,
    /// Commands so far
    pub command_count: u64,
    /// Commands that ended with something else than 0
    pub failed_command_count: u64,
    /// The newest commands, at most 20, oldest first
    pub commands: Vec<CommandEntry>,
    /// Changes that came from outside: pushes, written files, patches
    pub edit_count: u64,
    /// Files and folders copied to the host
    pub export_count: u64,
    /// Snapshots, without the baseline
    pub snapshot_count: u64,
    /// Shells that were opened
    pub shell_count: u64,
    /// Services
    pub service_count: u64,
    /// The services and what has become of them, by name
    pub services: Vec<ServiceInBrief>,
    /// How often a service ended with a failure, those included that were started again
    pub service_failure_count: u64,
    /// Ports that were published
    pub port_count: u64,
    /// What has changed in `/workspace` since the baseline
    pub diff: DiffSummary,
    /// The differences, at most 50, by path
    pub entries: Vec<DiffItem>,
    /// New files and links excluded by the seed's ignore rules
    pub ignored_count: u64,
    /// The same as text, in Markdown
    pub markdown: String,
}

operation!(Summary => SummaryAnswer, "workspace_summary", cli: ["workspace", "summary"], python: Some("summarize_workspace"),
    mcp: Some("workspace_summary"), Core, Reads, Harmless, |request, pyro, observer| pyro.summary(request, observer));
