//! Where a seed or a push comes from: a folder, a Git checkout, an archive.
//!
//! A source hands its entries to a [`Sink`] one after the other, parents before what they hold, and never twice the same path. Nothing
//! is followed out of a folder: every step is an `openat` of one component without following links, so that a folder swapped for a link
//! while it is walked leads nowhere. No process is started and nothing that a repository configures is run, neither filters nor hooks nor a
//! file system monitor.

mod archive;
mod emit;
mod folder;
mod git;
mod walk;

use std::{
    io::{self, Read},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use pyro_proto::error::ErrorKind;

use self::archive::Compression;
pub use self::git::GitEnvironment;
use crate::{
    entry::{Entry, Timestamp},
    files,
    ignore::IgnoreRules,
    path::PathProblem,
};

/// Most entries named in a report's `left_out`; more are counted.
pub const LEFT_OUT_MAX: usize = 1000;

/// Most notes of a report.
pub const NOTES_MAX: usize = 100;

/// What is taken from a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOptions {
    /// Of a Git checkout, take ignored files, too.
    pub all: bool,
    /// Take `.git`, without hooks and credentials, of a Git checkout and of whatever an archive holds.
    pub git: bool,
    /// A file that cannot be read fails the whole source instead of being left out.
    pub strict: bool,
    /// Where the user's Git finds its configuration.
    pub git_environment: GitEnvironment,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self { all: false, git: true, strict: false, git_environment: GitEnvironment::default() }
    }
}

/// What a source turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginKind {
    /// A folder that is no Git checkout.
    Directory,
    /// A Git checkout or a part of one.
    Git,
    /// An archive.
    Archive,
}

impl OriginKind {
    /// Returns the stable name used by `--json` and MCP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Git => "git",
            Self::Archive => "archive",
        }
    }
}

/// Something a source did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Relative to the source, as it is shown.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Something that is different about what was taken: Git in a machine does not do with it what Git does here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The repository, relative to the source, as it is shown.
    pub path: String,
    /// What is different, and what to do about it.
    pub text: String,
}

/// What a source gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// What it turned out to be.
    pub origin: OriginKind,
    /// Of a Git checkout, the commit that is checked out.
    pub origin_ref: Option<String>,
    /// Entries handed to the sink.
    pub entry_count: u64,
    /// Bytes of files handed to the sink.
    pub bytes: u64,
    /// What was not taken, at most [`LEFT_OUT_MAX`]. Ignored files are not among it.
    pub left_out: Vec<LeftOut>,
    /// How much was not taken.
    pub left_out_count: u64,
    /// What is different about what was taken, at most [`NOTES_MAX`].
    pub notes: Vec<Note>,
    /// What Git ignores in it; `None` unless there is a checkout in it, or around it.
    pub ignore: Option<IgnoreRules>,
    /// When the top itself was changed last, if that is known.
    pub top_mtime: Option<Timestamp>,
}

/// Takes the entries of a source.
pub trait Sink {
    /// Why it cannot go on.
    type Error;

    /// Takes one entry. The content of a file yields exactly `size_bytes` or fails; of everything else it is empty.
    ///
    /// # Errors
    /// The sink cannot go on; the source ends with [`SourceError::Sink`]. A failure of `content` is the source's: it is reported as such
    /// whatever the sink makes of it.
    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Self::Error>;
}

/// Why an entry of an archive makes the whole archive refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveProblem {
    /// Its path is none of a tree.
    #[error("its path {0}")]
    Path(PathProblem),
    /// A folder on its way is a link.
    #[error("it lies behind a link of the archive")]
    ThroughLink,
    /// A file is a folder elsewhere in the archive.
    #[error("it is a folder in one place of the archive and none in another")]
    Clash,
    /// It is a hard link to nothing that came before it.
    #[error("it is a hard link to no file that comes before it in the archive")]
    HardLink,
    /// A link's target is missing, too long or contains a NUL.
    #[error("its link target is missing, too long or contains a NUL")]
    Target,
    /// It is a part of a file that other archives hold the rest of.
    #[error("it is part of a multi-volume archive; extract all volumes with `tar --multi-volume` and pack the files again")]
    Volume,
    /// It is a device.
    #[error("it is a device")]
    Device,
    /// It is of a kind that is not known.
    #[error("its kind `{0}` is not known")]
    Kind(String),
    /// A number in its header is none.
    #[error("a number in its header is damaged")]
    Number,
    /// Its extended header is damaged.
    #[error("its extended header is damaged")]
    Extension,
    /// The map of a sparse file does not fit its content.
    #[error("it is a sparse file with a damaged map of holes")]
    Sparse,
    /// It is a sparse file that is nearly all holes.
    #[error("it is a sparse file whose holes are too large")]
    Holes,
    /// There are too many entries.
    #[error("the archive has too many entries")]
    TooMany,
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError<E> {
    /// The path or something below it cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// What cannot be read.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path is neither a folder nor named like an archive.
    #[error("`{}` is neither a folder nor an archive (`.tar`, `.tar.gz`, `.tgz`, `.tar.zst`)", path.display())]
    Unknown {
        /// The path.
        path: PathBuf,
    },
    /// An archive is compressed in a way that is not read here.
    #[error("archive `{}` is compressed with {compression}; use `.tar`, `.tar.gz` or `.tar.zst`", path.display())]
    Compression {
        /// The archive.
        path: PathBuf,
        /// What it is compressed with.
        compression: &'static str,
    },
    /// An archive is cut, damaged, or not what its name says.
    #[error("archive `{}` is damaged after {offset} bytes of its content", path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// Decompressed bytes read so far.
        offset: u64,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// An archive holds something that is not taken, so none of it is.
    #[error("archive `{}` is refused for its entry {number}, `{name}`: {problem}", path.display())]
    Refused {
        /// The archive.
        path: PathBuf,
        /// Counted from 1.
        number: u64,
        /// The entry's name as it is shown.
        name: String,
        /// What is wrong.
        problem: ArchiveProblem,
    },
    /// The sink cannot go on.
    #[error(transparent)]
    Sink(E),
}

impl<E> SourceError<E> {
    /// Returns the kind of this error, `sink` giving that of the sink's.
    pub fn kind(&self, sink: impl FnOnce(&E) -> ErrorKind) -> ErrorKind {
        match self {
            Self::Read { source, .. } => files::error_kind(source),
            Self::Unknown { .. } | Self::Compression { .. } | Self::Damaged { .. } | Self::Refused { .. } => ErrorKind::InvalidArgument,
            Self::Sink(error) => sink(error),
        }
    }
}

/// Hands everything that `path` holds to `sink`.
///
/// # Errors
/// The source cannot be read, an archive is damaged or refused, or the sink fails. The sink may then have taken a part of a folder, but
/// nothing of an archive that is refused.
pub fn read_source<S: Sink>(path: &Path, options: &SourceOptions, sink: &mut S) -> Result<SourceReport, SourceError<S::Error>> {
    let status = fs_err::metadata(path).map_err(|source| SourceError::Read { path: path.into(), source })?;
    if status.is_dir() {
        return walk::read(path, options, sink);
    }
    let compression = path.file_name().and_then(|name| Compression::of(name.as_bytes()));
    match compression {
        Some(compression) if status.is_file() => archive::read(path, compression, options, sink),
        _ => Err(SourceError::Unknown { path: path.into() }),
    }
}

#[cfg(test)]
mod tests;
