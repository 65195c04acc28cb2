//! What an entry of the tree is.

use bytes::Bytes;
use pyro_proto::v1::{FileKind, FileStatus};
use rustix::fs::{FileType, Stat};

/// Puts what fstat(2) says of an entry on the wire.
pub(crate) fn status(path: Bytes, stat: &Stat, link_target: Bytes) -> FileStatus {
    FileStatus {
        path,
        kind: kind(stat).into(),
        mode: stat.st_mode & 0o7777,
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        link_target,
        version: Bytes::from(version(stat)),
    }
}

/// Returns a value that changes whenever the entry does: its inode, and what the kernel moves with every write, rename and `chmod`.
///
/// The kernel's clock for these moves in steps of a few milliseconds: two writes of as many bytes within one step look the same.
pub(crate) fn version(stat: &Stat) -> Vec<u8> {
    let mut version = Vec::with_capacity(36);
    version.extend_from_slice(&stat.st_ino.to_le_bytes());
    version.extend_from_slice(&nanoseconds(stat.st_ctime, stat.st_ctime_nsec).to_le_bytes());
    version.extend_from_slice(&stat.st_size.to_le_bytes());
    version.extend_from_slice(&nanoseconds(stat.st_mtime, stat.st_mtime_nsec).to_le_bytes());
    version.extend_from_slice(&stat.st_mode.to_le_bytes());
    version
}

pub(crate) fn kind(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Link,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice => FileKind::Device,
        FileType::Unknown => FileKind::Other,
    }
}

/// Names what is never opened and never replaced by a file; None for files, directories and links.
pub(crate) fn special(stat: &Stat) -> Option<&'static str> {
    match kind(stat) {
        FileKind::File | FileKind::Directory | FileKind::Link => None,
        FileKind::Fifo => Some("a FIFO"),
        FileKind::Socket => Some("a socket"),
        FileKind::Device => Some("a device"),
        FileKind::Other | FileKind::Unspecified => Some("of an unknown kind"),
    }
}

pub(crate) fn is_folder(stat: &Stat) -> bool {
    kind(stat) == FileKind::Directory
}

fn nanoseconds(seconds: i64, nanoseconds: u64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add_unsigned(nanoseconds)
}
