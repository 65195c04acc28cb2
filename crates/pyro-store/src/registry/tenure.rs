//! Who may give a workspace a machine, and what becomes of it when a machine goes.
//!
//! A client that creates, starts, resets or deletes a workspace takes a *tenure*: it raises the workspace's generation, and everything the
//! client then does to place a machine holds only while no other has raised it again. So whoever began last wins, whoever was overtaken
//! finds out at its next step, and nobody ends another's machine or writes down an outcome that is not its own.
//!
//! Beside that, clients take turns: whoever moves a workspace holds the lock of its `lifecycle` file meanwhile. The lock is politeness and a
//! sign of life, the generation is what holds: a `delete --force` does not wait, and a client that was killed has let go of the lock.

use rusqlite::{OptionalExtension as _, Transaction};

use super::{Registry, WorkspaceState, events, now_ms, services, sql};
use crate::{Dirs, FileLock, LockState, MachineId, StoreError, StoreResult, WorkspaceId};

/// A client's right to give a workspace a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Its generation when the client began.
    pub generation: u64,
}

/// What a workspace became when its machine went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bereft {
    /// It is stopped; its disks are as they were.
    Stopped,
    /// It is gone: nobody could want one that never ran, or that was to end with its machine.
    Removed,
    /// The client that is placing machines under it goes on.
    Waiting,
    /// It had moved on to another machine before, or is gone.
    Unconcerned,
}

impl Registry {
    /// Begins to start a stopped workspace.
    ///
    /// # Errors
    /// It is not stopped.
    pub fn begin_start(&mut self, id: &WorkspaceId) -> StoreResult<Tenure> {
        self.transaction(|transaction| {
            expect_state(transaction, id, &[WorkspaceState::Stopped])?;
            let next = "UPDATE workspaces SET state = 'starting', machine = NULL, generation = generation + 1, last_activity_at = ?2 \
                        WHERE id = ?1 RETURNING generation";
            tenure(transaction, id, next)
        })
    }

    /// Begins to delete a workspace, whatever is being done to it; returns the machine it has.
    ///
    /// # Errors
    /// It is gone.
    pub fn begin_delete(&mut self, id: &WorkspaceId) -> StoreResult<Option<MachineId>> {
        self.transaction(|transaction| {
            expect_state(transaction, id, &WorkspaceState::ALL)?;
            let next = "UPDATE workspaces SET state = 'deleting', generation = generation + 1, last_activity_at = ?2 \
                        WHERE id = ?1 RETURNING generation";
            tenure(transaction, id, next)?;
            let machine: Option<String> = transaction
                .query_row("SELECT machine FROM workspaces WHERE id = ?1", [id.as_str()], |row| row.get(0))
                .map_err(sql(transaction))?;
            machine.map(MachineId::try_from).transpose().map_err(|error| StoreError::Corrupt { what: "machine", value: error.value })
        })
    }

    /// Gives up a machine that did not become the workspace's, so that another can be tried.
    ///
    /// # Errors
    /// Another client has begun meanwhile.
    pub fn put_back(&mut self, tenure: &Tenure, machine: &MachineId) -> StoreResult<()> {
        self.transaction(|transaction| {
            let changed = transaction
                .execute(
                    "UPDATE workspaces SET machine = NULL WHERE id = ?1 AND generation = ?2 AND state IN ('creating', 'starting') \
                     AND (machine = ?3 OR machine IS NULL)",
                    rusqlite::params![tenure.workspace.as_str(), tenure.generation, machine.as_str()],
                )
                .map_err(sql(transaction))?;
            if changed == 0 { Err(overtaken(transaction, &tenure.workspace)?) } else { Ok(()) }
        })
    }

    /// Enters that no machine could be placed: the workspace is stopped again. Without effect when another client has begun meanwhile.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn abandon(&mut self, tenure: &Tenure, reason: &str) -> StoreResult<()> {
        let abandoned = self.transaction(|transaction| {
            let held = transaction
                .query_row(
                    // The supervisor may have got further than its last word, and have entered that it runs.
                    "SELECT 1 FROM workspaces WHERE id = ?1 AND generation = ?2 AND state IN ('starting', 'running')",
                    rusqlite::params![tenure.workspace.as_str(), tenure.generation],
                    |_| Ok(()),
                )
                .optional()
                .map_err(sql(transaction))?;
            match held {
                Some(()) => stop(transaction, &tenure.workspace, reason).map(|()| true),
                None => Ok(false),
            }
        })?;
        if abandoned { self.checkpoint() } else { Ok(()) }
    }

    /// Enters that a machine is gone: from its own supervisor when it ends, or by whoever finds that it has died.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn lose_machine(&mut self, dirs: &Dirs, id: &WorkspaceId, machine: &MachineId, reason: &str) -> StoreResult<Bereft> {
        // Looked at first: a client that lets go of the lock afterwards has made up its mind, and the next look finds what it left.
        let placing = FileLock::probe(&dirs.lifecycle(id))? == LockState::Held;
        let bereft = self.transaction(|transaction| {
            let found: Option<(String, bool)> = transaction
                .query_row(
                    "SELECT state, one_shot FROM workspaces WHERE id = ?1 AND machine = ?2",
                    (id.as_str(), machine.as_str()),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
                .map_err(sql(transaction))?;
            let Some((state, one_shot)) = found else { return Ok(Bereft::Unconcerned) };
            match WorkspaceState::from_name(&state).ok_or(StoreError::Corrupt { what: "state", value: state })? {
                WorkspaceState::Creating | WorkspaceState::Starting if placing => {
                    let detach = "UPDATE workspaces SET machine = NULL WHERE id = ?1";
                    transaction.execute(detach, [id.as_str()]).map_err(sql(transaction))?;
                    Ok(Bereft::Waiting)
                }
                WorkspaceState::Creating | WorkspaceState::Deleting => remove(transaction, id),
                WorkspaceState::Running | WorkspaceState::Stopping | WorkspaceState::Starting if one_shot => remove(transaction, id),
                WorkspaceState::Running | WorkspaceState::Stopping | WorkspaceState::Starting | WorkspaceState::Stopped => {
                    super::commands::end_lost(transaction, id, reason)?;
                    stop(transaction, id, reason)?;
                    Ok(Bereft::Stopped)
                }
            }
        })?;
        if bereft == Bereft::Stopped {
            self.checkpoint()?;
        }
        Ok(bereft)
    }

    /// Puts right a workspace that is between two states and whose client is gone; returns what it became, if anything.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn settle_orphan(&mut self, dirs: &Dirs, id: &WorkspaceId) -> StoreResult<Bereft> {
        if FileLock::probe(&dirs.lifecycle(id))? == LockState::Held {
            return Ok(Bereft::Waiting);
        }
        self.transaction(|transaction| {
            // A machine that is there ends by itself when nobody asks for it, and tells then.
            let state: Option<String> = transaction
                .query_row("SELECT state FROM workspaces WHERE id = ?1 AND machine IS NULL", [id.as_str()], |row| row.get(0))
                .optional()
                .map_err(sql(transaction))?;
            match state.as_deref().and_then(WorkspaceState::from_name) {
                Some(WorkspaceState::Creating | WorkspaceState::Deleting) => remove(transaction, id),
                Some(WorkspaceState::Starting) => {
                    stop(transaction, id, "the client that started it went away")?;
                    Ok(Bereft::Stopped)
                }
                Some(WorkspaceState::Running | WorkspaceState::Stopping) => {
                    stop(transaction, id, "its machine went away")?;
                    Ok(Bereft::Stopped)
                }
                Some(WorkspaceState::Stopped) | None => Ok(Bereft::Unconcerned),
            }
        })
    }
}

/// Tells whether what a supervisor writes is for its own workspace; a client's always is.
pub(super) fn is_acting(transaction: &Transaction<'_>, machine: Option<&MachineId>, id: &WorkspaceId) -> StoreResult<bool> {
    let Some(machine) = machine else { return Ok(true) };
    transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM workspaces WHERE id = ?1 AND machine = ?2)")
        .and_then(|mut statement| statement.query_row((id.as_str(), machine.as_str()), |row| row.get(0)))
        .map_err(sql(transaction))
}

/// Refuses what a supervisor would enter into a workspace that has moved on to another machine.
pub(super) fn ensure_acting(transaction: &Transaction<'_>, machine: Option<&MachineId>, id: &WorkspaceId) -> StoreResult<()> {
    if is_acting(transaction, machine, id)? { Ok(()) } else { Err(overtaken(transaction, id)?) }
}

/// Hangs a machine on its workspace, if the client may still place one.
pub(super) fn place(transaction: &Transaction<'_>, tenure: &Tenure, machine: &MachineId) -> StoreResult<()> {
    let changed = transaction
        .execute(
            "UPDATE workspaces SET machine = ?3 WHERE id = ?1 AND generation = ?2 AND machine IS NULL AND state IN ('creating', 'starting')",
            rusqlite::params![tenure.workspace.as_str(), tenure.generation, machine.as_str()],
        )
        .map_err(sql(transaction))?;
    if changed == 0 { Err(overtaken(transaction, &tenure.workspace)?) } else { Ok(()) }
}

/// Makes a workspace the client's to place a machine under: `next` raises the generation and returns it.
pub(super) fn tenure(transaction: &Transaction<'_>, id: &WorkspaceId, next: &str) -> StoreResult<Tenure> {
    let generation = transaction.query_row(next, rusqlite::params![id.as_str(), now_ms()], |row| row.get(0)).map_err(sql(transaction))?;
    Ok(Tenure { workspace: id.clone(), generation })
}

/// Refuses a workspace that is in another state, or gone.
pub(super) fn expect_state(transaction: &Transaction<'_>, id: &WorkspaceId, expected: &[WorkspaceState]) -> StoreResult<()> {
    let state = transaction
        .query_row("SELECT state FROM workspaces WHERE id = ?1", [id.as_str()], |row| row.get::<_, String>(0))
        .optional()
        .map_err(sql(transaction))?
        .ok_or_else(|| StoreError::WorkspaceNotFound { reference: id.to_string() })?;
    let state = WorkspaceState::from_name(&state).ok_or(StoreError::Corrupt { what: "state", value: state })?;
    if expected.contains(&state) { Ok(()) } else { Err(StoreError::WrongState { workspace: id.to_string(), state: state.as_str() }) }
}

fn overtaken(transaction: &Transaction<'_>, id: &WorkspaceId) -> StoreResult<StoreError> {
    // What has become of it says more than that something has.
    expect_state(transaction, id, &WorkspaceState::ALL)?;
    Ok(StoreError::Overtaken { workspace: id.to_string() })
}

/// Brings a workspace to rest.
pub(super) fn stop(transaction: &Transaction<'_>, id: &WorkspaceId, reason: &str) -> StoreResult<()> {
    let changed = transaction
        .execute(
            "UPDATE workspaces SET state = 'stopped', machine = NULL, stopped_at = ?2, stop_reason = ?3 WHERE id = ?1",
            (id.as_str(), now_ms(), reason),
        )
        .map_err(sql(transaction))?;
    if changed == 0 {
        return Ok(());
    }
    services::end_lost(transaction, id, reason)?;
    events::insert(transaction, id, "stop", &serde_json::json!({ "reason": reason }))
}

fn remove(transaction: &Transaction<'_>, id: &WorkspaceId) -> StoreResult<Bereft> {
    transaction.execute("DELETE FROM workspaces WHERE id = ?1", [id.as_str()]).map_err(sql(transaction))?;
    Ok(Bereft::Removed)
}
