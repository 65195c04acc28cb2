//! Which data folder belongs to a registry.
//!
//! The registry lies in the state folder, the disks in the data folder, and a program's environment may name one and not the other. Both
//! carry the same number from the beginning: the registry also remembers where the disks were. So a client with another `XDG_DATA_HOME`
//! finds the disks that the registry speaks of; a folder that was moved is found at its new place; and where neither is there, nothing is
//! concluded from it and nothing is made: a registry full of workspaces beside an empty folder would only ever lose them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Dirs, Registry, StoreError, StoreResult, random_hex, write_atomically};

/// Name of the fact in the registry.
const FACT: &str = "installation";
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Installation {
    format: u32,
    id: String,
    /// Where the disks were seen last.
    data: PathBuf,
}

/// What the data folder itself says.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
    id: String,
}

impl Registry {
    /// Finds the data folder that belongs to this registry, and puts it into `dirs`. The first call decides where it is.
    ///
    /// # Errors
    /// The disks of registered workspaces are not where they were, nor where `dirs` says; nothing is made then.
    pub fn locate(&mut self, mut dirs: Dirs) -> StoreResult<Dirs> {
        let Some(known) = self.installation()? else {
            // A registry of an older Pyro, or a fresh one: what the environment says was always right.
            dirs.create()?;
            let id = marker(&dirs.data).unwrap_or_else(|| random_hex(16));
            self.settle_in(&dirs, id)?;
            return Ok(dirs);
        };
        if known.data == dirs.data && dirs.machines().is_dir() {
            return Ok(dirs);
        }
        if marker(&dirs.data).as_ref() == Some(&known.id) {
            // Moved, or seen through another mount: both are right, and the next client may see it the other way.
            return Ok(dirs);
        }
        if marker(&known.data).as_ref() == Some(&known.id) {
            dirs.data = known.data;
            return Ok(dirs);
        }
        if self.workspaces()?.is_empty() && self.machines()?.is_empty() {
            dirs.create()?;
            self.settle_in(&dirs, known.id)?;
            return Ok(dirs);
        }
        Err(StoreError::DataMissing { path: known.data, registry: dirs.registry() })
    }

    fn installation(&self) -> StoreResult<Option<Installation>> {
        // What a newer Pyro wrote in another form is as good as unknown only to a reader that would overwrite it; nobody does before it is read.
        let Some(text) = self.fact(FACT, "")? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|_| StoreError::Corrupt { what: "installation", value: text })
    }

    fn settle_in(&self, dirs: &Dirs, id: String) -> StoreResult<()> {
        let marker = Marker { format: FORMAT, id: id.clone() };
        write_atomically(&dirs.installation(), &serde_json::to_vec(&marker).expect("plain fields serialise"))?;
        let installation = Installation { format: FORMAT, id, data: dirs.data.clone() };
        self.remember_fact(FACT, "", &serde_json::to_string(&installation).expect("plain fields serialise"))
    }
}

fn marker(data: &Path) -> Option<String> {
    let bytes = std::fs::read(data.join("installation")).ok()?;
    serde_json::from_slice::<Marker>(&bytes).ok().map(|marker| marker.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewWorkspace, registry::tests::new_workspace};

    fn open(dirs: &Dirs) -> (Registry, StoreResult<Dirs>) {
        let mut registry = Registry::open(dirs).expect("opens");
        let located = registry.locate(dirs.clone());
        (registry, located)
    }

    fn with_workspace(home: &Path) -> (Dirs, NewWorkspace) {
        let dirs = Dirs::under(home);
        let (mut registry, located) = open(&dirs);
        assert_eq!(located.expect("found"), dirs);
        let new = new_workspace();
        registry.insert_workspace(&new).expect("free");
        (dirs, new)
    }

    #[test]
    fn another_data_folder_in_the_environment_leads_to_the_disks_there_are() {
        let home = tempfile::tempdir().expect("a folder");
        let (dirs, _) = with_workspace(home.path());
        let other = Dirs { data: home.path().join("elsewhere"), ..dirs.clone() };
        assert_eq!(open(&other).1.expect("found").data, dirs.data);
        assert!(!other.data.exists(), "nothing is made where no disk is");
    }

    #[test]
    fn a_home_that_was_moved_is_found_at_its_new_place() {
        let home = tempfile::tempdir().expect("a folder");
        with_workspace(&home.path().join("old"));
        std::fs::rename(home.path().join("old"), home.path().join("new")).expect("moves");
        let moved = Dirs::under(&home.path().join("new"));
        assert_eq!(open(&moved).1.expect("found"), moved);
    }

    #[test]
    fn disks_that_are_not_there_are_missed_and_not_made_anew() {
        let home = tempfile::tempdir().expect("a folder");
        let (dirs, new) = with_workspace(home.path());
        std::fs::rename(&dirs.data, home.path().join("unmounted")).expect("moves");
        let (mut registry, located) = open(&dirs);
        assert!(matches!(located, Err(StoreError::DataMissing { path, .. }) if path == dirs.data));
        assert!(!dirs.data.exists());
        registry.remove_workspace(&new.id).expect("removes");
        drop(registry);
        assert_eq!(open(&dirs).1.expect("a registry without workspaces begins anew"), dirs);
    }
}
