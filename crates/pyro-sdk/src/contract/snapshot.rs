//! Operations that go back in time or multiply: snapshots, reset, fork.

use pyro_store::WorkspaceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{WorkspaceStatus, operation::operation};
use crate::{
    limits::ForkCount,
    text::{SnapshotReference, WorkspaceReference},
};

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SnapshotKind {
    /// The workspace as it was made: its seed, no packages
    Baseline,
    /// Both disks
    Disk,
    /// Both disks, memory and processes
    Live,
}

impl SnapshotKind {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Disk => "disk",
            Self::Live => "live",
        }
    }
}

/// A snapshot of a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Id of the workspace
    pub workspace_id: String,
    /// Its name, unique within the workspace
    pub snapshot_name: String,
    /// What it holds
    pub kind: SnapshotKind,
    /// Files, folders and links in `/workspace`
    pub entry_count: u64,
    /// Bytes it takes on the host's disk by itself; what it shares with the workspace is not counted
    pub bytes_written: u64,
    /// Of a live one: bytes of guest memory in it
    pub memory_bytes: u64,
    /// How long no guest instruction ran while it was taken; only in the answer to its creation, and of a running workspace
    pub pause_ms: Option<f64>,
    /// When it was taken
    pub created_at: String,
    /// Whether it can be deleted; the baseline cannot
    pub deletable: bool,
    /// Whether memory is in it that may hold secrets
    pub may_hold_secrets: bool,
    /// Whether processes cannot be brought back any more because Pyro or QEMU was updated; its disks can
    pub stale: bool,
}

/// Keep a workspace as it is now under a name, to reset to it or to compare with it
///
/// Both disks are kept: `/workspace` and installed packages.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SnapshotCreate {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Name, unique within the workspace: 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit; not `baseline`
    #[cfg_attr(feature = "cli", arg(value_name = "NAME"))]
    pub name: SnapshotReference,
    /// Memory and processes, too: a reset to it goes on with them. Memory may hold secrets
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub live: bool,
}

/// List a workspace's snapshots, the baseline first, then by age
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SnapshotList {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
}

/// A workspace's snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotListAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// The baseline first, then by age
    pub snapshots: Vec<Snapshot>,
}

/// Delete a snapshot of a workspace
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SnapshotDelete {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Name of the snapshot
    #[cfg_attr(feature = "cli", arg(value_name = "NAME"))]
    pub name: SnapshotReference,
}

/// A snapshot that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotDeleted {
    /// Id of the workspace
    pub workspace_id: String,
    /// The name it had
    pub snapshot_name: String,
    /// Always true
    pub deleted: bool,
}

/// Reset a workspace: throw away what was done since it was made
///
/// Id, name, labels, snapshots and what `diff` compares with stay. The journal and all processes go.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceReset {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Snapshot to go back to: both disks as they were then, and the processes of a live one. Without it, the baseline: the seed in
    /// `/workspace`, no packages
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME"))]
    pub snapshot: Option<SnapshotReference>,
}

/// Make copies of a workspace, its running processes included
///
/// Memory and disks are shared until one side changes them. Of a stopped workspace the disks are copied, and the copies run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceFork {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Name of the copy; several are called `NAME-1`, `NAME-2` and so on
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "cli", arg(long))]
    pub name: Option<WorkspaceName>,
    /// How many copies: 1 to 100
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub count: ForkCount,
}

/// Copies of a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceForkAnswer {
    /// Id of the workspace that was copied
    pub workspace_id: String,
    /// The copies
    pub forks: Vec<WorkspaceStatus>,
}

operation!(SnapshotCreate => Snapshot, "snapshot_create", cli: ["workspace", "snapshot", "create"], python: Some("create_snapshot"),
    mcp: Some("snapshot_create"), Full, Changes, Counts, |request, pyro, observer| pyro.create_snapshot(&request, observer));
operation!(SnapshotList => SnapshotListAnswer, "snapshot_list", cli: ["workspace", "snapshot", "list"], python: Some("list_snapshots"),
    mcp: Some("snapshot_list"), Full, Reads, Harmless, |request, pyro, _observer| pyro.list_snapshots(&request));
operation!(SnapshotDelete => SnapshotDeleted, "snapshot_delete", cli: ["workspace", "snapshot", "delete"],
    python: Some("delete_snapshot"), mcp: Some("snapshot_delete"), Full, Destroys, Harmless,
    |request, pyro, observer| pyro.delete_snapshot(&request, observer));
operation!(WorkspaceReset => WorkspaceStatus, "workspace_reset", cli: ["workspace", "reset"], python: Some("reset_workspace"),
    mcp: Some("workspace_reset"), Core, Destroys, Harmless, |request, pyro, observer| pyro.reset_workspace(&request, observer));
operation!(WorkspaceFork => WorkspaceForkAnswer, "workspace_fork", cli: ["workspace", "fork"], python: Some("fork_workspace"),
    mcp: Some("workspace_fork"), Full, Changes, Counts, |request, pyro, observer| pyro.fork_workspace(&request, observer));
