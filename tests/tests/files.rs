//! A code base's way in, its change, and its way home.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use pyro_tests::{ENVIRONMENT, Home, MEM_MIB};

/// Runs the host's own git, as far as possible from the configuration of whoever runs the tests.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", folder)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A small checkout with what makes one messy.
fn checkout(folder: &Path) {
    fs::create_dir_all(folder.join("src")).expect("writable");
    fs::write(folder.join("src/app.py"), "def answer():\n    return 41\n").expect("writable");
    fs::write(folder.join("run.sh"), "#!/bin/sh\npython3 src/app.py\n").expect("writable");
    fs::set_permissions(folder.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("writable");
    fs::write(folder.join(".gitignore"), "*.log\nbuild/\n").expect("writable");
    std::os::unix::fs::symlink("src/app.py", folder.join("link")).expect("writable");
    git(folder, &["init", "-q"]);
    git(folder, &["remote", "add", "origin", "https://user:hunter2@example.org/r.git"]);
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "first"]);
    fs::write(folder.join("new.txt"), "untracked\n").expect("writable");
    fs::write(folder.join("debug.log"), "ignored\n").expect("writable");
    fs::write(folder.join(".git/hooks/pre-commit"), "#!/bin/sh\necho hook\n").expect("writable");
}

fn seeded(home: &Home, seed: &Path, more: &[&str]) -> String {
    home.create(&[&["--seed-path", &seed.to_string_lossy()], more].concat())
}

#[test]
fn a_git_checkout_is_seeded_without_what_is_ignored_hooks_and_credentials() {
    let home = Home::new();
    let seed = home.path().join("checkout");
    checkout(&seed);
    let workspace = seeded(&home, &seed, &["--name", "seeded"]);
    let seen = home.sh(
        &workspace,
        "cd /workspace && ls -A | sort | tr '\\n' ' '; readlink link; stat -c %a run.sh; cat src/app.py | head -1; stat -c %U .git",
    );
    assert_eq!(seen, ".git .gitignore link new.txt run.sh src src/app.py\n755\ndef answer():\nroot");
    let git_folder = home.sh(&workspace, "cd /workspace/.git && ls hooks 2>/dev/null | grep -v sample; cat config");
    assert!(!git_folder.contains("pre-commit") && !git_folder.contains("hunter2"), "{git_folder}");
    assert!(git_folder.contains("example.org/r.git"), "{git_folder}");
    let status = home.status(&workspace);
    let origin = &status["workspace_seed"];
    assert_eq!(origin["origin_kind"], "git", "{origin}");
    assert_eq!(origin["origin_ref"].as_str(), Some(git(&seed, &["rev-parse", "HEAD"]).as_str()));
    let all = seeded(&home, &seed, &["--seed-all", "--no-git"]);
    assert_eq!(home.sh(&all, "cd /workspace; ls -A | sort | tr '\\n' ' '"), ".gitignore debug.log link new.txt run.sh src");
    let diff = home.pyro(&["workspace", "diff", &workspace, "--json"]).ok().json();
    assert_eq!(diff["changed"], false, "{diff}");
    for workspace in [&workspace, &all] {
        let _ = home.pyro(&["workspace", "delete", workspace]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn archives_of_every_kind_seed_the_same_tree() {
    let home = Home::new();
    let tree = home.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).expect("writable");
    fs::write(tree.join("a/b/file"), vec![7; 100_000]).expect("writable");
    fs::write(tree.join("a/na\"me é"), "odd\n").expect("writable");
    std::os::unix::fs::symlink("../a", tree.join("a/link")).expect("writable");
    let look = "cd /workspace && find . | sort | sha256sum; find . -type f | sort | xargs -d '\\n' sha256sum | sha256sum; readlink a/link";
    let folder = seeded(&home, &tree, &[]);
    let wanted = home.sh(&folder, look);
    for (name, flag) in [("t.tar", "-cf"), ("t.tar.gz", "-czf"), ("t.tgz", "-czf"), ("t.tar.zst", "--zstd -cf")] {
        let path = home.path().join(name);
        let mut tar = Command::new("tar");
        let made = tar.args(flag.split(' ')).arg(&path).arg("-C").arg(&tree).arg(".").status().expect("tar runs");
        assert!(made.success(), "{name}");
        let workspace = seeded(&home, &path, &[]);
        assert_eq!(home.sh(&workspace, look), wanted, "{name}");
        assert_eq!(home.status(&workspace)["workspace_seed"]["origin_kind"], "archive");
        let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    }
    let _ = home.pyro(&["workspace", "delete", &folder]).ok();
    home.assert_nothing_left();
}

#[test]
fn seeds_that_reach_outside_are_refused_and_leave_nothing() {
    let home = Home::new();
    let make = |name: &str, script: &str| {
        let path = home.path().join(name);
        let made = Command::new("python3").arg("-c").arg(script).arg(&path).status().expect("python3 runs");
        assert!(made.success(), "{name}");
        path
    };
    let entry = |more: &str| {
        format!(
            "import tarfile, io, sys\nt = tarfile.open(sys.argv[1], 'w')\ndef add(name, **k):\n    i = tarfile.TarInfo(name)\n    for a, b in k.items(): setattr(i, a, b)\n    t.addfile(i, io.BytesIO(b'x' * i.size))\n{more}\nt.close()\n"
        )
    };
    for (name, script) in [
        ("up.tar", "add('../evil', size=1)"),
        ("absolute.tar", "add('/etc/evil', size=1)"),
        ("through.tar", "add('l', type=tarfile.SYMTYPE, linkname='/tmp')\nadd('l/evil', size=1)"),
        ("hard.tar", "add('h', type=tarfile.LNKTYPE, linkname='/etc/passwd')"),
        ("device.tar", "add('null', type=tarfile.CHRTYPE, devmajor=1, devminor=3)"),
        ("deep.tar", "add('d/' * 10000 + 'f', size=1)"),
    ] {
        let path = make(name, &entry(script));
        let refused = home.pyro(&["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB, "--seed-path", &path.to_string_lossy()]);
        assert!((64..=79).contains(&refused.code), "{name}: {} {}", refused.code, refused.stderr);
        assert!(refused.stderr.contains("error:") && refused.stderr.contains("hint:"), "{name}: {}", refused.stderr);
    }
    let missing = home.pyro(&["workspace", "create", ENVIRONMENT, "--seed-path", "/nonexistent"]);
    assert!((64..=79).contains(&missing.code) && missing.stderr.contains("/nonexistent"), "{}", missing.stderr);
    home.assert_nothing_left();
}

#[test]
fn files_are_listed_read_written_replaced_and_searched() {
    let home = Home::new();
    let w = home.create(&[]);
    let file = |arguments: &[&str]| home.pyro(&[&["workspace", "file"], arguments].concat());
    let _ = file(&["write", &w, "src/deep/a.txt", "--text", "one\ntwo\nthree\n"]).ok();
    let _ = file(&["write", &w, "/workspace/b.txt", "--text", "two\n"]).ok();
    assert_eq!(home.sh(&w, "cat src/deep/a.txt b.txt"), "one\ntwo\nthree\ntwo");
    let listed = file(&["list", &w, "--recursive", "--json"]).ok().json();
    let paths: Vec<&str> = listed["entries"].as_array().expect("a list").iter().filter_map(|entry| entry["path"].as_str()).collect();
    assert_eq!(
        paths.iter().map(|path| path.trim_start_matches("/workspace/")).collect::<Vec<_>>(),
        ["b.txt", "src", "src/deep", "src/deep/a.txt"]
    );
    assert_eq!(file(&["read", &w, "src/deep/a.txt", "--lines", "2:3", "--content-only"]).ok().text(), "two\nthree");
    let page = file(&["read", &w, "src/deep/a.txt", "--max-bytes", "4", "--json"]).ok().json();
    assert_eq!((page["content"].as_str(), page["next_offset"].as_u64()), (Some("one\n"), Some(4)), "{page}");
    let _ = file(&["replace", &w, "b.txt", "--old", "two", "--new", "2"]).ok();
    assert_eq!(home.sh(&w, "cat b.txt"), "2");
    let nothing = file(&["replace", &w, "b.txt", "--old", "zwei", "--new", "2"]);
    assert!(nothing.code != 0 && nothing.stderr.contains("the text is not in `b.txt`"), "{}", nothing.stderr);
    let _ = home.sh(&w, "printf 'a a a' > many; printf '\\0\\1\\2' > binary; mkfifo pipe; ln -s /etc/passwd out; ln -s /etc outdir; mkdir .git; echo three > .git/x");
    let ambiguous = file(&["replace", &w, "many", "--old", "a", "--new", "b"]);
    assert!(ambiguous.code != 0 && ambiguous.stderr.contains("the text is in `many` 3 times"), "{}", ambiguous.stderr);
    let _ = file(&["replace", &w, "many", "--old", "a", "--new", "b", "--all"]).ok();
    assert_eq!(home.sh(&w, "cat many"), "b b b");
    let binary = file(&["read", &w, "binary", "--json"]).ok().json();
    assert_eq!((binary["binary"].as_bool(), binary["content"].is_null()), (Some(true), true), "{binary}");
    let found = file(&["search", &w, "t(wo|hree)", "--json"]).ok().json();
    let found: Vec<_> =
        found["matches"].as_array().expect("a list").iter().map(|hit| (hit["line"].as_u64(), hit["text"].as_str())).collect();
    assert_eq!(found, [(Some(2), Some("two")), (Some(3), Some("three"))]);
    let before = home.status(&w)["last_activity_at"].clone();
    let _ = file(&["list", &w]).ok();
    let _ = file(&["read", &w, "b.txt"]).ok();
    let _ = home.pyro(&["workspace", "diff", &w]).ok();
    let _ = home.pyro(&["workspace", "summary", &w]).ok();
    assert_eq!(home.status(&w)["last_activity_at"], before, "reads are no activity");
    for (path, why) in [
        ("../etc/passwd", "up"),
        ("/etc/passwd", "outside"),
        ("out", "a link out"),
        ("outdir/passwd", "through a link out"),
        ("pipe", "a FIFO"),
        ("none", "missing"),
    ] {
        let refused = file(&["read", &w, path]);
        let is_link = why == "a link out" && refused.code == 0 && !String::from_utf8_lossy(&refused.stdout).contains("root:");
        let is_refused = (64..=79).contains(&refused.code);
        assert!(is_refused || is_link, "{why}: {} {}", refused.code, refused.stderr);
    }
    let _ = home.sh(&w, "printf 'one\r\ntwo\r\n' > crlf");
    let ends = file(&["replace", &w, "crlf", "--old", "one\ntwo", "--new", "x"]).code(65);
    assert!(ends.stderr.contains("it is there with CR LF line ends"), "{}", ends.stderr);
    for path in ["../evil", "/etc/evil", "outdir/evil"] {
        let refused = file(&["write", &w, path, "--text", "x"]);
        assert!((64..=79).contains(&refused.code), "{path}: {}", refused.stderr);
    }
    assert_eq!(home.sh(&w, "ls /etc/evil /evil 2>/dev/null; echo none"), "none");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_patch_is_applied_whole_or_not_at_all_and_its_failure_names_the_lines() {
    let home = Home::new();
    let seed = home.path().join("checkout");
    checkout(&seed);
    let w = seeded(&home, &seed, &[]);
    let apply = |patch: &str, more: &[&str]| home.pyro(&[&["workspace", "patch", "apply", &w, "--patch", patch], more].concat());
    let bad = "--- a/new.txt\n+++ b/new.txt\n@@ -1 +1 @@\n-untracked\n+tracked\n--- a/src/app.py\n+++ b/src/app.py\n@@ -1,2 +1,2 @@\n def answer():\n-    return 40\n+    return 42\n";
    let refused = apply(bad, &[]);
    assert!((64..=79).contains(&refused.code), "{}", refused.stderr);
    for part in ["src/app.py", "return 40", "return 41"] {
        assert!(refused.stderr.contains(part), "`{part}` is missing in: {}", refused.stderr);
    }
    assert_eq!(home.sh(&w, "cat new.txt"), "untracked", "nothing of a patch that fails is applied");
    let good = bad.replace("return 40", "return 41");
    let _ = apply(&good, &["--check"]).ok();
    assert_eq!(home.sh(&w, "cat new.txt"), "untracked");
    let _ = apply(&good, &[]).ok();
    assert_eq!(home.sh(&w, "cat new.txt; python3 -c 'import sys; sys.path.insert(0, \"src\"); import app; print(app.answer())' 2>/dev/null || grep 42 src/app.py | tr -d ' '"), "tracked\nreturn42");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn the_diff_applies_to_the_seed_with_git_and_survives_touch_and_renames() {
    let home = Home::new();
    let seed = home.path().join("checkout");
    checkout(&seed);
    for folder in ["one", "two"] {
        fs::create_dir_all(seed.join(folder)).expect("writable");
        // Same size and, once seeded, the same times: only the identity of the files tells them apart.
        fs::write(seed.join(folder).join("same"), format!("{folder}\n")).expect("writable");
    }
    let w = seeded(&home, &seed, &["--no-git"]);
    let _ = home.sh(&w, "touch src/app.py run.sh; mv one three; mv two one; mv three two; rm new.txt; printf 'x\\0y' > bin; chmod +x src/app.py; \
                         ln -sf run.sh link; printf 'no newline' > added; mkdir empty; t=$(stat -c %Y .gitignore); sed -i s/log/txt/ .gitignore; touch -d @$t .gitignore");
    let answer = home.pyro(&["workspace", "diff", &w, "--json"]).ok().json();
    assert_eq!(answer["changed"], true);
    let entries = answer["entries"].to_string();
    for path in ["one/same", "two/same", "new.txt", "bin", "src/app.py", "link", "added", ".gitignore"] {
        assert!(entries.contains(path), "`{path}` is missing: {entries}");
    }
    assert!(!entries.contains("run.sh\""), "a touched file is no change: {entries}");
    let patch = home.path().join("patch");
    let text = home.pyro(&["workspace", "diff", &w]).ok();
    fs::write(&patch, &text.stdout).expect("writable");
    let copy = home.path().join("copy");
    git(home.path(), &["clone", "-q", "--no-hardlinks", &seed.to_string_lossy(), &copy.to_string_lossy()]);
    fs::copy(seed.join("new.txt"), copy.join("new.txt")).expect("copies");
    for folder in ["one", "two"] {
        fs::create_dir_all(copy.join(folder)).expect("writable");
        fs::copy(seed.join(folder).join("same"), copy.join(folder).join("same")).expect("copies");
    }
    git(&copy, &["apply", "--exclude=bin", &patch.to_string_lossy()]);
    assert_eq!(fs::read_to_string(copy.join("one/same")).expect("is there"), "two\n");
    assert_eq!(fs::read_to_string(copy.join("added")).expect("is there"), "no newline");
    assert_eq!(fs::read_link(copy.join("link")).expect("is a link"), Path::new("run.sh"));
    assert!(!copy.join("new.txt").exists());
    assert_ne!(fs::metadata(copy.join("src/app.py")).expect("is there").permissions().mode() & 0o111, 0);
    assert_eq!(fs::read_to_string(copy.join(".gitignore")).expect("is there"), "*.txt\nbuild/\n");
    let stat = home.pyro(&["workspace", "diff", &w, "--stat"]).ok().text();
    assert!(stat.contains("src/app.py") && stat.contains("entries changed"), "{stat}");
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    assert_eq!(home.pyro(&["workspace", "diff", &w]).ok().stdout, text.stdout, "a stopped workspace's diff is the same");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn changes_come_home_as_one_transaction_and_can_be_undone() {
    let home = Home::new();
    let seed = home.path().join("checkout");
    checkout(&seed);
    let w = seeded(&home, &seed, &[]);
    let _ = home.sh(&w, "sed -i s/41/42/ src/app.py; echo more > more.txt; rm new.txt; mkdir -p .github/workflows; echo 'on: push' > .github/workflows/ci.yml");
    let before = fs::read(seed.join("src/app.py")).expect("is there");
    let planned = home.pyro(&["workspace", "apply", &w, "--dry-run", "--json"]).ok().json();
    assert!(planned.to_string().contains("clean") && planned["hazards"].to_string().contains("ci.yml"), "{planned}");
    assert_eq!(fs::read(seed.join("src/app.py")).expect("is there"), before, "a dry run changes nothing");
    fs::write(seed.join("src/app.py"), "changed here meanwhile\n").expect("writable");
    let conflict = home.pyro(&["workspace", "apply", &w]).code(68);
    assert!(
        conflict.stderr.contains("src/app.py") && conflict.stderr.contains(&format!("`pyro workspace apply {w} --dry-run`")),
        "{}",
        conflict.stderr
    );
    let elsewhere = home.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("other")).expect("writable");
    std::os::unix::fs::symlink("other", elsewhere.join("src")).expect("writable");
    let to = elsewhere.to_string_lossy().into_owned();
    let conflict = home.pyro(&["workspace", "apply", &w, "--to", &to, "--force"]).code(68);
    assert!(conflict.stderr.contains(&format!("apply {w} --to {to} --dry-run`")), "{}", conflict.stderr);
    assert!(conflict.stderr.contains("`--force` does not overwrite these"), "{}", conflict.stderr);
    fs::remove_dir_all(&elsewhere).expect("ours");
    assert!(seed.join("new.txt").exists() && !seed.join("more.txt").exists(), "all or nothing");
    fs::write(seed.join("src/app.py"), &before).expect("writable");
    let _ = home.pyro(&["workspace", "apply", &w]).ok();
    assert_eq!(fs::read_to_string(seed.join("src/app.py")).expect("is there"), "def answer():\n    return 42\n");
    assert!(seed.join("more.txt").exists() && !seed.join("new.txt").exists());
    let moved = home.path().join("moved");
    fs::rename(&seed, &moved).expect("ours");
    let gone = home.pyro(&["workspace", "apply", &w]).code(65);
    assert!(gone.stderr.contains("is not there") && gone.stderr.contains("--to HOSTDIR"), "{}", gone.stderr);
    fs::rename(&moved, &seed).expect("ours");
    let _ = home.pyro(&["workspace", "apply", &w, "--undo"]).ok();
    assert_eq!(fs::read(seed.join("src/app.py")).expect("is there"), before);
    assert!(!seed.join("more.txt").exists() && seed.join("new.txt").exists());
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn export_writes_a_file_or_a_tree_and_overwrites_only_when_told() {
    let home = Home::new();
    let w = home.create(&[]);
    let _ = home.sh(&w, "mkdir -p out/sub; echo report > out/report; ln -s /etc/passwd out/link; ln -s report out/here; head -c 300000 /dev/urandom > out/sub/big; sha256sum out/sub/big > out/sum");
    let target = home.path().join("exported");
    let export =
        |path: &str, more: &[&str]| home.pyro(&[&["workspace", "export", &w, path, "--output", &target.to_string_lossy()], more].concat());
    let _ = export("out", &[]).ok();
    assert_eq!(fs::read_to_string(target.join("report")).expect("is there"), "report\n");
    assert_eq!(fs::read_link(target.join("link")).expect("stays a link"), Path::new("/etc/passwd"));
    let checked = Command::new("sha256sum").arg(target.join("sub/big")).output().expect("runs");
    let wanted = fs::read_to_string(target.join("sum")).expect("is there");
    assert_eq!(checked.stdout.get(..64), wanted.as_bytes().get(..64));
    let refused = export("out", &[]);
    assert!((64..=79).contains(&refused.code) && refused.stderr.contains("--force"), "{}", refused.stderr);
    let _ = home.sh(&w, "echo second > out/report");
    let _ = export("/workspace/out", &["--force"]).ok();
    assert_eq!(fs::read_to_string(target.join("report")).expect("is there"), "second\n");
    let single = home.path().join("single");
    let _ = home.pyro(&["workspace", "export", &w, "out/report", "--output", &single.to_string_lossy()]).ok();
    assert_eq!(fs::read_to_string(single).expect("is there"), "second\n");
    let _ = export("/etc/passwd", &["--force"]).code(64);
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_push_is_atomic_merges_and_deletes_when_told() {
    let home = Home::new();
    let w = home.create(&[]);
    let source = home.path().join("source");
    for number in 0..300 {
        let folder = source.join(format!("d{}", number % 7));
        fs::create_dir_all(&folder).expect("writable");
        fs::write(folder.join(format!("f{number}")), format!("{number}\n")).expect("writable");
    }
    let push = |more: &[&str]| home.pyro(&[&["workspace", "sync", "push", &w, &source.to_string_lossy()], more].concat());
    let _ = home.sh(&w, "mkdir -p app/d1; echo kept > app/own; echo old > app/d1/f1");
    let _ = push(&["--dest", "app"]).ok();
    assert_eq!(home.sh(&w, "find app -type f | wc -l; cat app/own app/d1/f1 app/d6/f6"), "301\nkept\n1\n6");
    let _ = push(&["--dest", "app", "--delete"]).ok();
    assert_eq!(home.sh(&w, "find app -type f | wc -l; ls app/own 2>/dev/null; ls -A /workspace"), "300\napp");
    let _ = push(&["--delete"]).ok();
    assert_eq!(home.sh(&w, "ls /workspace | tr '\\n' ' '; find . -type f | wc -l"), "d0 d1 d2 d3 d4 d5 d6 300");
    let _ = push(&["--dest", "../etc"]).code(64);
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
