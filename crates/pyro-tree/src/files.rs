//! Small things done with host files in several places: writing aside, names nobody else has, digests, and the kind of an I/O error.

use std::{
    io::{self, Read},
    path::Path,
};

use pyro_proto::error::ErrorKind;
use sha2::{Digest as _, Sha256};

/// Bytes copied or hashed at a time.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// Returns the kind of an I/O error on the host.
pub(crate) fn error_kind(error: &io::Error) -> ErrorKind {
    if error.kind() == io::ErrorKind::NotFound {
        ErrorKind::NotFound
    } else if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) {
        ErrorKind::PermissionDenied
    } else if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        ErrorKind::HostDiskFull
    } else {
        ErrorKind::Io
    }
}

/// Returns lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Returns a suffix that no other file has.
pub(crate) fn unique_suffix() -> io::Result<String> {
    let mut bytes = [0_u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(hex(&bytes))
}

/// Replaces `path` with what `write` writes, so that a reader sees the old or the new content, also after a power cut.
pub(crate) fn write_atomically(path: &Path, write: impl FnOnce(&mut fs_err::File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside = folder.join(format!(".pyro-{}", unique_suffix()?));
    let publish = || -> io::Result<()> {
        let mut file = fs_err::File::create_new(&aside)?;
        write(&mut file)?;
        file.sync_all()?;
        fs_err::rename(&aside, path)?;
        fs_err::File::open(folder)?.sync_all()
    };
    publish().inspect_err(|_| drop(std::fs::remove_file(&aside)))
}

/// Returns the SHA-256 of everything `reader` gives, and how much that is.
pub(crate) fn digest(reader: &mut dyn Read) -> io::Result<([u8; 32], u64)> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut size = 0_u64;
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok((hasher.finalize().into(), size)),
            Ok(count) => {
                hasher.update(&piece[..count]);
                size = size.saturating_add(u64::try_from(count).map_err(io::Error::other)?);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
