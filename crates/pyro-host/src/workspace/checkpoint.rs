//! Keeps a running workspace as it is now: both disks, or its memory and processes too.
//!
//! ```text
//! freeze the guest's file systems ─▶ [pause] ─▶ empty overlays on both disks ─▶ [device state, private pages ─▶ go on] ─▶ registry ─▶ thaw
//! ```
//!
//! The file systems are frozen from before the overlays until the registry has the snapshot. So the layers below hold whole file systems,
//! and a supervisor killed anywhere in between leaves the old state: nothing was written to the new overlays yet. In a live snapshot they
//! are frozen, too; the agent thaws them when the copy wakes up.
//!
//! A fork's own checkpoint does without: nobody uses its disks without its memory, and freezing costs more than all the rest. There the
//! overlays become the workspace's while the guest is paused. A copy that is killed replays the journal, as after a power cut.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pyro_store::{
    Carried, CarriedCommand, CarriedProcesses, DiskRole, LayerRecord, SnapshotKind, SnapshotName, SnapshotRecord, WorkspaceRecord,
};

use super::{Supervisor, now_ms};
use crate::{
    agent::Frozen,
    error::{HostError, HostResult},
    lock,
    machine::{
        Disk, Machine, checkpoint,
        disks::{self, Overlay},
        pages::PrivatePages,
    },
};

/// What keeping a workspace cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept {
    /// How long no guest instruction ran.
    pub(crate) pause: Duration,
    /// Bytes of guest memory.
    pub(crate) memory_bytes: u64,
}

/// What a paused machine was.
struct Image {
    state: Vec<u8>,
    pages: PrivatePages,
    /// Commands that were running, and since when.
    running: Vec<(u64, u64)>,
    /// Shells, services and ports.
    processes: CarriedProcesses,
    pause: Duration,
}

/// What belongs to the moment that is kept.
struct Moment<'a> {
    /// The guest's file systems at rest; `None` for a fork.
    frozen: Option<Frozen>,
    files: Vec<(Disk, Overlay)>,
    overlays: &'a [(Disk, LayerRecord); 2],
}

impl Supervisor {
    /// Enters a snapshot of this moment in the registry.
    ///
    /// Runs to its end even when the caller goes away; see the module for what a killed supervisor leaves.
    pub(super) async fn checkpoint(self: &Arc<Self>, name: SnapshotName, kind: SnapshotKind) -> HostResult<Kept> {
        self.layering_wanted.store(true, Ordering::SeqCst);
        let _no_collapse = self.layering.lock().await;
        self.layering_wanted.store(false, Ordering::SeqCst);
        let _no_reader = self.keeping.lock().await;
        let workspace = self.adopted()?.clone();
        if *self.disk_full.borrow() {
            return Err(HostError::HostDiskFull);
        }
        if lock(&self.registry).snapshot(&workspace, &name).is_ok() {
            return Err(pyro_store::StoreError::SnapshotExists { workspace: workspace.to_string(), name: name.to_string() }.into());
        }
        let record = self.workspace_record()?;
        let (Some(root), Some(disk)) = (record.root_layer.clone(), record.workspace_layer.clone()) else {
            return Err(HostError::WrongState { problem: "the workspace has no disks yet".into() });
        };
        let machine = self.machine()?;
        let dirs = &self.arguments.dirs;
        let overlays = [(Disk::Root, &root, record.root_disk_gib), (Disk::Workspace, &disk, record.disk_gib)]
            .map(|(disk, below, gib)| (disk, disks::new_overlay(Some(below.clone()), gib << 30)));
        let result = async {
            // The machine holds them until the workspace does: what a killed supervisor leaves of them goes with its row.
            let unplaced = overlays.clone().map(|(_, layer)| LayerRecord { parent: None, ..layer });
            lock(&self.registry).insert_machine_layers(&self.record.id, &unplaced[0], &unplaced[1])?;
            let mut files = Vec::new();
            for (disk, layer) in &overlays {
                files.push((*disk, disks::create_overlay(dirs, layer).await?));
            }
            let frozen = if name.is_internal() { None } else { Some(self.agent()?.freeze().await?) };
            self.keep(machine, &record, Moment { frozen, files, overlays: &overlays }, name, kind).await
        }
        .await;
        lock(&self.registry).release_machine_layers(&self.record.id)?;
        if result.is_err() {
            lock(&self.registry).sweep(dirs)?;
        }
        let kept = result?;
        lock(&self.registry).touch_workspace(&workspace)?;
        Ok(kept)
    }

    async fn keep(
        &self,
        machine: &Machine,
        record: &WorkspaceRecord,
        mut moment: Moment<'_>,
        name: SnapshotName,
        kind: SnapshotKind,
    ) -> HostResult<Kept> {
        let mut installed = Vec::new();
        let image = match kind {
            SnapshotKind::Disk => install(machine, std::mem::take(&mut moment.files), &mut installed).await.map(|()| None),
            SnapshotKind::Live => self.image(machine, &mut moment, &mut installed).await.map(Some),
        };
        let entered = image.and_then(|image| self.enter(record, &mut moment, image, name, kind));
        if entered.is_err() {
            // The machine writes to them and cannot go back: they become the workspace's, without a snapshot.
            self.put(moment.overlays, &installed)?;
        }
        entered
    }

    /// Makes overlays that are in use the workspace's.
    fn put(&self, overlays: &[(Disk, LayerRecord); 2], installed: &[Disk]) -> HostResult<()> {
        for (disk, layer) in overlays.iter().filter(|(disk, _)| installed.contains(disk)) {
            let role = if *disk == Disk::Root { DiskRole::Root } else { DiskRole::Workspace };
            lock(&self.registry).put_overlay(self.adopted()?, role, layer)?;
        }
        Ok(())
    }

    /// Stores what was copied and makes it a snapshot. Nothing is left of one that cannot be.
    fn enter(
        &self,
        record: &WorkspaceRecord,
        moment: &mut Moment<'_>,
        image: Option<Image>,
        name: SnapshotName,
        kind: SnapshotKind,
    ) -> HostResult<Kept> {
        let checkpoint = image.as_ref().map(|image| self.store_image(image)).transpose()?;
        let snapshot = SnapshotRecord {
            name,
            kind,
            root_layer: record.root_layer.clone(),
            workspace_layer: record.workspace_layer.clone(),
            shape: self.record.shape.clone(),
            checkpoint,
            memory_bytes: image.as_ref().map_or(0, |image| image.pages.bytes()),
            entry_count: 0,
            created_at_ms: now_ms(),
        };
        let [(_, root), (_, disk)] = moment.overlays;
        let entered = match moment.frozen.as_mut().map(Frozen::holds) {
            Some(true) => lock(&self.registry).insert_snapshot(&record.id, &snapshot, Some((root, disk))).map_err(HostError::from),
            Some(false) => Err(HostError::WrongState { problem: "the guest let go of its file systems in between".into() }),
            // The overlays are the workspace's since the pause.
            None => lock(&self.registry).insert_snapshot(&record.id, &snapshot, None).map_err(HostError::from),
        };
        if let (Err(_), Some(checkpoint)) = (&entered, &snapshot.checkpoint) {
            drop(std::fs::remove_dir_all(self.arguments.dirs.checkpoints().join(checkpoint)));
        }
        entered?;
        self.sync_layers(&snapshot);
        Ok(Kept { pause: image.as_ref().map_or(Duration::ZERO, |image| image.pause), memory_bytes: snapshot.memory_bytes })
    }

    /// Copies what a machine is, in as short a pause as possible.
    async fn image(&self, machine: &Machine, moment: &mut Moment<'_>, installed: &mut Vec<Disk>) -> HostResult<Image> {
        let began = std::time::Instant::now();
        machine.pause().await?;
        let copy = async {
            // First: no block command may come between the saved state and the guest going on.
            install(machine, std::mem::take(&mut moment.files), installed).await?;
            if moment.frozen.is_none() {
                self.put(moment.overlays, installed)?;
            }
            let state = machine.device_state().await?;
            // On this thread: while the guest is paused nothing else of this supervisor is worth a switch.
            let pages = PrivatePages::copy(machine.pid())?;
            HostResult::Ok((state, pages, self.running_commands(), self.carried_processes()?))
        }
        .await;
        let resumed = machine.resume().await;
        let pause = began.elapsed();
        let (state, pages, running, processes) = copy?;
        resumed?;
        Ok(Image { state, pages, running, processes, pause })
    }

    fn store_image(&self, image: &Image) -> HostResult<String> {
        let workspace = self.adopted()?;
        let mut commands = Vec::new();
        for &(sequence, _) in &image.running {
            let known = lock(&self.registry).command(workspace, sequence);
            if let Ok(command) = known {
                commands.push(CarriedCommand { sequence, argv: command.argv, cwd: command.cwd, started_at_ms: command.started_at_ms });
            }
        }
        // Begins with the machine's id, so that a sweep leaves it alone until the registry knows it.
        let name = format!("{}-{}", self.record.id, pyro_store::LayerId::random());
        let carried = Carried { commands, processes: image.processes.clone() };
        checkpoint::store(&self.arguments.dirs, &name, &self.record.shape, &image.pages, &image.state, workspace, carried)?;
        Ok(name)
    }

    /// Brings what a snapshot refers to down to the disk, after the guest goes on: a power cut must not take it away.
    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    fn sync_layers(&self, snapshot: &SnapshotRecord) {
        if snapshot.name.is_internal() {
            return;
        }
        let dirs = &self.arguments.dirs;
        let layers = [&snapshot.root_layer, &snapshot.workspace_layer].into_iter().flatten();
        let mut files: Vec<_> = layers.map(|layer| dirs.layers().join(format!("{layer}.qcow2"))).collect();
        if let Some(checkpoint) = &snapshot.checkpoint {
            files.extend(["memory", "state", "checkpoint.json"].map(|name| dirs.checkpoints().join(checkpoint).join(name)));
        }
        tokio::task::spawn_blocking(move || {
            for path in files {
                if let Err(error) = fs_err::File::open(&path).and_then(|file| file.sync_data()) {
                    eprintln!("cannot sync a snapshot: {error}");
                }
            }
        });
    }
}

/// Puts the overlays on top of their disks, saying which came so far.
async fn install(machine: &Machine, files: Vec<(Disk, Overlay)>, installed: &mut Vec<Disk>) -> HostResult<()> {
    for (disk, overlay) in files {
        machine.overlay(disk, overlay).await?;
        installed.push(disk);
    }
    Ok(())
}
