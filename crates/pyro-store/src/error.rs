//! Failures of the store.

use std::path::PathBuf;

use pyro_proto::error::ErrorKind;

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed; `fs_err` names the path.
    #[error("cannot use Pyro's own files")]
    File {
        /// Carries the path.
        #[from]
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("cannot use the registry `{path}`")]
    Registry {
        /// The database file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The registry was written by a newer Pyro.
    #[error("the registry `{path}` has format {found}, this Pyro knows up to {known}")]
    RegistryNewer {
        /// The database file.
        path: PathBuf,
        /// Format found.
        found: i64,
        /// Newest format this build writes.
        known: i64,
    },
    /// No workspace has this id, name or id prefix.
    #[error("there is no workspace `{reference}`")]
    WorkspaceNotFound {
        /// What was asked for.
        reference: String,
    },
    /// Several ids begin with the prefix.
    #[error("`{reference}` is the beginning of {count} workspace ids")]
    WorkspaceAmbiguous {
        /// What was asked for.
        reference: String,
        /// How many match.
        count: usize,
    },
    /// A live workspace has the name.
    #[error("a workspace named `{name}` exists already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The workspace is in a state in which the change is not allowed.
    #[error("workspace `{workspace}` is {state}")]
    WrongState {
        /// Its id.
        workspace: String,
        /// Its state.
        state: &'static str,
    },
    /// Another client began to start, reset or delete the workspace.
    #[error("another client reset, started or deleted workspace `{workspace}` at the same time")]
    Overtaken {
        /// Its id.
        workspace: String,
    },
    /// The folder with the disks is not where it was.
    #[error("cannot find the disks of this installation: according to the registry `{registry}` they are in `{path}`")]
    DataMissing {
        /// Where the registry saw them last.
        path: PathBuf,
        /// The database file.
        registry: PathBuf,
    },
    /// As many standby machines as wanted are there already.
    #[error("there are enough standby machines")]
    StandbyLimit,
    /// The journal has no such command.
    #[error("workspace `{workspace}` has no command {sequence}")]
    CommandNotFound {
        /// Its id.
        workspace: String,
        /// The sequence asked for.
        sequence: u64,
    },
    /// The workspace has no such snapshot.
    #[error("workspace `{workspace}` has no snapshot `{name}`")]
    SnapshotNotFound {
        /// Its id.
        workspace: String,
        /// The name asked for.
        name: String,
    },
    /// The workspace has a snapshot of this name.
    #[error("workspace `{workspace}` has a snapshot `{name}` already")]
    SnapshotExists {
        /// Its id.
        workspace: String,
        /// The name.
        name: String,
    },
    /// The workspace has no such shell.
    #[error("workspace `{workspace}` has no shell `sh{number}`")]
    ShellNotFound {
        /// Its id.
        workspace: String,
        /// The number asked for.
        number: u64,
    },
    /// The workspace has no such service.
    #[error("workspace `{workspace}` has no service `{name}`")]
    ServiceNotFound {
        /// Its id.
        workspace: String,
        /// The name asked for.
        name: String,
    },
    /// A service of this name runs.
    #[error("service `{name}` of workspace `{workspace}` runs already")]
    ServiceRuns {
        /// Its id.
        workspace: String,
        /// The name.
        name: String,
    },
    /// The workspace has as many services as it may have.
    #[error("workspace `{workspace}` has {maximum} services that run already")]
    TooManyServices {
        /// Its id.
        workspace: String,
        /// How many it may have.
        maximum: u64,
    },
    /// A stored value cannot be read.
    #[error("the registry holds an unreadable {what} `{value}`")]
    Corrupt {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: String,
    },
}

/// Result of a store operation.
pub type StoreResult<T> = Result<T, StoreError>;

impl StoreError {
    /// Returns the kind every surface reports.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source } if is_disk_full(source) => ErrorKind::HostDiskFull,
            Self::File { source } if source.kind() == std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            Self::File { .. } => ErrorKind::Io,
            Self::Registry { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => ErrorKind::HostDiskFull,
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => ErrorKind::DeadlineExceeded,
                _ => ErrorKind::Io,
            },
            Self::RegistryNewer { .. } => ErrorKind::Incompatible,
            Self::WorkspaceNotFound { .. }
            | Self::CommandNotFound { .. }
            | Self::SnapshotNotFound { .. }
            | Self::ShellNotFound { .. }
            | Self::ServiceNotFound { .. } => ErrorKind::NotFound,
            Self::WorkspaceAmbiguous { .. } => ErrorKind::InvalidArgument,
            Self::NameTaken { .. } | Self::SnapshotExists { .. } | Self::ServiceRuns { .. } => ErrorKind::AlreadyExists,
            Self::TooManyServices { .. } => ErrorKind::LimitExceeded,
            Self::WrongState { .. } | Self::Overtaken { .. } | Self::StandbyLimit => ErrorKind::WrongState,
            Self::DataMissing { .. } => ErrorKind::NotFound,
            Self::Corrupt { .. } => ErrorKind::Internal,
        }
    }
}

/// Tells whether an error means that the host's disk is full.
pub(crate) fn is_disk_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
