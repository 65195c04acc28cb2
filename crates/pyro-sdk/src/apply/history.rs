//! What went from the host into a workspace and back, written down: see `pyro_tree::Given` for what follows from it.
//!
//! ```text
//! state/workspaces/ID/apply/  lock
//!                             000001.given   what a push gave, a snapshot or a reset that matters for it
//!                             000001.ignores what Git ignores in what was pushed
//!                             000002/        what an apply replaced: its journal
//!                             000002.json    where it went
//!                             000002.given   what it left there
//! ```
//!
//! An apply takes a number with all three; undoing it removes them, so it is as if it had never been. An older Pyro wrote `.landed`, a
//! manifest, in place of the third.

use std::path::{Path, PathBuf};

use pyro_proto::error::ErrorKind;
use pyro_store::{CutOff, Dirs, FileLock, Unfinished, WorkspaceId, write_atomically};
use pyro_tree::{
    Event, Given, GivenChange, GivenEntry, IgnoreRules, Manifest, Recovered, Strangers, TreePath, Undone, holding, kept_at, recover,
};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::OPERATION;
use crate::{
    error::{Cause, Error, Result},
    workspace_path::path_text,
};

const FORMAT: u32 = 1;

/// Where an apply went.
#[derive(Debug, Serialize, Deserialize)]
struct Destination {
    format: u32,
    target: PathBuf,
}

/// The history of one workspace. Holding it keeps others away.
#[derive(Debug)]
pub(crate) struct History {
    folder: PathBuf,
    _lock: FileLock,
}

/// A note that can be taken back. Others wait until it is kept or taken back.
#[derive(Debug)]
pub(crate) struct Noted {
    history: History,
    number: u64,
}

impl Noted {
    /// Takes the note back.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn take_back(self) -> Result<()> {
        self.history.forget(self.number)
    }
}

/// Files of the host that were put back to what they were before an apply that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// The folder they are in.
    pub target: PathBuf,
    /// How many became again what they were.
    pub restored_count: u64,
    /// How many that were new were removed again.
    pub removed_count: u64,
    /// Those that somebody else has changed since, and that stay as they are; relative to the folder.
    pub kept: Vec<String>,
}

impl PutBack {
    pub(super) fn of(target: PathBuf, undone: Undone) -> Self {
        let kept = undone.kept.iter().map(|path| path_text(path.as_bytes())).collect();
        Self { target, restored_count: undone.restored, removed_count: undone.removed, kept }
    }
}

/// What has become of files that an apply was changing when it was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CutOffApply {
    /// They were put back.
    PutBack(PutBack),
    /// They cannot be: why, and what to do about it.
    Stuck(String),
}

impl History {
    /// Opens a workspace's history, unless another call has it.
    ///
    /// # Errors
    /// Another call is bringing changes to the host right now.
    pub(crate) fn open(dirs: &Dirs, id: &WorkspaceId, operation: &'static str, label: &str) -> Result<Self> {
        let folder = Self::folder(dirs, id)?;
        let Some(lock) = FileLock::try_acquire(&folder.join("lock"))? else {
            let cause = Cause::new("another call is applying its changes to files of the host right now");
            return Err(Error::workspace(operation, label, ErrorKind::Conflict, cause));
        };
        Ok(Self { folder, _lock: lock })
    }

    /// As [`History::open`], after others. Blocks: what they do on the host comes to its end.
    pub(crate) fn wait(dirs: &Dirs, id: &WorkspaceId) -> Result<Self> {
        let folder = Self::folder(dirs, id)?;
        let lock = FileLock::acquire(&folder.join("lock"))?;
        Ok(Self { folder, _lock: lock })
    }

    fn folder(dirs: &Dirs, id: &WorkspaceId) -> Result<PathBuf> {
        use std::os::unix::fs::DirBuilderExt as _;
        let folder = dirs.workspace(id).join("apply");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| Error::io("make the folder", &folder, error))?;
        Ok(folder)
    }

    /// Tells whether a workspace has a history.
    pub(crate) fn exists(dirs: &Dirs, id: &WorkspaceId) -> bool {
        dirs.workspace(id).join("apply").is_dir()
    }

    fn path(&self, number: u64, extension: &str) -> PathBuf {
        self.folder.join(format!("{number:06}{extension}"))
    }

    /// Returns the folder of an apply's journal.
    pub(super) fn journal(&self, number: u64) -> PathBuf {
        self.path(number, "")
    }

    /// Returns the numbers whose files have this extension, the oldest first.
    fn numbers(&self, extension: &str) -> Vec<u64> {
        let names = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut numbers: Vec<u64> = names.filter_map(|name| name.to_str()?.strip_suffix(extension)?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Returns the number of the newest apply that can be undone.
    pub(super) fn newest(&self) -> Option<u64> {
        self.numbers("").pop()
    }

    fn next(&self) -> u64 {
        [self.numbers(""), self.numbers(".given"), self.numbers(".landed")].concat().into_iter().max().map_or(1, |newest| newest + 1)
    }

    /// Returns where an apply went.
    pub(super) fn target(&self, number: u64) -> Option<PathBuf> {
        let text = std::fs::read(self.path(number, ".json")).ok()?;
        let destination: Destination = serde_json::from_slice(&text).ok()?;
        (destination.format == FORMAT).then_some(destination.target)
    }

    /// Remembers where an apply goes, before it begins; returns its number. The journal's folder comes first: what is written down of an apply
    /// counts only together with it, so one that is cut off here is forgotten by [`Self::recover`].
    pub(super) fn begin(&self, target: &Path) -> Result<u64> {
        let number = self.next();
        let journal = self.journal(number);
        std::fs::create_dir(&journal).map_err(|error| Error::io("make the folder", &journal, error))?;
        let destination = serde_json::to_vec(&Destination { format: FORMAT, target: target.to_owned() }).expect("plain fields serialise");
        write_atomically(&self.path(number, ".json"), &destination)?;
        Ok(number)
    }

    /// Writes down what an apply left on the host.
    pub(super) fn applied(&self, number: u64, target: &Path, change: GivenChange) -> Result<()> {
        let event = Event::Applied { target: target.to_owned(), change };
        Ok(event.store(&self.path(number, ".given"))?)
    }

    /// Writes down a push, and what Git ignores in a folder of the workspace since then.
    pub(super) fn pushed(&self, change: GivenChange, dest: Option<&TreePath>, ignore: Option<IgnoreRules>) -> Result<()> {
        let number = self.note(Event::Pushed(change))?;
        if let Some(ignore) = ignore {
            let place = self.path(number, ".ignores");
            let mut rules = IgnoreRules::load(&place)?.unwrap_or_default();
            rules.extend_at(dest, ignore);
            rules.store(&place)?;
        }
        Ok(())
    }

    /// Returns what Git ignores in a workspace that began with these rules.
    fn ignores(&self, mut rules: IgnoreRules) -> Result<IgnoreRules> {
        for (number, _) in holding(&self.events()?) {
            if let Some(pushed) = IgnoreRules::load(&self.path(number, ".ignores"))? {
                rules.extend_at(None, pushed);
            }
        }
        Ok(rules)
    }

    /// Writes down something else that happened. Pushes that follow each other become one.
    fn note(&self, event: Event) -> Result<u64> {
        let newest = self.next() - 1;
        let place = self.path(newest, ".given");
        if let Event::Pushed(later) = &event
            && let Some(Event::Pushed(mut earlier)) = Event::load(&place)?
        {
            earlier.extend(later);
            Event::Pushed(earlier).store(&place)?;
            return Ok(newest);
        }
        event.store(&self.path(newest + 1, ".given"))?;
        Ok(newest + 1)
    }

    /// Returns everything that happened, in order.
    pub(crate) fn events(&self) -> Result<Vec<(u64, Event)>> {
        let mut events = Vec::new();
        for number in self.numbers(".given") {
            if let Some(event) = Event::load(&self.path(number, ".given"))? {
                events.push((number, event));
            }
        }
        for number in self.numbers(".landed") {
            let (Some(target), Some(landed)) = (self.target(number), Manifest::load(&self.path(number, ".landed"))?) else { continue };
            let given = |entry: &pyro_tree::ManifestEntry| Some(GivenEntry { entry: entry.clone(), from: None });
            let entries = landed.iter().map(|(path, entry)| (path.clone(), given(entry))).collect();
            events.push((number, Event::Applied { target, change: GivenChange { root: None, entries } }));
        }
        events.sort_by_key(|(number, _)| *number);
        Ok(events)
    }

    /// Returns what the host last gave, seen from a folder of the host.
    pub(super) fn given(&self, dirs: &Dirs, id: &WorkspaceId, root: Option<&Path>, target: Option<&Path>) -> Result<Given> {
        Ok(Given::replay(&seed(dirs, id)?, root, &self.events()?, target))
    }

    /// Notes that a snapshot is about to be made; returns the note's number. Nothing has to be noted of a workspace that only has its seed.
    ///
    /// # Errors
    /// The note cannot be written.
    pub(crate) fn kept(dirs: &Dirs, id: &WorkspaceId, name: &str) -> Result<Option<u64>> {
        if !Self::exists(dirs, id) {
            return Ok(None);
        }
        let history = Self::wait(dirs, id)?;
        if history.events()?.is_empty() {
            return Ok(None);
        }
        history.note(Event::Kept { name: name.to_owned() }).map(Some)
    }

    /// Takes a note back: what it speaks of did not happen.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn take_back(dirs: &Dirs, id: &WorkspaceId, number: u64) -> Result<()> {
        Self::wait(dirs, id)?.forget(number)
    }

    /// Notes that the workspace is about to be put back to a snapshot, or to its beginning. Should it then stay as it is, whoever asked takes
    /// the note back; a note too many makes an apply offer what the host has, and one too few would make it take that away.
    ///
    /// # Errors
    /// The note cannot be written.
    pub(crate) fn reset(dirs: &Dirs, id: &WorkspaceId, snapshot: Option<&str>) -> Result<Option<Noted>> {
        if !Self::exists(dirs, id) {
            return Ok(None);
        }
        let history = Self::wait(dirs, id)?;
        let events = history.events()?;
        if events.is_empty() {
            return Ok(None);
        }
        let to = snapshot.map_or(0, |name| kept_at(&events, name));
        let number = history.note(Event::Reset { to })?;
        Ok(Some(Noted { history, number }))
    }

    /// Forgets an apply that was undone, or that never changed anything. The journal goes last: with it gone, nobody would look whether what
    /// is written down of the apply still holds.
    pub(super) fn forget(&self, number: u64) -> Result<()> {
        for extension in [".given", ".ignores", ".landed", ".json"] {
            pyro_store::remove_if_present(&self.path(number, extension))?;
        }
        let journal = self.journal(number);
        match std::fs::remove_dir_all(&journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &journal, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes files that were cut off while they were written. Nobody else writes here.
    fn sweep(&self) {
        let names = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for half in names.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".pyro-")) {
            // One that stays goes with the workspace.
            drop(std::fs::remove_file(half.path()));
        }
    }

    /// Puts right what was cut off: files of the host become again what they were before it. Goes on where one cannot be, and returns the
    /// first failure.
    pub(super) fn recover(&self, label: &str, strangers: Strangers) -> Result<Vec<PutBack>> {
        self.sweep();
        let (mut put_back, mut first) = (Vec::new(), Ok(()));
        for number in self.numbers("") {
            let target = self.target(number).unwrap_or_default();
            match recover(&self.journal(number), strangers) {
                Ok(Recovered::Landed) => {}
                Ok(Recovered::TakenBack(undone)) => {
                    self.forget(number)?;
                    put_back.push(PutBack::of(target, undone));
                }
                Ok(Recovered::Absent | Recovered::Undone) => self.forget(number)?,
                Err(error) if first.is_ok() => first = Err(cannot_put_right(label, &target, &error)),
                Err(_) => {}
            }
        }
        first.map(|()| put_back)
    }
}

fn cannot_put_right(label: &str, target: &Path, error: &pyro_tree::LandingError) -> Error {
    let text = format!("an apply to `{}` was cut off halfway, and the files cannot be put back", target.display());
    let lines = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let cause = Cause::new(text).because(lines.map(ToString::to_string).collect());
    crate::error::Problem::CutOff { workspace: label.to_owned(), kind: error.kind(), source: cause }.into()
}

/// Locks a target for one apply at a time, whichever workspace it comes from. A lock on the folder itself leaves nothing in it.
pub(super) fn lock_target(target: &Path, label: &str) -> Result<std::fs::File> {
    let failed = |source: std::io::Error| Error::io("open", target, source);
    let folder = std::fs::File::open(target).map_err(failed)?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let cause = Cause::new(format!("changes of another workspace are being applied to `{}` right now", target.display()));
            Err(Error::workspace(OPERATION, label, ErrorKind::Conflict, cause))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// Puts right what an apply of a workspace left half done, if it was cut off. Blocks.
///
/// # Errors
/// Another call is applying right now, or the host's files are no longer what the apply left; the error names the folder.
pub(crate) fn put_right(dirs: &Dirs, id: &WorkspaceId, label: &str) -> Result<Vec<PutBack>> {
    if !History::exists(dirs, id) {
        return Ok(Vec::new());
    }
    History::open(dirs, id, OPERATION, label)?.recover(label, Strangers::Kept)
}

/// Opens the history of a workspace that is about to be deleted and puts right what was cut off; `None` when there is none. Blocks.
///
/// # Errors
/// As [`put_right`]; when the deletion is forced, files that cannot be put right stay as they are, and that is told.
pub(crate) fn settle_for_delete(dirs: &Dirs, id: &WorkspaceId, label: &str, force: bool) -> Result<Option<(History, Vec<CutOffApply>)>> {
    if !History::exists(dirs, id) {
        return Ok(None);
    }
    let history = History::open(dirs, id, "delete", label)?;
    match history.recover(label, Strangers::Kept) {
        Ok(put_back) => {
            settled(dirs, id)?;
            Ok(Some((history, put_back.into_iter().map(CutOffApply::PutBack).collect())))
        }
        Err(error) if error.is_cut_off() && force => {
            settled(dirs, id)?;
            Ok(Some((history, vec![CutOffApply::Stuck(format!("files of the host stay half changed: {}", error.causes().join(": ")))])))
        }
        Err(error) => Err(error),
    }
}

/// Puts right what processes that are gone left half done, of any workspace; returns what was put back. What cannot be is left to whoever
/// applies or deletes next, and is not tried again by everybody. Blocks.
pub(crate) fn put_all_right(dirs: &Dirs) -> Result<Vec<CutOffApply>> {
    let mut put_back = Vec::new();
    for found in pyro_store::cut_off(dirs)?.iter().filter(|found| !found.stuck) {
        put_back.extend(settle(dirs, found)?);
    }
    Ok(put_back)
}

fn settle(dirs: &Dirs, found: &CutOff) -> Result<Vec<CutOffApply>> {
    match put_right(dirs, &found.workspace, found.workspace.as_str()) {
        Ok(put_back) => {
            found.settled()?;
            Ok(put_back.into_iter().map(CutOffApply::PutBack).collect())
        }
        // Somebody is at it.
        Err(error) if error.kind() == ErrorKind::Conflict && !error.is_cut_off() => Ok(Vec::new()),
        Err(error) => {
            // A disk that is not mounted may be so again, and looking for it costs nothing.
            if error.kind() != ErrorKind::NotFound {
                found.set_stuck()?;
            }
            Ok(vec![CutOffApply::Stuck(format!("{}; {}", error.causes().join(": "), error.hint()))])
        }
    }
}

/// Takes back notes on a workspace whose host files are right again.
pub(super) fn settled(dirs: &Dirs, id: &WorkspaceId) -> Result<()> {
    for found in pyro_store::cut_off(dirs)?.iter().filter(|found| found.workspace == *id) {
        found.settled()?;
    }
    Ok(())
}

/// Notes that an apply or its undo begins.
pub(super) fn announce(dirs: &Dirs, id: &WorkspaceId) -> Result<Unfinished> {
    Ok(Unfinished::applying(dirs, id)?)
}

/// Returns what the host last gave a workspace, seen from a folder of the host.
pub(crate) fn given(dirs: &Dirs, id: &WorkspaceId, root: Option<&Path>, target: Option<&Path>) -> Result<Given> {
    if History::exists(dirs, id) {
        return History::wait(dirs, id)?.given(dirs, id, root, target);
    }
    Ok(Given::replay(&seed(dirs, id)?, root, &[], target))
}

fn seed(dirs: &Dirs, id: &WorkspaceId) -> Result<Manifest> {
    Ok(Manifest::load(&dirs.seed_manifest(id))?.unwrap_or_default())
}

/// Returns what Git ignores in what the host gave a workspace.
pub(crate) fn ignores(dirs: &Dirs, id: &WorkspaceId) -> Result<IgnoreRules> {
    let seeded = IgnoreRules::load(&dirs.seed_ignores(id))?.unwrap_or_default();
    if History::exists(dirs, id) { History::wait(dirs, id)?.ignores(seeded) } else { Ok(seeded) }
}

/// Returns what the host last gave a workspace, seen from the folder that it came from.
pub(crate) fn given_by_home(dirs: &Dirs, id: &WorkspaceId, root: Option<&Path>) -> Result<Given> {
    let given = given(dirs, id, root, None)?;
    match given.root().map(Path::to_owned) {
        // What was applied to it counts, and which it is may follow from what was pushed.
        Some(home) => self::given(dirs, id, root, Some(&home)),
        None => Ok(given),
    }
}

/// Gives a fork the history of its origin, but for the applies' journals: what the host has is the same for both, and each undoes its own.
pub(crate) fn copy(dirs: &Dirs, from: &WorkspaceId, to: &WorkspaceId) -> Result<()> {
    if !History::exists(dirs, from) {
        return Ok(());
    }
    let (origin, fork) = (History::wait(dirs, from)?, History::wait(dirs, to)?);
    for (number, event) in origin.events()? {
        event.store(&fork.path(number, ".given"))?;
        if let Some(ignores) = IgnoreRules::load(&origin.path(number, ".ignores"))? {
            ignores.store(&fork.path(number, ".ignores"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apply_that_cannot_be_put_right_names_the_folder_of_the_host() {
        let home = tempfile::tempdir().unwrap();
        let (dirs, id) = (Dirs::under(home.path()), WorkspaceId::random());
        put_right(&dirs, &id, "w").unwrap();
        let history = History::open(&dirs, &id, OPERATION, "w").unwrap();
        let number = history.begin(home.path()).unwrap();
        std::fs::write(history.journal(number).join("journal.json"), "{").unwrap();
        drop(history);
        let error = put_right(&dirs, &id, "w").unwrap_err();
        let named = format!("an apply to `{}` was cut off halfway", home.path().display());
        assert!(error.causes().iter().any(|cause| cause.starts_with(&named)), "{:?}", error.causes());
    }

    #[test]
    fn an_apply_that_was_cut_off_while_it_was_written_down_or_forgotten_is_none() {
        let home = tempfile::tempdir().unwrap();
        let (dirs, id) = (Dirs::under(home.path()), WorkspaceId::random());
        let history = History::open(&dirs, &id, OPERATION, "w").unwrap();
        let change = || GivenChange { root: None, entries: std::collections::BTreeMap::new() };
        // It ended after what it would leave was written down, and before it had a journal.
        let number = history.begin(home.path()).unwrap();
        history.applied(number, home.path(), change()).unwrap();
        assert_eq!(history.recover("w", Strangers::Kept).unwrap(), []);
        assert_eq!(history.events().unwrap(), []);
        // A journal that cannot be removed stands for an end right before that.
        let number = history.begin(home.path()).unwrap();
        history.applied(number, home.path(), change()).unwrap();
        std::fs::remove_dir(history.journal(number)).unwrap();
        std::fs::write(history.journal(number), "").unwrap();
        assert!(history.forget(number).is_err());
        assert_eq!(history.events().unwrap(), []);
    }

    #[test]
    fn pushes_that_follow_each_other_become_one_and_numbers_go_on() {
        let home = tempfile::tempdir().unwrap();
        let (dirs, id) = (Dirs::under(home.path()), WorkspaceId::random());
        let history = History::open(&dirs, &id, OPERATION, "w").unwrap();
        let push = |name: &str| {
            let entries = [(pyro_tree::TreePath::try_from(name).unwrap(), None)].into_iter().collect();
            Event::Pushed(GivenChange { root: None, entries })
        };
        history.note(push("a")).unwrap();
        history.note(push("b")).unwrap();
        history.note(Event::Reset { to: 0 }).unwrap();
        history.note(push("c")).unwrap();
        let events = history.events().unwrap();
        let counts: Vec<_> = events.iter().map(|(number, event)| (*number, event.change().map(|change| change.entries.len()))).collect();
        assert_eq!(counts, [(1, Some(2)), (2, None), (3, Some(1))]);
        assert_eq!(history.begin(home.path()).unwrap(), 4);
    }

    #[test]
    fn what_an_older_pyro_landed_still_counts() {
        let home = tempfile::tempdir().unwrap();
        let (dirs, id) = (Dirs::under(home.path()), WorkspaceId::random());
        let history = History::open(&dirs, &id, OPERATION, "w").unwrap();
        let number = history.begin(home.path()).unwrap();
        let mut landed = Manifest::new();
        let path = pyro_tree::TreePath::try_from("a").unwrap();
        let kind = pyro_tree::EntryKind::Directory;
        let entry = pyro_tree::ManifestEntry { kind, mode: 0o755, size_bytes: 0, digest: None, link_target: None };
        landed.insert(path.clone(), entry.clone());
        landed.store(&history.path(number, ".landed")).unwrap();
        drop(history);
        let found = given(&dirs, &id, None, Some(home.path())).unwrap();
        assert_eq!(found.get(&path).map(|given| &given.entry), Some(&entry));
    }
}
