//! Advisory locks that say who is alive. A lock belongs to an open file description, so it passes to a child with the descriptor and
//! ends with the last process that holds it, however that one dies.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::StoreResult;

/// An exclusive lock on a file with a stable name.
#[derive(Debug)]
pub struct FileLock(OwnedFd);

impl FileLock {
    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// The file cannot be opened or made.
    pub fn try_acquire(path: &Path) -> StoreResult<Option<Self>> {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Waits for the lock. Blocks the thread; the holder's death releases it.
    ///
    /// # Errors
    /// The file cannot be opened or made.
    pub fn acquire(path: &Path) -> StoreResult<Self> {
        let file = open(path)?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).map_err(std::io::Error::from)?;
        Ok(Self(file))
    }

    /// Takes over a lock that came as an inherited descriptor.
    #[must_use]
    pub fn from_inherited(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<FileLock> for OwnedFd {
    fn from(lock: FileLock) -> Self {
        lock.0
    }
}

/// The lock of a machine's folder: held from before the machine is registered until its supervisor is gone.
pub type MachineLock = FileLock;

fn open(path: &Path) -> StoreResult<OwnedFd> {
    let file = fs_err::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    Ok(file.into_file().into())
}
