//! Why an environment could not be built, found or removed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use pyro_proto::error::ErrorKind;

/// The result of an operation on environments.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The last lines a tool printed before it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolOutput(pub String);

impl fmt::Display for ToolOutput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "it printed nothing" } else { &self.0 })
    }
}

impl std::error::Error for ToolOutput {}

/// A failure of an operation on environments.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields are")]
pub enum Error {
    #[error("cannot {operation} `{}`", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("the host's disk is full: cannot {activity}")]
    DiskFull { activity: String },
    #[error("the program `{tool}` is missing: install the package `{package}`")]
    MissingTool { tool: &'static str, package: &'static str },
    #[error("cannot {activity}: `{tool}` failed with {status}")]
    ToolFailed { tool: &'static str, activity: String, status: std::process::ExitStatus, source: ToolOutput },
    #[error("no entry in `{}` is a mirror of the Debian archive, so `{codename}` cannot be fetched", searched.display())]
    NoDebianSources { searched: PathBuf, codename: &'static str },
    #[error("environments cannot be built on {architecture}: their kernel is for x86_64")]
    UnsupportedArchitecture { architecture: &'static str },
    #[error("the package sources offer no kernel: `{package}` {problem}")]
    NoKernel { package: &'static str, problem: &'static str },
    #[error("kernel {kernel_version} has no module `{module}`, which its guests need")]
    MissingModule { module: String, kernel_version: String },
    #[error("`{}` was written by a newer Pyro: format {found}, this one knows {known}", path.display())]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("cannot read the record `{}`", path.display())]
    Record { path: PathBuf, source: serde_json::Error },
    #[error("{bytes} bytes are too few for a file system; the smallest has {minimum_bytes}")]
    DiskTooSmall { bytes: u64, minimum_bytes: u64 },
    #[error("the seed of {seed_bytes} bytes or more does not fit on a disk of {disk_bytes} bytes")]
    SeedTooLarge { seed_bytes: u64, disk_bytes: u64 },
    #[error("cannot seed `{entry}`: {problem}")]
    SeedEntry { entry: String, problem: &'static str },
    #[error("cannot write the seed to its disk: `debugfs` failed")]
    SeedNotWritten { source: ToolOutput },
    #[error("cannot read `{entry}` of the seed")]
    SeedContent { entry: String, source: io::Error },
}

impl Error {
    /// Returns what the failure is called on every surface.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Record { .. } | Self::SeedContent { .. } => ErrorKind::Io,
            Self::DiskFull { .. } => ErrorKind::HostDiskFull,
            Self::MissingTool { .. } | Self::UnsupportedArchitecture { .. } => ErrorKind::HostNotReady,
            Self::ToolFailed { .. } | Self::NoDebianSources { .. } | Self::NoKernel { .. } | Self::MissingModule { .. } => {
                ErrorKind::EnvironmentUnavailable
            }
            Self::SeedNotWritten { .. } => ErrorKind::Internal,
            Self::NewerFormat { .. } => ErrorKind::Incompatible,
            Self::DiskTooSmall { .. } | Self::SeedEntry { .. } => ErrorKind::InvalidArgument,
            Self::SeedTooLarge { .. } => ErrorKind::LimitExceeded,
        }
    }

    /// Returns a better hint than the kind's own, where this place knows one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingTool { package, .. } => Some(format!("install it with `sudo apt-get install {package}`")),
            Self::NoDebianSources { .. } => {
                Some("add the Debian mirror you use to the host's apt sources, and install the package `debian-archive-keyring`".to_owned())
            }
            Self::ToolFailed { .. } => Some(
                "read the tool's own words above; what was downloaded is kept, so the next `pyro env pull` goes on from there".to_owned(),
            ),
            Self::NoKernel { .. } | Self::MissingModule { .. } => {
                Some("check that the host's apt sources offer Debian's component `main`, then try `pyro env pull --force`".to_owned())
            }
            Self::Record { .. } => Some("build the environment again with `pyro env pull ENVIRONMENT --force`".to_owned()),
            Self::SeedTooLarge { .. } => {
                Some("give the workspace a larger disk with `--disk-gib`, or leave out of the seed what is not needed".to_owned())
            }
            Self::SeedNotWritten { .. } => Some(
                "check `debugfs -V`: Pyro is tested with e2fsprogs 1.47; with that version or a newer one, report this as a bug".to_owned(),
            ),
            Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::UnsupportedArchitecture { .. }
            | Self::NewerFormat { .. }
            | Self::DiskTooSmall { .. }
            | Self::SeedEntry { .. }
            | Self::SeedContent { .. } => None,
        }
    }

    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref();
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::DiskFull { activity: format!("{operation} `{}`", path.display()) };
        }
        Self::Io { operation, path: path.to_owned(), source }
    }
}
