//! What a command is handed: a printer, and an installation opened when it is first asked for.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use pyro_sdk::{
    CallOff, CutOffApply, Observer, Pyro, PyroOptions,
    config::{AcceleratorChoice, Configuration, Flags},
    edge,
    text::{TextError, WorkspacePathError},
};

use crate::{
    hosts::{HostError, Surroundings},
    render::Printer,
};

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An operation failed.
    Pyro(pyro_sdk::Error),
    /// A host's file could not be used.
    Host(HostError),
    /// Our own output cannot be written.
    Output(std::io::Error),
    /// Something is not as this program believes.
    Bug(String),
}

impl From<pyro_sdk::Error> for Failure {
    fn from(error: pyro_sdk::Error) -> Self {
        Self::Pyro(error)
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::Pyro(error.into())
    }
}

impl From<WorkspacePathError> for Failure {
    fn from(error: WorkspacePathError) -> Self {
        Self::Pyro(error.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// A command's exit code, or why it has none.
pub(crate) type Outcome = Result<u8, Failure>;

/// What a command is handed.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) printer: Printer,
    flags: Flags,
    call_off: CallOff,
    opened: Arc<OnceLock<Pyro>>,
}

impl Context {
    pub(crate) fn new(printer: Printer, accelerator: Option<AcceleratorChoice>) -> Self {
        Self { printer, flags: Flags { accelerator }, call_off: CallOff::default(), opened: Arc::default() }
    }

    /// Opens the installation the environment describes.
    pub(crate) fn pyro(&self) -> Result<Pyro, Failure> {
        if let Some(pyro) = self.opened.get() {
            return Ok(pyro.clone());
        }
        let dirs = edge::dirs_from_env()?;
        let configuration = edge::configuration_from_env(&dirs, self.flags)?;
        // This very binary is also the supervisor, so the two are never of different versions.
        let pyro = Pyro::open(PyroOptions { dirs, configuration, binary: self.binary()? })?;
        Ok(self.opened.get_or_init(|| pyro).clone())
    }

    /// Asks what is under way to end early.
    pub(crate) fn call_off(&self) {
        self.call_off.call_off();
    }

    /// Removes what an interrupted command has left, if it was at anything.
    pub(crate) async fn look_for_leftovers(&self) -> pyro_sdk::Result<()> {
        match self.opened.get() {
            Some(pyro) => pyro.reap().await,
            None => Ok(()),
        }
    }

    /// Returns what was put right by the way.
    pub(crate) fn take_put_back(&self) -> Vec<CutOffApply> {
        self.opened.get().map(Pyro::take_put_back).unwrap_or_default()
    }

    /// Returns this program's own file.
    pub(crate) fn binary(&self) -> Result<PathBuf, Failure> {
        std::env::current_exe().map_err(|error| Failure::Bug(format!("cannot find this program's own file: {error}")))
    }

    /// Returns what hosts' files are found by.
    pub(crate) fn surroundings(&self) -> Result<Surroundings, Failure> {
        let current = std::env::current_dir().map_err(|error| Failure::Bug(format!("cannot find the current folder: {error}")))?;
        Ok(Surroundings::new(current, edge::process_variable))
    }

    pub(crate) fn configuration(&self) -> Result<Configuration, Failure> {
        Ok(edge::configuration_from_env(&edge::dirs_from_env()?, self.flags)?)
    }

    pub(crate) fn observer(&self) -> Observer {
        self.printer.observer().with_call_off(self.call_off.clone())
    }
}
