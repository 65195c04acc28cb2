//! What all tests share: one pulled environment and one template, made once by the binary under test.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use pyro_store::{FileLock, file_identity};

use crate::{ENVIRONMENT, MEM_MIB};

/// Returns the binary under test: the one beside this test's own.
///
/// # Panics
/// It is not built.
#[must_use]
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("this process has a binary");
    let binary = own.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("pyro");
    assert!(binary.is_file(), "`{}` is not built: run `cargo build -p pyro` (make test does)", binary.display());
    binary
}

/// Returns the shared home, making what it holds when it is missing or older than the binary.
pub(crate) fn pool() -> &'static Path {
    static POOL: OnceLock<PathBuf> = OnceLock::new();
    POOL.get_or_init(|| {
        let binary = binary();
        let home = binary.parent().expect("a target folder").join("guest-pool");
        std::fs::create_dir_all(&home).expect("the target folder is writable");
        let _lock = FileLock::acquire(&home.join("lock")).expect("the pool can be locked");
        let stamp = home.join("stamp");
        let identity = file_identity(&binary).expect("it is there");
        if std::fs::read_to_string(&stamp).ok().as_deref() != Some(&identity) {
            for arguments in [&["env", "pull", ENVIRONMENT][..], &["run", ENVIRONMENT, "--mem-mib", MEM_MIB, "--", "true"]] {
                let output = command(&binary, &home).env("PYRO_STANDBY", "0").args(arguments).output().expect("pyro starts");
                assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
            std::fs::write(&stamp, identity).expect("the pool is writable");
        }
        home
    })
}

/// Has the pool hold a template with a network card, too.
pub(crate) fn with_network() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let (home, binary) = (pool(), binary());
        let _lock = FileLock::acquire(&home.join("lock")).expect("the pool can be locked");
        let arguments = ["run", ENVIRONMENT, "--mem-mib", MEM_MIB, "--network", "--", "true"];
        let output = command(&binary, home).env("PYRO_STANDBY", "0").args(arguments).output().expect("pyro starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    });
}

/// Has the pool hold another environment.
pub(crate) fn pull(environment: &str) {
    let (home, binary) = (pool(), binary());
    let _lock = FileLock::acquire(&home.join("lock")).expect("the pool can be locked");
    let output = command(&binary, home).env("PYRO_STANDBY", "0").args(["env", "pull", environment]).output().expect("pyro starts");
    assert!(output.status.success(), "{environment}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns a command that runs `binary` with nothing of the caller's environment but what programs need.
pub(crate) fn command(binary: &Path, home: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", home)
        .env("PYRO_HOME", home)
        .stdin(std::process::Stdio::null());
    command
}
