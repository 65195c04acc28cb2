//! Whether a machine lives, and how one is ended that does not end by itself.
//!
//! Two locks tell: its supervisor's, and one that QEMU inherits, so that a machine that outlives its supervisor by a moment is not taken
//! for gone. Nobody is dead because a path is not there: a folder may have been removed by hand, or lie behind another mount. Then the
//! locks on the disks it writes, and the process that is on record, have the word.

use crate::{
    Dirs, FileLock, LayerId, LayerLock, LockState, MachineRecord, Registry, StoreError, StoreResult,
    start::{MACHINE_LOCK, SUPERVISOR_LOCK},
};

/// Tells whether a machine or its supervisor lives. What cannot be found out counts as life.
///
/// # Errors
/// The registry or a file cannot be read.
pub fn machine_lives(dirs: &Dirs, registry: &Registry, machine: &MachineRecord) -> StoreResult<bool> {
    let folder = machine.folder(dirs);
    let supervisor = FileLock::probe(&folder.join(SUPERVISOR_LOCK))?;
    if supervisor == LockState::Held || FileLock::probe(&folder.join(MACHINE_LOCK))? == LockState::Held {
        return Ok(true);
    }
    if supervisor == LockState::Free {
        return Ok(false);
    }
    Ok(writes_disks(dirs, registry, machine)? || has_process(machine))
}

/// Tells whether somebody writes one of the disks that a machine had.
fn writes_disks(dirs: &Dirs, registry: &Registry, machine: &MachineRecord) -> StoreResult<bool> {
    let mut tops: Vec<LayerId> = [&machine.root_layer, &machine.workspace_layer].into_iter().flatten().cloned().collect();
    if let Some(id) = &machine.workspace {
        match registry.workspace(id) {
            Ok(workspace) if workspace.machine.as_ref() == Some(&machine.id) => {
                tops.extend([workspace.root_layer, workspace.workspace_layer].into_iter().flatten());
            }
            Ok(_) | Err(StoreError::WorkspaceNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    for top in tops {
        let path = dirs.layers().join(format!("{top}.qcow2"));
        match LayerLock::reader(&path) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(true),
            Err(StoreError::File { source }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn has_process(machine: &MachineRecord) -> bool {
    match (&machine.supervisor, machine.pid) {
        // Of another namespace nothing can be seen; its locks, which can, are free.
        (Some(process), _) => process.is_alive() == Some(true),
        // An older Pyro's: its arguments name the machine.
        (None, Some(pid)) => {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).contains(machine.id.as_str())
        }
        (None, None) => false,
    }
}

/// Kills a machine's supervisor, and QEMU with it; returns whether there was one to be killed. One in another PID namespace cannot be.
#[must_use]
pub fn end_machine(machine: &MachineRecord) -> bool {
    match (&machine.supervisor, machine.pid) {
        (Some(process), _) => process.kill(),
        (None, Some(pid)) => has_process(machine) && crate::ProcessIdentity::of(pid).is_some_and(|process| process.kill()),
        (None, None) => false,
    }
}
