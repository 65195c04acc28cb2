//! What must not leave the host with a `.git`: the repositories around it, credentials, hooks.

use super::*;

/// Returns why the `.git` of a source stayed behind, having made sure that nothing of it was taken.
fn left_behind(source: &Path) -> String {
    let (taken, report) = take(source, &SourceOptions::default());
    assert!(taken.0.keys().all(|path| path != ".git" && !path.starts_with(".git/")), "{:?}", taken.0.keys());
    assert!(taken.0.contains_key("mine"));
    let left = report.left_out.iter().find(|left| left.path == ".git");
    left.map(|left| left.reason.clone()).unwrap_or_default()
}

fn bare_repository() -> (TempDir, std::path::PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let original = checkout();
    git(place.path(), &["clone", "-q", "--bare", &original.path().display().to_string(), "private.git"]);
    let bare = place.path().join("private.git");
    (place, bare)
}

#[test]
fn a_git_folder_cannot_name_the_repository_around_it() {
    let (_place, bare) = bare_repository();
    let folder = bare.join("unpacked");
    put(&folder, &[("mine", ""), (".git/HEAD", "ref: refs/heads/main\n"), (".git/commondir", "../..\n")]);
    // Git itself falls for it, so the trick is real.
    assert!(!git(&folder, &["log", "--format=%H", "main"]).is_empty());
    assert!(left_behind(&folder).contains("`commondir`"));
    let (_, report) = take(&folder, &SourceOptions::default());
    assert_eq!(report.origin_ref, None);
    put(&folder, &[(".git/objects/x", "")]);
    assert!(left_behind(&folder).contains("`commondir`"));
}

#[test]
fn a_git_file_must_name_a_worktree_of_the_repository_that_is_shared() {
    let (_place, bare) = bare_repository();
    let folder = bare.join("unpacked");
    let back = format!("{}/.git\n", folder.display());
    let own = [("HEAD", "ref: refs/heads/main\n"), ("gitdir", &back), ("config", "[core]\nworktree = ..\n")];
    for (place, common) in [("own", "../.."), ("worktrees/own", "../../.."), ("a/own", "../../..")] {
        put(&folder, &[("mine", ""), (".git", &format!("gitdir: {place}\n")), (&format!("{place}/commondir"), common)]);
        for (name, text) in own {
            put(&folder, &[(&format!("{place}/{name}"), text)]);
        }
        assert!(left_behind(&folder).contains("to which it does not belong"), "{place}");
    }
    // Even among the worktrees of the repository, a checkout does not hold its own folder.
    let inside = bare.join("worktrees/inside");
    let back = format!("{}/.git\n", inside.display());
    put(&inside, &[("mine", ""), (".git", "gitdir: .\n"), ("HEAD", "ref: refs/heads/main\n"), ("commondir", "../.."), ("gitdir", &back)]);
    assert!(left_behind(&inside).contains("to which it does not belong"));
    fs::remove_dir_all(&inside).unwrap();
    // A real worktree that is another checkout's.
    let elsewhere = tempfile::tempdir().unwrap();
    let linked = elsewhere.path().join("linked");
    git(&bare, &["worktree", "add", "-q", &linked.display().to_string(), "main"]);
    let (taken, report) = take(&linked, &SourceOptions::default());
    assert!(taken.0.contains_key(".git/HEAD") && report.left_out.is_empty(), "{:?}", report.left_out);
    put(&folder, &[(".git", &fs::read_to_string(linked.join(".git")).unwrap())]);
    assert!(left_behind(&folder).contains("does not name this checkout"));
    // Without `gitdir`, a configuration that names the checkout is no substitute.
    fs::remove_file(bare.join("worktrees/linked/gitdir")).unwrap();
    put(&bare, &[("worktrees/linked/config", &format!("[core]\nworktree = {}\n", folder.display()))]);
    assert!(left_behind(&folder).contains("does not name this checkout"));
}

const SECRET: &str = "of 'https://u:s3cret@h/x'\n";
const TEXTS: [&str; 8] = [
    "COMMIT_EDITMSG",
    "MERGE_MSG",
    "rebase-merge/message",
    "rebase-apply/0001",
    "sequencer/todo",
    "BISECT_LOG",
    "info/exclude",
    "logs/refs/heads/main",
];

/// A checkout whose `.git` has secrets in all of its texts.
fn talkative() -> TempDir {
    let folder = checkout();
    for name in TEXTS {
        put(folder.path(), &[(&format!(".git/{name}"), SECRET)]);
    }
    git(folder.path(), &["config", "extensions.partialClone", "https://u:s3cret@h/x"]);
    git(folder.path(), &["config", "remote.https://u:s3cret@h/x.fetch", "a"]);
    put(folder.path(), &[(".git/modules/m/config", "s3cret"), (".git/hooks/post-commit", "s3cret"), (".git/commondir-not", "s3cret")]);
    folder
}

fn assert_no_secret(taken: &Taken) {
    for (path, (_, _, content)) in &taken.0 {
        assert!(!content.windows(6).any(|window| window == b"s3cret"), "{path}");
        assert!(!path.contains("hooks"), "{path}");
    }
    for name in TEXTS {
        assert_eq!(taken.text(&format!(".git/{name}")), "of 'https://h/x'\n");
    }
    assert!(taken.text(".git/config").contains("[remote \"https://h/x\"]"));
}

#[test]
fn no_text_of_a_git_folder_keeps_credentials() {
    assert_no_secret(&take(talkative().path(), &SourceOptions::default()).0);
}

#[test]
fn the_git_folder_of_an_archive_brings_no_more_than_that_of_a_folder() {
    let folder = talkative();
    symlink("/etc/passwd", folder.path().join(".git/ORIG_HEAD")).unwrap();
    put(folder.path(), &[("sub/.git", "gitdir: ../.git/modules/m\n")]);
    let place = tempfile::tempdir().unwrap();
    let packed = place.path().join("a.tar");
    run(folder.path(), "tar", &["-cf", &packed.display().to_string(), "--hard-dereference", "."]);
    let (taken, report) = take(&packed, &SourceOptions::default());
    assert_no_secret(&taken);
    assert_eq!(report.left_out.iter().filter(|left| left.reason == "hooks are left out").count(), 1);
    let left: Vec<_> = report.left_out.iter().map(|left| left.path.as_str()).collect();
    for path in [".git/hooks", ".git/modules", ".git/FETCH_HEAD", ".git/my-credentials", ".git/ORIG_HEAD", "sub/.git"] {
        assert_eq!(left.iter().filter(|left| **left == path).count(), 1, "{path} in {left:?}");
    }
    fs::remove_file(folder.path().join("sub/.git")).unwrap();
    let (expected, _) = take(folder.path(), &SourceOptions::default());
    let below = |taken: &Taken| {
        let files = taken.0.iter().filter(|(path, part)| path.starts_with(".git/") && part.0 == EntryKind::File);
        files.map(|(path, part)| (path.clone(), part.2.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(below(&taken), below(&expected));
    let (taken, _) = take(&packed, &SourceOptions { git: false, ..SourceOptions::default() });
    assert!(taken.0.contains_key("a.txt") && taken.0.keys().all(|path| !path.contains(".git/") && !path.ends_with(".git")));
}

#[test]
fn hard_links_and_damage_in_an_archive_bring_no_raw_configuration() {
    let config = b"[http]\n\textraHeader = s3cret\n[core]\n\tbare = false\n";
    let (_folder, path) = archives::archive(&[
        (b'0', b"a", config),
        (b'1', b".git/config", b"a"),
        (b'1', b".git/hooks/pre-commit", b"a"),
        (b'0', b"b/.git/config", b"[s3cret"),
        (b'0', b"b/.git/HEAD", b"x"),
        (b'0', b"c/.git/objects/info/alternates", b"/x"),
        (b'0', b"c/.git/HEAD", b"x"),
    ]);
    let (taken, report) = take(&path, &SourceOptions::default());
    assert_eq!(taken.text(".git/config"), "[core]\n\tbare = \"false\"\n");
    assert_eq!(taken.0.keys().collect::<Vec<_>>(), [".git", ".git/config", "a", "b", "b/.git", "b/.git/HEAD"]);
    let left: Vec<_> = report.left_out.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(left, [".git/hooks", "c/.git", "b/.git/config"]);
}
