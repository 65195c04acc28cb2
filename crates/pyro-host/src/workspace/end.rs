//! The driver: waits for a reason to end, and ends in order.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pyro_store::{MachineRole, OnExpire, StoreError, WorkspaceState};
use tokio::sync::mpsc;

use super::{End, EndReason, Supervisor, now_ms};
use crate::{
    error::{HostError, HostResult},
    lock,
};

/// What processes in the guest get between TERM and KILL.
const GUEST_GRACE: Duration = Duration::from_secs(2);
/// QEMU flushes its disks before it ends; a slow host disk may take long for gigabytes of dirty pages.
const QUIT_DEADLINE: Duration = Duration::from_secs(60);
/// A client asks to adopt right after it has started or claimed a machine; one that has not by now has died.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// A machine whose client waits for it. Building a template is within it.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(300);
/// How often a standby machine looks whether it could still be claimed. It only costs a `stat`.
const STALE_EVERY: Duration = Duration::from_secs(30);
/// How often a machine looks whether its workspace is still its own. Whoever takes it says so; one who died in between, or who is in another
/// PID namespace and cannot end it, does not. It costs a query.
const OWNER_EVERY: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Prepares the machine, serves until there is a reason to end, then ends. The registry is true and nothing is left on return.
    pub(crate) async fn live(self: &Arc<Self>, mut ends: mpsc::Receiver<End>) -> HostResult<()> {
        let preparing = tokio::spawn(self.clone().prepare());
        let end = tokio::select! {
            end = ends.recv() => end.unwrap_or(End { reason: EndReason::Unneeded, done: None }),
            reason = self.machine_end() => End { reason: EndReason::MachineDied(reason), done: None },
            reason = self.due() => End { reason, done: None },
        };
        // A machine still in the making must not make another file once those of this one are being removed.
        preparing.abort();
        drop(preparing.await);
        self.ending.store(true, Ordering::SeqCst);
        let result = self.finish(&end.reason).await;
        for done in end.done.into_iter().chain(std::iter::from_fn(|| ends.try_recv().ok()).filter_map(|end| end.done)) {
            drop(done.send(result.as_ref().map(drop).map_err(|error| HostError::WrongState { problem: error.to_string() })));
        }
        result
    }

    /// Gives answers that were just decided the moment they need to be written.
    pub(crate) async fn drain_answers(&self) {
        let drained = async {
            while self.answers.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
            // The answer is in the connection's buffer now; its task needs a turn of the reactor to write it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        drop(tokio::time::timeout(Duration::from_secs(1), drained).await);
    }

    async fn machine_end(&self) -> String {
        let mut stage = self.stage.subscribe();
        drop(stage.wait_for(|stage| matches!(stage, super::Stage::Ready)).await);
        match self.machine.get() {
            Some(machine) => machine.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Resolves when the time of this machine is over.
    async fn due(&self) -> EndReason {
        loop {
            let (at_ms, reason) = match self.next_due() {
                Ok(Some(due)) => due,
                // Cannot tell now: looks again when something happens, at the latest in a while.
                Ok(None) | Err(_) => (now_ms() + 60_000, None),
            };
            let wait = Duration::from_millis(u64::try_from(at_ms - now_ms()).unwrap_or(0));
            let wait = wait.min(if self.workspace.get().is_none() { STALE_EVERY } else { OWNER_EVERY });
            let changed = tokio::time::timeout(wait, self.activity.notified()).await.is_ok();
            if changed {
                continue;
            }
            let Some(reason) = reason else { continue };
            // Looks again, because the registry may have changed without a notification.
            let still_due = matches!(self.next_due(), Ok(Some((at_ms, Some(_)))) if at_ms <= now_ms());
            // An offered standby machine may be claimed at this very moment; every other machine has its owner, or never gets one.
            let offered = self.workspace.get().is_none()
                && lock(&self.registry).machine(&self.record.id).is_ok_and(|own| own.is_some_and(|own| own.workspace.is_none()));
            let withdrawn = still_due && (!offered || lock(&self.registry).withdraw_standby(&self.record.id).unwrap_or(true));
            if withdrawn {
                return reason;
            }
        }
    }

    fn next_due(&self) -> HostResult<Option<(i64, Option<EndReason>)>> {
        if self.workspace.get().is_some() {
            let record = match self.workspace_record() {
                Ok(record) => record,
                Err(HostError::Store(StoreError::WorkspaceNotFound { .. })) => {
                    return Ok(Some((0, Some(EndReason::Superseded))));
                }
                Err(error) => return Err(error),
            };
            if record.machine.as_ref() != Some(&self.record.id) {
                return Ok(Some((0, Some(EndReason::Superseded))));
            }
            if self.is_busy() {
                return Ok(None);
            }
            return Ok(Some((record.expires_at_ms(0), Some(EndReason::Expired))));
        }
        let Some(own) = lock(&self.registry).machine(&self.record.id)? else { return Ok(Some((0, Some(EndReason::Unneeded)))) };
        if own.role == MachineRole::Standby && own.workspace.is_none() && self.is_stale() {
            return Ok(Some((0, Some(EndReason::Unneeded))));
        }
        let patience = if self.adoption_requested.load(Ordering::SeqCst) { ADOPTION_DEADLINE } else { REQUEST_DEADLINE };
        let patience_ms = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
        let at = match (own.role, own.expires_at_ms) {
            (MachineRole::Workspace, _) => own.created_at_ms + patience_ms,
            (MachineRole::Standby, Some(expires_at_ms)) => expires_at_ms,
            (MachineRole::Standby, None) if own.workspace.is_some() => *self.claim_seen_at_ms.get_or_init(now_ms) + patience_ms,
            // Still being made and warmed.
            (MachineRole::Standby, None) => own.created_at_ms + i64::try_from(ADOPTION_DEADLINE.as_millis()).unwrap_or(i64::MAX),
        };
        Ok(Some((at, Some(EndReason::Unneeded))))
    }

    /// Tells whether QEMU or Pyro was replaced since this machine started: no client asks for its shape any more.
    fn is_stale(&self) -> bool {
        let qemu_replaced =
            pyro_store::file_identity(&self.arguments.settings.qemu).is_ok_and(|now| now != self.record.shape.qemu_identity);
        let pyro_replaced = std::fs::read_link("/proc/self/exe").is_ok_and(|path| path.to_string_lossy().ends_with(" (deleted)"));
        qemu_replaced || pyro_replaced
    }

    /// Ends guest and machine as the reason allows, then makes the registry true and removes what the machine left.
    async fn finish(&self, reason: &EndReason) -> HostResult<()> {
        let workspace = match self.workspace.get() {
            // One that has moved on to another machine is not ours to enter anything for.
            Some(id) => lock(&self.registry).workspace(id).ok().filter(|workspace| workspace.machine.as_ref() == Some(&self.record.id)),
            None => None,
        };
        // What would put the host's files right must not go with the workspace.
        let is_applying = |id| pyro_store::is_applying(&self.arguments.dirs, id).unwrap_or(true);
        let delete = match (reason, &workspace) {
            (EndReason::Deleted, _) => true,
            (_, Some(workspace)) => {
                workspace.one_shot
                    || workspace.state == WorkspaceState::Deleting
                    || (*reason == EndReason::Expired && workspace.on_expire == OnExpire::Delete && !is_applying(&workspace.id))
            }
            (_, None) => false,
        };
        if let Some(machine) = self.machine.get() {
            let orderly = matches!(reason, EndReason::Requested | EndReason::Expired) && !delete && workspace.is_some();
            if orderly {
                self.end_guest().await;
            }
            // Nothing of a workspace that is deleted, or was never adopted, needs to reach the disk.
            if orderly { machine.quit(QUIT_DEADLINE).await } else { machine.kill().await }
        }
        self.finish_network().await;
        let (dirs, registry) = (&self.arguments.dirs, &self.registry);
        if let Some(workspace) = workspace {
            let text = match reason {
                EndReason::Requested => "requested".to_owned(),
                EndReason::Expired => "its idle time was over".to_owned(),
                EndReason::MachineDied(reason) => format!("its machine died: {reason}"),
                EndReason::Deleted | EndReason::Unneeded | EndReason::Superseded | EndReason::Failed => "its machine ended".to_owned(),
            };
            if delete {
                if self.owns_workspace() {
                    lock(registry).erase_workspace(dirs, &workspace.id)?;
                }
            } else {
                if *reason == EndReason::Expired {
                    let detail = serde_json::json!({ "ttl_seconds": workspace.ttl_seconds, "on_expire": workspace.on_expire });
                    lock(registry).add_event(&workspace.id, "expire", &detail)?;
                }
                self.compact(&workspace).await;
                // It may have been taken away meanwhile: then this says nothing.
                lock(registry).lose_machine(dirs, &workspace.id, &self.record.id, &text)?;
            }
        } else {
            self.release_unadopted()?;
        }
        lock(registry).retire_machine(dirs, &self.record)?;
        Ok(())
    }

    /// A workspace that waited for this machine and never got it: a new one vanishes and a stopped one stays stopped, unless its client goes
    /// on with another machine.
    fn release_unadopted(&self) -> HostResult<()> {
        let mut registry = lock(&self.registry);
        let Some(id) = registry.machine(&self.record.id)?.and_then(|own| own.workspace) else { return Ok(()) };
        registry.lose_machine(&self.arguments.dirs, &id, &self.record.id, "its machine could not be made")?;
        Ok(())
    }

    /// Ends the guest's processes and unmounts its disks. A guest that does not cooperate loses what it had not flushed.
    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    async fn end_guest(&self) {
        if *self.disk_full.borrow() {
            return;
        }
        let Ok(agent) = self.agent() else { return };
        // A guest that hangs would be waited for as long as one that flushes gigabytes.
        if !agent.is_alive().await {
            eprintln!("the guest does not answer; its machine is ended without it");
        } else if let Err(error) = agent.shut_down(GUEST_GRACE).await {
            eprintln!("the guest did not shut down in order: {error}");
        }
    }
}
