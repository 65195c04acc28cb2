//! Applies a workspace's changes to files of the host: all of them or none, and back again if that was wrong.
//!
//! What changed is read from the disks, never asked of the guest, and compared with what the host last gave (`history`, `from_host`). Every
//! apply keeps what it replaced in a folder of its own, numbered, below the workspace's; an undo takes the newest one back. One that was
//! cut off is put right by the next client command, whichever that is.

mod from_host;
mod history;
mod pushed;
mod spool;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use pyro_store::{Dirs, Scratch, WorkspaceId, WorkspaceRecord};
use pyro_tree::{Change, Difference, Given, GivenChange, LandingError, Plan, Receipt, Strangers, TreePath, VerdictKind, land, plan, undo};
use serde_json::json;

pub use self::history::{CutOffApply, PutBack};
pub(crate) use self::{
    from_host::differences_from_host,
    history::{History, Noted, copy, given, given_by_home, ignores, put_all_right, settle_for_delete},
    pushed::Pushed,
};
use self::{
    history::{lock_target, put_right},
    spool::Spool,
};
use crate::{
    Observer, Pyro, Workspace,
    client::Reap,
    contract::{AppliedFile, AppliedHazard, Apply, ApplyAnswer},
    disk_view::{View, Wanted as WantedTrees},
    error::{Cause, Error, Problem, Result},
    ignored::Ignored,
    wanted::{Wanted, while_wanted},
    workspace_path::path_text,
};

/// Most conflicts an error names.
const NAMED_MAX: usize = 20;
const OPERATION: &str = "apply the changes of";
/// What an interruption leaves.
const UNCHANGED: &str = "the host's files are as they were";

/// Returns the folder of the host that a workspace was seeded from.
pub(crate) fn seed_folder(record: &WorkspaceRecord) -> Option<PathBuf> {
    let seed = record.seed.as_ref().filter(|seed| seed.origin_kind != "archive")?;
    // Pushes name it by its real path, too; one that is gone keeps the name it had.
    let path = PathBuf::from(&seed.path);
    Some(std::fs::canonicalize(&path).unwrap_or(path))
}

impl Pyro {
    /// Applies a workspace's changes, says what that would mean, or takes the last time back.
    ///
    /// Dropping the future, or calling it off, ends an apply that has changed nothing yet, and lets one that has come to its end; an undo
    /// always comes to its end.
    ///
    /// # Errors
    /// Files were changed on the host, too, and the request does not insist; nothing is changed then. Or `/workspace` came from no folder
    /// and the request names none, or something cannot be read or written.
    pub async fn apply(&self, request: Apply, observer: &Observer) -> Result<ApplyAnswer> {
        self.apply_where(request, |_| true, observer).await
    }

    /// As [`Pyro::apply`], only to a directory that `allows` accepts: which one that is follows from what was seeded, pushed and applied.
    ///
    /// # Errors
    /// As there, or [`Error::refused_target`].
    pub async fn apply_where(
        &self,
        request: Apply,
        allows: impl Fn(&Path) -> bool + Send + 'static,
        observer: &Observer,
    ) -> Result<ApplyAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let allows: Allows = Box::new(allows);
        if request.undo {
            return self.undo_apply(&workspace, &record, request.force, allows, observer).await;
        }
        let (dirs, id, label) = (self.dirs().clone(), record.id.clone(), workspace.label().to_owned());
        let to = request.to.map(|folder| std::fs::canonicalize(&folder).map_err(|error| Error::io("open", &folder, error))).transpose()?;
        let work = Work {
            seed_folder: seed_folder(&record),
            data_max: record.disk_gib.saturating_mul(1 << 30),
            ignored: Ignored::load(&dirs, &id, request.include_ignored)?,
            dirs,
            id,
            label,
            to,
            dry_run: request.dry_run,
            force: request.force,
            allows,
        };
        let compare = move |view: View, wanted: &Wanted| work.compare(&view, wanted);
        let compared = workspace.view_while_wanted(OPERATION, WantedTrees::Against(None), observer, compare).await?;
        let landing = while_wanted(observer, move |wanted| compared.land(wanted)).await;
        let answer = landing.map_err(|error| error.about(workspace.label()))?;
        if answer.applied {
            workspace.remember("apply", json!({ "target": answer.target, "files": answer.files.len() })).await?;
            let id = record.id.clone();
            self.store(move |_, registry| Ok(registry.touch_workspace(&id)?)).await?;
        }
        Ok(answer)
    }

    async fn undo_apply(
        &self,
        workspace: &Workspace,
        record: &WorkspaceRecord,
        force: bool,
        allows: Allows,
        observer: &Observer,
    ) -> Result<ApplyAnswer> {
        let (dirs, id, label) = (self.dirs().clone(), record.id.clone(), workspace.label().to_owned());
        let strangers = if force { Strangers::Overwritten } else { Strangers::Kept };
        let undone = while_wanted(observer, move |_| undo_last(&dirs, &id, &label, strangers, &allows)).await;
        let undone = undone.map_err(|error| error.about(workspace.label()))?;
        let target = undone.target.display().to_string();
        workspace.remember("apply_undo", json!({ "target": target })).await?;
        Ok(ApplyAnswer {
            workspace_id: record.id.to_string(),
            target,
            applied: false,
            undone: true,
            written_count: undone.restored_count,
            removed_count: undone.removed_count,
            files: undone.kept.into_iter().map(kept).collect(),
            hazards: Vec::new(),
            ignored_count: 0,
        })
    }
}

/// Tells of a file that an undo has left as somebody made it while the undo was on its way.
fn kept(path: String) -> AppliedFile {
    let reason = "was changed on the host meanwhile and stays as it is".to_owned();
    let (change, verdict) = (Change::Modified.as_str().to_owned(), VerdictKind::Conflict.as_str().to_owned());
    AppliedFile { path, change, verdict, reason: Some(reason) }
}

/// Tells whether a directory of the host may be changed.
type Allows = Box<dyn Fn(&Path) -> bool + Send>;

fn ensure_allowed(target: &Path, allows: &Allows) -> Result<()> {
    if allows(target) { Ok(()) } else { Err(Problem::TargetRefused { target: target.to_owned() }.into()) }
}

/// Takes the newest apply back; one that was cut off counts, and is taken back by being put right.
fn undo_last(dirs: &Dirs, id: &WorkspaceId, label: &str, strangers: Strangers, allows: &Allows) -> Result<PutBack> {
    let history = History::open(dirs, id, OPERATION, label)?;
    if let Some(target) = history.newest().and_then(|newest| history.target(newest)) {
        ensure_allowed(&target, allows)?;
    }
    let put_back = history.recover(label, strangers)?;
    history::settled(dirs, id)?;
    if let Some(put_back) = put_back.into_iter().next_back() {
        return Ok(put_back);
    }
    let Some(newest) = history.newest() else { return Err(Problem::NothingToUndo { workspace: label.to_owned() }.into()) };
    let target = history.target(newest).unwrap_or_default();
    let _alone = lock_target(&target, label)?;
    let _noted = history::announce(dirs, id)?;
    let undone = undo(&history.journal(newest), strangers).map_err(|error| undo_error(label, error))?;
    history.forget(newest)?;
    Ok(PutBack::of(target, undone))
}

fn undo_error(label: &str, error: LandingError) -> Error {
    let LandingError::Conflicts { count, paths } = error else { return error.into() };
    let first = match count {
        1 => "1 file has changed on the host since the apply".to_owned(),
        _ => format!("{count} files have changed on the host since the apply"),
    };
    let mut lines = paths;
    if count > lines.len() {
        lines.push(format!("and {} more", count - lines.len()));
    }
    Problem::UndoConflict { workspace: label.to_owned(), source: Cause::new(first).because(lines) }.into()
}

/// What an apply is about.
struct Work {
    dirs: Dirs,
    id: WorkspaceId,
    label: String,
    seed_folder: Option<PathBuf>,
    to: Option<PathBuf>,
    data_max: u64,
    ignored: Ignored,
    dry_run: bool,
    force: bool,
    allows: Allows,
}

/// What an apply would bring, and where.
struct Compared {
    work: Work,
    target: PathBuf,
    given: Given,
    differences: Vec<Difference>,
    /// Must outlive what was spooled into it.
    _folder: Option<Scratch>,
}

impl Work {
    /// Finds out what differs, while the workspace is held still.
    fn compare(mut self, view: &View, wanted: &Wanted) -> Result<Compared> {
        // What was cut off would be taken for what the host gave.
        put_right(&self.dirs, &self.id, &self.label)?;
        let root = self.seed_folder.as_deref();
        let given = match &self.to {
            Some(to) => given(&self.dirs, &self.id, root, Some(to))?,
            None => given_by_home(&self.dirs, &self.id, root)?,
        };
        let home = || given.root().map(Path::to_owned).ok_or_else(|| Problem::NoSeed { workspace: self.label.clone() });
        let target = self.to.clone().map_or_else(home, Ok)?;
        ensure_allowed(&target, &self.allows)?;
        if !target.try_exists().unwrap_or(true) {
            return Err(Problem::HomeGone { workspace: self.label.clone(), target }.into());
        }
        // A dry run needs no bytes, only what they are.
        let folder = if self.dry_run { None } else { Some(Scratch::make(&self.dirs)?) };
        let mut spool = Spool::new(folder, self.label.clone(), self.data_max, wanted);
        let differences = differences_from_host(view, &given, &mut self.ignored, &mut spool)?;
        Ok(Compared { _folder: spool.into_folder(), target, given, differences, work: self })
    }
}

impl Compared {
    /// Changes the host's files, or only says what would be changed.
    fn land(self, wanted: &Wanted) -> Result<ApplyAnswer> {
        let Self { work, target, given, differences, _folder } = &self;
        let history = History::open(&work.dirs, &work.id, OPERATION, &work.label)?;
        history.recover(&work.label, Strangers::Kept)?;
        history::settled(&work.dirs, &work.id)?;
        let _alone = lock_target(target, &work.label)?;
        // Whoever names a folder means it, wherever things came from.
        let elsewhere = |path: &TreePath| if work.to.is_some() { None } else { given.elsewhere(path) };
        let plan = plan(target, differences, &elsewhere)?;
        let mut answer = ApplyAnswer {
            workspace_id: work.id.to_string(),
            target: target.display().to_string(),
            applied: false,
            undone: false,
            written_count: 0,
            removed_count: 0,
            files: files(&plan),
            hazards: hazards(&plan),
            ignored_count: work.ignored.count(),
        };
        if work.dry_run {
            return Ok(answer);
        }
        let conflicts: Vec<String> = plan
            .files
            .iter()
            .filter(|file| file.verdict == VerdictKind::Conflict && !(work.force && file.forceable))
            .map(|file| format!("{}: {}", file.path, file.reason.as_deref().unwrap_or("changed on the host")))
            .collect();
        if !conflicts.is_empty() {
            return Err(conflict(work, target, conflicts));
        }
        if plan.files.iter().all(|file| matches!(file.verdict, VerdictKind::AlreadyThere | VerdictKind::LeftOut)) {
            return Ok(answer);
        }
        let receipt = self.change_host(&history, plan, wanted)?;
        (answer.applied, answer.written_count, answer.removed_count) = (true, receipt.written, receipt.removed);
        Ok(answer)
    }

    fn change_host(&self, history: &History, plan: Plan<'_>, wanted: &Wanted) -> Result<Receipt> {
        let Self { work, target, differences, .. } = self;
        let left_out = paths(&plan, |verdict| verdict == VerdictKind::LeftOut);
        let landed = differences.iter().filter(|difference| !left_out.contains(&difference.path));
        // Worked out before anything is changed: after that, only a name has to be written.
        let change = GivenChange { root: None, entries: from_host::received(target, landed)? };
        let _noted = history::announce(&work.dirs, &work.id)?;
        let number = history.begin(target)?;
        history.applied(number, target, change)?;
        let landed = land(plan, &history.journal(number), work.force, &|| wanted.is_wanted());
        landed.map_err(|error| {
            // Nothing was changed, unless a journal says otherwise: that stays for the next call to put right.
            if !history.journal(number).join("journal.json").exists() {
                drop(history.forget(number));
            }
            if matches!(error, LandingError::CalledOff) { Problem::Interrupted { outcome: UNCHANGED }.into() } else { Error::from(error) }
        })
    }
}

/// Returns the paths whose verdict is a certain one.
fn paths(plan: &Plan<'_>, wanted: impl Fn(VerdictKind) -> bool) -> HashSet<TreePath> {
    plan.files.iter().filter(|file| wanted(file.verdict)).map(|file| file.path.clone()).collect()
}

fn files(plan: &Plan<'_>) -> Vec<AppliedFile> {
    let file = |file: &pyro_tree::Verdict| AppliedFile {
        path: path_text(file.path.as_bytes()),
        change: file.change.as_str().to_owned(),
        verdict: file.verdict.as_str().to_owned(),
        reason: file.reason.clone(),
    };
    plan.files.iter().map(file).collect()
}

fn hazards(plan: &Plan<'_>) -> Vec<AppliedHazard> {
    let still = paths(plan, |verdict| matches!(verdict, VerdictKind::AlreadyThere | VerdictKind::LeftOut));
    plan.hazards
        .iter()
        .filter(|hazard| !still.contains(&hazard.path))
        .map(|hazard| AppliedHazard { path: path_text(hazard.path.as_bytes()), why: hazard.why.to_owned() })
        .collect()
}

fn conflict(work: &Work, target: &Path, mut conflicts: Vec<String>) -> Error {
    let count = conflicts.len();
    let first = match count {
        1 => "1 file is in conflict".to_owned(),
        _ => format!("{count} files are in conflict"),
    };
    if count > NAMED_MAX {
        conflicts.truncate(NAMED_MAX);
        conflicts.push(format!("and {} more", count - NAMED_MAX));
    }
    let source = Cause::new(first).because(conflicts);
    let (named, forced) = (work.to.is_some(), work.force);
    Problem::ApplyConflict { workspace: work.label.clone(), target: target.to_owned(), named, forced, source }.into()
}
