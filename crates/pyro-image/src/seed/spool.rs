//! Contents on their way into a disk: files in a folder beside it, each with the mode it shall have, until debugfs has read them.
//!
//! The files are written over for each batch, not removed and made anew: ext4 avoids the inodes of files removed in the last seconds by
//! looking at each of them, so that after ten thousand removals making one file takes a millisecond.

use std::io::{Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use sha2::{Digest as _, Sha256};

use super::refused;
use crate::error::{Error, Result};
use crate::files;

const COPY_BYTES: usize = 256 * 1024;

/// The folder; dropped, it goes with all that is in it.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    /// Files of this batch, and files there are.
    files: u32,
    made: u32,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Spool {
    /// Makes the folder beside `image`, under its name and an extension.
    pub(super) fn make(image: &Path) -> Result<Self> {
        let mut folder = image.as_os_str().to_owned();
        folder.push(".spool");
        let folder = PathBuf::from(folder);
        // As with the image: what a killed process of our number left is in the way.
        let _ = fs::remove_dir_all(&folder);
        files::make_folder(&folder)?;
        Ok(Self { folder, files: 0, made: 0, bytes: 0, buffer: vec![0; COPY_BYTES] })
    }

    /// Returns how many files are held.
    pub(super) const fn files(&self) -> u32 {
        self.files
    }

    /// Returns how many bytes they hold.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds a content of exactly `size_bytes` for the file at `entry`; returns where, and its SHA-256.
    pub(super) fn add(&mut self, entry: &[u8], mode: u32, size_bytes: u64, content: &mut dyn Read) -> Result<(PathBuf, [u8; 32])> {
        let path = self.folder.join(self.files.to_string());
        let failed = |source| Error::io("write", &path, source);
        let mut file = self.open(&path).map_err(failed)?;
        self.files += 1;
        self.made = self.made.max(self.files);
        self.bytes = self.bytes.saturating_add(size_bytes);
        let (mut rest, mut hasher) = (size_bytes, Sha256::new());
        loop {
            // One byte more than is left, so that a content that is too long shows.
            let wanted = usize::try_from(rest.saturating_add(1)).map_or(COPY_BYTES, |rest| rest.min(COPY_BYTES));
            let count = match content.read(&mut self.buffer[..wanted]) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Error::SeedContent { entry: entry.escape_ascii().to_string(), source }),
            };
            match (count, rest.checked_sub(count as u64)) {
                (0, _) if rest == 0 => break,
                (1.., Some(left)) => rest = left,
                _ => return Err(refused(entry, "its size changed while it was read")),
            }
            hasher.update(&self.buffer[..count]);
            file.write_all(&self.buffer[..count]).map_err(failed)?;
        }
        // What the last batch left behind this content.
        file.set_len(size_bytes).map_err(failed)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode & 0o7777)).map_err(failed)?;
        Ok((path, hasher.finalize().into()))
    }

    fn open(&self, path: &Path) -> std::io::Result<fs::File> {
        let fresh = self.files >= self.made;
        if !fresh {
            // It has the mode of the file it held before, which may not let its owner write.
            fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(fresh).mode(0o600);
        fs::OpenOptions::from_options(options).open(path)
    }

    /// Holds commands for debugfs; returns where.
    pub(super) fn write_commands(&self, commands: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join("commands");
        fs::write(&path, commands).map_err(|source| Error::io("write", &path, source))?;
        Ok(path)
    }

    /// Gives up all contents.
    pub(super) const fn clear(&mut self) {
        self.files = 0;
        self.bytes = 0;
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // What cannot be removed lies beside a disk that goes with its workspace.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
