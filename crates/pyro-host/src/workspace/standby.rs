//! Keeps a spare machine of this template ready, after this one was taken.

use std::{sync::Arc, time::Duration};

use pyro_store::{MachineId, MachineRole, NewMachine, StoreError, start_supervisor};

use super::Supervisor;
use crate::lock;

/// A replacement waits for the first command to end, or this long: the first command is what the user is waiting for.
const QUIET: Duration = Duration::from_millis(1500);

impl Supervisor {
    /// Starts a standby machine of the same shape if fewer than wanted are there. Failing to is logged and costs only speed.
    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    pub(super) async fn replace_standby(self: Arc<Self>) {
        if self.settings().standby == 0 {
            return;
        }
        drop(tokio::time::timeout(QUIET, self.activity.notified()).await);
        let mut arguments = self.arguments.clone();
        arguments.settings = self.settings().clone();
        arguments.machine = MachineId::random();
        let machine =
            NewMachine { id: arguments.machine.clone(), shape: self.record.shape.clone(), role: MachineRole::Standby, tenure: None };
        let started = start_supervisor("/proc/self/exe".as_ref(), &arguments, &machine, &mut lock(&self.registry));
        match started {
            Ok(mut child) => {
                // Its zombie must be reaped should it end before us.
                drop(tokio::task::spawn_blocking(move || child.wait()));
            }
            Err(StoreError::StandbyLimit) => {}
            Err(error) => eprintln!("cannot start a standby machine: {error}"),
        }
    }
}
