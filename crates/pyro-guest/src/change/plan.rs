//! Compares a staged change with what is there, and says which steps make the one the other.
//!
//! Nothing is changed here but owner and mode of staged files; whatever forbids the change is found here and names the path. What a
//! command does at the same time is found by the steps.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;

use pyro_proto::v1::FileKind;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chmodat, chownat};
use rustix::io::Errno;

use super::stage::{Remembered, Stage, What};
use super::step::Step;
use crate::files::{FileError, Files, TreePath, is_folder, kind, names, resolve, special, stat_in, version};

/// Most memory for steps: a change of this many existing files is better a replacement of their folder.
const STEPS_MAX_BYTES: usize = 48 << 20;

/// What a step costs besides its path.
const STEP_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Folders to remove in the end if they are empty by then, innermost first.
    pub(super) prunes: Vec<TreePath>,
    /// Entries that go.
    pub(super) removed: u64,
    bytes: usize,
}

impl Plan {
    pub(super) fn make(files: &Files, stage: &Stage<'_>) -> Result<Self, FileError> {
        Maker { files, stage, plan: Self::default(), taken: BTreeSet::new(), folders: BTreeMap::new() }.make()
    }

    fn push(&mut self, step: Step) -> Result<(), FileError> {
        self.bytes += STEP_BYTES + step.path().bytes().len();
        if self.bytes > STEPS_MAX_BYTES {
            return Err(FileError::TooLarge { reason: "it changes too many entries that are there" });
        }
        self.steps.push(step);
        Ok(())
    }
}

struct Maker<'a> {
    files: &'a Files,
    stage: &'a Stage<'a>,
    plan: Plan,
    /// What is gone by the time something is placed.
    taken: BTreeSet<TreePath>,
    /// Folders that are items, with their modes.
    folders: BTreeMap<TreePath, u32>,
}

impl Maker<'_> {
    fn make(mut self) -> Result<Plan, FileError> {
        let stage = self.stage;
        let items = &stage.remembered;
        let folders = items.iter().filter_map(|item| match item.what {
            What::Folder { mode, .. } => Some((item.path.clone(), mode)),
            What::File { .. } | What::Link | What::Remove => None,
        });
        self.folders = folders.collect();
        items.iter().try_for_each(|item| self.remembered(item))?;
        self.merge()?;
        if !stage.replace {
            self.prunes();
        }
        Ok(self.plan)
    }

    fn remembered(&mut self, item: &Remembered) -> Result<(), FileError> {
        if let Some(named) = &item.named
            && self.files.follow(named).ok().is_none_or(|(path, _)| path != item.path)
        {
            return Err(FileError::conflict(named, "something changed it at the same time"));
        }
        let there = self.files.stat(&item.path)?;
        expect(item, there.as_ref())?;
        match (item.what, there) {
            (What::File { keep_mode: true }, Some(there)) if kind(&there) == FileKind::File => self.keep(&item.path, &there),
            (What::Remove, there) => self.remove(&item.path, there.as_ref()),
            (What::Folder { .. }, Some(there)) if !is_folder(&there) && !self.taken.contains(&item.path) && !self.stage.replace => {
                // It may be removed by a later item.
                let removed = |other: &Remembered| other.what == What::Remove && other.path == item.path;
                if self.stage.remembered.iter().any(removed) {
                    Ok(())
                } else {
                    Err(FileError::conflict(&item.path, "it is not a directory"))
                }
            }
            (What::File { .. } | What::Folder { .. } | What::Link, _) => Ok(()),
        }
    }

    /// Gives a staged file the owner and mode of the one it replaces.
    fn keep(&self, path: &TreePath, there: &Stat) -> Result<(), FileError> {
        let failed = |error| FileError::io("prepare", path.bytes(), error);
        let (parent, name) = path.split().expect("an item's path is not empty");
        let parent = resolve(self.stage.staged(), &parent, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS).map_err(failed)?;
        let (uid, gid) = (Uid::from_raw(there.st_uid), Gid::from_raw(there.st_gid));
        // The owner first: changing it takes the set-user-id bit away.
        chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        chmodat(&parent, name, Mode::from_raw_mode(there.st_mode & 0o7777), AtFlags::empty()).map_err(failed)
    }

    fn remove(&mut self, path: &TreePath, there: Option<&Stat>) -> Result<(), FileError> {
        let (parent, name) = path.split().expect("an item's path is not empty");
        let staged = resolve(self.stage.staged(), &parent, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS);
        let staged = staged.ok().and_then(|folder| stat_in(folder, name).ok().flatten());
        if staged.is_some_and(|staged| !is_folder(&staged)) {
            return Err(FileError::Change { reason: format!("`{}` is both removed and written", path.shown()) });
        }
        match there {
            // Gone already, which is what was asked for; what is replaced as a whole needs no step of its own.
            None => Ok(()),
            Some(_) if self.stage.replace => Ok(()),
            Some(there) if is_folder(there) => Err(FileError::conflict(path, "it is a directory")),
            Some(_) => self.take(path.clone()),
        }
    }

    fn take(&mut self, path: TreePath) -> Result<(), FileError> {
        if self.taken.insert(path.clone()) {
            let number = u64::try_from(self.plan.steps.len()).unwrap_or(u64::MAX);
            self.plan.push(Step::Take { path, number })?;
            self.plan.removed += 1;
        }
        Ok(())
    }

    /// Walks the staged tree for as far as it has folders that are there, too.
    fn merge(&mut self) -> Result<(), FileError> {
        let mut folders = vec![TreePath::default()];
        while let Some(path) = folders.pop() {
            let Some(tree) = self.files.folder(&path)? else {
                return Err(FileError::conflict(&path, "it is not a directory"));
            };
            if self.stage.replace && path == self.stage.destination {
                self.swap(&path)?;
                continue;
            }
            if let Some(&mode) = self.folders.get(&path) {
                let before = rustix::fs::fstat(&tree).map_err(|error| FileError::io("look at", path.bytes(), error))?.st_mode & 0o7777;
                if before != mode {
                    self.plan.push(Step::SetMode { path: path.clone(), mode, before })?;
                }
            }
            let failed = |error| FileError::io("look at", path.bytes(), error);
            let staged =
                resolve(self.stage.staged(), &path, OFlags::RDONLY | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS).map_err(failed)?;
            let mut inner = names(&staged).map_err(failed)?;
            while let Some(name) = inner.next() {
                let child = path.join(name)?;
                let Some(new) = stat_in(&staged, name).map_err(failed)? else { continue };
                let there = stat_in(&tree, name).map_err(failed)?.filter(|_| !self.taken.contains(&child));
                if self.entry(&child, &new, there.as_ref())? == Next::Enter {
                    folders.push(child);
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &TreePath, new: &Stat, there: Option<&Stat>) -> Result<Next, FileError> {
        let inode = new.st_ino;
        let Some(there) = there else {
            self.plan.push(Step::Place { path: path.clone(), inode })?;
            return Ok(Next::Done);
        };
        match (is_folder(new), is_folder(there)) {
            (true, true) => return Ok(Next::Enter),
            // A link in the middle of a path may be followed if it stays inside.
            (true, false) if kind(there) == FileKind::Link && !self.folders.contains_key(path) => {
                return match self.files.folder(path)? {
                    Some(_) => Ok(Next::Enter),
                    None => Err(FileError::conflict(path, "it is a link, but not to a directory")),
                };
            }
            (true, false) => return Err(FileError::conflict(path, "it is not a directory")),
            (false, true) => {
                self.remove_emptied(path)?;
                self.plan.push(Step::Place { path: path.clone(), inode })?;
            }
            (false, false) => {
                if let Some(what) = special(there) {
                    return Err(FileError::Special { path: path.shown(), what });
                }
                self.plan.push(Step::Exchange { path: path.clone(), inode })?;
            }
        }
        Ok(Next::Done)
    }

    /// Removes a folder all of whose entries the change takes away, so that a file can have its place.
    fn remove_emptied(&mut self, path: &TreePath) -> Result<(), FileError> {
        let failed = |error| FileError::io("look at", path.bytes(), error);
        let mut folders = vec![path.clone()];
        let mut found = Vec::new();
        while let Some(path) = folders.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let folder = self.files.open_at(&path, flags)?.ok_or_else(|| failed(Errno::NOENT))?;
            let stat = rustix::fs::fstat(&folder).map_err(failed)?;
            let mut inner = names(&folder).map_err(failed)?;
            if inner.is_empty() {
                // An empty folder was not made so by this change.
                return Err(FileError::conflict(&path, "it is a directory"));
            }
            while let Some(name) = inner.next() {
                let child = path.join(name)?;
                if self.taken.contains(&child) {
                    continue;
                }
                match stat_in(&folder, name).map_err(failed)? {
                    Some(stat) if is_folder(&stat) => folders.push(child),
                    Some(_) | None => return Err(FileError::conflict(&path, "it is a directory that is not empty")),
                }
            }
            found.push(Step::RemoveFolder { path, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid });
        }
        found.into_iter().rev().try_for_each(|step| self.plan.push(step))
    }

    /// Makes a folder hold what is staged for it and nothing else, by its entries: the folder itself may be a mount's root.
    fn swap(&mut self, path: &TreePath) -> Result<(), FileError> {
        let failed = |error| FileError::io("look at", path.bytes(), error);
        let tree = self.files.folder(path)?.ok_or_else(|| FileError::conflict(path, "it is not a directory"))?;
        let staged = resolve(self.stage.staged(), path, OFlags::RDONLY | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS).map_err(failed)?;
        let mut there = names(&tree).map_err(failed)?;
        while let Some(name) = there.next() {
            if stat_in(staged.as_fd(), name).map_err(failed)?.is_none() {
                self.take(path.join(name)?)?;
            }
        }
        let mut new = names(&staged).map_err(failed)?;
        while let Some(name) = new.next() {
            let child = path.join(name)?;
            let Some(stat) = stat_in(&staged, name).map_err(failed)? else { continue };
            let step = match stat_in(&tree, name).map_err(failed)? {
                Some(_) => Step::Exchange { path: child, inode: stat.st_ino },
                None => Step::Place { path: child, inode: stat.st_ino },
            };
            self.plan.push(step)?;
        }
        Ok(())
    }

    /// The folders removals may leave empty, each once, innermost first.
    fn prunes(&mut self) {
        let mut parents = BTreeSet::new();
        for path in &self.taken {
            let mut path = path.split().map(|(parent, _)| parent);
            while let Some(parent) = path.take().filter(|parent| !parent.is_root() && !self.folders.contains_key(parent)) {
                path = parent.split().map(|(parent, _)| parent);
                if !parents.insert(parent) {
                    break;
                }
            }
        }
        // A parent comes before what is in it.
        self.plan.prunes = parents.into_iter().rev().collect();
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Done,
    /// Both are folders: what is in them is compared.
    Enter,
}

fn expect(item: &Remembered, there: Option<&Stat>) -> Result<(), FileError> {
    let conflict = |found| Err(FileError::conflict(&item.path, found));
    match there {
        Some(_) if item.expected_absent => conflict("it is there already"),
        None if !item.expected_version.is_empty() => conflict("it is gone"),
        Some(there) if !item.expected_version.is_empty() && version(there) != *item.expected_version => {
            conflict("it was changed since it was read")
        }
        Some(_) | None => Ok(()),
    }
}
