//! How persisted files are written: aside, synced, renamed.

use std::{io::Write as _, path::Path};

use crate::StoreResult;

/// Replaces `path` with `bytes` so that a reader sees the old or the new content, also after a power cut.
///
/// # Errors
/// Any step fails; the old file is then untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> StoreResult<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.join(format!(".{name}.{}", crate::ids::random_hex(8)));
    let write = || -> std::io::Result<()> {
        let mut file = fs_err::File::create_new(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs_err::rename(&aside, path)?;
        fs_err::File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&aside)))?;
    Ok(())
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// The file is there and cannot be removed.
pub fn remove_if_present(path: &Path) -> StoreResult<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
