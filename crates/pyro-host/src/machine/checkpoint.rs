//! Files of a live snapshot: `memory`, the pages that differ from the template's; `state`, the devices; `checkpoint.json`, what they need.
//!
//! The memory of a guest may hold anything its user put there, secrets included: folder and files are their owner's alone. A folder
//! becomes a snapshot only by its row in the registry; one without is removed by whoever sweeps next.

use std::{os::unix::fs::DirBuilderExt as _, path::PathBuf};

use pyro_store::{Carried, CheckpointRecord, Dirs, MachineShape, WorkspaceId, keep_rings};

use super::pages::PrivatePages;
use crate::error::{Doing as _, HostError, HostResult};

/// A stored machine.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) state: Vec<u8>,
    pub(crate) pages: PathBuf,
}

/// Stores a paused machine's pages and devices under a new folder's name. What was written is removed again when that fails.
pub(crate) fn store(
    dirs: &Dirs,
    name: &str,
    shape: &MachineShape,
    pages: &PrivatePages,
    state: &[u8],
    workspace: &WorkspaceId,
    carried: Carried,
) -> HostResult<()> {
    let folder = dirs.checkpoints().join(name);
    let write = || -> HostResult<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).doing("make a live snapshot's folder")?;
        pages.store(&folder.join("memory"))?;
        fs_err::write(folder.join("state"), state).doing("store device state")?;
        keep_rings(dirs, name, workspace, &carried.processes)?;
        Ok(CheckpointRecord::new(dirs, shape, carried)?.store(dirs, name)?)
    };
    write().inspect_err(|_| drop(std::fs::remove_dir_all(&folder)))
}

/// Reads what a machine needs to go on from this snapshot.
///
/// # Errors
/// It is gone, or the template it belongs to is.
pub(crate) fn load(dirs: &Dirs, name: &str, shape: &MachineShape) -> HostResult<Stored> {
    if CheckpointRecord::load(dirs, shape, name)?.is_none() {
        return Err(HostError::Stale { reason: "the template it builds on is gone".to_owned() });
    }
    let folder = dirs.checkpoints().join(name);
    let state = fs_err::read(folder.join("state")).doing("read a live snapshot")?;
    Ok(Stored { state, pages: folder.join("memory") })
}
