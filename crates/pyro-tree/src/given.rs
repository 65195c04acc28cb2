//! What the host last gave a workspace, path by path: its seed, then what was pushed, then what was applied back to the host.
//!
//! A workspace's baseline never changes, but the host's files do, and some of them are pushed later. Whoever brings changes home must
//! compare with what the host has, which is what it gave last: a text that was pushed broken and is now again what the seed had is a
//! change, and one that was pushed and left alone is none.
//!
//! What happens is written down as numbered [`Event`]s. Putting a workspace back to a snapshot puts its files back, so it puts back what
//! they are compared with, too: [`Given::replay`] goes through the events and keeps those that hold.
//!
//! An event's file is one of records: see there.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    entry::EntryKind,
    manifest::{EntryRecord, Manifest, ManifestEntry},
    path::TreePath,
    records::{Records, RecordsError},
};

/// A path whose bytes are written as an array takes five characters each; a line may have two and a link's target.
const RECORDS: Records = Records { what: "note of what the host gave", format: 1, line_max_bytes: 96 * 1024 };

/// What the host gave at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenEntry {
    /// What it was.
    pub entry: ManifestEntry,
    /// The file of the host that it was; `None` when it came out of an archive.
    pub from: Option<PathBuf>,
}

/// What an event changes of what the host gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenChange {
    /// The folder that `/workspace` as a whole comes from, from now on; `Some(None)` is an archive.
    pub root: Option<Option<PathBuf>>,
    /// Paths and what was given there; `None` says that the host has nothing there.
    pub entries: BTreeMap<TreePath, Option<GivenEntry>>,
}

impl GivenChange {
    /// Makes it one with a change that came later.
    pub fn extend(&mut self, later: &Self) {
        for (path, given) in &later.entries {
            if !is_folder(given.as_ref()) {
                for below in below(&self.entries, path).cloned().collect::<Vec<_>>() {
                    self.entries.insert(below, None);
                }
            }
            self.entries.insert(path.clone(), given.clone());
        }
        if later.root.is_some() {
            self.root.clone_from(&later.root);
        }
    }
}

fn is_folder(given: Option<&GivenEntry>) -> bool {
    given.is_some_and(|given| given.entry.kind == EntryKind::Directory)
}

/// Returns the paths below a folder.
fn below<'a, V>(entries: &'a BTreeMap<TreePath, V>, folder: &'a TreePath) -> impl Iterator<Item = &'a TreePath> {
    // Names that go on where the folder's ends, `a-b` beside `a`, lie in between.
    let from = entries.range(folder.clone()..).map(|(path, _)| path);
    from.take_while(|path| path.as_bytes().starts_with(folder.as_bytes())).filter(|path| path.is_below(folder))
}

/// Something that changed what the host last gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Files of the host were copied into the workspace.
    Pushed(GivenChange),
    /// Files of the workspace were brought to this folder of the host.
    Applied {
        /// The folder.
        target: PathBuf,
        /// What it has now.
        change: GivenChange,
    },
    /// A snapshot was made.
    Kept {
        /// Its name.
        name: String,
    },
    /// The workspace was put back to where the event of this number left it; 0 is its beginning.
    Reset {
        /// The number of the snapshot's event.
        to: u64,
    },
}

/// What the host last gave, of everything.
#[derive(Debug, Clone, Default)]
pub struct Given {
    entries: BTreeMap<TreePath, GivenEntry>,
    touched: BTreeSet<TreePath>,
    root: Option<PathBuf>,
}

impl Given {
    /// Goes through what happened to a workspace, in the order of the numbers.
    ///
    /// `seed` is what it began with and `root` the folder that was, if one. `target` is the folder whose files are meant: what was applied
    /// to another one says nothing about it.
    #[must_use]
    pub fn replay(seed: &Manifest, root: Option<&Path>, events: &[(u64, Event)], target: Option<&Path>) -> Self {
        let mut given = Self { root: root.map(Path::to_owned), ..Self::default() };
        for (path, entry) in seed.iter() {
            let from = root.map(|root| root.join(path.as_path()));
            given.entries.insert(path.clone(), GivenEntry { entry: entry.clone(), from });
        }
        for (_, event) in holding(events) {
            match event {
                Event::Pushed(change) => given.take(change),
                Event::Applied { target: to, change } if target == Some(to) => given.take(change),
                Event::Applied { .. } | Event::Kept { .. } | Event::Reset { .. } => {}
            }
        }
        given
    }

    fn take(&mut self, change: &GivenChange) {
        if let Some(root) = &change.root {
            self.root.clone_from(root);
        }
        for (path, entry) in &change.entries {
            if !is_folder(entry.as_ref()) {
                // What was below a folder is gone with it.
                for below in below(&self.entries, path).cloned().collect::<Vec<_>>() {
                    self.entries.remove(&below);
                    self.touched.insert(below);
                }
            }
            self.touched.insert(path.clone());
            match entry {
                Some(entry) => self.entries.insert(path.clone(), entry.clone()),
                None => self.entries.remove(path),
            };
        }
    }

    /// Returns what the host last gave at a path.
    #[must_use]
    pub fn get(&self, path: &TreePath) -> Option<&GivenEntry> {
        self.entries.get(path)
    }

    /// Tells whether anything below a folder was given.
    #[must_use]
    pub fn is_above(&self, folder: &TreePath) -> bool {
        below(&self.entries, folder).next().is_some()
    }

    /// Returns every path that was given, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &TreePath> {
        self.entries.keys()
    }

    /// Returns the paths where the host gave something after the seed, or took it away.
    pub fn touched(&self) -> impl Iterator<Item = &TreePath> {
        self.touched.iter()
    }

    /// Returns the folder of the host that `/workspace` as a whole comes from.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Returns where a path came from, or the folder that it is new in, if that is another place of the host than where it lies below the
    /// root.
    #[must_use]
    pub fn elsewhere(&self, path: &TreePath) -> Option<PathBuf> {
        let root = self.root.as_deref()?;
        let from = match self.entries.get(path) {
            Some(given) => given.from.clone()?,
            None => {
                let ancestors: Vec<TreePath> = path.ancestors().collect();
                let (folder, given) = ancestors.iter().rev().find_map(|folder| Some((folder, self.entries.get(folder)?)))?;
                let below = &path.as_bytes()[folder.as_bytes().len() + 1..];
                given.from.as_ref()?.join(OsStr::from_bytes(below))
            }
        };
        (from != root.join(path.as_path())).then_some(from)
    }
}

/// Returns the pushes and applies that hold after all resets, with their numbers and in their order.
#[must_use]
pub fn holding(events: &[(u64, Event)]) -> Vec<(u64, &Event)> {
    let mut holding: Vec<(u64, &Event)> = Vec::new();
    let mut kept: BTreeMap<u64, Vec<(u64, &Event)>> = BTreeMap::new();
    for (number, event) in events {
        match event {
            Event::Pushed(_) | Event::Applied { .. } => holding.push((*number, event)),
            Event::Kept { .. } => drop(kept.insert(*number, holding.clone())),
            // A snapshot from before anything was pushed or applied has no event.
            Event::Reset { to } => holding = kept.get(to).cloned().unwrap_or_default(),
        }
    }
    holding
}

/// Returns the number of the event of the newest snapshot of this name; 0 when there is none.
#[must_use]
pub fn kept_at(events: &[(u64, Event)], name: &str) -> u64 {
    let of_name = |event: &Event| matches!(event, Event::Kept { name: found } if found == name);
    events.iter().rev().find(|(_, event)| of_name(event)).map_or(0, |(number, _)| *number)
}

/// A host's path, as text where it is UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum HostPath {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&PathBuf> for HostPath {
    fn from(path: &PathBuf) -> Self {
        path.to_str().map_or_else(|| Self::Bytes(path.as_os_str().as_bytes().to_vec()), |text| Self::Text(text.to_owned()))
    }
}

impl From<HostPath> for PathBuf {
    fn from(path: HostPath) -> Self {
        match path {
            HostPath::Text(text) => text.into(),
            HostPath::Bytes(bytes) => OsStr::from_bytes(&bytes).into(),
        }
    }
}

/// A line of an event's file. The first says what happened, each other one what that means for a path.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Pushed,
    /// The folder that `/workspace` comes from, from now on; none is an archive.
    Root(Option<HostPath>),
    Applied(HostPath),
    Kept(String),
    Reset(u64),
    Given {
        #[serde(flatten)]
        entry: EntryRecord,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<HostPath>,
    },
    Gone(TreePath),
}

impl GivenChange {
    fn lines(&self) -> impl Iterator<Item = Line> {
        let root = self.root.iter().map(|root| Line::Root(root.as_ref().map(Into::into)));
        let entries = self.entries.iter().map(|(path, given)| match given {
            None => Line::Gone(path.clone()),
            Some(GivenEntry { entry, from }) => Line::Given { entry: EntryRecord::new(path, entry), from: from.as_ref().map(Into::into) },
        });
        root.chain(entries)
    }

    /// Takes a line of it; `None` when that belongs to no change.
    fn read(&mut self, line: Line) -> Option<()> {
        match line {
            Line::Root(root) => self.root = Some(root.map(Into::into)),
            Line::Gone(path) => drop(self.entries.insert(path, None)),
            Line::Given { entry, from } => {
                let (path, entry) = entry.read()?;
                self.entries.insert(path, Some(GivenEntry { entry, from: from.map(Into::into) }));
            }
            Line::Pushed | Line::Applied(_) | Line::Kept(_) | Line::Reset(_) => return None,
        }
        Some(())
    }
}

impl Event {
    /// Returns what the event changes of what the host gave.
    #[must_use]
    pub const fn change(&self) -> Option<&GivenChange> {
        match self {
            Self::Pushed(change) | Self::Applied { change, .. } => Some(change),
            Self::Kept { .. } | Self::Reset { .. } => None,
        }
    }

    fn begin(line: Line) -> Option<Self> {
        match line {
            Line::Pushed => Some(Self::Pushed(GivenChange::default())),
            Line::Applied(target) => Some(Self::Applied { target: target.into(), change: GivenChange::default() }),
            Line::Kept(name) => Some(Self::Kept { name }),
            Line::Reset(to) => Some(Self::Reset { to }),
            Line::Root(_) | Line::Given { .. } | Line::Gone(_) => None,
        }
    }

    /// Writes the event aside, syncs it and renames it to `path`.
    ///
    /// # Errors
    /// Any step fails; an older file is then untouched.
    pub fn store(&self, path: &Path) -> Result<(), RecordsError> {
        let first = match self {
            Self::Pushed(_) => Line::Pushed,
            Self::Applied { target, .. } => Line::Applied(target.into()),
            Self::Kept { name } => Line::Kept(name.clone()),
            Self::Reset { to } => Line::Reset(*to),
        };
        let lines: Vec<Line> = std::iter::once(first).chain(self.change().into_iter().flat_map(GivenChange::lines)).collect();
        RECORDS.write(path, lines.into_iter())
    }

    /// Reads an event; `None` when there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or a newer version wrote it.
    pub fn load(path: &Path) -> Result<Option<Self>, RecordsError> {
        let mut event = None;
        RECORDS.read(path, |line: Line| match &mut event {
            None => {
                event = Some(Self::begin(line)?);
                Some(())
            }
            Some(Self::Pushed(change) | Self::Applied { change, .. }) => change.read(line),
            Some(Self::Kept { .. } | Self::Reset { .. }) => None,
        })?;
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::try_from(text).unwrap()
    }

    fn file(version: u8) -> ManifestEntry {
        ManifestEntry { kind: EntryKind::File, mode: 0o644, size_bytes: 1, digest: Some([version; 32]), link_target: None }
    }

    fn given(version: u8, from: &str) -> Option<GivenEntry> {
        Some(GivenEntry { entry: file(version), from: Some(from.into()) })
    }

    fn change(entries: &[(&str, Option<GivenEntry>)]) -> GivenChange {
        GivenChange { root: None, entries: entries.iter().map(|(name, entry)| (path(name), entry.clone())).collect() }
    }

    fn seed() -> Manifest {
        let mut seed = Manifest::new();
        seed.insert(path("a"), file(1));
        seed.insert(path("b"), file(1));
        seed
    }

    /// The versions of `a`, `b` and `c`; 0 is nothing.
    fn versions(events: &[(u64, Event)], target: &str) -> [u8; 3] {
        let given = Given::replay(&seed(), Some(Path::new("/host")), events, Some(Path::new(target)));
        ["a", "b", "c"].map(|name| given.get(&path(name)).and_then(|given| given.entry.digest).map_or(0, |digest| digest[0]))
    }

    #[test]
    fn the_last_word_of_the_host_holds_and_resets_take_words_back() {
        let push = |entries: &[(&str, Option<GivenEntry>)]| Event::Pushed(change(entries));
        let applied =
            |to: &str, version| Event::Applied { target: to.into(), change: change(&[("a", given(version, &format!("{to}/a")))]) };
        let mut events = vec![(1, push(&[("a", given(2, "/host/a")), ("c", given(2, "/host/c"))]))];
        assert_eq!(versions(&events, "/host"), [2, 1, 2]);
        events.push((2, Event::Kept { name: "s".into() }));
        events.push((3, applied("/host", 3)));
        events.push((4, applied("/copy", 4)));
        assert_eq!((versions(&events, "/host"), versions(&events, "/copy")), ([3, 1, 2], [4, 1, 2]));
        events.push((5, push(&[("a", None)])));
        assert_eq!(versions(&events, "/copy"), [0, 1, 2], "a push is newer than what was applied");
        events.push((6, Event::Reset { to: 0 }));
        assert_eq!(versions(&events, "/host"), [1, 1, 0]);
        events.push((7, Event::Reset { to: kept_at(&events, "s") }));
        assert_eq!(versions(&events, "/host"), [2, 1, 2], "the snapshot knows what held when it was made");
        events.push((8, Event::Reset { to: kept_at(&events, "older than all") }));
        assert_eq!(versions(&events, "/host"), [1, 1, 0]);
    }

    #[test]
    fn a_folder_that_gives_way_takes_along_what_was_in_it_and_leads_new_files_where_it_came_from() {
        let directory = ManifestEntry { kind: EntryKind::Directory, mode: 0o755, size_bytes: 0, digest: None, link_target: None };
        let folder = |from: &str| Some(GivenEntry { entry: directory.clone(), from: Some(from.into()) });
        let pushed = change(&[("d", folder("/other")), ("d-x", given(1, "/host/d-x")), ("d/a", given(1, "/other/a"))]);
        let pushed_once = pushed.clone();
        let mut given_now = Given::replay(&seed(), Some(Path::new("/host")), &[(1, Event::Pushed(pushed))], None);
        assert_eq!(given_now.elsewhere(&path("d/new/file")), Some(PathBuf::from("/other/new/file")));
        assert_eq!(given_now.elsewhere(&path("e/new")), None);
        let gone = change(&[("d", given(2, "/host/d"))]);
        let mut one = pushed_once;
        one.extend(&gone);
        let replayed = Given::replay(&seed(), Some(Path::new("/host")), &[(1, Event::Pushed(one))], None);
        given_now.take(&gone);
        assert_eq!(replayed.paths().collect::<Vec<_>>(), given_now.paths().collect::<Vec<_>>());
        let left: Vec<_> = given_now.paths().map(ToString::to_string).collect();
        assert_eq!(left, ["a", "b", "d", "d-x"]);
        assert!(given_now.touched().any(|touched| *touched == path("d/a")));
    }

    #[test]
    fn what_lies_elsewhere_on_the_host_than_below_the_root_is_known() {
        let pushed = change(&[("a", given(2, "/host/a")), ("c", given(2, "/other/c"))]);
        let mut given = Given::replay(&seed(), Some(Path::new("/host")), &[(1, Event::Pushed(pushed.clone()))], None);
        assert_eq!(given.elsewhere(&path("a")), None);
        assert_eq!(given.elsewhere(&path("c")), Some(PathBuf::from("/other/c")));
        given.take(&GivenChange { root: Some(Some("/other".into())), ..pushed });
        assert_eq!((given.root(), given.elsewhere(&path("c"))), (Some(Path::new("/other")), None));
        assert_eq!(given.elsewhere(&path("b")), Some(PathBuf::from("/host/b")));
    }

    #[test]
    fn events_come_back_as_they_were_stored_and_cut_ones_are_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("event");
        assert_eq!(Event::load(&file).unwrap(), None);
        let change = change(&[
            ("a", given(2, "/host/\u{fffd}a")),
            ("b", None),
            ("c", Some(GivenEntry { entry: super::tests::file(3), from: None })),
        ]);
        let roots = [None, Some(None), Some(Some(PathBuf::from("/host")))];
        let pushes = roots.map(|root| Event::Pushed(GivenChange { root, ..change.clone() }));
        let others = [Event::Applied { target: "/host".into(), change }, Event::Kept { name: "s".into() }, Event::Reset { to: 7 }];
        for event in pushes.iter().chain(&others) {
            event.store(&file).unwrap();
            assert_eq!(Event::load(&file).unwrap().as_ref(), Some(event));
        }
        pushes[2].store(&file).unwrap();
        let whole = std::fs::read(&file).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&file, &whole[..length]).unwrap();
            assert!(matches!(Event::load(&file), Err(RecordsError::Damaged { .. })), "cut at {length}");
        }
        std::fs::write(&file, "{\"format\":2,\"event\":\"kept\",\"entries\":0}\n").unwrap();
        assert!(matches!(Event::load(&file), Err(RecordsError::Newer { found: 2, .. })));
    }
}
