//! The guard: whatever happens to the benchmark, nothing of it is left on the host.
//!
//! Three processes of this binary, because a release build aborts on a panic and runs no destructor:
//!
//! ```text
//! keeper   pulls the environment, waits, removes the run's folder last
//!   └ init    process 1 of its own PID and mount namespace: ends with the worker, and the kernel ends everything below with it
//!       └ worker   measures; supervisors, QEMUs, containers and mounts are all made here
//! ```
//!
//! Ctrl-C and SIGTERM reach the keeper, which kills its child; a killed keeper takes its child along by the parent-death signal. Without
//! root the namespace comes with a user namespace in which the user stays who it is.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::bed;

const INIT: &str = "__init";
const WORKER: &str = "__worker";

/// Which of the three this process is.
#[derive(Debug)]
pub(crate) enum Stage {
    Keeper,
    Init(PathBuf),
    Worker(PathBuf),
}

/// Reads the stage off the first argument; a second one is the run's folder.
pub(crate) fn stage() -> Stage {
    let mut arguments = std::env::args_os().skip(1);
    let (word, run) = (arguments.next(), arguments.next());
    match (word.as_ref().and_then(|word| word.to_str()), run) {
        (Some(INIT), Some(run)) => Stage::Init(run.into()),
        (Some(WORKER), Some(run)) => Stage::Worker(run.into()),
        _ => Stage::Keeper,
    }
}

/// Returns what the user typed, as the worker was handed it.
pub(crate) fn worker_arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().take(1).chain(std::env::args_os().skip(3))
}

/// Runs the benchmark in namespaces of its own and removes what it made.
pub(crate) fn keep() -> Result<()> {
    bed::remove_leftovers()?;
    bed::pull_environment()?;
    let run = bed::make_run_folder()?;
    let result = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run_contained(&run));
    let removed = remove_folder(&run);
    result.and(removed)
}

async fn run_contained(run: &Path) -> Result<()> {
    let mut command = tokio::process::Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-current-user"]);
    }
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(std::env::current_exe()?).arg(INIT).arg(run).args(std::env::args_os().skip(1));
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut child = command.kill_on_drop(true).spawn().context("cannot start `setpriv` and `unshare` of util-linux")?;
    let status = tokio::select! {
        status = child.wait() => Some(status?),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    match status {
        Some(status) if status.success() => Ok(()),
        // The worker has told why.
        Some(status) => bail!("the benchmark ended early: {status}"),
        None => {
            // `unshare` ignores everything gentler; the namespace goes with it.
            child.kill().await?;
            bail!("interrupted; everything that was started is gone")
        }
    }
}

fn remove_folder(folder: &Path) -> Result<()> {
    // Processes of a killed namespace may need a moment more to let go of their files.
    const TRIES: u32 = 50;
    for _ in 1..TRIES {
        if std::fs::remove_dir_all(folder).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove `{}`", folder.display()))
}

/// Starts the worker and reaps what is orphaned until the worker ends.
pub(crate) fn init(run: &Path) -> Result<()> {
    prepare_cgroups();
    let mut worker = Command::new(std::env::current_exe()?);
    worker.arg(WORKER).arg(run).args(std::env::args_os().skip(3));
    let worker = rustix::process::Pid::from_child(&worker.spawn().context("cannot start the worker")?);
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == worker => {
                return if status.exit_status() == Some(0) { Ok(()) } else { bail!("the worker ended with {status:?}") };
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("cannot wait for the worker: {error}"),
        }
    }
}

/// Hides the second cgroup hierarchy of a host that mounts both: crun refuses such a host. Only this mount namespace sees it.
fn prepare_cgroups() {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.is_dir() {
        // Where it cannot be hidden crun says so itself.
        drop(Command::new("umount").arg(unified).stderr(std::process::Stdio::null()).status());
    }
}
