//! Brings the machine to rest: first every process, then both disks.
//!
//! Neither can be unmounted, since the agent stands on the one and works from the root of the other. They become read-only, which leaves
//! a disk as an unmount would.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use pyro_proto::error::{ErrorKind, Failure};
use rustix::mount::MountFlags;
use rustix::process::Signal;

use crate::attach::Mounted;
use crate::log;
use crate::reap::Reaper;

/// Longest grace accepted; the host's own deadline is shorter.
const GRACE_MAX: Duration = Duration::from_secs(600);
/// How long processes may take to disappear after KILL: only the kernel can hold them up then.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// How the disks were left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Unmounted or read-only.
    Clean,
    /// Flushed, but a journal will be replayed.
    Flushed,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot flush `{path}`")]
struct SyncError {
    path: &'static str,
    source: io::Error,
}

/// Ends every process: TERM (and HUP for the shells), the grace, KILL.
pub(crate) async fn end_processes(reaper: &Reaper, grace_ms: u64) {
    let grace = Duration::from_millis(grace_ms).min(GRACE_MAX);
    reaper.signal_all(Signal::TERM);
    reaper.hang_up();
    reaper.signal_all(Signal::CONT);
    if tokio::time::timeout(grace, reaper.wait_for_all()).await.is_err() {
        reaper.signal_all(Signal::KILL);
        if tokio::time::timeout(KILL_WAIT, reaper.wait_for_all()).await.is_err() {
            log::line("some processes do not end");
        }
    }
}

/// Flushes the file systems of both disks.
pub(crate) fn sync_disks(mounted: &Mounted) -> Result<(), Failure> {
    for (path, file_system) in [("/workspace", mounted.workspace.files().disk()), ("/", mounted.changes.as_fd())] {
        rustix::fs::syncfs(file_system).map_err(|error| Failure::new(ErrorKind::Io, &SyncError { path, source: error.into() }))?;
    }
    Ok(())
}

/// Flushes and lets go of both disks. No process may be left.
pub(crate) fn put_disks_to_rest(mounted: &Mounted) -> Rest {
    if !mounted.workspace.gate.wait_until_empty() {
        log::line("some changes do not end");
    }
    rustix::fs::sync();
    let workspace = read_only(&by_descriptor(mounted.workspace.files().disk()));
    let root = read_only("/").and_then(|()| read_only(&by_descriptor(&mounted.changes)));
    for (name, result) in [("/workspace", workspace), ("/", root)] {
        if let Err(error) = result {
            log::line(&format!("cannot make `{name}` read-only: {error}"));
        }
    }
    rustix::fs::sync();
    if workspace.is_ok() && root.is_ok() { Rest::Clean } else { Rest::Flushed }
}

fn read_only(target: &str) -> rustix::io::Result<()> {
    rustix::mount::mount_remount(target, MountFlags::RDONLY | MountFlags::NOATIME, c"")
}

/// A path to a directory that no path leads to any more.
fn by_descriptor(directory: impl AsFd) -> String {
    format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd())
}
