//! Patches as Git and diff write them, applied in a guest.

use std::{fs, path::Path, process::Command};

use pyro_tests::Home;

/// Runs a program of the host in a directory and returns what it prints.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder);
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "t").env(format!("GIT_{role}_EMAIL"), "t@example.org");
    }
    let output = command.output().expect("it runs");
    // `diff` says with 1 that there is a difference.
    assert!(output.status.code().is_some_and(|code| code <= 1), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_series_with_a_rename_and_a_submodule_arrives_where_its_commits_do() {
    let home = Home::new();
    let (seed, repository) = (home.path().join("seed"), home.path().join("repository"));
    // More than is read of a file at once.
    let lines: String = (1..=20_000).map(|number| format!("line {number}\n")).collect();
    for folder in [&seed, &repository] {
        fs::create_dir_all(folder.join("vendor/lib")).expect("writable");
        fs::write(folder.join("app.py"), &lines).expect("writable");
        fs::write(folder.join("vendor/lib/a"), "of the submodule\n").expect("writable");
    }
    let git = |arguments: &[&str]| run(&repository, "git", arguments);
    let submodule = |commit: &str| format!("160000,{},vendor/lib", commit.repeat(40));
    git(&["init", "-q"]);
    git(&["add", "app.py"]);
    git(&["update-index", "--add", "--cacheinfo", &submodule("1")]);
    git(&["commit", "-q", "-m", "base"]);
    fs::write(repository.join("app.py"), lines.replace("line 2\n", "line two\n")).expect("writable");
    git(&["commit", "-q", "-m", "change", "app.py"]);
    git(&["mv", "app.py", "main.py"]);
    fs::write(repository.join("main.py"), lines.replace("line 2\n", "line two\n").replace("line 19\n", "line nineteen\n"))
        .expect("writable");
    git(&["add", "main.py"]);
    git(&["update-index", "--cacheinfo", &submodule("2")]);
    git(&["commit", "-q", "-m", "rename, and move the submodule"]);
    let series = home.path().join("series.patch");
    fs::write(&series, git(&["format-patch", "--stdout", "HEAD~2"])).expect("writable");

    let w = home.create(&["--seed-path", &seed.to_string_lossy()]);
    let apply = ["workspace", "patch", "apply", &w, "--patch-file", &series.to_string_lossy(), "--json"].map(str::to_owned);
    let apply: Vec<&str> = apply.iter().map(String::as_str).collect();
    let checked = home.pyro(&[&apply[..], &["--check"]].concat()).ok().json();
    assert_eq!((checked["applied"].as_bool(), home.sh(&w, "ls")), (Some(false), "app.py\nvendor".to_owned()));
    let answer = home.pyro(&apply).ok().json();
    assert_eq!((answer["applied"].as_bool(), answer["left_out_count"].as_u64()), (Some(true), Some(1)));
    assert_eq!(answer["left_out"][0]["path"], "vendor/lib");
    assert_eq!(answer["files"][1]["old_path"], "app.py", "{answer}");
    let sum = String::from_utf8(run(&repository, "sha256sum", &["main.py"])).expect("text");
    assert_eq!(home.sh(&w, "ls; cat vendor/lib/a; sha256sum main.py") + "\n", format!("main.py\nvendor\nof the submodule\n{sum}"));
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn a_patch_that_is_refused_changes_nothing_and_its_hint_leads_on() {
    let home = Home::new();
    let (old, new) = (home.path().join("project.orig"), home.path().join("project"));
    for folder in [&old, &new] {
        fs::create_dir_all(folder.join("src")).expect("writable");
        fs::write(folder.join("src/t.py"), "a = 1\nb = 2\nc = 3\n").expect("writable");
    }
    let w = home.create(&["--seed-path", &old.to_string_lossy()]);
    let apply = |patch: &str| home.pyro(&["workspace", "patch", "apply", &w, "--patch", patch]);
    // What lies at the other path a name could mean is nobody's problem.
    let _ = home.sh(&w, "mkfifo t.py");
    let half = "--- src/t.py\n+++ src/t.py\n@@ -1,3 +1,3 @@\n-a = 1\n+a = 10\n... unchanged ...\n-c = 3\n+c = 30\n";
    let refused = apply(half);
    assert_eq!(refused.code, 64, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("line 6 `... unchanged ...`") && refused.stderr.contains("hint: start every line of a hunk"),
        "{}",
        refused.stderr
    );
    assert_eq!(home.sh(&w, "cat src/t.py"), "a = 1\nb = 2\nc = 3");
    let _ = apply(&half.replace("... unchanged ...", " b = 2")).ok();
    assert_eq!(home.sh(&w, "cat src/t.py"), "a = 10\nb = 2\nc = 30");
    // A new file whose place nobody knows is made where the hint says.
    let new_file = "--- /dev/null\n+++ lib/n\n@@ -0,0 +1 @@\n+n\n";
    let refused = apply(new_file);
    assert!(refused.stderr.contains("`lib/n` or `n`"), "{}", refused.stderr);
    let named = refused.stderr.split('`').find(|part| part.starts_with("diff --git")).expect("the hint names a line").to_owned();
    let _ = apply(&format!("{named}\n{}", new_file.replace("+++ lib/n", "+++ b/lib/n"))).ok();
    assert_eq!(home.sh(&w, "ls; cat lib/n"), "lib\nsrc\nt.py\nn");
    // Directories that were compared, with a file that is on one side only.
    fs::write(old.join("src/t.py"), "a = 10\nb = 2\nc = 30\n").expect("writable");
    fs::write(new.join("src/t.py"), "a = 10\nb = 20\nc = 30\n").expect("writable");
    fs::write(new.join("src/u.py"), "u = 1\n").expect("writable");
    let compared = String::from_utf8(run(home.path(), "diff", &["-ru", "project.orig", "project"])).expect("text");
    let applied = apply(&compared).ok();
    assert!(applied.stderr.contains("`project/src/u.py` was left out"), "{}", applied.stderr);
    assert_eq!(home.sh(&w, "cat src/t.py; ls src"), "a = 10\nb = 20\nc = 30\nt.py");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
