//! Where the benchmark lives: `target/bench`, with the environment pulled once and a folder per run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use pyro_store::FileLock;

/// The environment everything is measured with: the smallest, whose root file system the peers get too.
pub(crate) const ENVIRONMENT: &str = "debian:12-base";

/// Returns the folder of this binary: `target/PROFILE`.
fn profile_folder() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("the binary has a folder")?.to_owned())
}

/// Returns the `pyro` beside this binary.
pub(crate) fn binary() -> Result<PathBuf> {
    let binary = profile_folder()?.join("pyro");
    ensure!(binary.is_file(), "`{}` is not built: run `make bench`, or `cargo build --release --package pyro`", binary.display());
    Ok(binary)
}

fn folder() -> Result<PathBuf> {
    Ok(profile_folder()?.parent().context("the target folder")?.join("bench"))
}

/// Returns the home that holds the pulled environment, and nothing that runs.
pub(crate) fn pool() -> Result<PathBuf> {
    Ok(folder()?.join("pool"))
}

/// Returns the root of the repository this was built from.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Builds the environment unless it is there. A day-old one is as good: what is measured is not in it.
pub(crate) fn pull_environment() -> Result<()> {
    let pool = pool()?;
    std::fs::create_dir_all(&pool).with_context(|| format!("cannot make `{}`", pool.display()))?;
    let status = std::process::Command::new(binary()?)
        .args(["env", "pull", ENVIRONMENT])
        .env("PYRO_HOME", &pool)
        .stdout(std::process::Stdio::null())
        .status()
        .context("cannot start pyro")?;
    ensure!(status.success(), "`pyro env pull {ENVIRONMENT}` failed: {status}");
    Ok(())
}

/// Makes a folder for this run. Its lock is held for as long as this process lives, so that nobody takes the folder for a leftover.
pub(crate) fn make_run_folder() -> Result<PathBuf> {
    let run = folder()?.join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&run).with_context(|| format!("cannot make `{}`", run.display()))?;
    let lock = FileLock::acquire(&run.join("lock"))?;
    std::mem::forget(lock);
    Ok(run)
}

/// Removes folders of runs whose keeper was killed.
pub(crate) fn remove_leftovers() -> Result<()> {
    for entry in std::fs::read_dir(folder()?).into_iter().flatten().flatten() {
        let run = entry.path();
        if entry.file_name().to_string_lossy().starts_with("run-") && matches!(FileLock::try_acquire(&run.join("lock")), Ok(Some(_))) {
            std::fs::remove_dir_all(&run).with_context(|| format!("cannot remove `{}`", run.display()))?;
        }
    }
    Ok(())
}

/// Puts the files below `from` below `to` as hard links.
pub(crate) fn link_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make `{}`", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_tree(&entry.path(), &target)?;
        } else {
            std::fs::hard_link(entry.path(), &target).with_context(|| format!("cannot link `{}`", target.display()))?;
        }
    }
    Ok(())
}
