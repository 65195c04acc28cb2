//! Clients that change the life of one workspace take turns: who creates, starts, stops, resets, forks, snapshots or deletes it holds the
//! lock of its `lifecycle` file meanwhile, and the others wait and say for whom.
//!
//! The lock ends with its holder, however that one dies, and tells everybody else whether a workspace between two states still has a client.
//! It is not what makes the changes right (see `tenure` in `pyro-store`): a `delete --force` goes ahead without it after a while.

use std::{
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use pyro_proto::error::ErrorKind;
use pyro_store::{Dirs, FileLock, Registry, WorkspaceId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    Observer, Progress, Pyro, Workspace,
    client::blocking,
    error::{Cause, Error, Problem, Result},
};

/// How long a client waits for its turn. The longest that others have to do in one is a start that boots a template on a busy host.
pub(crate) const TURN_PATIENCE: Duration = Duration::from_secs(120);
/// How long a `delete --force` waits: the other may be stuck, and that is why it is forced.
pub(crate) const FORCED_PATIENCE: Duration = Duration::from_secs(5);
/// How often the lock is tried; each try is three system calls.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// After this time whoever watches hears what is waited for, and again each time it passes.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Longest note of a holder that is read.
const NOTE_MAX_BYTES: u64 = 1024;

/// What a holder writes into the file, for those who wait.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    pid: u32,
    operation: String,
}

/// A turn at a workspace's life. Dropping it lets the next one go on.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: FileLock,
    folder: PathBuf,
}

impl Turn {
    /// Takes the first turn at a workspace that nobody knows yet.
    pub(crate) fn first(dirs: &Dirs, id: &WorkspaceId, operation: &'static str) -> Result<Self> {
        Self::try_take(dirs, id, operation)?.ok_or_else(|| {
            let cause = Cause::new("another client has just made up the same id");
            Error::workspace(operation, id.as_str(), ErrorKind::Internal, cause)
        })
    }

    fn try_take(dirs: &Dirs, id: &WorkspaceId, operation: &str) -> Result<Option<Self>> {
        use std::os::unix::fs::DirBuilderExt as _;
        let (folder, path) = (dirs.workspace(id), dirs.lifecycle(id));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| Error::io("make the folder", &folder, error))?;
        let lock = match FileLock::try_acquire(&path) {
            Ok(lock) => lock,
            // Somebody has just deleted the workspace with its folder.
            Err(pyro_store::StoreError::File { source }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let Some(lock) = lock.filter(|lock| lock.is_at(&path)) else { return Ok(None) };
        // For others to read; that it cannot be written, say on a full disk, keeps nobody from the turn.
        drop(leave_note(&path, operation));
        Ok(Some(Self { _lock: lock, folder }))
    }

    /// Removes what the workspace had in the state folder, this lock's file with it, once the workspace is gone.
    pub(crate) fn end(self) -> Result<()> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &self.folder, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn leave_note(path: &Path, operation: &str) -> std::io::Result<()> {
    let note = Note { pid: std::process::id(), operation: operation.to_owned() };
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(&note).unwrap_or_default())
}

/// Says who has the turn, for people.
fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(NOTE_MAX_BYTES).read_to_string(&mut text));
    match read.ok().and_then(|_| serde_json::from_str::<Note>(&text).ok()) {
        Some(Note { pid, operation }) => {
            let operation: String = operation.chars().filter(|character| !character.is_control()).collect();
            format!("another client (process {pid}, `{operation}`)")
        }
        None => "another client".to_owned(),
    }
}

impl Workspace {
    /// Waits for this client's turn.
    ///
    /// # Errors
    /// The workspace is gone, or another client has been at it for longer than `patience`.
    pub(crate) async fn turn(&self, operation: &'static str, patience: Duration, observer: &Observer) -> Result<Turn> {
        let begun = Instant::now();
        let mut tell_at = begun + TELL_EVERY;
        loop {
            let (dirs, id) = (self.pyro().dirs().clone(), self.id().clone());
            if let Some(turn) = blocking(move || Turn::try_take(&dirs, &id, operation)).await? {
                // It may have been deleted while we waited, and its folder be one that we have made.
                return match self.record().await {
                    Ok(_) => Ok(turn),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        turn.end()?;
                        Err(error)
                    }
                    Err(error) => Err(error),
                };
            }
            if observer.is_called_off() {
                return Err(Problem::Interrupted { outcome: "nothing was changed" }.into());
            }
            let now = Instant::now();
            if now >= tell_at {
                tell_at = now + TELL_EVERY;
                observer.notify(Progress::Waiting { what: format!("{} to finish with workspace `{}`", self.holder().await, self.label()) });
            }
            if now >= begun + patience {
                let cause = Cause::new(format!("{} has been changing it for {} s", self.holder().await, patience.as_secs()));
                return Err(Error::workspace(operation, self.label(), ErrorKind::WrongState, cause).about(self.label()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn holder(&self) -> String {
        let path = self.pyro().dirs().lifecycle(self.id());
        blocking(move || holder(&path)).await
    }
}

impl Pyro {
    /// Takes the first turn at a workspace and registers it: before anybody can know of it, for a workspace in the making that nobody has a
    /// turn at is a dead client's. Both in one go, since each trip to a blocking thread is a tenth of a millisecond of every create.
    ///
    /// # Errors
    /// As `register`; nothing of the turn is left then. A row that was made has no machine, and without a turn it is a remnant.
    pub(crate) async fn register_in_turn<T: Send + 'static>(
        &self,
        id: &WorkspaceId,
        operation: &'static str,
        register: impl FnOnce(&Self, &mut Registry) -> Result<T> + Send + 'static,
    ) -> Result<(Turn, T)> {
        let id = id.clone();
        self.store(move |pyro, registry| {
            let turn = Turn::first(pyro.dirs(), &id, operation)?;
            match register(pyro, registry) {
                Ok(registered) => Ok((turn, registered)),
                Err(error) => {
                    turn.end()?;
                    Err(error)
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Home;

    #[tokio::test]
    async fn whoever_waits_says_for_whom_and_gives_up_with_a_reason() {
        let home = Home::new().await;
        let workspace = &home.workspace;
        let turn = workspace.turn("reset", Duration::ZERO, &Observer::none()).await.unwrap();
        let (sender, heard) = std::sync::mpsc::channel();
        let observer = Observer::new(move |progress| drop(sender.send(progress)));
        let error = workspace.turn("start", TELL_EVERY + LOOK_EVERY, &observer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongState);
        let own = std::process::id();
        assert_eq!(error.causes(), [format!("another client (process {own}, `reset`) has been changing it for 1 s")]);
        let what = format!("another client (process {own}, `reset`) to finish with workspace `api`");
        assert_eq!(heard.try_recv().unwrap(), Progress::Waiting { what });
        drop(turn);
        workspace.turn("start", Duration::ZERO, &Observer::none()).await.unwrap();
    }

    #[tokio::test]
    async fn a_turn_at_a_workspace_that_was_deleted_meanwhile_leaves_no_folder() {
        let home = Home::new().await;
        let id = home.workspace.id().clone();
        home.workspace.delete().await.unwrap();
        let error = home.workspace.turn("reset", Duration::ZERO, &Observer::none()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!home.pyro.dirs().workspace(&id).exists());
    }
}
