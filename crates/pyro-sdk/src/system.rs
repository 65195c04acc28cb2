//! What takes space on the host, and freeing it.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use pyro_image::PruneScope;
use pyro_store::{FileLock, LayerId, MachineId, MachineRole, MachineState, Orphan, Registry};

use crate::{
    Pyro,
    client::Reap,
    contract::{DiskUse, DiskUseItem, PrunedItem, SystemPrune, SystemPruneAnswer},
    error::{Error, Result},
    journal,
};

/// How long a supervisor without a row may take to end before it counts as one that nobody knows: at its own end it gives its answers out
/// after it has removed its row.
const ENDING: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const ENDING_LOOK: Duration = Duration::from_millis(20);
/// What a template's folder is called until it is whole.
const PARTIAL_SUFFIX: &str = ".partial";

/// Returns what a file takes on disk, holes not counted.
pub(crate) fn allocated_bytes(status: &std::fs::Metadata) -> u64 {
    status.blocks() * 512
}

/// Returns what a folder and everything below takes on disk.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(status) if status.is_dir() => folder_bytes(&entry.path()),
            Ok(status) => allocated_bytes(&status),
            Err(_) => 0,
        })
        .sum()
}

fn item(kind: &str, name: String, used_by: Vec<String>, size_bytes: u64, shared: bool) -> DiskUseItem {
    DiskUseItem { kind: kind.to_owned(), name, used_by, size_bytes, shared }
}

impl Pyro {
    /// Tells what takes space, largest first.
    ///
    /// # Errors
    /// The registry or a record cannot be read.
    pub async fn system_df(&self) -> Result<DiskUse> {
        let reclaimable_bytes = self.system_prune(SystemPrune { all: false, dry_run: true }).await?.freed_bytes;
        let environments = self.list_environments().await?.environments;
        let orphans = self.orphans().await?;
        self.store(move |pyro, registry| {
            pyro.reap_with(registry, Reap::Now)?;
            let dirs = pyro.dirs();
            let (workspaces, machines) = (registry.workspaces()?, registry.machines()?);
            let mut items = Vec::new();
            for environment in environments.into_iter().filter(|environment| environment.available) {
                let used = workspaces.iter().filter(|workspace| Some(&workspace.shape.environment_digest) == environment.digest.as_ref());
                let used_by = used.map(|workspace| workspace.display_name().to_owned()).collect();
                items.push(item("environment", environment.environment, used_by, environment.size_bytes.unwrap_or(0), true));
            }
            for name in folders(&dirs.templates()) {
                let used_by = machines.iter().filter(|machine| machine.template == name).map(|machine| machine.id.to_string()).collect();
                items.push(item("template", name.clone(), used_by, folder_bytes(&dirs.templates().join(&name)), true));
            }
            let owners = layer_owners(registry)?;
            for layer in registry.layers()? {
                let used_by = owners.get(&layer.id).cloned().unwrap_or_default();
                let size = std::fs::metadata(dirs.layers().join(layer.file_name())).map_or(0, |status| allocated_bytes(&status));
                let shared = layer.format == "raw" || used_by.len() > 1;
                items.push(item("layer", layer.id.to_string(), used_by, size, shared));
            }
            for workspace in &workspaces {
                let size = journal::output_bytes(dirs, &workspace.id);
                items.push(item("workspace_output", workspace.display_name().to_owned(), vec![workspace.id.to_string()], size, false));
            }
            items.push(item("packages", "downloads".to_owned(), Vec::new(), folder_bytes(&dirs.cache), true));
            items.retain(|item| item.size_bytes > 0);
            let standbys: Vec<_> =
                machines.iter().filter(|machine| machine.role == MachineRole::Standby && machine.state != MachineState::Claimed).collect();
            items.extend(standbys.iter().map(|standby| item("standby", standby.id.to_string(), vec![standby.template.clone()], 0, false)));
            let process = |orphan: &Orphan| vec![format!("process {}", orphan.process.pid)];
            items.extend(orphans.iter().map(|orphan| item("orphan", orphan.machine.to_string(), process(orphan), 0, false)));
            items.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.name.cmp(&b.name)));
            Ok(DiskUse {
                total_bytes: items.iter().map(|item| item.size_bytes).sum(),
                reclaimable_bytes,
                standby_count: standbys.len() as u64,
                machine_count: machines.len() as u64,
                orphan_count: orphans.len() as u64,
                items,
            })
        })
        .await
    }

    /// Removes what nothing uses.
    ///
    /// # Errors
    /// A file cannot be removed; what was removed before stays so.
    pub async fn system_prune(&self, request: SystemPrune) -> Result<SystemPruneAnswer> {
        let SystemPrune { all, dry_run } = request;
        let mut removed = Vec::new();
        self.reap().await?;
        for orphan in self.orphans().await? {
            if dry_run || orphan.end() {
                removed.push(PrunedItem { kind: "orphan".to_owned(), name: Some(orphan.machine.to_string()), size_bytes: 0 });
            }
        }
        if all {
            removed.extend(self.end_standbys(dry_run).await?);
        }
        removed.extend(self.store(move |pyro, registry| pyro.prune_templates(registry, all, dry_run)).await?);
        if !dry_run {
            self.store(|pyro, registry| Ok(registry.sweep(pyro.dirs()).map(drop)?)).await?;
        }
        removed.extend(self.store(move |pyro, registry| pyro.prune_loose_layers(registry, dry_run)).await?);
        let scope = if all { PruneScope::Unused } else { PruneScope::Unreferenced };
        removed.extend(self.prune_environments_in(scope, dry_run).await?);
        Ok(SystemPruneAnswer { dry_run, freed_bytes: removed.iter().map(|item| item.size_bytes).sum(), removed })
    }

    /// Finds machines that run and that the registry does not know.
    pub(crate) async fn orphans(&self) -> Result<Vec<Orphan>> {
        let end = tokio::time::Instant::now() + ENDING;
        loop {
            let found = self.store(|pyro, registry| Ok(pyro_store::orphans(pyro.dirs(), registry)?)).await?;
            if found.is_empty() || tokio::time::Instant::now() >= end {
                return Ok(found);
            }
            tokio::time::sleep(ENDING_LOOK).await;
        }
    }

    async fn end_standbys(&self, dry_run: bool) -> Result<Vec<PrunedItem>> {
        let waiting: Vec<MachineId> = self
            .store(move |_, registry| {
                let mut waiting = Vec::new();
                for machine in
                    registry.machines()?.into_iter().filter(|machine| machine.role == MachineRole::Standby && machine.workspace.is_none())
                {
                    // Withdrawn first, so that no client claims what is about to end.
                    if dry_run || registry.withdraw_standby(&machine.id)? {
                        waiting.push(machine.id);
                    }
                }
                Ok(waiting)
            })
            .await?;
        for machine in waiting.iter().filter(|_| !dry_run) {
            self.bury_machine(machine, Duration::ZERO).await?;
        }
        Ok(waiting
            .iter()
            .map(|machine| PrunedItem { kind: "standby".to_owned(), name: Some(machine.to_string()), size_bytes: 0 })
            .collect())
    }

    /// Removes templates no machine comes from and, unless `all`, that no new machine could come from either.
    fn prune_templates(&self, registry: &mut Registry, all: bool, dry_run: bool) -> Result<Vec<PrunedItem>> {
        let (machines, kept) = (registry.machines()?, registry.live_templates()?);
        let templates = self.dirs().templates();
        let mut removed = Vec::new();
        for name in folders(&templates) {
            let key = name.trim_end_matches(PARTIAL_SUFFIX);
            if kept.iter().any(|kept| kept == key) || machines.iter().any(|machine| machine.template == key) {
                continue;
            }
            // A template without a readable record, or one that was never finished, is of use to nobody.
            if !all && key == name && self.template_shape(&name).is_some_and(|shape| self.is_current(&shape)) {
                continue;
            }
            // Whoever builds it holds this lock.
            let Some(_building) = FileLock::try_acquire(&templates.join(format!("{key}.lock")))? else { continue };
            let folder = templates.join(&name);
            let size_bytes = folder_bytes(&folder);
            if !dry_run {
                fs_err::remove_dir_all(&folder).map_err(|source| Error::io("remove", &folder, source))?;
            }
            removed.push(PrunedItem { kind: "template".to_owned(), name: Some(name), size_bytes });
        }
        Ok(removed)
    }

    /// Removes files in the layers' folder that no row knows: remains of a power cut.
    fn prune_loose_layers(&self, registry: &mut Registry, dry_run: bool) -> Result<Vec<PrunedItem>> {
        let known: Vec<String> = registry.layers()?.iter().map(pyro_store::LayerRecord::file_name).collect();
        let mut removed = Vec::new();
        for name in names(&self.dirs().layers()) {
            let path = self.dirs().layers().join(&name);
            let Ok(status) = std::fs::metadata(&path) else { continue };
            // A supervisor makes the file before the row: what is young may be about to be known.
            let young = status.modified().ok().and_then(|time| time.elapsed().ok()).is_none_or(|age| age < Duration::from_secs(3600));
            if known.contains(&name) || young || name.starts_with('.') {
                continue;
            }
            if !dry_run {
                fs_err::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
            }
            removed.push(PrunedItem { kind: "layer".to_owned(), name: Some(name), size_bytes: allocated_bytes(&status) });
        }
        Ok(removed)
    }
}

/// Names of the folders in a folder, sorted.
fn folders(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| folder.join(name).is_dir()).collect()
}

/// Names of a folder's entries, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn layer_owners(registry: &Registry) -> Result<BTreeMap<LayerId, Vec<String>>> {
    let mut owners: BTreeMap<LayerId, Vec<String>> = BTreeMap::new();
    let mut enter = |top: &Option<LayerId>, owner: &str| -> Result<()> {
        let Some(top) = top else { return Ok(()) };
        for layer in registry.layer_chain(top)? {
            let of_layer = owners.entry(layer.id).or_default();
            if !of_layer.iter().any(|known| known == owner) {
                of_layer.push(owner.to_owned());
            }
        }
        Ok(())
    };
    for workspace in registry.workspaces()? {
        enter(&workspace.root_layer, workspace.display_name())?;
        enter(&workspace.workspace_layer, workspace.display_name())?;
    }
    for machine in registry.machines()? {
        enter(&machine.root_layer, machine.id.as_str())?;
        enter(&machine.workspace_layer, machine.id.as_str())?;
    }
    Ok(owners)
}
