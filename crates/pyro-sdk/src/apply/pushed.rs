//! What a push gave, noted for whoever brings changes home later.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pyro_store::{Dirs, WorkspaceId};
use pyro_tree::{Entry, EntryKind, Given, GivenChange, GivenEntry, IgnoreRules, ManifestEntry, OriginKind, TreePath};

use super::history::History;
use crate::{
    diff::is_git,
    error::{Error, Result},
    text::WorkspacePath,
};

/// Collects what goes into a workspace.
#[derive(Debug)]
pub(crate) struct Pushed {
    dest: WorkspacePath,
    replaces: bool,
    entries: BTreeMap<TreePath, ManifestEntry>,
}

impl Pushed {
    /// Begins a push to a folder, which may become exactly like its source.
    pub(crate) const fn new(dest: WorkspacePath, replaces: bool) -> Self {
        Self { dest, replaces, entries: BTreeMap::new() }
    }

    /// Takes an entry of the source. One whose path is too long below the folder that takes it is refused by the guest.
    pub(crate) fn add(&mut self, entry: &Entry, digest: Option<[u8; 32]>) {
        if is_git(entry.path.as_bytes()) {
            return;
        }
        let path = match self.dest.tree_path() {
            None => Ok(entry.path.clone()),
            Some(dest) => dest.join(entry.path.as_bytes()),
        };
        let Ok(path) = path else { return };
        let size_bytes = if entry.kind == EntryKind::File { entry.size_bytes } else { 0 };
        let link_target = entry.link_target.clone();
        self.entries.insert(path, ManifestEntry { kind: entry.kind, mode: entry.mode, size_bytes, digest, link_target });
    }

    /// Notes what was given, and what Git ignores in it, once the workspace has it. Blocks.
    ///
    /// # Errors
    /// The note cannot be written; what was pushed is then taken for the guest's work.
    pub(crate) fn note(
        self,
        dirs: &Dirs,
        id: &WorkspaceId,
        seed_folder: Option<&Path>,
        source: &Path,
        origin: OriginKind,
        ignore: Option<IgnoreRules>,
    ) -> Result<()> {
        let folder = match origin {
            OriginKind::Archive => None,
            OriginKind::Directory | OriginKind::Git => {
                Some(std::fs::canonicalize(source).map_err(|error| Error::io("find", source, error))?)
            }
        };
        let history = History::wait(dirs, id)?;
        let given = history.given(dirs, id, seed_folder, None)?;
        let dest = self.dest.tree_path().cloned();
        history.pushed(self.change(&given, folder), dest.as_ref(), ignore)
    }

    fn change(self, given: &Given, folder: Option<PathBuf>) -> GivenChange {
        let Self { dest, replaces, entries } = self;
        let whole = dest.tree_path().is_none();
        let is_first = given.root().is_none() && given.paths().next().is_none();
        let from = |path: &TreePath| -> Option<PathBuf> {
            let below =
                dest.tree_path().map_or(path.as_bytes(), |dest| path.as_bytes().get(dest.as_bytes().len() + 1..).unwrap_or_default());
            Some(folder.as_ref()?.join(TreePath::try_from(below).ok()?.as_path()))
        };
        let mut change = GivenChange { root: (whole && (replaces || is_first)).then(|| folder.clone()), entries: BTreeMap::new() };
        if replaces {
            let gone = given.paths().filter(|path| dest.tree_path().is_none_or(|dest| path.is_below(dest)) && !entries.contains_key(path));
            change.entries.extend(gone.map(|path| (path.clone(), None)));
        }
        if let Some(dest) = dest.tree_path()
            && let Some(folder) = &folder
            && (replaces || given.get(dest).is_none())
        {
            // New files in it belong where it came from. Its mode is the one the guest gives it, or it had.
            let mode = given.get(dest).map_or(0o755, |given| given.entry.mode);
            let entry = ManifestEntry { kind: EntryKind::Directory, mode, size_bytes: 0, digest: None, link_target: None };
            change.entries.insert(dest.clone(), Some(GivenEntry { entry, from: Some(folder.clone()) }));
        }
        for (path, entry) in entries {
            let from = from(&path);
            change.entries.insert(path, Some(GivenEntry { entry, from }));
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use pyro_tree::Manifest;

    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::try_from(text).unwrap()
    }

    fn pushed(dest: &str, replaces: bool, names: &[&str]) -> Pushed {
        let mut pushed = Pushed::new(dest.parse().unwrap(), replaces);
        for name in names {
            let entry = Entry {
                path: path(name),
                kind: EntryKind::File,
                mode: 0o644,
                size_bytes: 1,
                mtime: pyro_tree::Timestamp::default(),
                link_target: None,
            };
            pushed.add(&entry, Some([1; 32]));
        }
        pushed
    }

    fn seeded(names: &[&str]) -> Given {
        let mut seed = Manifest::new();
        for name in names {
            seed.insert(path(name), ManifestEntry { kind: EntryKind::File, mode: 0o644, size_bytes: 1, digest: None, link_target: None });
        }
        Given::replay(&seed, Some(Path::new("/home/seed")), &[], None)
    }

    fn shown(change: &GivenChange) -> Vec<String> {
        let from = |given: &Option<GivenEntry>| match given {
            None => "gone".to_owned(),
            Some(given) => given.from.as_ref().map_or_else(|| "an archive".to_owned(), |from| from.display().to_string()),
        };
        change.entries.iter().map(|(path, given)| format!("{path}: {}", from(given))).collect()
    }

    #[test]
    fn a_push_gives_what_it_brings_and_takes_only_when_it_replaces() {
        let given = seeded(&["a", "sub/b", "sub/c"]);
        let change = pushed(".", false, &["a", ".git/config"]).change(&given, Some("/home/other".into()));
        assert_eq!((change.root.clone(), shown(&change)), (None, vec!["a: /home/other/a".to_owned()]));
        let change = pushed("sub", true, &["b", "d/e"]).change(&given, Some("/home/other".into()));
        assert_eq!(change.root, None);
        assert_eq!(shown(&change), ["sub: /home/other", "sub/b: /home/other/b", "sub/c: gone", "sub/d/e: /home/other/d/e"]);
    }

    #[test]
    fn what_takes_the_place_of_everything_is_the_new_home() {
        let given = seeded(&["a"]);
        let change = pushed(".", true, &["b"]).change(&given, Some("/home/other".into()));
        assert_eq!(
            (change.root.clone(), shown(&change)),
            (Some(Some("/home/other".into())), vec!["a: gone".into(), "b: /home/other/b".into()])
        );
        let change = pushed(".", true, &["b"]).change(&given, None);
        assert_eq!((change.root.clone(), shown(&change)), (Some(None), vec!["a: gone".into(), "b: an archive".into()]));
        let first = pushed(".", false, &["b"]).change(&Given::default(), Some("/home/first".into()));
        assert_eq!(first.root, Some(Some("/home/first".into())));
    }
}
