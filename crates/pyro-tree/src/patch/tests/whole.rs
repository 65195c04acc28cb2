//! A patch is applied whole or refused.

use super::*;

const V: &[(&str, &str)] = &[("v.py", "alpha = 1\nbeta = 2\ngamma = 3\n\ndelta = 4\nlast = 5\n")];
const HEADER: &str = "--- a/v.py\n+++ b/v.py\n";

/// Checks that a patch is refused at a line, by name and with something to do about it.
#[track_caller]
fn refused(patch: &str, files: &[(&str, &str)], line: usize, problem: &str) {
    let error = match parse(patch.as_bytes()) {
        Ok(parsed) => parsed.apply(&state(files)).expect_err(patch),
        Err(error) => error,
    };
    let PatchError::Syntax { line: found, problem: seen, .. } = &error else { panic!("{error}\n{patch}") };
    assert_eq!((*found, seen.to_string().contains(problem)), (line, true), "{error}\n{patch}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
}

#[track_caller]
fn rejected(patch: &str, files: &[(&str, &str)]) {
    let error = parse(patch.as_bytes()).and_then(|parsed| parsed.apply(&state(files))).expect_err(patch);
    assert!(matches!(error, PatchError::Rejected { .. }), "{error}\n{patch}");
}

#[test]
fn a_line_without_mark_inside_a_hunk_is_refused() {
    let unmarked = "starts with none of";
    for line in ["beta = 2", "... existing code ...", "\tbeta = 2", "# ...", "\\begin{document}", "\\ no"] {
        refused(
            &format!("{HEADER}@@ -1,4 +1,4 @@\n-alpha = 1\n+alpha = 10\n{line}\n gamma = 3\n-delta = 4\n+delta = 40\n"),
            V,
            6,
            unmarked,
        );
        refused(&format!("{HEADER}@@ -1,2 +1,2 @@\n{line}\n-alpha = 1\n+alpha = 10\n"), V, 4, unmarked);
        refused(&format!("{HEADER}@@ ... @@\n-alpha = 1\n+alpha = 10\n{line}\n"), V, 6, unmarked);
        refused(&format!("{HEADER}@@ -1,3 +1,3 @@\n-alpha = 1\n+alpha = 10\n beta = 2\n{line}\n"), V, 7, unmarked);
    }
}

#[test]
fn changes_after_text_that_follows_a_hunk_are_refused() {
    // The counts are those of the first half, as if somebody had counted up to the line that lacks its mark.
    let half = format!("{HEADER}@@ -1,2 +1,2 @@\n-alpha = 1\n+alpha = 10\n beta = 2\n");
    refused(&format!("{half}gamma = 3\n-delta = 4\n+delta = 40\n"), V, 8, "looks like a change");
    refused(&format!("{half}\ngamma = 3\n-delta = 4\n+delta = 40\n"), V, 9, "looks like a change");
    refused(&format!("{half}\nThen:\n\n-    x\n"), V, 10, "looks like a change");
    refused(&format!("{half}\nThen:\n\n- x\n+ y\n"), V, 11, "looks like a change");
    refused(&format!("{half}gamma = 3\n\n- x\n"), V, 9, "looks like a change");
    refused(&format!("{half}    @@ -5 +5 @@\n    -delta = 4\n    +delta = 40\n"), V, 7, "indented");
    refused(&format!("{half}Then:\n@@ -5 +5 @@\n-delta = 4\n+delta = 40\n"), V, 8, "does not follow");
    refused(&format!("{half}Then:\n@@ ... @@\n-delta = 4\n+delta = 40\n"), V, 8, "does not follow");
    refused(&format!("{half}```\n- one\n"), V, 8, "looks like a change");
    applies(&format!("```\n{half}```\n- one\n+ two\n-three\n"), V, &["v.py: alpha = 10\nbeta = 2\ngamma = 3\n\ndelta = 4\nlast = 5\n"]);
    refused(&format!("{half}```\n\n```diff\n@@ -5 +5 @@\n-delta = 4\n+delta = 40\n```\n"), V, 10, "does not follow");
    // Prose may have lists and rules, and a fence ends what can be a hunk.
    let whole = &["v.py: alpha = 10\nbeta = 2\ngamma = 3\n\ndelta = 4\nlast = 5\n"];
    for prose in ["Done.\n", "\nThat was it:\n\n- one\n- two\n---\n", "\nIt now\n+ is\n+ good\n", " \n", "\n\n"] {
        applies(&format!("{half}{prose}"), V, whole);
    }
}

#[test]
fn a_context_line_that_lost_its_blank_is_not_taken_for_the_end_of_a_patch() {
    // Each can end a hunk elsewhere. The counts say that this one goes on, or fit by chance.
    let lines = [
        "```",
        "```python",
        "~~~",
        "diff = a - b",
        "diff -= 1",
        "diff -u",
        "Index: 3",
        "From 0123456789012345678901234567890123456789",
        "commit 1234567",
        "Only in a: b",
        "Binary files a and b differ",
        "Files a and b differ",
        "Submodule x 1234567..89abcde:",
        "Property changes on: x",
        "2.39.2",
        "# HG changeset patch",
        "@@x",
        "@",
        "=====",
        "____",
    ];
    for line in lines {
        for (counts, before) in [("-1,7 +1,7", ""), ("-1 +1", ""), ("-1,7 +1,7", "\n"), ("-1 +1", "\n")] {
            for after in ["-delta = 4\n+delta = 40\n", " gamma = 3\n \n-delta = 4\n+delta = 40\n last = 5\n"] {
                for fence in ["", "```diff\n"] {
                    let patch = format!("{fence}{HEADER}@@ {counts} @@\n-alpha = 1\n+alpha = 10\n{before}{line}\n{after}");
                    assert!(apply(&patch, V).is_err() || counts == "-1 +1" && !fence.is_empty() && line == "```", "{patch}");
                }
            }
        }
    }
    // A real end is one, also where the counts are wrong.
    let short = format!("{HEADER}@@ -1,7 +1,7 @@\n-alpha = 1\n+alpha = 10\n beta = 2\n");
    for end in [
        "diff -ru a/f b/f\n--- a/w\n+++ b/w\n@@ -1 +1 @@\n-w\n+W\n",
        "Index: w\n====\n--- w\n+++ w\n@@ -1 +1 @@\n-w\n+W\n",
        "-- \n2.39.2\n\n",
        "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: T\nSubject: x\n\n- one\n- two\n---\n w | 2 +-\n\n--- a/w\n+++ b/w\n@@ -1 +1 @@\n-w\n+W\n",
        "Only in a: b\n",
    ] {
        assert!(apply(&format!("{short}{end}"), &[V[0], ("w", "w\n")]).is_ok(), "{end}");
    }
    assert!(apply(&format!("```diff\n{short}```\n\n- I changed alpha\n- and nothing else\n"), V).is_ok());
}

#[test]
fn sections_that_cannot_be_read_are_not_passed_over() {
    let good = format!("{HEADER}@@ -1,2 +1,2 @@\n-alpha = 1\n+alpha = 10\n beta = 2\n");
    let other = "--- a/w\n+++ b/w\n@@ -1 +1 @@\n-w\n+W\n";
    for mark in ["  ", "    ", "\t", "> ", "| "] {
        for header in ["", "diff --git a/w b/w\n"] {
            let hidden: String = format!("{header}{other}").lines().map(|line| format!("{mark}{line}\n")).collect();
            for patch in [format!("{hidden}{good}"), format!("{good}{hidden}"), format!("1. First:\n{good}\n2. Then:\n{hidden}")] {
                assert!(apply(&patch, &[V[0], ("w", "w\n")]).is_err(), "{patch}");
            }
        }
    }
    for end in ["Index: w\n", "Index: w\n=====\n", "Index: w\n=====\n\n"] {
        refused(&format!("{good}{end}"), V, 7, "content");
    }
    // A message of `git log` may show a patch.
    let message = "commit 0123456789012345678901234567890123456789\nAuthor: T\n\n    As in\n        @@ -1 +1 @@\n\n";
    assert!(apply(&format!("{message}diff --git a/v.py b/v.py\n{good}"), V).is_ok());
    // An empty new file has no more than a command in what `diff -ruN` prints. It is told, not passed over.
    for command in ["diff -ruN x/w y/w\n", "diff -r 123456789abc w\n"] {
        let patch = parse(format!("{good}{command}").as_bytes()).expect("a patch");
        assert_eq!(patch.left_out.count, 1, "{command}");
    }
}

#[test]
fn garbled_hunk_headers_are_refused() {
    for header in ["@@ -5 +5", "@@ -5,1 +5,x @@", "@@ 5,1 +5,1 @@", "@@ 5 @@", "@@ -5 5 @@", "@@-5 +5 @@", "@@ +5 -5 @@", "@@x"] {
        refused(
            &format!("{HEADER}@@ -1,2 +1,2 @@\n-alpha = 1\n+alpha = 10\n beta = 2\n{header}\n-delta = 4\n+delta = 40\n"),
            V,
            7,
            "the hunk header is damaged",
        );
    }
    refused(
        &format!("{HEADER}@@ -1,2 +1,2 @@\n-alpha = 1\n+alpha = 10\n beta = 2\n@ -5 +5 @@\n-delta = 4\n+delta = 40\n"),
        V,
        8,
        "looks like a change",
    );
    for header in ["@@", "@@ @@", "@@ ... @@", "@@...@@", "@@ def f(x, y=-1): @@", "@@ class A:"] {
        applies(
            &format!("{HEADER}{header}\n-delta = 4\n+delta = 40\n"),
            V,
            &["v.py: alpha = 1\nbeta = 2\ngamma = 3\n\ndelta = 40\nlast = 5\n"],
        );
    }
    rejected("--- a/f\n+++ b/f\n@@ @@\n-x\n+y\n", &[("f", "x\nx\n")]);
}

#[test]
fn a_patch_that_was_cut_off_is_refused_and_the_hint_says_what_it_would_be_if_it_were_whole() {
    let whole = format!("{HEADER}@@ -1,6 +1,6 @@\n-alpha = 1\n+alpha = 10\n beta = 2\n gamma = 3\n \n-delta = 4\n+delta = 40\n last = 5\n");
    applies(&whole, V, &["v.py: alpha = 10\nbeta = 2\ngamma = 3\n\ndelta = 40\nlast = 5\n"]);
    let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
    for end in &ends[..ends.len() - 1] {
        for cut in [&whole[..*end], &whole[..end - 1]] {
            assert!(apply(cut, V).is_err(), "{cut}");
        }
    }
    let cut = &whole[..ends[5]];
    refused(cut, V, 6, "the patch ends here, but this hunk should have 6 old and 6 new lines and has 2 and 2");
    let hint = parse(cut.as_bytes()).unwrap_err().hint().unwrap();
    assert!(hint.contains("`@@ -1,2 +1,2 @@`"), "{hint}");
    applies(&cut.replace("@@ -1,6 +1,6 @@", "@@ -1,2 +1,2 @@"), V, &["v.py: alpha = 10\nbeta = 2\ngamma = 3\n\ndelta = 4\nlast = 5\n"]);
    // What follows shows that nothing is missing.
    assert!(apply(&format!("```\n{cut}```\n"), V).is_ok());
    for after in ["\nprose\n", "-- \n2.39.2\n", "--- a/w\n+++ b/w\n@@ -1 +1 @@\n-w\n+W\n", "@@ -6 +6 @@\n-last = 5\n+last = 6\n"] {
        let files = &[V[0], ("w", "w\n")];
        assert!(apply(&format!("{cut}{after}"), files).is_ok(), "{after}");
    }
}

#[test]
fn counts_that_are_too_small_lose_no_line() {
    // Git takes as many lines as announced, and reads over the rest.
    let body = "-alpha = 1\n+alpha = 10\n beta = 2\n gamma = 3\n \n-delta = 4\n+delta = 40\n last = 5\n";
    for counts in ["-1 +1", "-1,2 +1,2", "-1,4 +1,4", "-1,5 +1,5", "-1,6 +1,5", "-1,2 +1,9"] {
        applies(
            &format!("{HEADER}@@ {counts} @@\n{body}\nprose\n"),
            V,
            &["v.py: alpha = 10\nbeta = 2\ngamma = 3\n\ndelta = 40\nlast = 5\n"],
        );
    }
}

#[test]
fn a_header_that_lost_a_line_is_not_taken_for_changes() {
    let files = &[("f", "1\nx\n"), ("g", "x\n")];
    let first = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+one\n";
    refused(&format!("{first}+++ b/g\n@@ -1 +1 @@\n-x\n+y\n"), files, 6, "needs both");
    refused(&format!("{first}--- a/g\n@@ -1 +1 @@\n-x\n+y\n"), files, 6, "needs both");
    refused(&format!("{first}\n+++ b/g\n@@ -1 +1 @@\n-x\n+y\n"), files, 7, "needs both");
    refused("diff --git a/f b/f\n--- a/f\n@@ -1 +1 @@\n-1\n+one\n", files, 2, "needs both");
    refused("diff --git a/f b/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+one\n", files, 2, "needs both");
    refused("--- a/f\n++ b/f\n@@ -1 +1 @@\n-1\n+one\n", files, 3, "does not follow");
    refused(&format!("{first}old mode 100644\nnew mode 100755\n"), files, 6, "there is no `diff --git` line");
    refused(&format!("{first}similarity index 100%\nrename from g\nrename to h\n"), files, 6, "there is no `diff --git` line");
    refused("diff --git a/f b/f\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-x\n+y\n", files, 1, "name different files");
    // Counts that are too large by one line each would make a header two changes; only its author knows.
    refused("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-1\n+one\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-x\n+y\n", files, 6, "can be the header");
    let comments = &[("q.sql", "-- old\nselect 1;\n")];
    applies(
        "--- a/q.sql\n+++ b/q.sql\n@@ -1 +1 @@\n--- old\n+++ new\n@@ -2 +2 @@\n-select 1;\n+select 2;\n",
        comments,
        &["q.sql: ++ new\nselect 2;\n"],
    );
    rejected("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+one\n--- a/g\n++ b/g\n@@ -1 +1 @@\n-x\n+y\n", files);
}

#[test]
fn a_header_whose_content_is_missing_is_refused() {
    let missing = "says that its content changes";
    refused("diff --git a/n b/n\nnew file mode 100644\nindex 0000000..1234567\n", &[], 1, missing);
    refused("diff --git a/n b/n\nnew file mode 100644\n--- /dev/null\n+++ b/n\n", &[], 1, missing);
    refused("diff --git a/f b/h\nsimilarity index 90%\nrename from f\nrename to h\n", F, 1, missing);
    refused("diff --git a/f b/f\nold mode 100644\nnew mode 100755\nindex 1234567..89abcde\n", F, 1, missing);
    refused("diff --git a/f b/f\ndeleted file mode 100644\nindex 1234567..0000000\n", F, 1, missing);
    refused("diff --git a/f b/f\nindex 1234567..89abcde 100644\n", F, 1, "no hunk follows");
    refused("diff --git a/f b/f\n", F, 1, "no hunk follows");
    refused("--- a/f\n+++ b/f\n", F, 1, "no hunk follows");
    applies("diff --git a/n b/n\nnew file mode 100644\nindex 0000000..e69de29\n", &[], &["+n 644: "]);
    applies("diff --git a/n b/n\ndeleted file mode 100644\nindex e69de29..0000000\n", &[("n", "")], &["-n"]);
}

#[test]
fn several_places_are_chosen_from_only_where_every_reading_agrees() {
    let blocks = &[("f", "q\nx\ny\nq\nx\ny\nz\n")];
    // Git ignores the line number here and takes the end of the file, since nothing follows the change.
    rejected("--- a/f\n+++ b/f\n@@ -2,2 +2,3 @@\n x\n y\n+n\n", &[("f", "q\nx\ny\nq\nx\ny\n")]);
    applies("--- a/f\n+++ b/f\n@@ -5,2 +5,3 @@\n x\n y\n+n\n", &[("f", "q\nx\ny\nq\nx\ny\n")], &["f: q\nx\ny\nq\nx\ny\nn\n"]);
    applies("--- a/f\n+++ b/f\n@@ -2,2 +2,3 @@\n x\n+n\n y\n", blocks, &["f: q\nx\nn\ny\nq\nx\ny\nz\n"]);
    // The sides of the header name different places.
    rejected("--- a/f\n+++ b/f\n@@ -2,2 +5,3 @@\n x\n+n\n y\n", blocks);
    // The second hunk may be out of order.
    rejected("--- a/f\n+++ b/f\n@@ -4,1 +4,1 @@\n-q\n+p\n@@ -1,2 +1,3 @@\n x\n+n\n y\n", &[("f", "a\nx\ny\nq\nb\nx\ny\nz\n")]);
}
