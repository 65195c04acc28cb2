//! Diffs, with the real `git` as the judge.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
    process::Command,
};

use proptest::prelude::*;

use super::*;

/// A file with its executable bit, or a link.
type Tree = BTreeMap<&'static [u8], (u32, Vec<u8>)>;

const LINK: u32 = 0o120_000;

fn side((mode, content): &(u32, Vec<u8>)) -> Side {
    let link = *mode == LINK;
    Side {
        kind: if link { EntryKind::Link } else { EntryKind::File },
        mode: if link { 0o777 } else { *mode },
        size_bytes: if link { 0 } else { u64::try_from(content.len()).unwrap() },
        content: if link { Content::Link(content.clone()) } else { Content::Bytes(content.clone()) },
    }
}

fn differences(before: &Tree, after: &Tree) -> Vec<Difference> {
    let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let of = |path: &[u8]| Difference {
        path: TreePath::try_from(path).unwrap(),
        before: before.get(path).map(side),
        after: after.get(path).map(side),
    };
    paths.into_iter().map(|path| of(path)).filter(|difference| difference.before != difference.after).collect()
}

fn write(folder: &Path, tree: &Tree) {
    fs::create_dir_all(folder).unwrap();
    for (name, (mode, content)) in tree {
        let path = folder.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if *mode == LINK {
            std::os::unix::fs::symlink(OsStr::from_bytes(content), &path).unwrap();
        } else {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
}

fn read(folder: &Path, below: &[u8], tree: &mut BTreeMap<Vec<u8>, (u32, Vec<u8>)>) {
    for item in fs::read_dir(folder).unwrap() {
        let item = item.unwrap();
        let name =
            if below.is_empty() { item.file_name().as_bytes().to_vec() } else { [below, b"/", item.file_name().as_bytes()].concat() };
        let status = fs::symlink_metadata(item.path()).unwrap();
        if status.is_dir() {
            read(&item.path(), &name, tree);
        } else if status.is_symlink() {
            tree.insert(name, (LINK, fs::read_link(item.path()).unwrap().as_os_str().as_bytes().to_vec()));
        } else {
            tree.insert(name, (status.permissions().mode() & 0o777, fs::read(item.path()).unwrap()));
        }
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.args(arguments).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(1) {
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "git {arguments:?}");
    }
    String::from_utf8(output.stdout).unwrap()
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![Just("a\n"), Just("  b\n"), Just("\n"), Just("c\r\n"), Just("-- x\n"), Just("d\n"), Just("e\n")];
    (proptest::collection::vec(line, 0..40), prop_oneof![Just(""), Just("end")])
        .prop_map(|(lines, end)| (lines.concat() + end).into_bytes())
}

fn tree() -> impl Strategy<Value = Tree> {
    let names: Vec<&[u8]> = vec![b"f", b"g h", "d/\u{e9}".as_bytes(), b"d/q\"\\", b"t\tn\n", b"\xff\xfe", b"z/y/x", b"k"];
    let entry = prop_oneof![
        4 => (Just(0o644), text()),
        2 => (Just(0o755), text()),
        1 => (Just(LINK), prop_oneof![Just(b"to".to_vec()), Just(b"../else".to_vec())])
    ];
    proptest::collection::btree_map(proptest::sample::select(names), entry, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn git_apply_makes_the_other_tree(before in tree(), after in tree(), renames in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("tree");
        write(&place, &before);
        let report = render(differences(&before, &after), DiffLimits { renames, ..DiffLimits::default() });
        prop_assert_eq!(report.patch.is_empty(), before == after);
        fs::write(folder.path().join("patch"), &report.patch).unwrap();
        if !report.patch.is_empty() {
            git(&place, &["apply", "--whitespace=nowarn", "../patch"]);
        }
        let mut result = BTreeMap::new();
        read(&place, b"", &mut result);
        let expected: BTreeMap<Vec<u8>, _> = after.into_iter().map(|(name, file)| (name.to_vec(), file)).collect();
        prop_assert_eq!(result, expected);
    }

    #[test]
    fn our_own_engine_agrees(before in tree(), after in tree()) {
        let report = render(differences(&before, &after), DiffLimits::default());
        if !report.patch.is_empty() {
            let state = before.iter().map(|(name, file)| {
                let side = side(file);
                let there = match side.kind {
                    EntryKind::Directory => crate::PathState::Directory,
                    EntryKind::File => crate::PathState::File { mode: side.mode, content: file.1.clone() },
                    EntryKind::Link => crate::PathState::Link { target: file.1.clone() },
                };
                (TreePath::try_from(*name).unwrap(), there)
            }).collect();
            let edits = crate::parse(&report.patch).and_then(|patch| patch.apply(&state));
            prop_assert!(edits.is_ok(), "{}\n{}", edits.unwrap_err(), String::from_utf8_lossy(&report.patch));
            let mut result: BTreeMap<Vec<u8>, (u32, Vec<u8>)> = before.iter().map(|(name, file)| (name.to_vec(), file.clone())).collect();
            for edit in edits.unwrap().edits {
                match edit {
                    crate::Edit::Remove { path } => drop(result.remove(path.as_bytes())),
                    crate::Edit::Link { path, target, .. } => drop(result.insert(path.as_bytes().to_vec(), (LINK, target))),
                    crate::Edit::Write { path, content, mode, .. } => drop(result.insert(path.as_bytes().to_vec(), (mode, content))),
                }
            }
            let expected: BTreeMap<Vec<u8>, _> = after.into_iter().map(|(name, file)| (name.to_vec(), file)).collect();
            prop_assert_eq!(result, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_stat_is_laid_out_as_git_does(sizes in proptest::collection::btree_map("[a-z]{1,12}(/[a-z]{1,30}){0,3}x", (0_usize..200, 0_usize..200, any::<bool>()), 1..5), columns in 30_usize..100) {
        let folder = tempfile::tempdir().unwrap();
        let mut differences = Vec::new();
        for (name, (old, new, binary)) in &sizes {
            let content = |count: usize, letter: &str| {
                let mut bytes = format!("{letter}\n").repeat(count).into_bytes();
                if *binary {
                    bytes.insert(0, 0);
                }
                bytes
            };
            let (old, new) = (content(*old, "a"), content(*new, "b"));
            for (tree, bytes) in [("one", &old), ("two", &new)] {
                let path = folder.path().join(tree).join(name);
                // A name that is a folder of another one is of no use here.
                if fs::create_dir_all(path.parent().unwrap()).is_err() || fs::write(path, bytes).is_err() {
                    return Ok(());
                }
            }
            let path = TreePath::try_from(name.as_str()).unwrap();
            differences.push(Difference { path, before: Some(side(&(0o644, old))), after: Some(side(&(0o644, new))) });
        }
        differences.retain(|difference| difference.before != difference.after);
        let width = format!("--stat={columns}");
        git(folder.path(), &["init", "-q", "one"]);
        let repository = folder.path().join("one");
        git(&repository, &["add", "-A"]);
        let before = git(&repository, &["write-tree"]);
        git(&repository, &["--git-dir=.git", "--work-tree=../two", "add", "-A"]);
        let after = git(&repository, &["write-tree"]);
        let expected = git(&repository, &["diff", "--no-renames", &width, before.trim(), after.trim()]);
        prop_assert_eq!(render(differences, DiffLimits { renames: false, ..DiffLimits::default() }).stat(columns), expected);
    }
}

#[test]
fn what_no_patch_carries_is_an_entry() {
    let folder = Side { kind: EntryKind::Directory, mode: 0o755, size_bytes: 0, content: Content::None };
    let large = Side { kind: EntryKind::File, mode: 0o644, size_bytes: 1 << 40, content: Content::TooLarge };
    let binary = side(&(0o644, b"a\0b".to_vec()));
    let private = side(&(0o600, b"x\n".to_vec()));
    let public = side(&(0o644, b"x\n".to_vec()));
    let difference = |path: &str, before: Option<&Side>, after: Option<&Side>| Difference {
        path: TreePath::try_from(path).unwrap(),
        before: before.cloned(),
        after: after.cloned(),
    };
    let report = render(
        vec![
            difference("z", Some(&private), Some(&public)),
            difference("d", None, Some(&folder)),
            difference("b", None, Some(&binary)),
            difference("l", Some(&large), Some(&large)),
            difference("t", Some(&public), Some(&folder)),
        ],
        DiffLimits::default(),
    );
    let shown: Vec<_> = report.entries.iter().map(|entry| (entry.path.to_string(), entry.change.as_str(), entry.binary)).collect();
    assert_eq!(
        shown,
        [
            ("b".to_owned(), "added", true),
            ("d".to_owned(), "added", false),
            ("l".to_owned(), "modified", true),
            ("t".to_owned(), "type_changed", false),
            ("z".to_owned(), "mode_changed", false)
        ]
    );
    assert_eq!(
        String::from_utf8(report.patch).unwrap(),
        "Binary files /dev/null and b/b differ\nBinary files a/l and b/l differ\n\
        diff --git a/t b/t\ndeleted file mode 100644\n--- a/t\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    );
}

#[test]
fn a_patch_ends_before_it_grows_too_long_and_the_entries_go_on() {
    let (one, two) = (Tree::new(), Tree::from([(&b"a"[..], (0o644, b"x\n".repeat(100))), (b"b", (0o644, b"y\n".to_vec()))]));
    let report = render(differences(&one, &two), DiffLimits { patch_max_bytes: 100, ..DiffLimits::default() });
    assert_eq!((report.patch.len(), report.entries.len(), report.truncated, report.insertions), (0, 2, true, 101));
}
