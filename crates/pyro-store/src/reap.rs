//! Puts the registry right after processes have died, and removes what is due. Every client command runs it; it costs a lock attempt
//! per machine.

use crate::{
    Dirs, FileLock, MachineRecord, Registry, Settings, StoreResult, WorkspaceRecord, WorkspaceState, registry::now_ms, remove_if_present,
};

/// How long a fork may take: its checkpoint is removed after that, whoever made it.
const FORK_MAX_MS: i64 = 15 * 60 * 1000;

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
        let folder = dirs.machine(&machine.id);
        if is_dead(&folder)? {
            bury(dirs, registry, &machine, &mut reaped)?;
            reaped.machines += 1;
        } else if is_superseded(registry, &machine) {
            end_superseded(&folder, &machine)?;
        }
    }
    let now = now_ms();
    for workspace in registry.workspaces()? {
        let orphaned = workspace.machine.is_none() && matches!(workspace.state, WorkspaceState::Creating | WorkspaceState::Deleting);
        // Between the two transactions of a create there is no machine yet; a minute tells that from a client that died.
        let orphaned = orphaned && now - workspace.last_activity_at_ms > 60_000;
        // Between the burial of a standby machine that failed and the start of another a workspace that begins has the dead one's id.
        let running = matches!(workspace.state, WorkspaceState::Running | WorkspaceState::Stopping);
        if let Some(machine) = &workspace.machine
            && (running || now - workspace.last_activity_at_ms > 60_000)
            && registry.machine(machine)?.is_none()
        {
            settle(registry, &workspace, &mut reaped)?;
            continue;
        }
        let expired = workspace.state == WorkspaceState::Stopped && now >= workspace.expires_at_ms(settings.stopped_ttl_seconds);
        if orphaned || expired {
            registry.remove_workspace(&workspace.id)?;
            reaped.workspaces += 1;
        }
        for snapshot in registry.all_snapshots(&workspace.id)?.iter().filter(|snapshot| snapshot.name.is_internal()) {
            if now - snapshot.created_at_ms > FORK_MAX_MS {
                reaped.layers += registry.retire_snapshot(dirs, &workspace.id, &snapshot.name)?;
            }
        }
        if workspace.machine.is_none() && workspace.state == WorkspaceState::Starting && now - workspace.last_activity_at_ms > 60_000 {
            registry.mark_stopped(&workspace.id, "the client that started it went away")?;
        }
    }
    sweep_machines(dirs, registry)?;
    if reaped == Reaped::default() {
        sweep_remnants(dirs, registry)?;
    } else {
        reaped.layers = sweep(dirs, registry)?;
    }
    Ok(reaped)
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
        let remnant = match writer(&name) {
            Some(pid) => !is_alive(pid),
            None => !known.iter().any(|machine| machine.id.as_str() == name) && is_dead(&folder.path())?,
        };
        if remnant {
            remove_folder(&folder.path())?;
        }
    }
    Ok(())
}

/// Tells whether nobody holds a machine's lock. The client that starts the machine takes it before the row is written.
fn is_dead(folder: &std::path::Path) -> StoreResult<bool> {
    if !folder.is_dir() {
        return Ok(true);
    }
    match FileLock::try_acquire(&folder.join("lock")) {
        Ok(lock) => Ok(lock.is_some()),
        // Its supervisor has removed the folder between the two looks: the last but one thing it does.
        Err(crate::StoreError::File { source }) if source.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Tells whether a machine belongs to a workspace that has moved on to another machine.
fn is_superseded(registry: &Registry, machine: &MachineRecord) -> bool {
    let Some(id) = &machine.workspace else { return false };
    registry.workspace(id).is_ok_and(|workspace| workspace.machine.as_ref() != Some(&machine.id))
}

/// Ends a machine that has lost its workspace and does not know, because the client that took it died before it said so.
fn end_superseded(folder: &std::path::Path, machine: &MachineRecord) -> StoreResult<()> {
    let pid = machine.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    // The lock is still held, so the process that wrote this number into the row is still there: it cannot be another's.
    if let Some(pid) = pid
        && !is_dead(folder)?
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    Ok(())
}

fn bury(dirs: &Dirs, registry: &mut Registry, machine: &MachineRecord, reaped: &mut Reaped) -> StoreResult<()> {
    if let Some(id) = &machine.workspace
        && let Ok(workspace) = registry.workspace(id)
        && workspace.machine.as_ref() == Some(&machine.id)
    {
        settle(registry, &workspace, reaped)?;
    }
    remove_machine_files(dirs, registry, machine)
}

/// Brings a workspace that has lost its machine to rest, or removes one that nobody can want.
fn settle(registry: &mut Registry, workspace: &WorkspaceRecord, reaped: &mut Reaped) -> StoreResult<()> {
    let delete = match workspace.state {
        WorkspaceState::Creating | WorkspaceState::Deleting => true,
        WorkspaceState::Running | WorkspaceState::Stopping | WorkspaceState::Starting => workspace.one_shot,
        WorkspaceState::Stopped => false,
    };
    if delete {
        registry.remove_workspace(&workspace.id)?;
        reaped.workspaces += 1;
    } else if workspace.state != WorkspaceState::Stopped {
        registry.end_lost_commands(&workspace.id, "the machine went away")?;
        registry.mark_stopped(&workspace.id, "its supervisor died")?;
    }
    Ok(())
}

/// Removes a machine's folder, then its row.
fn remove_machine_files(dirs: &Dirs, registry: &Registry, machine: &MachineRecord) -> StoreResult<()> {
    remove_folder(&dirs.machine(&machine.id))?;
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
    let known: std::collections::HashSet<String> = registry.workspaces()?.into_iter().map(|workspace| workspace.id.into()).collect();
    if let Ok(folders) = std::fs::read_dir(dirs.workspaces()) {
        for folder in folders.flatten() {
            if !known.contains(&*folder.file_name().to_string_lossy()) {
                remove_folder(&folder.path())?;
            }
        }
    }
    Ok(layers.len())
}

/// Removes what killed clients and supervisors left beside the layers: seeds and overlays without a row. Whoever makes a seed enters it within
/// seconds, a large one within minutes. An overlay is entered before its file is made: one without a row was left by somebody who was killed
/// between taking the row away and the file.
fn sweep_remnants(dirs: &Dirs, registry: &Registry) -> StoreResult<()> {
    const REMNANT_AGE: std::time::Duration = std::time::Duration::from_secs(3600);
    let Ok(entries) = std::fs::read_dir(dirs.layers()) else { return Ok(()) };
    let old: Vec<_> = entries
        .flatten()
        .filter(|entry| {
            let age = entry.metadata().ok().and_then(|status| status.modified().ok()).and_then(|time| time.elapsed().ok());
            let name = entry.file_name().to_string_lossy().into_owned();
            let orphaned = writer(&name).is_some_and(|pid| !is_alive(pid));
            orphaned || is_overlay(&name) || age.is_some_and(|age| age > REMNANT_AGE) && !name.starts_with("empty-")
        })
        .collect();
    if old.is_empty() {
        return Ok(());
    }
    let known: std::collections::HashSet<String> = registry.layers()?.iter().map(crate::LayerRecord::file_name).collect();
    for entry in old.iter().filter(|entry| !known.contains(&*entry.file_name().to_string_lossy())) {
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

/// Returns who makes a seed or a machine's folder: until they are whole, they are named after the process.
fn writer(name: &str) -> Option<u32> {
    name.split_once(".partial-")?.1.split('-').next()?.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
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

fn remove_folder(folder: &std::path::Path) -> StoreResult<()> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
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
        let own = format!("0000000000000003.partial-{}", std::process::id());
        // No process has this number: it is above what Linux gives out.
        let names = ["0000000000000001", "0000000000000002", own.as_str(), "0000000000000004.partial-4194305"];
        for name in names {
            std::fs::create_dir_all(dirs.machines().join(name)).expect("writable");
        }
        let held = FileLock::acquire(&dirs.machines().join(names[1]).join("lock")).expect("free");
        reap(&dirs, &mut registry, &Settings::default()).expect("reaps");
        assert_eq!(names.map(|name| dirs.machines().join(name).exists()), [false, true, true, false]);
        drop(held);
        reap(&dirs, &mut registry, &Settings::default()).expect("reaps");
        assert_eq!(names.map(|name| dirs.machines().join(name).exists()), [false, false, true, false]);
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
