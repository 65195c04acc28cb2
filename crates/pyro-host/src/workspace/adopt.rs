//! Makes a ready machine the workspace's.

use std::sync::Arc;

use pyro_proto::process::ProcessId;
use pyro_store::{LayerId, LayerRecord, WorkspaceId, WorkspaceRecord};

use super::{Supervisor, network::Certificates};
use crate::{
    agent::Identity,
    error::{HostError, HostResult},
    lock,
    machine::{
        Disk, Machine,
        disks::{self, Blank, TEMPLATE_ROOT_GIB, TEMPLATE_WORKSPACE_GIB},
    },
};

impl Supervisor {
    /// Hangs the workspace's disks under the machine, mounts them in the guest and publishes the workspace as running.
    ///
    /// Cancelled half-way, the machine is of no further use: the caller ends it.
    pub(super) async fn adopt(self: &Arc<Self>, id: &WorkspaceId) -> HostResult<()> {
        let _one_at_a_time = self.adopting.lock().await;
        if let Some(owner) = self.workspace.get() {
            return Err(HostError::WrongState { problem: format!("this machine belongs to workspace {owner}") });
        }
        let (machine, agent) = (self.machine()?, self.agent()?);
        let record = lock(&self.registry).workspace(id)?;
        if record.machine.as_ref() != Some(&self.record.id) {
            return Err(HostError::WrongState { problem: format!("workspace {id} is not waiting for this machine") });
        }
        // The layers this machine made; after adoption the registry knows them as the workspace's.
        let own = lock(&self.registry).machine(&self.record.id)?;
        let (Some(own_root), Some(own_workspace)) = own.map_or((None, None), |own| (own.root_layer, own.workspace_layer)) else {
            return Err(HostError::WrongState { problem: "this machine has no disks of its own".into() });
        };
        let identity = self.identity(&record)?;
        let carried = if let Some(resume) = &self.arguments.resume {
            lock(&self.registry).set_layer_parent(&own_root, &resume.root_layer, record.root_disk_gib << 30)?;
            lock(&self.registry).set_layer_parent(&own_workspace, &resume.workspace_layer, record.disk_gib << 30)?;
            let woken = agent.wake(identity).await?;
            self.part_with(&woken.connections).await?;
            woken.commands
        } else {
            self.hang_disks(machine, &record, own_root, own_workspace).await?;
            agent.attach(identity).await?;
            Vec::new()
        };
        self.place_secrets().await?;
        lock(&self.registry).adopt(&self.record.id, id)?;
        let set_once = self.workspace.set(id.clone()).is_ok();
        debug_assert!(set_once, "guarded by `adopting`");
        self.take_over_processes(&carried).await?;
        // Shells and services have numbers of their own kind.
        let commands = carried.into_iter().filter(|number| matches!(ProcessId::of(*number), ProcessId::Command(_))).collect();
        self.take_over(commands).await;
        self.activity.notify_waiters();
        if self.arguments.resume.is_none() {
            tokio::spawn(self.clone().replace_standby());
        }
        Ok(())
    }

    /// Starts the network, and returns what makes the guest the workspace's.
    fn identity(self: &Arc<Self>, record: &WorkspaceRecord) -> HostResult<Identity> {
        let outside = self.take_secrets(record)?;
        let own = outside.as_ref().map(|outside| outside.certificate.clone());
        let network = self.start_network(record, outside)?;
        let host = network.is_some() && record.network_rules.host_certificates;
        let mut authorities = if host { Certificates::of_host(self.settings().certificates.as_deref()) } else { String::new() };
        authorities.extend(own);
        let certificates = self.certificates.get_or_init(|| Certificates::trusting(authorities)).clone();
        Ok(Identity {
            hostname: hostname(record),
            machine_id: format!("{0}{0}", record.id),
            network,
            certificates: certificates.authorities,
            certificate_bundle: certificates.bundle,
        })
    }

    async fn hang_disks(&self, machine: &Machine, record: &WorkspaceRecord, own_root: LayerId, own_workspace: LayerId) -> HostResult<()> {
        let dirs = &self.arguments.dirs;
        for (disk, layer, template_gib, gib) in [
            (Disk::Root, own_root, TEMPLATE_ROOT_GIB, record.root_disk_gib),
            (Disk::Workspace, own_workspace, TEMPLATE_WORKSPACE_GIB, record.disk_gib),
        ] {
            let chain = self.chain(record, disk, gib).await?;
            lock(&self.registry).set_layer_parent(&layer, &chain[0].id, gib << 30)?;
            if gib != template_gib {
                machine.resize(disk, gib << 30).await?;
            }
            let hangs_already = matches!(chain.as_slice(), [blank] if self.prehung.get().is_some_and(|hung| hung.contains(&blank.id)));
            if !hangs_already {
                machine.hang(dirs, disk, &chain).await?;
            }
        }
        Ok(())
    }

    /// Hangs the blanks of the usual sizes under a standby machine, 4 ms that its first owner then does not wait for. One that wants
    /// something else hangs that instead, since nothing has been written or read.
    pub(super) async fn prehang(&self, machine: &Machine) -> HostResult<()> {
        let (dirs, registry) = (&self.arguments.dirs, &self.registry);
        let root = disks::blank(dirs, registry, Blank::Root { gib: TEMPLATE_ROOT_GIB }).await?;
        let workspace = disks::blank(dirs, registry, Blank::Workspace { gib: TEMPLATE_WORKSPACE_GIB }).await?;
        let hung = vec![root.id.clone(), workspace.id.clone()];
        machine.hang(dirs, Disk::Root, &[root]).await?;
        machine.hang(dirs, Disk::Workspace, &[workspace]).await?;
        let set_once = self.prehung.set(hung).is_ok();
        debug_assert!(set_once, "a machine is warmed once");
        Ok(())
    }

    /// Returns what hangs under the machine's own overlay, top first: the workspace's layers, or the shared blank of its size.
    async fn chain(&self, record: &WorkspaceRecord, disk: Disk, gib: u64) -> HostResult<Vec<LayerRecord>> {
        let (top, blank) = match disk {
            Disk::Root => (&record.root_layer, Blank::Root { gib }),
            Disk::Workspace => (&record.workspace_layer, Blank::Workspace { gib }),
            Disk::Scratch => (&None, Blank::Scratch),
        };
        match top {
            Some(top) => Ok(lock(&self.registry).layer_chain(top)?),
            None => Ok(vec![disks::blank(&self.arguments.dirs, &self.registry, blank).await?]),
        }
    }
}

/// Returns a host name: letters, digits and dashes (hostname(7)).
fn hostname(record: &WorkspaceRecord) -> String {
    let name: String = record.display_name().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.trim_end_matches('-').to_owned()
}
