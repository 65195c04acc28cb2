//! Cheap identities of what the host is made of.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use crate::StoreResult;

/// Returns the id the kernel drew at boot; verdicts that hold until the next boot are stored with it.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Returns a text that changes when the file is replaced: path, inode, size and modification time. A `stat` costs microseconds where
/// asking QEMU for its version costs 40 ms.
///
/// # Errors
/// The file is not there.
pub fn file_identity(path: &Path) -> StoreResult<String> {
    let status = fs_err::metadata(path)?;
    Ok(format!("{}:{}:{}:{}.{}", path.display(), status.ino(), status.size(), status.mtime(), status.mtime_nsec()))
}
