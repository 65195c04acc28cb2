//! Commands as another user than root: Git works in `/workspace`, and there is a home to write to.

use std::{fs, process::Command};

use pyro_tests::{Home, open_shell, type_line};

fn git(folder: &std::path::Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"];
    let done = Command::new("git").args(identity).args(arguments).current_dir(folder).env("HOME", folder).output().expect("git runs");
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn git_works_for_every_user_however_a_command_was_started_and_after_every_new_machine() {
    let home = Home::with_environment("debian:12");
    let seed = home.path().join("checkout");
    fs::create_dir(&seed).expect("writable");
    git(&seed, &["init", "-q"]);
    git(&seed, &["commit", "-q", "--allow-empty", "-m", "first commit"]);
    let w = home.create_from("debian:12", &["--mem-mib", "512", "--name", "w", "--seed-path", &seed.to_string_lossy()]);
    let log = |workspace: &str, user: &str| home.pyro(&["workspace", "exec", workspace, "--user", user, "--", "git", "log", "--format=%s"]);
    let works = |workspace: &str| {
        for user in ["1000", "nobody", "root"] {
            let seen = log(workspace, user);
            assert!(seen.code == 0 && seen.text() == "first commit", "{workspace} {user}: {}", seen.stderr);
        }
    };
    works(&w);
    // A clone below, what `su` starts with an environment of its own, a service and a shell.
    assert_eq!(
        home.sh(&w, "git clone -q . sub; cd sub; su -s /bin/sh - nobody -c 'cd /workspace/sub && git log --format=%s'"),
        "first commit"
    );
    assert_eq!(home.sh(&w, "chown -R 1234:1234 .; git status --short | head -1"), "?? sub/", "root in what is another's");
    let service = ["workspace", "service", "start", &w, "s", "--user", "1000", "--", "sh", "-c", "git log --format=%s; sleep 1000"];
    let _ = home.pyro(&service).ok();
    pyro_tests::eventually("the service has Git", 20, || {
        home.pyro(&["workspace", "service", "logs", &w, "s"]).text().contains("first commit")
    });
    let (shell, _) = open_shell(&home, &w, &["--user", "1000"]);
    let seen = type_line(&home, &w, &shell, "git log --format=shell-%s | cat");
    assert!(seen.contains("shell-first commit"), "{seen}");
    // What an administrator of the guest has set stays, and can be changed.
    let _ = home.sh(&w, "git config --system alias.st status");
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let _ = home.pyro(&["workspace", "start", &w]).ok();
    works(&w);
    assert_eq!(home.sh(&w, "git config --system --list"), "safe.directory=*\nalias.st=status");
    let _ = home.pyro(&["workspace", "fork", &w, "--name", "copy"]).ok();
    works("copy");
    let _ = home.pyro(&["workspace", "reset", &w]).ok();
    works(&w);
    assert_eq!(home.pyro(&["workspace", "diff", &w, "--json"]).ok().json()["changed"], false);
    for workspace in [&w, "copy"] {
        let _ = home.pyro(&["workspace", "delete", workspace, "--force"]).ok();
    }
    home.assert_nothing_left();
}

#[test]
fn a_user_without_an_entry_has_a_home_of_its_own() {
    let home = Home::new();
    let w = home.create(&[]);
    let run = |user: &str, line: &str| home.pyro(&["workspace", "exec", &w, "--user", user, "--", "sh", "-c", line]);
    let seen = run("4711", "cd && pwd && echo kept >file && id -u && id -g && stat -c '%a %u %g' . && echo $USER");
    assert_eq!(seen.ok().text(), "/home/4711\n4711\n4711\n700 4711 4711\n4711");
    assert_ne!(run("4712", "cat /home/4711/file").code, 0);
    let _ = home.pyro(&["workspace", "stop", &w]).ok();
    let _ = home.pyro(&["workspace", "start", &w]).ok();
    assert_eq!(run("4711", "cat ~/file").ok().text(), "kept");
    assert_eq!(run("nobody", "echo $HOME").ok().text(), "/nonexistent", "what the guest says of its users holds");
    assert_eq!(run("0", "echo $HOME").ok().text(), "/root");
    let _ = home.pyro(&["workspace", "delete", &w]).ok();
    home.assert_nothing_left();
}
