//! Keeps overlay chains short: every start adds a layer, and every layer costs each read a look.

use pyro_store::{DiskRole, LayerId, WorkspaceRecord};

use super::Supervisor;
use crate::{error::HostResult, lock, machine::disks};

/// Overlays a stopped workspace may have; the top one is merged into the one below beyond that.
const OVERLAYS_MAX: usize = 3;

impl Supervisor {
    /// Merges the top overlay of each disk into the one below, when the chain is long and nobody else uses that one. A failure leaves
    /// the longer chain, which is as true as the short one: whatever was merged so far is still above it, too.
    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    pub(super) async fn compact(&self, workspace: &WorkspaceRecord) {
        for (role, top) in [(DiskRole::Root, &workspace.root_layer), (DiskRole::Workspace, &workspace.workspace_layer)] {
            let Some(top) = top else { continue };
            if let Err(error) = self.merge_top(workspace, role, top).await {
                eprintln!("cannot shorten a disk's chain: {error}");
            }
        }
    }

    async fn merge_top(&self, workspace: &WorkspaceRecord, role: DiskRole, top: &LayerId) -> HostResult<()> {
        let chain = lock(&self.registry).layer_chain(top)?;
        let overlays = chain.iter().filter(|layer| layer.format == "qcow2").count();
        let [_, below, ..] = chain.as_slice() else { return Ok(()) };
        if overlays <= OVERLAYS_MAX || lock(&self.registry).layer_references(&below.id)? > 1 {
            return Ok(());
        }
        disks::merge_top(&self.arguments.dirs, &self.arguments.settings.qemu, &chain).await?;
        lock(&self.registry).replace_top_layer(&workspace.id, role, &below.id)?;
        Ok(())
    }
}
