//! The tree of a workspace, read from its disk's layers on the host.
//!
//! A running workspace is held still while its layers are read: its supervisor has the guest flush and freeze the file system, and lets go
//! when the call is dropped, or after a minute by itself. Whatever need not see the disk happens after that. A stopped workspace needs
//! nobody's help; that it was not started meanwhile is looked at afterwards. Reading blocks, so it runs on a blocking thread.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use pyro_disk::{Disk, Layer, LayerFormat, Tree};
use pyro_proto::{
    error::ErrorKind,
    v1::{HoldAnswer, HoldRequest},
};
use pyro_store::{Dirs, LayerId, LayerRecord, MachineId, Registry, SnapshotName, StoreError, WorkspaceRecord, WorkspaceState};
use tonic::Streaming;

use crate::{
    Observer, Pyro, Workspace,
    error::{Cause, Error, Result},
    wanted::while_wanted,
};

/// Folder of a workspace's disk that the guest has at `/workspace`.
const FOLDER: &[u8] = b"tree";
/// How long a supervisor has to hold its guest still. The guest flushes everything it has written, which on a slow disk takes seconds.
const HOLD_DEADLINE: Duration = Duration::from_secs(60);
/// How long a supervisor holds its guest still. What is read later is worth nothing, so reading ends then.
const HOLD_LENGTH: Duration = Duration::from_secs(60);

/// What is looked at.
#[derive(Debug)]
pub(crate) struct View {
    /// `/workspace` as it is now.
    pub(crate) now: Tree,
    /// What it is compared with, if that was asked for.
    pub(crate) before: Option<Tree>,
}

/// Which trees are wanted.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// Only the one there is now.
    Now,
    /// That, and the one a diff is made against; `None` is the baseline.
    Against(Option<SnapshotName>),
}

/// Layers of the trees that are wanted, top first.
struct Chains {
    now: Vec<Layer>,
    before: Option<Vec<Layer>>,
}

impl Workspace {
    /// Runs `work` on a blocking thread with the workspace's tree, held still.
    ///
    /// # Errors
    /// The workspace is neither running nor stopped, there is no such snapshot, a disk cannot be read, the hold was let go meanwhile, or
    /// as `work` says.
    pub(crate) async fn view<T: Send + 'static>(
        &self,
        operation: &'static str,
        wanted: Wanted,
        work: impl FnOnce(View) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.view_while_wanted(operation, wanted, &Observer::none(), |view, _| work(view)).await
    }

    /// As [`Workspace::view`]; `work` can ask whether it is still wanted.
    pub(crate) async fn view_while_wanted<T: Send + 'static>(
        &self,
        operation: &'static str,
        wanted: Wanted,
        observer: &Observer,
        work: impl FnOnce(View, &crate::wanted::Wanted) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let record = self.record().await?;
        let mut hold = match record.state {
            WorkspaceState::Running => Some(self.hold(operation, &record).await?),
            WorkspaceState::Stopped => None,
            WorkspaceState::Creating | WorkspaceState::Starting | WorkspaceState::Stopping | WorkspaceState::Deleting => {
                let refused = StoreError::WrongState { workspace: self.label().to_owned(), state: record.state.as_str() };
                return Err(Error::from(refused).about(self.label()));
            }
        };
        let deadline = hold.is_some().then(|| Instant::now() + HOLD_LENGTH);
        // The chain is read under the hold: a snapshot taken a moment earlier has put another layer on top.
        let (record, chains) = self.chains(wanted).await?;
        let result = while_wanted(observer, move |wanted| work(View::open(&chains, deadline)?, wanted)).await;
        let result = result.map_err(|error| error.about(self.label()));
        match &mut hold {
            Some((machine, hold)) => self.ensure_held(operation, machine, hold).await?,
            None => self.ensure_unmoved(operation, &record).await?,
        }
        result
    }

    async fn hold(&self, operation: &'static str, record: &WorkspaceRecord) -> Result<(MachineId, Streaming<HoldAnswer>)> {
        let machine = self.running_machine(record)?;
        let held = async {
            let mut client = self.pyro().supervisor(&machine, operation, self.label()).await?;
            let mut hold = match client.hold(HoldRequest {}).await {
                Ok(response) => response.into_inner(),
                Err(status) => return Err(self.pyro().call_failed(&machine, operation, self.label(), &status).await),
            };
            match hold.message().await {
                Ok(Some(HoldAnswer {})) => Ok(hold),
                Ok(None) => Err(let_go(operation, self.label())),
                Err(status) => Err(self.pyro().call_failed(&machine, operation, self.label(), &status).await),
            }
        };
        let hold = self.answered(operation, HOLD_DEADLINE, held).await?;
        Ok((machine, hold))
    }

    /// Sees that the file system was held to the end: what was read without is worth nothing.
    async fn ensure_held(&self, operation: &'static str, machine: &MachineId, hold: &mut Streaming<HoldAnswer>) -> Result<()> {
        // An end that has arrived is seen at once; while the hold lasts there is nothing to wait for.
        match tokio::time::timeout(Duration::ZERO, hold.message()).await {
            Err(_) | Ok(Ok(Some(HoldAnswer {}))) => Ok(()),
            Ok(Ok(None)) => Err(let_go(operation, self.label())),
            Ok(Err(status)) => Err(self.pyro().call_failed(machine, operation, self.label(), &status).await),
        }
    }

    async fn ensure_unmoved(&self, operation: &'static str, before: &WorkspaceRecord) -> Result<()> {
        let now = self.record().await?;
        if now.state == WorkspaceState::Stopped && now.workspace_layer == before.workspace_layer && now.generation == before.generation {
            return Ok(());
        }
        let cause = Cause::new("it was started or reset while its disk was read");
        Err(Error::workspace(operation, self.label(), ErrorKind::Conflict, cause))
    }

    async fn chains(&self, wanted: Wanted) -> Result<(WorkspaceRecord, Chains)> {
        let id = self.id().clone();
        let read = move |pyro: &Pyro, registry: &mut Registry| {
            let record = registry.workspace(&id)?;
            let now = chain(pyro.dirs(), registry, record.workspace_layer.as_ref())?;
            let before = match wanted {
                Wanted::Now => None,
                Wanted::Against(snapshot) => {
                    let top = match &snapshot {
                        Some(name) => registry.snapshot(&record.id, name)?.workspace_layer,
                        None => record.baseline_layer.clone(),
                    };
                    match chain(pyro.dirs(), registry, top.as_ref())? {
                        // Without a seed it is the blank at the bottom of the workspace's own chain.
                        empty if empty.is_empty() => Some(now.last().cloned().into_iter().collect()),
                        layers => Some(layers),
                    }
                }
            };
            Ok((record, Chains { now, before }))
        };
        self.pyro().store(read).await.map_err(|error| error.about(self.label()))
    }
}

fn let_go(operation: &'static str, label: &str) -> Error {
    let cause = Cause::new("its file system could not be held still long enough; ask for less at once, or stop the workspace first");
    Error::workspace(operation, label, ErrorKind::DeadlineExceeded, cause)
}

impl View {
    fn open(chains: &Chains, deadline: Option<Instant>) -> Result<Self> {
        let open = |chain: &[Layer]| -> Result<Tree> {
            let mut tree = open_tree(chain)?;
            if let Some(deadline) = deadline {
                tree.set_deadline(deadline);
            }
            Ok(tree)
        };
        let before = chains.before.as_deref().map(open).transpose()?;
        Ok(Self { now: open(&chains.now)?, before })
    }
}

fn open_tree(chain: &[Layer]) -> Result<Tree> {
    Ok(Tree::open(Disk::open(chain)?, FOLDER)?)
}

/// Returns the layers of a disk of `/workspace`, top first; none without a top.
pub(crate) fn chain(dirs: &Dirs, registry: &Registry, top: Option<&LayerId>) -> Result<Vec<Layer>> {
    let Some(top) = top else { return Ok(Vec::new()) };
    Ok(registry.layer_chain(top)?.iter().map(|record| layer(dirs, record)).collect())
}

fn layer(dirs: &Dirs, record: &LayerRecord) -> Layer {
    let format = if record.format == "raw" { LayerFormat::Raw } else { LayerFormat::Qcow2 };
    Layer { path: dirs.layers().join(record.file_name()), format, size_bytes: record.size_bytes }
}

/// Counts what a tree holds. Blocks.
pub(crate) fn count_entries(chain: &[Layer]) -> Result<u64> {
    let mut count = 0;
    open_tree(chain)?.list(b"", true, &mut |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}
