//! Makes a planned landing happen: copies, journal, staging, then nothing but renames.

use std::{collections::BTreeSet, io, ops::ControlFlow, path::Path};

use rustix::fs::Mode;

use super::{
    LandingError, PATHS_SHOWN, Plan, Receipt, VerdictKind, host,
    journal::{FolderTime, Journal, JournalError, JournalStep, State, copy_name},
    plan::Step,
    restore::{self, Strangers},
    top,
};
use crate::{
    beneath::{Beneath, Look, Owner, Shape},
    diff::Content,
    entry::EntryKind,
    files,
    path::TreePath,
};

/// Called before every change of the host; tests break off there as a crash would.
pub(super) type Checkpoint<'c> = &'c mut dyn FnMut() -> ControlFlow<()>;

/// Why a landing stopped.
pub(super) enum Halt {
    Failed(LandingError),
    Crashed,
}

impl From<LandingError> for Halt {
    fn from(error: LandingError) -> Self {
        Self::Failed(error)
    }
}

pub(super) fn checkpoint(checkpoint: Checkpoint<'_>) -> Result<(), Halt> {
    if checkpoint().is_break() { Err(Halt::Crashed) } else { Ok(()) }
}

pub(super) fn journal_error(path: &Path) -> impl Fn(JournalError) -> LandingError {
    let path = path.to_path_buf();
    move |source| LandingError::Journal { path: path.clone(), source }
}

/// Lands a plan, all of it or nothing. `journal` is a folder that is made when it is missing and will hold what `undo` needs. `is_wanted`
/// is asked until the first change of something that is there: before it a landing can be called off at no cost, and after it the end is
/// nearer than the beginning.
///
/// # Errors
/// There are conflicts and `force` is not set, or ones that cannot be forced; the host changed meanwhile; something cannot be written; it is
/// not wanted any more. The host is then as it was.
pub fn land(plan: Plan<'_>, journal: &Path, force: bool, is_wanted: &dyn Fn() -> bool) -> Result<Receipt, LandingError> {
    match land_observed(&plan, journal, force, is_wanted, &mut || ControlFlow::Continue(())) {
        Ok(receipt) => Ok(receipt),
        Err(Halt::Failed(error)) => Err(error),
        // Nobody breaks off here; if somebody did, it would be as after a crash.
        Err(Halt::Crashed) => Err(LandingError::NothingToUndo { path: journal.into() }),
    }
}

pub(super) fn land_observed(
    plan: &Plan<'_>,
    folder: &Path,
    force: bool,
    is_wanted: &dyn Fn() -> bool,
    crash: Checkpoint<'_>,
) -> Result<Receipt, Halt> {
    let blocking = plan.files.iter().filter(|file| file.verdict == VerdictKind::Conflict && !(force && file.forceable));
    let paths: Vec<String> = blocking.map(|file| format!("`{}` {}", file.path, file.reason.as_deref().unwrap_or_default())).collect();
    if !paths.is_empty() {
        let count = paths.len();
        return Err(LandingError::Conflicts { count, paths: paths.into_iter().take(PATHS_SHOWN).collect() }.into());
    }
    let mut journal = prepare(plan, folder, is_wanted).inspect_err(|error| {
        // Copies without a journal mean nothing; a journal that was there is another landing's.
        if matches!(error, LandingError::CalledOff) {
            drop(Journal::clear(folder));
        }
    })?;
    let failed = match perform(plan, &journal, is_wanted, crash) {
        Ok(()) => match journal.enter(State::Landed, folder) {
            Ok(()) => {
                // What is left is an empty folder, which `recover` removes if this fails.
                drop(restore::remove_stage(&plan.target, &journal.stage));
                return Ok(receipt(plan));
            }
            Err(error) => journal_error(folder)(error),
        },
        Err(Halt::Crashed) => return Err(Halt::Crashed),
        Err(Halt::Failed(error)) => error,
    };
    match restore::bring_back(&mut journal, folder, Strangers::Kept, &mut || ControlFlow::Continue(())) {
        Ok(_) => {
            drop(Journal::clear(folder));
            Err(failed.into())
        }
        Err(Halt::Failed(rollback)) => Err(LandingError::Stuck { source: failed.into(), rollback: rollback.into() }.into()),
        Err(Halt::Crashed) => Err(Halt::Crashed),
    }
}

fn receipt(plan: &Plan<'_>) -> Receipt {
    let mut receipt = Receipt::default();
    for step in &plan.steps {
        match &step.new {
            Some(new) => {
                receipt.written += 1;
                receipt.bytes_written += new.size_bytes;
            }
            None => receipt.removed += 1,
        }
    }
    let there = plan.files.iter().filter(|file| file.verdict == VerdictKind::AlreadyThere).count();
    receipt.already_there = u64::try_from(there).unwrap_or(u64::MAX);
    receipt
}

/// Copies what will be replaced and writes the journal.
fn prepare(plan: &Plan<'_>, folder: &Path, is_wanted: &dyn Fn() -> bool) -> Result<Journal, LandingError> {
    let failed = journal_error(folder);
    let io_failed = |error: io::Error| failed(error.into());
    fs_err::create_dir_all(folder).map_err(io_failed)?;
    if Journal::load(folder).map_err(&failed)?.is_some() {
        return Err(LandingError::JournalTaken { path: folder.into() });
    }
    Journal::clear(folder).map_err(io_failed)?;
    let copies = Beneath::open(folder).map_err(io_failed)?;
    let mut folders: BTreeSet<Option<TreePath>> = BTreeSet::from([None]);
    let mut steps = Vec::new();
    for (position, step) in plan.steps.iter().enumerate() {
        wanted(is_wanted)?;
        if let Some(old @ Shape { kind: EntryKind::File, .. }) = &step.old {
            let mut content = plan.target.read(&step.path).map_err(host("read", &plan.target, &step.path))?;
            let (digest, _) = copies.make_file(&copy_name(position), 0o600, &mut content).map_err(io_failed)?;
            if Some(digest) != old.digest {
                return Err(LandingError::Changed { path: plan.target.host_path(&step.path) });
            }
        }
        folders.insert(step.path.parent());
        steps.push(JournalStep { path: step.path.clone(), old: step.old.clone(), new: step.new.clone() });
    }
    let mut times = Vec::new();
    for path in folders {
        if let Some((seconds, nanoseconds)) = restore::folder_time(&plan.target, &plan.target_path, path.as_ref())? {
            times.push(FolderTime { path, seconds, nanoseconds });
        }
    }
    copies.sync().map_err(io_failed)?;
    let stage = format!(".pyro-landing-{}", files::unique_suffix().map_err(io_failed)?);
    let stage = TreePath::try_from(stage.as_str()).expect("a word and a number are a path");
    let journal = Journal::new(&plan.target_path, stage, steps, times);
    journal.store(folder).map_err(failed)?;
    Ok(journal)
}

fn wanted(is_wanted: &dyn Fn() -> bool) -> Result<(), LandingError> {
    if is_wanted() { Ok(()) } else { Err(LandingError::CalledOff) }
}

fn perform(plan: &Plan<'_>, journal: &Journal, is_wanted: &dyn Fn() -> bool, crash: Checkpoint<'_>) -> Result<(), Halt> {
    let target = &plan.target;
    checkpoint(crash)?;
    target.make_folder(&journal.stage, 0o700).map_err(host("make", target, &journal.stage))?;
    for (position, step) in plan.steps.iter().enumerate() {
        checkpoint(crash)?;
        wanted(is_wanted)?;
        let place = restore::staged(&journal.stage, position);
        stage(target, &place, step)?;
        if step.new.as_ref().is_some_and(|new| new.kind != EntryKind::Directory) {
            hand_over(target, &plan.target_path, &place, step)?;
        }
    }
    target.sync().map_err(top("sync", &plan.target_path))?;
    wanted(is_wanted)?;
    for step in plan.steps.iter().rev() {
        let goes = step.old.as_ref().filter(|old| step.new.as_ref().is_none_or(|new| new.kind != old.kind));
        let Some(old) = goes else { continue };
        checkpoint(crash)?;
        unchanged(target, step)?;
        let failed = host("remove", target, &step.path);
        if old.kind == EntryKind::Directory {
            // A folder that the host put something into stays, unless something else must take its place.
            let gone = target.remove_folder(&step.path).map_err(failed)?;
            if !gone && step.new.is_some() {
                return Err(LandingError::Changed { path: target.host_path(&step.path) }.into());
            }
        } else {
            target.remove(&step.path).map_err(failed)?;
        }
    }
    for (position, step) in plan.steps.iter().enumerate() {
        let Some(new) = &step.new else { continue };
        checkpoint(crash)?;
        let replaces = step.old.as_ref().filter(|old| old.kind == new.kind);
        match (new.kind, replaces) {
            (EntryKind::Directory, None) => {
                target.make_folder(&step.path, new.mode).map_err(host("make", target, &step.path))?;
                hand_over(target, &plan.target_path, &step.path, step)?;
            }
            (EntryKind::Directory, Some(_)) => {
                target.set_folder_mode(&step.path, new.mode).map_err(host("change the mode of", target, &step.path))?;
            }
            (EntryKind::File | EntryKind::Link, None) => {
                target.rename_new(&restore::staged(&journal.stage, position), &step.path).map_err(host("write", target, &step.path))?;
            }
            (EntryKind::File | EntryKind::Link, Some(_)) => {
                unchanged(target, step)?;
                target.rename(&restore::staged(&journal.stage, position), &step.path).map_err(host("write", target, &step.path))?;
            }
        }
    }
    checkpoint(crash)?;
    target.sync().map_err(top("sync", &plan.target_path))?;
    Ok(())
}

/// Gives what was made to whose it is: what replaces something to that one's owner, and what is new to whoever has the folder around it, if
/// this is root. Anybody else makes files of his own, in the group of a folder that passes its group on.
fn hand_over(target: &Beneath, target_path: &Path, place: &TreePath, step: &Step<'_>) -> Result<(), LandingError> {
    let failed = || host("change the owner of", target, &step.path);
    if let Some(owner) = step.old.as_ref().and_then(|old| old.owner) {
        return target.give_to(place, owner).map_err(failed());
    }
    // Folders that are still to be made will be given to the owner of what is around them, too.
    let mut parent = None;
    for above in step.path.ancestors() {
        match target.status(&above).map_err(failed())? {
            Some(status) => parent = Some(status),
            None => break,
        }
    }
    let parent = match parent {
        Some(parent) => parent,
        None => target.own_status().map_err(top("read", target_path))?,
    };
    let (around, user) = (Owner::of(&parent), rustix::process::geteuid());
    let passes_on = Mode::from_raw_mode(parent.st_mode).contains(Mode::SGID);
    match (user.is_root(), passes_on) {
        (true, _) => target.give_to(place, around).map_err(failed()),
        (false, true) => target.give_to(place, Owner { user: user.as_raw(), group: around.group }).map_err(failed()),
        (false, false) => Ok(()),
    }
}

/// Puts the content of a step beside its place.
fn stage(target: &Beneath, place: &TreePath, step: &Step<'_>) -> Result<(), LandingError> {
    let Some(new) = &step.new else { return Ok(()) };
    let failed = host("write", target, &step.path);
    let made = match (new.kind, step.content) {
        (EntryKind::Link, _) => return target.make_link(place, new.link_target.as_deref().unwrap_or_default()).map_err(failed),
        (EntryKind::File, Some(Content::Bytes(bytes))) => target.make_file(place, new.mode, &mut bytes.as_slice()),
        (EntryKind::File, Some(Content::Spooled(path))) => {
            fs_err::File::open(path).and_then(|mut file| target.make_file(place, new.mode, &mut file))
        }
        (EntryKind::File | EntryKind::Directory, _) => return Ok(()),
    };
    let (digest, _) = made.map_err(failed)?;
    if Some(digest) == new.digest { Ok(()) } else { Err(LandingError::Changed { path: target.host_path(&step.path) }) }
}

/// Checks that a path is still what it was when it was copied, by everything but its content.
fn unchanged(target: &Beneath, step: &Step<'_>) -> Result<(), LandingError> {
    let changed = || LandingError::Changed { path: target.host_path(&step.path) };
    let old = step.old.as_ref().ok_or_else(changed)?;
    if is_still(target, &step.path, old)? { Ok(()) } else { Err(changed()) }
}

/// Tells whether a path is still what it was when it was looked at, a file by everything but its content.
pub(super) fn is_still(target: &Beneath, path: &TreePath, seen: &Shape) -> Result<bool, LandingError> {
    Ok(match seen.kind {
        // What a folder holds is changed by the landing itself.
        EntryKind::Directory | EntryKind::Link => {
            let look = target.look(path).map_err(host("read", target, path))?;
            matches!(look, Look::Found(found) if found.same_content(seen))
        }
        EntryKind::File => {
            let status = target.status(path).map_err(host("read", target, path))?;
            status.is_some_and(|status| {
                let nanoseconds = i64::try_from(status.st_mtime_nsec);
                let size = u64::try_from(status.st_size);
                (status.st_mtime, nanoseconds, size) == (seen.mtime_seconds, Ok(seen.mtime_nanoseconds), Ok(seen.size_bytes))
            })
        }
    })
}
