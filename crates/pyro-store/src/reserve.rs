//! A little disk space kept back for the registry and the journal. A guest that fills the host's disk is paused by QEMU before it can
//! take what is freed then, so the supervisor can still write what happened, and clients can still ask.

use std::os::fd::AsFd as _;

use crate::{Dirs, StoreResult, remove_if_present};

/// Enough for thousands of registry transactions.
const RESERVE_BYTES: u64 = 8 << 20;

impl Dirs {
    fn reserve(&self) -> std::path::PathBuf {
        self.state.join("reserve")
    }

    /// Puts the reserve aside, unless it is there.
    ///
    /// # Errors
    /// There is no room for it; nothing is left of the attempt.
    pub fn keep_reserve(&self) -> StoreResult<()> {
        let path = self.reserve();
        if path.exists() {
            return Ok(());
        }
        let file = fs_err::File::create(&path)?;
        let allocated = rustix::fs::fallocate(file.file().as_fd(), rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES);
        allocated.map_err(std::io::Error::from).inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        Ok(())
    }

    /// Gives the reserve back to the file system.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn release_reserve(&self) -> StoreResult<()> {
        remove_if_present(&self.reserve())
    }
}
