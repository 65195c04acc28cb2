//! The steps of a commit: each one operation on a name, each of which can be undone, and done again after a kill.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use pyro_proto::links::FollowError;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid, chmodat, chownat, mkdirat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::files::{FileError, Files, TreePath, resolve, stat_in};

/// One step. Paths are below `/workspace`; a staged entry has the same path below `new`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Moves an entry to `old-NUMBER` of the change's folder.
    Take { path: TreePath, number: u64 },
    /// Removes an empty folder.
    RemoveFolder { path: TreePath, mode: u32, uid: u32, gid: u32 },
    /// Moves a staged entry, known by its inode, to where nothing is.
    Place { path: TreePath, inode: u64 },
    /// Swaps a staged entry with what is there.
    Exchange { path: TreePath, inode: u64 },
    /// Gives a folder another mode.
    SetMode { path: TreePath, mode: u32, before: u32 },
}

/// Where steps are carried out.
#[derive(Debug)]
pub(super) struct Place<'a> {
    files: &'a Files,
    folder: BorrowedFd<'a>,
    new: BorrowedFd<'a>,
    /// Folders of the tree and of the staged tree that were used last: neighbours come one after the other.
    last: RefCell<[Option<(TreePath, OwnedFd)>; 2]>,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Tree,
    New,
}

impl Step {
    pub(super) fn path(&self) -> &TreePath {
        match self {
            Self::Take { path, .. }
            | Self::RemoveFolder { path, .. }
            | Self::Place { path, .. }
            | Self::Exchange { path, .. }
            | Self::SetMode { path, .. } => path,
        }
    }

    /// Carries the step out.
    pub(super) fn apply(&self, place: &Place<'_>) -> rustix::io::Result<()> {
        match self {
            Self::Take { path, number } => {
                place.in_tree(path, |tree, name| renameat_with(tree, name, place.folder, taken(*number), RenameFlags::NOREPLACE))
            }
            Self::RemoveFolder { path, .. } => place.in_tree(path, |tree, name| unlinkat(tree, name, AtFlags::REMOVEDIR)),
            Self::Place { path, .. } => place.both(path, |new, tree, name| renameat_with(new, name, tree, name, RenameFlags::NOREPLACE)),
            Self::Exchange { path, .. } => place.both(path, |new, tree, name| renameat_with(new, name, tree, name, RenameFlags::EXCHANGE)),
            Self::SetMode { path, mode, .. } => place.set_mode(path, *mode),
        }
    }

    /// Takes the step back.
    pub(super) fn undo(&self, place: &Place<'_>) -> rustix::io::Result<()> {
        match self {
            Self::Take { path, number } => {
                place.in_tree(path, |tree, name| renameat_with(place.folder, taken(*number), tree, name, RenameFlags::NOREPLACE))
            }
            Self::RemoveFolder { path, mode, uid, gid } => place.in_tree(path, |tree, name| {
                mkdirat(tree, name, Mode::RWXU)?;
                chownat(tree, name, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)), AtFlags::SYMLINK_NOFOLLOW)?;
                chmodat(tree, name, Mode::from_raw_mode(*mode), AtFlags::empty())
            }),
            Self::Place { path, .. } => place.both(path, |new, tree, name| renameat_with(tree, name, new, name, RenameFlags::NOREPLACE)),
            Self::Exchange { .. } => self.apply(place),
            Self::SetMode { path, before, .. } => place.set_mode(path, *before),
        }
    }

    /// Carries the step out unless a life before this one has; what can no longer be done is passed over.
    pub(super) fn resume(&self, place: &Place<'_>) -> rustix::io::Result<()> {
        let done = match self {
            Self::Take { number, .. } => stat_in(place.folder, taken(*number).as_bytes())?.is_some(),
            Self::Place { path, inode } | Self::Exchange { path, inode } => {
                place.in_tree(path, |tree, name| Ok(stat_in(tree, name)?.is_some_and(|stat| stat.st_ino == *inode)))?
            }
            Self::RemoveFolder { .. } | Self::SetMode { .. } => false,
        };
        if done {
            return Ok(());
        }
        match self.apply(place) {
            Err(Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::NOTEMPTY | Errno::ISDIR) => Ok(()),
            result => result,
        }
    }
}

/// Carries out all steps, or none: what was done is taken back when one fails.
pub(super) fn apply_all(place: &Place<'_>, steps: &[Step]) -> Result<(), FileError> {
    for (number, step) in steps.iter().enumerate() {
        let Err(error) = step.apply(place) else { continue };
        let error = failed(step, error);
        for step in steps[..number].iter().rev() {
            if let Err(undoing) = step.undo(place) {
                crate::log::failure(&FileError::io("take back the change of", step.path().bytes(), undoing));
                return Err(FileError::Torn { source: Box::new(error) });
            }
        }
        if steps.len() > 1 {
            super::intent::remove(place)?;
        }
        return Err(error);
    }
    Ok(())
}

fn failed(step: &Step, error: Errno) -> FileError {
    match error {
        Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::NOTEMPTY | Errno::ISDIR | Errno::XDEV | Errno::LOOP => {
            FileError::conflict(step.path(), "something changed it at the same time")
        }
        Errno::BUSY => FileError::conflict(step.path(), "something is mounted there"),
        error => FileError::io("change", step.path().bytes(), error),
    }
}

/// Name of what a step has taken away.
fn taken(number: u64) -> String {
    format!("old-{number}")
}

impl<'a> Place<'a> {
    pub(super) fn new(files: &'a Files, folder: BorrowedFd<'a>, new: BorrowedFd<'a>) -> Self {
        Self { files, folder, new, last: RefCell::default() }
    }

    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder
    }

    /// Removes a folder and its parents for as long as they are empty.
    pub(super) fn prune(&self, path: &TreePath) {
        // A parent opened before may be the one that goes.
        self.last.take();
        let _ = self.in_tree(path, |tree, name| unlinkat(tree, name, AtFlags::REMOVEDIR));
        self.last.take();
    }

    fn set_mode(&self, path: &TreePath, mode: u32) -> rustix::io::Result<()> {
        if path.is_root() {
            return rustix::fs::fchmod(self.files.tree(), Mode::from_raw_mode(mode));
        }
        // Through a descriptor: chmod(2) of a name would follow a link that has come in between.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = self.in_place(path, flags)?;
        rustix::fs::fchmod(folder, Mode::from_raw_mode(mode))
    }

    fn in_tree<T>(&self, path: &TreePath, act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>) -> rustix::io::Result<T> {
        let (parent, name) = path.split().ok_or(Errno::BUSY)?;
        self.open(Side::Tree, &parent)?;
        let last = self.last.borrow();
        let [Some((_, tree)), _] = &*last else { return Err(Errno::NOENT) };
        act(tree.as_fd(), name)
    }

    fn both(
        &self,
        path: &TreePath,
        act: impl FnOnce(BorrowedFd<'_>, BorrowedFd<'_>, &[u8]) -> rustix::io::Result<()>,
    ) -> rustix::io::Result<()> {
        let (parent, name) = path.split().ok_or(Errno::BUSY)?;
        self.open(Side::Tree, &parent)?;
        self.open(Side::New, &parent)?;
        let last = self.last.borrow();
        let [Some((_, tree)), Some((_, new))] = &*last else { return Err(Errno::NOENT) };
        act(new.as_fd(), tree.as_fd(), name)
    }

    fn open(&self, side: Side, path: &TreePath) -> rustix::io::Result<()> {
        const FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
        let slot = match side {
            Side::Tree => 0,
            Side::New => 1,
        };
        let mut last = self.last.borrow_mut();
        if last[slot].as_ref().is_none_or(|(open, _)| open != path) {
            let folder = match side {
                Side::Tree => self.in_place(path, FLAGS)?,
                Side::New => resolve(self.new, path, FLAGS, ResolveFlags::NO_SYMLINKS)?,
            };
            last[slot] = Some((path.clone(), folder));
        }
        Ok(())
    }

    fn in_place(&self, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.files.reach(path, flags).map_err(|error| match error {
            FollowError::Outside { .. } => Errno::XDEV,
            FollowError::TooMany => Errno::LOOP,
            FollowError::NoDirectory => Errno::NOENT,
            FollowError::Look(error) => error,
        })
    }
}
