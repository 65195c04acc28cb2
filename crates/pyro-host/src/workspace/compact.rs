//! Keeps overlay chains short: every start and every snapshot adds a layer, and every layer costs each read a look.
//!
//! A stopped workspace's layers are merged downwards by `qemu-img`: an upper one into the one below that only it holds, which then takes its
//! place everywhere. Under a running machine nothing below the top may be written, so there the machine itself pulls what lies between its
//! top and the next layer that somebody holds into the top.
//!
//! A failure leaves the longer chain, which is as true as the short one: what was merged so far is still above it, too.

use std::{sync::Arc, time::Duration};

use pyro_store::{DiskRole, LayerId, LayerRecord, WorkspaceRecord};

use super::Supervisor;
use crate::{
    error::HostResult,
    lock,
    machine::{Disk, disks},
};

/// Overlays a stopped workspace may have whatever is in them; beyond that they are merged at any cost.
const OVERLAYS_MAX: usize = 3;
/// How long after a snapshot's deletion layers are pulled up.
const QUIET: Duration = Duration::from_secs(2);
/// Overlays a running machine may have whoever else holds them.
const RUNNING_OVERLAYS_MAX: usize = 8;
/// An overlay of this size is merged at once: a stop that takes a tenth of a second longer gives back what it covers.
const SMALL_BYTES: u64 = 64 << 20;

impl Supervisor {
    /// Merges what can be merged of a stopped workspace.
    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    pub(super) async fn compact(&self, workspace: &WorkspaceRecord) {
        for role in [DiskRole::Root, DiskRole::Workspace] {
            if let Err(error) = self.compact_disk(workspace, role).await {
                eprintln!("cannot shorten a disk's chain: {error}");
            }
        }
    }

    async fn compact_disk(&self, workspace: &WorkspaceRecord, role: DiskRole) -> HostResult<()> {
        let dirs = &self.arguments.dirs;
        loop {
            let record = lock(&self.registry).workspace(&workspace.id)?;
            let top = match role {
                DiskRole::Root => record.root_layer,
                DiskRole::Workspace => record.workspace_layer,
            };
            let Some(top) = top else { return Ok(()) };
            let chain = lock(&self.registry).layer_chain(&top)?;
            let overlays = chain.iter().filter(|layer| layer.format == "qcow2").count();
            let mut merged = false;
            for at in 0..overlays.saturating_sub(1) {
                let (upper, below) = (&chain[at], &chain[at + 1]);
                let small = allocated_bytes(&dirs.layers().join(upper.file_name())) <= SMALL_BYTES;
                if !(small || overlays > OVERLAYS_MAX) || !self.may_merge(workspace, &chain[..at], upper, below)? {
                    continue;
                }
                disks::merge_top(dirs, &self.arguments.settings.qemu, &chain[at..]).await?;
                lock(&self.registry).replace_layer(&upper.id, &below.id)?;
                merged = true;
                break;
            }
            if !merged {
                return Ok(());
            }
        }
    }

    /// Tells whether nobody but the upper layer holds the one below, and nobody but this workspace the upper one: another workspace's
    /// machine may be reading it.
    fn may_merge(&self, workspace: &WorkspaceRecord, above: &[LayerRecord], upper: &LayerRecord, below: &LayerRecord) -> HostResult<bool> {
        let registry = lock(&self.registry);
        if registry.layer_references(&below.id)? > 1 {
            return Ok(false);
        }
        let holds = |layer: &Option<LayerId>| u64::from(layer.as_ref() == Some(&upper.id));
        let record = registry.workspace(&workspace.id)?;
        let mut own = holds(&record.root_layer) + holds(&record.workspace_layer) + u64::from(!above.is_empty());
        for snapshot in registry.all_snapshots(&workspace.id)? {
            own += holds(&snapshot.root_layer) + holds(&snapshot.workspace_layer);
        }
        Ok(registry.layer_references(&upper.id)? == own)
    }

    /// Begins to pull layers that only the running machine's top still holds into it, in the background.
    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    pub(super) fn collapse(self: &Arc<Self>) {
        let supervisor = self.clone();
        tokio::spawn(async move {
            // Whoever deletes a snapshot often makes another one next, or a fork.
            tokio::time::sleep(QUIET).await;
            // A snapshot calls this off; whoever only reads the layers is not disturbed, since every cluster reads the same before and
            // after it is pulled up.
            let Ok(_no_snapshot) = supervisor.layering.try_lock() else { return };
            for (disk, role) in [(Disk::Root, DiskRole::Root), (Disk::Workspace, DiskRole::Workspace)] {
                if let Err(error) = supervisor.collapse_disk(disk, role).await {
                    eprintln!("cannot shorten a disk's chain: {error}");
                }
            }
        });
    }

    async fn collapse_disk(&self, disk: Disk, role: DiskRole) -> HostResult<()> {
        let record = self.workspace_record()?;
        let top = match role {
            DiskRole::Root => record.root_layer,
            DiskRole::Workspace => record.workspace_layer,
        };
        let Some(top) = top else { return Ok(()) };
        let chain = lock(&self.registry).layer_chain(&top)?;
        let mut loose = 0;
        for layer in chain.iter().skip(1) {
            if layer.format != "qcow2" || lock(&self.registry).layer_references(&layer.id)? > 1 {
                break;
            }
            loose += 1;
        }
        let overlays = chain.iter().filter(|layer| layer.format == "qcow2").count();
        if overlays > RUNNING_OVERLAYS_MAX {
            // Forks hold the layers below. Copying what they hold costs room, but every read of a chain that long costs time.
            loose = overlays - 1;
        }
        let Some(base) = chain.get(loose + 1).filter(|_| loose > 0) else { return Ok(()) };
        self.machine()?.pull_up(disk, loose, &self.layering_wanted).await?;
        lock(&self.registry).set_layer_parent(&top, &base.id, chain[0].size_bytes)?;
        lock(&self.registry).sweep(&self.arguments.dirs)?;
        Ok(())
    }
}

fn allocated_bytes(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or(u64::MAX, |status| status.blocks() * 512)
}
