//! Waits for processes: the agent's own commands, and, as PID 1, every orphan of the machine.
//!
//! One task (`Reaper::run`) is woken by SIGCHLD and collects whoever has ended. A process is started and entered in the table under one
//! lock, so it cannot be collected in between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pyro_sys::spawn::{Command, Controlling, SpawnError, spawn};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};

/// Whose ended children are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every process of the machine, orphans included: PID 1.
    Machine,
    /// The commands started here and nothing else: a test inside an ordinary process.
    Commands,
}

/// How and when a process ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) status: WaitStatus,
    pub(crate) at: Instant,
}

/// Whether any process is left to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Children {
    Some,
    None,
}

/// The table of running commands; clones share it.
#[derive(Debug, Clone)]
pub struct Reaper {
    scope: Scope,
    running: Arc<Mutex<BTreeMap<i32, Running>>>,
    /// Told after every collection.
    collected: Arc<Notify>,
}

#[derive(Debug)]
struct Running {
    ended: oneshot::Sender<Ended>,
    terminal: Controlling,
}

impl Reaper {
    /// Makes an empty table.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, running: Arc::default(), collected: Arc::default() }
    }

    /// Collects ended processes until dropped.
    ///
    /// # Errors
    /// When SIGCHLD cannot be caught.
    pub async fn run(self) -> std::io::Result<()> {
        let mut child_ended = signal(SignalKind::child())?;
        while child_ended.recv().await.is_some() {
            self.collect();
            self.collected.notify_waiters();
        }
        Ok(())
    }

    /// Starts a command and returns where its end will be told.
    pub(crate) fn spawn(&self, command: &Command<'_>) -> Result<(Pid, oneshot::Receiver<Ended>), SpawnError> {
        let mut running = self.lock();
        let pid = spawn(command)?;
        let (sender, receiver) = oneshot::channel();
        running.insert(pid.as_raw_nonzero().get(), Running { ended: sender, terminal: command.terminal });
        Ok((pid, receiver))
    }

    /// Sends `signal` to every process in scope.
    pub(crate) fn signal_all(&self, signal: Signal) {
        match self.scope {
            // The negated 1 is kill(2)'s "every process but PID 1", whose caller this is.
            Scope::Machine => {
                let _ = rustix::process::kill_process_group(Pid::INIT, signal);
            }
            Scope::Commands => {
                for &pid in self.lock().keys() {
                    let _ = Pid::from_raw(pid).map(|group| rustix::process::kill_process_group(group, signal));
                }
            }
        }
    }

    /// Hangs up every command's terminal: an interactive shell does not heed TERM, but ends itself and its jobs on this.
    pub(crate) fn hang_up(&self) {
        for (&pid, _) in self.lock().iter().filter(|(_, running)| running.terminal == Controlling::Stdin) {
            let _ = Pid::from_raw(pid).map(|group| rustix::process::kill_process_group(group, Signal::HUP));
        }
    }

    /// Waits until no process in scope is left.
    pub(crate) async fn wait_for_all(&self) {
        loop {
            let collected = self.collected.notified();
            if self.collect() == Children::None {
                return;
            }
            collected.await;
        }
    }

    fn collect(&self) -> Children {
        let mut running = self.lock();
        match self.scope {
            Scope::Machine => loop {
                match rustix::process::wait(WaitOptions::NOHANG) {
                    Ok(Some((pid, status))) => {
                        if let Some(command) = running.remove(&pid.as_raw_nonzero().get()) {
                            // The receiver is gone when nobody waits for this command any more.
                            let _ = command.ended.send(Ended { status, at: Instant::now() });
                        }
                    }
                    Ok(None) => return Children::Some,
                    Err(Errno::INTR) => {}
                    Err(_) => return Children::None,
                }
            },
            Scope::Commands => {
                let pids: Vec<_> = running.keys().copied().collect();
                for pid in pids {
                    if let Ok(Some((_, status))) = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::NOHANG)
                        && let Some(command) = running.remove(&pid)
                    {
                        let _ = command.ended.send(Ended { status, at: Instant::now() });
                    }
                }
                if running.is_empty() { Children::None } else { Children::Some }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
