//! What a tree consists of: files, folders and symbolic links, nothing else.
//!
//! Devices, FIFOs and sockets never become an `Entry`: whoever reads a tree leaves them out and says so. A hard link is a file of its own.

use serde::{Deserialize, Serialize};

use crate::path::TreePath;

/// Permission bits an entry can have, set-user-id and its like included.
pub const MODE_MASK: u32 = 0o7777;

/// Kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Link,
}

/// One entry of a tree, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: TreePath,
    /// What it is.
    pub kind: EntryKind,
    /// Its permission bits; 0777 for a link.
    pub mode: u32,
    /// Size of a file; 0 for everything else.
    pub size_bytes: u64,
    /// Seconds since 1970 of its last change.
    pub mtime_seconds: i64,
    /// Of a link, as it is written in it.
    pub link_target: Option<Vec<u8>>,
}
