//! From nothing to a guest whose agent answers.

use std::sync::Arc;

use pyro_store::{FileLock, LayerRecord, MACHINE_LOCK, MachineRole, Resume};

use super::{EndReason, Stage, Supervisor, now_ms};
use crate::{
    error::{HostError, HostResult},
    lock,
    machine::{
        Disk, QmpEvent, checkpoint,
        disks::{self, TEMPLATE_ROOT_GIB, TEMPLATE_WORKSPACE_GIB},
        handoff, template,
    },
};

/// Where a standby machine's nice value is while it is being made: the workspace it will replace runs its first commands now.
const BACKGROUND_NICE: i32 = 10;

impl Supervisor {
    /// Makes the machine and tells the outcome to everyone who waits for it.
    pub(super) async fn prepare(self: Arc<Self>) {
        if let Err(error) = self.clone().try_prepare().await {
            self.stage.send_replace(Stage::Failed(error.to_failure()));
            self.request_end(EndReason::Failed);
        }
    }

    async fn try_prepare(self: Arc<Self>) -> HostResult<()> {
        let (dirs, settings, shape) = (&self.arguments.dirs, &self.arguments.settings, &self.record.shape);
        let standby = self.record.role == MachineRole::Standby;
        // Without room for it, the disk is as good as full, and creating the overlays will say so.
        drop(dirs.keep_reserve());
        if standby {
            // Only root may raise it again later, so nobody else lowers it.
            self.set_priority(BACKGROUND_NICE);
        }
        let (template, checkpoint, sizes) = match &self.arguments.resume {
            Some(resume) => {
                let (template, checkpoint, sizes) = self.stored(resume).await?;
                (template, Some(checkpoint), sizes)
            }
            None => (self.template().await?, None, (TEMPLATE_ROOT_GIB, TEMPLATE_WORKSPACE_GIB)),
        };
        let overlays = disks::create_overlays(dirs, &self.registry, &self.record.id, sizes.0, sizes.1).await?;
        let life = FileLock::acquire(&dirs.machine(&self.record.id).join(MACHINE_LOCK))?.into();
        let own = disks::Own { overlays, life, user_slot: self.record.user_slot };
        let (machine, ports, memory) = template::restore(settings, dirs, shape, template, own, checkpoint).await?;
        lock(&self.registry).set_machine_process(&self.record.id, machine.pid())?;
        *lock(&self.card) = ports.network;
        let agent = template::connect(&machine, ports.agent).await?;
        tokio::spawn(self.clone().watch_events(ports.events));
        handoff::serve(dirs, &self.record.id, memory)?;
        if standby {
            template::warm(dirs, &self.registry, &machine, &agent).await?;
            self.prehang(&machine).await?;
        }
        let set_once = self.machine.set(machine).is_ok() && self.agent.set(agent).is_ok();
        debug_assert!(set_once, "prepare runs once");
        self.stage.send_replace(Stage::Ready);
        if standby {
            self.set_priority(0);
            let lifetime_ms = i64::try_from(settings.standby_ttl_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
            lock(&self.registry).offer_standby(&self.record.id, now_ms().saturating_add(lifetime_ms))?;
        }
        Ok(())
    }

    fn set_priority(&self, nice: i32) {
        if rustix::process::geteuid().is_root() {
            // A failure costs some smoothness, nothing else.
            drop(pyro_sys::process::set_group_priority(std::process::id(), nice));
        }
    }

    /// Gets a live snapshot: its template's memory with its own device state, its pages, and what hangs under its disks of these sizes.
    async fn stored(&self, resume: &Resume) -> HostResult<(template::Template, template::Checkpoint, (u64, u64))> {
        let (dirs, shape) = (&self.arguments.dirs, &self.record.shape);
        // Before the template is asked for: one that is gone must not be built anew, its memory would be another.
        let stored = checkpoint::load(dirs, &resume.checkpoint, shape)?;
        let template = self.template().await?;
        let chain = |layer| lock(&self.registry).layer_chain(layer);
        let (root, workspace) = (chain(&resume.root_layer)?, chain(&resume.workspace_layer)?);
        let gib = |chain: &[LayerRecord]| chain.first().map_or(0, |layer| layer.size_bytes >> 30);
        let sizes = (gib(&root), gib(&workspace));
        let checkpoint = template::Checkpoint { pages: stored.pages, chains: vec![(Disk::Root, root), (Disk::Workspace, workspace)] };
        Ok((template::Template { memory: template.memory, state: stored.state }, checkpoint, sizes))
    }

    /// Gets the template from a living sibling, from disk, or builds it.
    async fn template(&self) -> HostResult<template::Template> {
        let (dirs, settings, shape) = (&self.arguments.dirs, &self.arguments.settings, &self.record.shape);
        if let Some(state) = template::load_state(dirs, shape) {
            let machines = lock(&self.registry).machines()?;
            if let Some(memory) = handoff::ask(dirs, &machines, &self.record) {
                return Ok(template::Template { memory: memory.into(), state });
            }
        }
        // One that cannot be found out about is in use.
        let in_use = |key: &str| {
            let registry = lock(&self.registry);
            let kept = registry.live_templates().map_or(true, |kept| kept.iter().any(|kept| kept == key));
            kept || registry.machines().map_or(true, |machines| machines.iter().any(|machine| machine.template == key))
        };
        template::obtain(dirs, settings, shape, self.record.user_slot, &in_use, &|phase| self.tell(phase)).await
    }

    /// Follows what QEMU tells by itself, until it ends.
    async fn watch_events(self: Arc<Self>, mut events: tokio::sync::mpsc::Receiver<QmpEvent>) {
        while let Some(event) = events.recv().await {
            match event {
                QmpEvent::HostDiskFull if !*self.disk_full.borrow() => {
                    // The guest is paused, so it cannot take this: it is for the registry.
                    drop(self.arguments.dirs.release_reserve());
                    self.disk_full.send_replace(true);
                    tokio::spawn(self.clone().resume_when_there_is_room());
                }
                QmpEvent::HostDiskFull => {}
            }
        }
    }

    /// The guest is paused, because its disk on the host could not grow. Goes on when there is room.
    async fn resume_when_there_is_room(self: Arc<Self>) {
        /// Room for what the guest has in flight, so that it does not stop again at once.
        const ROOM_BYTES: u64 = 64 << 20;
        const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let Ok(status) = rustix::fs::statvfs(self.arguments.dirs.layers()) else { continue };
            if status.f_bavail.saturating_mul(status.f_frsize) < ROOM_BYTES {
                continue;
            }
            // Cleared first: an error right after `cont` must be seen as a new one.
            self.disk_full.send_replace(false);
            let resumed = match self.machine() {
                Ok(machine) => machine.resume().await,
                Err(error) => Err(error),
            };
            if let Err(HostError::Monitor { .. } | HostError::Qmp { .. } | HostError::WrongState { .. }) = resumed {
                self.disk_full.send_replace(true);
                continue;
            }
            drop(self.arguments.dirs.keep_reserve());
            return;
        }
    }
}
