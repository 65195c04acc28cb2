//! Reset: another machine with the disks of then, instead of repairs to the one there is.
//!
//! One transaction takes the workspace from its machine and puts its disks back; from then on it is in its new state, whatever happens to
//! this process. The old machine sees that it has lost its workspace and ends.

use std::time::Duration;

use pyro_proto::v1::RefreshRequest;
use pyro_store::{Carried, MachineId, ResetTarget, Resume, SnapshotKind as StoredKind, SnapshotRecord};
use serde_json::json;

use crate::{
    Observer, Progress, Pyro, Workspace,
    apply::{History, Noted},
    contract::{WorkspaceReset, WorkspaceStatus},
    error::Result,
    limits::{MemMib, VcpuCount},
    secrets,
    text::SnapshotReference,
    turn::TURN_PATIENCE,
    workspace::INSPECT_DEADLINE,
};

/// What a reset goes back to.
struct Destination {
    target: ResetTarget,
    resume: Option<Resume>,
    snapshot: Option<SnapshotRecord>,
}

impl Pyro {
    /// Puts a workspace back to its baseline or to a snapshot, and returns when commands run in it. One that is stopped runs afterwards.
    ///
    /// Dropping the future before it is done leaves the workspace reset, and stopped once the next client command has looked.
    ///
    /// # Errors
    /// There is no such workspace or snapshot, or it is being created, started or deleted; nothing is changed then. When no machine can
    /// be started the workspace is reset, and stopped.
    pub async fn reset_workspace(&self, request: &WorkspaceReset, observer: &Observer) -> Result<WorkspaceStatus> {
        let workspace = self.workspace(&request.workspace).await?;
        workspace.reset(request.snapshot.as_ref(), observer).await?;
        workspace.status_on_record().await
    }
}

impl Workspace {
    /// Puts the workspace back; see [`Pyro::reset_workspace`].
    ///
    /// # Errors
    /// As there.
    pub async fn reset(&self, snapshot: Option<&SnapshotReference>, observer: &Observer) -> Result<()> {
        let _turn = self.turn("reset", TURN_PATIENCE, observer).await?;
        self.pyro().reap().await?;
        let record = self.record().await?;
        let name = snapshot.and_then(SnapshotReference::name);
        let Destination { target, resume, snapshot } = match &name {
            None => {
                let target = ResetTarget { root_layer: None, workspace_layer: record.baseline_layer.clone(), carried: Carried::default() };
                Destination { target, resume: None, snapshot: None }
            }
            Some(name) => self.destination(name, observer).await?,
        };
        // Before anything is changed: the supervisor that holds them is about to lose the workspace.
        let secrets = self.gather_secrets(&record, secrets::Values::new()).await?;
        // Asked before anything is changed: a host without QEMU keeps the workspace as it is.
        let shape = match (&resume, &snapshot) {
            (Some(_), Some(snapshot)) => snapshot.shape.clone(),
            _ => {
                let limits = (VcpuCount::new(record.shape.vcpu_count.into())?, MemMib::new(record.shape.mem_mib)?);
                self.pyro().shape(record.shape.environment_digest.clone(), limits.0, limits.1, record.network_policy, observer).await?
            }
        };
        let (id, detail) =
            (self.id().clone(), json!({ "snapshot_name": name.as_ref().map_or(SnapshotReference::BASELINE, |name| name.as_str()) }));
        let kept = name.clone();
        let (tenure, old) = self
            .pyro()
            .store(move |pyro, registry| {
                // Noted first: see there. The lock is held until the workspace has really gone back.
                let noted = History::reset(pyro.dirs(), &id, kept.as_ref().map(|name| name.as_str()))?;
                let begun = match registry.begin_reset(&id, &target) {
                    Ok(begun) => begun,
                    Err(error) => {
                        noted.map_or(Ok(()), Noted::take_back)?;
                        return Err(error.into());
                    }
                };
                registry.add_event(&id, "reset", &detail)?;
                Ok(begun)
            })
            .await
            .map_err(|error| error.about(self.label()))?;
        if resume.is_some()
            && let Some(old) = &old
        {
            // What goes on keeps its number in the journal: nothing of the machine that is left may be written under it any more.
            self.pyro().bury_machine(old, Duration::ZERO).await?;
            self.forget_output().await;
        }
        if let Some(resume) = &resume {
            let (id, checkpoint) = (self.id().clone(), resume.checkpoint.clone());
            self.pyro().store(move |pyro, _| Ok(pyro_store::restore_rings(pyro.dirs(), &checkpoint, &id)?)).await?;
        }
        let resumed = resume.is_some();
        let place = async {
            match resume {
                Some(resume) => self.place_resumed("reset", &tenure, shape, resume, &secrets, observer).await,
                None => self.place("reset", &tenure, shape, &secrets, observer).await,
            }
        };
        let placed = observer.unless_called_off("the workspace is reset and stopped", place).await;
        if let Some(old) = old.filter(|_| !resumed) {
            // Only now: its end frees memory and takes a core for it, while the new one was waited for.
            self.dismiss(&old).await?;
        }
        if !resumed {
            self.forget_output().await;
        }
        if let Err(error) = placed {
            let cleanup = self.fall_back_to_stopped(&tenure, &error).await;
            return Err(error.with_cleanup("reset", self.label(), cleanup));
        }
        Ok(())
    }

    async fn destination(&self, name: &pyro_store::SnapshotName, observer: &Observer) -> Result<Destination> {
        let (id, name) = (self.id().clone(), name.clone());
        let (snapshot, stored) = self
            .pyro()
            .store(move |pyro, registry| {
                let snapshot = registry.snapshot(&id, &name)?;
                let stored = pyro.stored_machine(&snapshot)?;
                Ok((snapshot, stored))
            })
            .await
            .map_err(|error| error.about(self.label()))?;
        let resume = match (&stored, &snapshot.checkpoint, &snapshot.root_layer, &snapshot.workspace_layer) {
            (Some(_), Some(checkpoint), Some(root), Some(disk)) => {
                Some(Resume { checkpoint: checkpoint.clone(), root_layer: root.clone(), workspace_layer: disk.clone() })
            }
            _ => None,
        };
        if snapshot.kind == StoredKind::Live && resume.is_none() {
            let phase = "the live snapshot was taken by another Pyro or QEMU, its processes cannot go on: only its disks are brought back";
            observer.notify(Progress::Machine { phase: phase.to_owned() });
        }
        let target = ResetTarget {
            root_layer: snapshot.root_layer.clone(),
            workspace_layer: snapshot.workspace_layer.clone(),
            carried: stored
                .filter(|_| resume.is_some())
                .map(|stored| Carried { commands: stored.commands, processes: stored.processes })
                .unwrap_or_default(),
        };
        Ok(Destination { target, resume, snapshot: Some(snapshot) })
    }

    /// Tells a machine that its workspace has moved on; it ends by itself then. One that cannot be told is ended.
    async fn dismiss(&self, machine: &MachineId) -> Result<()> {
        let tell = async {
            let mut client = self.pyro().supervisor(machine, "reset", self.label()).await.ok()?;
            client.refresh(RefreshRequest {}).await.ok()
        };
        match tokio::time::timeout(INSPECT_DEADLINE, tell).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => self.pyro().bury_machine(machine, Duration::ZERO).await,
        }
    }

    /// Removes the output of the life before. What cannot be removed is not shown, and goes with the workspace.
    async fn forget_output(&self) {
        let folder = self.pyro().dirs().workspace(self.id());
        let remove = move || ["output", "shells", "services"].map(|name| drop(std::fs::remove_dir_all(folder.join(name))));
        crate::client::blocking(remove).await;
    }
}
