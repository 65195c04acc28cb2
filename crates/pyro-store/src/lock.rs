//! Advisory locks that say who is alive. A lock belongs to an open file description, so it passes to a child with the descriptor and
//! ends with the last process that holds it, however that one dies. Users and namespaces make no difference to it: it is the inode's.
//!
//! Looking whether somebody holds one takes a shared lock for a moment, so that two who look at once do not take each other for the holder.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::StoreResult;

/// What a look at a lock tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// Somebody holds it, or it belongs to a user whose files we may not open: nothing says that it is free.
    Held,
    /// Nobody holds it.
    Free,
    /// There is no such file.
    Absent,
}

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
            Err(Errno::WOULDBLOCK) => Ok(None),
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

    /// Looks whether somebody holds the lock of a file or folder. Makes nothing.
    ///
    /// # Errors
    /// The file system refuses to answer, for another reason than that the file is another user's.
    pub fn probe(path: &Path) -> StoreResult<LockState> {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(LockState::Absent),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(LockState::Held),
            Err(error) => return Err(std::io::Error::new(error.kind(), format!("`{}`: {error}", path.display())).into()),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(LockState::Free),
            Err(Errno::WOULDBLOCK) => Ok(LockState::Held),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Tells whether `path` still names the file that is locked: whoever found it unlocked for a moment may have removed it.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let own = rustix::fs::fstat(&self.0);
        matches!((own, std::fs::symlink_metadata(path)), (Ok(own), Ok(there)) if (own.st_dev, own.st_ino) == (there.dev(), there.ino()))
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

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn open(path: &Path) -> StoreResult<OwnedFd> {
    let file = fs_err::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    Ok(file.into_file().into())
}

/// A lock on a disk layer: one writer, or any number of machines that only read it. It is a supervisor's, and never passed to the machine,
/// which could take it from others.
#[derive(Debug)]
pub struct LayerLock(OwnedFd);

impl LayerLock {
    /// Takes a layer that is about to be written. `None` when somebody uses it.
    ///
    /// # Errors
    /// The layer cannot be opened.
    pub fn writer(path: &Path) -> StoreResult<Option<Self>> {
        Self::take(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes a layer that is only read from now on. `None` when somebody writes it.
    ///
    /// # Errors
    /// The layer cannot be opened.
    pub fn reader(path: &Path) -> StoreResult<Option<Self>> {
        Self::take(path, FlockOperation::NonBlockingLockShared)
    }

    fn take(path: &Path, operation: FlockOperation) -> StoreResult<Option<Self>> {
        let file: OwnedFd = fs_err::File::open(path)?.into_file().into();
        match flock(&file, operation) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Lets others read what this machine will not write any more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn share(&self) -> StoreResult<()> {
        flock(&self.0, FlockOperation::NonBlockingLockShared).map_err(|error| std::io::Error::from(error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_tells_held_from_free_and_disturbs_no_other_probe() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        assert_eq!(FileLock::probe(&path).expect("looks"), LockState::Absent);
        let held = FileLock::acquire(&path).expect("free");
        assert_eq!(FileLock::probe(&path).expect("looks"), LockState::Held);
        drop(held);
        let looking = std::fs::File::open(&path).expect("there");
        flock(&looking, FlockOperation::NonBlockingLockShared).expect("free");
        assert_eq!(FileLock::probe(&path).expect("looks"), LockState::Free);
    }

    #[test]
    fn a_layer_has_one_writer_or_many_readers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("layer");
        std::fs::write(&path, "").expect("writable");
        let writer = LayerLock::writer(&path).expect("opens").expect("free");
        assert!(LayerLock::writer(&path).expect("opens").is_none() && LayerLock::reader(&path).expect("opens").is_none());
        writer.share().expect("the lock is its own");
        let _readers =
            [LayerLock::reader(&path).expect("opens").expect("shared"), LayerLock::reader(&path).expect("opens").expect("shared")];
        assert!(LayerLock::writer(&path).expect("opens").is_none());
    }

    #[test]
    fn a_lock_knows_when_its_name_is_another_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let lock = FileLock::acquire(&path).expect("free");
        assert!(lock.is_at(&path));
        std::fs::remove_file(&path).expect("there");
        assert!(!lock.is_at(&path));
        std::fs::write(&path, "").expect("writable");
        assert!(!lock.is_at(&path));
    }
}
