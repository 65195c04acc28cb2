//! What a landing writes down before it touches the host: what every path was, what it becomes, and copies of what is replaced.
//!
//! `journal.json` is the truth; the copies are `old-N`, N being the step's position. A folder with copies and no `journal.json` is what a
//! crash before the first change leaves, and means nothing.

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use pyro_proto::error::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::{beneath::Shape, files, path::TreePath};

/// Version of the format.
const FORMAT: u32 = 1;
const NAME: &str = "journal.json";

/// How far a landing has come; the diagram is in `landing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Landing,
    Landed,
    Undoing,
    Undone,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JournalStep {
    pub(super) path: TreePath,
    pub(super) old: Option<Shape>,
    pub(super) new: Option<Shape>,
}

/// When a folder was changed last, before the landing changed it; no path is the top.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FolderTime {
    pub(super) path: Option<TreePath>,
    pub(super) seconds: i64,
    pub(super) nanoseconds: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    format: u32,
    pub(super) state: State,
    target: Vec<u8>,
    /// Name of the folder in the target where contents wait.
    pub(super) stage: TreePath,
    pub(super) steps: Vec<JournalStep>,
    pub(super) folders: Vec<FolderTime>,
}

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is damaged.
    #[error("it is damaged")]
    Damaged(#[source] serde_json::Error),
    /// A newer Pyro wrote it.
    #[error("it has format {0}, this version knows {FORMAT}")]
    Newer(u32),
}

impl JournalError {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => files::error_kind(error),
            Self::Damaged(_) => ErrorKind::Io,
            Self::Newer(_) => ErrorKind::Incompatible,
        }
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Journal {
    pub(super) fn new(target: &Path, stage: TreePath, steps: Vec<JournalStep>, folders: Vec<FolderTime>) -> Self {
        Self { format: FORMAT, state: State::Landing, target: target.as_os_str().as_bytes().to_vec(), stage, steps, folders }
    }

    pub(super) fn target(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.target))
    }

    pub(super) fn load(folder: &Path) -> Result<Option<Self>, JournalError> {
        let bytes = match fs_err::read(folder.join(NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let format: Format = serde_json::from_slice(&bytes).map_err(JournalError::Damaged)?;
        if format.format != FORMAT {
            return Err(JournalError::Newer(format.format));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(JournalError::Damaged)
    }

    pub(super) fn store(&self, folder: &Path) -> Result<(), JournalError> {
        let bytes = serde_json::to_vec(self).map_err(JournalError::Damaged)?;
        Ok(files::write_atomically(&folder.join(NAME), |file| file.write_all(&bytes))?)
    }

    /// Takes a step in the journal's life.
    pub(super) fn enter(&mut self, state: State, folder: &Path) -> Result<(), JournalError> {
        self.state = state;
        self.store(folder)
    }

    /// Removes what a crash before the first change, or a landing that was taken back, left in the folder.
    pub(super) fn clear(folder: &Path) -> io::Result<()> {
        // The truth goes first, or a crash leaves a journal without its copies.
        match fs_err::remove_file(folder.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for item in fs_err::read_dir(folder)? {
            let item = item?;
            let name = item.file_name();
            if name.as_bytes().starts_with(b"old-") || name.as_bytes().starts_with(b".pyro-") {
                fs_err::remove_file(item.path())?;
            }
        }
        Ok(())
    }
}

/// Returns the name of the copy of a step's old content.
pub(super) fn copy_name(step: usize) -> TreePath {
    TreePath::try_from(format!("old-{step}").as_str()).expect("a word and a number are a path")
}
