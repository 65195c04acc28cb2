//! How two trees differ: a patch in Git's format, and an entry for everything, also for what no patch carries.
//!
//! The patch passes `git apply` on the tree it starts from and makes text, links and modes what they are on the other side. Git would
//! refuse a patch that names a binary file without its content, so those are named before the first header, where it skips them. Folders
//! are entries only. The same differences always give the same bytes: sorted by path, names quoted as with `core.quotePath`.

mod quote;
mod render;
mod stat;
mod text;

use std::path::PathBuf;

pub use self::render::render;
use crate::{entry::EntryKind, path::TreePath};

/// Content of one side of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A folder.
    None,
    /// A file's bytes.
    Bytes(Vec<u8>),
    /// A file's bytes, spooled to a host file because they are many. Whoever made it removes it.
    Spooled(PathBuf),
    /// The SHA-256 of a file's bytes: enough to judge it, not to render or land it.
    Digested([u8; 32]),
    /// A file whose bytes nobody read; it can be listed, not rendered and not landed.
    TooLarge,
    /// A link's target, as it is written in it.
    Link(Vec<u8>),
}

/// One side of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// What it is.
    pub kind: EntryKind,
    /// Its permission bits.
    pub mode: u32,
    /// Size of a file.
    pub size_bytes: u64,
    /// What it holds.
    pub content: Content,
}

/// An entry that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where it lies.
    pub path: TreePath,
    /// How it was; `None` when it was not there.
    pub before: Option<Side>,
    /// How it is; `None` when it is gone.
    pub after: Option<Side>,
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It is new.
    Added,
    /// Its content is another one, and perhaps its mode.
    Modified,
    /// It is gone.
    Deleted,
    /// It has the content of one that is gone.
    Renamed,
    /// It is of another kind.
    TypeChanged,
    /// Only its permission bits differ.
    ModeChanged,
}

impl Change {
    /// Returns the stable name used by `--json` and MCP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::TypeChanged => "type_changed",
            Self::ModeChanged => "mode_changed",
        }
    }
}

/// One entry of a rendered diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffEntry {
    /// Where it lies now.
    pub path: TreePath,
    /// Of a renamed one, where it lay.
    pub old_path: Option<TreePath>,
    /// What happened to it.
    pub change: Change,
    /// What it is now, or was when it is gone.
    pub kind: EntryKind,
    /// Its content is not text, or too large to be compared; the patch does not carry it.
    pub binary: bool,
    /// Permission bits before.
    pub old_mode: Option<u32>,
    /// Permission bits now.
    pub new_mode: Option<u32>,
    /// Lines added.
    pub insertions: u64,
    /// Lines taken away.
    pub deletions: u64,
    /// Size before.
    pub old_size: Option<u64>,
    /// Size now.
    pub new_size: Option<u64>,
}

/// What a rendering may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffLimits {
    /// Files larger than this are listed like binary ones.
    pub text_max_bytes: u64,
    /// Patch text ends before the first file that would make it longer; the entries go on.
    pub patch_max_bytes: u64,
    /// Whether a new file with exactly the content of a deleted one is shown as a rename.
    pub renames: bool,
}

impl Default for DiffLimits {
    fn default() -> Self {
        Self { text_max_bytes: 32 << 20, patch_max_bytes: 256 << 20, renames: true }
    }
}

/// A rendered diff.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffReport {
    /// Patch for `git apply`: text files, links, modes. Binary files are only named in it.
    pub patch: Vec<u8>,
    /// Every difference, sorted by path.
    pub entries: Vec<DiffEntry>,
    /// Lines added in all.
    pub insertions: u64,
    /// Lines taken away in all.
    pub deletions: u64,
    /// The patch lacks files since it would have grown too long.
    pub truncated: bool,
}

impl DiffReport {
    /// Returns what `git diff --stat` shows, `columns` wide.
    #[must_use]
    pub fn stat(&self, columns: usize) -> String {
        stat::stat(&self.entries, columns)
    }
}

#[cfg(test)]
mod tests;
