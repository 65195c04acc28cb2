//! What is not a unified diff is named, with what to send instead; submodules are left alone, and that is said.

use super::{
    kit::{Files, after, command, git, git_apply, states, text},
    *,
};

/// Checks that a text is refused as what it is.
#[track_caller]
fn named(patch: &[u8], expected: &str, hint: &str) {
    let error = parse(patch).expect_err(&String::from_utf8_lossy(patch));
    assert!(error.to_string().contains(expected), "{error}\n{}", String::from_utf8_lossy(patch));
    assert!(error.hint().is_some_and(|text| text.contains(hint)), "{:?}", error.hint());
    assert_eq!(error.kind(), pyro_proto::error::ErrorKind::InvalidArgument);
}

/// A repository whose last commit merges two sides that both changed `f`, and in which `f` is changed once more.
fn merged() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let write = |text: &str| std::fs::write(place.join("f"), text).unwrap();
    git(place, &["init", "-q", "-b", "main"]);
    let commit = |text: &str| {
        write(text);
        git(place, &["add", "-A"]);
        git(place, &["commit", "-q", "-m", "a commit"]);
    };
    commit("a\n1\n2\n3\n4\n5\nb\n");
    git(place, &["checkout", "-q", "-b", "side"]);
    commit("a\n1\n2\n3\n4\n5\nB\n");
    git(place, &["checkout", "-q", "main"]);
    commit("A\n1\n2\n3\n4\n5\nb\n");
    git(place, &["merge", "-q", "--no-commit", "side"]);
    write("A\n1\n2\nboth\n4\n5\nB\n");
    git(place, &["commit", "-q", "-a", "-m", "merge"]);
    write("A\n1\n2\nlater\n4\n5\nB\n");
    folder
}

#[test]
fn other_formats_of_git_and_diff_are_refused_by_name() {
    let folder = merged();
    let place = folder.path();
    let git = |arguments: &[&str]| git(place, arguments);
    for flags in [&["show", "HEAD"][..], &["show", "-c", "HEAD"], &["log", "-p", "--cc", "-1"]] {
        named(&git(flags), "combined diff of a merge", "git diff HEAD^1 HEAD");
    }
    // What the hint says gives a patch.
    let parent: Files = [(b"f".to_vec(), text(b"A\n1\n2\n3\n4\n5\nb\n"))].into();
    let patch = git(&["diff", "HEAD^1", "HEAD"]);
    let applied = parse(&patch).and_then(|patch| patch.apply(&states(&parent))).unwrap();
    assert_eq!(after(&parent, applied), [(b"f".to_vec(), text(b"A\n1\n2\nboth\n4\n5\nB\n"))].into());
    named(&git(&["diff", "--word-diff"]), "word diff", "without `--word-diff`");
    named(&git(&["diff", "--word-diff=porcelain"]), "word diff", "without `--word-diff`");
    named(&git(&["diff", "--color=always"]), "color escapes", "--no-color");
    named(&git(&["diff", "--color=always", "--word-diff=color"]), "color escapes", "--no-color");
    for flag in ["--stat", "--shortstat", "--numstat", "--name-status", "--raw", "--dirstat=lines,0", "--name-only"] {
        let text = git(&["diff", flag]);
        let error = parse(&text).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        if !["--name-only", "--dirstat=lines,0"].contains(&flag) {
            named(&text, "summary of changes", "-p");
        }
    }
    std::fs::write(place.join("one"), "a\nb\n").unwrap();
    std::fs::write(place.join("two"), "a\nc\nd\n").unwrap();
    let diff = |flags: &[&str]| command("diff", place).args(flags).args(["one", "two"]).output().unwrap().stdout;
    named(&diff(&["-c"]), "context diff", "diff -u");
    named(&diff(&[]), "normal format", "diff -u");
    named(&diff(&["-e"]), "ed script", "diff -u");
    named(&diff(&["-y"]), "contains no change", "unified diff");
}

#[test]
fn formats_of_models_are_refused_by_name() {
    named(b"*** Begin Patch\n*** Update File: f\n@@\n-1\n+2\n*** End Patch\n", "`apply_patch` format", "--- a/PATH");
    named(b"f\n<<<<<<< SEARCH\n1\n=======\n2\n>>>>>>> REPLACE\n", "search and replace blocks", "file replace");
    named(b"  diff --git a/f b/f\n  --- a/f\n  +++ b/f\n  @@ -1 +1 @@\n  -1\n  +2\n", "indented or quoted", "first column");
    named(b"> --- a/f\n> +++ b/f\n> @@ -1 +1 @@\n> -1\n> +2\n", "indented or quoted", "first column");
    let wide: Vec<u8> = "--- a/f\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    named(&[b"\xff\xfe", wide.as_slice()].concat(), "UTF-16", "UTF-8");
    applies("\u{feff}--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+2\n", &[("f", "1\n")], &["f: 2\n"]);
}

#[test]
fn a_foreign_part_of_a_patch_is_not_read_over() {
    let good = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+2\n";
    for (part, expected) in [
        ("diff --cc g\nindex 1,2..3\n--- a/g\n+++ b/g\n@@@ -1,1 -1,1 +1,1 @@@\n- 1\n -2\n++3\n", "combined"),
        ("*** Update File: g\n@@\n-1\n+2\n", "apply_patch"),
        ("*** g\t2020\n--- g\t2021\n***************\n*** 1 ****\n! 1\n--- 1 ----\n! 2\n", "context diff"),
        ("diff one two\n2c2\n< b\n---\n> c\n", "normal format"),
        ("<<<<<<< SEARCH\n1\n=======\n2\n>>>>>>> REPLACE\n", "search and replace"),
    ] {
        named(format!("{good}{part}").as_bytes(), expected, "");
        named(format!("{good}\n{part}").as_bytes(), expected, "");
        named(format!("{part}{good}").as_bytes(), expected, "");
    }
}

#[test]
fn a_hint_does_not_ask_for_what_was_done() {
    let folder = merged();
    let binary = folder.path().join("bin");
    std::fs::write(&binary, b"\0\x01").unwrap();
    git(folder.path(), &["add", "-A"]);
    let error = parse(&git(folder.path(), &["diff", "--cached"])).unwrap_err();
    assert!(error.hint().unwrap().contains("--binary"), "{error}");
    assert!(parse(&git(folder.path(), &["diff", "--cached", "--binary"])).is_ok());
}

/// A superproject with the submodule `lib`, checked out.
fn superproject(place: &std::path::Path) {
    let (sub, top) = (place.join("sub"), place.join("top"));
    for repository in [&sub, &top] {
        std::fs::create_dir(repository).unwrap();
        git(repository, &["init", "-q"]);
        std::fs::write(repository.join("f"), "1\n").unwrap();
        git(repository, &["add", "-A"]);
        git(repository, &["commit", "-q", "-m", "one"]);
    }
    git(&top, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../sub", "lib"]);
    git(&top, &["commit", "-q", "-m", "a submodule"]);
}

#[test]
fn submodules_are_left_alone_as_git_apply_does_and_the_answer_says_so() {
    let folder = tempfile::tempdir().unwrap();
    superproject(folder.path());
    let top = folder.path().join("top");
    std::fs::write(top.join("f"), "2\n").unwrap();
    let check = |patch: &[u8], before: &Files| {
        let applied = parse(patch).and_then(|patch| patch.apply(&states(before))).unwrap_or_else(|error| panic!("{error}"));
        let left: Vec<String> = applied.left_out.iter().map(|left| left.path.clone()).collect();
        (after(before, applied), left)
    };
    let file = |name: &str, content: &str| (name.as_bytes().to_vec(), text(content.as_bytes()));
    let before: Files = [file("f", "1\n"), file("lib/f", "1\n")].into();
    let wanted: Files = [file("f", "2\n"), file("lib/f", "1\n")].into();
    // Added, with `.gitmodules`, which is text.
    let added = git(&top, &["diff", "--no-color", "HEAD~1", "HEAD"]);
    let (made, left) = check(&added, &[file("f", "1\n")].into());
    assert_eq!((made.keys().cloned().collect::<Vec<_>>(), left), (vec![b".gitmodules".to_vec(), b"f".to_vec()], vec!["lib".to_owned()]));
    // With changes of its own that no commit has.
    std::fs::write(top.join("lib/f"), "dirty\n").unwrap();
    assert_eq!(check(&git(&top, &["diff"]), &before), (wanted.clone(), vec!["lib".to_owned()]));
    assert_eq!(check(&git(&top, &["diff", "--submodule=log"]), &before), (wanted.clone(), vec!["lib".to_owned()]));
    // Moved.
    git(&top.join("lib"), &["commit", "-q", "-a", "-m", "two"]);
    for flags in [&["diff"][..], &["diff", "--submodule=log"], &["diff", "--full-index", "--binary"]] {
        let patch = git(&top, flags);
        assert_eq!(check(&patch, &before), (wanted.clone(), vec!["lib".to_owned()]), "{flags:?}");
        assert_eq!(git_apply(&before, &patch, &[]), Ok(wanted.clone()), "{flags:?}");
    }
    // Its own changes as text are a patch of its files.
    let inside = git(&top, &["diff", "--submodule=diff"]);
    assert_eq!(check(&inside, &before).0, [file("f", "2\n"), file("lib/f", "dirty\n")].into());
    // Removed; and a patch that does nothing else is one, too.
    git(&top, &["checkout", "-q", "f"]);
    git(&top, &["rm", "-q", "-f", "--cached", "lib"]);
    let removed = git(&top, &["diff", "--cached"]);
    assert_eq!(check(&removed, &before), (before.clone(), vec!["lib".to_owned()]));
    // A damaged part of a submodule is as bad as any.
    let error = parse(String::from_utf8(removed).unwrap().replace("-Subproject", "Subproject").as_bytes()).unwrap_err();
    assert!(error.to_string().contains("starts with none of"), "{error}");
}

#[test]
fn what_a_comparison_only_mentions_is_named() {
    let good = "diff -ru one/f two/f\n--- one/f\t2020-01-01 00:00:00 +0000\n+++ two/f\t2020-01-02 00:00:00 +0000\n@@ -1 +1 @@\n-1\n+2\n";
    let mentions = "Only in two/d: n\nBinary files one/b and two/b differ\nFiles one/c and two/c differ\nSymbolic links one/l and two/l differ\n\
        File one/k is a regular file while file two/k is a symbolic link\nSubmodule lib 1234567..89abcde:\n  > a commit\n";
    let applied = parse(format!("{mentions}{good}{mentions}").as_bytes()).and_then(|patch| patch.apply(&state(&[("f", "1\n")]))).unwrap();
    let paths: Vec<&str> = applied.left_out.iter().map(|left| left.path.as_str()).collect();
    assert_eq!(paths[..6], ["two/d/n", "two/b", "two/c", "two/l", "two/k", "lib"]);
    assert_eq!((applied.left_out_count, applied.files.len()), (12, 1));
    named(b"Only in two/d: n\n", "mentions `two/d/n`, but does not contain its change", "git diff --no-index");
    named(b"Binary files one/b and two/b differ\n", "is binary", "--binary");
}
