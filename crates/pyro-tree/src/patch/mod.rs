//! Unified diffs as Git and models write them: read, checked whole, and applied in memory.
//!
//! `parse` forgives what is unambiguous (prose and code fences around a patch, wrong line counts, line ends mangled by mail) and nothing
//! else. `apply` takes a hunk where all its lines are, to the byte: at the place it names, or at the only other place. There is no fuzz,
//! so a patch never lands in the wrong function. A failure names every hunk that does not apply, for a model that repairs its patch.

mod apply;
mod binary;
mod header;
mod hunk;
mod nearest;
mod parse;

use std::collections::BTreeMap;

use pyro_proto::error::ErrorKind;

pub use self::parse::parse;
use self::{binary::Binary, hunk::Hunk};
use crate::{
    entry::EntryKind,
    path::{PathError, TreePath},
};

/// Longest patch, in bytes.
pub const PATCH_MAX_BYTES: usize = 4 << 20;
/// Most files in a patch.
pub const PATCH_MAX_FILES: usize = 1000;
/// Longest report of what does not apply: a model reads it.
const REPORT_MAX_BYTES: usize = 8 << 10;

/// What a patch does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Makes it.
    Add,
    /// Changes its content or mode.
    Modify,
    /// Takes it away.
    Delete,
    /// Moves it, and perhaps changes it.
    Rename,
    /// Makes it from another one that stays.
    Copy,
}

/// What a patch says about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePatch {
    /// What is done.
    pub operation: Operation,
    /// Where the content comes from; equal to `path` unless it is renamed or copied.
    pub source: TreePath,
    /// Where it goes.
    pub path: TreePath,
    /// Line of the patch where it begins, counted from 1.
    line: usize,
    old_mode: Option<FileMode>,
    new_mode: Option<FileMode>,
    hunks: Vec<Hunk>,
    binary: Option<Binary>,
    /// The patch's own lines end with CR LF, those of the file need not.
    mangled: bool,
}

/// The modes Git knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileMode {
    Plain,
    Executable,
    Link,
}

/// A patch that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// What it does, in its order.
    pub files: Vec<FilePatch>,
}

/// What is at a path a patch needs to know about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// What it is.
    pub kind: EntryKind,
    /// Its permission bits.
    pub mode: u32,
    /// A file's bytes.
    pub content: Vec<u8>,
    /// Of a link, as it is written in it.
    pub link_target: Option<Vec<u8>>,
}

/// One thing to do to bring a patch about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Write a file.
    Write {
        /// Where.
        path: TreePath,
        /// All of it.
        content: Vec<u8>,
        /// Its permission bits.
        mode: u32,
        /// The patch does not touch the mode: a file that is there keeps the one it has.
        keep_mode: bool,
        /// Nothing was there.
        created: bool,
    },
    /// Make a symbolic link.
    Link {
        /// Where.
        path: TreePath,
        /// As it is written in it.
        target: Vec<u8>,
        /// Nothing was there.
        created: bool,
    },
    /// Take a file or link away.
    Remove {
        /// Where.
        path: TreePath,
    },
}

/// Why a line of a patch cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxProblem {
    /// A name is none of a tree.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A name in quotes is damaged.
    #[error("the quoted name is damaged")]
    Quoting,
    /// The names of a header are missing or cannot be told apart.
    #[error("the header does not say which file it is about; write `--- a/PATH` and `+++ b/PATH`")]
    Names,
    /// The two names of a header differ and nothing says that it is a rename.
    #[error("`{old}` and `{new}` differ; a rename needs `diff --git` with `rename from` and `rename to`")]
    NamesDiffer {
        /// The name after `---`.
        old: String,
        /// The name after `+++`.
        new: String,
    },
    /// `---` without `+++`.
    #[error("`---` is not followed by `+++`")]
    HalfHeader,
    /// A hunk before any header.
    #[error("a hunk comes before any `--- a/PATH` and `+++ b/PATH`")]
    NoHeader,
    /// A hunk's header is damaged.
    #[error("the hunk header is damaged; write `@@ -LINE,COUNT +LINE,COUNT @@`")]
    HunkHeader,
    /// A hunk has no line that changes something.
    #[error("the hunk changes nothing: it has neither a `+` nor a `-` line")]
    EmptyHunk,
    /// A header has nothing after it.
    #[error("the header of `{0}` is followed by no hunk")]
    NoHunk(TreePath),
    /// A mode that is neither a file's nor a link's.
    #[error("mode `{0}` is neither 100644, 100755 nor 120000")]
    Mode(String),
    /// A binary file is only named.
    #[error("`{0}` is binary and the patch does not hold its content; make it with `git diff --binary`, or write the file itself")]
    BinaryNamed(TreePath),
    /// A binary part is damaged.
    #[error("the binary patch of `{0}` is damaged")]
    Binary(TreePath),
    /// A line that is no part of a hunk's body stands in it.
    #[error("the hunk says {old} old and {new} new lines, but ends here after {found_old} and {found_new}")]
    Cut {
        /// Lines the header announces.
        old: usize,
        /// Lines the header announces.
        new: usize,
        /// Lines found.
        found_old: usize,
        /// Lines found.
        found_new: usize,
    },
    /// It is one of the formats that are not unified diffs.
    #[error("this is not a unified diff; write `--- a/PATH`, `+++ b/PATH` and `@@ -LINE,COUNT +LINE,COUNT @@`")]
    Foreign,
}

/// A patch that cannot be read or does not apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is too long.
    #[error("patch has {size_bytes} bytes, at most {PATCH_MAX_BYTES} are taken")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
    },
    /// It has too many files.
    #[error("patch changes more than {PATCH_MAX_FILES} files")]
    TooManyFiles,
    /// It has no file.
    #[error("patch holds no change: no line begins with `diff --git` or `---`")]
    Empty,
    /// A line cannot be understood.
    #[error("cannot read patch, line {line} `{text}`: {problem}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// The line as it is shown.
        text: String,
        /// What is wrong.
        problem: SyntaxProblem,
    },
    /// Files or hunks do not apply. The report has a paragraph for each.
    #[error("patch does not apply, nothing was changed\n{report}")]
    Rejected {
        /// How many things are wrong.
        failures: usize,
        /// What is wrong, at most 8 KiB.
        report: String,
    },
}

impl PatchError {
    /// Returns the kind of this error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } | Self::TooManyFiles => ErrorKind::LimitExceeded,
            Self::Empty | Self::Syntax { .. } => ErrorKind::InvalidArgument,
            Self::Rejected { .. } => ErrorKind::Conflict,
        }
    }
}

impl Patch {
    /// Returns every path whose state must be known to apply it, sorted: those it names, and the folders they lie in.
    #[must_use]
    pub fn reads(&self) -> Vec<TreePath> {
        let named = self.files.iter().flat_map(|file| [&file.source, &file.path]);
        let mut paths: Vec<_> = named.flat_map(|path| path.ancestors().chain([path.clone()])).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Works out what is to be done; nothing is done to any file.
    ///
    /// A path of [`Self::reads`] that is missing in `state` counts as not there. Removals come first in the answer.
    ///
    /// # Errors
    /// Something does not apply; the report names every file and hunk.
    pub fn apply(&self, state: &BTreeMap<TreePath, Option<FileState>>) -> Result<Vec<Edit>, PatchError> {
        apply::apply(self, state)
    }
}

#[cfg(test)]
mod tests;
