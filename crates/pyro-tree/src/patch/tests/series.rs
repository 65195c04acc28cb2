//! Series of commits, and patches that change a file twice.

use super::{
    kit::{Files, after, command, git, git_apply, states, text},
    *,
};

/// Makes commits of the trees one after the other and returns them as a mailbox, made by `git format-patch`.
fn mailbox(trees: &[&[(&str, &str)]], flags: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    git(place, &["init", "-q"]);
    for files in trees {
        for name in kit::read(place).keys() {
            std::fs::remove_file(place.join(String::from_utf8(name.clone()).unwrap())).unwrap();
        }
        kit::write(place, &tree(files));
        git(place, &["add", "-A"]);
        git(place, &["commit", "-q", "-m", "a change: of a file\n\n- one thing\n- another\n\n--- no header\n@ nor this"]);
    }
    let since = format!("HEAD~{}", trees.len() - 1);
    git(place, &[&["format-patch", "-q", "--stdout"], flags, &[&since]].concat())
}

fn tree(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(name, content)| (name.as_bytes().to_vec(), text(content.as_bytes()))).collect()
}

/// Checks that a series of trees arrives at the last one, whatever Git's `apply` makes of it.
#[track_caller]
fn arrives(trees: &[&[(&str, &str)]], flags: &[&str]) -> Vec<PatchedPath> {
    let (first, last) = (tree(trees[0]), tree(trees[trees.len() - 1]));
    let patch = mailbox(trees, flags);
    let applied = parse(&patch).and_then(|patch| patch.apply(&states(&first))).unwrap_or_else(|error| panic!("{error}"));
    let files = applied.files.clone();
    assert_eq!(after(&first, applied), last, "{}", String::from_utf8_lossy(&patch));
    files
}

const LONG: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n20\n";

#[test]
fn a_mailbox_is_applied_commit_by_commit() {
    let two = LONG.replace("2\n3", "two\n3");
    let eighteen = two.replace("18\n", "eighteen\n");
    // Different files, the same one, and one that is added and then changed.
    arrives(&[&[("a", "a\n"), ("b", "b\n")], &[("a", "aa\n"), ("b", "b\n")], &[("a", "aa\n"), ("b", "bb\n")]], &[]);
    let files = arrives(&[&[("f", LONG)], &[("f", &two)], &[("f", &eighteen)]], &[]);
    assert_eq!(files.len(), 1, "a file changed by two commits is changed once: {files:?}");
    arrives(&[&[("f", "1\n")], &[("f", "2\n")], &[("f", "1\n")]], &[]);
    arrives(&[&[("x", "x\n")], &[("x", "x\n"), ("n", LONG)], &[("x", "x\n"), ("n", &two)], &[("x", "x\n")]], &[]);
    // Deleted and made anew, changed and deleted, renamed and changed, changed and renamed, there and back.
    arrives(&[&[("f", LONG)], &[], &[("f", "other\n")]], &[]);
    arrives(&[&[("f", LONG)], &[("f", &two)], &[]], &[]);
    arrives(&[&[("f", LONG)], &[("g", &two)], &[("g", &eighteen)]], &[]);
    arrives(&[&[("f", LONG)], &[("f", &two)], &[("g", &eighteen)]], &[]);
    arrives(&[&[("f", LONG)], &[("g", LONG)], &[("f", LONG)]], &[]);
    arrives(&[&[("f", LONG)], &[("f", &two)], &[("f", &two), ("g", &eighteen)]], &["-C", "--find-copies-harder"]);
    // Two files swap their names, in one commit and over three.
    let other = "a\nb\nc\nd\ne\nf\ng\nh\n";
    arrives(&[&[("f", LONG), ("g", other)], &[("f", other), ("g", LONG)]], &["-B", "-M"]);
    arrives(&[&[("f", LONG), ("g", other)], &[("t", LONG), ("g", other)], &[("t", LONG), ("f", other)], &[("g", LONG), ("f", other)]], &[]);
    // A file becomes a directory.
    arrives(&[&[("d", "x\n")], &[], &[("d/f", "x\n")]], &[]);
}

#[test]
fn signatures_and_headers_of_mails_are_read_over() {
    let trees: &[&[(&str, &str)]] = &[&[("f", "1\n2\n")], &[("f", "one\n2\n")], &[("f", "one\ntwo\n")]];
    for flags in [
        &["--signature=Kind regards"][..],
        &["--no-signature"],
        &["--attach"],
        &["--inline"],
        &["--cover-letter"],
        &["--thread"],
        &["--numbered", "--signoff"],
        &["--base=HEAD~2"],
        &["--stat", "--patch-with-raw"],
    ] {
        arrives(trees, flags);
    }
    let patch = String::from_utf8(mailbox(trees, &[])).unwrap();
    let first = tree(trees[0]);
    for other in [
        patch.replace("-- \n", "--\n"),
        patch.replace("2.47.3\n", "2.39.5 (Apple Git-154)\n"),
        patch.replacen("Subject: ", "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\nSubject: ", 1),
        patch.replacen("\n---\n", "\n-- >8 --\nSubject: other\n\n---\n", 1),
        patch.replace('\n', "\r\n"),
    ] {
        let applied =
            parse(other.as_bytes()).and_then(|patch| patch.apply(&states(&first))).unwrap_or_else(|error| panic!("{error}\n{other}"));
        assert_eq!(after(&first, applied), tree(trees[2]));
    }
}

#[test]
fn what_mails_say_about_earlier_versions_is_read_over() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    git(place, &["init", "-q"]);
    let commit = |content: &str| {
        std::fs::write(place.join("f"), content).unwrap();
        git(place, &["add", "-A"]);
        git(place, &["commit", "-q", "-m", "a change"]);
    };
    commit(LONG);
    git(place, &["branch", "base"]);
    commit(&LONG.replace("2\n3", "2\nthree"));
    git(place, &["branch", "old"]);
    git(place, &["checkout", "-q", "--detach", "base"]);
    commit(&LONG.replace("2\n3", "two\nthree"));
    for flag in ["--interdiff=old", "--range-diff=old"] {
        let patch = git(place, &["format-patch", "-q", "--stdout", flag, "base"]);
        let before = tree(&[("f", LONG)]);
        let applied = parse(&patch).and_then(|patch| patch.apply(&states(&before))).unwrap_or_else(|error| panic!("{flag}: {error}"));
        assert_eq!(after(&before, applied), tree(&[("f", &LONG.replace("2\n3", "two\nthree"))]), "{flag}");
    }
}

#[test]
fn one_file_twice_in_a_patch_is_changed_twice() {
    let twice = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+x\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n x\n-2\n+y\n";
    applies(twice, F, &["f: x\ny\n3\n4\n5\n6\n"]);
    let git = "diff --git a/f b/f\nold mode 100644\nnew mode 100755\ndiff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+x\n";
    applies(git, &[("f", "1\n")], &["f 755: x\n"]);
    let renamed = "diff --git a/f b/g\nsimilarity index 100%\nrename from f\nrename to g\ndiff --git a/g b/g\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-1\n+x\n";
    applies(renamed, &[("f", "1\n")], &["-f", "+g 644: x\n"]);
    // Git's `apply` leaves the file there.
    let gone = "--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+x\n--- a/n\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n";
    applies(gone, &[], &[]);
    let stale = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-no\n+x\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n+y\n";
    let error = apply(stale, &[("f", "1\n")]).unwrap_err();
    assert_eq!(error.matches("patch line").count(), 2, "what comes after a failure is not told as one: {error}");
}

#[test]
fn without_commits_renames_and_copies_take_what_was_there_before() {
    let files = &[("a", "1\n"), ("b", "2\n")];
    let swap = "diff --git a/a b/b\nsimilarity index 100%\nrename from a\nrename to b\ndiff --git a/b b/a\nsimilarity index 100%\nrename from b\nrename to a\n";
    applies(swap, files, &["a: 2\n", "b: 1\n"]);
    let copied = "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+x\ndiff --git a/a b/c\nsimilarity index 50%\ncopy from a\ncopy to c\n--- a/a\n+++ b/c\n@@ -1 +1 @@\n-1\n+y\n";
    applies(copied, files, &["a: x\n", "+c 644: y\n"]);
    // One diff cannot change a file and take it away, so these are two.
    let moved = "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+x\ndiff --git a/a b/c\nsimilarity index 100%\nrename from a\nrename to c\n";
    applies(moved, files, &["-a", "+c 644: x\n"]);
    let there_and_back = "diff --git a/a b/c\nsimilarity index 100%\nrename from a\nrename to c\ndiff --git a/c b/d\nsimilarity index 100%\nrename from c\nrename to d\n";
    applies(there_and_back, files, &["-a", "+d 644: 1\n"]);
}

#[test]
fn what_git_log_and_git_show_print_is_a_series() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    git(place, &["init", "-q"]);
    for content in ["1\n", "2\n", "3\n"] {
        std::fs::write(place.join("f"), content).unwrap();
        git(place, &["add", "-A"]);
        git(place, &["commit", "-q", "-m", "a change\n\n    @@ -1 +1 @@\n    -quoted\n    +diff"]);
    }
    let before = tree(&[("f", "1\n")]);
    for arguments in [&["log", "-p", "--reverse", "HEAD~2.."][..], &["show", "HEAD~1", "HEAD"]] {
        let patch = git(place, arguments);
        let applied = parse(&patch).and_then(|patch| patch.apply(&states(&before))).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(after(&before, applied), tree(&[("f", "3\n")]));
    }
}

#[test]
fn an_encoded_mail_is_named_and_one_that_only_says_so_is_read() {
    let trees: &[&[(&str, &str)]] = &[&[("f", "1\n")], &[("f", "x = 1\n")]];
    let plain = String::from_utf8(mailbox(trees, &[])).unwrap();
    let said = |encoding: &str| plain.replacen("Subject: ", &format!("Content-Transfer-Encoding: {encoding}\nSubject: "), 1);
    let quoted = said("quoted-printable").replace("+x = 1", "+x =3D 1").replace("-- \n", "--=20\n");
    let error = parse(quoted.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("encoded as quoted-printable") && error.hint().unwrap().contains("git mailinfo"), "{error}");
    // The way the hint says leads to a patch.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mail"), &quoted).unwrap();
    let shell = command("sh", folder.path()).args(["-c", "git mailinfo MESSAGE PATCH < mail"]).output().unwrap();
    assert!(shell.status.success());
    let decoded = std::fs::read(folder.path().join("PATCH")).unwrap();
    let first = tree(trees[0]);
    assert_eq!(after(&first, parse(&decoded).and_then(|patch| patch.apply(&states(&first))).unwrap()), tree(trees[1]));
    // Git's `apply` writes what stands there, and says nothing.
    assert_eq!(git_apply(&first, quoted.as_bytes(), &[]), Ok(tree(&[("f", "x =3D 1\n")])));
    let hidden = format!("{}RGlmZg==\n", said("base64").split("diff --git").next().unwrap());
    assert!(parse(hidden.as_bytes()).unwrap_err().to_string().contains("encoded as base64"));
    // Somebody decoded it and left the header.
    assert!(parse(said("base64").as_bytes()).is_ok() && parse(said("quoted-printable").as_bytes()).is_ok());
}
