//! Brings a difference home into a folder of the host, as one transaction.
//!
//! `plan` compares the host with what the workspace was seeded with and gives a verdict on every path; it changes nothing. `land` copies
//! what it will replace into its journal, writes the journal, stages the new contents beside the old, and moves them into place:
//!
//! ```text
//!          land                         undo
//! (none) ──────▶ landing ──▶ landed ──────────▶ undoing ──▶ undone
//!                   └────────── recover ──────────┘            ▲
//!                   └──────────────────────────────────────────┘
//! ```
//!
//! A crash in `landing` or `undoing` is taken back to the state before the landing by `recover`: both ways lead through the same code,
//! which brings every path of the journal to its old shape and may be interrupted itself. Paths come from the difference and are resolved
//! below the target, never through a link in it (see `beneath`). `.git` is never written, nor what would
//! make a folder of another name a repository: such paths are left out, and the rest lands.

mod clash;
mod hazards;
mod journal;
mod land;
mod plan;
mod repository;
mod restore;

use std::{
    io,
    path::{Path, PathBuf},
};

use pyro_proto::error::ErrorKind;

pub use self::{
    hazards::hazards,
    land::land,
    plan::plan,
    repository::{Repositories, is_git},
    restore::{Strangers, recover, undo},
};
use self::{journal::JournalError, plan::Step};
use crate::{beneath::Beneath, diff::Change, path::TreePath};

/// Most paths named in an error.
const PATHS_SHOWN: usize = 20;

/// What a landing would do to one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerdictKind {
    /// The host has it as it was seeded, so it can be changed.
    Clean,
    /// The host has it otherwise, or it must not be written.
    Conflict,
    /// The host has it as it would become.
    AlreadyThere,
    /// It is never written, and the rest lands without it.
    LeftOut,
}

impl VerdictKind {
    /// Returns the stable name used by `--json` and MCP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Conflict => "conflict",
            Self::AlreadyThere => "already_there",
            Self::LeftOut => "left_out",
        }
    }
}

/// The verdict on one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Where it lies below the target.
    pub path: TreePath,
    /// What happened to it in the workspace.
    pub change: Change,
    /// What that means for the host.
    pub verdict: VerdictKind,
    /// Why it is a conflict, or left out.
    pub reason: Option<String>,
    /// Whether `force` lands a conflict all the same.
    pub forceable: bool,
}

/// A change to something that later runs on the host, or points out of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hazard {
    /// Where it lies.
    pub path: TreePath,
    /// What about it.
    pub why: &'static str,
}

/// A landing that has been thought through and not begun.
#[derive(Debug)]
pub struct Plan<'a> {
    /// A verdict for each difference, sorted by path.
    pub files: Vec<Verdict>,
    /// What the user should look at before it lands.
    pub hazards: Vec<Hazard>,
    target: Beneath,
    target_path: PathBuf,
    steps: Vec<Step<'a>>,
}

/// What was landed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Entries written.
    pub written: u64,
    /// Entries taken away.
    pub removed: u64,
    /// Bytes of files written.
    pub bytes_written: u64,
    /// Entries that were already there.
    pub already_there: u64,
}

/// What was taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undone {
    /// Entries brought back to what they were.
    pub restored: u64,
    /// Entries taken away again.
    pub removed: u64,
    /// Entries that somebody else has changed meanwhile, and that stay as they are.
    pub kept: Vec<TreePath>,
}

/// What became of a landing that may have been interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// There is no journal: it was interrupted before it changed anything.
    Absent,
    /// It had come to its end, and can be undone.
    Landed,
    /// It had been undone to the end.
    Undone,
    /// Every path is again what it was before the landing, which it was not before this call.
    TakenBack(Undone),
}

/// Why a landing cannot be planned, made or taken back.
#[derive(Debug, thiserror::Error)]
pub enum LandingError {
    /// Something below the target cannot be read or written.
    #[error("cannot {doing} `{}`", path.display())]
    Host {
        /// What was to be done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Some paths are not as the workspace knows them; nothing was changed.
    #[error("{count} {} in conflict, nothing was changed: {}", if *count == 1 { "file is" } else { "files are" }, paths.join(", "))]
    Conflicts {
        /// How many.
        count: usize,
        /// The first of them, with their reasons.
        paths: Vec<String>,
    },
    /// A path was changed by somebody else since it was looked at.
    #[error("`{}` was changed meanwhile", path.display())]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// The journal cannot be written or read.
    #[error("cannot use journal `{}`", path.display())]
    Journal {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: JournalError,
    },
    /// The journal already belongs to a landing.
    #[error("journal `{}` already belongs to a landing", path.display())]
    JournalTaken {
        /// The folder.
        path: PathBuf,
    },
    /// It was not wanted any more, before anything was changed.
    #[error("it was called off before anything was changed")]
    CalledOff,
    /// There is no landing to take back.
    #[error("journal `{}` holds no landing that can be taken back", path.display())]
    NothingToUndo {
        /// The folder.
        path: PathBuf,
    },
    /// A landing failed, and taking it back failed, too.
    #[error("landing failed, and what was done could not be taken back: {rollback}")]
    Stuck {
        /// Why it failed.
        #[source]
        source: Box<Self>,
        /// Why it could not be taken back.
        rollback: Box<Self>,
    },
}

impl LandingError {
    /// Returns the kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Host { source, .. } => crate::files::error_kind(source),
            Self::Conflicts { .. } | Self::Changed { .. } => ErrorKind::Conflict,
            Self::Journal { source, .. } => source.kind(),
            Self::JournalTaken { .. } => ErrorKind::AlreadyExists,
            Self::NothingToUndo { .. } | Self::CalledOff => ErrorKind::WrongState,
            Self::Stuck { source, .. } => source.kind(),
        }
    }
}

fn host(doing: &'static str, target: &Beneath, path: &TreePath) -> impl FnOnce(io::Error) -> LandingError {
    let path = target.host_path(path);
    move |source| LandingError::Host { doing, path, source }
}

fn top(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LandingError {
    let path = path.to_path_buf();
    move |source| LandingError::Host { doing, path, source }
}

#[cfg(test)]
mod tests;
