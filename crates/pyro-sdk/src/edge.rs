//! The one place that reads the process environment. Programs that embed Pyro and want other rules use [`Pyro::open`] instead.

use std::{ffi::OsString, path::PathBuf};

use pyro_store::Dirs;

use crate::{
    Pyro, PyroOptions,
    config::{ConfigError, Configuration, Flags},
    error::{Problem, Result},
};

/// Looks a variable of this process up.
#[must_use]
pub fn process_variable(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "this is the edge: everything below is handed what it needs")]
    std::env::var_os(name)
}

/// Finds Pyro's folders by `PYRO_HOME` or the XDG rules.
///
/// # Errors
/// No variable says where to begin.
pub fn dirs_from_env() -> Result<Dirs> {
    Dirs::from_variables(&process_variable).ok_or_else(|| Problem::NoHome.into())
}

/// Resolves the configuration of this process: `config.toml`, `PYRO_…` variables and `flags`.
///
/// # Errors
/// One of them holds something that is not accepted.
pub fn configuration_from_env(dirs: &Dirs, flags: Flags) -> Result<Configuration> {
    let path = dirs.config_file();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(ConfigError::Unreadable { path, source }.into()),
    };
    Ok(Configuration::resolve(text.as_deref().map(|text| (path, text)), &process_variable, flags)?)
}

/// Finds the `pyro` binary: `PYRO_BINARY`, else beside this program, else on `PATH`.
///
/// # Errors
/// It is nowhere.
pub fn binary_from_env() -> Result<PathBuf> {
    if let Some(binary) = process_variable("PYRO_BINARY").filter(|binary| !binary.is_empty()) {
        return Ok(binary.into());
    }
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("pyro")));
    let path = process_variable("PATH").unwrap_or_default();
    let mut candidates = beside.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join("pyro")));
    candidates.find(|candidate| candidate.is_file()).ok_or_else(|| Problem::NoBinary.into())
}

impl Pyro {
    /// Opens the installation this process's environment describes.
    ///
    /// # Errors
    /// Folders or binary cannot be found, the configuration is not accepted, or the registry cannot be opened.
    pub fn from_env() -> Result<Self> {
        let dirs = dirs_from_env()?;
        let configuration = configuration_from_env(&dirs, Flags::default())?;
        Self::open(PyroOptions { dirs, configuration, binary: binary_from_env()? })
    }
}
