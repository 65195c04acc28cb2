//! Small trees, on disk and in memory, and the programs that make and apply patches.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use super::super::{Applied, Edit, PathState, PathStates};
use crate::path::TreePath;

/// A file or a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    File { executable: bool, content: Vec<u8> },
    Link(Vec<u8>),
}

/// A tree by path.
pub(super) type Files = BTreeMap<Vec<u8>, Entry>;

pub(super) fn text(content: &[u8]) -> Entry {
    Entry::File { executable: false, content: content.to_vec() }
}

pub(super) fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder)).env("TZ", "UTC").env("LC_ALL", "C").stdin(Stdio::null());
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "T").env(format!("GIT_{role}_EMAIL"), "t@example.invalid");
        command.env(format!("GIT_{role}_DATE"), "2020-01-01T00:00:00Z");
    }
    command
}

/// Runs Git, which must succeed.
pub(super) fn git(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = command("git", folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Applies a patch with Git; returns the tree it leaves, or what it says.
pub(super) fn git_apply(before: &Files, patch: &[u8], arguments: &[&str]) -> Result<Files, String> {
    let folder = tempfile::tempdir().unwrap();
    let (place, file) = (folder.path().join("tree"), folder.path().join("patch"));
    write(&place, before);
    fs::write(&file, patch).unwrap();
    let Output { status, stderr, .. } =
        command("git", &place).args(["apply", "--whitespace=nowarn"]).args(arguments).arg(&file).output().unwrap();
    if status.success() { Ok(read(&place)) } else { Err(String::from_utf8_lossy(&stderr).into_owned()) }
}

pub(super) fn write(folder: &Path, files: &Files) {
    fs::create_dir_all(folder).unwrap();
    for (name, entry) in files {
        let path = folder.join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry {
            Entry::File { executable, content } => {
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(if *executable { 0o755 } else { 0o644 })).unwrap();
            }
            Entry::Link(target) => std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap(),
        }
    }
}

pub(super) fn read(folder: &Path) -> Files {
    fn walk(folder: &Path, below: &[u8], files: &mut Files) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = [below, entry.file_name().as_bytes()].concat();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                if entry.file_name() != ".git" {
                    walk(&entry.path(), &[&name[..], b"/"].concat(), files);
                }
            } else if kind.is_symlink() {
                files.insert(name, Entry::Link(fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec()));
            } else {
                let executable = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
                files.insert(name, Entry::File { executable, content: fs::read(entry.path()).unwrap() });
            }
        }
    }
    let mut files = Files::new();
    walk(folder, b"", &mut files);
    files
}

/// What the engine is told of a tree.
pub(super) fn states(files: &Files) -> PathStates {
    let mut states = PathStates::new();
    for (name, entry) in files {
        let path = TreePath::try_from(name.as_slice()).unwrap();
        states.extend(path.ancestors().map(|directory| (directory, PathState::Directory)));
        let state = match entry {
            Entry::File { executable, content } => {
                PathState::File { mode: if *executable { 0o755 } else { 0o644 }, content: content.clone() }
            }
            Entry::Link(target) => PathState::Link { target: target.clone() },
        };
        states.insert(path, state);
    }
    states
}

/// Does what the engine says is to be done, and checks that it says the truth about what is there.
pub(super) fn after(before: &Files, applied: Applied) -> Files {
    let mut files = before.clone();
    for edit in applied.edits {
        match edit {
            Edit::Remove { path } => assert!(files.remove(path.as_bytes()).is_some(), "{path} is removed and was not there"),
            Edit::Link { path, target, created } => {
                assert_eq!(files.insert(path.as_bytes().to_vec(), Entry::Link(target)).is_none(), created, "{path}");
            }
            Edit::Write { path, content, mode, keep_mode, created } => {
                let executable = mode & 0o111 != 0;
                let old = files.insert(path.as_bytes().to_vec(), Entry::File { executable, content });
                assert_eq!(old.is_none(), created, "{path}");
                let kept = matches!(old, Some(Entry::File { executable: before, .. }) if before == executable);
                assert!(!keep_mode || kept, "{path} keeps a mode it does not have");
            }
        }
    }
    files
}
