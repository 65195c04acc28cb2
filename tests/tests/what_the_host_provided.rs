//! What `apply` brings to the host is what differs from what the host last provided: its seed, later pushes, earlier applies. Files that the
//! seed's ignore rules exclude stay in the guest.

use std::{fs, path::Path, process::Command};

use pyro_tests::Home;
use serde_json::Value;

fn put(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("below a folder")).expect("writable");
        fs::write(path, text).expect("writable");
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "user.name=A", "-c", "user.email=a@example.com"]).args(arguments);
    let output = command.output().expect("git starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A workspace seeded from `seed` below the home, with these files, and the arguments that push `source` into it.
fn seeded(home: &Home, files: &[(&str, &str)]) -> (String, std::path::PathBuf) {
    let seed = home.path().join("seed");
    put(&seed, files);
    let w = home.create(&["--seed-path", &seed.to_string_lossy()]);
    (w, seed)
}

fn push(home: &Home, w: &str, source: &Path, more: &[&str]) {
    let source = source.to_string_lossy();
    let mut arguments = vec!["workspace", "sync", "push", w, &source];
    arguments.extend(more);
    let _ = home.pyro(&arguments).ok();
}

fn apply(home: &Home, w: &str, more: &[&str]) -> Value {
    let mut arguments = vec!["workspace", "apply", w, "--json"];
    arguments.extend(more);
    home.pyro(&arguments).ok().json()
}

/// Returns `path verdict` of every file that an apply would look at.
fn verdicts(home: &Home, w: &str, more: &[&str]) -> Vec<String> {
    let answer = apply(home, w, &[more, &["--dry-run"]].concat());
    let files = answer["files"].as_array().expect("a list").iter();
    files.map(|file| format!("{} {}", file["path"].as_str().expect("text"), file["verdict"].as_str().expect("text"))).collect()
}

/// Returns the paths that differ.
fn differing(home: &Home, w: &str, more: &[&str]) -> Vec<String> {
    let mut arguments = vec!["workspace", "diff", w, "--stat", "--json"];
    arguments.extend(more);
    let answer = home.pyro(&arguments).ok().json();
    answer["entries"].as_array().expect("a list").iter().map(|entry| entry["path"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_fix_that_restores_the_seeded_text_of_a_pushed_file_is_applied() {
    let home = Home::new();
    let (w, seed) = seeded(&home, &[("answer", "right\n"), ("other", "same\n")]);
    put(&seed, &[("answer", "wrong\n"), ("added", "by the host\n")]);
    push(&home, &w, &seed, &[]);
    assert_eq!(verdicts(&home, &w, &[]), Vec::<String>::new(), "what was pushed and left alone is no change");
    assert_eq!(differing(&home, &w, &["--against", "host"]), Vec::<String>::new());
    let _ = home.sh(&w, "echo right > answer");
    assert_eq!(differing(&home, &w, &[]), ["added"], "the baseline stays what it was");
    assert_eq!(differing(&home, &w, &["--against", "host"]), ["answer"]);
    let patch = home.pyro(&["workspace", "diff", &w, "--against", "host"]).ok();
    assert!(patch.text().contains("-wrong\n+right"), "{}", patch.text());
    assert_eq!(verdicts(&home, &w, &[]), ["answer clean"]);
    assert_eq!(apply(&home, &w, &[])["applied"], true);
    assert_eq!((read(seed.join("answer")), read(seed.join("added"))), ("right\n".into(), "by the host\n".into()));
    assert_eq!(verdicts(&home, &w, &[]), Vec::<String>::new(), "the host has it now");
    let _ = home.sh(&w, "rm added");
    assert_eq!(verdicts(&home, &w, &[]), ["added clean"], "what was pushed can be deleted");
    let _ = home.pyro(&["workspace", "apply", &w, "--undo"]).ok();
    assert_eq!(read(seed.join("answer")), "wrong\n");
    assert_eq!(verdicts(&home, &w, &[]), ["added clean", "answer clean"]);
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn another_projects_files_are_never_applied_to_the_seeds_directory() {
    let home = Home::new();
    let (w, seed) = seeded(&home, &[("a", "seed\n"), ("b", "seed\n")]);
    let other = home.path().join("other");
    put(&other, &[("a", "other\n"), ("lib/c", "other\n")]);
    push(&home, &w, &other, &["--delete"]);
    assert_eq!(verdicts(&home, &w, &[]), Vec::<String>::new());
    let _ = home.sh(&w, "echo changed > lib/c; echo new > lib/d");
    let answer = apply(&home, &w, &[]);
    assert_eq!(answer["target"].as_str(), other.to_str());
    assert_eq!((read(other.join("lib/c")), read(other.join("lib/d"))), ("changed\n".into(), "new\n".into()));
    assert_eq!((read(seed.join("a")), read(seed.join("b"))), ("seed\n".into(), "seed\n".into()));
    // Whoever names the directory means it.
    let seed_text = seed.to_string_lossy().into_owned();
    assert!(verdicts(&home, &w, &["--to", &seed_text]).iter().any(|verdict| verdict == "lib/d clean"));
    let _ = home.pyro(&["workspace", "reset", &w]).ok();
    let _ = home.sh(&w, "echo changed > b");
    assert_eq!(apply(&home, &w, &[])["target"].as_str(), seed.to_str(), "a reset puts the seed back, and its home");
    assert_eq!(read(seed.join("b")), "changed\n");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn files_pushed_from_elsewhere_are_conflicts_and_so_is_what_is_new_beside_them() {
    let home = Home::new();
    let (w, seed) = seeded(&home, &[("main", "seed\n")]);
    let library = home.path().join("library");
    put(&library, &[("lib.c", "library\n")]);
    push(&home, &w, &library, &["--dest", "vendor/library"]);
    assert_eq!(verdicts(&home, &w, &[]), Vec::<String>::new());
    let _ = home.sh(&w, "echo changed > main; echo changed > vendor/library/lib.c; echo new > vendor/library/new.c");
    assert_eq!(verdicts(&home, &w, &[]), ["main clean", "vendor clean", "vendor/library/lib.c conflict", "vendor/library/new.c conflict"]);
    let refused = home.pyro(&["workspace", "apply", &w]).code(68);
    assert!(refused.stderr.contains(&*library.join("lib.c").to_string_lossy()), "{}", refused.stderr);
    assert_eq!(read(seed.join("main")), "seed\n");
    assert!(!seed.join("vendor").exists());
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn snapshots_and_forks_know_what_their_files_are_compared_with() {
    let home = Home::new();
    let (w, seed) = seeded(&home, &[("answer", "v1\n")]);
    put(&seed, &[("answer", "v2\n")]);
    push(&home, &w, &seed, &[]);
    let _ = home.pyro(&["workspace", "snapshot", "create", &w, "pushed"]).ok();
    let copy = home.pyro(&["workspace", "fork", &w, "--json"]).ok().json()["forks"][0]["workspace_id"].as_str().expect("an id").to_owned();
    put(&seed, &[("answer", "v3\n")]);
    push(&home, &w, &seed, &[]);
    assert_eq!(verdicts(&home, &w, &[]), Vec::<String>::new());
    let _ = home.pyro(&["workspace", "reset", &w, "--snapshot", "pushed"]).ok();
    assert_eq!(home.sh(&w, "cat answer"), "v2");
    assert_eq!(differing(&home, &w, &["--against", "host"]), Vec::<String>::new(), "v2 was what the host had provided then");
    let _ = home.sh(&w, "echo mine > answer");
    assert_eq!(verdicts(&home, &w, &[]), ["answer conflict"], "the host has moved on since");
    assert_eq!(verdicts(&home, &copy, &[]), Vec::<String>::new(), "a fork has the same history");
    let refused = home.pyro(&["workspace", "snapshot", "create", &w, "host"]).code(64);
    assert!(refused.stderr.contains("reserved"), "{}", refused.stderr);
    for workspace in [&w, &copy] {
        let _ = home.pyro(&["workspace", "delete", workspace]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn a_workspace_that_a_push_has_filled_goes_home_to_the_pushs_source() {
    let home = Home::new();
    let w = home.create(&[]);
    let refused = home.pyro(&["workspace", "apply", &w]).code(64);
    assert!(refused.stderr.contains("--to"), "{}", refused.stderr);
    let source = home.path().join("source");
    put(&source, &[("a", "1\n")]);
    push(&home, &w, &source, &[]);
    let _ = home.sh(&w, "echo 2 > a");
    assert_eq!(apply(&home, &w, &[])["target"].as_str(), source.to_str());
    assert_eq!(read(source.join("a")), "2\n");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}

#[test]
fn ignored_files_stay_in_the_guest_are_counted_and_can_be_asked_for() {
    let home = Home::new();
    let seed = home.path().join("seed");
    put(&seed, &[(".gitignore", "/target/\n*.pyc\n"), ("main.py", "1\n"), ("kept.pyc", "tracked\n")]);
    git(&seed, &["init", "-q"]);
    git(&seed, &["add", "-f", "."]);
    git(&seed, &["commit", "-qm", "seed"]);
    put(&seed, &[("target/debug/host", "the host's own\n")]);
    let w = home.create(&["--seed-path", &seed.to_string_lossy()]);
    let _ = home.sh(
        &w,
        "mkdir -p target/debug pkg/cache new; echo out > target/debug/guest; echo out > target/debug/host; \
         echo x > pkg/cache/a.pyc; echo changed > kept.pyc; echo changed > main.py; echo shown > new/file",
    );
    let diff = home.pyro(&["workspace", "diff", &w, "--stat", "--json"]).ok().json();
    assert_eq!(diff["ignored_count"], 3);
    assert_eq!(differing(&home, &w, &[]), ["kept.pyc", "main.py", "new", "new/file"], "tracked files are never ignored");
    assert_eq!(differing(&home, &w, &["--against", "host"]), ["kept.pyc", "main.py", "new", "new/file"]);
    let all = differing(&home, &w, &["--include-ignored"]);
    assert!(["pkg/cache/a.pyc", "target/debug/guest"].iter().all(|path| all.iter().any(|found| found == path)), "{all:?}");
    let told = home.pyro(&["workspace", "diff", &w]).ok();
    assert!(told.stderr.contains("3 ignored files were left out; `--include-ignored`"), "{}", told.stderr);
    let summary = home.pyro(&["workspace", "summary", &w, "--json"]).ok().json();
    assert_eq!((summary["ignored_count"].as_u64(), summary["diff"]["entry_count"].as_u64()), (Some(3), Some(4)));

    // The workspace's own ignore files count where it has changed them, but nothing comes back that the host's exclude.
    let _ = home
        .sh(&w, "printf '*.log\\n!*.pyc\\n' > .gitignore; echo noise > new/run.log; mkdir sub; echo '*' > sub/.gitignore; echo x > sub/x");
    assert_eq!(differing(&home, &w, &[]), [".gitignore", "kept.pyc", "main.py", "new", "new/file"]);
    // The directory, its ignore file and what that excludes, and the log.
    assert_eq!(home.pyro(&["workspace", "diff", &w, "--stat", "--json"]).ok().json()["ignored_count"], 6);
    assert_eq!(verdicts(&home, &w, &[]), [".gitignore clean", "kept.pyc clean", "main.py clean", "new clean", "new/file clean"]);
    let answer = apply(&home, &w, &[]);
    assert_eq!((answer["applied"].as_bool(), answer["ignored_count"].as_u64()), (Some(true), Some(6)));
    assert_eq!(read(seed.join("target/debug/host")), "the host's own\n");
    assert!(!seed.join("target/debug/guest").exists() && !seed.join("pkg").exists() && !seed.join("sub").exists());
    let forced = verdicts(&home, &w, &["--include-ignored"]);
    assert!(forced.iter().any(|verdict| verdict == "target/debug/host conflict"), "{forced:?}");

    // Whoever pushes ignored files wants them back.
    let all = home.path().join("all");
    put(&all, &[("data.log", "pushed\n")]);
    push(&home, &w, &all, &["--dest", "new"]);
    let _ = home.sh(&w, "echo changed > new/data.log");
    assert!(differing(&home, &w, &[]).iter().any(|path| path == "new/data.log"));
    let _ = home.pyro(&["workspace", "delete", &w]).ok();

    let w = home.create(&["--seed-path", &seed.to_string_lossy(), "--seed-all"]);
    let _ = home.sh(&w, "echo changed > target/debug/host; echo new > target/debug/new");
    assert_eq!(differing(&home, &w, &[]), ["target/debug/host", "target/debug/new"], "nothing was left out on the way in");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
