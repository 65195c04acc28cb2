//! Operations on single files of `/workspace`.
//!
//! Paths in answers are relative to `/workspace`; both forms are accepted in requests. Bytes of a name
//! that are not UTF-8 are shown as `\xNN`; a request names such a file by the list of its path's bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::operation;
use crate::{
    limits::{EntryLimit, MatchLimit, ReadBytes},
    text::{FileText, Glob, LineRange, SearchPattern, WorkspacePath, WorkspaceReference},
};

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ArtifactType {
    /// A regular file
    File,
    /// A folder
    Directory,
    /// A symbolic link
    Symlink,
    /// A FIFO, a socket or a device
    Other,
}

impl ArtifactType {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Other => "other",
        }
    }
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Path, relative to `/workspace`
    pub path: String,
    /// What it is
    pub artifact_type: ArtifactType,
    /// Bytes of a file
    pub size_bytes: u64,
    /// Permission bits, in octal
    pub mode: String,
    /// When its content last changed
    pub modified_at: String,
    /// What a link says
    pub link_target: Option<String>,
}

/// List the files of a workspace, or of one of its folders
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct FileList {
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
    /// Only entries that match, for example `*.rs` or `src/**/test_*`; a pattern with `/` is matched from the folder on, and looks into
    /// the folders below
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATTERN"))]
    pub glob: Option<Glob>,
    /// Most entries in all: 1 to 100000
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub limit: EntryLimit,
}

/// Entries of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileListAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// What was listed
    pub path: String,
    /// Entries, folders before what is in them, by name
    pub entries: Vec<FileEntry>,
    /// Whether there are more than the limit
    pub truncated: bool,
}

/// Read a text file of a workspace
///
/// A file that is not UTF-8 text answers its size and type, and no content. Links within `/workspace` are followed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct FileRead {
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
    /// Lines to read, counted from 1: `A:B` with both ends, `A:` or `:B`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "A:B", conflicts_with = "offset"))]
    pub lines: Option<LineRange>,
}

/// Content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileReadAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// The file
    pub path: String,
    /// What it is
    pub artifact_type: ArtifactType,
    /// Bytes of it in all
    pub size_bytes: u64,
    /// Whether it is not UTF-8 text
    pub binary: bool,
    /// What its content looks like, for example `text/plain` or `image/png`
    pub media_type: String,
    /// The text; absent when it is none
    pub content: Option<String>,
    /// Byte at which the text begins
    pub offset: u64,
    /// Byte at which to read on; absent at the end
    pub next_offset: Option<u64>,
    /// Whether what was asked for did not fit into the answer
    pub truncated: bool,
    /// Where the path led, if it goes through a link
    pub link_target: Option<String>,
}

/// Write a text file in a workspace, replacing it as a whole
///
/// Missing directories above it are created. An existing file is replaced atomically and keeps its mode and owner; other hard links
/// to it keep the old content. Through a symbolic link within `/workspace` its target is written, and created if it is missing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct FileWrite {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// File, absolute or relative to `/workspace`
    #[cfg_attr(feature = "cli", arg(value_name = "PATH"))]
    pub path: WorkspacePath,
    /// The text: UTF-8, at most 1 MiB
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true,
            allow_hyphen_values = true,
            required_unless_present = "text_file",
            conflicts_with = "text_file"
        )
    )]
    pub text: FileText,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileWriteAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// The file
    pub path: String,
    /// File that was written, if the path goes through a link
    pub link_target: Option<String>,
    /// Bytes of it
    pub bytes_written: u64,
}

/// Replace text in a file of a workspace
///
/// The text must match exactly, and once; with `all` as often as it likes. Through a symbolic link within `/workspace` its target is
/// changed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct FileReplace {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// File, absolute or relative to `/workspace`; at most 16 MiB
    #[cfg_attr(feature = "cli", arg(value_name = "PATH"))]
    pub path: WorkspacePath,
    /// Text that is there; at most 1 MiB
    #[cfg_attr(feature = "cli", arg(long, value_name = "TEXT", allow_hyphen_values = true))]
    pub old: FileText,
    /// Text to put in its place; at most 1 MiB
    #[cfg_attr(feature = "cli", arg(long, value_name = "TEXT", allow_hyphen_values = true))]
    pub new: FileText,
    /// Everywhere in the file
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub all: bool,
}

/// A file in which text was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileReplaceAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// The file
    pub path: String,
    /// File that was changed, if the path goes through a link
    pub link_target: Option<String>,
    /// How often the text was replaced
    pub replacement_count: u64,
    /// Bytes of the file now
    pub bytes_written: u64,
}

/// Search the text files of a workspace for a regular expression
///
/// Binary files and the folders of version control systems are left out. Links are not followed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct FileSearch {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Regular expression, matched within a line; `(?i)` in front ignores case
    #[cfg_attr(feature = "cli", arg(value_name = "PATTERN", allow_hyphen_values = true))]
    pub pattern: SearchPattern,
    /// Folder or file to search, absolute or relative to `/workspace`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH", default_value_t))]
    pub path: WorkspacePath,
    /// Only files that match, for example `*.rs`; a pattern with `/` is matched from the folder on
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATTERN"))]
    pub glob: Option<Glob>,
    /// Most lines in the answer: 1 to 1000
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub max: MatchLimit,
}

/// A line that matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SearchMatch {
    /// The file, relative to `/workspace`
    pub path: String,
    /// Number of the line, from 1
    pub line: u64,
    /// The line; a long one is cut around its first match
    pub text: String,
}

/// Lines that match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileSearchAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// Matching lines, by path and line
    pub matches: Vec<SearchMatch>,
    /// Text files that were searched
    pub file_count: u64,
    /// Files that were left out because they are binary
    pub binary_count: u64,
    /// Whether there are more lines than the limit, or the time for one answer was over
    pub truncated: bool,
}

operation!(FileList => FileListAnswer, "workspace_file_list", cli: ["workspace", "file", "list"], python: Some("list_workspace_files"),
    mcp: Some("workspace_file_list"), Core, Reads, Harmless, |request, pyro, _observer| pyro.list_files(request));
operation!(FileRead => FileReadAnswer, "workspace_file_read", cli: ["workspace", "file", "read"], python: Some("read_workspace_file"),
    mcp: Some("workspace_file_read"), Core, Reads, Harmless, |request, pyro, _observer| pyro.read_file(request));
operation!(FileWrite => FileWriteAnswer, "workspace_file_write", cli: ["workspace", "file", "write"], python: Some("write_workspace_file"),
    mcp: Some("workspace_file_write"), Core, Destroys, Harmless, |request, pyro, _observer| pyro.write_file(request));
operation!(FileReplace => FileReplaceAnswer, "workspace_file_replace", cli: ["workspace", "file", "replace"],
    python: Some("replace_in_workspace_file"), mcp: Some("workspace_file_replace"), Core, Destroys, Counts,
    |request, pyro, _observer| pyro.replace_in_file(request));
operation!(FileSearch => FileSearchAnswer, "workspace_file_search", cli: ["workspace", "file", "search"],
    python: Some("search_workspace_files"), mcp: Some("workspace_file_search"), Core, Reads, Harmless,
    |request, pyro, _observer| pyro.search_files(request));
