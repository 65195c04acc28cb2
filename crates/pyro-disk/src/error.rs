//! Why a disk could not be read.

use std::io;
use std::path::{Path, PathBuf};

use pyro_proto::error::ErrorKind;

/// A failure to read a disk from outside. Paths are those of layers on the host, except where a message says otherwise.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields are")]
pub enum DiskError {
    #[error("cannot {operation} `{}`", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("the host's disk is full: cannot write `{}`", path.display())]
    DiskFull { path: PathBuf },
    #[error("a disk needs at least one layer")]
    NoLayers,
    #[error("layer `{}` is not as Pyro writes them: {problem}", path.display())]
    CorruptLayer { path: PathBuf, problem: &'static str },
    #[error("the file system on `{}` was not closed properly and waits to be mended by its guest", path.display())]
    NeedsRecovery { path: PathBuf },
    #[error("the file system on `{}` uses {feature}, which Pyro cannot read", path.display())]
    Unsupported { path: PathBuf, feature: &'static str },
    #[error("the file system on `{}` is damaged: {problem}", path.display())]
    CorruptVolume { path: PathBuf, problem: &'static str },
    #[error("the file system on `{}` is damaged at inode {inode}: {problem}", path.display())]
    CorruptInode { path: PathBuf, inode: u32, problem: &'static str },
    #[error("the disk `{}` holds more than can be looked at: {what}", path.display())]
    TooMuch { path: PathBuf, what: &'static str },
    #[error("the disk `{}` could not be read in the time there was", path.display())]
    TooLate { path: PathBuf },
    #[error("there is no `{entry}` on the disk")]
    NotFound { entry: String },
    #[error("`{entry}` on the disk is not a {wanted}")]
    WrongKind { entry: String, wanted: &'static str },
}

impl DiskError {
    /// Returns what the failure is called on every surface.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::CorruptLayer { .. } | Self::CorruptVolume { .. } | Self::CorruptInode { .. } => ErrorKind::Io,
            Self::DiskFull { .. } => ErrorKind::HostDiskFull,
            Self::NoLayers => ErrorKind::Internal,
            Self::NeedsRecovery { .. } => ErrorKind::WrongState,
            Self::Unsupported { .. } => ErrorKind::Incompatible,
            Self::TooMuch { .. } => ErrorKind::LimitExceeded,
            Self::TooLate { .. } => ErrorKind::DeadlineExceeded,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::WrongKind { .. } => ErrorKind::InvalidArgument,
        }
    }

    /// Returns a better hint than the kind's own, where this place knows one.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NeedsRecovery { .. } => Some("start the workspace once with `pyro workspace start WORKSPACE`: its guest mends the disk"),
            Self::CorruptLayer { .. } | Self::CorruptVolume { .. } | Self::CorruptInode { .. } => {
                Some("the workspace's disk cannot be trusted any more: go back with `pyro workspace reset WORKSPACE`")
            }
            Self::TooLate { .. } => Some("ask for less at once, or stop the workspace first: then there is no hurry"),
            Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::NoLayers
            | Self::Unsupported { .. }
            | Self::TooMuch { .. }
            | Self::NotFound { .. }
            | Self::WrongKind { .. } => None,
        }
    }

    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::DiskFull { path: path.to_owned() };
        }
        Self::Io { operation, path: path.to_owned(), source }
    }

    pub(crate) fn not_found(entry: &[u8]) -> Self {
        Self::NotFound { entry: entry.escape_ascii().to_string() }
    }

    pub(crate) fn wrong_kind(entry: &[u8], wanted: &'static str) -> Self {
        Self::WrongKind { entry: entry.escape_ascii().to_string(), wanted }
    }
}
