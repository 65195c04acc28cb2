//! The workspace's files, for clients: calls passed on to the guest, and the hold under which a client reads the disks itself.
//!
//! What the guest answers is passed on as it is, capped message by message; clients treat it as hostile, too.

use std::{sync::Arc, time::Duration};

use pyro_proto::{
    error::{ErrorKind, Failure},
    v1::{ChangeAnswer, ChangeInput, HoldAnswer, ListFilesAnswer, ListFilesRequest, ReadFilesAnswer, ReadFilesRequest},
};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::Supervisor;
use crate::{
    error::{HostError, HostResult},
    lock,
};

/// How long a client may hold the file system still. Reading thousands of changed files takes a second; whoever needs longer copies less.
const HOLD_MAX: Duration = Duration::from_secs(60);
/// Messages on their way to one client.
const QUEUE: usize = 8;

impl Supervisor {
    pub(super) async fn list_files(&self, request: ListFilesRequest) -> HostResult<Streaming<ListFilesAnswer>> {
        self.not_paused()?;
        self.adopted()?;
        self.agent()?.list_files(request).await
    }

    pub(super) async fn read_files(&self, request: ReadFilesRequest) -> HostResult<Streaming<ReadFilesAnswer>> {
        self.not_paused()?;
        self.adopted()?;
        self.agent()?.read_files(request).await
    }

    /// Passes a change on. A client that goes away before its commit changes nothing.
    pub(super) async fn change(&self, mut inputs: Streaming<ChangeInput>) -> HostResult<ChangeAnswer> {
        self.not_paused()?;
        let workspace = self.adopted()?.clone();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let forward = async move {
            while let Ok(Some(input)) = inputs.message().await {
                if sender.send(input).await.is_err() {
                    return;
                }
            }
        };
        let forwarding = tokio::spawn(forward);
        let mut disk_full = self.disk_full.subscribe();
        let answer = tokio::select! {
            answer = self.agent()?.change(receiver) => answer,
            // The guest is paused and answers when there is room; whoever asks again then finds out what became of it.
            full = async { drop(disk_full.wait_for(|full| *full).await) } => { let () = full; Err(HostError::HostDiskFull) }
        };
        forwarding.abort();
        if answer.is_ok() {
            lock(&self.registry).touch_workspace(&workspace)?;
            self.activity.notify_waiters();
        }
        answer
    }

    /// Freezes the workspace's file system for a client that reads its layers. The receiver gets one answer; dropping it thaws.
    pub(super) async fn hold(self: &Arc<Self>) -> HostResult<mpsc::Receiver<Result<HoldAnswer, Status>>> {
        self.not_paused()?;
        self.adopted()?;
        // No overlay may come on top between the client's look at the registry and its opening of the files.
        let keeping = self.keeping.clone().lock_owned().await;
        let mut frozen = self.agent()?.freeze_workspace(HOLD_MAX).await?;
        let (sender, receiver) = mpsc::channel(1);
        drop(sender.try_send(Ok(HoldAnswer {})));
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = tokio::time::sleep(HOLD_MAX) => {}
                () = frozen.ended() => {
                    let failure = Failure::message(ErrorKind::Conflict, "the guest let go of its file system while it was read");
                    drop(sender.try_send(Err(failure.into_status())));
                }
            }
            drop((frozen, keeping));
        });
        Ok(receiver)
    }

    pub(super) fn not_paused(&self) -> HostResult<()> {
        if *self.disk_full.borrow() { Err(HostError::HostDiskFull) } else { Ok(()) }
    }
}
