//! Operations on the disks of a stopped workspace. No machine is started; the files on the host are read.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FileListAnswer, FileReadAnswer, operation::operation};
use crate::{
    limits::{EntryLimit, ReadBytes},
    text::{WorkspacePath, WorkspaceReference},
};

/// List the files of a stopped workspace
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct DiskList {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Folder, absolute or relative to `/workspace`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(value_name = "PATH", default_value_t))]
    pub path: WorkspacePath,
    /// Folders below, too
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub recursive: bool,
    /// Most entries in all: 1 to 100000
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub limit: EntryLimit,
}

/// Read a text file of a stopped workspace
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct DiskRead {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// File, absolute or relative to `/workspace`
    #[cfg_attr(feature = "cli", arg(value_name = "PATH"))]
    pub path: WorkspacePath,
    /// Most bytes in one answer: 1 to 1048576
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTES", default_value_t))]
    pub max_bytes: ReadBytes,
    /// Byte to read on from; `next_offset` of the answer before
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTE", default_value_t))]
    pub offset: u64,
}

/// Write the disk behind `/workspace` of a stopped workspace to a file: a raw image, sparse, with an ext4 file system
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct DiskExport {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// File on the host; there must be none yet
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE"))]
    pub output: PathBuf,
}

/// A disk that was written to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskExportAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// The file on the host
    pub output: String,
    /// Size of the disk
    pub size_bytes: u64,
    /// Bytes the file takes
    pub bytes_written: u64,
}

operation!(DiskList => FileListAnswer, "workspace_disk_list", cli: ["workspace", "disk", "list"], python: Some("list_workspace_disk"),
    mcp: Some("workspace_disk_list"), Full, Reads, Harmless, |request, pyro, _observer| pyro.list_disk(request));
operation!(DiskRead => FileReadAnswer, "workspace_disk_read", cli: ["workspace", "disk", "read"], python: Some("read_workspace_disk"),
    mcp: Some("workspace_disk_read"), Full, Reads, Harmless, |request, pyro, _observer| pyro.read_disk(request));
operation!(DiskExport => DiskExportAnswer, "workspace_disk_export", cli: ["workspace", "disk", "export"],
    python: Some("export_workspace_disk"), mcp: Some("workspace_disk_export"), Full, Changes, Counts,
    |request, pyro, observer| pyro.export_disk(request, observer));
