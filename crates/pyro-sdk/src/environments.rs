//! Environments, as operations of the contract.

use pyro_image::{Entry, Environment, EnvironmentName, Environments, PruneScope, Pruned, PrunedWhat, PullOptions};

use crate::{
    Observer, Progress, Pyro,
    client::blocking,
    contract::{EnvironmentAnswer, EnvironmentListAnswer, EnvironmentPrune, EnvironmentPruneAnswer, EnvironmentPull, PrunedItem},
    error::{Problem, Result},
    time::rfc3339,
};

impl Pyro {
    fn environments(&self) -> Result<Environments> {
        Ok(Environments::open(&self.dirs().data, &self.dirs().cache)?)
    }

    pub(crate) async fn find_environment(&self, name: EnvironmentName) -> Result<Option<Environment>> {
        let pyro = self.clone();
        blocking(move || Ok(pyro.environments()?.find(name)?)).await
    }

    /// Builds an environment; waits when another process builds it already.
    ///
    /// Dropping the future does not stop the build.
    pub(crate) async fn pull(&self, name: EnvironmentName, force: bool, observer: &Observer) -> Result<Environment> {
        let (pyro, observer) = (self.clone(), observer.clone());
        blocking(move || {
            let mut on_progress = |progress: pyro_image::PullProgress| {
                observer.notify(Progress::Pull {
                    environment: name.to_string(),
                    phase: progress.phase,
                    detail: progress.detail,
                    fraction: progress.fraction,
                });
            };
            let options = PullOptions { force, ..PullOptions::default() };
            Ok(pyro.environments()?.pull(name, &options, &mut on_progress)?)
        })
        .await
    }

    /// Builds an environment unless it is there.
    ///
    /// # Errors
    /// A tool is missing, or the packages cannot be had.
    pub async fn pull_environment(&self, request: EnvironmentPull, observer: &Observer) -> Result<EnvironmentAnswer> {
        self.pull(request.environment, request.force, observer).await?;
        self.inspect_environment(request.environment).await
    }

    /// Lists the catalog and what is built of it.
    ///
    /// # Errors
    /// A record cannot be read.
    pub async fn list_environments(&self) -> Result<EnvironmentListAnswer> {
        let environments = self
            .store(|pyro, registry| {
                let workspaces = registry.workspaces()?;
                let entries = pyro.environments()?.list()?;
                Ok(entries.into_iter().map(|entry| describe(entry, &workspaces)).collect())
            })
            .await?;
        Ok(EnvironmentListAnswer { environments })
    }

    /// Describes one environment.
    ///
    /// # Errors
    /// It is not built.
    pub async fn inspect_environment(&self, name: EnvironmentName) -> Result<EnvironmentAnswer> {
        let listed = self.list_environments().await?;
        let found = listed.environments.into_iter().find(|environment| environment.environment == name.as_str() && environment.available);
        found.ok_or_else(|| Problem::EnvironmentMissing { name: name.to_string() }.into())
    }

    /// Removes environments nothing uses.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub async fn prune_environments(&self, request: EnvironmentPrune) -> Result<EnvironmentPruneAnswer> {
        let scope = if request.all { PruneScope::Unused } else { PruneScope::Unreferenced };
        let removed = self.prune_environments_in(scope, request.dry_run).await?;
        Ok(EnvironmentPruneAnswer { dry_run: request.dry_run, freed_bytes: removed.iter().map(|item| item.size_bytes).sum(), removed })
    }

    pub(crate) async fn prune_environments_in(&self, scope: PruneScope, dry_run: bool) -> Result<Vec<PrunedItem>> {
        self.store(move |pyro, registry| {
            let workspaces = registry.workspaces()?;
            let machines = registry.machines()?;
            let in_use = |digest: &pyro_image::EnvironmentDigest| {
                workspaces.iter().any(|workspace| workspace.shape.environment_digest == digest.as_str())
                    || machines.iter().any(|machine| machine.shape.environment_digest == digest.as_str())
            };
            let pruned = pyro.environments()?.prune(scope, &in_use, dry_run)?;
            Ok(pruned.into_iter().map(item).collect())
        })
        .await
    }
}

fn item(pruned: Pruned) -> PrunedItem {
    let (kind, name) = match pruned.what {
        PrunedWhat::Partial => ("partial_pull", None),
        PrunedWhat::Superseded(digest) => ("superseded_environment", Some(digest.as_str().to_owned())),
        PrunedWhat::Unused(name, _) => ("unused_environment", Some(name.to_string())),
        PrunedWhat::Packages => ("packages", None),
    };
    PrunedItem { kind: kind.to_owned(), name, size_bytes: pruned.bytes }
}

fn describe(entry: Entry, workspaces: &[pyro_store::WorkspaceRecord]) -> EnvironmentAnswer {
    let Entry { definition, environment } = entry;
    let digest = environment.as_ref().map(|environment| environment.digest.as_str().to_owned());
    EnvironmentAnswer {
        environment: definition.name.to_string(),
        description: definition.description.to_owned(),
        available: environment.is_some(),
        workspace_count: workspaces.iter().filter(|workspace| Some(&workspace.shape.environment_digest) == digest.as_ref()).count() as u64,
        digest,
        created_at: environment.as_ref().map(|built| rfc3339(i64::try_from(built.created_at_unix_ms).unwrap_or(i64::MAX))),
        size_bytes: environment.as_ref().map(|built| built.size_bytes),
        content_bytes: environment.as_ref().map(|built| built.content_bytes),
        package_count: environment.as_ref().map(|built| built.package_count),
        kernel_version: environment.as_ref().map(|built| built.kernel_version.clone()),
        folder: environment.as_ref().map(|built| built.folder.display().to_string()),
    }
}
