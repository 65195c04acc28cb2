//! Seeds as the world makes them, looked at by the guest: its Git, its clock, its `stat`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use pyro_tests::Home;

/// Environment whose Git looks at checkouts: Debian 12's, older than that of most hosts.
const WITH_GIT: &str = "debian:12";

fn put(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
        fs::write(path, text).expect("writable");
    }
}

/// Runs a program of the host, as a user whose home is `home`.
fn run(home: &Path, folder: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", home);
    for (name, value) in [("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b")] {
        command.env(name, value);
    }
    let output = command.env("GIT_COMMITTER_NAME", "a").env("GIT_COMMITTER_EMAIL", "a@b").output().expect("it runs");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_time_of_a_folder_and_of_an_archive_is_the_guests_own() {
    let home = Home::new();
    let seed = home.path().join("seed");
    let times = [
        ("minus-one", "@-1"),
        ("zero", "@0"),
        ("before", "@-1000000000.25"),
        ("exact", "@1700000000.123456789"),
        ("far", "@6000000000.5"),
        ("folder/below", "@1600000000"),
        ("folder", "@-1"),
        (".", "@1500000000.75"),
    ];
    put(&seed, &times.map(|(name, _)| (name, "x"))[..6]);
    for (name, time) in times {
        run(home.path(), &seed, "touch", &["-d", time, name]);
    }
    run(home.path(), &seed, "tar", &["--format=posix", "-cf", "../seed.tar", "."]);
    let look = ["sh", "-c", "cd /workspace && stat -c '%n %.9Y' minus-one zero before exact far folder/below folder ."];
    let here =
        run(home.path(), &seed, "stat", &["-c", "%n %.9Y", "minus-one", "zero", "before", "exact", "far", "folder/below", "folder", "."]);
    for source in [seed.clone(), home.path().join("seed.tar")] {
        let workspace = home.create(&["--seed-path", &source.to_string_lossy()]);
        assert_eq!(home.exec(&workspace, &look).ok().text(), here.trim_end(), "{}", source.display());
        let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
    }
    home.assert_nothing_left();
}

/// What is done to a checkout on the host, with its own Git.
type Make = fn(&dyn Fn(&[&str]), &Path);

/// Checkouts that are clean on the host, with what the user has configured.
const CHECKOUTS: [(&str, &str, Make); 10] = [
    ("line ends", "[core]\n\tautocrlf = true\n", |git, _| git(&["checkout", "-q", "."])),
    ("own attributes", "[core]\n\tattributesFile = ~/attributes\n", |git, _| git(&["checkout", "-q", "."])),
    ("modes", "[core]\n\tfileMode = false\n", |git, top| {
        git(&["config", "--unset", "core.fileMode"]);
        fs::set_permissions(top.join("a.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("writable");
    }),
    ("split index", "", |git, _| git(&["update-index", "--split-index", "--untracked-cache"])),
    ("monitor", "", |git, _| {
        git(&["config", "core.fsmonitor", "/bin/true"]);
        git(&["update-index", "--fsmonitor"]);
    }),
    ("sparse", "", |git, _| git(&["sparse-checkout", "set", "--cone", "--sparse-index", "sub"])),
    ("relative worktrees", "", |git, _| {
        git(&["config", "core.repositoryFormatVersion", "1"]);
        git(&["config", "extensions.relativeWorktrees", "true"]);
    }),
    ("worktree configuration", "", |git, _| {
        git(&["config", "extensions.worktreeConfig", "true"]);
        git(&["config", "--worktree", "core.autocrlf", "true"]);
        git(&["checkout", "-q", "."]);
    }),
    ("excludes", "[core]\n\texcludesFile = ~/ignored\n", |_, top| put(top, &[("secrets.local", "key")])),
    ("packed", "", |git, _| git(&["gc", "-q"])),
];

#[test]
fn checkouts_that_are_clean_on_the_host_are_clean_in_the_guest_or_it_is_said_why_not() {
    let home = Home::with_environment(WITH_GIT);
    let user = home.path();
    put(user, &[("attributes", "*.txt text eol=crlf\n"), ("ignored", "*.local\n")]);
    let seeded = |top: &Path| {
        let created = home.pyro(&["workspace", "create", WITH_GIT, "--json", "--seed-path", &top.to_string_lossy()]).ok();
        let answer = created.json();
        let workspace = answer["workspace_id"].as_str().expect("an id").to_owned();
        let seen = home.sh(&workspace, "git status --porcelain && git log --format=%s && ls");
        let _ = home.pyro(&["workspace", "delete", &workspace]).ok();
        (seen, answer["notes"].clone(), created.stderr)
    };
    let make = |name: &str, configuration: &str| -> PathBuf {
        let top = user.join(name);
        fs::write(user.join(".gitconfig"), configuration).expect("writable");
        put(&top, &[("a.txt", "a\n"), ("sub/b.txt", "b\n"), ("other/c.txt", "c\n")]);
        symlink("a.txt", top.join("link")).expect("writable");
        for arguments in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "one"]] {
            run(user, &top, "git", arguments);
        }
        for file in ["a.txt", "sub/b.txt"] {
            fs::remove_file(top.join(file)).expect("it is there");
        }
        run(user, &top, "git", &["checkout", "-q", "."]);
        top
    };
    for (name, configuration, change) in CHECKOUTS {
        let top = make(name, configuration);
        change(&|arguments| drop(run(user, &top, "git", arguments)), &top);
        // Only Git from 2.48 on knows relative worktrees, and this host's may be older.
        if name != "relative worktrees" {
            assert_eq!(run(user, &top, "git", &["status", "--porcelain"]), "", "{name}, on the host");
        }
        let (seen, notes, _) = seeded(&top);
        let other = if name == "sparse" { "" } else { "other\n" };
        assert_eq!(seen, format!("one\na.txt\nlink\n{other}sub"), "{name}");
        assert_eq!(notes, serde_json::json!([]), "{name}");
    }
    // A filter that the guest lacks.
    let top = make("filter", "[filter \"lfs\"]\n\tclean = tr a b\n\tsmudge = tr b a\n");
    put(&top, &[(".gitattributes", "*.bin filter=lfs\n"), ("large.bin", "aaa\n")]);
    run(user, &top, "git", &["add", "-A"]);
    run(user, &top, "git", &["commit", "-q", "-m", "two"]);
    let (seen, notes, errors) = seeded(&top);
    assert!(seen.starts_with(" M large.bin\n"), "{seen}");
    assert_eq!(notes[0]["path"], ".git");
    assert!(notes[0]["text"].as_str().is_some_and(|text| text.contains("the Git filter `lfs`")), "{notes}");
    assert!(errors.contains("note: `.git`: 1 tracked file"), "{errors}");
    home.assert_nothing_left();
}
