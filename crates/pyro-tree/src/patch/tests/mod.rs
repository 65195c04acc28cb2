//! Patches as models and Git write them, one fault or form at a time. `oracle` has the real `git` as the judge.

mod foreign;
mod kit;
mod limits;
mod oracle;
mod prefixes;
mod series;
mod whole;

use proptest::prelude::*;

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::try_from(text).unwrap()
}

/// What is there: files with their text, and the directories they lie in.
fn state(files: &[(&str, &str)]) -> PathStates {
    let mut state = PathStates::new();
    for (name, text) in files {
        state.extend(path(name).ancestors().map(|directory| (directory, PathState::Directory)));
        state.insert(path(name), PathState::File { mode: 0o644, content: text.as_bytes().to_vec() });
    }
    state
}

/// Applies a patch and shows what becomes of the files.
fn apply(patch: &str, files: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let patch = parse(patch.as_bytes()).map_err(|error| error.to_string())?;
    let applied = patch.apply(&state(files)).map_err(|error| error.to_string())?;
    Ok(applied
        .edits
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
fn a_file_without_line_break_at_its_end_is_changed_by_patches_that_say_so_and_by_those_that_do_not_see_it() {
    let file = &[("f", "a\nb")];
    applies("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n", file, &["f: a\nc\n"]);
    applies("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n", file, &["f: a\nc"]);
    applies("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a\n+c\n b\n", file, &["f: c\nb"]);
    applies("--- a/f\n+++ b/f\n@@ -1,2 +1,3 @@\n a\n b\n+c\n", file, &["f: a\nb\nc"]);
    applies("--- a/f\n+++ b/f\n@@ -1,2 +1,1 @@\n a\n-b\n", file, &["f: a\n"]);
    applies("--- a/f\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n", file, &["-f"]);
    let ended = &[("f", "a\nb\n")];
    let error = apply("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n", ended).unwrap_err();
    assert!(error.contains("line 2 of the file ends with a line break"), "{error}");
    let error = apply("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a\n+c\n\\ No newline at end of file\n b\n\\ No newline at end of file\n", file)
        .unwrap_err();
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
    check("--- /dev/null\n+++ b/f/x\n@@ -0,0 +1 @@\n+a\n", F, "`f` is not a directory");
    check("--- a/f\n+++ b/f\n@@ -2,0 +3 @@\n+x\n", F, "has no context");
}

#[test]
fn what_cannot_be_read_is_said_with_its_line() {
    fails("nothing\n", &[], "the patch contains no change: no line starts with `diff --git` or `---`");
    fails("x\n@@ -1 +1 @@\n", &[], "cannot read the patch, line 2 `@@ -1 +1 @@`: this hunk does not follow a file header or another hunk");
    fails(
        "--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n",
        &[],
        "cannot read the patch, line 1 `--- a/../x`: path `../x` has a component `.`, `..` or an empty one",
    );
    fails(
        "--- a/f\n+++ b/f\n@@ what\n",
        F,
        "cannot read the patch, line 3 `@@ what`: the hunk changes nothing: it has neither a `+` nor a `-` line",
    );
    let binary = "diff --git a/f b/f\nindex 1..2 100644\nBinary files a/f and b/f differ\n";
    assert!(apply(binary, F).unwrap_err().contains("does not contain its content"));
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
