//! The handle on one workspace, and what is known of it.

use std::path::Path;

use pyro_proto::v1::{InspectAnswer, InspectRequest, RefreshRequest};
use pyro_store::{LabelKey, LabelValue, Registry, WorkspaceId, WorkspaceRecord, WorkspaceState as StoredState};
use serde_json::json;

use crate::{
    Pyro,
    client::Reap,
    contract::{
        CommandEntry, ExecutionMode, OpenPort, ServiceInBrief, WorkspaceList, WorkspaceListRequest, WorkspaceSeed, WorkspaceState,
        WorkspaceStatus, WorkspaceUpdate,
    },
    error::{Problem, Result},
    journal,
    system::allocated_bytes,
    time::rfc3339,
};

/// Most labels of a workspace.
pub(crate) const LABELS_MAX: usize = 32;
/// How long a supervisor has to say how it is. It answers from memory; a busy host was seen to need 200 ms.
pub(crate) const INSPECT_DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// What became of asking a supervisor how it is.
#[derive(Debug)]
pub(crate) enum Inspected {
    /// It said.
    Answered(InspectAnswer),
    /// There is none, or it is just going away.
    Absent,
    /// It is there and did not answer in time.
    Silent,
}

/// A workspace. The handle stays valid over stop and start; it follows the workspace to another machine by itself.
#[derive(Debug, Clone)]
pub struct Workspace {
    pyro: Pyro,
    id: WorkspaceId,
    label: String,
}

impl Workspace {
    pub(crate) fn new(pyro: Pyro, record: &WorkspaceRecord) -> Self {
        Self { pyro, id: record.id.clone(), label: record.display_name().to_owned() }
    }

    /// Returns its id.
    #[must_use]
    pub const fn id(&self) -> &WorkspaceId {
        &self.id
    }

    /// Returns what a person calls it: the name it had when the handle was made, else its id.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the installation it belongs to.
    #[must_use]
    pub const fn pyro(&self) -> &Pyro {
        &self.pyro
    }

    pub(crate) async fn record(&self) -> Result<WorkspaceRecord> {
        let id = self.id.clone();
        self.pyro.store(move |_, registry| Ok(registry.workspace(&id)?)).await.map_err(|error| error.about(&self.label))
    }

    /// Returns what is known of the workspace. Does not count as activity.
    ///
    /// # Errors
    /// It is gone.
    pub async fn status(&self) -> Result<WorkspaceStatus> {
        let id = self.id.clone();
        let (record, mut status) = self
            .pyro
            .store(move |pyro, registry| {
                let record = registry.workspace(&id)?;
                let status = describe(pyro, registry, &record)?;
                Ok((record, status))
            })
            .await
            .map_err(|error| error.about(&self.label))?;
        if let Inspected::Answered(inspected) = self.inspect(&record).await {
            status.memory_used_bytes = Some(inspected.host_memory_bytes);
            status.host_disk_full = inspected.host_disk_full;
            status.running_command_count = inspected.running.len() as u64;
            if !inspected.running.is_empty() || !inspected.busy_shells.is_empty() {
                status.expires_at = None;
            }
        }
        Ok(status)
    }

    /// Returns what the registry knows of the workspace: a machine that has just begun to run is not asked how much memory it takes, which
    /// costs as much as a tenth of making it.
    pub(crate) async fn status_on_record(&self) -> Result<WorkspaceStatus> {
        let id = self.id.clone();
        let describe = move |pyro: &Pyro, registry: &mut Registry| describe(pyro, registry, &registry.workspace(&id)?);
        self.pyro.store(describe).await.map_err(|error| error.about(&self.label))
    }

    /// Asks the supervisor how it is.
    pub(crate) async fn inspect(&self, record: &WorkspaceRecord) -> Inspected {
        let Some(machine) = record.machine.as_ref().filter(|_| record.state == StoredState::Running) else { return Inspected::Absent };
        let ask = async {
            let mut client = self.pyro.supervisor(machine, "inspect", &self.label).await.ok()?;
            client.inspect(InspectRequest {}).await.ok().map(tonic::Response::into_inner)
        };
        match tokio::time::timeout(INSPECT_DEADLINE, ask).await {
            Ok(Some(answer)) => Inspected::Answered(answer),
            Ok(None) => Inspected::Absent,
            Err(_) => Inspected::Silent,
        }
    }
}

impl Pyro {
    /// Lists workspaces, newest activity first. Does not count as activity.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub async fn list_workspaces(&self, request: WorkspaceListRequest) -> Result<WorkspaceList> {
        self.store(move |pyro, registry| {
            pyro.reap_with(registry, Reap::Now)?;
            let wanted = |record: &WorkspaceRecord| {
                request.state.is_none_or(|state| state == WorkspaceState::from(record.state))
                    && request.labels.iter().all(|label| record.labels.get(&label.key) == Some(&label.value))
            };
            let workspaces = registry
                .workspaces()?
                .iter()
                .filter(|record| wanted(record))
                .map(|record| describe(pyro, registry, record))
                .collect::<Result<_>>()?;
            Ok(WorkspaceList { workspaces })
        })
        .await
    }

    /// Changes name, labels and idle time together.
    ///
    /// # Errors
    /// The name is taken, or there would be too many labels; nothing is changed then.
    pub async fn update_workspace(&self, request: WorkspaceUpdate) -> Result<WorkspaceStatus> {
        let (workspace, _) = self.find(&request.workspace, Reap::Now).await?;
        let id = workspace.id.clone();
        let record = self
            .store(move |_, registry| {
                let record = registry.workspace(&id)?;
                let mut labels = record.labels;
                labels.retain(|key, _| !request.clear_labels.contains(key));
                labels.extend(request.labels.into_iter().map(|label| (label.key, label.value)));
                check_labels(&labels)?;
                let name = if request.clear_name { None } else { request.name.or(record.name) };
                let ttl_seconds = request.ttl_seconds.map_or(record.ttl_seconds, |seconds| seconds.get());
                registry.update_workspace(&id, name.as_ref(), &labels, ttl_seconds)?;
                registry.add_event(&id, "update", &json!({ "name": name, "labels": labels, "ttl_seconds": ttl_seconds }))?;
                Ok(registry.workspace(&id)?)
            })
            .await
            .map_err(|error| error.about(&workspace.label))?;
        if let Some(machine) = record.machine.as_ref().filter(|_| record.state == StoredState::Running) {
            // A supervisor that cannot be reached reads the row when it next looks by itself.
            if let Ok(mut client) = self.supervisor(machine, "update", &workspace.label).await {
                drop(tokio::time::timeout(INSPECT_DEADLINE, client.refresh(RefreshRequest {})).await);
            }
        }
        Workspace::new(self.clone(), &record).status().await
    }
}

pub(crate) fn check_labels(labels: &std::collections::BTreeMap<LabelKey, LabelValue>) -> Result<()> {
    match labels.len() {
        0..=LABELS_MAX => Ok(()),
        count => Err(Problem::TooManyLabels { count, maximum: LABELS_MAX }.into()),
    }
}

/// Tells what the registry and the disk know of a workspace.
fn describe(pyro: &Pyro, registry: &Registry, record: &WorkspaceRecord) -> Result<WorkspaceStatus> {
    let settings = &pyro.configuration().settings;
    let last_command = registry.commands(&record.id, 1)?.pop();
    let running = if record.state == StoredState::Running { registry.commands(&record.id, 512)? } else { Vec::new() };
    let running = running.iter().filter(|command| command.ended_at_ms.is_none()).count() as u64;
    let services = registry.services(&record.id)?;
    let alive = services.iter().filter(|service| service.state.is_alive()).count() as u64;
    // A machine may run with another accelerator than the one the workspace was made with.
    let shape = match &record.machine {
        Some(machine) => registry.machine(machine)?.map_or_else(|| record.shape.clone(), |machine| machine.shape),
        None => record.shape.clone(),
    };
    Ok(WorkspaceStatus {
        workspace_id: record.id.to_string(),
        name: record.name.as_ref().map(ToString::to_string),
        labels: record.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        environment: record.environment.clone(),
        state: record.state.into(),
        stop_reason: record.stop_reason.clone(),
        vcpu_count: shape.vcpu_count,
        mem_mib: shape.mem_mib,
        disk_gib: record.disk_gib,
        root_disk_gib: record.root_disk_gib,
        ttl_seconds: record.ttl_seconds,
        on_expire: record.on_expire.into(),
        network_policy: record.network_policy.into(),
        execution_mode: ExecutionMode::Guest,
        accelerator: shape.accelerator.to_string(),
        workspace_seed: seed(record),
        secrets: crate::secrets::describe(record),
        secrets_unavailable: crate::secrets::unavailable(record),
        command_count: record.command_count,
        running_command_count: running,
        last_command: last_command.as_ref().map(CommandEntry::from),
        reset_count: record.reset_count,
        last_reset_at: record.last_reset_at_ms.map(rfc3339),
        service_count: services.len() as u64,
        running_service_count: alive,
        services: services.iter().map(ServiceInBrief::from).collect(),
        open_shell_count: registry.shells(&record.id)?.iter().filter(|shell| shell.ended_at_ms.is_none()).count() as u64,
        published_ports: registry.ports(&record.id)?.iter().map(OpenPort::from).collect(),
        last_activity_at: rfc3339(record.last_activity_at_ms),
        created_at: rfc3339(record.created_at_ms),
        expires_at: (running == 0 && alive == 0).then(|| rfc3339(record.expires_at_ms(settings.stopped_ttl_seconds))),
        disk_used_bytes: own_bytes(pyro, registry, record)?,
        memory_used_bytes: None,
        host_disk_full: false,
    })
}

fn seed(record: &WorkspaceRecord) -> WorkspaceSeed {
    match &record.seed {
        None => WorkspaceSeed {
            mode: "empty".to_owned(),
            seed_path: None,
            origin_kind: "empty".to_owned(),
            origin_ref: None,
            entry_count: 0,
            bytes_written: 0,
        },
        Some(seed) => WorkspaceSeed {
            mode: "seeded".to_owned(),
            seed_path: Some(seed.path.clone()),
            origin_kind: seed.origin_kind.clone(),
            origin_ref: seed.origin_ref.clone(),
            entry_count: seed.entry_count,
            bytes_written: seed.bytes_written,
        },
    }
}

/// Returns what a workspace takes on the host's disk beyond what it shares: its overlays and its journal.
fn own_bytes(pyro: &Pyro, registry: &Registry, record: &WorkspaceRecord) -> Result<u64> {
    let mut bytes = journal::output_bytes(pyro.dirs(), &record.id);
    for top in [&record.root_layer, &record.workspace_layer].into_iter().flatten() {
        for layer in registry.layer_chain(top)? {
            if layer.format == "qcow2" && registry.layer_references(&layer.id)? <= 1 {
                bytes += file_bytes(&pyro.dirs().layers().join(layer.file_name()));
            }
        }
    }
    Ok(bytes)
}

fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |status| allocated_bytes(&status))
}
