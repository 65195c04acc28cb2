//! Pyro's five folders. Where they are is decided once, at the edge; everything below the edge is handed a [`Dirs`].
//!
//! ```text
//! config   config.toml
//! data     environments/  templates/  layers/  checkpoints/ID/{memory,state,checkpoint.json,rings/}
//!          machines/ID/{lock,machine-lock,socket,handoff,supervisor.log}  installation
//! cache    downloaded packages
//! state    registry.sqlite  workspaces/ID/{lifecycle,output/,shells/N/,services/NAME/,seed.json,apply/,network.log}
//!          unfinished/  reserve
//! runtime  tokens of `mcp serve`
//! ```
//!
//! The programs of one user do not have the same environment: chat hosts, `sudo`, cron and `env -i` leave variables out. So nothing that
//! decides whether a machine lives depends on one: machines lie beside their disks, and the registry says where those are (`installation`).

use std::{
    ffi::OsString,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{MachineId, NetworkLog, StoreResult, TemplateKey, WorkspaceId};

/// The five folders of one Pyro installation of one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dirs {
    /// Read at the edge only.
    pub config: PathBuf,
    /// Environments, templates, layers, and the machines that use them.
    pub data: PathBuf,
    /// May be deleted at any time.
    pub cache: PathBuf,
    /// The registry and the journals.
    pub state: PathBuf,
    /// What need not outlive a login.
    pub runtime: PathBuf,
}

impl Dirs {
    /// Puts all folders under one, as `PYRO_HOME` does.
    #[must_use]
    pub fn under(home: &Path) -> Self {
        let folder = |name| home.join(name);
        Self { config: folder("config"), data: folder("data"), cache: folder("cache"), state: folder("state"), runtime: folder("run") }
    }

    /// Finds the folders by the XDG base directory rules and `PYRO_HOME`, reading variables through `variable`.
    ///
    /// Returns `None` when neither `PYRO_HOME` nor `HOME` says where to begin. Relative values are ignored, as the XDG specification
    /// asks. Without `XDG_RUNTIME_DIR` sockets live under the state folder: a shared `/tmp` would let another user take the name first.
    #[must_use]
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Self> {
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(home) = variable("PYRO_HOME").filter(|home| !home.is_empty()) {
            return Some(Self::under(&std::path::absolute(PathBuf::from(home)).ok()?));
        }
        let home = absolute("HOME")?;
        let folder = |name: &str, default: &str| absolute(name).unwrap_or_else(|| home.join(default)).join("pyro");
        let state = folder("XDG_STATE_HOME", ".local/state");
        Some(Self {
            config: folder("XDG_CONFIG_HOME", ".config"),
            data: folder("XDG_DATA_HOME", ".local/share"),
            cache: folder("XDG_CACHE_HOME", ".cache"),
            runtime: absolute("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |runtime| runtime.join("pyro")),
            state,
        })
    }

    /// Makes the folders that hold Pyro's own files, readable by their owner only.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn create(&self) -> StoreResult<()> {
        for folder in [
            &self.data,
            &self.cache,
            &self.state,
            &self.runtime,
            &self.templates(),
            &self.layers(),
            &self.checkpoints(),
            &self.machines(),
            &self.workspaces(),
            &self.unfinished(),
        ] {
            if !folder.is_dir() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
                    std::io::Error::new(error.kind(), format!("cannot make the folder `{}`: {error}", folder.display()))
                })?;
            }
        }
        Ok(())
    }

    /// Returns the configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Returns the registry's database file.
    #[must_use]
    pub fn registry(&self) -> PathBuf {
        self.state.join("registry.sqlite")
    }

    /// Returns the folder of all templates.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.data.join("templates")
    }

    /// Returns the folder of one template.
    #[must_use]
    pub fn template(&self, key: &TemplateKey) -> PathBuf {
        self.templates().join(key.as_str())
    }

    /// Returns the folder of disk layers.
    #[must_use]
    pub fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    /// Returns the folder of live snapshots' memory.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.data.join("checkpoints")
    }

    /// Returns the manifest of what a workspace was seeded with.
    #[must_use]
    pub fn seed_manifest(&self, id: &WorkspaceId) -> PathBuf {
        self.workspace(id).join("seed.json")
    }

    /// Returns the ignore rules of what a workspace was seeded with; there are none unless that was a Git checkout.
    #[must_use]
    pub fn seed_ignores(&self, id: &WorkspaceId) -> PathBuf {
        self.workspace(id).join("seed-ignores.json")
    }

    /// Returns the folder of all machines' locks, sockets and logs.
    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.data.join("machines")
    }

    /// Returns the folder in which a new machine is made. Where one that is registered is found, [`crate::Registry::machine_folder`] says.
    #[must_use]
    pub fn machine(&self, id: &MachineId) -> PathBuf {
        self.machines().join(id.as_str())
    }

    /// Returns the log of what a workspace's network did.
    #[must_use]
    pub fn network_log(&self, id: &WorkspaceId) -> NetworkLog {
        NetworkLog::new(self.workspace(id))
    }

    /// Returns the folder of all workspaces' journals.
    #[must_use]
    pub fn workspaces(&self) -> PathBuf {
        self.state.join("workspaces")
    }

    /// Returns the file whose lock a client holds while it moves a workspace from one state to another.
    #[must_use]
    pub fn lifecycle(&self, id: &WorkspaceId) -> PathBuf {
        self.workspace(id).join("lifecycle")
    }

    /// Returns the folder of notes on what is being made outside Pyro's folders.
    #[must_use]
    pub fn unfinished(&self) -> PathBuf {
        self.state.join("unfinished")
    }

    /// Returns the file that says whose disks these are.
    #[must_use]
    pub fn installation(&self) -> PathBuf {
        self.data.join("installation")
    }

    /// Returns the folder of one workspace's journal.
    #[must_use]
    pub fn workspace(&self, id: &WorkspaceId) -> PathBuf {
        self.workspaces().join(id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], state: &str, runtime: &str) {
        let dirs =
            Dirs::from_variables(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())).expect("a home");
        assert_eq!(dirs.state, PathBuf::from(state));
        assert_eq!(dirs.runtime, PathBuf::from(runtime));
    }

    #[test]
    fn home_variable_moves_everything() {
        check(&[("PYRO_HOME", "/p"), ("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")], "/p/state", "/p/run");
    }

    #[test]
    fn xdg_folders_are_used_and_relative_ones_ignored() {
        check(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r"), ("XDG_STATE_HOME", "relative")], "/h/.local/state/pyro", "/r/pyro");
        check(&[("HOME", "/h")], "/h/.local/state/pyro", "/h/.local/state/pyro/run");
    }
}
