//! Rules against the real `git check-ignore`, and rules as they are kept.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Command, Stdio},
};

use proptest::prelude::*;

use super::{rules::Excludes, *};
use crate::{entry::EntryKind, path::TreePath, records::RecordsError};

fn git(folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    // `check-ignore` says with 1 that nothing is ignored.
    assert!(output.status.code().is_some_and(|code| code < 2), "git {arguments:?}");
    output.stdout
}

/// A tree and what is written in its files of patterns.
#[derive(Debug, Clone)]
struct Tree {
    paths: Vec<Vec<u8>>,
    top: Vec<u8>,
    below: Vec<u8>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"ab",
        b"abc",
        b"A",
        b"aB",
        b"a b",
        b"a ",
        b" a",
        b"x.o",
        b".x",
        b"a-b",
        b"[a]",
        b"]",
        b"{a,b}",
        b"\\",
        b"a\\",
        b"*",
        b"a*",
        b"#a",
        b"!a",
        b"\xff",
        b"\xc3\xa9",
        b"7",
        b"~",
        b"a\t",
        b"a\r",
        b"^",
        b"\x0b",
    ])
    .prop_map(<[u8]>::to_vec)
}

pub(crate) fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join(&b'/'))
}

fn pattern() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"*"[..],
        b"*",
        b"**",
        b"**/",
        b"/**",
        b"?",
        b"/",
        b"/",
        b"[a-c]",
        b"[!a]",
        b"[^b-]",
        b"[]a]",
        b"[[:alpha:]]",
        b"[[:upper:]b]",
        b"[[:space:]]",
        b"[[:punct:]]",
        b"[[:cntrl:]]",
        b"[[:print:]]",
        b"[[:graph:]]",
        b"[[:xdigit:]]",
        b"[[:word:]]",
        b"[[:a]",
        b"[[:]",
        b"[[::]]",
        b"[a\\]]",
        b"[\\a-c]",
        b"[a-\\c]",
        b"[c-a]",
        b"[A-Z]",
        b"[",
        b"]",
        b"[a",
        b"[/]",
        b"[!/]",
        b"\\",
        b"\\*",
        b"\\a",
        b"\\A",
        b"\\/",
        b"\\ ",
        b" ",
        b"{",
        b"}",
        b",",
        b"-",
        b"!",
        b"#",
        b"\t",
        b"\r",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\0",
        b"***",
        b"a**",
        b"**a",
    ])
    .prop_map(<[u8]>::to_vec);
    let pieces = prop::collection::vec(prop_oneof![2 => name(), 3 => piece], 1..5).prop_map(|pieces| pieces.concat());
    let whole = (any::<bool>(), path(), any::<bool>())
        .prop_map(|(rooted, path, folder)| [if rooted { &b"/"[..] } else { b"" }, &path, if folder { b"/" } else { b"" }].concat());
    let raw =
        prop::collection::vec(prop_oneof![Just(b'a'), Just(b'*'), Just(b'['), Just(b']'), Just(b'/'), Just(b'\\'), any::<u8>()], 1..8);
    let line = prop_oneof![5 => pieces, 3 => whole, 1 => raw];
    (prop::bool::weighted(0.2), line).prop_map(|(negated, line)| if negated { [b"!", line.as_slice()].concat() } else { line })
}

pub(crate) fn patterns() -> impl Strategy<Value = Vec<u8>> {
    let ends = prop::sample::select(vec![&b"\n"[..], b"\n", b"\n", b"\r\n", b" \n", b"\t\n", b"\\ \n", b" \\\n", b"\n\n"]);
    prop::collection::vec((pattern(), ends), 0..4)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end.to_vec()].concat()).collect())
}

fn one() -> impl Strategy<Value = Tree> {
    (prop::collection::vec(path(), 1..9), patterns(), patterns()).prop_map(|(paths, top, below)| Tree { paths, top, below })
}

/// Makes a path below a folder, unless it is there or a file is in its way; returns what there is now.
pub(crate) fn make(folder: &Path, paths: &[Vec<u8>]) {
    for path in paths {
        let path = folder.join(OsStr::from_bytes(path));
        if fs::create_dir_all(path.parent().unwrap()).is_ok() && path.symlink_metadata().is_err() {
            fs::write(path, "").unwrap();
        }
    }
}

/// Lists everything below a folder, but for what belongs to Git.
fn list(top: &Path, folder: &Path, found: &mut Vec<(Vec<u8>, bool)>) {
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.file_name() == Some(OsStr::new(".git")) {
            continue;
        }
        found.push((path.strip_prefix(top).unwrap().as_os_str().as_bytes().to_vec(), path.is_dir()));
        if path.is_dir() {
            list(top, &path, found);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Many cases in one repository, since starting Git takes longer than all that it is asked.
    #[test]
    fn rules_decide_as_git_does(cases in prop::collection::vec(one(), 120), exclude in patterns(), user in patterns(), folded in any::<bool>()) {
        // Thousands of empty files are made and removed, which takes a disk longer than all the rest.
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let top = place.path().join("r");
        fs::create_dir(&top).unwrap();
        git(&top, &["init", "-q"], b"");
        git(&top, &["config", "core.ignoreCase", if folded { "true" } else { "false" }], b"");
        git(&top, &["config", "core.excludesFile", &place.path().join("user").display().to_string()], b"");
        fs::write(place.path().join("user"), &user).unwrap();
        fs::write(top.join(".git/info/exclude"), &exclude).unwrap();
        let mut scope = Scope::new(if folded { Case::Folded } else { Case::Sensitive });
        scope.set_excludes(Excludes::User, &user);
        scope.set_excludes(Excludes::Repository, &exclude);
        let mut rules = IgnoreRules::default();
        rules.add_scope(b"", scope).unwrap();
        for (index, case) in cases.iter().enumerate() {
            let folder = top.join(format!("case{index}"));
            fs::create_dir(&folder).unwrap();
            make(&folder, &case.paths);
            fs::write(folder.join(".gitignore"), &case.top).unwrap();
            rules.add_file(format!("case{index}").as_bytes(), &case.top).unwrap();
            if folder.join("a").is_dir() {
                fs::write(folder.join("a/.gitignore"), &case.below).unwrap();
                rules.add_file(format!("case{index}/a").as_bytes(), &case.below).unwrap();
            }
        }
        let mut paths = Vec::new();
        list(&top, &top, &mut paths);
        paths.sort();
        let asked: Vec<u8> = paths.iter().flat_map(|(path, _)| [path.as_slice(), b"\0"].concat()).collect();
        let answer = git(&top, &["check-ignore", "--no-index", "-v", "-n", "-z", "--stdin"], &asked);
        let fields: Vec<&[u8]> = answer.split(|byte| *byte == 0).collect();
        let stored = place.path().join("rules");
        rules.store(&stored).unwrap();
        let loaded = IgnoreRules::load(&stored).unwrap().unwrap();
        prop_assert_eq!(&loaded, &rules);
        let (mut judge, mut other) = (rules.judge(), loaded.judge());
        prop_assert_eq!(fields.len() / 4, paths.len());
        for ((path, folder), told) in paths.iter().zip(fields.chunks_exact(4)) {
            prop_assert_eq!(told[3], path.as_slice());
            let expected = !told[0].is_empty() && !told[2].starts_with(b"!");
            let kind = if *folder { EntryKind::Directory } else { EntryKind::File };
            let tree_path = TreePath::try_from(path.as_slice()).unwrap();
            let found = judge.ignores(&tree_path, kind);
            let why = || format!("{tree_path} {kind:?}: git says {} {}", told[0].escape_ascii(), told[2].escape_ascii());
            prop_assert_eq!(found, expected, "{}", why());
            prop_assert_eq!(other.ignores(&tree_path, kind), expected);
            prop_assert_eq!(rules.ignores(&tree_path, kind), expected);
        }
    }
}

fn rules(scopes: &[(&str, &str, &str)]) -> IgnoreRules {
    let mut rules = IgnoreRules::default();
    for (root, prefix, top) in scopes {
        let mut scope = Scope::new(Case::Sensitive);
        scope.begin_at(prefix.as_bytes(), false);
        scope.set_folder(b"", top.as_bytes());
        rules.add_scope(root.as_bytes(), scope).unwrap();
    }
    rules
}

fn check(rules: &IgnoreRules, path: &str, kind: EntryKind, expected: bool) {
    assert_eq!(rules.ignores(&TreePath::try_from(path).unwrap(), kind), expected, "{path}");
}

#[test]
fn what_lies_below_an_ignored_folder_is_ignored_whatever_is_said_of_it() {
    let rules = rules(&[("", "", "build/\n!build/keep\n*.log\n!keep.log\n")]);
    check(&rules, "build", EntryKind::Directory, true);
    check(&rules, "build", EntryKind::File, false);
    check(&rules, "build/keep", EntryKind::File, true);
    check(&rules, "a/keep.log", EntryKind::File, false);
    check(&rules, "a/x.log", EntryKind::Link, true);
}

#[test]
fn a_checkout_inside_another_one_has_rules_of_its_own() {
    let rules = rules(&[("", "", "*.o\ninner/\n"), ("inner", "", "*.log\n")]);
    for (path, kind, expected) in [
        ("x.o", EntryKind::File, true),
        ("inner", EntryKind::Directory, false),
        ("inner/x.o", EntryKind::File, false),
        ("inner/x.log", EntryKind::File, true),
        ("x.log", EntryKind::File, false),
    ] {
        check(&rules, path, kind, expected);
    }
}

#[test]
fn a_part_of_a_checkout_is_seen_from_the_whole() {
    let rules = rules(&[("", "sub/deep", "/sub/deep/x\n/y\n*.o\n")]);
    check(&rules, "x", EntryKind::File, true);
    check(&rules, "y", EntryKind::File, false);
    check(&rules, "a/z.o", EntryKind::File, true);
    let rules = rules.with_file(None, b"!x\n").unwrap().with_file(Some(&TreePath::try_from("a").unwrap()), b"/new\n").unwrap();
    check(&rules, "x", EntryKind::File, false);
    check(&rules, "a/new", EntryKind::File, true);
    check(&rules, "new", EntryKind::File, false);
    let rules = rules.with_file(None, b"").unwrap();
    check(&rules, "x", EntryKind::File, true);
}

#[test]
fn outside_a_checkout_nothing_is_ignored() {
    let rules = rules(&[("inner", "", "*\n")]).with_file(None, b"*\n").unwrap();
    check(&rules, "a", EntryKind::File, false);
    check(&rules, "inner/a", EntryKind::File, true);
}

#[test]
fn rules_that_are_too_large_are_refused() {
    let large = vec![b'\n'; 4 << 20];
    let mut rules = rules(&[("", "", "")]);
    assert_eq!(rules.clone().with_file(None, &[large.as_slice(), b"x"].concat()), Err(TooManyRules));
    for _ in 0..4 {
        rules = rules.with_file(None, &large).unwrap();
    }
    assert_eq!(rules.with_file(None, b"x"), Err(TooManyRules));
}

#[test]
fn excludes_of_the_user_are_held_once_for_many_checkouts() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = IgnoreRules::default();
    for index in 0..100 {
        let mut scope = Scope::new(Case::Sensitive);
        scope.set_excludes(Excludes::User, &[vec![b'#'; 1 << 20], b"\n*.log\n".to_vec()].concat());
        rules.add_scope(format!("checkout{index}").as_bytes(), scope).unwrap();
    }
    check(&rules, "checkout7/a.log", EntryKind::File, true);
    rules.store(&folder.path().join("rules")).unwrap();
    assert_eq!(IgnoreRules::load(&folder.path().join("rules")).unwrap(), Some(rules));
}

#[test]
fn a_set_of_rules_that_is_cut_or_newer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules");
    assert_eq!(IgnoreRules::load(&path).unwrap(), None);
    let rules = rules(&[("", "sub", "*.o\n\"\\\u{1}"), ("a", "", "x")]).with_file(None, b"\xff\n").unwrap();
    rules.store(&path).unwrap();
    assert_eq!(IgnoreRules::load(&path).unwrap(), Some(rules));
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(IgnoreRules::load(&path), Err(RecordsError::Damaged { .. })), "cut at {length}");
    }
    fs::write(&path, "{\"format\":2,\"entries\":0}\n").unwrap();
    assert!(matches!(IgnoreRules::load(&path), Err(RecordsError::Newer { found: 2, .. })));
}
