//! What an archive comes to once all of it has been read: one entry per path, everything else refused.
//!
//! Refused is whatever would need a system call to find out where it goes: absolute paths, `..`, paths through a link, hard links to
//! something the archive does not hold. Of a `.git` only what is on the list of `git` stays. Of two files of one name the later counts, as `tar` unpacks them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::Path,
};

use tar::EntryType;

use super::stream::{Compression, Stream};
use crate::{
    entry::MODE_MASK,
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
    pub(super) mtime_seconds: i64,
    pub(super) size_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) entries: BTreeMap<TreePath, Planned>,
    /// Which paths an entry is handed over as.
    pub(super) by_entry: HashMap<u64, Vec<TreePath>>,
    pub(super) left_out: Vec<(Vec<u8>, &'static str)>,
    pub(super) entry_count: u64,
}

impl Plan {
    /// Reads an archive once; `git` says whether any `.git` is taken.
    pub(super) fn make<E>(path: &Path, compression: Compression, git: bool) -> Result<Self, SourceError<E>> {
        let stream = Stream::open(path, compression)?;
        let mut archive = tar::Archive::new(stream.reader());
        let damaged = |source| SourceError::Damaged { path: path.into(), offset: stream.position(), source };
        let mut plan = Self::default();
        stream.expect_headers();
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            stream.expect_content();
            let name = entry.path_bytes().into_owned();
            let refused = |problem| SourceError::Refused {
                path: path.into(),
                number: plan.entry_count + 1,
                name: printable_cut(&name, SHOWN_MAX_BYTES),
                problem,
            };
            if plan.entry_count == ENTRIES_MAX {
                return Err(refused(ArchiveProblem::TooMany));
            }
            let stored = stored_bytes(&mut entry).map_err(refused)?;
            if entry.size().saturating_sub(stored) > HOLES_MAX_BYTES {
                return Err(refused(ArchiveProblem::Holes));
            }
            let noted = plan.note(&name, &mut entry);
            if let Err(problem) = noted {
                let number = plan.entry_count + 1;
                let name = printable_cut(&name, SHOWN_MAX_BYTES);
                return Err(SourceError::Refused { path: path.into(), number, name, problem });
            }
            plan.entry_count += 1;
            let expected = entry.size();
            if stream.drain(&mut entry).map_err(damaged)? != expected {
                return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
            }
            stream.expect_headers();
        }
        if stream.ended() {
            return Err(damaged(io::Error::new(io::ErrorKind::UnexpectedEof, "ends without the mark of its end")));
        }
        // What follows the mark is padding; reading it lets the decompressor check its sum.
        stream.expect_content();
        stream.drain(&mut archive.into_inner()).map_err(damaged)?;
        plan.settle(git).map_err(|(index, name, problem)| SourceError::Refused { path: path.into(), number: index + 1, name, problem })?;
        Ok(plan)
    }

    fn note(&mut self, name: &[u8], entry: &mut tar::Entry<'_, impl io::Read>) -> Result<(), ArchiveProblem> {
        let header = entry.header();
        let kind = header.entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let mode = header.mode().map_err(|_| ArchiveProblem::Number)? & MODE_MASK;
        let mtime_seconds = mtime(entry)?;
        let size_bytes = entry.size();
        let Some(path) = tree_path(name)? else {
            return Ok(());
        };
        let index = self.entry_count;
        let file = matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        // Before there was a kind for folders, they were files whose name ends with a slash.
        let planned = if kind == EntryType::Directory || (file && name.ends_with(b"/")) {
            Planned { index, kind: Kind::Folder, mode, mtime_seconds, size_bytes: 0 }
        } else if file {
            Planned { index, kind: Kind::File, mode, mtime_seconds, size_bytes }
        } else if kind == EntryType::Symlink {
            let target = entry.link_name_bytes().ok_or(ArchiveProblem::Target)?.into_owned();
            if target.is_empty() || target.contains(&0) || target.len() >= PATH_MAX_BYTES {
                return Err(ArchiveProblem::Target);
            }
            Planned { index, kind: Kind::Link(target), mode: 0o777, mtime_seconds, size_bytes: 0 }
        } else if kind == EntryType::Link {
            let target = entry.link_name_bytes().ok_or(ArchiveProblem::Target)?;
            let target = tree_path(&target)?.ok_or(ArchiveProblem::HardLink)?;
            let linked = self.entries.get(&target).ok_or(ArchiveProblem::HardLink)?;
            if linked.kind == Kind::Folder {
                return Err(ArchiveProblem::HardLink);
            }
            linked.clone()
        } else if matches!(kind, EntryType::Char | EntryType::Block) {
            return Err(ArchiveProblem::Device);
        } else if kind == EntryType::Fifo {
            self.left_out.push((name.to_vec(), "is a FIFO"));
            return Ok(());
        } else {
            return Err(ArchiveProblem::Kind(char::from(kind.as_byte()).escape_default().to_string()));
        };
        if let Some(before) = self.entries.get(&path)
            && (before.kind == Kind::Folder) != (planned.kind == Kind::Folder)
        {
            return Err(ArchiveProblem::Clash);
        }
        self.entries.insert(path, planned);
        Ok(())
    }

    /// Checks what only the whole archive tells, and finds out which entry is handed over as what.
    fn settle(&mut self, git: bool) -> Result<(), (u64, String, ArchiveProblem)> {
        for (path, planned) in &self.entries {
            for parent in path.ancestors() {
                let problem = match self.entries.get(&parent).map(|parent| &parent.kind) {
                    None | Some(Kind::Folder) => continue,
                    Some(Kind::Link(_)) => ArchiveProblem::ThroughLink,
                    Some(Kind::File) => ArchiveProblem::Clash,
                };
                return Err((planned.index, printable_cut(path.as_bytes(), SHOWN_MAX_BYTES), problem));
            }
        }
        self.leave_out_git(git);
        for (path, planned) in &self.entries {
            self.by_entry.entry(planned.index).or_default().push(path.clone());
        }
        Ok(())
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

/// Returns how many bytes of a file the archive really holds.
fn stored_bytes(entry: &mut tar::Entry<'_, impl io::Read>) -> Result<u64, ArchiveProblem> {
    let header_size = entry.header().entry_size().map_err(|_| ArchiveProblem::Number)?;
    let sparse = entry.header().entry_type() == EntryType::GNUSparse;
    if let Some(extensions) = entry.pax_extensions().map_err(|_| ArchiveProblem::Extension)? {
        for extension in extensions {
            let extension = extension.map_err(|_| ArchiveProblem::Extension)?;
            // These put the map of the holes into the content, or the name elsewhere.
            if extension.key_bytes().starts_with(b"GNU.sparse.") {
                return Err(ArchiveProblem::Sparse);
            }
        }
    }
    Ok(if sparse { header_size } else { entry.size() })
}

fn mtime(entry: &mut tar::Entry<'_, impl io::Read>) -> Result<i64, ArchiveProblem> {
    let exact = entry.pax_extensions().map_err(|_| ArchiveProblem::Extension)?.and_then(|extensions| {
        let value = extensions.filter_map(Result::ok).filter(|extension| extension.key_bytes() == b"mtime").last()?;
        value.value().ok()?.split('.').next()?.parse().ok()
    });
    match exact {
        Some(seconds) => Ok(seconds),
        None => entry.header().mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).ok_or(ArchiveProblem::Number),
    }
}
