//! Puts the registry right after processes have died, and removes what is due. Every client command runs it; it costs two lock attempts
//! per machine.
//!
//! Nothing here goes by time or by process number where a lock can tell: whoever makes something holds a lock on it, in whatever namespace
//! and as whatever user.

use std::{collections::HashSet, path::Path};

use crate::{
    Bereft, Dirs, FileLock, LockState, MachineRecord, Registry, Settings, StoreResult, WorkspaceRecord, WorkspaceState, end_machine,
    is_applying, leftovers, machine_lives, registry::now_ms, remove_if_present, scratch::sweep_scratch,
};

/// How long a fork may take: its checkpoint is removed after that, whoever made it.
const FORK_MAX_MS: i64 = 15 * 60 * 1000;
/// How long a look waits for a machine that it has killed; the next look finds one that takes longer.
const END_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
/// How often it looks whether that has ended.
const END_LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(5);
/// What stands in the name of everything that is not whole yet; the lock on it says whether somebody is at it.
const PARTIAL: &str = ".partial-";

/// What a run of [`reap`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Machines whose supervisor had died.
    pub machines: usize,
    /// Workspaces removed because their time was over, or because they were never finished.
    pub workspaces: usize,
    /// Layers freed.
    pub layers: usize,
}

/// Removes what dead supervisors left and what has expired.
///
/// # Errors
/// The registry or a file cannot be written; what was done before stays done, and the next run goes on.
pub fn reap(dirs: &Dirs, registry: &mut Registry, settings: &Settings) -> StoreResult<Reaped> {
    let mut reaped = Reaped::default();
    for machine in registry.machines()? {
        if !machine_lives(dirs, registry, &machine)? {
            bury(dirs, registry, &machine, &mut reaped)?;
            reaped.machines += 1;
        } else if is_superseded(registry, &machine) || is_left_half_way(dirs, registry, &machine)? {
            // It does not know, because the client that would have told it died. One in another PID namespace looks by itself within a
            // minute.
            if end_machine(&machine) && ends(dirs, registry, &machine)? {
                bury(dirs, registry, &machine, &mut reaped)?;
                reaped.machines += 1;
            }
        }
    }
    let now = now_ms();
    for workspace in registry.workspaces()? {
        if workspace.state != WorkspaceState::Stopped && !has_machine(registry, &workspace)? {
            count(settle(dirs, registry, &workspace)?, &mut reaped);
            continue;
        }
        let is_over = workspace.state == WorkspaceState::Stopped && now >= workspace.expires_at_ms(settings.stopped_ttl_seconds);
        if is_over && !is_applying(dirs, &workspace.id)? {
            registry.remove_workspace(&workspace.id)?;
            reaped.workspaces += 1;
        }
        for snapshot in registry.all_snapshots(&workspace.id)?.iter().filter(|snapshot| snapshot.name.is_internal()) {
            if now - snapshot.created_at_ms > FORK_MAX_MS {
                reaped.layers += registry.retire_snapshot(dirs, &workspace.id, &snapshot.name)?;
            }
        }
    }
    sweep_machines(dirs, registry)?;
    for leftover in leftovers(dirs)? {
        // A disk that is read-only now may not be later; the note stays, and nothing else waits for it.
        drop(leftover.remove());
    }
    sweep_scratch(dirs)?;
    if reaped == Reaped::default() {
        sweep_remnants(dirs, registry)?;
    } else {
        reaped.layers = sweep(dirs, registry)?;
    }
    Ok(reaped)
}

fn has_machine(registry: &Registry, workspace: &WorkspaceRecord) -> StoreResult<bool> {
    workspace.machine.as_ref().map_or(Ok(false), |machine| Ok(registry.machine(machine)?.is_some()))
}

/// Brings a workspace to rest that is to have a machine and has none, unless a client is about to give it one.
fn settle(dirs: &Dirs, registry: &mut Registry, workspace: &WorkspaceRecord) -> StoreResult<Bereft> {
    match &workspace.machine {
        // What was read is a moment old; the transaction looks again.
        Some(machine) => registry.lose_machine(dirs, &workspace.id, machine, "its supervisor died"),
        None => registry.settle_orphan(dirs, &workspace.id),
    }
}

fn count(bereft: Bereft, reaped: &mut Reaped) {
    match bereft {
        Bereft::Removed => reaped.workspaces += 1,
        Bereft::Stopped | Bereft::Waiting | Bereft::Unconcerned => {}
    }
}

/// Removes folders of machines that never got a row, because the client that was starting them was killed.
fn sweep_machines(dirs: &Dirs, registry: &Registry) -> StoreResult<()> {
    let Ok(folders) = std::fs::read_dir(dirs.machines()) else { return Ok(()) };
    // Listed before the registry is asked: what is registered in between is not taken for a remnant.
    let folders: Vec<_> = folders.flatten().collect();
    if folders.is_empty() {
        return Ok(());
    }
    let known = registry.machines()?;
    for folder in folders {
        let name = folder.file_name().to_string_lossy().into_owned();
        let known = known.iter().any(|machine| machine.id.as_str() == name);
        if !known && is_abandoned(&folder.path())? {
            remove_folder(&folder.path())?;
        }
    }
    Ok(())
}

/// Tells whether nobody holds a lock in a machine's folder.
fn is_abandoned(folder: &Path) -> StoreResult<bool> {
    for name in [crate::start::SUPERVISOR_LOCK, crate::MACHINE_LOCK] {
        if FileLock::probe(&folder.join(name))? == LockState::Held {
            return Ok(false);
        }
    }
    // One that is being made has no lock for an instant; what has none later is nobody's.
    Ok(FileLock::probe(&folder.join(crate::start::SUPERVISOR_LOCK))? == LockState::Free || age(folder).is_some_and(|age| age > MAKING_AGE))
}

/// Longest time between the making of a folder and of the lock in it; system calls that follow each other, on a host that swaps.
const MAKING_AGE: std::time::Duration = std::time::Duration::from_secs(60);

fn age(path: &Path) -> Option<std::time::Duration> {
    std::fs::symlink_metadata(path).ok()?.modified().ok()?.elapsed().ok()
}

/// Tells whether a machine belongs to a workspace that has moved on to another machine, or is gone.
fn is_superseded(registry: &Registry, machine: &MachineRecord) -> bool {
    let Some(id) = &machine.workspace else { return false };
    match registry.workspace(id) {
        Ok(workspace) => workspace.machine.as_ref() != Some(&machine.id),
        Err(error) => matches!(error, crate::StoreError::WorkspaceNotFound { .. }),
    }
}

/// Tells whether a client died that was creating, starting or deleting a machine's workspace.
fn is_left_half_way(dirs: &Dirs, registry: &Registry, machine: &MachineRecord) -> StoreResult<bool> {
    let Some(id) = &machine.workspace else { return Ok(false) };
    if FileLock::probe(&dirs.lifecycle(id))? == LockState::Held {
        return Ok(false);
    }
    // Read after the lock was found free: who has come to the end of its turn has left another state behind.
    let state = registry.workspace(id).map(|workspace| workspace.state);
    Ok(matches!(state, Ok(WorkspaceState::Creating | WorkspaceState::Starting | WorkspaceState::Deleting)))
}

/// Waits for a killed machine to let go of its locks; it has memory to give back first.
fn ends(dirs: &Dirs, registry: &Registry, machine: &MachineRecord) -> StoreResult<bool> {
    let deadline = std::time::Instant::now() + END_PATIENCE;
    while machine_lives(dirs, registry, machine)? {
        if std::time::Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(END_LOOK_EVERY);
    }
    Ok(true)
}

fn bury(dirs: &Dirs, registry: &mut Registry, machine: &MachineRecord, reaped: &mut Reaped) -> StoreResult<()> {
    if let Some(id) = &machine.workspace {
        count(registry.lose_machine(dirs, id, &machine.id, "its supervisor died")?, reaped);
    }
    remove_machine_files(dirs, registry, machine)
}

/// Removes a machine's folder, then its row.
fn remove_machine_files(dirs: &Dirs, registry: &Registry, machine: &MachineRecord) -> StoreResult<()> {
    remove_folder(&machine.folder(dirs))?;
    registry.remove_machine(&machine.id)
}

impl Registry {
    /// Removes a machine that has ended in good order, from inside its supervisor or by the client that stopped it.
    ///
    /// # Errors
    /// A file or the registry cannot be written.
    pub fn retire_machine(&mut self, dirs: &Dirs, machine: &MachineRecord) -> StoreResult<()> {
        remove_machine_files(dirs, self, machine)?;
        sweep(dirs, self).map(drop)
    }

    /// Removes a workspace that has no machine: row, journal, layers that were only its own.
    ///
    /// # Errors
    /// A file or the registry cannot be written.
    pub fn erase_workspace(&mut self, dirs: &Dirs, id: &crate::WorkspaceId) -> StoreResult<()> {
        self.remove_workspace(id)?;
        sweep(dirs, self).map(drop)
    }

    /// Removes a snapshot, the memory it kept and the layers only it held; returns the number of layers.
    ///
    /// # Errors
    /// There is none of this name, or a file or the registry cannot be written.
    pub fn retire_snapshot(&mut self, dirs: &Dirs, workspace: &crate::WorkspaceId, name: &crate::SnapshotName) -> StoreResult<usize> {
        let snapshot = self.snapshot(workspace, name)?;
        self.delete_snapshot(workspace, name)?;
        if let Some(checkpoint) = &snapshot.checkpoint {
            remove_folder(&dirs.checkpoints().join(checkpoint))?;
        }
        sweep(dirs, self)
    }

    /// Frees layers and files of workspaces that nothing refers to; returns the number of layers.
    ///
    /// # Errors
    /// A file or the registry cannot be written.
    pub fn sweep(&mut self, dirs: &Dirs) -> StoreResult<usize> {
        sweep(dirs, self)
    }
}

fn sweep(dirs: &Dirs, registry: &mut Registry) -> StoreResult<usize> {
    let layers = registry.take_unreferenced_layers(false)?;
    for layer in &layers {
        remove_if_present(&dirs.layers().join(layer.file_name()))?;
    }
    sweep_checkpoints(dirs, registry)?;
    sweep_remnants(dirs, registry)?;
    // Listed before the registry is asked, as above.
    let folders: Vec<_> = std::fs::read_dir(dirs.workspaces()).into_iter().flatten().flatten().collect();
    let known: HashSet<String> = registry.workspaces()?.into_iter().map(|workspace| workspace.id.into()).collect();
    for folder in folders.iter().filter(|folder| !known.contains(&*folder.file_name().to_string_lossy())) {
        // Its client is about to enter it.
        if FileLock::probe(&folder.path().join("lifecycle"))? != LockState::Held {
            remove_folder(&folder.path())?;
        }
    }
    Ok(layers.len())
}

/// Removes what killed clients and supervisors left beside the layers: seeds and overlays without a row. Whoever makes a file holds a lock on
/// it until it is whole, and enters it within seconds then. An overlay is entered before its file is made: one without a row was left by
/// somebody who was killed between taking the row away and the file.
fn sweep_remnants(dirs: &Dirs, registry: &Registry) -> StoreResult<()> {
    const REMNANT_AGE: std::time::Duration = std::time::Duration::from_secs(3600);
    let Ok(entries) = std::fs::read_dir(dirs.layers()) else { return Ok(()) };
    let mut suspects = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let suspect = if name.contains(PARTIAL) {
            FileLock::probe(&entry.path())? == LockState::Free
        } else {
            is_overlay(&name) || !name.starts_with("empty-") && age(&entry.path()).is_some_and(|age| age > REMNANT_AGE)
        };
        if suspect {
            suspects.push(entry);
        }
    }
    if suspects.is_empty() {
        return Ok(());
    }
    let known: HashSet<String> = registry.layers()?.iter().map(crate::LayerRecord::file_name).collect();
    for entry in suspects.iter().filter(|entry| !known.contains(&*entry.file_name().to_string_lossy())) {
        if entry.path().is_dir() {
            remove_folder(&entry.path())?;
        } else {
            remove_if_present(&entry.path())?;
        }
    }
    Ok(())
}

/// Tells whether a file is a machine's or workspace's overlay, by its name.
fn is_overlay(name: &str) -> bool {
    name.strip_suffix(".qcow2").is_some_and(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Removes the memory of live snapshots that are gone. One that is being written is named after the machine that writes it.
fn sweep_checkpoints(dirs: &Dirs, registry: &Registry) -> StoreResult<()> {
    let Ok(folders) = std::fs::read_dir(dirs.checkpoints()) else { return Ok(()) };
    // Listed before the registry is asked: what is published in between is not taken for a remnant.
    let folders: Vec<_> = folders.flatten().collect();
    if folders.is_empty() {
        return Ok(());
    }
    let known = registry.checkpoints()?;
    let machines = registry.machines()?;
    for folder in folders {
        let name = folder.file_name().to_string_lossy().into_owned();
        let writing = machines.iter().any(|machine| name.starts_with(machine.id.as_str()) && !is_superseded(registry, machine));
        if !known.contains(&name) && !writing {
            remove_folder(&folder.path())?;
        }
    }
    Ok(())
}

/// Removes a folder; one that is not there is fine. What belongs to another user of this home is left for that one to remove: it must not
/// keep everybody else from working.
fn remove_folder(folder: &Path) -> StoreResult<()> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied) => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_of_a_machine_that_was_never_registered_is_removed_unless_somebody_is_at_it() {
        let home = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(home.path());
        let mut registry = Registry::open(&dirs).expect("opens");
        let names = ["0000000000000001", "0000000000000002", "0000000000000003.partial-0123456789abcdef"];
        for name in names {
            std::fs::create_dir_all(dirs.machines().join(name)).expect("writable");
        }
        let there = |registry: &mut Registry| {
            reap(&dirs, registry, &Settings::default()).expect("reaps");
            names.map(|name| dirs.machines().join(name).exists())
        };
        assert_eq!(there(&mut registry), [true; 3], "those are only just being made");
        let lock = |name: &str| FileLock::acquire(&dirs.machines().join(name).join("lock")).expect("free");
        drop(lock(names[0]));
        let held = [lock(names[1]), lock(names[2])];
        assert_eq!(there(&mut registry), [false, true, true]);
        drop(held);
        assert_eq!(there(&mut registry), [false; 3]);
    }

    #[test]
    fn what_is_half_made_is_removed_when_its_maker_is_gone() {
        let home = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(home.path());
        let mut registry = Registry::open(&dirs).expect("opens");
        let path = dirs.layers().join("0123456789abcdef.partial-0123456789abcdef");
        let maker = FileLock::acquire(&path).expect("free");
        reap(&dirs, &mut registry, &Settings::default()).expect("reaps");
        assert!(path.exists());
        drop(maker);
        reap(&dirs, &mut registry, &Settings::default()).expect("reaps");
        assert!(!path.exists());
    }

    #[test]
    fn overlay_whose_row_is_gone_is_removed_and_a_seed_in_the_making_is_not() {
        let home = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(home.path());
        let mut registry = Registry::open(&dirs).expect("opens");
        let names = ["0123456789abcdef.qcow2", "0123456789abcdef.raw", "empty-1024.qcow2"];
        for name in names {
            std::fs::write(dirs.layers().join(name), "").expect("writable");
        }
        reap(&dirs, &mut registry, &Settings::default()).expect("reaps");
        assert_eq!(names.map(|name| dirs.layers().join(name).exists()), [false, true, true]);
    }
}
