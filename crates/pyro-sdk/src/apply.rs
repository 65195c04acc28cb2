//! Brings a workspace's changes home, into the folder it was seeded from: all of them or none, and back again if that was wrong.
//!
//! What changed is read from the disks, never asked of the guest. Every landing keeps what it replaced in a folder of its own, numbered,
//! below the workspace's; an undo takes the newest one back. A landing that was cut off is put right by the next call.
//!
//! ```text
//! state/workspaces/ID/apply/  lock
//!                             000001/        what the first landing replaced
//!                             000001.json    where it went
//!                             000001.landed  a manifest of what it left there: not a change of the host's own
//! ```

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use pyro_disk::{FileReader, Tree, TreeEntry};
use pyro_proto::error::ErrorKind;
use pyro_store::{Dirs, FileLock, WorkspaceId, write_atomically};
use pyro_tree::{
    Content, DiffLimits, Difference, EntryKind, Manifest, ManifestEntry, Plan, Receipt, TreePath, VerdictKind, land, plan, recover, undo,
};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    Observer, Pyro,
    client::{Reap, blocking},
    contract::{AppliedFile, AppliedHazard, Apply, ApplyAnswer},
    diff::{InMemory, ReadContent, differences},
    disk_view::{View, Wanted},
    error::{Cause, Error, Problem, Result},
    workspace_path::path_text,
};

/// Content that is held in memory; what is beyond goes to a file until it has landed.
const HELD_MAX_BYTES: u64 = 64 << 20;
/// Most conflicts an error names.
const NAMED_MAX: usize = 20;
const FORMAT: u32 = 1;
/// How the folders begin that hold what is beyond.
const SPOOL_PREFIX: &str = "spool-";
/// Age from which one that nobody holds is taken for left behind.
const SPOOL_AGE: Duration = Duration::from_secs(3600);
const OPERATION: &str = "bring home the changes of";

/// Where a landing went.
#[derive(Debug, Serialize, Deserialize)]
struct Destination {
    format: u32,
    target: PathBuf,
}

/// The landings of one workspace. Holding it keeps others away.
#[derive(Debug)]
struct Landings {
    folder: PathBuf,
    _lock: FileLock,
}

impl Landings {
    fn open(dirs: &Dirs, id: &WorkspaceId, label: &str) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let folder = dirs.workspace(id).join("apply");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| Error::io("make the folder", &folder, error))?;
        let Some(lock) = FileLock::try_acquire(&folder.join("lock"))? else {
            let cause = Cause::new("another call brings them home right now");
            return Err(Error::workspace(OPERATION, label, ErrorKind::Conflict, cause));
        };
        Ok(Self { folder, _lock: lock })
    }

    /// Puts right what was cut off; goes on where one cannot be, and returns the first failure.
    fn recover(&self, label: &str) -> Result<()> {
        let mut first = Ok(());
        for number in self.numbers() {
            let Err(error) = recover(&self.journal(number)) else { continue };
            let target = self.target(number).unwrap_or_default();
            let gone = error.kind() == ErrorKind::NotFound && !target.try_exists().unwrap_or(true);
            // A folder that is not there any more is nothing that could be half done.
            if !gone && first.is_ok() {
                let kind = error.kind();
                let cause =
                    Cause::new(format!("changes brought to `{}` were cut off half done and cannot be taken back", target.display()));
                let lines = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                let cause = cause.because(lines.map(ToString::to_string).collect());
                first = Err(Error::workspace("put right the files of", label, kind, cause));
            }
        }
        first
    }

    /// Returns the numbers of what can be taken back, the newest first.
    fn numbers(&self) -> Vec<u64> {
        let names = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut numbers: Vec<u64> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }

    fn journal(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:06}"))
    }

    fn destination(&self, number: u64) -> PathBuf {
        self.journal(number).with_extension("json")
    }

    fn landed(&self, number: u64) -> PathBuf {
        self.journal(number).with_extension("landed")
    }

    fn target(&self, number: u64) -> Option<PathBuf> {
        let text = std::fs::read(self.destination(number)).ok()?;
        let destination: Destination = serde_json::from_slice(&text).ok()?;
        (destination.format == FORMAT).then_some(destination.target)
    }

    /// Returns what is known of the files at a target: as they were seeded, or as the last landing there left them.
    fn base(&self, target: &Path, seeded: Option<Manifest>) -> Result<Option<Manifest>> {
        let Some(newest) = self.numbers().into_iter().find(|&number| self.target(number).is_some_and(|found| found == target)) else {
            return Ok(seeded);
        };
        let mut base = seeded.unwrap_or_default();
        if let Some(landed) = Manifest::load(&self.landed(newest))? {
            landed.iter().for_each(|(path, entry)| base.insert(path.clone(), entry.clone()));
        }
        Ok(Some(base))
    }

    /// Remembers where a landing goes, before it begins.
    fn announce(&self, number: u64, target: &Path) -> Result<()> {
        let destination = serde_json::to_vec(&Destination { format: FORMAT, target: target.to_owned() }).expect("plain fields serialise");
        let path = self.destination(number);
        Ok(write_atomically(&path, &destination)?)
    }

    fn forget(&self, number: u64) -> Result<()> {
        let journal = self.journal(number);
        match std::fs::remove_dir_all(&journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &journal, error)),
            Ok(()) | Err(_) => {}
        }
        for path in [self.landed(number), self.destination(number)] {
            pyro_store::remove_if_present(&path)?;
        }
        Ok(())
    }
}

/// Takes back landings of a workspace that were cut off: what it kept of the host's files goes with it. Blocks.
///
/// # Errors
/// Somebody is bringing changes home right now, or the host's files are no longer what the landing left; the error names the folder.
pub(crate) fn recover_landings(dirs: &Dirs, id: &WorkspaceId) -> Result<()> {
    if !dirs.workspace(id).join("apply").exists() {
        return Ok(());
    }
    let label = id.to_string();
    Landings::open(dirs, id, &label)?.recover(&label)
}

/// A folder for content that does not fit into memory. Its lock says that somebody needs it.
struct SpoolFolder {
    folder: tempfile::TempDir,
    _lock: std::fs::File,
}

impl SpoolFolder {
    /// Makes one, and removes those whose calls were killed.
    fn make(state: &Path) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        sweep_spools(state);
        let make = || -> std::io::Result<Self> {
            let private = std::fs::Permissions::from_mode(0o700);
            let folder = tempfile::Builder::new().prefix(SPOOL_PREFIX).permissions(private).tempdir_in(state)?;
            let lock = std::fs::File::open(folder.path())?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            Ok(Self { folder, _lock: lock })
        };
        make().map_err(|error| Error::io("make a folder in", state, error))
    }
}

/// Removes what calls that were killed left. What cannot be removed now is there for the next call.
fn sweep_spools(state: &Path) {
    for entry in std::fs::read_dir(state).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(SPOOL_PREFIX.as_bytes()) {
            continue;
        }
        let Ok(status) = entry.metadata() else { continue };
        let old = status.modified().ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age > SPOOL_AGE);
        // A call that is at work holds the lock, however long it takes.
        let idle =
            || std::fs::File::open(entry.path()).is_ok_and(|folder| flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok());
        if status.is_dir() && old && idle() {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Holds content in memory, or in a file below a folder that goes with the call.
struct Spool {
    /// Without one, what does not fit into memory is known by its digest.
    folder: Option<PathBuf>,
    count: u64,
    left: u64,
    label: String,
    data_max: u64,
    /// Bytes that may still be read, holes counted: those are hashed, too.
    unread: u64,
}

impl ReadContent for Spool {
    fn read(&mut self, tree: &Tree, entry: &TreeEntry) -> Result<Content> {
        let Some(unread) = self.unread.checked_sub(entry.size_bytes) else {
            let text =
                format!("its changed files hold more than its disk's {} bytes, holes and further names of a file counted", self.data_max);
            let cause = Cause::new(text).because(vec![format!("`{}` was the one that passed it", path_text(&entry.path))]);
            return Err(Error::workspace(OPERATION, &self.label, ErrorKind::LimitExceeded, cause));
        };
        self.unread = unread;
        if entry.size_bytes <= self.left {
            self.left -= entry.size_bytes;
            return Ok(Content::Bytes(tree.read_of(entry, 0, usize::try_from(entry.size_bytes).unwrap_or(usize::MAX))?));
        }
        let mut content = tree.reader_of(entry)?;
        let Some(folder) = &self.folder else {
            let digest = digest(&mut content).map_err(|error| Error::io("read", path_text(&entry.path), error))?;
            return Ok(Content::Digested(digest));
        };
        self.count += 1;
        let path = folder.join(self.count.to_string());
        spool(&mut content, &path).map_err(|error| Error::io("write", &path, error))?;
        Ok(Content::Spooled(path))
    }
}

/// Copies a file, and its holes as holes.
fn spool(content: &mut FileReader<'_>, path: &Path) -> std::io::Result<()> {
    use std::{io::Read as _, os::unix::fs::FileExt as _};
    let file = std::fs::File::create_new(path)?;
    let (mut offset, mut buffer) = (0, vec![0; 128 << 10]);
    loop {
        let hole = content.hole_bytes();
        if hole > 0 {
            content.skip(hole);
            offset += hole;
            continue;
        }
        let count = content.read(&mut buffer)?;
        if count == 0 {
            return file.set_len(offset);
        }
        file.write_all_at(&buffer[..count], offset)?;
        offset += count as u64;
    }
}

impl Pyro {
    /// Brings a workspace's changes home, says what that would mean, or takes the last time back.
    ///
    /// Dropping the future lets a landing that has begun go on to its end.
    ///
    /// # Errors
    /// Files were changed on the host, too, and the request does not insist; nothing is changed then. Or the workspace has no seed and
    /// the request names no folder, or something cannot be read or written.
    pub async fn apply(&self, request: Apply, _observer: &Observer) -> Result<ApplyAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let (dirs, id, label) = (self.dirs().clone(), record.id.clone(), workspace.label().to_owned());
        if request.undo {
            let (target, undone) = blocking(move || take_back(&dirs, &id, &label)).await.map_err(|error| error.about(workspace.label()))?;
            let target = target.display().to_string();
            workspace.remember("apply_undo", json!({ "target": target })).await?;
            return Ok(ApplyAnswer {
                workspace_id: record.id.to_string(),
                target,
                applied: false,
                undone: true,
                written_count: undone.restored,
                removed_count: undone.removed,
                files: Vec::new(),
                hazards: Vec::new(),
            });
        }
        let target = match (request.to, &record.seed) {
            (Some(folder), _) => std::path::absolute(&folder).map_err(|error| Error::io("find", &folder, error))?,
            (None, Some(seed)) if seed.origin_kind != "archive" => PathBuf::from(&seed.path),
            (None, _) => return Err(Error::from(Problem::NoSeed { workspace: workspace.label().to_owned() }).about(workspace.label())),
        };
        // A dry run needs no bytes, only what they are.
        let spool = if request.dry_run { None } else { Some(SpoolFolder::make(&self.dirs().state)?) };
        let folder = spool.as_ref().map(|spool| spool.folder.path().to_owned());
        let (data_max, reader) = (record.disk_gib.saturating_mul(1 << 30), label.clone());
        let read = move |view: View| {
            let mut before = InMemory::new(DiffLimits::default(), HELD_MAX_BYTES);
            let mut after = Spool { folder, count: 0, left: HELD_MAX_BYTES, label: reader, data_max, unread: data_max };
            differences(&view, &mut before, &mut after)
        };
        let differences = workspace.view(OPERATION, Wanted::Against(None), read).await?;
        let (dry_run, force, id) = (request.dry_run, request.force, record.id.clone());
        let landing = move || {
            let answer = bring_home(&dirs, &id, &label, &target, &differences, dry_run, force);
            drop(spool);
            answer
        };
        let answer = blocking(landing).await.map_err(|error| error.about(workspace.label()))?;
        if answer.applied {
            workspace.remember("apply", json!({ "target": answer.target, "files": answer.files.len() })).await?;
            let id = record.id.clone();
            self.store(move |_, registry| Ok(registry.touch_workspace(&id)?)).await?;
        }
        Ok(answer)
    }
}

/// Locks a target for one landing at a time, whichever workspace it comes from. A lock on the folder itself leaves nothing in it.
fn lock_target(target: &Path, label: &str) -> Result<std::fs::File> {
    let failed = |source: std::io::Error| Error::io("open", target, source);
    let folder = std::fs::File::open(target).map_err(failed)?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let cause = Cause::new(format!("changes of another workspace are being brought to `{}` right now", target.display()));
            Err(Error::workspace(OPERATION, label, ErrorKind::Conflict, cause))
        }
        Err(error) => Err(failed(error.into())),
    }
}

fn take_back(dirs: &Dirs, id: &WorkspaceId, label: &str) -> Result<(PathBuf, pyro_tree::Undone)> {
    let landings = Landings::open(dirs, id, label)?;
    landings.recover(label)?;
    let Some(&newest) = landings.numbers().first() else { return Err(Problem::NothingToUndo { workspace: label.to_owned() }.into()) };
    let target = landings.target(newest).unwrap_or_default();
    let _alone = lock_target(&target, label)?;
    let undone = undo(&landings.journal(newest))?;
    landings.forget(newest)?;
    Ok((target, undone))
}

fn bring_home(
    dirs: &Dirs,
    id: &WorkspaceId,
    label: &str,
    target: &Path,
    differences: &[Difference],
    dry_run: bool,
    force: bool,
) -> Result<ApplyAnswer> {
    let landings = Landings::open(dirs, id, label)?;
    landings.recover(label)?;
    let _alone = lock_target(target, label)?;
    let base = landings.base(target, Manifest::load(&dirs.seed_manifest(id))?)?;
    let plan = plan(target, differences, base.as_ref())?;
    let (files, hazards) = (files(&plan), hazards(&plan));
    let conflicts: Vec<String> = plan
        .files
        .iter()
        .filter(|file| file.verdict == VerdictKind::Conflict && !(force && file.forceable))
        .map(|file| format!("{}: {}", file.path, file.reason.as_deref().unwrap_or("changed on the host")))
        .collect();
    let mut answer = ApplyAnswer {
        workspace_id: id.to_string(),
        target: target.display().to_string(),
        applied: false,
        undone: false,
        written_count: 0,
        removed_count: 0,
        files,
        hazards,
    };
    if dry_run {
        return Ok(answer);
    }
    if !conflicts.is_empty() {
        return Err(conflict(label, target, conflicts));
    }
    if plan.files.iter().all(|file| matches!(file.verdict, VerdictKind::AlreadyThere | VerdictKind::LeftOut)) {
        return Ok(answer);
    }
    let left_out = paths(&plan, |verdict| verdict == VerdictKind::LeftOut);
    let number = landings.numbers().first().map_or(1, |newest| newest + 1);
    landings.announce(number, target)?;
    let landed: Result<Receipt> = land(plan, &landings.journal(number), force).map_err(Into::into);
    let receipt = match landed {
        Ok(receipt) => receipt,
        Err(error) => {
            // Nothing was changed; a journal that says otherwise stays for the next call to put right.
            if !landings.journal(number).exists() {
                drop(landings.forget(number));
            }
            return Err(error);
        }
    };
    remember_landed(&landings, number, target, differences.iter().filter(|difference| !left_out.contains(&difference.path)))?;
    (answer.applied, answer.written_count, answer.removed_count) = (true, receipt.written, receipt.removed);
    Ok(answer)
}

/// Writes down what the host's files are now, so that the next time they are not taken for the host's own changes.
fn remember_landed<'d>(landings: &Landings, number: u64, target: &Path, differences: impl Iterator<Item = &'d Difference>) -> Result<()> {
    let earlier =
        landings.numbers().into_iter().find(|&found| found < number && landings.target(found).is_some_and(|found| found == target));
    let mut manifest = match earlier {
        Some(earlier) => Manifest::load(&landings.landed(earlier))?.unwrap_or_default(),
        None => Manifest::new(),
    };
    for difference in differences {
        let Some(side) = &difference.after else { continue };
        let digest = match &side.content {
            Content::Bytes(bytes) => Some(Sha256::digest(bytes).into()),
            Content::Spooled(path) => {
                let digest = std::fs::File::open(path).and_then(|mut file| digest(&mut file));
                Some(digest.map_err(|error| Error::io("read", path, error))?)
            }
            Content::Digested(digest) => Some(*digest),
            Content::None | Content::TooLarge | Content::Link(_) => None,
        };
        let link_target = match &side.content {
            Content::Link(link) => Some(link.clone()),
            Content::None | Content::TooLarge | Content::Bytes(_) | Content::Digested(_) | Content::Spooled(_) => None,
        };
        let size_bytes = if side.kind == EntryKind::File { side.size_bytes } else { 0 };
        manifest.insert(difference.path.clone(), ManifestEntry { kind: side.kind, mode: side.mode, size_bytes, digest, link_target });
    }
    Ok(manifest.store(&landings.landed(number))?)
}

fn digest(content: &mut dyn std::io::Read) -> std::io::Result<[u8; 32]> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 128 << 10]);
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
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

fn conflict(label: &str, target: &Path, mut conflicts: Vec<String>) -> Error {
    let count = conflicts.len();
    let first = match count {
        1 => "one file was changed there, too".to_owned(),
        _ => format!("{count} files were changed there, too"),
    };
    if count > NAMED_MAX {
        conflicts.truncate(NAMED_MAX);
        conflicts.push(format!("and {} more", count - NAMED_MAX));
    }
    let source = Cause::new(first).because(conflicts);
    Problem::ApplyConflict { workspace: label.to_owned(), target: target.to_owned(), source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_that_was_left_goes_and_one_in_use_stays() {
        let state = tempfile::tempdir().unwrap();
        let (left, other) = (state.path().join("spool-left"), state.path().join("other"));
        std::fs::create_dir(&left).unwrap();
        std::fs::create_dir(&other).unwrap();
        let used = SpoolFolder::make(state.path()).unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * SPOOL_AGE;
        for folder in [&left, &other, &used.folder.path().to_owned()] {
            std::fs::File::open(folder).unwrap().set_modified(long_ago).unwrap();
        }
        sweep_spools(state.path());
        assert!(!left.exists() && other.exists() && used.folder.path().exists());
    }

    #[test]
    fn a_landing_that_cannot_be_put_right_names_the_folder_of_the_host() {
        let home = tempfile::tempdir().unwrap();
        let (dirs, id) = (Dirs::under(home.path()), WorkspaceId::random());
        recover_landings(&dirs, &id).unwrap();
        let landings = Landings::open(&dirs, &id, "w").unwrap();
        landings.announce(1, home.path()).unwrap();
        std::fs::create_dir(landings.journal(1)).unwrap();
        std::fs::write(landings.journal(1).join("journal.json"), "{").unwrap();
        drop(landings);
        let error = recover_landings(&dirs, &id).unwrap_err();
        let named = format!("changes brought to `{}` were cut off", home.path().display());
        assert!(error.causes().iter().any(|cause| cause.starts_with(&named)), "{:?}", error.causes());
    }
}
