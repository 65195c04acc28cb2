//! What can go wrong with a host's file, and what to do about it.

use std::path::PathBuf;

use pyro_sdk::ErrorKind;

use super::{Host, Scope};

/// Why a host was not connected, disconnected or mended. Nothing was written when one of these is told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("`HOME` does not say where {} keeps its files", host.title())]
    NoHome { host: Host },
    #[error("cannot {operation} `{}`", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("`{}` is {what}", path.display())]
    NotAFile { path: PathBuf, what: &'static str },
    #[error("`{}` has {bytes} bytes, and at most {maximum} are read", path.display())]
    TooLarge { path: PathBuf, bytes: u64, maximum: u64 },
    #[error("{} cannot read `{}`, so it is left as it is", host.title(), path.display())]
    Malformed { host: Host, path: PathBuf, source: Malformed },
    #[error("`{}` was changed by another program at this moment, and is left as that program wrote it", path.display())]
    ChangedMeanwhile { path: PathBuf },
    #[error("the entry `{name}` in `{}` is not Pyro's: it runs `{command}`", path.display())]
    NotOurs { name: String, path: PathBuf, command: String },
    #[error("{} has no entry `{name}` in `{}`", host.title(), path.display())]
    NotConnected { host: Host, scope: Scope, name: String, path: PathBuf },
    #[error("`{}` is not UTF-8 text, which a host's file cannot hold", path.display())]
    PathNotText { path: PathBuf },
    #[error("an entry's name has 1 to {maximum} letters, digits, `-` and `_`, and `{name}` has not")]
    Name { name: String, maximum: usize },
    #[error("the server that {} would start does not answer", host.title())]
    ServerFailed { host: Host, source: ServerError },
}

/// Why a text is not what a host reads.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Malformed {
    #[error("line {line}, column {column}: {reason}")]
    Syntax { line: usize, column: usize, reason: String },
    #[error("byte {at} is not UTF-8 text")]
    NotText { at: usize },
    #[error("`{key}` is there twice, and only one of them counts")]
    Twice { key: String },
    #[error("`{key}` does not hold other entries, as it should")]
    NotATable { key: String },
}

/// Why a server gave no list of tools.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("cannot start `{program}`")]
    Start { program: String, source: std::io::Error },
    #[error("it did not answer `{request}` within {seconds} s{}", said(stderr))]
    Silent { request: &'static str, seconds: u64, stderr: String },
    #[error("it ended before it answered `{request}`{}", said(stderr))]
    Ended { request: &'static str, stderr: String },
    #[error("it refused `{request}`: {message}")]
    Refused { request: &'static str, message: String },
    #[error("its answer to `{request}` has not the form of MCP")]
    Form { request: &'static str },
}

fn io_kind(kind: std::io::ErrorKind) -> ErrorKind {
    use std::io::ErrorKind as Io;
    if matches!(kind, Io::PermissionDenied | Io::ReadOnlyFilesystem) {
        ErrorKind::PermissionDenied
    } else if matches!(kind, Io::StorageFull | Io::QuotaExceeded) {
        ErrorKind::HostDiskFull
    } else {
        ErrorKind::Io
    }
}

/// Puts what the server said last below what it did.
fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it said:\n{stderr}") }
}

impl HostError {
    pub(super) fn io(operation: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { operation, path: path.into(), source }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoHome { .. } | Self::Malformed { .. } => ErrorKind::ConfigInvalid,
            Self::Io { source, .. } => io_kind(source.kind()),
            Self::NotAFile { .. } | Self::PathNotText { .. } | Self::Name { .. } => ErrorKind::InvalidArgument,
            Self::TooLarge { .. } => ErrorKind::LimitExceeded,
            Self::ChangedMeanwhile { .. } => ErrorKind::Conflict,
            Self::NotOurs { .. } => ErrorKind::WrongState,
            Self::NotConnected { .. } => ErrorKind::NotFound,
            Self::ServerFailed { source, .. } => match source {
                ServerError::Silent { .. } => ErrorKind::DeadlineExceeded,
                ServerError::Start { .. } | ServerError::Ended { .. } | ServerError::Refused { .. } | ServerError::Form { .. } => {
                    ErrorKind::HostNotReady
                }
            },
        }
    }

    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoHome { .. } => "set `HOME`, or use `--scope project`".to_owned(),
            Self::Io { .. } => self.kind().hint().to_owned(),
            Self::NotAFile { path, .. } => format!("move `{}` away, or make it a file", path.display()),
            Self::TooLarge { .. } => "write the entry by hand: `pyro host print-config HOST` shows it".to_owned(),
            Self::Malformed { .. } => "correct the file at the place named above, then try again".to_owned(),
            Self::ChangedMeanwhile { .. } => "try again; a host that is just starting or ending writes its file".to_owned(),
            Self::NotOurs { .. } => {
                "name another entry with `--name`, or remove this one by hand; `pyro host connect` takes its place with `--replace`"
                    .to_owned()
            }
            Self::NotConnected { host, scope, .. } => {
                let scope = if *scope == Scope::Project { " --scope project" } else { "" };
                format!("connect it with `pyro host connect {}{scope}`", host.name())
            }
            Self::PathNotText { .. } => "install `pyro` at, and run it from, a path of plain text".to_owned(),
            Self::Name { .. } => "choose a name like `pyro` or `pyro-inspect`".to_owned(),
            Self::ServerFailed { .. } => {
                "see what is wrong with `pyro doctor`; `--no-verify` writes the entry without starting the server".to_owned()
            }
        }
    }
}

impl crate::render::Told for HostError {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }

    fn hint(&self) -> String {
        self.hint()
    }
}
