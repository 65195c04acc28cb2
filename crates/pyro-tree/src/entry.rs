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

/// A moment as file systems keep it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970, rounded down.
    pub seconds: i64,
    /// What goes beyond them, below 1 000 000 000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Returns the beginning of a second.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// Returns when something on the host was changed last.
    #[must_use]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self { seconds: metadata.mtime(), nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or(0) }
    }

    /// Returns the nanoseconds since 1970; what does not fit, before 1677 or after 2262, becomes the first or the last that does.
    #[must_use]
    pub fn since_1970_ns(self) -> i64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nanoseconds))
    }

    /// Returns the moment so many nanoseconds after 1970.
    #[must_use]
    pub fn from_ns(nanoseconds: i64) -> Self {
        let below = nanoseconds.rem_euclid(1_000_000_000);
        Self { seconds: nanoseconds.div_euclid(1_000_000_000), nanoseconds: u32::try_from(below).unwrap_or(0) }
    }
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
    /// When it was changed last.
    pub mtime: Timestamp,
    /// Of a link, as it is written in it.
    pub link_target: Option<Vec<u8>>,
}
