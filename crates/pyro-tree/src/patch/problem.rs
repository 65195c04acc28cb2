//! What can be wrong with a patch, and what to do about it.
//!
//! Messages say what is wrong, hints what to write or send instead. A hint never asks for what was just done: somebody who sent the output
//! of `git diff` is told which flag or line is at fault.

use pyro_proto::error::ErrorKind;

use super::{Foreign, PATCH_MAX_BYTES, PATCH_MAX_FILES, WORK_MAX_BYTES, WRITTEN_MAX_BYTES};
use crate::path::{PathError, TreePath};

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
    #[error("the header does not say which file it is about")]
    Names,
    /// The two names of a header differ and nothing says that it is a rename.
    #[error("`{old}` and `{new}` differ, and nothing says that this is a rename")]
    NamesDiffer {
        /// The name after `---`.
        old: String,
        /// The name after `+++`.
        new: String,
    },
    /// `diff --git` names another file than the lines below it.
    #[error("this line and the `diff --git` line above it name different files")]
    Inconsistent,
    /// `---` without `+++` or the other way round.
    #[error("a file header needs both a `---` and a `+++` line")]
    HalfHeader,
    /// A hunk before any header.
    #[error("this hunk does not follow a file header or another hunk")]
    NoHeader,
    /// A line of an extended header without `diff --git`.
    #[error("this line belongs to a header, but there is no `diff --git` line above it")]
    Orphan,
    /// A hunk's header is damaged.
    #[error("the hunk header is damaged")]
    HunkHeader,
    /// A hunk's header is behind blanks or `>`.
    #[error("this line looks like part of the patch, but it is indented or quoted")]
    Indented,
    /// A hunk has no line that changes something.
    #[error("the hunk changes nothing: it has neither a `+` nor a `-` line")]
    EmptyHunk,
    /// A header has nothing after it.
    #[error("no hunk follows the header of `{0}`")]
    NoHunk(String),
    /// A header has nothing after it, although it says that the content changes.
    #[error("the header of `{0}` says that its content changes, but no hunk follows")]
    ContentMissing(String),
    /// A mode that is neither a file's nor a link's.
    #[error("mode `{0}` is not 100644, 100755, 120000 or 160000")]
    Mode(String),
    /// A file is only mentioned.
    #[error("the patch mentions `{0}`, but does not contain its change")]
    Mentioned(String),
    /// A binary file is only named.
    #[error("`{0}` is binary, and the patch does not contain its content")]
    BinaryNamed(String),
    /// A binary part is damaged.
    #[error("the binary patch of `{0}` is damaged")]
    Binary(String),
    /// A line in a hunk has no mark.
    #[error("this line is inside a hunk, but starts with none of ` `, `+` and `-`")]
    Unmarked,
    /// A change that belongs to no hunk.
    #[error("this line looks like a change, but the hunk above ended before it")]
    Stray,
    /// The patch ends within a hunk.
    #[error("the patch ends here, but this hunk should have {old} old and {new} new lines and has {found_old} and {found_new}")]
    CutOff {
        /// Lines the header announces.
        old: usize,
        /// Lines the header announces.
        new: usize,
        /// Lines found.
        found_old: usize,
        /// Lines found.
        found_new: usize,
        /// The header that would fit.
        header: String,
    },
    /// Lines can be a change or a header.
    #[error("this can be the header of another file, or two changes of the hunk above")]
    HeaderOrChange,
    /// It is one of the formats that are not unified diffs.
    #[error("{0}")]
    Foreign(Foreign),
}

impl SyntaxProblem {
    fn hint(&self) -> String {
        match self {
            Self::Path(_) => "name files relative to `/workspace`, without `.` and `..`: `--- a/PATH` and `+++ b/PATH`".to_owned(),
            Self::Quoting => "a quoted name ends with `\"`; in it, write `\\\"` for a quote and `\\\\` for a backslash".to_owned(),
            Self::Names | Self::HalfHeader | Self::NoHeader => {
                "start each file with a `--- a/PATH` and a `+++ b/PATH` line, followed by its hunks".to_owned()
            }
            Self::NamesDiffer { old, new } => format!(
                "for a rename, write `diff --git a/{old} b/{new}`, `rename from {old}` and `rename to {new}` first; otherwise use one name"
            ),
            Self::Inconsistent => "use the same name in `diff --git`, `---` and `+++`".to_owned(),
            Self::Orphan => "write `diff --git a/PATH b/PATH` above it".to_owned(),
            Self::HunkHeader => "write it as `@@ -LINE,COUNT +LINE,COUNT @@`, or as `@@ @@` if the line numbers are not known".to_owned(),
            Self::Indented => "start every line of the patch in the first column".to_owned(),
            Self::EmptyHunk => "mark lines to remove with `-` and lines to add with `+`, or leave the hunk out".to_owned(),
            Self::NoHunk(_) => "add the hunks of this file, or leave its header out".to_owned(),
            Self::ContentMissing(_) => "the patch may be cut off, or was made with `--irreversible-delete`; send all of it".to_owned(),
            Self::Mode(_) => "use mode 100644 for a file, 100755 for an executable file and 120000 for a symbolic link".to_owned(),
            Self::Mentioned(_) => {
                "make the patch with `git diff --no-index --binary OLD NEW`, which includes new files, links and binary files".to_owned()
            }
            Self::BinaryNamed(_) => {
                "add `--binary` to the `git diff` command, or copy the folder it is in with `pyro workspace sync push WORKSPACE FOLDER --dest PATH`".to_owned()
            }
            Self::Binary(_) => "a binary patch must arrive unchanged, both parts of it; copy the folder it is in with `pyro workspace sync push WORKSPACE FOLDER --dest PATH` instead".to_owned(),
            Self::Unmarked => {
                "start every line of a hunk with ` `, `+` or `-`, and leave nothing out: to skip lines, start another hunk".to_owned()
            }
            Self::Stray => "put the change into a hunk with its own `@@` line, and remove text between hunks".to_owned(),
            Self::CutOff { header, .. } => format!("send the whole patch; if this is all of it, write the hunk header as `{header}`"),
            Self::HeaderOrChange => {
                "write the line counts of the hunk above correctly, or put `diff --git a/PATH b/PATH` above this line".to_owned()
            }
            Self::Foreign(format) => format.hint().to_owned(),
        }
    }
}

/// A patch that cannot be read or does not apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is too long.
    #[error("the patch has {size_bytes} bytes; at most {PATCH_MAX_BYTES} are allowed")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
    },
    /// It has too many files.
    #[error("the patch changes more than {PATCH_MAX_FILES} files")]
    TooManyFiles,
    /// Its names are too deep to look at every directory.
    #[error("the names in the patch have too many components")]
    NamesTooDeep,
    /// Its binary parts are too large.
    #[error("the binary parts of the patch unfold to more than {} MiB", super::binary::UNFOLDED_MAX_BYTES >> 20)]
    BinaryTooLarge,
    /// It leaves too much behind.
    #[error("the files changed by the patch have more than {} MiB", WRITTEN_MAX_BYTES >> 20)]
    WritesTooMuch,
    /// It takes too long.
    #[error("the patch changes large files too often: more than {} MiB would be read and written", WORK_MAX_BYTES >> 20)]
    TooMuchWork,
    /// Too many of its hunks must be searched for.
    #[error("the patch has too many hunks that are not at their line numbers")]
    TooMuchSearch,
    /// It has no change.
    #[error("the patch contains no change: no line starts with `diff --git` or `---`")]
    Empty,
    /// A line cannot be understood.
    #[error("cannot read the patch, line {line} `{text}`: {problem}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// The line as it is shown.
        text: String,
        /// What is wrong.
        problem: SyntaxProblem,
    },
    /// It is not clear which file a name means.
    #[error("cannot tell which file line {line} `{text}` of the patch means: {}", either(paths))]
    Ambiguous {
        /// Line of the header, counted from 1.
        line: usize,
        /// The line as it is shown.
        text: String,
        /// What it can mean.
        paths: Vec<TreePath>,
    },
    /// Something the patch needs cannot be used.
    #[error("`{path}` cannot be changed by a patch")]
    Unusable {
        /// Where it is.
        path: TreePath,
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

fn either(paths: &[TreePath]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    shown.join(" or ")
}

impl PatchError {
    /// Returns the kind of this error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. }
            | Self::TooManyFiles
            | Self::NamesTooDeep
            | Self::BinaryTooLarge
            | Self::WritesTooMuch
            | Self::TooMuchWork
            | Self::TooMuchSearch => ErrorKind::LimitExceeded,
            Self::Empty | Self::Syntax { .. } | Self::Ambiguous { .. } | Self::Unusable { .. } => ErrorKind::InvalidArgument,
            Self::Rejected { .. } => ErrorKind::Conflict,
        }
    }

    /// Returns what to do about it, if there is something that can be said without knowing the workspace.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooLarge { .. } | Self::TooManyFiles | Self::NamesTooDeep | Self::WritesTooMuch => Some(
                "split the patch into several, or copy the folder they are in with `pyro workspace sync push WORKSPACE FOLDER --dest PATH`"
                    .to_owned(),
            ),
            Self::BinaryTooLarge => {
                Some("copy the folder of binary files with `pyro workspace sync push WORKSPACE FOLDER --dest PATH`".to_owned())
            }
            Self::TooMuchWork => Some("combine the changes to each file, as `git diff FIRST LAST` does for a series of commits".to_owned()),
            Self::TooMuchSearch => Some("correct the line numbers in the `@@` lines".to_owned()),
            Self::Empty => Some(
                "send a unified diff: `--- a/PATH`, `+++ b/PATH`, then hunks that start with `@@ -LINE,COUNT +LINE,COUNT @@`".to_owned(),
            ),
            Self::Syntax { problem, .. } => Some(problem.hint()),
            Self::Ambiguous { paths, .. } => {
                let path = paths.first()?;
                Some(format!(
                    "for `{path}`, start with the line `diff --git a/{path} b/{path}`, and write `a/{path}` after `---` and `b/{path}` after `+++`"
                ))
            }
            Self::Unusable { .. } | Self::Rejected { .. } => None,
        }
    }
}
