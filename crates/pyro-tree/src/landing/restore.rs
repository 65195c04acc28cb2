//! The way back: brings every path of a journal to what it was, however far the landing had come.
//!
//! A path that is neither what it was nor what it became was changed by somebody else. An undo looks for such paths first and touches nothing
//! if there are any. Once something has to be brought back, each path is looked at again right before it is touched, and what others have
//! made of it stays, while everything else becomes what it was. Only a caller who insists overwrites it.

use std::{
    collections::{BTreeSet, HashSet},
    ops::ControlFlow,
    path::Path,
};

use super::{
    LandingError, PATHS_SHOWN, Recovered, Undone, host,
    journal::{Journal, JournalStep, State, copy_name},
    land::{Checkpoint, Halt, checkpoint, is_still, journal_error},
    top,
};
use crate::{
    beneath::{Beneath, Look, Shape},
    entry::EntryKind,
    path::TreePath,
};

/// What becomes of a path that somebody else has changed since the landing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// It stays; an undo that finds it before it begins touches nothing.
    Kept,
    /// It becomes what it was before the landing, too.
    Overwritten,
}

/// Takes a landing back: every path is again what it was, to the byte, with its owner, its mode and the time of its last change.
///
/// # Errors
/// There is no landing in `journal`, or a path was changed since and is to be kept; nothing is then touched.
pub fn undo(journal: &Path, strangers: Strangers) -> Result<Undone, LandingError> {
    settle(undo_observed(journal, strangers, &mut || ControlFlow::Continue(())), journal)
}

pub(super) fn undo_observed(folder: &Path, strangers: Strangers, crash: Checkpoint<'_>) -> Result<Undone, Halt> {
    let loaded = Journal::load(folder).map_err(journal_error(folder))?;
    let Some(mut journal) = loaded.filter(|journal| journal.state == State::Landed) else {
        return Err(LandingError::NothingToUndo { path: folder.into() }.into());
    };
    let target = Beneath::open(&journal.target()).map_err(top("open", &journal.target()))?;
    if strangers == Strangers::Kept {
        conflicts(&target, &journal)?;
    }
    journal.enter(State::Undoing, folder).map_err(journal_error(folder))?;
    bring_back(&mut journal, folder, strangers, crash)
}

/// Puts right what a crash interrupted: a landing or an undo that did not come to its end is taken back to before the landing.
///
/// # Errors
/// Something cannot be read or written; what is not yet brought back is by the next call.
pub fn recover(journal: &Path, strangers: Strangers) -> Result<Recovered, LandingError> {
    settle(recover_observed(journal, strangers, &mut || ControlFlow::Continue(())), journal)
}

pub(super) fn recover_observed(folder: &Path, strangers: Strangers, crash: Checkpoint<'_>) -> Result<Recovered, Halt> {
    let Some(mut journal) = Journal::load(folder).map_err(journal_error(folder))? else { return Ok(Recovered::Absent) };
    match journal.state {
        State::Landing | State::Undoing => {
            let undone = bring_back(&mut journal, folder, strangers, crash)?;
            Ok(Recovered::TakenBack(undone))
        }
        State::Undone => Ok(Recovered::Undone),
        State::Landed => {
            // All that can be left to do is to remove a folder that is empty by now; one on a disk that is not there can wait.
            let stage = Beneath::open(&journal.target()).map_err(top("open", &journal.target()));
            stage.and_then(|target| remove_stage(&target, &journal.stage)).map(drop).unwrap_or_default();
            Ok(Recovered::Landed)
        }
    }
}

fn settle<T>(answer: Result<T, Halt>, folder: &Path) -> Result<T, LandingError> {
    answer.map_err(|halt| match halt {
        Halt::Failed(error) => error,
        Halt::Crashed => LandingError::NothingToUndo { path: folder.into() },
    })
}

/// Returns whether what is found is this shape, a folder by its kind alone.
fn is(look: &Look, shape: Option<&Shape>) -> bool {
    match (look, shape) {
        (Look::Absent | Look::BehindFile, None) => true,
        (Look::Found(found), Some(shape)) => found.same(shape) || is_folder(look, Some(shape)),
        _ => false,
    }
}

fn is_folder(look: &Look, shape: Option<&Shape>) -> bool {
    matches!((look, shape), (Look::Found(found), Some(shape)) if found.kind == EntryKind::Directory && shape.kind == EntryKind::Directory)
}

/// Looks for what others have changed since the landing.
fn conflicts(target: &Beneath, journal: &Journal) -> Result<(), LandingError> {
    // What the landing put in the place of a folder is in the way of all that was in it.
    let in_the_way = |step: &&JournalStep| step.new.as_ref().is_some_and(|new| new.kind != EntryKind::Directory);
    let in_the_way: HashSet<&TreePath> = journal.steps.iter().filter(in_the_way).map(|step| &step.path).collect();
    let fits = |step: &JournalStep, look: &Look| {
        is(look, step.new.as_ref())
            || step.new.is_none() && is_folder(look, step.old.as_ref())
            || step.new.is_none() && matches!(look, Look::BehindLink) && step.path.ancestors().any(|above| in_the_way.contains(&above))
    };
    let mut paths = Vec::new();
    for step in &journal.steps {
        let look = target.look(&step.path).map_err(host("read", target, &step.path))?;
        if !fits(step, &look) {
            paths.push(format!("`{}` was changed on the host since the apply", step.path));
        }
    }
    let count = paths.len();
    paths.truncate(PATHS_SHOWN);
    if count == 0 { Ok(()) } else { Err(LandingError::Conflicts { count, paths }) }
}

/// What is on its way back.
struct WayBack<'a> {
    target: &'a Beneath,
    journal: &'a Journal,
    strangers: Strangers,
    undone: Undone,
    kept: BTreeSet<TreePath>,
}

impl WayBack<'_> {
    /// Leaves a path as somebody else has made it. One that is to be overwritten and cannot be is an error.
    fn keep(&mut self, step: &JournalStep) -> Result<(), LandingError> {
        if self.strangers == Strangers::Overwritten {
            return Err(LandingError::Changed { path: self.target.host_path(&step.path) });
        }
        self.kept.insert(step.path.clone());
        Ok(())
    }

    /// Tells whether something else than the landing made what was found. What is being brought back is looked at until the moment it is
    /// touched, for that may be long after the first look.
    fn is_strange(&self, step: &JournalStep, found: &Shape, ours: &[Option<&Shape>]) -> Result<bool, LandingError> {
        if self.strangers == Strangers::Overwritten {
            return Ok(false);
        }
        let look = Look::Found(found.clone());
        Ok(!ours.iter().any(|shape| is(&look, *shape)) || !is_still(self.target, &step.path, found)?)
    }

    /// Removes what the landing put where there was nothing, or something of another kind.
    fn clear(&mut self, crash: Checkpoint<'_>) -> Result<(), Halt> {
        let target = self.target;
        for step in self.journal.steps.iter().rev() {
            let Look::Found(found) = target.look(&step.path).map_err(host("read", target, &step.path))? else { continue };
            if step.old.as_ref().is_some_and(|old| old.kind == found.kind) {
                continue;
            }
            checkpoint(crash)?;
            if self.is_strange(step, &found, &[step.new.as_ref()])? {
                self.keep(step)?;
                continue;
            }
            let failed = host("remove", target, &step.path);
            let gone = match found.kind {
                EntryKind::Directory => target.remove_folder(&step.path).map_err(failed)?,
                EntryKind::File | EntryKind::Link => target.remove(&step.path).map(|()| true).map_err(failed)?,
            };
            if gone {
                self.undone.removed += 1;
            } else if step.old.is_some() {
                // Somebody has put something into the folder.
                self.keep(step)?;
            }
        }
        Ok(())
    }

    /// Brings one path back.
    fn bring(&mut self, position: usize, step: &JournalStep, copies: &Beneath, folder: &Path, crash: Checkpoint<'_>) -> Result<(), Halt> {
        let (target, stage) = (self.target, &self.journal.stage);
        let Some(old) = &step.old else { return Ok(()) };
        let look = target.look(&step.path).map_err(host("read", target, &step.path))?;
        match &look {
            Look::Found(found) if found.same(old) && same_time(found, old) => return Ok(()),
            Look::Found(found) if found.kind == old.kind => {
                if self.is_strange(step, found, &[step.old.as_ref(), step.new.as_ref()])? {
                    return Ok(self.keep(step)?);
                }
            }
            Look::Absent => {}
            Look::Found(_) | Look::BehindFile | Look::BehindLink | Look::Other => return Ok(self.keep(step)?),
        }
        checkpoint(crash)?;
        let place = staged(stage, position);
        let failed = || host("bring back", target, &step.path);
        match old.kind {
            EntryKind::Directory if is_folder(&look, Some(old)) => target.set_folder_mode(&step.path, old.mode).map_err(failed())?,
            EntryKind::Directory => {
                target.make_folder(&step.path, old.mode).map_err(failed())?;
                give_back(target, &step.path, old).map_err(failed())?;
            }
            EntryKind::Link => target.make_link(&place, old.link_target.as_deref().unwrap_or_default()).map_err(failed())?,
            EntryKind::File => {
                let mut content = copies.read(&copy_name(position)).map_err(|error| journal_error(folder)(error.into()))?;
                target.make_file(&place, old.mode, &mut content).map_err(failed())?;
            }
        }
        if old.kind != EntryKind::Directory {
            give_back(target, &place, old).map_err(failed())?;
            target.set_mtime(&place, old.mtime_seconds, old.mtime_nanoseconds).map_err(failed())?;
            checkpoint(crash)?;
            let moved = match (&look, self.strangers) {
                (_, Strangers::Overwritten) => target.rename(&place, &step.path).map(|()| true),
                (Look::Found(found), Strangers::Kept) => {
                    if is_still(target, &step.path, found)? {
                        target.rename(&place, &step.path).map(|()| true)
                    } else {
                        Ok(false)
                    }
                }
                (_, Strangers::Kept) => match target.rename_new(&place, &step.path) {
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
                    moved => moved.map(|()| true),
                },
            };
            if !moved.map_err(failed())? {
                return Ok(self.keep(step)?);
            }
        }
        self.undone.restored += 1;
        Ok(())
    }
}

/// Brings every path back to its old shape; it may be called again after being interrupted anywhere.
pub(super) fn bring_back(journal: &mut Journal, folder: &Path, strangers: Strangers, crash: Checkpoint<'_>) -> Result<Undone, Halt> {
    let target_path = journal.target();
    let target = Beneath::open(&target_path).map_err(top("open", &target_path))?;
    checkpoint(crash)?;
    remove_stage(&target, &journal.stage)?;
    checkpoint(crash)?;
    target.make_folder(&journal.stage, 0o700).map_err(host("make", &target, &journal.stage))?;
    let copies = Beneath::open(folder).map_err(|error| journal_error(folder)(error.into()))?;
    let mut way = WayBack { target: &target, journal, strangers, undone: Undone::default(), kept: BTreeSet::new() };
    way.clear(crash)?;
    for (position, step) in way.journal.steps.iter().enumerate() {
        way.bring(position, step, &copies, folder, crash)?;
    }
    let WayBack { mut undone, kept, .. } = way;
    undone.kept = kept.into_iter().collect();
    checkpoint(crash)?;
    remove_stage(&target, &journal.stage)?;
    times(&target, journal)?;
    target.sync().map_err(top("sync", &target_path))?;
    checkpoint(crash)?;
    journal.enter(State::Undone, folder).map_err(journal_error(folder))?;
    Ok(undone)
}

fn give_back(target: &Beneath, place: &TreePath, old: &Shape) -> std::io::Result<()> {
    old.owner.map_or(Ok(()), |owner| target.give_to(place, owner))
}

const fn same_time(one: &Shape, other: &Shape) -> bool {
    one.mtime_seconds == other.mtime_seconds && one.mtime_nanoseconds == other.mtime_nanoseconds
}

/// Gives folders the times they had; everything in them is in its place by now.
fn times(target: &Beneath, journal: &Journal) -> Result<(), LandingError> {
    for time in &journal.folders {
        match &time.path {
            None => target.set_own_mtime(time.seconds, time.nanoseconds).map_err(top("set the time of", &journal.target()))?,
            Some(path) => {
                if matches!(target.look(path).map_err(host("read", target, path))?, Look::Found(found) if found.kind == EntryKind::Directory)
                {
                    target.set_mtime(path, time.seconds, time.nanoseconds).map_err(host("set the time of", target, path))?;
                }
            }
        }
    }
    for step in &journal.steps {
        if let Some(old @ Shape { kind: EntryKind::Directory, .. }) = &step.old
            && is_folder(&target.look(&step.path).map_err(host("read", target, &step.path))?, Some(old))
        {
            target.set_mtime(&step.path, old.mtime_seconds, old.mtime_nanoseconds).map_err(host("set the time of", target, &step.path))?;
        }
    }
    Ok(())
}

/// Returns when a folder was changed last; `None` when there is none yet.
pub(super) fn folder_time(target: &Beneath, target_path: &Path, path: Option<&TreePath>) -> Result<Option<(i64, i64)>, LandingError> {
    let status = match path {
        None => Some(target.own_status().map_err(top("read", target_path))?),
        Some(path) => target.status(path).map_err(host("read", target, path))?,
    };
    Ok(status.and_then(|status| Some((status.st_mtime, i64::try_from(status.st_mtime_nsec).ok()?))))
}

/// Returns where the content of a step waits.
pub(super) fn staged(stage: &TreePath, position: usize) -> TreePath {
    stage.join(position.to_string().as_bytes()).expect("a short name and a number are a path")
}

/// Removes the folder where contents wait; returns whether there was one.
pub(super) fn remove_stage(target: &Beneath, stage: &TreePath) -> Result<bool, LandingError> {
    if target.status(stage).map_err(host("read", target, stage))?.is_none() {
        return Ok(false);
    }
    for name in target.names(Some(stage)).map_err(host("read", target, stage))? {
        if let Ok(path) = stage.join(&name) {
            target.remove(&path).map_err(host("remove", target, &path))?;
        }
    }
    target.remove_folder(stage).map_err(host("remove", target, stage))
}
