//! A control group of a command's own: whoever it starts stays in it, so that all of it can be counted, awaited and ended.
//!
//! The group has no limits; it exists for its list of processes, for `cgroup.kill` and for `cgroup.events`, by which the kernel tells when
//! the last process is gone. An idle group therefore costs nothing. It is removed when it is dropped; that fails, and is logged, only
//! while a process is left in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::log;

/// Where the machine's control groups are mounted.
pub(crate) const GROUPS: &str = "/sys/fs/cgroup";

/// How long the kernel's word is awaited before the agent looks itself. A lost one must not keep an exit back for ever.
const LOOK: Duration = Duration::from_secs(30);

/// Most groups in a group that are looked at; a container engine that is run as a service makes one for each container.
const INNER_MAX: usize = 4096;

/// `cgroup.events` is a few short lines.
const EVENTS_MAX_BYTES: usize = 256;

#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    /// `cgroup.procs`, for whoever joins.
    join: OwnedFd,
    /// `cgroup.events`; changes are told as exceptional conditions (cgroups(7)).
    events: AsyncFd<File>,
}

impl Group {
    /// Makes the group of the command `id` in the hierarchy mounted at `groups`.
    ///
    /// An empty one under its name is replaced: root in the guest may have made it, and frozen it, so that whoever joins never goes on.
    pub(crate) fn make(groups: &Path, id: u64) -> io::Result<Self> {
        let path = groups.join(format!("pyro-{id}"));
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Refused while a process is in it.
                std::fs::remove_dir(&path)?;
                std::fs::create_dir(&path)?;
            }
            result => result?,
        }
        Self::open(path.clone()).inspect_err(|_| remove(&path))
    }

    #[expect(deprecated, reason = "its replacement is unsafe; a file owned by the registration stays open while registered")]
    fn open(path: PathBuf) -> io::Result<Self> {
        let join = File::options().write(true).open(path.join("cgroup.procs"))?.into();
        let events = AsyncFd::with_interest(File::open(path.join("cgroup.events"))?, Interest::PRIORITY)?;
        Ok(Self { path, join, events })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the descriptor a process joins by (see `pyro_sys::spawn::Command::group`).
    pub(crate) fn joined_by(&self) -> BorrowedFd<'_> {
        self.join.as_fd()
    }

    /// Returns when no process is left. Safe to drop and call again.
    pub(crate) async fn emptied(&self) {
        while !self.is_empty() {
            if let Ok(Ok(mut guard)) = tokio::time::timeout(LOOK, self.events.ready(Interest::PRIORITY)).await {
                guard.clear_ready();
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let mut events = [0; EVENTS_MAX_BYTES];
        // From its start each time: reading also tells the kernel that this state was seen.
        match self.events.get_ref().read_at(&mut events, 0) {
            Ok(count) => !events[..count].split(|&byte| byte == b'\n').any(|line| line == b"populated 1"),
            // ENODEV: somebody in the machine has removed the group, which works only when it is empty.
            Err(_) => true,
        }
    }

    /// Sends `signals` to everybody in the group, and to `other`, unless `told` names them, and names them in it.
    pub(crate) fn signal(&self, signals: &[Signal], other: Option<Pid>, told: &mut Vec<i32>) {
        // Zero stands for one of another name space, which no number reaches.
        let members = processes(&self.path).into_iter().filter_map(Pid::from_raw);
        for pid in members.chain(other) {
            let number = pid.as_raw_nonzero().get();
            if told.contains(&number) {
                continue;
            }
            told.push(number);
            for &signal in signals {
                // ESRCH: it has just ended.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Kills everybody in the group, newcomers included.
    pub(crate) fn kill(&self) {
        if let Err(error) = std::fs::write(self.path.join("cgroup.kill"), "1")
            && error.kind() != io::ErrorKind::NotFound
        {
            log::line(&format!("cannot kill `{}`: {error}", self.path.display()));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Returns the processes of the group at `path` and of the groups somebody has made in it; of one that is gone, none.
pub(crate) fn processes(path: &Path) -> Vec<i32> {
    let lists = inner_first(path).into_iter().filter_map(|group| std::fs::read_to_string(group.join("cgroup.procs")).ok());
    lists.flat_map(|list| list.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Returns the groups in the one at `path`, at most [`INNER_MAX`], and it itself last.
fn inner_first(path: &Path) -> Vec<PathBuf> {
    let mut groups = vec![path.to_owned()];
    let mut next = 0;
    while let Some(group) = groups.get(next) {
        next += 1;
        let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
        let inner = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
        let room = (INNER_MAX + 1).saturating_sub(groups.len());
        groups.extend(inner.take(room).collect::<Vec<_>>());
    }
    groups.reverse();
    groups
}

fn remove(path: &Path) {
    let removed = inner_first(path).iter().try_for_each(std::fs::remove_dir);
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        log::line(&format!("cannot remove `{}`: {error}", path.display()));
    }
}
