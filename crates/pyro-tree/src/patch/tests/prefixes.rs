//! Which file a name means.

use super::{
    kit::{Files, after, command, git, git_apply, states, text},
    *,
};

const HUNK: &str = "@@ -1 +1 @@\n-x\n+y\n";
const NEW: &str = "@@ -0,0 +1 @@\n+n\n";

fn header(old: &str, new: &str, hunk: &str) -> String {
    format!("--- {old}\n+++ {new}\n{hunk}")
}

/// Checks that a patch cannot be read in one way, that both are named, and that what the hint says to write is read as it says.
#[track_caller]
fn unclear(patch: &str, files: &[(&str, &str)], paths: &[&str]) {
    let error = parse(patch.as_bytes()).and_then(|patch| patch.apply(&state(files))).unwrap_err();
    let PatchError::Ambiguous { paths: found, .. } = &error else { panic!("{error}") };
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), paths, "{error}");
    for path in paths {
        assert!(error.to_string().contains(&format!("`{path}`")), "{error}");
    }
    let hint = error.hint().unwrap();
    let said: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
    let [meant, git, old, _, new, _] = said.as_slice() else { panic!("{hint}") };
    let (mut lines, mut renamed) = (patch.lines(), format!("{git}\n"));
    for line in lines.by_ref().filter(|line| !line.starts_with("diff --git")) {
        let other = line.contains("/dev/null") || renamed.contains("@@");
        let line = match line.get(..4) {
            Some("--- ") if !other => format!("--- {old}"),
            Some("+++ ") if !other => format!("+++ {new}"),
            _ => line.to_owned(),
        };
        renamed += &format!("{line}\n");
    }
    let applied =
        parse(renamed.as_bytes()).and_then(|patch| patch.apply(&state(files))).unwrap_or_else(|error| panic!("{error}\n{renamed}"));
    assert_eq!(applied.files[0].path.to_string(), *meant, "{renamed}");
}

#[test]
fn a_prefix_that_differs_on_both_sides_is_taken_off_whatever_it_is_called() {
    let files = &[("src/t", "x\n"), ("t", "x\n"), ("a/src/t", "x\n")];
    for (old, new) in
        [("a", "b"), ("old", "new"), ("i", "w"), ("c", "i"), ("c", "w"), ("o", "w"), ("b", "a"), ("project.orig", "project"), ("1", "0")]
    {
        let names = (format!("{old}/src/t"), format!("{new}/src/t"));
        applies(&header(&names.0, &names.1, HUNK), files, &["src/t: y\n"]);
        applies(&format!("diff --git {} {}\n{}", names.0, names.1, header(&names.0, &names.1, HUNK)), files, &["src/t: y\n"]);
        applies(&format!("diff --git {}n {}n\nnew file mode 100755\n", names.0, names.1), files, &["+src/tn 755: "]);
        let mode = format!("diff --git {} {}\nold mode 100644\nnew mode 100755\n", names.0, names.1);
        applies(&mode, files, &["src/t 755: x\n"]);
    }
}

#[test]
fn names_without_prefix_mean_the_file_that_is_there() {
    let same = |name: &str| header(name, name, HUNK);
    applies(&same("src/t"), &[("src/t", "x\n")], &["src/t: y\n"]);
    applies(&same("src/t"), &[("t", "x\n")], &["t: y\n"]);
    applies(&same("a/t"), &[("t", "x\n")], &["t: y\n"]);
    applies(&same("a/t"), &[("a/t", "x\n")], &["a/t: y\n"]);
    applies(&same("./src/t"), &[("src/t", "x\n")], &["src/t: y\n"]);
    applies(&header("src/t", "/dev/null", "@@ -1 +0,0 @@\n-x\n"), &[("src/t", "x\n")], &["-src/t"]);
    applies(&header("a/t", "/dev/null", "@@ -1 +0,0 @@\n-x\n"), &[("t", "x\n")], &["-t"]);
    // Both are there: the one it fits, if that is the one it names; never another one that happens to fit.
    applies(&same("src/t"), &[("src/t", "x\n"), ("t", "z\n")], &["src/t: y\n"]);
    let error = apply(&same("src/t"), &[("src/t", "z\n"), ("t", "x\n")]).unwrap_err();
    assert!(error.contains("src/t (patch line 1)"), "{error}");
    unclear(&same("src/t"), &[("src/t", "x\n"), ("t", "x\n")], &["src/t", "t"]);
    // One file of a patch says how the others are meant.
    let both = format!("{}{}", same("src/t"), same("src/u"));
    applies(&both, &[("src/t", "x\n"), ("t", "x\n"), ("src/u", "x\n")], &["src/t: y\n", "src/u: y\n"]);
    applies(&both, &[("src/t", "x\n"), ("t", "x\n"), ("u", "x\n")], &["t: y\n", "u: y\n"]);
}

#[test]
fn a_new_file_is_never_made_in_a_place_that_was_guessed() {
    let new = |name: &str| header("/dev/null", name, NEW);
    let git_new = |name: &str| format!("diff --git {name} {name}\nnew file mode 100644\n{}", new(name));
    applies(&new("b/n"), &[("t", "x\n")], &["+n 644: n\n"]);
    applies(&new("n"), &[("t", "x\n")], &["+n 644: n\n"]);
    applies(&new("src/n"), &[("src/t", "x\n")], &["+src/n 644: n\n"]);
    unclear(&new("src/n"), &[("t", "x\n")], &["src/n", "n"]);
    unclear(&new("src/n"), &[("n", "x\n")], &["src/n", "n"]);
    // A directory that is called like a prefix.
    unclear(&new("b/n"), &[("b/t", "x\n")], &["b/n", "n"]);
    // Git leaves prefixes out only where it was told to.
    applies(&git_new("src/n"), &[("t", "x\n")], &["+src/n 644: n\n"]);
    unclear(&git_new("b/n"), &[("t", "x\n")], &["b/n", "n"]);
    applies(&git_new("b/n"), &[("b/t", "x\n")], &["+b/n 644: n\n"]);
    // Other files of the patch speak for it, if it has their prefix.
    applies(&format!("{}{}", header("src/t", "src/t", HUNK), new("lib/n")), &[("src/t", "x\n")], &["+lib/n 644: n\n", "src/t: y\n"]);
    applies(&format!("{}{}", header("p/t", "p/t", HUNK), new("p/lib/n")), &[("t", "x\n")], &["+lib/n 644: n\n", "t: y\n"]);
    unclear(&format!("{}{}", new("lib/n"), header("p/t", "p/t", HUNK)), &[("t", "x\n")], &["lib/n", "n"]);
    applies(&format!("{}{}", header("old/t", "new/t", HUNK), new("new/lib/n")), &[("t", "x\n")], &["+lib/n 644: n\n", "t: y\n"]);
}

#[test]
fn directories_compared_by_diff_give_the_files_below_them() {
    let before: Files = [("src/t.txt", "a\nb\nc\n"), ("gone", "x\n"), ("same", "s\n"), ("exe", "1\n")]
        .map(|(name, content)| (name.as_bytes().to_vec(), text(content.as_bytes())))
        .into();
    let mut wanted = before.clone();
    wanted.insert(b"src/t.txt".to_vec(), text(b"a\nB\nc\n"));
    wanted.insert(b"src/new/file".to_vec(), text(b"n\n"));
    wanted.remove(&b"gone"[..]);
    for (one, two) in [("project.orig", "project"), ("v/1.0", "v/1.1"), ("backup/project", "project"), ("project", "copies/of/project")] {
        let folder = tempfile::tempdir().unwrap();
        kit::write(&folder.path().join(one), &before);
        kit::write(&folder.path().join(two), &wanted);
        let patch =
            |flags: &str, zone: &str| command("diff", folder.path()).env("TZ", zone).args([flags, one, two]).output().unwrap().stdout;
        for zone in ["UTC", "America/New_York", "Asia/Kathmandu"] {
            let applied = parse(&patch("-ruN", zone))
                .and_then(|patch| patch.apply(&states(&before)))
                .unwrap_or_else(|error| panic!("{one} {two}: {error}"));
            assert_eq!((after(&before, applied.clone()), applied.left_out_count), (wanted.clone(), 0), "{one} {two}");
        }
        // Without `-N` the patch only mentions what is on one side.
        let applied = parse(&patch("-ru", "UTC")).and_then(|patch| patch.apply(&states(&before))).unwrap();
        let left: Vec<String> = applied.left_out.iter().map(|left| format!("{} {}", left.path, left.reason)).collect();
        assert!(left.iter().any(|left| left.starts_with(&format!("{one}/gone exists on one side"))), "{left:?}");
        assert_eq!(applied.left_out_count, 2, "{left:?}");
        assert_eq!(after(&before, applied).get(&b"src/t.txt"[..]), wanted.get(&b"src/t.txt"[..]));
    }
}

#[test]
fn subversion_and_cvs_name_files_as_they_lie() {
    let index = "Index: src/t\n===================================================================\n";
    let modified = format!("{index}--- src/t\t(revision 3)\n+++ src/t\t(working copy)\n{HUNK}");
    applies(&modified, &[("src/t", "x\n")], &["src/t: y\n"]);
    for absent in ["(nonexistent)", "(revision 0)"] {
        let added = format!("Index: src/n\n====\n--- src/n\t{absent}\n+++ src/n\t(working copy)\n{NEW}");
        applies(&added, &[("src/t", "x\n")], &["+src/n 644: n\n"]);
    }
    let properties = format!(
        "{modified}\nProperty changes on: src/t\n___________________________________________________________________\n\
         Added: svn:executable\n## -0,0 +1 ##\n+*\n\\ No newline at end of property\n"
    );
    let applied = parse(properties.as_bytes()).and_then(|patch| patch.apply(&state(&[("src/t", "x\n")]))).unwrap();
    assert_eq!((applied.left_out[0].path.as_str(), applied.edits.len()), ("src/t", 1));
    let deleted = format!("{index}--- src/t\t(revision 3)\n+++ src/t\t(nonexistent)\n@@ -1 +0,0 @@\n-x\n");
    applies(&deleted, &[("src/t", "x\n")], &["-src/t"]);
    let cvs = format!(
        "Index: t\n====\nRCS file: /cvs/t,v\nretrieving revision 1.1\ndiff -u -r1.1 t\n--- t\t1 Jan 2001 00:00:00 -0000\t1.1\n+++ t\t2 Jan 2001 00:00:00 -0000\n{HUNK}"
    );
    applies(&cvs, &[("t", "x\n")], &["t: y\n"]);
}

#[test]
fn a_backup_beside_its_file_is_no_rename() {
    applies(&header("t.orig", "t", HUNK), &[("t", "x\n")], &["t: y\n"]);
    applies(&header("src/t~", "src/t", HUNK), &[("src/t", "x\n")], &["src/t: y\n"]);
    applies(&header("a/src/t", "b/src/t.new", HUNK), &[("src/t", "x\n")], &["src/t: y\n"]);
}

#[test]
fn names_that_differ_in_more_than_a_prefix_are_refused() {
    let check = |old: &str, new: &str, files: &[(&str, &str)]| {
        let patch = header(old, new, HUNK);
        let error = parse(patch.as_bytes()).and_then(|patch| patch.apply(&state(files))).unwrap_err();
        assert!(error.to_string().contains("differ, and nothing says that this is a rename"), "{error}");
        let hint = error.hint().unwrap();
        let said: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
        format!("{}\n{patch}", said.join("\n"))
    };
    // What the hint says to write first makes it one.
    applies(&check("a/old", "b/new", &[("old", "x\n")]), &[("old", "x\n")], &["-old", "+new 644: y\n"]);
    applies(&check("old", "new", &[("old", "x\n")]), &[("old", "x\n")], &["-old", "+new 644: y\n"]);
    applies(&check("lib/t", "src/t", &[("lib/t", "x\n")]), &[("lib/t", "x\n")], &["-lib/t", "+src/t 644: y\n"]);
    let _ = check("src/a/t", "src/b/t", &[("src/a/t", "x\n"), ("t", "x\n")]);
    let _ = check("a/src/x/t", "b/src/y/t", &[("t", "x\n")]);
}

#[test]
fn absolute_names_and_names_that_lead_out_are_refused() {
    for name in ["/etc/t", "/workspace/t", "../t", "a/../../t", "src//t", "src/./t"] {
        for patch in [header(name, name, HUNK), header("/dev/null", name, NEW), header(&format!("a/{name}"), &format!("b/{name}"), HUNK)] {
            let error = parse(patch.as_bytes()).and_then(|patch| patch.apply(&state(&[("t", "x\n"), ("etc/t", "x\n"), ("src/t", "x\n")])));
            assert!(error.is_err(), "{patch}");
        }
    }
}

#[test]
fn every_way_of_git_to_write_prefixes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let before: Files =
        [("src/t", "x\n"), ("src/u v", "x\n")].map(|(name, content)| (name.as_bytes().to_vec(), text(content.as_bytes()))).into();
    let wanted: Files = [("src/t", "y\n"), ("src/new", "n\n"), ("src/u w", "x\n")]
        .map(|(name, content)| (name.as_bytes().to_vec(), text(content.as_bytes())))
        .into();
    git(place, &["init", "-q"]);
    kit::write(place, &before);
    git(place, &["add", "-A"]);
    git(place, &["commit", "-q", "-m", "one"]);
    std::fs::remove_file(place.join("src/u v")).unwrap();
    kit::write(place, &wanted);
    git(place, &["add", "-A"]);
    for setting in
        ["diff.noprefix=true", "diff.mnemonicPrefix=true", "diff.srcPrefix=old/", "diff.dstPrefix=elsewhere/", "core.quotePath=false"]
    {
        for flags in [&["--no-renames"][..], &["-M"]] {
            let patch = git(place, &[&["-c", setting, "diff", "--cached"][..], flags].concat());
            let applied =
                parse(&patch).and_then(|patch| patch.apply(&states(&before))).unwrap_or_else(|error| panic!("{setting}: {error}"));
            assert_eq!(after(&before, applied), wanted, "{setting}");
            assert_eq!(git_apply(&before, &patch, &[if setting.contains("noprefix") { "-p0" } else { "-p1" }]), Ok(wanted.clone()));
        }
    }
}
