//! Makes a planned landing happen: copies, journal, staging, then nothing but renames.

use std::{collections::BTreeSet, io, ops::ControlFlow, path::Path};

use super::{
    LandingError, PATHS_SHOWN, Plan, Receipt, VerdictKind, host,
    journal::{FolderTime, Journal, JournalError, JournalStep, State, copy_name},
    plan::Step,
    restore, top,
};
use crate::{
    beneath::{Beneath, Look, Shape},
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

/// Lands a plan, all of it or nothing. `journal` is a folder that is made when it is missing and will hold what `undo` needs.
///
/// # Errors
/// There are conflicts and `force` is not set, or ones that cannot be forced; the host changed meanwhile; something cannot be written.
/// The host is then as it was.
pub fn land(plan: Plan<'_>, journal: &Path, force: bool) -> Result<Receipt, LandingError> {
    match land_observed(&plan, journal, force, &mut || ControlFlow::Continue(())) {
        Ok(receipt) => Ok(receipt),
        Err(Halt::Failed(error)) => Err(error),
        // Nobody breaks off here; if somebody did, it would be as after a crash.
        Err(Halt::Crashed) => Err(LandingError::NothingToUndo { path: journal.into() }),
    }
}

pub(super) fn land_observed(plan: &Plan<'_>, folder: &Path, force: bool, crash: Checkpoint<'_>) -> Result<Receipt, Halt> {
    let blocking = plan.files.iter().filter(|file| file.verdict == VerdictKind::Conflict && !(force && file.forceable));
    let paths: Vec<String> = blocking.map(|file| format!("`{}` {}", file.path, file.reason.as_deref().unwrap_or_default())).collect();
    if !paths.is_empty() {
        let count = paths.len();
        return Err(LandingError::Conflicts { count, paths: paths.into_iter().take(PATHS_SHOWN).collect() }.into());
    }
    let mut journal = prepare(plan, folder)?;
    let failed = match perform(plan, &journal, crash) {
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
    match restore::bring_back(&mut journal, folder, &mut || ControlFlow::Continue(())) {
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
fn prepare(plan: &Plan<'_>, folder: &Path) -> Result<Journal, LandingError> {
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

fn perform(plan: &Plan<'_>, journal: &Journal, crash: Checkpoint<'_>) -> Result<(), Halt> {
    let target = &plan.target;
    checkpoint(crash)?;
    target.make_folder(&journal.stage, 0o700).map_err(host("make", target, &journal.stage))?;
    for (position, step) in plan.steps.iter().enumerate() {
        checkpoint(crash)?;
        stage(target, &restore::staged(&journal.stage, position), step)?;
    }
    target.sync().map_err(top("sync", &plan.target_path))?;
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
            (EntryKind::Directory, None) => target.make_folder(&step.path, new.mode).map_err(host("make", target, &step.path))?,
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
    let same = match old.kind {
        // What a folder holds has been changed by this very landing.
        EntryKind::Directory | EntryKind::Link => {
            let look = target.look(&step.path).map_err(host("read", target, &step.path))?;
            matches!(look, Look::Found(found) if found.same_content(old))
        }
        EntryKind::File => {
            let status = target.status(&step.path).map_err(host("read", target, &step.path))?;
            status.is_some_and(|status| {
                let nanoseconds = i64::try_from(status.st_mtime_nsec);
                let size = u64::try_from(status.st_size);
                (status.st_mtime, nanoseconds, size) == (old.mtime_seconds, Ok(old.mtime_nanoseconds), Ok(old.size_bytes))
            })
        }
    };
    if same { Ok(()) } else { Err(changed()) }
}
