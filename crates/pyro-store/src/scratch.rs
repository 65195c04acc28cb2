//! Folders for what does not fit into memory while a call runs. They lie in the state folder, and their lock says that somebody needs them:
//! one that nobody holds is removed by whichever client comes next.

use std::{
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{Dirs, FileLock, LockState, StoreResult, random_hex};

/// How their names begin.
const PREFIX: &str = "spool-";

/// A folder of one call. Dropping it removes it with everything in it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: std::fs::File,
}

impl Scratch {
    /// Makes one, for its owner only.
    ///
    /// # Errors
    /// The state folder cannot be written to.
    pub fn make(dirs: &Dirs) -> StoreResult<Self> {
        loop {
            let path = dirs.state.join(format!("{PREFIX}{}", random_hex(16)));
            std::fs::DirBuilder::new().mode(0o700).create(&path)?;
            let Ok(folder) = std::fs::File::open(&path) else { continue };
            flock(&folder, FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
            let own = folder.metadata()?;
            // Between its making and its lock somebody may have taken it for left behind.
            if std::fs::symlink_metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
                return Ok(Self { path, _lock: folder });
            }
        }
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is a remnant.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// Removes what calls that were killed left.
pub(crate) fn sweep_scratch(dirs: &Dirs) -> StoreResult<()> {
    for entry in std::fs::read_dir(&dirs.state).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) && FileLock::probe(&entry.path())? == LockState::Free {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_left_goes_and_one_in_use_stays() {
        let home = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(home.path());
        dirs.create().expect("writable");
        let used = Scratch::make(&dirs).expect("writable");
        let (left, other) = (dirs.state.join("spool-left"), dirs.state.join("other"));
        for folder in [&left, &other] {
            std::fs::create_dir(folder).expect("writable");
        }
        sweep_scratch(&dirs).expect("looks");
        assert!(!left.exists() && other.exists() && used.path().exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
