//! What an operation could not do: a kind for programs, a chain of causes for people, and a hint for both.

mod hint;

use std::{error::Error as StdError, fmt, path::PathBuf};

use pyro_proto::error::{ErrorKind, Failure};
use pyro_store::{IdError, StoreError};
use pyro_tree::PatchError;

use crate::{
    endpoint::UrlError, guest_files::CalledOff, limits::LimitError, running::Running, text::WorkspacePath,
    workspace_path::WorkspacePathError,
};

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
    /// The path in it that was asked for, quoted for a shell.
    path: Option<String>,
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
    #[error("{}", request_text(operation, field.as_deref()))]
    Request { operation: &'static str, field: Option<String>, source: serde_json::Error },
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
    #[error("{running} in workspace `{workspace}`")]
    StillRunning { workspace: String, running: Running },
    #[error("shell `{shell}` of workspace `{workspace}` has ended")]
    ShellEnded { workspace: String, shell: String },
    #[error("{what} ends at {end}, which lies before {cursor}")]
    CursorBeyondEnd { what: String, cursor: u64, end: u64 },
    #[error("the network policy of workspace `{workspace}` is `{policy}`: it has no published ports")]
    NoPublishedPorts { workspace: String, policy: &'static str, with_ports: &'static str, environment: String },
    #[error("the network policy of workspace `{workspace}` is `{policy}`: it reaches nothing")]
    NoEgress { workspace: String, policy: &'static str, with_egress: &'static str, environment: String },
    #[error("rules about hosts need a network policy with egress")]
    RulesWithoutEgress { with_egress: &'static str },
    #[error("the configuration has no network group `{name}`")]
    NoNetworkGroup { name: String, known: String },
    #[error("`{rule}` stays refused: the deny rule `{deny}` covers it")]
    StillDenied { workspace: String, rule: String, deny: String },
    #[error("there is no rule to allow")]
    NothingToAllow,
    #[error("the secret `{name}` is given twice")]
    SecretTwice { name: String },
    #[error("a workspace has at most {maximum} secrets, {count} were given")]
    TooManySecrets { count: usize, maximum: usize },
    #[error("the secret `{name}` has a header, and no host that it is sent to")]
    HeaderWithoutHost { name: String },
    #[error("the secret `{name}` is sent to `{host}`, which the allow-list does not cover")]
    SecretHostNotAllowed { name: String, host: String },
    #[error("the secret `{name}` is sent to `{host}`, which the deny rule `{deny}` covers")]
    SecretHostDenied { name: String, host: String, deny: String },
    #[error("it is not clear which secret `{flag}` is about")]
    SecretUnclear { flag: &'static str },
    #[error("there is no secret `{name}`")]
    NoSuchSecret { name: String },
    #[error("the secret `{name}` has no value")]
    SecretNotSaid { name: String },
    #[error("the secret `{name}` is too short: its value must have at least {} bytes", pyro_secret::VALUE_BYTES_MIN)]
    SecretTooShort { name: String },
    #[error("workspace `{workspace}` has no secret `{name}`")]
    SecretUnknown { workspace: String, name: String, known: Vec<String> },
    #[error("the secret `{name}` cannot be used: {reason}")]
    SecretUnusable { name: String, reason: String },
    #[error("workspace `{workspace}` runs already, with the secrets it has")]
    SecretsWhileRunning { workspace: String },
    #[error("secrets of workspace `{workspace}` are unavailable: {}", names.join(", "))]
    SecretsUnavailable { workspace: String, names: Vec<String>, literals: Vec<String> },
    #[error("a workspace has at most {maximum} network rules, this would make {count}")]
    TooManyNetworkRules { count: usize, maximum: usize },
    #[error("a service has at most one readiness probe")]
    SeveralProbes,
    #[error("the command of a service is UTF-8 text, and this one is not")]
    CommandNotText,
    #[error("a service is started with at most {maximum} published ports, {count} were given")]
    TooManyPorts { count: usize, maximum: usize },
    #[error("`all` and `cursor` exclude each other")]
    CursorAndAll,
    #[error(transparent)]
    Url(UrlError),
    #[error("cannot {operation} workspace `{workspace}`")]
    Ports { operation: &'static str, workspace: String, kind: ErrorKind, source: Cause },
    #[error("workspace `{workspace}` is {state}, no command runs in it")]
    NotRunning { workspace: String, state: &'static str },
    #[error("cannot tell whether a command runs in workspace `{workspace}`")]
    CommandsUnknown { workspace: String, source: Cause },
    #[error("cannot {operation} workspace `{workspace}`")]
    Unresponsive { operation: &'static str, workspace: String, source: Cause },
    #[error("cannot {operation} workspace `{workspace}`")]
    Workspace { operation: &'static str, workspace: String, kind: ErrorKind, source: Cause },
    #[error("cannot {operation} workspace `{workspace}`")]
    Files { operation: &'static str, workspace: String, kind: ErrorKind, source: Cause },
    #[error("cannot {operation} workspace `{workspace}`, and what it left cannot be removed: {cleanup}")]
    Cleanup { operation: &'static str, workspace: String, cleanup: String, source: Box<Error> },
    #[error("{source}")]
    Reported { kind: ErrorKind, source: Cause },
    #[error("cannot {operation} `{}`", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Path(WorkspacePathError),
    #[error("a {what} has at most {maximum} bytes, this one has {bytes}")]
    TextTooLong { what: &'static str, bytes: u64, maximum: usize },
    #[error("what is to be written is not UTF-8 text: it stops being that at byte {at}")]
    NotText { at: u64 },
    #[error(transparent)]
    Disk(pyro_disk::DiskError),
    #[error(transparent)]
    Patch(PatchError),
    #[error("the patch does not apply, and nothing was changed")]
    PatchRejected { source: Cause },
    #[error(transparent)]
    Export(pyro_tree::ExportError),
    #[error(transparent)]
    Landing(pyro_tree::LandingError),
    #[error(transparent)]
    Manifest(pyro_tree::RecordsError),
    #[error("workspace's disk holds a malformed path")]
    TreePath(pyro_tree::PathError),
    #[error("cannot take the seed `{}`", path.display())]
    Seed { path: PathBuf, kind: ErrorKind, source: Box<dyn StdError + Send + Sync> },
    #[error("cannot copy `{}`", path.display())]
    Source { path: PathBuf, kind: ErrorKind, source: Box<dyn StdError + Send + Sync> },
    #[error(transparent)]
    CalledOff(CalledOff),
    #[error("interrupted: {outcome}")]
    Interrupted { outcome: &'static str },
    #[error("there is no `{path}` in the workspace")]
    Missing { path: String },
    #[error("`{path}` leads out of the workspace: `{link}` is a link to `{target}`")]
    LinkOutside { path: String, link: String, target: String },
    #[error("`{path}` cannot be followed: too many levels of symbolic links")]
    LinkLoop { path: String },
    #[error("`{path}` is a link to `{target}`, which does not exist")]
    LinkDangling { path: String, target: String },
    #[error("`{path}` is {what}")]
    NotAFile { path: String, what: &'static str },
    #[error("`{path}` has {bytes} bytes, and at most {maximum} are accepted here")]
    FileTooLarge { path: String, bytes: u64, maximum: u64 },
    #[error("the text to replace is empty")]
    NothingToReplace,
    #[error("{}", mismatch_text(path, *count))]
    ReplaceMismatch { path: String, count: usize, has_crlf: bool },
    #[error("the pattern is not a valid regular expression")]
    Pattern { source: Cause },
    #[error("workspace `{workspace}` is {state}, not stopped")]
    NotStopped { workspace: String, state: &'static str },
    #[error("`/workspace` of workspace `{workspace}` did not come from a directory, so there is none to apply its changes to")]
    NoSeed { workspace: String },
    #[error("nothing to undo: workspace `{workspace}` has no applied changes")]
    NothingToUndo { workspace: String },
    #[error("cannot apply the changes of workspace `{workspace}` to `{}`", target.display())]
    ApplyConflict { workspace: String, target: PathBuf, named: bool, forced: bool, source: Cause },
    #[error("the directory that changes of workspace `{workspace}` go to, `{}`, is not there", target.display())]
    HomeGone { workspace: String, target: PathBuf },
    #[error("changes must not be applied to `{}` here", target.display())]
    TargetRefused { target: PathBuf },
    #[error("cannot undo the last apply of workspace `{workspace}`")]
    UndoConflict { workspace: String, source: Cause },
    #[error("cannot restore the host's files that an interrupted apply of workspace `{workspace}` changed")]
    CutOff { workspace: String, kind: ErrorKind, source: Cause },
    #[error("{what}")]
    Internal { what: &'static str },
    #[error("cannot run the command on the host: {refusal}")]
    HostCompatRefused { refusal: &'static str },
    #[error("cannot run `{program}` on the host")]
    HostCommand { program: String, source: std::io::Error },
}

fn mismatch_text(path: &str, count: usize) -> String {
    match count {
        0 => format!("the text is not in `{path}`"),
        _ => format!("the text is in `{path}` {count} times, not once"),
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
            Problem::TooManyLabels { .. } | Problem::TooManyPorts { .. } | Problem::CommandTooLong { .. } | Problem::TextTooLong { .. } => {
                ErrorKind::LimitExceeded
            }
            Problem::Disk(error) => error.kind(),
            Problem::Patch(error) => error.kind(),
            Problem::Export(error) => error.kind(),
            Problem::Landing(error) => error.kind(),
            Problem::Manifest(error) => error.kind(),
            Problem::Seed { kind, .. } | Problem::Source { kind, .. } => *kind,
            Problem::TreePath(_) | Problem::CalledOff(_) => ErrorKind::MachineFailed,
            Problem::LinkOutside { .. } => ErrorKind::PermissionDenied,
            Problem::LinkLoop { .. } => ErrorKind::Conflict,
            Problem::Missing { .. }
            | Problem::LinkDangling { .. }
            | Problem::ReplaceMismatch { count: 0, .. }
            | Problem::NothingToUndo { .. } => ErrorKind::NotFound,
            Problem::FileTooLarge { .. } => ErrorKind::LimitExceeded,
            Problem::NotStopped { .. } | Problem::Interrupted { .. } => ErrorKind::WrongState,
            Problem::ApplyConflict { .. } | Problem::UndoConflict { .. } | Problem::PatchRejected { .. } => ErrorKind::Conflict,
            Problem::TargetRefused { .. } => ErrorKind::PermissionDenied,
            Problem::HomeGone { .. } => ErrorKind::NotFound,
            Problem::CutOff { kind, .. } => *kind,
            Problem::Internal { .. } => ErrorKind::Internal,
            Problem::NotAFile { .. }
            | Problem::NothingToReplace
            | Problem::ReplaceMismatch { .. }
            | Problem::Pattern { .. }
            | Problem::NoSeed { .. }
            | Problem::Id(_)
            | Problem::Path(_)
            | Problem::NotText { .. }
            | Problem::CommandMalformed
            | Problem::CommandNotText
            | Problem::SeveralProbes
            | Problem::CursorBeyondEnd { .. }
            | Problem::CursorAndAll
            | Problem::Url(_)
            | Problem::Request { .. }
            | Problem::HostCompatRefused { .. } => ErrorKind::InvalidArgument,
            Problem::NoBinary | Problem::NoQemu { .. } | Problem::NoKvm { .. } => ErrorKind::HostNotReady,
            Problem::EnvironmentMissing { .. } => ErrorKind::EnvironmentUnavailable,
            Problem::StillRunning { .. }
            | Problem::NotRunning { .. }
            | Problem::ShellEnded { .. }
            | Problem::NoPublishedPorts { .. }
            | Problem::NoEgress { .. }
            | Problem::SecretsUnavailable { .. }
            | Problem::SecretsWhileRunning { .. } => ErrorKind::WrongState,
            Problem::RulesWithoutEgress { .. }
            | Problem::NothingToAllow
            | Problem::SecretTwice { .. }
            | Problem::HeaderWithoutHost { .. }
            | Problem::SecretUnclear { .. }
            | Problem::SecretHostNotAllowed { .. }
            | Problem::SecretHostDenied { .. }
            | Problem::StillDenied { .. }
            | Problem::SecretNotSaid { .. }
            | Problem::SecretTooShort { .. }
            | Problem::SecretUnusable { .. } => ErrorKind::InvalidArgument,
            Problem::NoSuchSecret { .. } | Problem::SecretUnknown { .. } | Problem::NoNetworkGroup { .. } => ErrorKind::NotFound,
            Problem::TooManySecrets { .. } | Problem::TooManyNetworkRules { .. } => ErrorKind::LimitExceeded,
            Problem::CommandsUnknown { .. } | Problem::Unresponsive { .. } => ErrorKind::DeadlineExceeded,
            Problem::Workspace { kind, .. }
            | Problem::Files { kind, .. }
            | Problem::Ports { kind, .. }
            | Problem::Reported { kind, .. } => *kind,
            Problem::Cleanup { source, .. } => source.kind(),
            Problem::Io { source, .. } | Problem::HostCommand { source, .. } => io_kind(source),
        }
    }

    /// Returns the texts of the causes, outermost first.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        std::iter::successors(self.source(), |&cause| cause.source()).map(ToString::to_string).collect()
    }

    /// Tells hints that what another process reported is about files of the workspace.
    pub(crate) fn about_files(mut self) -> Self {
        if let Problem::Workspace { operation, workspace, kind, source } = *self.problem {
            self.problem = Box::new(Problem::Files { operation, workspace, kind, source });
        }
        self
    }

    /// Tells hints that what another process reported is about ports.
    pub(crate) fn about_ports(mut self) -> Self {
        if let Problem::Workspace { operation, workspace, kind, source } = *self.problem {
            self.problem = Box::new(Problem::Ports { operation, workspace, kind, source });
        }
        self
    }

    /// Tells whether this only says that the other side of a call has ended, which says why by itself.
    pub(crate) fn is_called_off(&self) -> bool {
        matches!(*self.problem, Problem::CalledOff(_))
    }

    /// Tells whether this says that files of the host were left half changed.
    pub(crate) fn is_cut_off(&self) -> bool {
        matches!(*self.problem, Problem::CutOff { .. })
    }

    /// Returns the directory that changes would have been applied to, if whoever allows directories refused it.
    #[must_use]
    pub fn refused_target(&self) -> Option<&std::path::Path> {
        if let Problem::TargetRefused { target } = &*self.problem { Some(target) } else { None }
    }

    /// Tells whether the operation was called off by its caller. The text says what became of it.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(*self.problem, Problem::Interrupted { .. })
    }

    /// Tells hints what the user called the workspace.
    pub(crate) fn about(mut self, workspace: &str) -> Self {
        let label = self.workspace.get_or_insert_with(|| workspace.to_owned());
        if let Problem::Store(
            StoreError::WrongState { workspace, .. }
            | StoreError::CommandNotFound { workspace, .. }
            | StoreError::SnapshotNotFound { workspace, .. }
            | StoreError::SnapshotExists { workspace, .. }
            | StoreError::ShellNotFound { workspace, .. }
            | StoreError::ServiceNotFound { workspace, .. }
            | StoreError::ServiceRuns { workspace, .. }
            | StoreError::TooManyServices { workspace, .. },
        ) = &mut *self.problem
        {
            // The registry knows its id only.
            workspace.clone_from(label);
        }
        self
    }

    /// Tells hints which path in the workspace was asked for.
    pub(crate) fn at(mut self, path: &WorkspacePath) -> Self {
        self.path = Some(quoted(&path.text()));
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

fn request_text(operation: &str, field: Option<&str>) -> String {
    match field {
        Some(field) => format!("`{field}` of `{operation}` is not accepted"),
        None => format!("the request for `{operation}` does not have the form its schema describes"),
    }
}

/// Writes a word so that a shell takes it as it is.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-@%:,".contains(&byte);
    match word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
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
        Self { problem: Box::new(problem), workspace: None, path: None, gone: false }
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
    WorkspacePathError => Path,
    UrlError => Url,
    pyro_disk::DiskError => Disk,
    pyro_tree::ExportError => Export,
    pyro_tree::LandingError => Landing,
    pyro_tree::RecordsError => Manifest,
    pyro_tree::PathError => TreePath,
    CalledOff => CalledOff,
    crate::config::ConfigError => Config,
);

impl From<PatchError> for Error {
    fn from(error: PatchError) -> Self {
        if let PatchError::Rejected { report, .. } = &error {
            // The report has lines of its own, which a message may not have.
            return Problem::PatchRejected { source: Cause::new(report.trim_end()) }.into();
        }
        Problem::Patch(error).into()
    }
}

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
        assert_eq!(missing.to_string(), "workspace `api` has no command 9");
    }

    #[test]
    fn failed_cleanup_keeps_the_first_failure() {
        let first = Error::workspace("create", "api", ErrorKind::HostDiskFull, Cause::new("no space"));
        let error = first.with_cleanup("create", "api", Err(Problem::NoHome.into()));
        assert_eq!(error.kind(), ErrorKind::HostDiskFull);
        assert_eq!(error.causes(), ["cannot create workspace `api`", "no space"]);
    }
}
