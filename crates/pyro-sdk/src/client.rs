//! The handle on one installation: folders, configuration, registry, and connections to supervisors.
//!
//! The registry is synchronous and short, but a busy host can make it wait for a writer; so it runs on tokio's blocking threads, one call
//! at a time, and no lock is held over an `await`.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pyro_proto::error::ErrorKind;
use pyro_store::{Dirs, MachineId, Registry, WorkspaceRecord};
use tonic::transport::Channel;

use crate::{CutOffApply, Workspace, apply::put_all_right, config::Configuration, error::Result, text::WorkspaceReference, time::now_ms};

/// How old the last look for dead machines and expired workspaces may be before a command that runs often looks again.
const REAP_INTERVAL: Duration = Duration::from_secs(5);
const REAP_FACT: &str = "reaped-at";

/// What [`Pyro::open`] needs to know.
#[derive(Debug, Clone)]
pub struct PyroOptions {
    /// Pyro's folders.
    pub dirs: Dirs,
    /// Resolved configuration.
    pub configuration: Configuration,
    /// The `pyro` binary, which is also every machine's supervisor.
    pub binary: PathBuf,
}

/// One Pyro installation. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Pyro {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: PyroOptions,
    registry: Mutex<Registry>,
    channels: Mutex<HashMap<MachineId, Channel>>,
    /// What was put right and nobody has told its user yet.
    put_back: Mutex<Vec<CutOffApply>>,
}

/// Whether dead machines must be looked for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reap {
    Now,
    WhenDue,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard has no invariant a panic could break: a connection and a cache.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` on a blocking thread. Dropping the future lets the work go on to its end.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // Blocking tasks are not cancelled once they run: this is a panic of `work`, and it goes on here.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Pyro {
    /// Opens an installation; makes its folders and registry when they are missing.
    ///
    /// # Errors
    /// The registry cannot be opened, a newer Pyro wrote it, or the disks it speaks of are not there.
    pub fn open(mut options: PyroOptions) -> Result<Self> {
        let mut registry = Registry::open(&options.dirs)?;
        options.dirs = registry.locate(options.dirs)?;
        Ok(Self {
            inner: Arc::new(Inner { options, registry: Mutex::new(registry), channels: Mutex::default(), put_back: Mutex::default() }),
        })
    }

    /// Returns the folders; the one with the disks is where the registry says, not where the environment does.
    #[must_use]
    pub fn dirs(&self) -> &Dirs {
        &self.inner.options.dirs
    }

    /// Returns the configuration.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.inner.options.configuration
    }

    pub(crate) fn binary(&self) -> &PathBuf {
        &self.inner.options.binary
    }

    /// Runs `work` with the registry on a blocking thread.
    pub(crate) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut Registry) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pyro = self.clone();
        blocking(move || {
            let mut registry = lock(&pyro.inner.registry);
            work(&pyro, &mut registry)
        })
        .await
    }

    /// Finds a workspace, after putting right what dead processes left and removing what has expired.
    ///
    /// # Errors
    /// There is none, or several ids begin so.
    pub async fn workspace(&self, reference: &WorkspaceReference) -> Result<Workspace> {
        self.find(reference, Reap::Now).await.map(|(workspace, _)| workspace)
    }

    pub(crate) async fn find(&self, reference: &WorkspaceReference, reap: Reap) -> Result<(Workspace, WorkspaceRecord)> {
        let reference = reference.clone();
        let record = self
            .store(move |pyro, registry| {
                pyro.reap_with(registry, reap)?;
                registry.find_workspace(reference.as_str()).map_err(|error| crate::Error::from(error).about(reference.as_str()))
            })
            .await?;
        Ok((Workspace::new(self.clone(), &record), record))
    }

    /// Removes what dead supervisors left and what has expired. Every operation does it by itself.
    ///
    /// # Errors
    /// A file or the registry cannot be written.
    pub async fn reap(&self) -> Result<()> {
        self.store(|pyro, registry| pyro.reap_with(registry, Reap::Now)).await
    }

    pub(crate) async fn reap_now(&self) -> Result<pyro_store::Reaped> {
        self.store(|pyro, registry| {
            pyro.add_put_back(put_all_right(pyro.dirs())?);
            Ok(pyro_store::reap(pyro.dirs(), registry, &pyro.configuration().settings)?)
        })
        .await
    }

    /// Returns what operations of this handle have put right by the way since the last call, or could not. Whoever has a user tells them: files of theirs
    /// are involved.
    #[must_use]
    pub fn take_put_back(&self) -> Vec<CutOffApply> {
        std::mem::take(&mut *lock(&self.inner.put_back))
    }

    pub(crate) fn add_put_back(&self, put_back: Vec<CutOffApply>) {
        lock(&self.inner.put_back).extend(put_back);
    }

    pub(crate) fn reap_with(&self, registry: &mut Registry, reap: Reap) -> Result<()> {
        let now = now_ms();
        if reap == Reap::WhenDue {
            let last: i64 = registry.fact(REAP_FACT, "")?.and_then(|text| text.parse().ok()).unwrap_or(0);
            // A clock that was set back counts as due.
            if (0..REAP_INTERVAL.as_millis()).contains(&u128::try_from(now - last).unwrap_or(u128::MAX)) {
                return Ok(());
            }
        }
        // First: what it needs goes with a workspace that has expired.
        self.add_put_back(put_all_right(self.dirs())?);
        let reaped = pyro_store::reap(self.dirs(), registry, &self.configuration().settings)
            .and_then(|_| registry.remember_fact(REAP_FACT, "", &now.to_string()));
        match reaped {
            // Whoever only reads can go on; whoever writes is told by the write itself, and the next look cleans up.
            Err(error) if error.kind() == ErrorKind::HostDiskFull => Ok(()),
            reaped => Ok(reaped?),
        }
    }

    pub(crate) fn cached_channel(&self, machine: &MachineId) -> Option<Channel> {
        lock(&self.inner.channels).get(machine).cloned()
    }

    pub(crate) fn cache_channel(&self, machine: &MachineId, channel: Channel) {
        lock(&self.inner.channels).insert(machine.clone(), channel);
    }

    pub(crate) fn forget_channel(&self, machine: &MachineId) {
        lock(&self.inner.channels).remove(machine);
    }
}
