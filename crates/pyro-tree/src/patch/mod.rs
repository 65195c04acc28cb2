//! Patches as Git, GNU diff, forges and models write them: read, checked whole, and applied in memory.
//!
//! The rule above all others: **a patch is applied whole or refused, never in part.** What `git apply` calls corrupt is refused with the line
//! and a hint, or it is one of the faults below, and then every line with a mark counts.
//!
//! Forgiven, because only one reading is left:
//! - Prose, mail headers and code fences around a patch, a byte order mark, a signature, a line end that is missing at the very end.
//! - Counts in `@@` that do not fit, and a bare `@@ … @@`: the body says how long it is, if every line of it has its mark.
//! - Context lines that lost their single blank, and blank lines before the next hunk.
//! - A patch all of whose lines were given CR LF on their way; the file decides which line ends it has.
//! - A last line of the file without line break, which the patch does not mention: the file keeps ending as it does.
//! - Hunks whose line numbers are wrong, if their lines are in one place only.
//! - `(nonexistent)` of Subversion, which is `/dev/null` in other words.
//!
//! Not forgiven, because something could be lost:
//! - A line of a hunk without mark (`...`, an unmarked context line), text between hunks, changes after text that follows a hunk.
//! - A hunk that is shorter than its header says **where the patch ends**: it may have been cut off. Followed by another hunk, another
//!   file, a closing fence or a signature it was not, and only the counts are wrong. A patch that is cut in the middle of its very last
//!   line cannot be told from one that lost its last line end, nor can one whose last hunk has no counts.
//! - A file header without hunks whose `index` or `similarity` says that there were some; header lines whose `diff --git` is missing.
//! - A hunk header that is damaged, and one that is indented or quoted.
//!
//! Who does what: `parse` finds the files among prose (`between`, `landmarks`, `foreign`) and reads each (`header`, `names`, `hunk`, `binary`). `apply`
//! chooses how many leading components of names are a prefix (`readings`), walks through the files (`engine`, on a `tree` laid over the real
//! one) and finds the place of every hunk (`place`, `nearest`). A series of commits is applied in order, each on what the one before made;
//! within one commit all files are changed at once, so that two files can swap their names.
//!
//! A hunk goes where its lines are, to the byte: at the place it names, or at the only other place. There is no fuzz, so a patch never
//! lands in the wrong function. A failure names every hunk that does not apply, for a model that repairs its patch.
//!
//! Everything is bounded, for patches are hostile: bytes and files of a patch, bytes of names, what binary parts unfold to, comparisons of
//! lines, and bytes of files read and written anew ([`WORK_MAX_BYTES`], which is what stacking one file a thousand times runs into).

mod apply;
mod between;
mod binary;
mod engine;
mod foreign;
mod header;
mod hunk;
mod landmarks;
mod names;
mod nearest;
mod parse;
mod place;
mod problem;
mod readings;
mod text;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use self::{binary::Binary, hunk::Hunk, names::Place};
pub use self::{
    foreign::Foreign,
    parse::parse,
    problem::{PatchError, SyntaxProblem},
};
use crate::{path::TreePath, source::LeftOut};

/// Longest patch, in bytes.
pub const PATCH_MAX_BYTES: usize = 4 << 20;
/// Most files in a patch.
pub const PATCH_MAX_FILES: usize = 1000;
/// Most bytes of files one patch may leave behind.
const WRITTEN_MAX_BYTES: usize = 256 << 20;
/// Most bytes of files read and written while a patch is worked out: a series may change a large file several times, not a thousand times.
const WORK_MAX_BYTES: usize = 1 << 30;
/// Longest report of what does not apply: a model reads it.
const REPORT_MAX_BYTES: usize = 8 << 10;
/// Most things named that were left out; more are counted.
const LEFT_OUT_MAX: usize = 1000;

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

/// The modes Git knows of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileMode {
    Plain,
    Executable,
    Link,
    /// A submodule: a commit of another repository.
    Submodule,
}

/// What a patch says about one file, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    operation: Operation,
    place: Place,
    /// Line of the patch where it begins, counted from 1.
    line: usize,
    /// A commit begins with it: what stands before has happened.
    begins_commit: bool,
    /// It says nothing about whether the file is there: one that only adds lines makes it if need be.
    may_add: bool,
    old_mode: Option<FileMode>,
    new_mode: Option<FileMode>,
    hunks: Vec<Hunk>,
    binary: Option<Binary>,
    /// The patch's own lines end with CR LF, those of the file need not.
    mangled: bool,
}

/// A patch that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    sections: Vec<Section>,
    left_out: Left,
}

/// What is not taken from a patch, and how much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Left {
    named: Vec<LeftOut>,
    count: u64,
}

impl Left {
    fn add(&mut self, path: &[u8], reason: &str) {
        self.count += 1;
        if self.named.len() < LEFT_OUT_MAX {
            self.named.push(LeftOut { path: crate::path::printable_cut(path, 200), reason: reason.to_owned() });
        }
    }
}

/// What is at a path a patch needs to know about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathState {
    /// Nothing.
    Absent,
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its bytes.
        content: Vec<u8>,
    },
    /// A symbolic link.
    Link {
        /// As it is written in it.
        target: Vec<u8>,
    },
    /// Something that could not be read, or that no patch can change.
    Unusable,
}

/// What is at the paths of [`Patch::reads`]; one that is missing counts as absent.
pub type PathStates = BTreeMap<TreePath, PathState>;

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

/// What a patch does to a file, once it is known which one it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchedPath {
    /// What is done.
    pub operation: Operation,
    /// Where the content comes from; equal to `path` unless it is renamed or copied.
    pub source: TreePath,
    /// Where it goes.
    pub path: TreePath,
}

/// What becomes of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What is to be done; removals come first.
    pub edits: Vec<Edit>,
    /// What the patch does, in its order. A file that is changed by several commits is there for each kind of change.
    pub files: Vec<PatchedPath>,
    /// Parts that no file comes of, the first 1000: submodules, and what a comparison of directories only mentions.
    pub left_out: Vec<LeftOut>,
    /// How many there are.
    pub left_out_count: u64,
}

impl Patch {
    /// Returns every path whose state must be known to apply it, sorted: those it may mean, and the directories they lie in.
    #[must_use]
    pub fn reads(&self) -> Vec<TreePath> {
        let mut paths = BTreeSet::new();
        for path in self.sections.iter().flat_map(|section| section.place.paths()) {
            // Whoever has the innermost directory has those around it, too.
            let mut next = path.parent();
            paths.insert(path.clone());
            while let Some(parent) = next.filter(|parent| !paths.contains(parent)) {
                next = parent.parent();
                paths.insert(parent);
            }
        }
        paths.into_iter().collect()
    }

    /// Works out what is to be done; nothing is done to any file.
    ///
    /// # Errors
    /// Something does not apply; the report names every file and hunk. Or it is not clear which file is meant, a path it needs is
    /// [`PathState::Unusable`], or it takes more work than a patch may.
    pub fn apply(&self, states: &PathStates) -> Result<Applied, PatchError> {
        apply::apply(self, states)
    }
}

#[cfg(test)]
mod tests;
