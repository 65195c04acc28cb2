//! Snapshots of a workspace: made by its supervisor while it runs, by a row in the registry while it is stopped.

use std::time::Duration;

use pyro_proto::{
    error::ErrorKind,
    v1::{CheckpointRequest, CollapseRequest},
};
use pyro_store::{
    COMMAND_LINE_GENERATION, CheckpointRecord, Dirs, LayerId, MachineShape, Registry, SnapshotKind as StoredKind, SnapshotName,
    SnapshotRecord, StoreError, WorkspaceRecord, WorkspaceState,
};
use serde_json::json;

use crate::{
    Observer, Pyro, Workspace, apply,
    client::blocking,
    contract::{Snapshot, SnapshotCreate, SnapshotDelete, SnapshotDeleted, SnapshotKind, SnapshotList, SnapshotListAnswer},
    disk_view,
    error::{Cause, Error, Result},
    exec::milliseconds,
    system::allocated_bytes,
    text::{DiffReference, SnapshotReference},
    time::{now_ms, rfc3339},
    turn::TURN_PATIENCE,
};

/// A guest with gigabytes of dirty pages writes them first.
const CHECKPOINT_DEADLINE: Duration = Duration::from_secs(120);

/// What a snapshot cost the guest.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SnapshotCost {
    /// How long no guest instruction ran; `None` when none was running.
    pause: Option<Duration>,
}

impl Pyro {
    /// Keeps a workspace as it is now, under a name.
    ///
    /// Dropping the future does not call it off.
    ///
    /// # Errors
    /// The name is taken, or the workspace is neither running nor stopped, or it is stopped and processes are to be kept.
    pub async fn create_snapshot(&self, request: &SnapshotCreate, observer: &Observer) -> Result<Snapshot> {
        let workspace = self.workspace(&request.workspace).await?;
        let _turn = workspace.turn("snapshot create", TURN_PATIENCE, observer).await?;
        let Some(name) = request.name.name().filter(|name| name.as_str() != DiffReference::HOST) else {
            return Err(workspace.reserved("create a snapshot of", request.name.as_str()));
        };
        let kind = if request.live { StoredKind::Live } else { StoredKind::Disk };
        let (dirs, id, kept) = (self.dirs().clone(), workspace.id().clone(), name.clone());
        let noted = blocking(move || apply::History::kept(&dirs, &id, kept.as_str())).await?;
        let cost = match workspace.keep(&name, kind).await {
            Ok(cost) => cost,
            Err(error) => {
                if let Some(number) = noted {
                    let (dirs, id) = (self.dirs().clone(), workspace.id().clone());
                    blocking(move || apply::History::take_back(&dirs, &id, number)).await?;
                }
                return Err(error);
            }
        };
        let entry_count = workspace.count_entries(&name).await?;
        let detail = json!({ "snapshot_name": name.as_str(), "kind": kind.as_str() });
        let (id, label) = (workspace.id().clone(), workspace.label().to_owned());
        self.store(move |pyro, registry| {
            registry.set_snapshot_entries(&id, &name, entry_count)?;
            registry.add_event(&id, "snapshot_create", &detail)?;
            registry.touch_workspace(&id)?;
            let snapshot = describe(pyro, registry, &registry.workspace(&id)?, &registry.snapshot(&id, &name)?)?;
            Ok(Snapshot { pause_ms: cost.pause.map(milliseconds), ..snapshot })
        })
        .await
        .map_err(|error| error.about(&label))
    }

    /// Lists a workspace's snapshots, the baseline first. Does not count as activity.
    ///
    /// # Errors
    /// There is no such workspace.
    pub async fn list_snapshots(&self, request: &SnapshotList) -> Result<SnapshotListAnswer> {
        let workspace = self.workspace(&request.workspace).await?;
        let id = workspace.id().clone();
        self.store(move |pyro, registry| {
            let record = registry.workspace(&id)?;
            let mut snapshots = vec![baseline(&record)];
            for snapshot in registry.snapshots(&id)? {
                snapshots.push(describe(pyro, registry, &record, &snapshot)?);
            }
            Ok(SnapshotListAnswer { workspace_id: id.to_string(), snapshots })
        })
        .await
    }

    /// Deletes a snapshot. What only it kept is freed at once; what lies between it and newer layers, as the machine finds time.
    ///
    /// # Errors
    /// There is none of this name, or it is the baseline.
    pub async fn delete_snapshot(&self, request: &SnapshotDelete, observer: &Observer) -> Result<SnapshotDeleted> {
        let workspace = self.workspace(&request.workspace).await?;
        let _turn = workspace.turn("snapshot delete", TURN_PATIENCE, observer).await?;
        let Some(name) = request.name.name() else { return Err(workspace.reserved("delete a snapshot of", request.name.as_str())) };
        workspace.forget_snapshot(&name).await?;
        let (id, detail) = (workspace.id().clone(), json!({ "snapshot_name": name.as_str() }));
        let label = workspace.label().to_owned();
        self.store(move |_, registry| {
            registry.add_event(&id, "snapshot_delete", &detail)?;
            Ok(registry.touch_workspace(&id)?)
        })
        .await
        .map_err(|error| error.about(&label))?;
        Ok(SnapshotDeleted { workspace_id: workspace.id().to_string(), snapshot_name: name.to_string(), deleted: true })
    }
}

impl Workspace {
    fn reserved(&self, operation: &'static str, name: &str) -> Error {
        let meaning = match name {
            DiffReference::HOST => "in a diff it stands for what the host last gave",
            _ => "it is what every workspace begins with",
        };
        let cause = Cause::new(format!("`{name}` is reserved: {meaning}"));
        Error::workspace(operation, self.label(), ErrorKind::InvalidArgument, cause)
    }

    /// Enters a snapshot of this moment in the registry.
    pub(crate) async fn keep(&self, name: &SnapshotName, kind: StoredKind) -> Result<SnapshotCost> {
        const OPERATION: &str = "create a snapshot of";
        let (id, taken) = (self.id().clone(), name.clone());
        self.pyro()
            .store(move |_, registry| match registry.snapshot(&id, &taken) {
                Ok(_) => Err(StoreError::SnapshotExists { workspace: id.to_string(), name: taken.to_string() }.into()),
                Err(_) => Ok(()),
            })
            .await
            .map_err(|error| error.about(self.label()))?;
        let record = self.record().await?;
        match (&record.machine, record.state) {
            (Some(machine), WorkspaceState::Running) => {
                let mut client = self.pyro().supervisor(machine, OPERATION, self.label()).await?;
                let request = CheckpointRequest { name: name.to_string(), live: kind == StoredKind::Live };
                match tokio::time::timeout(CHECKPOINT_DEADLINE, client.checkpoint(request)).await {
                    Ok(Ok(answer)) => Ok(SnapshotCost { pause: Some(Duration::from_micros(answer.into_inner().pause_us)) }),
                    Ok(Err(status)) => Err(self.pyro().call_failed(machine, OPERATION, self.label(), &status).await),
                    Err(_) => {
                        let cause = Cause::new(format!("its file systems could not be frozen within {} s", CHECKPOINT_DEADLINE.as_secs()));
                        Err(Error::workspace(OPERATION, self.label(), ErrorKind::DeadlineExceeded, cause))
                    }
                }
            }
            (_, WorkspaceState::Stopped) if kind == StoredKind::Disk => {
                let snapshot = SnapshotRecord {
                    name: name.clone(),
                    kind,
                    root_layer: record.root_layer.clone(),
                    workspace_layer: record.workspace_layer.clone(),
                    shape: record.shape.clone(),
                    checkpoint: None,
                    memory_bytes: 0,
                    entry_count: 0,
                    created_at_ms: now_ms(),
                };
                let id = self.id().clone();
                self.pyro()
                    .store(move |_, registry| Ok(registry.insert_snapshot(&id, &snapshot, None)?))
                    .await
                    .map_err(|error| error.about(self.label()))?;
                Ok(SnapshotCost::default())
            }
            (_, WorkspaceState::Stopped) => {
                let cause = Cause::new("it is stopped, so it has no processes to keep".to_owned());
                Err(Error::workspace(OPERATION, self.label(), ErrorKind::WrongState, cause))
            }
            (_, state) => {
                let refused = StoreError::WrongState { workspace: self.label().to_owned(), state: state.as_str() };
                Err(Error::from(refused).about(self.label()))
            }
        }
    }

    /// Counts what a snapshot's `/workspace` holds, from its layers.
    async fn count_entries(&self, name: &SnapshotName) -> Result<u64> {
        let (id, name) = (self.id().clone(), name.clone());
        let chain = self
            .pyro()
            .store(move |pyro, registry| {
                let snapshot = registry.snapshot(&id, &name)?;
                disk_view::chain(pyro.dirs(), registry, snapshot.workspace_layer.as_ref())
            })
            .await?;
        if chain.is_empty() { Ok(0) } else { blocking(move || disk_view::count_entries(&chain)).await }
    }

    /// Removes a snapshot and has a running machine shorten its disks' chains.
    pub(crate) async fn forget_snapshot(&self, name: &SnapshotName) -> Result<()> {
        let (id, name) = (self.id().clone(), name.clone());
        let machine = self
            .pyro()
            .store(move |pyro, registry| {
                registry.retire_snapshot(pyro.dirs(), &id, &name)?;
                let record = registry.workspace(&id)?;
                Ok(record.machine.filter(|_| record.state == WorkspaceState::Running))
            })
            .await
            .map_err(|error| error.about(self.label()))?;
        if let Some(machine) = machine
            && let Ok(mut client) = self.pyro().supervisor(&machine, "delete a snapshot of", self.label()).await
        {
            // Only space: the next stop does it otherwise.
            drop(tokio::time::timeout(crate::workspace::INSPECT_DEADLINE, client.collapse(CollapseRequest {})).await);
        }
        Ok(())
    }
}

impl Pyro {
    /// Tells whether a machine of this shape could be resumed by today's QEMU and Pyro.
    pub(crate) fn resumes(&self, shape: &MachineShape) -> bool {
        shape.agent_digest == pyro_image::agent::agent_digest()
            && shape.command_line_generation == COMMAND_LINE_GENERATION
            && pyro_store::file_identity(&self.configuration().settings.qemu).is_ok_and(|identity| identity == shape.qemu_identity)
    }

    /// Returns what is stored of a live snapshot's machine, if it can still go on.
    pub(crate) fn stored_machine(&self, snapshot: &SnapshotRecord) -> Result<Option<CheckpointRecord>> {
        let Some(checkpoint) = snapshot.checkpoint.as_ref().filter(|_| self.resumes(&snapshot.shape)) else { return Ok(None) };
        Ok(CheckpointRecord::load(self.dirs(), &snapshot.shape, checkpoint)?)
    }
}

fn baseline(record: &WorkspaceRecord) -> Snapshot {
    Snapshot {
        workspace_id: record.id.to_string(),
        snapshot_name: SnapshotReference::BASELINE.to_owned(),
        kind: SnapshotKind::Baseline,
        entry_count: record.seed.as_ref().map_or(0, |seed| seed.entry_count),
        bytes_written: record.seed.as_ref().map_or(0, |seed| seed.bytes_written),
        memory_bytes: 0,
        pause_ms: None,
        created_at: rfc3339(record.created_at_ms),
        deletable: false,
        may_hold_secrets: false,
        stale: false,
    }
}

fn describe(pyro: &Pyro, registry: &Registry, record: &WorkspaceRecord, snapshot: &SnapshotRecord) -> Result<Snapshot> {
    let live = snapshot.kind == StoredKind::Live;
    let mut bytes = 0;
    for layer in [&snapshot.root_layer, &snapshot.workspace_layer].into_iter().flatten() {
        // What the workspace itself builds on is not the snapshot's alone.
        if registry.layer_references(layer)? <= 1 {
            bytes += layer_bytes(pyro.dirs(), layer);
        }
    }
    if let Some(checkpoint) = &snapshot.checkpoint {
        bytes += crate::system::folder_bytes(&pyro.dirs().checkpoints().join(checkpoint));
    }
    Ok(Snapshot {
        workspace_id: record.id.to_string(),
        snapshot_name: snapshot.name.to_string(),
        kind: if live { SnapshotKind::Live } else { SnapshotKind::Disk },
        entry_count: snapshot.entry_count,
        bytes_written: bytes,
        memory_bytes: snapshot.memory_bytes,
        pause_ms: None,
        created_at: rfc3339(snapshot.created_at_ms),
        deletable: true,
        may_hold_secrets: live,
        stale: live && pyro.stored_machine(snapshot)?.is_none(),
    })
}

fn layer_bytes(dirs: &Dirs, layer: &LayerId) -> u64 {
    std::fs::metadata(dirs.layers().join(format!("{layer}.qcow2"))).map_or(0, |status| allocated_bytes(&status))
}
