//! Who may write to the workspace's disks at the moment: a change being committed, or nobody because they are frozen.
//!
//! ```text
//!          commit                    freeze (counted)
//! open ───────────▶ committing  open ───────────────▶ frozen
//!   ▲────── done ───────┘         ▲── last thaw, release ──┘
//! ```
//!
//! All of it blocks and belongs on a blocking thread. A change that is only being staged needs no leave: in a frozen file system its
//! thread sleeps in the kernel, and what it staged is nobody's concern. Only the commit must not be caught half done.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyro_sys::device::{freeze_file_system, thaw_file_system};
use rustix::io::Errno;

use crate::files::FileError;

/// How long work in progress may take to notice that the machine is being shut down.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// File systems that are frozen together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) root: bool,
    pub(crate) workspace: bool,
}

/// The gate; it holds its own handles of the file systems, which are None in a process that is no machine.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    root: Option<OwnedFd>,
    workspace: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct State {
    root: usize,
    workspace: usize,
    /// Moves on whenever everything is thawed at once; a freeze of an earlier one is over.
    era: u64,
    committing: bool,
    /// Threads that stage a change or remove what one has left.
    workers: usize,
    closed: bool,
}

impl Gate {
    pub(crate) fn new(root: Option<OwnedFd>, workspace: Option<OwnedFd>) -> Self {
        Self { root, workspace, ..Self::default() }
    }

    /// Freezes, after a commit in progress. Returns what `thaw` wants.
    pub(crate) fn freeze(&self, which: Which) -> io::Result<Frozen> {
        let mut state = self.wait_while(self.lock(), |state| state.committing);
        // The workspace first: what is frozen last is thawed first.
        let mut frozen = Frozen { era: state.era, which: Which { root: false, workspace: false } };
        if which.workspace {
            if state.workspace == 0 {
                freeze(self.workspace.as_ref())?;
            }
            state.workspace += 1;
            frozen.which.workspace = true;
        }
        if which.root {
            if state.root == 0
                && let Err(error) = freeze(self.root.as_ref())
            {
                drop(state);
                self.thaw(frozen);
                return Err(error);
            }
            state.root += 1;
            frozen.which.root = true;
        }
        Ok(frozen)
    }

    /// Ends one freeze; the last one thaws.
    pub(crate) fn thaw(&self, frozen: Frozen) {
        let mut state = self.lock();
        if frozen.era != state.era {
            return;
        }
        if frozen.which.root {
            state.root -= 1;
            if state.root == 0 {
                thaw(self.root.as_ref(), "/");
            }
        }
        if frozen.which.workspace {
            state.workspace -= 1;
            if state.workspace == 0 {
                thaw(self.workspace.as_ref(), "/workspace");
            }
        }
        self.changed.notify_all();
    }

    /// Ends every freeze.
    pub(crate) fn release(&self) {
        let mut state = self.lock();
        if state.root > 0 {
            thaw(self.root.as_ref(), "/");
        }
        if state.workspace > 0 {
            thaw(self.workspace.as_ref(), "/workspace");
        }
        state.root = 0;
        state.workspace = 0;
        state.era += 1;
        self.changed.notify_all();
    }

    /// Waits for the only right to commit; `abandoned` says whether anybody still wants it by then.
    pub(crate) fn commit(&self, abandoned: &dyn Fn() -> bool) -> Result<Commit<'_>, FileError> {
        let busy = |state: &State| !state.closed && (state.committing || state.root + state.workspace > 0);
        let mut state = self.wait_while(self.lock(), busy);
        if state.closed {
            return Err(FileError::Closing);
        }
        if abandoned() {
            return Err(FileError::Abandoned);
        }
        state.committing = true;
        Ok(Commit(self))
    }

    /// Registers a thread that works on the disk; refused once the gate is closed.
    pub(crate) fn work(&self) -> Result<Work<'_>, FileError> {
        let mut state = self.lock();
        if state.closed {
            return Err(FileError::Closing);
        }
        state.workers += 1;
        Ok(Work(self))
    }

    /// Whether the machine is being shut down.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Thaws everything and lets nobody in any more.
    pub(crate) fn close(&self) {
        // Closed before it is thawed: whoever waits for the thaw must not slip in.
        self.lock().closed = true;
        self.release();
    }

    /// Waits until everybody who was in is out; returns whether they are.
    pub(crate) fn wait_until_empty(&self) -> bool {
        let busy = |state: &mut State| state.committing || state.workers > 0;
        let (state, _) = self.changed.wait_timeout_while(self.lock(), CLOSE_WAIT, busy).unwrap_or_else(PoisonError::into_inner);
        !state.committing && state.workers == 0
    }

    fn wait_while<'a>(&self, state: MutexGuard<'a, State>, busy: impl Fn(&State) -> bool) -> MutexGuard<'a, State> {
        self.changed.wait_while(state, |state| busy(state)).unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain numbers: whoever panicked while holding them left them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One freeze in force.
#[derive(Debug)]
pub(crate) struct Frozen {
    era: u64,
    which: Which,
}

/// The right to commit a change.
#[derive(Debug)]
pub(crate) struct Commit<'a>(&'a Gate);

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.0.lock().committing = false;
        self.0.changed.notify_all();
    }
}

/// A thread at work on the disk.
#[derive(Debug)]
pub(crate) struct Work<'a>(&'a Gate);

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.lock().workers -= 1;
        self.0.changed.notify_all();
    }
}

fn freeze(file_system: Option<&OwnedFd>) -> io::Result<()> {
    match file_system.map(|file_system| freeze_file_system(file_system.as_fd())) {
        // Somebody in the guest has frozen it himself: it is as still as it was asked to be.
        Some(Err(error)) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Ok(()),
        Some(result) => result,
        None => Ok(()),
    }
}

fn thaw(file_system: Option<&OwnedFd>, path: &str) {
    let thawed = |file_system: BorrowedFd<'_>| thaw_file_system(file_system);
    if let Some(Err(error)) = file_system.map(|file_system| thawed(file_system.as_fd()))
        // Somebody in the guest has thawed it himself.
        && error.raw_os_error() != Some(Errno::INVAL.raw_os_error())
    {
        crate::log::line(&format!("cannot thaw `{path}`: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    const BOTH: Which = Which { root: true, workspace: true };

    #[test]
    fn commit_waits_for_the_last_freeze_and_freeze_for_the_commit() {
        let gate = Arc::new(Gate::default());
        let first = gate.freeze(BOTH).expect("nothing to freeze");
        let second = gate.freeze(Which { root: false, workspace: true }).expect("counted");
        let (report, reports) = mpsc::channel();
        let other = Arc::clone(&gate);
        let thread = std::thread::spawn(move || {
            let commit = other.commit(&|| false).expect("somebody wants it");
            report.send("committing").expect("the test listens");
            let frozen = std::thread::scope(|scope| {
                let freezing = scope.spawn(|| other.freeze(BOTH));
                drop(commit);
                freezing.join().expect("no panic")
            });
            other.thaw(frozen.expect("nothing to freeze"));
        });
        gate.thaw(first);
        assert!(reports.try_recv().is_err(), "one freeze is left");
        gate.thaw(second);
        reports.recv().expect("it commits");
        thread.join().expect("no panic");
    }

    #[test]
    fn release_ends_every_freeze_and_their_own_thaw_does_nothing_then() {
        let gate = Gate::default();
        let frozen = gate.freeze(BOTH).expect("nothing to freeze");
        gate.release();
        let later = gate.freeze(BOTH).expect("nothing to freeze");
        gate.thaw(frozen);
        assert_eq!(gate.lock().workspace, 1);
        gate.thaw(later);
        assert!(gate.commit(&|| false).is_ok());
        assert!(matches!(gate.commit(&|| true), Err(FileError::Abandoned)));
    }

    #[test]
    fn closed_gate_lets_nobody_in_and_waits_for_who_is() {
        let gate = Gate::default();
        let work = gate.work().expect("open");
        gate.close();
        assert!(gate.is_closed() && gate.work().is_err() && gate.commit(&|| false).is_err());
        drop(work);
        assert!(gate.wait_until_empty());
    }
}
