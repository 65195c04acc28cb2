//! Failures of a supervisor, with the kind every surface reports.

use std::path::PathBuf;

use pyro_proto::error::{ErrorKind, Failure};

/// What a supervisor could not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] pyro_store::StoreError),
    /// A file operation failed; the cause names the path.
    #[error("cannot {operation}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// Names the path.
        source: std::io::Error,
    },
    /// An environment cannot be used.
    #[error("cannot use the environment of this machine")]
    Environment {
        /// Why.
        source: pyro_image::Error,
    },
    /// The environment was removed.
    #[error("the environment with digest {digest} is not on this host any more")]
    EnvironmentMissing {
        /// Its content digest.
        digest: String,
    },
    /// A program cannot be started.
    #[error("cannot start `{program}`")]
    Start {
        /// Its path.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A helper program failed.
    #[error("`{program}` failed: {detail}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The end of what it printed.
        detail: String,
    },
    /// A disk layer's header is not one we wrote.
    #[error("disk layer {layer} was tampered with: its header refers to something outside")]
    LayerTampered {
        /// Its id.
        layer: String,
    },
    /// Another machine, or a process that merges layers, has a layer.
    #[error("disk layer {layer} is in use by another machine")]
    LayerInUse {
        /// Its id.
        layer: String,
    },
    /// QEMU ended by itself.
    #[error("QEMU ended {status}{detail}")]
    MachineEnded {
        /// Its exit status in words.
        status: String,
        /// The end of what it printed, with a leading separator.
        detail: String,
    },
    /// QEMU refused a command.
    #[error("QEMU refused `{command}`: {reason}")]
    Qmp {
        /// The QMP command.
        command: &'static str,
        /// QEMU's words.
        reason: String,
    },
    /// QEMU's monitor is gone or answers nonsense.
    #[error("QEMU's monitor {problem}")]
    Monitor {
        /// What was seen.
        problem: &'static str,
    },
    /// The guest's agent did not answer in time.
    #[error("the guest agent did not answer within {seconds} s while {doing}")]
    AgentTimeout {
        /// Deadline.
        seconds: u64,
        /// Phase.
        doing: &'static str,
    },
    /// The guest's channel broke.
    #[error("the channel to the guest broke while {doing}")]
    Channel {
        /// Phase.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The guest's agent refused a call.
    #[error("the guest refused while {doing}")]
    Guest {
        /// Phase.
        doing: &'static str,
        /// What it said, cut to size.
        source: Failure,
    },
    /// The guest's agent refused what a client asked of it.
    #[error("{}", source.message)]
    PassedOn {
        /// What it said, cut to size.
        source: Failure,
    },
    /// A live snapshot cannot be resumed any more; its disks can be used.
    #[error("the live snapshot cannot be resumed: {reason}")]
    Stale {
        /// Why.
        reason: String,
    },
    /// The agent speaks another protocol.
    #[error("the guest agent speaks protocol {found}, this Pyro {known}")]
    Protocol {
        /// Generation found.
        found: u32,
        /// Generation of this build.
        known: u32,
    },
    /// A caller asked for something that makes no sense now.
    #[error("{problem}")]
    WrongState {
        /// Why.
        problem: String,
    },
    /// A caller asked for something that is not accepted.
    #[error("{problem}")]
    Invalid {
        /// Why.
        problem: String,
    },
    /// A line is longer than a terminal keeps.
    #[error("the program reads its terminal line by line, and a line can hold {maximum} bytes; this one has {bytes}")]
    LineTooLong {
        /// Bytes of the line.
        bytes: usize,
        /// How many are kept.
        maximum: usize,
    },
    /// There are as many as there may be.
    #[error("the workspace has {maximum} {what} already")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        maximum: usize,
    },
    /// Somebody has this port of the host.
    #[error("port {port} of the host's 127.0.0.1 is taken")]
    PortTaken {
        /// Its number.
        port: u16,
    },
    /// This user may not have this port of the host.
    #[error("port {port} of the host needs a privilege that Pyro does not have")]
    PortForbidden {
        /// Its number.
        port: u16,
    },
    /// Nothing of this port is published.
    #[error("the guest's port {port} is not published")]
    PortNotPublished {
        /// Its number in the guest.
        port: u16,
    },
    /// A command asks for a secret that the workspace does not have.
    #[error("the workspace has no secret `{name}`; `pyro workspace status` lists those it has")]
    NoSecret {
        /// What was asked for.
        name: String,
    },
    /// The network stack failed.
    #[error("the workspace's network failed")]
    Network {
        /// Why.
        source: pyro_egress::EgressError,
    },
    /// The host's disk is full and the machine is paused.
    #[error("the host's disk is full; the machine is paused until there is room")]
    HostDiskFull,
}

/// Result of a supervisor's operation.
pub(crate) type HostResult<T> = Result<T, HostError>;

impl HostError {
    pub(crate) const fn network(source: pyro_egress::EgressError) -> Self {
        Self::Network { source }
    }

    /// Returns the kind every surface reports.
    #[must_use]
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => ErrorKind::HostDiskFull,
            Self::File { .. } => ErrorKind::Io,
            Self::Environment { source } => source.kind(),
            Self::EnvironmentMissing { .. } => ErrorKind::EnvironmentUnavailable,
            Self::Start { .. } => ErrorKind::HostNotReady,
            Self::LayerTampered { .. } | Self::Program { .. } | Self::MachineEnded { .. } | Self::Qmp { .. } | Self::Monitor { .. } => {
                ErrorKind::MachineFailed
            }
            Self::AgentTimeout { .. } | Self::Channel { .. } | Self::Guest { .. } => ErrorKind::MachineFailed,
            Self::PassedOn { source } => source.kind(),
            Self::Protocol { .. } | Self::Stale { .. } => ErrorKind::Incompatible,
            Self::WrongState { .. } | Self::LayerInUse { .. } => ErrorKind::WrongState,
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::TooMany { .. } | Self::LineTooLong { .. } => ErrorKind::LimitExceeded,
            Self::PortTaken { .. } => ErrorKind::Conflict,
            Self::PortForbidden { .. } => ErrorKind::PermissionDenied,
            Self::PortNotPublished { .. } | Self::NoSecret { .. } => ErrorKind::NotFound,
            Self::Network { .. } => ErrorKind::MachineFailed,
            Self::HostDiskFull => ErrorKind::HostDiskFull,
        }
    }

    /// Returns the form that crosses the wire.
    #[must_use]
    pub(crate) fn to_failure(&self) -> Failure {
        if let Self::PassedOn { source } = self { source.clone() } else { Failure::new(self.kind(), self) }
    }
}

impl From<HostError> for tonic::Status {
    fn from(error: HostError) -> Self {
        error.to_failure().into_status()
    }
}

/// Adds what was tried to an I/O error.
pub(crate) trait Doing<T> {
    fn doing(self, operation: &'static str) -> HostResult<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, operation: &'static str) -> HostResult<T> {
        self.map_err(|source| HostError::File { operation, source })
    }
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing(self, operation: &'static str) -> HostResult<T> {
        self.map_err(|errno| HostError::File { operation, source: errno.into() })
    }
}
