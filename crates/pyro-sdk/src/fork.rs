//! Fork: copies of a workspace that go on where it is. Of a running one, memory and disks are kept in a snapshot that lives as long as the
//! fork takes; every copy is a machine resumed from it, with an identity of its own.

use pyro_proto::error::ErrorKind;
use pyro_store::{
    Carried, NewWorkspace, OnExpire, Resume, SnapshotKind, SnapshotName, Tenure, WorkspaceId, WorkspaceName, WorkspaceRecord,
    WorkspaceState,
};
use serde_json::json;

use crate::{
    Observer, Pyro, Workspace,
    contract::{WorkspaceFork, WorkspaceForkAnswer},
    error::{Cause, Error, Result},
    limits::{MemMib, VcpuCount},
    secrets,
    turn::{TURN_PATIENCE, Turn},
};

/// Machines made at the same time. Each keeps a core busy for a tenth of a second.
const AT_ONCE: usize = 2;

/// What every copy is made from.
#[derive(Clone)]
struct Origin {
    record: WorkspaceRecord,
    resume: Option<Resume>,
    carried: Carried,
    secrets: secrets::Values,
}

impl Pyro {
    /// Makes copies of a workspace and returns when commands run in all of them.
    ///
    /// Dropping the future leaves the copies that were ready; the rest is removed by the next client command.
    ///
    /// # Errors
    /// There is no such workspace, it is neither running nor stopped, a name is taken, or a machine cannot be made; no copy is left then.
    pub async fn fork_workspace(&self, request: &WorkspaceFork, observer: &Observer) -> Result<WorkspaceForkAnswer> {
        let workspace = self.workspace(&request.workspace).await?;
        let _turn = workspace.turn("fork", TURN_PATIENCE, observer).await?;
        let names = names(request.name.as_ref(), request.count.get())?;
        let record = workspace.record().await?;
        let forks = match record.state {
            WorkspaceState::Running => workspace.fork_running(names, observer).await?,
            WorkspaceState::Stopped => {
                let secrets = workspace.gather_secrets(&record, secrets::Values::new()).await?;
                workspace.make_forks(Origin { record, resume: None, carried: Carried::default(), secrets }, names, observer).await?
            }
            state @ (WorkspaceState::Creating | WorkspaceState::Starting | WorkspaceState::Stopping | WorkspaceState::Deleting) => {
                let refused = pyro_store::StoreError::WrongState { workspace: workspace.label().to_owned(), state: state.as_str() };
                return Err(Error::from(refused).about(workspace.label()));
            }
        };
        let ids: Vec<String> = forks.iter().map(|fork| fork.id().to_string()).collect();
        let (id, detail) = (workspace.id().clone(), json!({ "forks": ids }));
        self.store(move |_, registry| {
            registry.add_event(&id, "fork", &detail)?;
            Ok(registry.touch_workspace(&id)?)
        })
        .await
        .map_err(|error| error.about(workspace.label()))?;
        let mut statuses = Vec::new();
        for fork in forks {
            statuses.push(fork.status_on_record().await?);
        }
        Ok(WorkspaceForkAnswer { workspace_id: workspace.id().to_string(), forks: statuses })
    }
}

/// A copy that is being made.
struct Unplaced {
    workspace: Workspace,
    tenure: Tenure,
    turn: Turn,
}

/// Returns the copies' names: the name itself for one, numbered for several.
fn names(name: Option<&WorkspaceName>, count: u64) -> Result<Vec<Option<WorkspaceName>>> {
    match (name, count) {
        (None, count) => Ok((0..count).map(|_| None).collect()),
        (Some(name), 1) => Ok(vec![Some(name.clone())]),
        (Some(name), count) => (1..=count).map(|number| Ok(Some(format!("{name}-{number}").parse()?))).collect(),
    }
}

impl Workspace {
    async fn fork_running(&self, names: Vec<Option<WorkspaceName>>, observer: &Observer) -> Result<Vec<Self>> {
        let checkpoint = SnapshotName::internal();
        self.keep(&checkpoint, SnapshotKind::Live).await?;
        let forks = async {
            let (id, name) = (self.id().clone(), checkpoint.clone());
            let (record, snapshot, stored) = self
                .pyro()
                .store(move |pyro, registry| {
                    let snapshot = registry.snapshot(&id, &name)?;
                    let stored = pyro.stored_machine(&snapshot)?;
                    Ok((registry.workspace(&id)?, snapshot, stored))
                })
                .await?;
            let (Some(stored), Some(checkpoint), Some(root_layer), Some(workspace_layer)) =
                (stored, snapshot.checkpoint, snapshot.root_layer, snapshot.workspace_layer)
            else {
                let cause = Cause::new("its template is gone, or QEMU was updated while it ran".to_owned());
                return Err(Error::workspace("fork", self.label(), ErrorKind::Incompatible, cause));
            };
            let record = WorkspaceRecord {
                root_layer: Some(root_layer.clone()),
                workspace_layer: Some(workspace_layer.clone()),
                shape: snapshot.shape,
                ..record
            };
            let resume = Some(Resume { checkpoint, root_layer, workspace_layer });
            let carried = Carried { commands: stored.commands, processes: stored.processes };
            let secrets = self.gather_secrets(&record, secrets::Values::new()).await?;
            self.make_forks(Origin { record, resume, carried, secrets }, names, observer).await
        }
        .await;
        let cleanup = self.forget_snapshot(&checkpoint).await;
        match forks {
            Ok(forks) => cleanup.map(|()| forks),
            Err(error) => Err(error.with_cleanup("fork", self.label(), cleanup)),
        }
    }

    async fn make_forks(&self, origin: Origin, names: Vec<Option<WorkspaceName>>, observer: &Observer) -> Result<Vec<Self>> {
        let mut waiting: Vec<Unplaced> = Vec::new();
        // All rows first: a taken name fails before a machine is made.
        for name in names {
            match self.register_fork(&origin, name).await {
                Ok(fork) => waiting.push(fork),
                Err(error) => return Err(self.give_up(error, waiting).await),
            }
        }
        let mut tasks = tokio::task::JoinSet::new();
        let mut failure = None;
        for fork in &waiting {
            if tasks.len() >= AT_ONCE {
                failure = failure.or(finished(tasks.join_next().await));
            }
            if failure.is_some() {
                break;
            }
            let (workspace, tenure) = (fork.workspace.clone(), fork.tenure.clone());
            let (origin, observer) = (origin.clone(), observer.clone());
            tasks.spawn(async move { workspace.place_fork(&tenure, origin, &observer).await });
        }
        let finish = async {
            while let Some(result) = tasks.join_next().await {
                failure = failure.take().or(finished(Some(result)));
            }
            Ok(())
        };
        if let Err(interrupted) = observer.unless_called_off("no copy was made", finish).await {
            failure = failure.or(Some(interrupted));
        }
        // Ends the tasks that still run: what they were placing is about to be removed.
        tasks.shutdown().await;
        match failure {
            None => Ok(waiting.into_iter().map(|unplaced| unplaced.workspace).collect()),
            Some(error) => Err(self.give_up(error, waiting).await),
        }
    }

    async fn register_fork(&self, origin: &Origin, name: Option<WorkspaceName>) -> Result<Unplaced> {
        let record = &origin.record;
        let new = NewWorkspace {
            id: WorkspaceId::random(),
            name,
            labels: record.labels.clone(),
            environment: record.environment.clone(),
            shape: record.shape.clone(),
            disk_gib: record.disk_gib,
            root_disk_gib: record.root_disk_gib,
            ttl_seconds: record.ttl_seconds,
            on_expire: if record.on_expire == OnExpire::Delete { OnExpire::Delete } else { OnExpire::Stop },
            one_shot: false,
            seed: record.seed.clone(),
            new_layer: None,
            baseline_layer: record.baseline_layer.clone(),
            root_layer: record.root_layer.clone(),
            workspace_layer: record.workspace_layer.clone(),
            network_policy: record.network_policy,
            network_rules: record.network_rules.clone(),
            secrets: record.secrets.clone(),
            forked_from: Some(record.id.clone()),
        };
        let checkpoint = origin.resume.as_ref().map(|resume| resume.checkpoint.clone());
        let (carried, parent) = (origin.carried.clone(), self.id().clone());
        let id = new.id.clone();
        let (turn, (tenure, record)) = self
            .pyro()
            .register_in_turn(&id, "fork", move |pyro, registry| {
                let tenure = registry.insert_workspace(&new)?;
                registry.carry(&new.id, &carried)?;
                if let Some(checkpoint) = checkpoint {
                    pyro_store::restore_rings(pyro.dirs(), &checkpoint, &new.id)?;
                }
                crate::seed::copy_seed_records(pyro.dirs(), &parent, &new.id)?;
                crate::apply::copy(pyro.dirs(), &parent, &new.id)?;
                Ok((tenure, registry.workspace(&new.id)?))
            })
            .await?;
        Ok(Unplaced { workspace: Self::new(self.pyro().clone(), &record), tenure, turn })
    }

    async fn place_fork(self, tenure: &Tenure, origin: Origin, observer: &Observer) -> Result<()> {
        match origin.resume {
            Some(resume) => self.place_resumed("fork", tenure, origin.record.shape, resume, &origin.secrets, observer).await,
            None => {
                let limits = (VcpuCount::new(origin.record.shape.vcpu_count.into())?, MemMib::new(origin.record.shape.mem_mib)?);
                let shape = self
                    .pyro()
                    .shape(origin.record.shape.environment_digest, limits.0, limits.1, origin.record.network_policy, observer)
                    .await?;
                self.place("fork", tenure, shape, &origin.secrets, observer).await
            }
        }
    }

    /// Removes the copies made so far.
    async fn give_up(&self, error: Error, forks: Vec<Unplaced>) -> Error {
        let mut error = error;
        for Unplaced { workspace, turn, .. } in forks {
            let cleanup = workspace.erase(std::time::Duration::ZERO, Some(turn)).await;
            error = error.with_cleanup("fork", self.label(), cleanup);
        }
        error
    }
}

fn finished(result: Option<std::result::Result<Result<()>, tokio::task::JoinError>>) -> Option<Error> {
    match result? {
        Ok(result) => result.err(),
        // Tasks are not cancelled: this is a panic of one, and it goes on here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_copies_get_numbered_names() {
        let name: WorkspaceName = "api".parse().unwrap();
        let text = |names: Vec<Option<WorkspaceName>>| {
            names.into_iter().map(|name| name.map(|name| name.to_string()).unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(text(names(Some(&name), 1).unwrap()), ["api"]);
        assert_eq!(text(names(Some(&name), 3).unwrap()), ["api-1", "api-2", "api-3"]);
        assert_eq!(text(names(None, 2).unwrap()), ["", ""]);
        assert!(names(Some(&"a".repeat(63).parse().unwrap()), 2).is_err());
    }
}
