//! Package managers in a real guest, as they are, against registries of the world whose certificates are signed by a private authority.
//!
//! No package manager is told of the authority: the guest trusts it because the host's administrator does.

use std::{fs, path::Path, process::Command};

use pyro_tests::{
    Home, bring, repository,
    world::{Answer, OUTSIDE, Prober, World},
};

/// Installs a package called `word` by each of them, and has it say so. What they say themselves is for the reader of a failure.
const INSTALL: &str = r#"
set -eu
exec 3>&1 >&2

echo 'deb [trusted=yes] http://deb.test ./' >sources.list
sources='-o Dir::Etc::sourcelist=/workspace/sources.list -o Dir::Etc::sourceparts=-'
apt-get $sources update
apt-get $sources install --yes word
word >&3

PYTHONPATH=pip python3 -m pip install --target installed --index-url https://pypi.test/simple/ word
PYTHONPATH=installed python3 -c 'import word; print(word.told)' >&3

git clone https://git.test/word cloned
cat cloned/told >&3

# Of the commands that download a package, the one that needs no compiler.
mkdir -p user/src
cd user
touch src/lib.rs
cat >Cargo.toml <<'END'
[package]
name = "user"
edition = "2021"
[dependencies]
word = { version = "1", registry = "world" }
END
CARGO_REGISTRIES_WORLD_INDEX=sparse+https://crates.test/ ../tools/cargo vendor
cat vendor/word/src/lib.rs >&3
"#;
const SAID: &str = "brought by apt\nbrought by pip\nbrought by git\n// brought by cargo";
/// What that takes: apt's index sends its clients on, and two others keep packages on another host than their indexes.
const RULES: [&str; 7] = [
    "crates.test:443",
    "deb.test:80",
    "files.crates.test:443",
    "files.deb.test:443",
    "files.pypi.test:443",
    "git.test:443",
    "pypi.test:443",
];
/// Something else that is there.
const ELSEWHERE: [&str; 3] = ["git", "ls-remote", "https://other.test/word"];

#[test]
fn package_managers_work_behind_a_private_authority_and_with_no_more_than_the_rules_they_were_seen_to_need() {
    let Some(world) = World::with_environment("debian:12") else { return };
    let registries = tempfile::tempdir().expect("there is room");
    open_registries(&world, registries.path());
    let authority = registries.path().join("authority.pem");
    fs::write(&authority, world.authority()).expect("there is room");
    let home = world.home().with("PYRO_CERTIFICATES", &authority.to_string_lossy());

    let open = create(&home, registries.path(), &["--network-policy", "egress"]);
    let _ = home.exec(&open, &ELSEWHERE).ok();
    let told = home.pyro(&["network", "learn", &open, "--", "sh", "-c", INSTALL]).ok().text();
    let flags = RULES.iter().fold("--network-policy egress".to_owned(), |flags, rule| format!("{flags} --allow-host {rule}"));
    assert!(told.starts_with(&format!("{SAID}\n\n# As flags of `pyro workspace create`:\n{flags}\n\n")), "{told}");
    let _ = home.pyro(&["workspace", "delete", &open]).ok();

    // Whom it trusts comes from the administrator, and from nobody else.
    let network = ["--mem-mib", "512", "--network-policy", "egress", "--no-host-certificates"];
    let distrusting = home.create_from("debian:12", &network);
    let refused = home.exec(&distrusting, &ELSEWHERE).code(128);
    assert!(refused.stderr.contains("certificate verification failed"), "{refused:?}");
    let _ = home.pyro(&["workspace", "delete", &distrusting]).ok();

    world.names().forget_asked();
    let closed = create(&home, registries.path(), &flags.split(' ').collect::<Vec<_>>());
    assert_eq!(home.exec(&closed, &["sh", "-c", INSTALL]).ok().text(), SAID);
    let refused = home.exec(&closed, &ELSEWHERE).code(128);
    assert!(refused.stderr.contains("Could not resolve host: other.test"), "{refused:?}");
    let _ = Prober::of(&home, closed.clone()).logged(&["event=question", "name=other.test", "would_allow=other.test"]);
    let asked = world.names().asked();
    assert!(asked.iter().all(|name| RULES.iter().any(|rule| rule.split_once(':').is_some_and(|(host, _)| host == name))), "{asked:?}");
    let _ = home.pyro(&["workspace", "delete", &closed]).ok();
    home.assert_nothing_left();
}

/// Makes the registries in a folder and has the world serve them.
fn open_registries(world: &World, folder: &Path) {
    let script = repository().join("tests/tests/package_managers.sh");
    let made = Command::new("sh").arg(script).arg(folder).output().expect("a host has a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for host in ["files.deb.test", "pypi.test", "files.pypi.test", "crates.test", "files.crates.test"] {
        world.serve(host, &folder.join(host));
    }
    world.redirect("deb.test", "https://files.deb.test");
    for host in ["git.test", "other.test"] {
        world.serve_git(host, &folder.join("git.test"));
    }
    for host in RULES.iter().filter_map(|rule| rule.split_once(':')).map(|(host, _)| host).chain(["other.test"]) {
        world.names().set(host, Answer::addresses(&[OUTSIDE]));
    }
}

/// Creates a workspace that has the package managers which the environment lacks.
fn create(home: &Home, registries: &Path, network: &[&str]) -> String {
    let workspace = home.create_from("debian:12", &[&["--mem-mib", "512"], network].concat());
    let pip = registries.join("pip");
    let _ = home.pyro(&["workspace", "sync", "push", &workspace, &pip.to_string_lossy(), "--dest", "pip"]).ok();
    // The one that built this test, and no shim that would look for one.
    bring(home, &workspace, &[env!("CARGO")]);
    workspace
}
