//! Small file-system duties: publishing atomically, locks, sizes, removal.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use fs_err as fs;
use rustix::fs::FlockOperation;

use crate::error::{Error, Result};

/// Size of the units in which `st_blocks` counts, whatever the file system; see stat(2).
const STAT_BLOCK_BYTES: u64 = 512;

/// A lock on a file of stable name, held until dropped, and by the kernel given up when the process dies.
///
/// The file is never removed: a lock on a removed name protects nothing from whoever makes the name anew.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: fs::File,
}

impl FileLock {
    /// Takes the lock of `path`, calling `waiting` once if another holds it.
    pub(crate) fn acquire(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        if let Some(lock) = Self::try_acquire(path)? {
            return Ok(lock);
        }
        waiting();
        let file = Self::open(path)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::io("lock", path, errno.into())),
            }
        }
    }

    /// Takes the lock of `path` unless another holds it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>> {
        let file = Self::open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(Error::io("lock", path, errno.into())),
        }
    }

    fn open(path: &Path) -> Result<fs::File> {
        // Descriptors are close-on-exec, so no tool we start can keep the lock alive after us.
        let mut options = std::fs::OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        fs::OpenOptions::from_options(options).open(path).map_err(|source| Error::io("open", path, source))
    }
}

/// Makes a folder and its parents, for the owner alone.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| Error::io("make", path, source))
}

/// Writes `content` under a temporary name beside `path`, syncs it and renames it, so that readers see the old or the new file.
///
/// The caller holds the lock that makes it the only writer of `path`.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("partial");
    let written = (|| {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if let Err(source) = written {
        // The error of the write is the one to tell; the leftover is overwritten by the next attempt.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io("write", path, source));
    }
    sync_folder(path.parent().unwrap_or(path))
}

/// Makes a rename in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    fs::File::open(folder).and_then(|file| file.sync_all()).map_err(|source| Error::io("sync", folder, source))
}

/// Returns what a file or a tree takes on the disk, holes not counted; what vanishes meanwhile counts as nothing.
pub(crate) fn disk_usage(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return 0 };
    let below = if metadata.is_dir() {
        std::fs::read_dir(path).map(|entries| entries.flatten().map(|entry| disk_usage(&entry.path())).sum()).unwrap_or(0)
    } else {
        0
    };
    metadata.blocks() * STAT_BLOCK_BYTES + below
}
