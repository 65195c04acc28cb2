//! Ordinary files of the root that the agent adds to: read with care, since commands may have put anything in their place, and replaced whole.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Reads a file; what is no regular file, and what is longer than `max_bytes`, is an error. Never waits.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = fs::File::options().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    if file.take(max_bytes + 1).read_to_end(&mut bytes)? as u64 > max_bytes {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Writes a file anew, aside and renamed: a link in its place is replaced, not followed.
pub(crate) fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let aside = path.with_extension("pyro-new");
    // What a killed call left, or something that lies in wait there.
    let _ = fs::remove_file(&aside);
    let mut file = fs::File::create_new(&aside)?;
    for part in parts {
        file.write_all(part)?;
    }
    fs::rename(aside, path)
}
