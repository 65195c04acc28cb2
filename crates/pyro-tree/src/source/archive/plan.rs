//! What an archive comes to once all of it has been read: one entry per path, everything else refused.
//!
//! Refused is whatever would need a system call to find out where it goes: absolute paths, `..`, paths through a link, hard links to
//! something the archive does not hold. Of a `.git` only what is on the list of `git` stays. Of two files of one name the later counts, as `tar` unpacks them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use super::{
    reader::{Member, MemberKind, ReadError, Reader},
    stream::{self, Compression},
};
use crate::{
    entry::{MODE_MASK, Timestamp},
    path::{PATH_MAX_BYTES, PathProblem, TreePath, printable_cut},
    source::{
        ArchiveProblem, SourceError,
        git::{Verdict, judge, split_dot_git},
    },
};

/// Most entries of an archive: their names are held in memory.
const ENTRIES_MAX: u64 = 2_000_000;
/// What a sparse file may hold beyond the bytes that are stored of it: zeros are cheap to write down.
const HOLES_MAX_BYTES: u64 = 8 << 30;
/// Longest name shown in an error, in bytes.
const SHOWN_MAX_BYTES: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link(Vec<u8>),
}

/// What one path comes to.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// The entry that holds the content.
    pub(super) index: u64,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) mtime: Timestamp,
    pub(super) size_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) entries: BTreeMap<TreePath, Planned>,
    /// Which paths an entry is handed over as.
    pub(super) by_entry: HashMap<u64, Vec<TreePath>>,
    pub(super) left_out: Vec<(Vec<u8>, &'static str)>,
    pub(super) entry_count: u64,
    /// When the archive's top was changed last, if it says so.
    pub(super) top_mtime: Option<Timestamp>,
}

impl Plan {
    /// Reads an archive once; `git` says whether any `.git` is taken.
    pub(super) fn make<E>(path: &Path, compression: Compression, git: bool) -> Result<Self, SourceError<E>> {
        let mut archive = Reader::new(stream::open(path, compression)?);
        let mut plan = Self::default();
        loop {
            let number = plan.entry_count + 1;
            let refused = |name: &[u8], problem| {
                let name = printable_cut(name, SHOWN_MAX_BYTES);
                SourceError::Refused { path: path.into(), number, name, problem }
            };
            let member = match archive.next() {
                Ok(Some(member)) => member,
                Ok(None) => break,
                Err(ReadError::Refused { name, problem }) => return Err(refused(&name, problem)),
                Err(ReadError::Damaged(source)) => {
                    return Err(SourceError::Damaged { path: path.into(), offset: archive.position(), source });
                }
            };
            plan.note(&member).map_err(|problem| refused(&member.name, problem))?;
            plan.entry_count += 1;
        }
        archive.finish().map_err(|source| SourceError::Damaged { path: path.into(), offset: archive.position(), source })?;
        plan.settle(git);
        Ok(plan)
    }

    /// Notes what an entry comes to, replacing what tar would replace.
    fn note(&mut self, member: &Member) -> Result<(), ArchiveProblem> {
        if self.entry_count == ENTRIES_MAX {
            return Err(ArchiveProblem::TooMany);
        }
        if member.size_bytes.saturating_sub(member.stored_bytes) > HOLES_MAX_BYTES {
            return Err(ArchiveProblem::Holes);
        }
        let Some(path) = tree_path(&member.name)? else {
            if member.kind == MemberKind::Folder {
                self.top_mtime = Some(member.mtime);
            }
            return Ok(());
        };
        let planned = |kind, default_mode| Planned {
            index: self.entry_count,
            kind,
            mode: member.mode.unwrap_or(default_mode) & MODE_MASK,
            mtime: member.mtime,
            size_bytes: member.size_bytes,
        };
        let planned = match member.kind {
            MemberKind::Folder => planned(Kind::Folder, 0o755),
            MemberKind::File => planned(Kind::File, 0o644),
            MemberKind::Link => {
                let target = member.target.clone();
                if target.is_empty() || target.contains(&0) || target.len() >= PATH_MAX_BYTES {
                    return Err(ArchiveProblem::Target);
                }
                Planned { mode: 0o777, ..planned(Kind::Link(target), 0o777) }
            }
            MemberKind::HardLink => {
                let target = tree_path(&member.target)?.ok_or(ArchiveProblem::HardLink)?;
                let linked = self.entries.get(&target).ok_or(ArchiveProblem::HardLink)?;
                if linked.kind == Kind::Folder {
                    return Err(ArchiveProblem::HardLink);
                }
                linked.clone()
            }
            MemberKind::Fifo => {
                self.left_out.push((member.name.clone(), "is a FIFO"));
                return Ok(());
            }
        };
        for parent in path.ancestors() {
            match self.entries.get(&parent).map(|parent| &parent.kind) {
                None | Some(Kind::Folder) => {}
                Some(Kind::Link(_)) => return Err(ArchiveProblem::ThroughLink),
                Some(Kind::File) => return Err(ArchiveProblem::Clash),
            }
        }
        // An empty folder may be replaced by a file, as rmdir(2) allows tar to; one that holds something may not.
        if planned.kind != Kind::Folder && self.holds_something(&path) {
            return Err(ArchiveProblem::Clash);
        }
        self.entries.insert(path, planned);
        Ok(())
    }

    fn holds_something(&self, path: &TreePath) -> bool {
        // No name begins with a lower byte, so this comes before everything below.
        path.join(b"\x01").is_ok_and(|below| {
            let mut after = self.entries.range(below..);
            after.next().is_some_and(|(next, _)| next.is_below(path))
        })
    }

    /// Finds out which entry is handed over as what.
    fn settle(&mut self, git: bool) {
        self.leave_out_git(git);
        for (path, planned) in &self.entries {
            self.by_entry.entry(planned.index).or_default().push(path.clone());
        }
    }

    /// Drops of every `.git` what a folder's would not bring either.
    fn leave_out_git(&mut self, git: bool) {
        let borrows: HashSet<Vec<u8>> = self
            .entries
            .iter()
            .filter(|(_, planned)| planned.size_bytes > 0)
            .filter_map(|(path, _)| split_dot_git(path.as_bytes()))
            .filter(|(_, below)| *below == b"objects/info/alternates")
            .map(|(dot_git, _)| dot_git.to_vec())
            .collect();
        let mut named = HashSet::new();
        let left_out = &mut self.left_out;
        self.entries.retain(|path, planned| {
            let Some((dot_git, below)) = split_dot_git(path.as_bytes()) else { return true };
            if !git {
                return false;
            }
            let folder = planned.kind == Kind::Folder;
            let (left, reason) = if borrows.contains(dot_git) {
                (dot_git.to_vec(), "borrows its objects from a repository that is no part of the archive")
            } else if below.is_empty() {
                if folder {
                    return true;
                }
                (dot_git.to_vec(), "names a repository elsewhere")
            } else {
                match judge(below, folder) {
                    Verdict::Unwanted => return false,
                    Verdict::Taken if !matches!(planned.kind, Kind::Link(_)) => return true,
                    Verdict::Taken => (path.as_bytes().to_vec(), "is a link inside a repository"),
                    Verdict::LeftOut(b"hooks") => ([dot_git, b"/hooks"].concat(), "hooks are left out"),
                    Verdict::LeftOut(left) => {
                        ([dot_git, b"/", left].concat(), "is left out of a repository, since it may hold credentials or name programs")
                    }
                }
            };
            if named.insert(left.clone()) {
                left_out.push((left, reason));
            }
            false
        });
    }
}

/// Returns the path an entry's name stands for; `None` for the top of the archive.
fn tree_path(name: &[u8]) -> Result<Option<TreePath>, ArchiveProblem> {
    if name.starts_with(b"/") {
        return Err(ArchiveProblem::Path(PathProblem::Absolute));
    }
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.is_empty() && !name.is_empty() {
        return Ok(None);
    }
    TreePath::try_from(parts.join(&b'/').as_slice()).map(Some).map_err(|error| ArchiveProblem::Path(error.problem))
}
