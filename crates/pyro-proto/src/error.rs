//! What a failure is called on every surface: its kind, its exit code, its hint, and its form on the wire.
//!
//! A kind is stable: `--json`, MCP and exit codes share it. Hints come from the kind, never from the text of a message.

use prost::Message as _;

pub use crate::v1::{ErrorKind, Failure};

/// Longest message accepted from a peer, in bytes; a longer one is cut. A hostile guest must not fill a terminal or a log.
const MESSAGE_MAX_BYTES: usize = 4096;
/// Most causes accepted from a peer.
const CAUSES_MAX: usize = 16;

impl ErrorKind {
    /// Every kind a user can meet, in the order of its exit code.
    pub const ALL: [Self; 16] = [
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::WrongState,
        Self::Conflict,
        Self::EnvironmentUnavailable,
        Self::Internal,
        Self::HostNotReady,
        Self::MachineFailed,
        Self::HostDiskFull,
        Self::Io,
        Self::DeadlineExceeded,
        Self::LimitExceeded,
        Self::PermissionDenied,
        Self::ConfigInvalid,
        Self::Incompatible,
    ];

    /// Returns the stable code shared by `--json`, MCP and Python, for example `not_found`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::WrongState => "wrong_state",
            Self::Conflict => "conflict",
            Self::EnvironmentUnavailable => "environment_unavailable",
            Self::Internal | Self::Unspecified => "internal",
            Self::HostNotReady => "host_not_ready",
            Self::MachineFailed => "machine_failed",
            Self::HostDiskFull => "host_disk_full",
            Self::Io => "io",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::LimitExceeded => "limit_exceeded",
            Self::PermissionDenied => "permission_denied",
            Self::ConfigInvalid => "config_invalid",
            Self::Incompatible => "incompatible",
        }
    }

    /// Returns the exit code of the CLI for this kind: 64 … 79, one per kind.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::InvalidArgument => 64,
            Self::NotFound => 65,
            Self::AlreadyExists => 66,
            Self::WrongState => 67,
            Self::Conflict => 68,
            Self::EnvironmentUnavailable => 69,
            Self::Internal | Self::Unspecified => 70,
            Self::HostNotReady => 71,
            Self::MachineFailed => 72,
            Self::HostDiskFull => 73,
            Self::Io => 74,
            Self::DeadlineExceeded => 75,
            Self::LimitExceeded => 76,
            Self::PermissionDenied => 77,
            Self::ConfigInvalid => 78,
            Self::Incompatible => 79,
        }
    }

    /// Returns the hint for this kind when the place that failed knows no better one.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::InvalidArgument => "see the accepted values with `--help`",
            Self::NotFound => "list what exists with `pyro workspace list` or `pyro env list`",
            Self::AlreadyExists => "choose another name, or delete the other one with `pyro workspace delete NAME`",
            Self::WrongState => {
                "see its state with `pyro workspace status WORKSPACE`; start a stopped one with `pyro workspace start WORKSPACE`"
            }
            Self::Conflict => "read what is there now, then try again; nothing was changed",
            Self::EnvironmentUnavailable => "build it with `pyro env pull ENVIRONMENT`, see which exist with `pyro env list`",
            Self::Internal | Self::Unspecified => "this is a bug in Pyro: report it with the output of `pyro doctor --json`",
            Self::HostNotReady => "see what is missing and how to mend it with `pyro doctor`",
            Self::MachineFailed => {
                "check the host with `pyro doctor`; a running workspace is brought back with `pyro workspace start WORKSPACE`"
            }
            Self::HostDiskFull => "free space with `pyro system prune`, or delete files on the host; a paused machine goes on by itself",
            Self::Io => "check the path, its permissions and the host's disk, then try again",
            Self::DeadlineExceeded => "try again, or give it longer with `--timeout-seconds`",
            Self::LimitExceeded => "ask for less; the limits are in `--help`",
            Self::PermissionDenied => "check the owner and mode of the path, or run as the user who owns it",
            Self::ConfigInvalid => "correct the file or variable named above",
            Self::Incompatible => "update the older side; `pyro doctor` names both versions",
        }
    }

    /// Returns the kind with this stable code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl Failure {
    /// Makes the wire form of `error`: its message, and the messages of its causes.
    #[must_use]
    pub fn new(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        Self { kind: kind.into(), message: error.to_string(), causes }
    }

    /// Makes the wire form of a failure that has no cause.
    #[must_use]
    pub fn message(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), causes: Vec::new() }
    }

    /// Turns the failure into a gRPC status that carries it whole.
    #[must_use]
    pub fn into_status(self) -> tonic::Status {
        let code = match self.kind() {
            ErrorKind::InvalidArgument | ErrorKind::ConfigInvalid => tonic::Code::InvalidArgument,
            ErrorKind::NotFound => tonic::Code::NotFound,
            ErrorKind::AlreadyExists => tonic::Code::AlreadyExists,
            ErrorKind::WrongState | ErrorKind::Incompatible => tonic::Code::FailedPrecondition,
            ErrorKind::Conflict => tonic::Code::Aborted,
            ErrorKind::DeadlineExceeded => tonic::Code::DeadlineExceeded,
            ErrorKind::LimitExceeded | ErrorKind::HostDiskFull => tonic::Code::ResourceExhausted,
            ErrorKind::PermissionDenied => tonic::Code::PermissionDenied,
            ErrorKind::EnvironmentUnavailable
            | ErrorKind::HostNotReady
            | ErrorKind::MachineFailed
            | ErrorKind::Internal
            | ErrorKind::Unspecified
            | ErrorKind::Io => tonic::Code::Internal,
        };
        tonic::Status::with_details(code, self.message.clone(), self.encode_to_vec().into())
    }

    /// Reads the failure a status carries; a status without one (a cut connection, a transport error) becomes `fallback`.
    #[must_use]
    pub fn from_status(status: &tonic::Status, fallback: ErrorKind) -> Self {
        let mut failure = match Self::decode(status.details()) {
            Ok(failure) if !failure.message.is_empty() => failure,
            // The status' own description names layers of HTTP/2 that mean nothing to a user.
            Ok(_) | Err(_) if status.message().is_empty() => Self::message(fallback, "the connection was lost"),
            Ok(_) | Err(_) => Self::message(fallback, status.message()),
        };
        truncate(&mut failure.message);
        failure.causes.truncate(CAUSES_MAX);
        failure.causes.iter_mut().for_each(truncate);
        failure
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

fn truncate(text: &mut String) {
    if text.len() > MESSAGE_MAX_BYTES {
        let end = (0..=MESSAGE_MAX_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_exit_code_and_code() {
        let mut exits: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        exits.dedup();
        assert_eq!(exits.len(), ErrorKind::ALL.len());
        assert!(exits.iter().all(|code| (64..=79).contains(code)));
        assert!(ErrorKind::ALL.into_iter().all(|kind| ErrorKind::from_code(kind.code()) == Some(kind)));
    }

    #[test]
    fn failure_survives_the_wire_with_its_causes() {
        let failure = Failure { kind: ErrorKind::HostDiskFull.into(), message: "m".into(), causes: vec!["c".into()] };
        assert_eq!(Failure::from_status(&failure.clone().into_status(), ErrorKind::Internal), failure);
    }

    #[test]
    fn hostile_failure_is_cut() {
        let failure = Failure { kind: 999, message: "é".repeat(MESSAGE_MAX_BYTES), causes: vec!["x".into(); 1000] };
        let read = Failure::from_status(&failure.into_status(), ErrorKind::MachineFailed);
        assert!(read.message.len() <= MESSAGE_MAX_BYTES);
        assert_eq!(read.causes.len(), CAUSES_MAX);
    }
}
