//! What Git would take for a repository, wherever it lies: a folder need not be called `.git` for its configuration and hooks to run.
//!
//! Git believes a folder with `HEAD`, `objects` and `refs`, or with `HEAD` and a file `commondir` that says where the other two are, and
//! looks for one on the way up from every folder it is called in. Names are compared ignoring case, since a file system may.

use std::collections::{BTreeMap, BTreeSet};

use crate::path::TreePath;

/// Why something in a repository is not written.
pub(super) const IN_GIT: &str = "is inside a repository's `.git`, which is never written";
/// Why something that would make a repository is not written.
pub(super) const EMBEDDED: &str = "belongs to a folder that Git would take for a repository, whose configuration can run programs";

/// Names by which Git knows a repository; a bit for each.
const MARKERS: [(&[u8], u8); 4] = [(b"head", 1), (b"objects", 2), (b"refs", 4), (b"commondir", 8)];
/// What runs programs, or says where that is, in a folder that is a repository.
const RUN: [&[u8]; 5] = [b"head", b"config", b"config.worktree", b"commondir", b"hooks"];

/// Tells whether a path belongs to what Git keeps for itself, on any file system: `.git` in any case, or something in it.
#[must_use]
pub fn is_git(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|name| name.eq_ignore_ascii_case(b".git"))
}

/// Returns whether a name in a folder of a repository is one that it is known by.
fn marker(name: &[u8]) -> Option<u8> {
    MARKERS.iter().find(|(marker, _)| name.eq_ignore_ascii_case(marker)).map(|&(_, bit)| bit)
}

/// Collects what folders hold, and tells which of them are repositories.
#[derive(Debug, Default)]
pub struct Repositories {
    held: BTreeMap<Option<TreePath>, u8>,
}

impl Repositories {
    /// Takes note of an entry.
    pub fn add(&mut self, path: &TreePath) {
        if let Some(bit) = marker(path.file_name()) {
            *self.held.entry(path.parent()).or_default() |= bit;
        }
    }

    /// Returns the folders that hold anything a repository is known by; `None` is the top.
    pub(super) fn suspects(&self) -> Vec<Option<TreePath>> {
        self.held.keys().cloned().collect()
    }

    /// Returns the folders that are repositories; `None` is the top.
    #[must_use]
    pub fn folders(&self) -> BTreeSet<Option<TreePath>> {
        let is = |held: u8| held & 7 == 7 || held & 9 == 9;
        self.held.iter().filter(|&(_, held)| is(*held)).map(|(folder, _)| folder.clone()).collect()
    }
}

/// What a landing must keep out of folders that it would make repositories, and of those that are.
pub(super) struct Guard {
    /// Repositories after the landing, and whether the host has them already.
    folders: BTreeMap<Option<TreePath>, bool>,
}

impl Guard {
    pub(super) fn new(after: &Repositories, host: &Repositories) -> Self {
        let there = host.folders();
        Self { folders: after.folders().into_iter().map(|folder| (folder.clone(), there.contains(&folder))).collect() }
    }

    /// Returns whether a path must not be written.
    pub(super) fn refuses(&self, path: &TreePath) -> bool {
        let mut folder = None;
        // The path itself is not among its ancestors, and is the folder below the last of them.
        path.ancestors().map(Some).chain([Some(path.clone())]).any(|below| {
            let there = self.folders.get(&folder);
            let name = below.as_ref().map_or(&b""[..], TreePath::file_name);
            let refused =
                there.is_some_and(|there| RUN.iter().any(|run| name.eq_ignore_ascii_case(run)) || !there && marker(name).is_some());
            folder = below;
            refused
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repositories(paths: &[&str]) -> Repositories {
        let mut repositories = Repositories::default();
        paths.iter().for_each(|path| repositories.add(&TreePath::try_from(*path).unwrap()));
        repositories
    }

    #[test]
    fn what_git_keeps_for_itself_is_known_in_any_case() {
        assert!(is_git(b".git") && is_git(b".GIT/index") && is_git(b"sub/.Git/HEAD"));
        assert!(!is_git(b".gitignore") && !is_git(b".github/workflows/x") && !is_git(b"a.git/b"));
    }

    #[test]
    fn a_repository_is_known_by_what_it_holds() {
        let found = repositories(&["HEAD", "objects", "a/HEAD", "a/Objects", "a/refs", "b/HEAD", "b/commondir", "c/refs"]).folders();
        let shown: Vec<_> = found.iter().map(|folder| folder.as_ref().map(ToString::to_string)).collect();
        assert_eq!(shown, [Some("a".to_owned()), Some("b".to_owned())]);
    }

    #[test]
    fn a_new_repository_gets_nothing_it_is_known_by_and_an_old_one_nothing_that_runs() {
        let all = repositories(&["new/HEAD", "new/objects", "new/refs", "old/HEAD", "old/objects", "old/refs"]);
        let guard = Guard::new(&all, &repositories(&["old/HEAD", "old/objects", "old/refs"]));
        let refuses = |path: &str| guard.refuses(&TreePath::try_from(path).unwrap());
        for path in ["new/HEAD", "new/objects/aa/b", "new/config", "new/hooks/x", "old/config", "old/HEAD", "old/HOOKS"] {
            assert!(refuses(path), "{path}");
        }
        for path in ["new", "new/description", "old/objects/aa/b", "old/refs/heads/x", "config", "hooks/x", "new/sub/config"] {
            assert!(!refuses(path), "{path}");
        }
    }
}
