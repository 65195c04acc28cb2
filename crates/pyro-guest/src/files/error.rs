//! What can go wrong with a file of the workspace.

use std::io;

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::links::FollowError;
use rustix::io::Errno;

use super::TreePath;

/// An operation on the workspace's files failed; nothing was changed by it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("`{path}` is no path in the workspace: {reason}")]
    Path { path: String, reason: &'static str },
    #[error("the workspace has no `{path}`")]
    Missing { path: String },
    #[error("`{path}` leads out of the workspace: `{link}` is a link to `{target}`")]
    Outside { path: String, link: String, target: String },
    #[error("`{path}` cannot be followed: too many levels of symbolic links")]
    Loop { path: String },
    #[error("`{path}` is a link to `{target}`, which does not exist")]
    Dangling { path: String, target: String },
    #[error("cannot change `{path}`: {found}")]
    Conflict { path: String, found: &'static str },
    #[error("`{path}` is {what}, not a regular file")]
    Special { path: String, what: &'static str },
    #[error("the change is not valid: {reason}")]
    Change { reason: String },
    #[error("the change is too large: {reason}")]
    TooLarge { reason: &'static str },
    #[error("the workspace's disk is full")]
    DiskFull,
    #[error("the machine is being shut down")]
    Closing,
    #[error("the call was given up")]
    Abandoned,
    #[error("cannot {action} `{path}`")]
    Io { action: &'static str, path: String, source: io::Error },
    #[error("cannot take back the first part of a change; the rest is done at the next start")]
    Torn { source: Box<FileError> },
}

impl FileError {
    pub(crate) fn io(action: &'static str, path: &[u8], error: Errno) -> Self {
        match error {
            Errno::NOSPC | Errno::DQUOT => Self::DiskFull,
            error => Self::Io { action, path: shown(path), source: error.into() },
        }
    }

    /// What opening a path failed with.
    pub(crate) fn opening(path: &TreePath, error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NOTDIR => Self::Missing { path: path.shown() },
            Errno::LOOP => Self::Loop { path: path.shown() },
            error => Self::io("open", path.bytes(), error),
        }
    }

    /// Why a path leads nowhere.
    pub(crate) fn following(path: &TreePath, error: FollowError<Errno>) -> Self {
        match error {
            FollowError::Outside { link, target } => Self::Outside { path: path.shown(), link: shown(&link), target: shown(&target) },
            FollowError::TooMany => Self::Loop { path: path.shown() },
            FollowError::NoDirectory => Self::Missing { path: path.shown() },
            FollowError::Look(error) => Self::opening(path, error),
        }
    }

    pub(crate) fn conflict(path: &TreePath, found: &'static str) -> Self {
        Self::Conflict { path: path.shown(), found }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Path { .. } | Self::Special { .. } | Self::Change { .. } => ErrorKind::InvalidArgument,
            Self::Missing { .. } | Self::Dangling { .. } => ErrorKind::NotFound,
            Self::Outside { .. } => ErrorKind::PermissionDenied,
            Self::Conflict { .. } | Self::Loop { .. } => ErrorKind::Conflict,
            Self::TooLarge { .. } | Self::DiskFull => ErrorKind::LimitExceeded,
            Self::Closing | Self::Abandoned => ErrorKind::WrongState,
            Self::Io { .. } | Self::Torn { .. } => ErrorKind::Io,
        }
    }

    pub(crate) fn failure(&self) -> Failure {
        Failure::new(self.kind(), self)
    }
}

/// A path as it is shown to a person.
pub(crate) fn shown(path: &[u8]) -> String {
    if path.is_empty() { "/workspace".to_owned() } else { String::from_utf8_lossy(path).into_owned() }
}
