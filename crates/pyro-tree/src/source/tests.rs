//! Sources against the real `git` and `tar`.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    io::{Read, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use super::*;
use crate::entry::EntryKind;

mod archives;
mod clean;
mod ignored;
mod secrets;

/// What a sink got: by path, kind and mode and content, and when it was changed last.
#[derive(Default, Debug, PartialEq)]
struct Taken(BTreeMap<String, (EntryKind, u32, Vec<u8>)>, BTreeMap<String, Timestamp>);

impl Sink for Taken {
    type Error = Infallible;

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Infallible> {
        let mut bytes = Vec::new();
        if content.read_to_end(&mut bytes).is_ok() {
            assert_eq!(u64::try_from(bytes.len()).unwrap(), entry.size_bytes, "{entry:?}");
        }
        let bytes = entry.link_target.clone().unwrap_or(bytes);
        for parent in entry.path.ancestors() {
            assert_eq!(
                self.0.get(&parent.to_string()).map(|parent| parent.0),
                Some(EntryKind::Directory),
                "{entry:?} comes before its parent"
            );
        }
        self.1.insert(entry.path.to_string(), entry.mtime);
        let before = self.0.insert(entry.path.to_string(), (entry.kind, entry.mode, bytes));
        assert_eq!(before, None, "{entry:?} came twice");
        Ok(())
    }
}

impl Taken {
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).filter(|name| !name.starts_with(".git/") && !name.contains("/.git/")).collect()
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.0[path].2.clone()).unwrap()
    }

    /// Writes everything below a folder, for the real `git` to look at.
    fn unpack(&self, folder: &Path) {
        for (path, (kind, mode, bytes)) in &self.0 {
            let path = folder.join(path);
            match kind {
                EntryKind::Directory => fs::create_dir(&path).unwrap(),
                EntryKind::Link => symlink(std::ffi::OsStr::from_bytes(bytes), &path).unwrap(),
                EntryKind::File => {
                    fs::write(&path, bytes).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                }
            }
        }
    }
}

fn take(path: &Path, options: &SourceOptions) -> (Taken, SourceReport) {
    let mut taken = Taken::default();
    let report = read_source(path, options, &mut taken).unwrap();
    assert_eq!(report.entry_count, u64::try_from(taken.0.len()).unwrap());
    (taken, report)
}

fn refused(path: &Path) -> String {
    let mut taken = Taken::default();
    let error = read_source(path, &SourceOptions::default(), &mut taken).unwrap_err();
    assert_eq!(taken.0.len(), 0, "a refused archive was handed over in part");
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// Runs a program, which must succeed, with nothing in its environment but what the tests share and `variables`.
pub(super) fn run_with(variables: &[(&str, &str)], folder: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_AUTHOR_NAME", "a").env("GIT_AUTHOR_EMAIL", "a@b");
    command.env("GIT_COMMITTER_NAME", "a").env("GIT_COMMITTER_EMAIL", "a@b").env("GIT_CONFIG_COUNT", "1");
    command.env("GIT_CONFIG_KEY_0", "protocol.file.allow").env("GIT_CONFIG_VALUE_0", "always");
    command.envs(variables.iter().copied());
    let output = command.args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    run_with(&[], folder, program, arguments)
}

pub(super) fn git(folder: &Path, arguments: &[&str]) -> String {
    run(folder, "git", arguments)
}

pub(super) fn environment(variables: &[(&str, &str)]) -> GitEnvironment {
    GitEnvironment::from_variables(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
}

pub(super) fn put(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// A checkout with something of everything.
fn checkout() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    git(path, &["init", "-q", "-b", "main"]);
    put(
        path,
        &[
            (".gitignore", "*.log\nbuild/\n!keep.log\n"),
            ("a.txt", "a\n"),
            ("gone", "x"),
            ("build/tracked.o", "o"),
            ("sub/.gitignore", "/local\n"),
        ],
    );
    put(path, &[("sub/b", "b"), ("odd \u{e9}\n", "n")]);
    symlink("/etc/passwd", path.join("out")).unwrap();
    git(path, &["add", "-Af", "."]);
    git(path, &["commit", "-q", "-m", "one"]);
    fs::remove_file(path.join("gone")).unwrap();
    put(path, &[("x.log", ""), ("keep.log", ""), ("build/junk.o", ""), ("sub/local", ""), ("sub/new", "new"), ("deep/local", "")]);
    put(
        path,
        &[
            (".git/hooks/pre-commit", "evil"),
            (".git/FETCH_HEAD", "s3cret"),
            (".git/refs/heads/x.lock", ""),
            (".git/my-credentials", "s3cret"),
        ],
    );
    git(path, &["config", "remote.origin.url", "https://u:s3cret@example.org/x"]);
    git(path, &["config", "http.extraHeader", "s3cret"]);
    fs::set_permissions(path.join("a.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

const TAKEN: [&str; 15] = [
    ".git",
    ".gitignore",
    "a.txt",
    "build",
    "build/tracked.o",
    "deep",
    "deep/local",
    "keep.log",
    "odd é\\n",
    "out",
    "sub",
    "sub/.gitignore",
    "sub/b",
    "sub/new",
    "",
];

#[test]
fn a_checkout_gives_what_git_tracks_or_does_not_ignore() {
    let folder = checkout();
    let (taken, report) = take(folder.path(), &SourceOptions::default());
    assert_eq!(taken.names(), TAKEN[..14]);
    assert_eq!(report.origin, OriginKind::Git);
    assert_eq!(report.origin_ref.unwrap(), git(folder.path(), &["rev-parse", "HEAD"]).trim());
    assert_eq!(taken.0["out"].0, EntryKind::Link);
    assert_eq!(taken.0["a.txt"].1, 0o755);
}

#[test]
fn the_git_folder_of_a_seed_works_and_holds_no_secret() {
    let folder = checkout();
    git(folder.path(), &["update-index", "--index-version", "4"]);
    let expected = git(folder.path(), &["-c", "core.fsmonitor=", "status", "--porcelain"]);
    let (taken, _) = take(folder.path(), &SourceOptions::default());
    for (path, (_, _, content)) in &taken.0 {
        assert!(!path.contains("hooks") && !path.ends_with(".lock") && !path.contains("FETCH_HEAD"), "{path}");
        assert!(!content.windows(6).any(|window| window == b"s3cret"), "{path}");
    }
    let copy = tempfile::tempdir().unwrap();
    // The names shown escape what they cannot show, so this one is not put back under its own.
    let mut taken = taken;
    let odd = taken.0.remove("odd é\\n").unwrap();
    taken.0.insert("odd \u{e9}\n".to_owned(), odd);
    taken.unpack(copy.path());
    assert_eq!(git(copy.path(), &["status", "--porcelain"]), expected);
    assert_eq!(git(copy.path(), &["log", "--oneline"]), git(folder.path(), &["log", "--oneline"]));
    git(copy.path(), &["fsck", "--strict"]);
    assert_eq!(git(copy.path(), &["config", "remote.origin.url"]), "https://example.org/x\n");
}

#[test]
fn everything_is_taken_when_asked_for() {
    let folder = checkout();
    let (taken, _) = take(folder.path(), &SourceOptions { all: true, git: false, ..SourceOptions::default() });
    for name in ["x.log", "build/junk.o", "sub/local"] {
        assert!(taken.0.contains_key(name), "{name}");
    }
    assert!(!taken.0.contains_key(".git"));
}

#[test]
fn the_users_own_excludes_count() {
    let folder = checkout();
    let home = tempfile::tempdir().unwrap();
    put(home.path(), &[(".config/git/ignore", "deep/\n")]);
    fs::write(folder.path().join(".git/info/exclude"), "/sub/new\n").unwrap();
    let git_environment = environment(&[("HOME", &home.path().display().to_string())]);
    let options = SourceOptions { git_environment, ..SourceOptions::default() };
    let (taken, _) = take(folder.path(), &options);
    assert!(!taken.0.contains_key("deep") && !taken.0.contains_key("sub/new"));
}

#[test]
fn a_part_of_a_checkout_follows_the_rules_of_the_whole() {
    let folder = checkout();
    put(folder.path(), &[("sub/y.log", "")]);
    let (taken, report) = take(&folder.path().join("sub"), &SourceOptions::default());
    assert_eq!(taken.names(), [".gitignore", "b", "new"]);
    assert_eq!((report.origin, report.left_out_count), (OriginKind::Git, 1));
    let (taken, report) = take(&folder.path().join("build"), &SourceOptions::default());
    assert_eq!(taken.names(), ["tracked.o"]);
    assert_eq!(report.origin, OriginKind::Git);
}

#[test]
fn submodules_and_linked_worktrees_become_checkouts_of_their_own() {
    let (outer, inner) = (checkout(), checkout());
    git(outer.path(), &["submodule", "--quiet", "add", &inner.path().display().to_string(), "module"]);
    git(outer.path(), &["commit", "-q", "-m", "two", "--no-verify", "--", "module", ".gitmodules"]);
    put(outer.path(), &[("module/z.log", ""), ("module/more", "")]);
    let worktree = tempfile::tempdir().unwrap();
    let linked = worktree.path().join("linked");
    fs::remove_file(outer.path().join(".git/hooks/pre-commit")).unwrap();
    git(outer.path(), &["worktree", "add", "-q", &linked.display().to_string()]);
    put(&linked, &[("fresh", "")]);
    for source in [outer.path(), &linked] {
        let expected = git(source, &["status", "--porcelain"]);
        let (mut taken, report) = take(source, &SourceOptions::default());
        assert_eq!(report.left_out, []);
        assert!(!taken.0.contains_key("module/z.log"));
        for path in ["odd \u{e9}\n", "module/odd \u{e9}\n"] {
            if let Some(odd) = taken.0.remove(&path.replace('\n', "\\n")) {
                taken.0.insert(path.to_owned(), odd);
            }
        }
        let copy = tempfile::tempdir().unwrap();
        taken.unpack(copy.path());
        assert_eq!(git(copy.path(), &["status", "--porcelain"]), expected);
        assert_eq!(git(copy.path(), &["log", "--format=%H"]), git(source, &["log", "--format=%H"]));
        assert_eq!(git(copy.path(), &["rev-parse", "--abbrev-ref", "HEAD"]), git(source, &["rev-parse", "--abbrev-ref", "HEAD"]));
    }
}

#[test]
fn a_repository_that_borrows_objects_stays_behind() {
    let original = checkout();
    let place = tempfile::tempdir().unwrap();
    git(place.path(), &["clone", "-q", "--shared", &original.path().display().to_string(), "copy"]);
    let (taken, report) = take(&place.path().join("copy"), &SourceOptions::default());
    assert!(taken.0.keys().all(|path| !path.starts_with(".git/")) && taken.0.contains_key("a.txt"));
    let reason = report.left_out.iter().find(|left| left.path == ".git").map(|left| left.reason.as_str()).unwrap_or_default();
    assert!(reason.contains("borrows") && reason.contains("repack"), "{reason}");
}

#[test]
fn a_split_index_is_read_whole() {
    let folder = checkout();
    git(folder.path(), &["config", "core.splitIndex", "true"]);
    git(folder.path(), &["config", "splitIndex.maxPercentChange", "100"]);
    git(folder.path(), &["update-index", "--split-index"]);
    put(folder.path(), &[("later", "")]);
    git(folder.path(), &["add", "later", "a.txt"]);
    git(folder.path(), &["rm", "-q", "--cached", "build/tracked.o"]);
    let (taken, _) = take(folder.path(), &SourceOptions::default());
    assert!(!taken.0.contains_key("build/tracked.o"));
    assert!(taken.0.contains_key("later") && taken.0.contains_key("sub/b"));
}

#[test]
fn a_git_file_cannot_name_a_stranger() {
    let private = checkout();
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &[("a.txt", "mine"), (".git", &format!("gitdir: {}/.git\n", private.path().display()))]);
    let (taken, report) = take(folder.path(), &SourceOptions::default());
    assert_eq!(taken.0.keys().collect::<Vec<_>>(), ["a.txt"]);
    assert_eq!(report.left_out[0].path, ".git");
}

#[test]
fn a_plain_folder_gives_everything_but_what_no_tree_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    put(path, &[("d/f", "f"), (".gitignore", "d")]);
    fs::hard_link(path.join("d/f"), path.join("g")).unwrap();
    run(path, "mkfifo", &["pipe"]);
    let _listener = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    let (taken, report) = take(path, &SourceOptions { strict: true, ..SourceOptions::default() });
    assert_eq!(taken.names(), [".gitignore", "d", "d/f", "g"]);
    assert_eq!(report.left_out.iter().map(|left| left.reason.as_str()).collect::<Vec<_>>(), ["is a FIFO", "is a socket"]);
    assert_eq!((report.origin, report.bytes), (OriginKind::Directory, 3));
}
