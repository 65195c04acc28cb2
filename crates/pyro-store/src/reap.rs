//! Puts the registry right after processes have died, and removes what is due. Every client command runs it; it costs a lock attempt
//! per machine.

use crate::{Dirs, FileLock, MachineRecord, Registry, Settings, StoreResult, WorkspaceState, registry::now_ms, remove_if_present};

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
        // The lock is taken, by the client that starts the machine, before the row is written.
        let dead = !folder.is_dir() || FileLock::try_acquire(&folder.join("lock"))?.is_some();
        if dead {
            bury(dirs, registry, &machine, &mut reaped)?;
            reaped.machines += 1;
        }
    }
    let now = now_ms();
    for workspace in registry.workspaces()? {
        let orphaned = workspace.machine.is_none() && matches!(workspace.state, WorkspaceState::Creating | WorkspaceState::Deleting);
        // Between the two transactions of a create there is no machine yet; a minute tells that from a client that died.
        let orphaned = orphaned && now - workspace.last_activity_at_ms > 60_000;
        let expired = workspace.state == WorkspaceState::Stopped && now >= workspace.expires_at_ms(settings.stopped_ttl_seconds);
        if orphaned || expired {
            registry.remove_workspace(&workspace.id)?;
            reaped.workspaces += 1;
        }
        if workspace.machine.is_none() && workspace.state == WorkspaceState::Starting && now - workspace.last_activity_at_ms > 60_000 {
            registry.mark_stopped(&workspace.id, "the client that started it went away")?;
        }
    }
    if reaped != Reaped::default() {
        reaped.layers = sweep(dirs, registry)?;
    }
    Ok(reaped)
}

fn bury(dirs: &Dirs, registry: &mut Registry, machine: &MachineRecord, reaped: &mut Reaped) -> StoreResult<()> {
    if let Some(id) = &machine.workspace
        && let Ok(workspace) = registry.workspace(id)
        && workspace.machine.as_ref() == Some(&machine.id)
    {
        let delete = match workspace.state {
            WorkspaceState::Creating | WorkspaceState::Deleting => true,
            WorkspaceState::Running | WorkspaceState::Stopping | WorkspaceState::Starting => workspace.one_shot,
            WorkspaceState::Stopped => false,
        };
        if delete {
            registry.remove_workspace(id)?;
            reaped.workspaces += 1;
        } else if workspace.state != WorkspaceState::Stopped {
            registry.end_lost_commands(id, "the machine went away")?;
            registry.mark_stopped(id, "its supervisor died")?;
        }
    }
    remove_machine_files(dirs, registry, machine)
}

/// Removes a machine's folder, then its row.
fn remove_machine_files(dirs: &Dirs, registry: &Registry, machine: &MachineRecord) -> StoreResult<()> {
    match fs_err::remove_dir_all(dirs.machine(&machine.id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
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
    let known: std::collections::HashSet<String> = registry.workspaces()?.into_iter().map(|workspace| workspace.id.into()).collect();
    if let Ok(folders) = std::fs::read_dir(dirs.workspaces()) {
        for folder in folders.flatten() {
            if !known.contains(&*folder.file_name().to_string_lossy()) {
                match fs_err::remove_dir_all(folder.path()) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    Ok(()) | Err(_) => {}
                }
            }
        }
    }
    Ok(layers.len())
}
