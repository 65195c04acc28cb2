//! Where something is written on the host until it is whole: under another name beside where it is to be, noted so that the next client
//! removes it if this one is killed.

use std::path::{Path, PathBuf};

use pyro_store::{Dirs, Unfinished};
use pyro_tree::ExportError;

use crate::error::Result;

/// A name beside an output. Whoever makes something of this name removes it, or renames it to the output, before this is dropped.
#[derive(Debug)]
pub(crate) struct Aside {
    path: PathBuf,
    _noted: Unfinished,
}

impl Aside {
    /// Chooses a name and notes it.
    ///
    /// # Errors
    /// The output is no name, or the folder it is to be in is not there.
    pub(crate) fn of(dirs: &Dirs, output: &Path) -> Result<Self> {
        let name = output.file_name().ok_or_else(|| ExportError::Name { path: output.into() })?;
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = std::fs::canonicalize(folder).map_err(|source| ExportError::Write { path: output.into(), source })?;
        let path = folder.join(Unfinished::name(name));
        let noted = Unfinished::announce(dirs, &path)?;
        Ok(Self { path, _noted: noted })
    }

    /// Returns the name, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
