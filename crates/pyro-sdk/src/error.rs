//! What an operation could not do: a kind for programs, a chain of causes for people, and a hint for both.

use std::{error::Error as StdError, fmt, path::PathBuf};

use pyro_proto::error::{ErrorKind, Failure};
use pyro_store::{IdError, StoreError};

use crate::limits::LimitError;

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of an operation.
///
/// Its text says what could not be done, `source` leads down the chain of causes; none of them repeats another.
#[derive(Debug)]
pub struct Error {
    problem: Box<Problem>,
    /// What the user called the workspace, for hints that name a command to type.
    workspace: Option<String>,
    /// Whether that workspace is gone with the failure, so that no command on it is worth typing.
    gone: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Environment(pyro_image::Error),
    #[error(transparent)]
    UnknownEnvironment(pyro_image::UnknownEnvironment),
    #[error(transparent)]
    Limit(LimitError),
    #[error(transparent)]
    Id(IdError),
    #[error(transparent)]
    Config(crate::config::ConfigError),
    #[error("a workspace has at most {maximum} labels, {count} were given")]
    TooManyLabels { count: usize, maximum: usize },
    #[error("a command has at most {maximum} {what}, this one has {count}")]
    CommandTooLong { what: &'static str, count: usize, maximum: usize },
    #[error("a command is empty, or one of its arguments holds a zero byte")]
    CommandMalformed,
    #[error("the request for `{operation}` does not have the form its schema describes")]
    Request { operation: &'static str, source: serde_json::Error },
    #[error("there is no operation `{name}`")]
    UnknownOperation { name: String },
    #[error("neither `PYRO_HOME` nor `HOME` says where Pyro's files are")]
    NoHome,
    #[error("the program `pyro` is not beside this program and not on `PATH`")]
    NoBinary,
    #[error("QEMU is not there")]
    NoQemu {
        /// The setting that named another one than the usual.
        setting: Option<String>,
        source: std::io::Error,
    },
    #[error("hardware virtualization is not usable on this host")]
    NoKvm { source: Cause },
    #[error("environment `{name}` is not built")]
    EnvironmentMissing { name: String },
    #[error("{}", running_text(workspace, *count))]
    CommandsRunning { workspace: String, count: usize },
    #[error("workspace `{workspace}` is {state}, no command runs in it")]
    NotRunning { workspace: String, state: &'static str },
    #[error("cannot tell whether a command runs in workspace `{workspace}`")]
    CommandsUnknown { workspace: String, source: Cause },
    #[error("cannot {operation} workspace `{workspace}`")]
    Unresponsive { operation: &'static str, workspace: String, source: Cause },
    #[error("cannot {operation} workspace `{workspace}`")]
    Workspace { operation: &'static str, workspace: String, kind: ErrorKind, source: Cause },
    #[error("cannot {operation} workspace `{workspace}`, and what it left cannot be removed: {cleanup}")]
    Cleanup { operation: &'static str, workspace: String, cleanup: String, source: Box<Error> },
    #[error("{source}")]
    Reported { kind: ErrorKind, source: Cause },
    #[error("cannot {operation} `{}`", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot run the command on the host: {refusal}")]
    HostCompatRefused { refusal: &'static str },
    #[error("cannot run `{program}` on the host")]
    HostCommand { program: String, source: std::io::Error },
}

fn running_text(workspace: &str, count: usize) -> String {
    match count {
        1 => format!("a command is running in workspace `{workspace}`"),
        _ => format!("{count} commands are running in workspace `{workspace}`"),
    }
}

/// One link of a chain whose errors came from another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    text: String,
    below: Option<Box<Cause>>,
}

impl Cause {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), below: None }
    }

    fn chain(texts: impl DoubleEndedIterator<Item = String>) -> Option<Self> {
        texts.rev().fold(None, |below, text| Some(Self { text, below: below.map(Box::new) }))
    }

    /// Takes over a failure with its causes.
    pub(crate) fn of_failure(failure: Failure) -> Self {
        Self::chain(std::iter::once(failure.message).chain(failure.causes)).unwrap_or_else(|| Self::new("no reason was given"))
    }

    /// Puts `lines` below this cause.
    pub(crate) fn because(mut self, lines: Vec<String>) -> Self {
        self.below = Self::chain(lines.into_iter()).map(Box::new);
        self
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.below.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

impl Error {
    /// Returns the kind, stable across surfaces and versions.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &*self.problem {
            Problem::Store(error) => error.kind(),
            Problem::Environment(error) => error.kind(),
            Problem::UnknownEnvironment(_) | Problem::UnknownOperation { .. } => ErrorKind::NotFound,
            Problem::Limit(error) => error.kind(),
            Problem::Config(_) | Problem::NoHome => ErrorKind::ConfigInvalid,
            Problem::TooManyLabels { .. } | Problem::CommandTooLong { .. } => ErrorKind::LimitExceeded,
            Problem::Id(_) | Problem::CommandMalformed | Problem::Request { .. } | Problem::HostCompatRefused { .. } => {
                ErrorKind::InvalidArgument
            }
            Problem::NoBinary | Problem::NoQemu { .. } | Problem::NoKvm { .. } => ErrorKind::HostNotReady,
            Problem::EnvironmentMissing { .. } => ErrorKind::EnvironmentUnavailable,
            Problem::CommandsRunning { .. } | Problem::NotRunning { .. } => ErrorKind::WrongState,
            Problem::CommandsUnknown { .. } | Problem::Unresponsive { .. } => ErrorKind::DeadlineExceeded,
            Problem::Workspace { kind, .. } | Problem::Reported { kind, .. } => *kind,
            Problem::Cleanup { source, .. } => source.kind(),
            Problem::Io { source, .. } | Problem::HostCommand { source, .. } => io_kind(source),
        }
    }

    /// Returns the next thing to type or to do: the kind's hint, unless the place that failed knows a better one.
    #[must_use]
    pub fn hint(&self) -> String {
        let special = match &*self.problem {
            Problem::Environment(error) => error.hint(),
            Problem::UnknownEnvironment(_) => Some("list the environments with `pyro env list`".to_owned()),
            Problem::UnknownOperation { .. } => Some("the operations are in `docs/reference/operations.md`".to_owned()),
            Problem::Limit(error) if error.kind() == ErrorKind::InvalidArgument => {
                Some(format!("give a number from {} to {}", error.minimum, error.maximum))
            }
            Problem::NoHome => Some("set `PYRO_HOME` to a folder of your own".to_owned()),
            Problem::NoBinary => Some("install `pyro`, or set `PYRO_BINARY` to its path".to_owned()),
            Problem::NoQemu { setting: Some(setting), .. } => {
                Some(format!("correct {setting}, or take it away and install QEMU with `sudo apt-get install qemu-system-x86`"))
            }
            Problem::NoQemu { setting: None, .. } => Some("install it with `sudo apt-get install qemu-system-x86`".to_owned()),
            Problem::NoKvm { .. } => Some("run without it: `--accelerator auto` or `--accelerator tcg`".to_owned()),
            Problem::EnvironmentMissing { name } => Some(format!("build it with `pyro env pull {name}`")),
            Problem::CommandsRunning { workspace, .. } => Some(format!(
                "end it with `pyro workspace exec-kill {workspace} SEQUENCE`, or delete all the same with `pyro workspace delete {workspace} --force`"
            )),
            Problem::NotRunning { workspace, state: "stopped" } => Some(format!("start it with `pyro workspace start {workspace}`")),
            Problem::NotRunning { workspace, .. } => Some(format!("see its state with `pyro workspace status {workspace}`")),
            Problem::Store(StoreError::NameTaken { name }) => {
                Some(format!("choose another name, or delete the other one with `pyro workspace delete {name}`"))
            }
            Problem::Store(StoreError::CommandNotFound { workspace, .. }) => {
                let workspace = self.workspace.as_ref().unwrap_or(workspace);
                Some(format!("see the commands it has with `pyro workspace logs {workspace}`"))
            }
            Problem::CommandsUnknown { workspace, .. } => {
                Some(format!("delete it all the same with `pyro workspace delete {workspace} --force`"))
            }
            Problem::Unresponsive { .. } if self.gone => Some("check the host with `pyro doctor`, then try again".to_owned()),
            Problem::Unresponsive { workspace, .. } => Some(format!(
                "end its machine with `pyro workspace stop {workspace}`, or with everything in it: `pyro workspace delete {workspace} --force`"
            )),
            Problem::Workspace { kind: ErrorKind::MachineFailed, .. } if self.gone => {
                Some("check the host with `pyro doctor`, then try again".to_owned())
            }
            Problem::HostCompatRefused { .. } | Problem::HostCommand { .. } => None,
            Problem::Cleanup { .. } => Some("what is left is removed by the next Pyro command that can".to_owned()),
            Problem::Store(_)
            | Problem::Limit(_)
            | Problem::Id(_)
            | Problem::Config(_)
            | Problem::TooManyLabels { .. }
            | Problem::CommandTooLong { .. }
            | Problem::CommandMalformed
            | Problem::Request { .. }
            | Problem::Workspace { .. }
            | Problem::Reported { .. }
            | Problem::Io { .. } => None,
        };
        let hint = special.unwrap_or_else(|| self.kind().hint().to_owned());
        match &self.workspace {
            Some(workspace) => hint.replace("WORKSPACE", workspace),
            None => hint,
        }
    }

    /// Returns the texts of the causes, outermost first.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        std::iter::successors(self.source(), |&cause| cause.source()).map(ToString::to_string).collect()
    }

    /// Tells hints what the user called the workspace.
    pub(crate) fn about(mut self, workspace: &str) -> Self {
        self.workspace.get_or_insert_with(|| workspace.to_owned());
        self
    }

    /// Tells hints that the workspace is gone with this failure.
    pub(crate) fn gone(mut self) -> Self {
        self.gone = true;
        self
    }

    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Problem::Io { operation, path: path.into(), source }.into()
    }

    /// Makes the failure of `operation` on `workspace` that another process reported.
    pub(crate) fn reported(operation: &'static str, workspace: &str, failure: Failure) -> Self {
        let kind = reported_kind(&failure);
        Self::from(Problem::Workspace { operation, workspace: workspace.to_owned(), kind, source: Cause::of_failure(failure) })
            .about(workspace)
    }

    /// Makes the failure of `operation` on `workspace` for a reason found on this side.
    pub(crate) fn workspace(operation: &'static str, workspace: &str, kind: ErrorKind, source: Cause) -> Self {
        Self::from(Problem::Workspace { operation, workspace: workspace.to_owned(), kind, source }).about(workspace)
    }

    /// Keeps a failed cleanup beside the failure that made it necessary.
    pub(crate) fn with_cleanup(self, operation: &'static str, workspace: &str, cleanup: Result<()>) -> Self {
        match cleanup {
            Ok(()) => self,
            Err(cleanup) => {
                let cleanup = std::iter::once(cleanup.to_string()).chain(cleanup.causes()).collect::<Vec<_>>().join(": ");
                Problem::Cleanup { operation, workspace: workspace.to_owned(), cleanup, source: Box::new(self) }.into()
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(formatter)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if let Problem::Reported { source, .. } = &*self.problem {
            // Its message is the first of the chain.
            return source.source();
        }
        self.problem.source()
    }
}

fn io_kind(error: &std::io::Error) -> ErrorKind {
    if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        ErrorKind::HostDiskFull
    } else if error.kind() == std::io::ErrorKind::PermissionDenied {
        ErrorKind::PermissionDenied
    } else {
        ErrorKind::Io
    }
}

/// Takes over a failure as another process reported it.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = reported_kind(&failure);
        Problem::Reported { kind, source: Cause::of_failure(failure) }.into()
    }
}

fn reported_kind(failure: &Failure) -> ErrorKind {
    // A kind of a newer supervisor reads as unspecified.
    if failure.kind() == ErrorKind::Unspecified { ErrorKind::Internal } else { failure.kind() }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), workspace: None, gone: false }
    }
}

macro_rules! from {
    ($($source:ty => $variant:ident),* $(,)?) => {
        $(impl From<$source> for Error {
            fn from(source: $source) -> Self {
                Problem::$variant(source).into()
            }
        })*
    };
}

from!(
    StoreError => Store,
    pyro_image::Error => Environment,
    pyro_image::UnknownEnvironment => UnknownEnvironment,
    LimitError => Limit,
    IdError => Id,
    crate::config::ConfigError => Config,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_failure_keeps_kind_and_chain_and_names_the_workspace_in_its_hint() {
        let failure = Failure {
            kind: ErrorKind::MachineFailed.into(),
            message: "guest agent did not answer".into(),
            causes: vec!["a".into(), "b".into()],
        };
        let error = Error::reported("start", "api", failure);
        assert_eq!(error.kind(), ErrorKind::MachineFailed);
        assert_eq!(error.to_string(), "cannot start workspace `api`");
        assert_eq!(error.causes(), ["guest agent did not answer", "a", "b"]);
        assert!(error.hint().contains("pyro workspace start api"), "{}", error.hint());
    }

    #[test]
    fn hint_names_no_workspace_that_is_gone() {
        let error = Error::workspace("create", "api", ErrorKind::MachineFailed, Cause::new("it broke")).gone();
        assert_eq!(error.hint(), "check the host with `pyro doctor`, then try again");
    }

    #[test]
    fn hints_carry_the_names_they_are_about() {
        let taken = Error::from(StoreError::NameTaken { name: "api".into() });
        assert!(taken.hint().contains("`pyro workspace delete api`"), "{}", taken.hint());
        let missing = Error::from(StoreError::CommandNotFound { workspace: "cc11dd533181e4bb".into(), sequence: 9 }).about("api");
        assert_eq!(missing.hint(), "see the commands it has with `pyro workspace logs api`");
    }

    #[test]
    fn failed_cleanup_keeps_the_first_failure() {
        let first = Error::workspace("create", "api", ErrorKind::HostDiskFull, Cause::new("no space"));
        let error = first.with_cleanup("create", "api", Err(Problem::NoHome.into()));
        assert_eq!(error.kind(), ErrorKind::HostDiskFull);
        assert_eq!(error.causes(), ["cannot create workspace `api`", "no space"]);
    }
}
