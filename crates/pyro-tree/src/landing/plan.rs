//! Works out what a difference means for the host; reads, never writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use super::{
    Hazard, LandingError, Plan, Verdict, VerdictKind, clash, hazards, host, is_git,
    repository::{EMBEDDED, Guard, IN_GIT, Repositories},
    top,
};
use rustix::fs::FileType;

use crate::{
    beneath::{Beneath, Look, Shape},
    diff::{Change, Content, Difference, Side},
    entry::EntryKind,
    files,
    path::TreePath,
};

/// One path to be changed.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) path: TreePath,
    pub(super) old: Option<Shape>,
    pub(super) new: Option<Shape>,
    /// What a new file holds.
    pub(super) content: Option<&'a Content>,
}

/// Works out what landing `differences` in `target` would do.
///
/// The host is compared with what the differences say was there before. What came from `elsewhere`, another place of the host than the
/// target, is no change of the target's own: it is a conflict unless it is there already.
///
/// # Errors
/// The target cannot be read.
pub fn plan<'a>(
    target: &Path,
    differences: &'a [Difference],
    elsewhere: &dyn Fn(&TreePath) -> Option<PathBuf>,
) -> Result<Plan<'a>, LandingError> {
    let target_path = std::fs::canonicalize(target).map_err(top("open", target))?;
    let beneath = Beneath::open(&target_path).map_err(top("open", target))?;
    let by_path: BTreeMap<&TreePath, &Difference> = differences.iter().map(|difference| (&difference.path, difference)).collect();
    let folds = clash::folds(&beneath).map_err(top("read", target))?;
    let clashes = if folds { clash::clashes(by_path.keys().copied()) } else { std::collections::HashMap::new() };
    let guard = guard(&beneath, &target_path, differences)?;
    let mut planner = Planner { target: &beneath, by_path: &by_path, files: Vec::new(), steps: BTreeMap::new() };
    for (path, difference) in &by_path {
        let judged = match clashes.get(path) {
            _ if is_git(path.as_bytes()) => Judged::left_out(IN_GIT),
            Some(other) => Judged::never(format!("differs from `{other}` in case only, which the host's file system takes for one")),
            None => planner.judge(difference)?,
        };
        let judged = match elsewhere(path) {
            Some(from) if judged.step.is_some() => judged.conflict(format!("came from `{}`, not from here", from.display())),
            Some(_) | None => judged,
        };
        let refused = difference.after.is_some() && judged.verdict != VerdictKind::AlreadyThere && guard.refuses(path);
        let judged = if refused { Judged::left_out(EMBEDDED) } else { judged };
        planner.take(difference, judged);
    }
    planner.parents()?;
    let Planner { files, steps, .. } = planner;
    let hazards: Vec<Hazard> = hazards::hazards(differences);
    let steps = steps.into_values().collect();
    Ok(Plan { files, hazards, target: beneath, target_path, steps })
}

/// Finds out which folders would be repositories if all differences were landed.
fn guard(target: &Beneath, target_path: &Path, differences: &[Difference]) -> Result<Guard, LandingError> {
    let (mut after, mut there) = (Repositories::default(), Repositories::default());
    for difference in differences.iter().filter(|difference| difference.after.is_some()) {
        after.add(&difference.path);
        // Folders that nobody mentioned are made on the way.
        difference.path.ancestors().for_each(|parent| after.add(&parent));
    }
    // A file that goes is not there any more; of a folder something may stay.
    let goes = |difference: &&Difference| {
        difference.after.is_none() && difference.before.as_ref().is_some_and(|before| before.kind != EntryKind::Directory)
    };
    let gone: BTreeSet<&TreePath> = differences.iter().filter(goes).map(|difference| &difference.path).collect();
    for folder in after.suspects() {
        let found = match &folder {
            None => true,
            Some(path) => target
                .status(path)
                .map_err(host("read", target, path))?
                .is_some_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory),
        };
        if !found {
            continue;
        }
        let names = target.names(folder.as_ref()).map_err(|source| match &folder {
            Some(path) => host("read", target, path)(source),
            None => top("read", target_path)(source),
        })?;
        for name in names {
            let path = match &folder {
                Some(folder) => folder.join(&name),
                None => TreePath::try_from(name.as_slice()),
            };
            // A name that is none in a tree is no marker either.
            let Ok(path) = path else { continue };
            there.add(&path);
            if !gone.contains(&path) {
                after.add(&path);
            }
        }
    }
    Ok(Guard::new(&after, &there))
}

/// A verdict, and what is to be done if it is not the last word.
struct Judged<'a> {
    verdict: VerdictKind,
    reason: Option<String>,
    step: Option<Step<'a>>,
}

impl<'a> Judged<'a> {
    /// A conflict that nothing forces.
    const fn never(reason: String) -> Self {
        Self { verdict: VerdictKind::Conflict, reason: Some(reason), step: None }
    }

    /// Something that does not land, and keeps nothing else from landing.
    fn left_out(reason: &str) -> Self {
        Self { verdict: VerdictKind::LeftOut, reason: Some(reason.to_owned()), step: None }
    }

    fn conflict(self, reason: String) -> Self {
        Self { verdict: VerdictKind::Conflict, reason: Some(reason), ..self }
    }

    const fn there() -> Self {
        Self { verdict: VerdictKind::AlreadyThere, reason: None, step: None }
    }

    fn of(reason: Option<&str>, step: Step<'a>) -> Self {
        let verdict = if reason.is_some() { VerdictKind::Conflict } else { VerdictKind::Clean };
        Self { verdict, reason: reason.map(str::to_owned), step: Some(step) }
    }
}

/// What a path was when the workspace began.
enum Base {
    Absent,
    Known(Shape),
    /// Its content was never read.
    Unknown,
}

struct Planner<'p, 'a> {
    target: &'p Beneath,
    by_path: &'p BTreeMap<&'a TreePath, &'a Difference>,
    files: Vec<Verdict>,
    steps: BTreeMap<TreePath, Step<'a>>,
}

/// Returns what the host gave.
fn base(difference: &Difference) -> io::Result<Base> {
    match &difference.before {
        None => Ok(Base::Absent),
        Some(Side { content: Content::TooLarge, .. }) => Ok(Base::Unknown),
        Some(side) => shape(side).map(Base::Known),
    }
}

impl<'a> Planner<'_, 'a> {
    fn take(&mut self, difference: &Difference, judged: Judged<'a>) {
        let change = match (&difference.before, &difference.after) {
            (None, _) => Change::Added,
            (Some(_), None) => Change::Deleted,
            (Some(before), Some(after)) if before.kind != after.kind => Change::TypeChanged,
            (Some(before), Some(after)) if before.content == after.content => Change::ModeChanged,
            (Some(_), Some(_)) => Change::Modified,
        };
        let forceable = judged.verdict == VerdictKind::Conflict && judged.step.is_some();
        let Judged { verdict, reason, step } = judged;
        self.files.push(Verdict { path: difference.path.clone(), change, verdict, reason, forceable });
        if let Some(step) = step {
            self.steps.insert(step.path.clone(), step);
        }
    }

    fn judge(&self, difference: &'a Difference) -> Result<Judged<'a>, LandingError> {
        let path = &difference.path;
        let after = match &difference.after {
            Some(Side { content: Content::TooLarge, .. }) => return Ok(Judged::never("its content was not read".to_owned())),
            Some(side) => Some((side, shape(side).map_err(host("read the new content of", self.target, path))?)),
            None => None,
        };
        let found = match self.target.look(path).map_err(host("read", self.target, path))? {
            Look::Found(found) => Some(found),
            Look::Absent => None,
            Look::BehindFile if after.is_none() => None,
            Look::BehindFile | Look::BehindLink if self.makes_way(path)? => None,
            Look::BehindFile => return Ok(Judged::never("lies below something that is no folder on the host".to_owned())),
            Look::BehindLink => return Ok(Judged::never("lies behind a link of the host".to_owned())),
            Look::Other => return Ok(Judged::never("is a device, FIFO or socket on the host".to_owned())),
        };
        let base = base(difference).map_err(host("read the old content of", self.target, path))?;
        let step = |old: Option<Shape>, new: Option<Shape>| {
            let content = new.as_ref().and(difference.after.as_ref()).map(|side| &side.content);
            Step { path: path.clone(), old, new, content }
        };
        let Some(found) = found else {
            let Some((_, new)) = after else { return Ok(Judged::there()) };
            let reason = (!matches!(base, Base::Absent)).then_some("was deleted on the host");
            return Ok(Judged::of(reason, step(None, Some(new))));
        };
        // A mode the workspace did not touch stays what it is on the host.
        let same_mode =
            matches!((&difference.before, &difference.after), (Some(before), Some(after)) if before.mode & 0o777 == after.mode & 0o777);
        let unchanged = match &base {
            Base::Known(base) => found.same_content(base) && (same_mode || found.mode == base.mode || found.kind == EntryKind::Link),
            Base::Absent | Base::Unknown => false,
        };
        let reason = match &base {
            _ if unchanged => None,
            Base::Absent => Some("exists on the host and was not in the seed"),
            Base::Unknown => Some("its old content was not read, so the host's cannot be compared with it"),
            Base::Known(_) => Some("was changed on the host"),
        };
        let Some((_, mut new)) = after else {
            if found.kind == EntryKind::Directory && !matches!(&base, Base::Known(base) if base.kind == EntryKind::Directory) {
                return Ok(Judged::never("is a folder on the host".to_owned()));
            }
            // A folder goes only if nothing is left in it, so its mode is no reason to keep it.
            let reason = reason.filter(|_| found.kind != EntryKind::Directory);
            return Ok(Judged::of(reason, step(Some(found), None)));
        };
        if same_mode || (difference.before.is_none() && new.kind == EntryKind::Directory) {
            new.mode = if new.kind == found.kind { found.mode } else { new.mode };
        }
        if found.same(&new) {
            return Ok(Judged::there());
        }
        if found.kind == EntryKind::Directory
            && new.kind != EntryKind::Directory
            && let Some(name) = self.unknown_name(path)?
        {
            return Ok(Judged::never(format!("is a folder on the host that holds `{name}`, which would be lost")));
        }
        Ok(Judged::of(reason, step(Some(found), Some(new))))
    }

    /// Returns whether what is no folder above `path` goes with this landing, or is what the landing puts in the place of all below it.
    fn makes_way(&self, path: &TreePath) -> Result<bool, LandingError> {
        // The outermost is in the way, whatever lies behind it.
        for above in path.ancestors() {
            match self.target.look(&above).map_err(host("read", self.target, &above))? {
                Look::Found(found) if found.kind == EntryKind::Directory => {}
                Look::Found(found) => {
                    let Some(difference) = self.by_path.get(&above) else { return Ok(false) };
                    let goes = difference.after.as_ref().is_none_or(|after| after.kind == EntryKind::Directory);
                    let removes = self.by_path.get(path).is_some_and(|difference| difference.after.is_none());
                    let is_there = || {
                        let after = difference.after.as_ref().map(shape).transpose();
                        after.map(|after| after.is_some_and(|after| found.same_content(&after))).map_err(host("read", self.target, &above))
                    };
                    return Ok(goes || removes && is_there()?);
                }
                Look::Absent | Look::BehindLink | Look::BehindFile | Look::Other => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Returns a name in a folder of the host that this landing does not remove.
    fn unknown_name(&self, path: &TreePath) -> Result<Option<TreePath>, LandingError> {
        let mut pending = vec![path.clone()];
        while let Some(folder) = pending.pop() {
            for name in self.target.names(Some(&folder)).map_err(host("read", self.target, &folder))? {
                let Ok(child) = folder.join(&name) else { return Ok(Some(folder)) };
                match self.by_path.get(&child) {
                    // It does not go with this landing.
                    _ if is_git(child.as_bytes()) => return Ok(Some(child)),
                    Some(Difference { before: Some(before), after: None, .. }) if before.kind == EntryKind::Directory => {
                        pending.push(child)
                    }
                    Some(Difference { after: None, .. }) => {}
                    _ => return Ok(Some(child)),
                }
            }
        }
        Ok(None)
    }

    /// Adds the folders that what is written needs and nobody mentioned.
    fn parents(&mut self) -> Result<(), LandingError> {
        let written = self.steps.values().filter(|step| step.new.is_some());
        let wanted: BTreeSet<TreePath> = written.flat_map(|step| step.path.ancestors().collect::<Vec<_>>()).collect();
        for path in wanted {
            if self.steps.contains_key(&path) || !matches!(self.target.look(&path).map_err(host("read", self.target, &path))?, Look::Absent)
            {
                continue;
            }
            let new = Shape {
                kind: EntryKind::Directory,
                mode: 0o755,
                size_bytes: 0,
                mtime_seconds: 0,
                mtime_nanoseconds: 0,
                digest: None,
                link_target: None,
                owner: None,
            };
            self.steps.insert(path.clone(), Step { path, old: None, new: Some(new), content: None });
        }
        Ok(())
    }
}

/// Returns what one side of a difference looks like on the host.
fn shape(side: &Side) -> io::Result<Shape> {
    let (digest, size_bytes, link_target) = match &side.content {
        Content::None => (None, 0, None),
        Content::Link(target) => (None, 0, Some(target.clone())),
        Content::Bytes(bytes) => {
            let (digest, size) = files::digest(&mut bytes.as_slice())?;
            (Some(digest), size, None)
        }
        Content::Spooled(path) => {
            let (digest, size) = files::digest(&mut fs_err::File::open(path)?)?;
            (Some(digest), size, None)
        }
        Content::Digested(digest) => (Some(*digest), side.size_bytes, None),
        Content::TooLarge => return Err(io::Error::other("its content was not read")),
    };
    Ok(Shape {
        kind: side.kind,
        mode: if side.kind == EntryKind::Link { 0o777 } else { side.mode & 0o777 },
        size_bytes,
        mtime_seconds: 0,
        mtime_nanoseconds: 0,
        digest,
        link_target,
        owner: None,
    })
}
