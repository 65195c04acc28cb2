//! Lets Git work in the guest whoever a command runs as.
//!
//! Git refuses a repository whose files belong to another user ("dubious ownership"), and what a seed brings belongs to root. In a workspace
//! the guest is the boundary, not the user, so all of it is declared safe. Git takes `safe.directory` from the system's configuration, the
//! user's or the command line only. An environment variable would not reach what `su`, `sudo` or cron start, and a mount over the file
//! would keep `git config --system` from replacing it, so it is an ordinary file of the root, added to once.

use std::fs;
use std::io;
use std::path::Path;

use crate::log;
use crate::root_file::{read, replace};

/// Git's configuration of the system, as every distribution builds it.
const CONFIGURATION: &str = "etc/gitconfig";
/// Largest one that is added to.
const MAX_BYTES: u64 = 1 << 20;
/// How what we add begins, also where an environment was built with it. Whoever wants it gone leaves this line where it is.
const OURS: &str = "# Added by Pyro: repositories in a workspace may belong to any of its users.";

/// Declares every repository safe, unless that was done before. What fails is logged: Git says by itself what it needs.
pub(crate) fn trust_repositories(root: &Path) {
    if let Err(error) = add(root) {
        log::line(&format!("cannot add to `/{CONFIGURATION}`: {error}"));
    }
}

fn add(root: &Path) -> io::Result<()> {
    let path = root.join(CONFIGURATION);
    let ours = format!("{OURS}\n[safe]\n\tdirectory = *\n");
    // A link is followed, so that it stays one.
    let path = match fs::canonicalize(&path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A root without `/etc` has no Git either. A link to nothing is somebody's plan.
            return if path.parent().is_some_and(Path::is_dir) && !path.is_symlink() { replace(&path, &[ours.as_bytes()]) } else { Ok(()) };
        }
        Err(error) => return Err(error),
    };
    let old = read(&path, MAX_BYTES)?;
    if old.split(|&byte| byte == b'\n').any(|line| line == OURS.as_bytes()) {
        return Ok(());
    }
    let permissions = fs::metadata(&path)?.permissions();
    let end: &[u8] = if old.is_empty() || old.ends_with(b"\n") { b"" } else { b"\n" };
    replace(&path, &[&old, end, ours.as_bytes()])?;
    fs::set_permissions(&path, permissions)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn root() -> (tempfile::TempDir, std::path::PathBuf) {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("etc")).expect("made");
        let path = root.path().join(CONFIGURATION);
        (root, path)
    }

    /// What Git makes of a file.
    fn git(path: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git").arg("config").arg("--file").arg(path).args(arguments).output().expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    #[test]
    fn environments_are_built_with_what_would_be_added() {
        let script = include_str!("../../pyro-image/src/debian/finish.sh");
        assert!(script.contains(&format!("{OURS}\n[safe]\n\tdirectory = *\n")), "the agent would add it to every workspace again");
    }

    #[test]
    fn repositories_are_declared_safe_once() {
        let (root, path) = root();
        trust_repositories(root.path());
        assert_eq!(git(&path, &["--list"]), "safe.directory=*\n");
        let before = fs::read(&path).expect("there");
        trust_repositories(root.path());
        assert_eq!(fs::read(&path).expect("there"), before);
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let (root, path) = root();
        fs::write(&path, "[user]\n\tname = \"A\"\n[safe]\n\tdirectory = /srv\n# \u{e4} \n[core]\n\teditor = vi").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        trust_repositories(root.path());
        assert_eq!(git(&path, &["--list"]), "user.name=A\nsafe.directory=/srv\ncore.editor=vi\nsafe.directory=*\n");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        // Who changes it is not overruled.
        let _ = git(&path, &["--unset-all", "safe.directory"]);
        trust_repositories(root.path());
        assert_eq!(git(&path, &["--list"]), "user.name=A\ncore.editor=vi\n");
    }

    #[test]
    fn link_stays_a_link_and_what_is_no_file_keeps_nobody_waiting() {
        let (root, path) = root();
        let target = root.path().join("target");
        std::os::unix::fs::symlink(&target, &path).expect("linked");
        trust_repositories(root.path());
        assert!(!target.exists());
        fs::write(&target, "").expect("written");
        trust_repositories(root.path());
        assert!(path.is_symlink() && git(&target, &["--list"]) == "safe.directory=*\n");
        fs::remove_file(&path).expect("there");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("made");
        trust_repositories(root.path());
        assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::symlink_metadata(&path).expect("there").file_type()));
    }

    #[test]
    fn root_without_a_place_for_it_gets_none() {
        let root = tempfile::tempdir().expect("a directory");
        trust_repositories(root.path());
        assert_eq!(fs::read_dir(root.path()).expect("there").count(), 0);
    }
}
