//! Operations that move trees: into a workspace, and its changes out of it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ArtifactType, operation::operation};
use crate::text::{DiffReference, PatchText, WorkspacePath, WorkspaceReference};

/// Something that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Its path
    pub path: String,
    /// Why
    pub reason: String,
}

impl From<pyro_tree::LeftOut> for LeftOut {
    fn from(left: pyro_tree::LeftOut) -> Self {
        Self { path: left.path, reason: left.reason }
    }
}

/// A difference between Git in the workspace and Git on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceNote {
    /// Repository, as a path in the source
    pub path: String,
    /// The difference, and what to do about it
    pub text: String,
}

impl From<pyro_tree::Note> for SourceNote {
    fn from(note: pyro_tree::Note) -> Self {
        Self { path: note.path, text: note.text }
    }
}

/// Copy a folder or an archive of the host into a running workspace, all of it or nothing
///
/// In a Git checkout tracked files and untracked ones that are not ignored are taken. A pushed file replaces an existing link; a push onto
/// a FIFO, a socket or a device is refused.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SyncPush {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Folder on the host, or a `.tar`, `.tar.gz`, `.tgz` or `.tar.zst`
    #[cfg_attr(feature = "cli", arg(value_name = "SOURCE"))]
    pub source: PathBuf,
    /// Folder that takes it, absolute or relative to `/workspace`; made when it is missing
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH", default_value_t))]
    pub dest: WorkspacePath,
    /// Make the folder exactly like the source: what else it holds goes
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub delete: bool,
    /// Take ignored files of a Git checkout, too
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub all: bool,
    /// Leave `.git` out. Without `delete` it always is, for the workspace may have commits of its own
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_git: bool,
    /// Fail when a file of the source cannot be read, instead of leaving it out
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub strict: bool,
}

/// What was copied into a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncPushAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Folder that took it
    pub dest: String,
    /// What the source was: `directory`, `git` or `archive`
    pub origin_kind: String,
    /// Commit of a Git checkout
    pub origin_ref: Option<String>,
    /// Files, folders and links
    pub entry_count: u64,
    /// Bytes of files
    pub bytes_written: u64,
    /// Entries that were taken away
    pub removed_count: u64,
    /// What was not taken, the first 1000
    pub left_out: Vec<LeftOut>,
    /// How much was not taken
    pub left_out_count: u64,
    /// How Git in the workspace differs from Git on the host: missing filters, objects that were not fetched
    #[serde(default)]
    pub notes: Vec<SourceNote>,
}

/// Apply a unified diff to a workspace: all files or none
///
/// Output of `git diff`, `git format-patch`, `diff -ru` and the like: new, changed, deleted, renamed and copied files, modes, links and binary
/// files. Links are patched as links, as Git does. A series of commits is applied in order. If a hunk does not fit, the error shows it and what the file contains instead.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct PatchApply {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// The patch: at most 4 MiB and 1000 files
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true,
            allow_hyphen_values = true,
            required_unless_present = "patch_file",
            conflicts_with = "patch_file"
        )
    )]
    pub patch: PatchText,
    /// Only say whether it fits
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub check: bool,
}

/// What a patch does to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatchedFile {
    /// The file
    pub path: String,
    /// `added`, `modified`, `deleted`, `renamed`, `copied`, `mode_changed` or `type_changed`
    pub change: String,
    /// Where a renamed or copied file comes from
    pub old_path: Option<String>,
}

/// What became of a patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PatchApplyAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Whether it was applied; false when it was only checked
    pub applied: bool,
    /// Its files
    pub files: Vec<PatchedFile>,
    /// Parts that change no file, the first 1000: submodules, and what a comparison of directories only mentions
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// How many such parts there are
    #[serde(default)]
    pub left_out_count: u64,
}

/// Show what has changed in a workspace since it was made
///
/// The patch can be applied with `git apply`; files that are not text are entries without one. `.git` is left out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Only which files, and how many lines
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub stat: bool,
    /// Compare with a snapshot instead of the baseline, or with `host`: what the host last provided, by its seed and later pushes
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SNAPSHOT"))]
    pub against: Option<DiffReference>,
    /// Include new files that the seed's ignore rules exclude
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub include_ignored: bool,
}

/// How much has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffSummary {
    /// Entries that are different
    pub entry_count: u64,
    /// New ones
    pub added: u64,
    /// Changed ones, in content, mode or type
    pub modified: u64,
    /// Ones that are gone
    pub deleted: u64,
    /// Ones that have another name
    pub renamed: u64,
    /// Lines that are new
    pub insertions: u64,
    /// Lines that are gone
    pub deletions: u64,
    /// Entries whose content is not shown: not text, or too large
    pub binary: u64,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffItem {
    /// Path, relative to `/workspace`
    pub path: String,
    /// Where a renamed one was
    pub old_path: Option<String>,
    /// `added`, `modified`, `deleted`, `renamed`, `mode_changed` or `type_changed`
    pub change: String,
    /// What it is, or was when it is gone
    pub artifact_type: ArtifactType,
    /// Whether its content is not shown: not text, or too large
    pub binary: bool,
    /// Permission bits before, in octal
    pub old_mode: Option<String>,
    /// Permission bits now, in octal
    pub new_mode: Option<String>,
    /// Lines that are new
    pub insertions: u64,
    /// Lines that are gone
    pub deletions: u64,
    /// Bytes before
    pub old_size_bytes: Option<u64>,
    /// Bytes now
    pub new_size_bytes: Option<u64>,
}

/// What has changed in a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// What it was compared with: `baseline`, `host` or a snapshot
    pub against: String,
    /// Whether anything is different
    pub changed: bool,
    /// How much
    pub summary: DiffSummary,
    /// Every difference, by path
    pub entries: Vec<DiffItem>,
    /// The patch; absent when only the figures were asked for
    pub patch: Option<PatchText>,
    /// Whether parts were left out of the patch because it would have been too large; entries has all
    pub truncated: bool,
    /// New files and links excluded by the seed's ignore rules
    pub ignored_count: u64,
}

/// Copy a file or a folder of a workspace to the host
///
/// Links are copied as links and never followed. `.git` is left out unless the path names it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// File or folder, absolute or relative to `/workspace`
    #[cfg_attr(feature = "cli", arg(value_name = "PATH"))]
    pub path: WorkspacePath,
    /// Path on the host that becomes the file or folder
    #[cfg_attr(feature = "cli", arg(long, value_name = "HOSTPATH"))]
    pub output: PathBuf,
    /// Replace what is there, but no folder that holds something which is not exported
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
}

/// What was copied to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// What was copied
    pub path: String,
    /// What it is
    pub artifact_type: ArtifactType,
    /// Where it is now, on the host
    pub output: String,
    /// Files, folders and links
    pub entry_count: u64,
    /// Bytes of files
    pub bytes_written: u64,
    /// What was not taken: sockets, devices, `.git` below the path
    pub left_out: Vec<LeftOut>,
    /// Files to look at before anything on the host runs them, the first 1000; paths are relative to the output
    pub hazards: Vec<AppliedHazard>,
}

/// Bring a workspace's changes home, into the folder it was seeded from: all of them or none
///
/// Where a push with `delete` has replaced the whole of `/workspace`, its folder is the one. The answer names it; a dry run shows it first.
///
/// Every file gets a verdict: `clean`, `conflict` when it was changed on the host too, `already_there`, or `left_out` when
/// it would become part of a Git repository of its own, which is never written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Folder on the host that takes the changes, instead of the one it was seeded from
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "HOSTDIR"))]
    pub to: Option<PathBuf>,
    /// Only give the verdicts
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub dry_run: bool,
    /// Overwrite files that were changed on the host as well; with `undo`, also files changed since the apply
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
    /// Take the last one back: files become what they were before it
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, conflicts_with_all = ["to", "dry_run", "include_ignored"]))]
    pub undo: bool,
    /// Include new files that the seed's ignore rules exclude
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub include_ignored: bool,
}

/// What bringing a file home means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedFile {
    /// Path, relative to the folder
    pub path: String,
    /// `added`, `modified`, `deleted`, `mode_changed` or `type_changed`
    pub change: String,
    /// `clean`, `conflict`, `already_there` or `left_out`
    pub verdict: String,
    /// Why it is a conflict, or left out
    pub reason: Option<String>,
}

/// A file that may run on the host by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedHazard {
    /// Path, relative to the folder
    pub path: String,
    /// What may run it
    pub why: String,
}

/// What was brought home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Folder on the host
    pub target: String,
    /// Whether files of the host were changed
    pub applied: bool,
    /// Whether this took an earlier one back
    pub undone: bool,
    /// Files, folders and links of the host that were written
    pub written_count: u64,
    /// Ones that were taken away
    pub removed_count: u64,
    /// Every difference, with its verdict; none for an undo
    pub files: Vec<AppliedFile>,
    /// Files to look at before anything on the host runs them
    pub hazards: Vec<AppliedHazard>,
    /// New files and links excluded by the seed's ignore rules
    pub ignored_count: u64,
}

operation!(SyncPush => SyncPushAnswer, "workspace_sync_push", cli: ["workspace", "sync", "push"], python: Some("push_workspace_sync"),
    mcp: Some("workspace_sync_push"), Core, Destroys, Harmless, |request, pyro, observer| pyro.sync_push(request, observer));
operation!(PatchApply => PatchApplyAnswer, "workspace_patch_apply", cli: ["workspace", "patch", "apply"],
    python: Some("apply_workspace_patch"), mcp: Some("workspace_patch_apply"), Core, Destroys, Counts,
    |request, pyro, _observer| pyro.apply_patch(request));
operation!(Diff => DiffAnswer, "workspace_diff", cli: ["workspace", "diff"], python: Some("diff_workspace"),
    mcp: Some("workspace_diff"), Core, Reads, Harmless, |request, pyro, observer| pyro.diff(request, observer));
operation!(Export => ExportAnswer, "workspace_export", cli: ["workspace", "export"], python: Some("export_workspace"),
    mcp: Some("workspace_export"), Core, Destroys, Harmless, |request, pyro, observer| pyro.export(request, observer));
operation!(Apply => ApplyAnswer, "workspace_apply", cli: ["workspace", "apply"], python: Some("apply_workspace"),
    mcp: Some("workspace_apply"), Full, Destroys, Harmless, |request, pyro, observer| pyro.apply(request, observer));
