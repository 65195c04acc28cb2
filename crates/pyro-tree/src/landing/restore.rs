//! The way back: brings every path of a journal to what it was, however far the landing had come.
//!
//! Each path is looked at first. If one is neither what it was nor what it became, somebody else has changed it, and nothing is touched,
//! unless the caller insists: what others made of it since is then lost.

use std::{ops::ControlFlow, path::Path};

use super::{
    LandingError, PATHS_SHOWN, Recovered, Undone, host,
    journal::{Journal, JournalStep, State, copy_name},
    land::{Checkpoint, Halt, checkpoint, journal_error},
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
    /// Nothing at all is touched.
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
        conflicts(&target, &journal, |step, look| is(look, step.new.as_ref()) || step.new.is_none() && is_folder(look, step.old.as_ref()))?;
    }
    journal.enter(State::Undoing, folder).map_err(journal_error(folder))?;
    bring_back(&mut journal, folder, strangers, crash)
}

/// Puts right what a crash interrupted: a landing or an undo that did not come to its end is taken back to before the landing.
///
/// # Errors
/// A path was changed by somebody else in between and is to be kept; nothing is then touched.
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

fn conflicts(target: &Beneath, journal: &Journal, fits: impl Fn(&JournalStep, &Look) -> bool) -> Result<(), LandingError> {
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

/// Brings every path back to its old shape; it may be called again after being interrupted anywhere.
pub(super) fn bring_back(journal: &mut Journal, folder: &Path, strangers: Strangers, crash: Checkpoint<'_>) -> Result<Undone, Halt> {
    let target_path = journal.target();
    let target = Beneath::open(&target_path).map_err(top("open", &target_path))?;
    if strangers == Strangers::Kept {
        conflicts(&target, journal, |step, look| {
            // Where the kind changes, the old one goes before the new one comes. Below a folder that is still to come, nothing is.
            let between = matches!(look, Look::Absent | Look::BehindFile);
            is(look, step.old.as_ref()) || is(look, step.new.as_ref()) || between
        })?;
    }
    checkpoint(crash)?;
    remove_stage(&target, &journal.stage)?;
    checkpoint(crash)?;
    target.make_folder(&journal.stage, 0o700).map_err(host("make", &target, &journal.stage))?;
    let copies = Beneath::open(folder).map_err(|error| journal_error(folder)(error.into()))?;
    let mut undone = Undone::default();
    for step in journal.steps.iter().rev() {
        let Look::Found(found) = target.look(&step.path).map_err(host("read", &target, &step.path))? else { continue };
        if step.old.as_ref().is_some_and(|old| old.kind == found.kind) {
            continue;
        }
        checkpoint(crash)?;
        let failed = host("remove", &target, &step.path);
        let gone = match found.kind {
            EntryKind::Directory => target.remove_folder(&step.path).map_err(failed)?,
            EntryKind::File | EntryKind::Link => target.remove(&step.path).map(|()| true).map_err(failed)?,
        };
        if gone {
            undone.removed += 1;
        } else if step.old.is_some() {
            return Err(LandingError::Changed { path: target.host_path(&step.path) }.into());
        }
    }
    for (position, step) in journal.steps.iter().enumerate() {
        let Some(old) = &step.old else { continue };
        let look = target.look(&step.path).map_err(host("read", &target, &step.path))?;
        if matches!(&look, Look::Found(found) if found.same(old) && same_time(found, old)) {
            continue;
        }
        checkpoint(crash)?;
        let place = staged(&journal.stage, position);
        let failed = || host("bring back", &target, &step.path);
        match old.kind {
            EntryKind::Directory if is_folder(&look, Some(old)) => target.set_folder_mode(&step.path, old.mode).map_err(failed())?,
            EntryKind::Directory => {
                target.make_folder(&step.path, old.mode).map_err(failed())?;
                give_back(&target, &step.path, old).map_err(failed())?;
            }
            EntryKind::Link => target.make_link(&place, old.link_target.as_deref().unwrap_or_default()).map_err(failed())?,
            EntryKind::File => {
                let mut content = copies.read(&copy_name(position)).map_err(|error| journal_error(folder)(error.into()))?;
                target.make_file(&place, old.mode, &mut content).map_err(failed())?;
            }
        }
        if old.kind != EntryKind::Directory {
            give_back(&target, &place, old).map_err(failed())?;
            target.set_mtime(&place, old.mtime_seconds, old.mtime_nanoseconds).map_err(failed())?;
            checkpoint(crash)?;
            target.rename(&place, &step.path).map_err(failed())?;
        }
        undone.restored += 1;
    }
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
        if let Some(old @ Shape { kind: EntryKind::Directory, .. }) = &step.old {
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
