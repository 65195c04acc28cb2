//! Patches as models and Git write them, and the real `git` as the judge.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use proptest::prelude::*;

use super::*;

type State = BTreeMap<TreePath, Option<FileState>>;

fn path(text: &str) -> TreePath {
    TreePath::try_from(text).unwrap()
}

fn file(text: &str) -> Option<FileState> {
    Some(FileState { kind: EntryKind::File, mode: 0o644, content: text.as_bytes().to_vec(), link_target: None })
}

fn state(files: &[(&str, &str)]) -> State {
    files.iter().map(|(name, text)| (path(name), file(text))).collect()
}

/// Applies a patch and shows what becomes of the files.
fn apply(patch: &str, files: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let patch = parse(patch.as_bytes()).map_err(|error| error.to_string())?;
    let edits = patch.apply(&state(files)).map_err(|error| error.to_string())?;
    Ok(edits
        .into_iter()
        .map(|edit| match edit {
            Edit::Write { path, content, mode, keep_mode, created } => {
                let mark = if created { "+" } else { "" };
                let mode = if keep_mode { String::new() } else { format!(" {mode:o}") };
                format!("{mark}{path}{mode}: {}", String::from_utf8_lossy(&content))
            }
            Edit::Link { path, target, .. } => format!("{path} -> {}", String::from_utf8_lossy(&target)),
            Edit::Remove { path } => format!("-{path}"),
        })
        .collect())
}

fn applies(patch: &str, files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(apply(patch, files).unwrap(), expected, "{patch}");
}

fn fails(patch: &str, files: &[(&str, &str)], expected: &str) {
    assert_eq!(apply(patch, files).unwrap_err(), expected, "{patch}");
}

const F: &[(&str, &str)] = &[("f", "1\n2\n3\n4\n5\n6\n")];

#[test]
fn what_models_write_around_a_patch_is_skipped() {
    let body = "--- a/f\n+++ b/f\n@@ -2,3 +2,3 @@ fn x\n 2\n-3\n+three\n 4\n";
    let expected = &["f: 1\n2\nthree\n4\n5\n6\n"];
    applies(body, F, expected);
    applies(&format!("Here it is:\n\n```diff\n{body}```\nDone.\n"), F, expected);
    applies(&format!("{body}-- \n2.47.3\n"), F, expected);
    applies(&format!("{body}\nThat was it.\n- and a list\n"), F, expected);
    applies(&body.replace('\n', "\r\n"), F, expected);
    applies(&body.replace("a/f", "f\t2020-01-01 00:00").replace("b/f", "f\t2020-01-02 00:00"), F, expected);
}

#[test]
fn wrong_counts_are_counted_anew() {
    for counts in ["-2,9 +2,9", "-2,1 +2,1", "-2 +2", "-2,3 +2,4"] {
        let patch = format!("--- a/f\n+++ b/f\n@@ {counts} @@\n 2\n-3\n+three\n 4\n\nprose\n");
        applies(&patch, F, &["f: 1\n2\nthree\n4\n5\n6\n"]);
    }
    applies("--- a/f\n+++ b/f\n@@ ... @@\n 2\n-3\n+three\n 4\n", F, &["f: 1\n2\nthree\n4\n5\n6\n"]);
}

#[test]
fn blank_context_lines_may_lack_their_blank() {
    applies("--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n", &[("f", "a\n\nb\n")], &["f: a\n\nc\n"]);
}

#[test]
fn a_hunk_is_taken_to_the_only_other_place_and_no_further() {
    applies("--- a/f\n+++ b/f\n@@ -20,2 +20,2 @@\n 4\n-5\n+five\n", F, &["f: 1\n2\n3\n4\nfive\n6\n"]);
    let twice = &[("f", "x\ny\n1\nx\ny\n2\nx\nz\n")];
    fails(
        "--- a/f\n+++ b/f\n@@ -3,2 +3,2 @@\n x\n-y\n+n\n",
        twice,
        "patch does not apply, nothing was changed\nf (patch line 1): hunk 1 `@@ -3,2 +3,2 @@` (patch line 3): its lines occur at lines 1, 4; \
        correct the line number, or add context",
    );
}

#[test]
fn every_failure_is_named_with_the_nearest_place() {
    let patch =
        "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n 1\n-two\n+zwei\n 3\n@@ -5,2 +5,2 @@\n  5\n-6\n+sechs\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-x\n+y\n";
    fails(
        patch,
        F,
        "patch does not apply, nothing was changed\n\
        f (patch line 1): hunk 1 `@@ -1,3 +1,3 @@` (patch line 3): it comes closest at line 1, where 2 of 3 lines fit; line 2 differs\n  \
        expected: `two`\n  found:    `2`\n\
        f (patch line 1): hunk 2 `@@ -5,2 +5,2 @@` (patch line 8): it comes closest at line 5, where 1 of 2 lines fit; line 5 differs in white \
        space or line end only\n  expected: ` 5`\n  found:    `5`\n\
        g (patch line 12): does not exist",
    );
}

#[test]
fn a_missing_line_end_must_be_said() {
    let file = &[("f", "a\nb")];
    applies("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n", file, &["f: a\nc\n"]);
    let error = apply("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n", file).unwrap_err();
    assert!(error.contains("line 2 of the file ends without a line break"), "{error}");
    let error = apply("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a\n+c\n\\ No newline at end of file\n b\n\\ No newline\n", file).unwrap_err();
    assert!(error.contains("not the last"), "{error}");
}

#[test]
fn line_ends_of_a_file_are_kept() {
    let file = &[("f", "a\r\nb\r\n")];
    applies("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\r\n-b\r\n+c\r\n", file, &["f: a\r\nc\r\n"]);
    applies("--- a/f\r\n+++ b/f\r\n@@ -1,2 +1,2 @@\r\n a\r\n-b\r\n+c\r\n", file, &["f: a\r\nc\r\n"]);
    let error = apply("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n", file).unwrap_err();
    assert!(error.contains("white space or line end only") || error.contains("none of its lines"), "{error}");
}

#[test]
fn files_come_go_move_and_change_their_mode() {
    let g = "diff --git a/f b/f\n";
    applies("--- /dev/null\n+++ b/d/n\n@@ -0,0 +1,2 @@\n+a\n+b\n", &[], &["+d/n 644: a\nb\n"]);
    applies("diff --git a/e b/e\nnew file mode 100755\nindex 0000000..e69de29\n", &[], &["+e 755: "]);
    applies("--- a/g\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", &[("g", "x\n")], &["-g"]);
    applies(&format!("{g}old mode 100644\nnew mode 100755\n"), F, &["f 755: 1\n2\n3\n4\n5\n6\n"]);
    applies("diff --git a/f b/h\nsimilarity index 100%\nrename from f\nrename to h\n", &[("f", "x\n")], &["-f", "+h 644: x\n"]);
    applies(
        "diff --git a/f b/h\nsimilarity index 90%\ncopy from f\ncopy to h\n--- a/f\n+++ b/h\n@@ -1 +1 @@\n-x\n+y\n",
        &[("f", "x\n")],
        &["+h 644: y\n"],
    );
    let typed = "diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\ndiff --git a/f b/f\nnew file mode 120000\n\
        --- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+to\n\\ No newline at end of file\n";
    applies(typed, &[("f", "x\n")], &["f -> to"]);
}

#[test]
fn what_would_lose_something_is_refused() {
    let check = |patch: &str, files: &[(&str, &str)], expected: &str| {
        let error = apply(patch, files).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    check("--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+a\n", F, "f (patch line 1): exists already");
    check("--- a/f\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-1\n-2\n", F, "4 of its lines are not in the patch");
    check("diff --git a/f b/g\nrename from f\nrename to g\n", &[("f", ""), ("g", "")], "f -> g (patch line 1): g: exists already");
    check("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+x\n--- a/f\n+++ b/f\n@@ -2 +2 @@\n-2\n+y\n", F, "changed twice");
    check("--- /dev/null\n+++ b/f/x\n@@ -0,0 +1 @@\n+a\n", F, "`f` is no folder");
    check("--- a/f\n+++ b/f\n@@ -2,0 +3 @@\n+x\n", F, "has no context");
}

#[test]
fn what_cannot_be_read_is_said_with_its_line() {
    fails("nothing\n", &[], "patch holds no change: no line begins with `diff --git` or `---`");
    fails("x\n@@ -1 +1 @@\n", &[], "cannot read patch, line 2 `@@ -1 +1 @@`: a hunk comes before any `--- a/PATH` and `+++ b/PATH`");
    fails(
        "--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n",
        &[],
        "cannot read patch, line 1 `--- a/../x`: path `../x` has a component `.`, `..` or an empty one",
    );
    fails("--- a/f\n+++ b/f\n@@ what\n", F, "cannot read patch, line 4 ``: the hunk changes nothing: it has neither a `+` nor a `-` line");
    let binary = "diff --git a/f b/f\nindex 1..2 100644\nBinary files a/f and b/f differ\n";
    assert!(apply(binary, F).unwrap_err().contains("git diff --binary"));
    assert!(apply("*** Begin Patch\n*** Update File: f\n", F).unwrap_err().contains("not a unified diff"));
    assert_eq!(parse(&vec![b'\n'; PATCH_MAX_BYTES + 1]), Err(PatchError::TooLarge { size_bytes: PATCH_MAX_BYTES + 1 }));
}

#[test]
fn a_report_stays_short() {
    let patch: String = (0..500).map(|n| format!("--- a/{n}\n+++ b/{n}\n@@ -1 +1 @@\n-{}\n+b\n", "x".repeat(300))).collect();
    let files: Vec<(String, &str)> = (0..500).map(|n| (n.to_string(), "y\n")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let error = apply(&patch, &files).unwrap_err();
    assert!(error.len() < REPORT_MAX_BYTES + 64 && error.contains("… and 4"), "{error}");
}

fn git(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("git");
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A small tree: names that need quoting, contents with few different lines so that hunks have company.
fn tree() -> impl Strategy<Value = BTreeMap<&'static str, (bool, Vec<u8>)>> {
    let line = prop_oneof![Just("a\n"), Just("b\n"), Just("\n"), Just("c\r\n"), Just("--- a/x\n"), Just("+++ b\n"), Just("@@ -1 +1 @@\n")];
    let text = (proptest::collection::vec(line, 0..30), prop_oneof![Just(""), Just("end")])
        .prop_map(|(lines, end)| (lines.concat() + end).into_bytes());
    let content = prop_oneof![4 => text, 1 => proptest::collection::vec(any::<u8>(), 0..300)];
    let name = proptest::sample::select(vec!["f", "g h", "d/\u{e9}", "d/q\"", "t\tn\n", "z"]);
    proptest::collection::btree_map(name, (any::<bool>(), content), 0..5)
}

fn write(folder: &Path, tree: &BTreeMap<&str, (bool, Vec<u8>)>) {
    for (name, (executable, content)) in tree {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(if *executable { 0o755 } else { 0o644 })).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn patches_of_git_give_what_git_compared(before in tree(), after in tree(), context in 1_usize..4) {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("one"), &before);
        write(&folder.path().join("two"), &after);
        fs::create_dir_all(folder.path().join("one")).unwrap();
        fs::create_dir_all(folder.path().join("two")).unwrap();
        let repository = folder.path().join("one");
        git(&repository, &["init", "-q"]);
        git(&repository, &["add", "-A"]);
        let one = String::from_utf8(git(&repository, &["write-tree"])).unwrap();
        let work_tree = format!("--work-tree={}", folder.path().join("two").display());
        git(&repository, &["--git-dir=.git", &work_tree, "add", "-A"]);
        let two = String::from_utf8(git(&repository, &["write-tree"])).unwrap();
        let lines = format!("-U{context}");
        let patch = git(&repository, &["diff", "-M40%", "-C40%", "--find-copies-harder", "--binary", &lines, one.trim(), two.trim()]);
        if before == after {
            prop_assert_eq!(parse(&patch), Err(PatchError::Empty));
            return Ok(());
        }
        let as_state = |(executable, content): &(bool, Vec<u8>)| FileState {
            kind: EntryKind::File, mode: if *executable { 0o755 } else { 0o644 }, content: content.clone(), link_target: None,
        };
        let state: State = before.iter().map(|(name, file)| (path(name), Some(as_state(file)))).collect();
        let edits = parse(&patch).and_then(|patch| patch.apply(&state)).map_err(|error| {
            TestCaseError::fail(format!("{error}\n{}", String::from_utf8_lossy(&patch)))
        })?;
        let mut result: BTreeMap<TreePath, FileState> = state.into_iter().filter_map(|(path, state)| Some((path, state?))).collect();
        for edit in edits {
            match edit {
                Edit::Remove { path } => prop_assert!(result.remove(&path).is_some()),
                Edit::Link { .. } => prop_assert!(false),
                Edit::Write { path, content, mode, keep_mode, created } => {
                    let old = result.insert(path, FileState { kind: EntryKind::File, mode, content, link_target: None });
                    prop_assert_eq!(old.is_none(), created);
                    prop_assert!(!keep_mode || old.is_some_and(|old| old.mode == mode));
                }
            }
        }
        let expected: BTreeMap<TreePath, FileState> = after.iter().map(|(name, file)| (path(name), as_state(file))).collect();
        prop_assert_eq!(result, expected);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(pieces in proptest::collection::vec(prop_oneof![
        Just("--- a/f\n".to_owned()), Just("+++ b/f\n".to_owned()), Just("diff --git a/f b/f\n".to_owned()), Just("@@ -1,2 +1,3 @@\n".to_owned()),
        Just("+x\n".to_owned()), Just("-y\n".to_owned()), Just(" z\n".to_owned()), Just("\\ No\n".to_owned()), Just("GIT binary patch\n".to_owned()),
        Just("literal 3\nKc$\n".to_owned()), Just("rename from f\n".to_owned()), Just("new mode 100755\n".to_owned()), "\\PC{0,8}\n?",
    ], 0..20)) {
        if let Ok(patch) = parse(pieces.concat().as_bytes()) {
            let _ = patch.apply(&state(F));
        }
    }
}
