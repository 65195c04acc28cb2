//! Rows of shells. A shell lives as long as its process; its row and its output stay until the workspace is reset, so that an agent can
//! still read how it ended.

use rusqlite::{OptionalExtension as _, Row, Transaction};
use serde::{Deserialize, Serialize};

use super::{Registry, events, now_ms, sql};
use crate::{StoreError, StoreResult, WorkspaceId};

/// Ended shells whose output is kept; the oldest go first.
const ENDED_MAX: u64 = 32;

/// A shell of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellRecord {
    /// Its number in the workspace.
    pub number: u64,
    /// The line it runs; empty for the shell itself.
    pub command: String,
    /// Where it began.
    pub cwd: String,
    /// Whose it is; empty is root.
    pub user: String,
    /// Width of its terminal in columns.
    pub columns: u16,
    /// Height of its terminal in rows.
    pub rows: u16,
    /// Milliseconds since 1970.
    pub opened_at_ms: i64,
    /// Milliseconds since 1970; `None` while it runs.
    pub ended_at_ms: Option<i64>,
    /// As a shell reports it.
    pub exit_code: Option<i32>,
    /// Why it ended when it did not exit by itself.
    pub end_reason: Option<String>,
}

const COLUMNS: &str = "number, command, cwd, user, cols, rows, opened_at, ended_at, exit_code, end_reason";

fn record(row: &Row<'_>) -> rusqlite::Result<ShellRecord> {
    Ok(ShellRecord {
        number: row.get(0)?,
        command: row.get(1)?,
        cwd: row.get(2)?,
        user: row.get(3)?,
        columns: row.get(4)?,
        rows: row.get(5)?,
        opened_at_ms: row.get(6)?,
        ended_at_ms: row.get(7)?,
        exit_code: row.get(8)?,
        end_reason: row.get(9)?,
    })
}

/// What is numbered in a workspace, by the column that counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbered {
    Shells,
    ServiceStarts,
}

impl Numbered {
    pub(super) const fn column(self) -> &'static str {
        match self {
            Self::Shells => "shell_count",
            Self::ServiceStarts => "service_start_count",
        }
    }
}

/// Returns a number that none of its like in this workspace had before.
pub(super) fn next_number(transaction: &Transaction<'_>, workspace: &WorkspaceId, numbered: Numbered) -> StoreResult<u64> {
    let column = numbered.column();
    transaction
        .query_row(
            &format!("UPDATE workspaces SET {column} = {column} + 1 WHERE id = ?1 RETURNING {column}"),
            [workspace.as_str()],
            |row| row.get(0),
        )
        .optional()
        .map_err(sql(transaction))?
        .ok_or_else(|| StoreError::WorkspaceNotFound { reference: workspace.to_string() })
}

/// Enters a shell that runs, under the number it has.
pub(super) fn insert(transaction: &Transaction<'_>, workspace: &WorkspaceId, shell: &ShellRecord) -> StoreResult<()> {
    transaction
        .execute(
            "INSERT INTO shells (workspace, number, command, cwd, user, cols, rows, opened_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            rusqlite::params![
                workspace.as_str(),
                shell.number,
                shell.command,
                shell.cwd,
                shell.user,
                shell.columns,
                shell.rows,
                shell.opened_at_ms
            ],
        )
        .map(drop)
        .map_err(sql(transaction))
}

/// Ends every shell whose machine is gone.
pub(super) fn end_lost(transaction: &Transaction<'_>, workspace: &WorkspaceId, reason: &str) -> StoreResult<()> {
    transaction
        .execute(
            "UPDATE shells SET ended_at = ?2, end_reason = ?3 WHERE workspace = ?1 AND ended_at IS NULL",
            (workspace.as_str(), now_ms(), reason),
        )
        .map(drop)
        .map_err(sql(transaction))
}

impl Registry {
    /// Enters a shell that is about to run and gives it its number, which it returns. Counts as activity.
    ///
    /// # Errors
    /// The workspace is gone.
    pub fn open_shell(&mut self, workspace: &WorkspaceId, shell: &ShellRecord) -> StoreResult<u64> {
        let acting = self.acting.clone();
        self.transaction(|transaction| {
            super::tenure::ensure_acting(transaction, acting.as_ref(), workspace)?;
            let number = next_number(transaction, workspace, Numbered::Shells)?;
            insert(transaction, workspace, &ShellRecord { number, ..shell.clone() })?;
            let detail = serde_json::json!({ "shell": number, "command": shell.command, "cwd": shell.cwd });
            events::insert(transaction, workspace, "shell_open", &detail)?;
            touch(transaction, workspace)?;
            Ok(number)
        })
    }

    /// Enters how a shell ended; returns the numbers of older ones that are forgotten by it, whose output goes too.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn end_shell(
        &mut self,
        workspace: &WorkspaceId,
        number: u64,
        exit_code: Option<i32>,
        reason: Option<&str>,
    ) -> StoreResult<Vec<u64>> {
        self.transaction(|transaction| {
            let error = sql(transaction);
            let changed = transaction
                .execute(
                    "UPDATE shells SET ended_at = ?3, exit_code = ?4, end_reason = ?5 WHERE workspace = ?1 AND number = ?2",
                    rusqlite::params![workspace.as_str(), number, now_ms(), exit_code, reason],
                )
                .map_err(&error)?;
            if changed == 0 {
                // The workspace was reset.
                return Ok(Vec::new());
            }
            let detail = serde_json::json!({ "shell": number, "exit_code": exit_code, "reason": reason });
            events::insert(transaction, workspace, "shell_end", &detail)?;
            touch(transaction, workspace)?;
            transaction
                .prepare_cached(
                    "DELETE FROM shells WHERE workspace = ?1 AND number IN (SELECT number FROM shells WHERE workspace = ?1 AND \
                     ended_at IS NOT NULL ORDER BY number DESC LIMIT -1 OFFSET ?2) RETURNING number",
                )
                .and_then(|mut statement| {
                    statement.query_map(rusqlite::params![workspace.as_str(), ENDED_MAX], |row| row.get(0))?.collect()
                })
                .map_err(&error)
        })
    }

    /// Enters the new size of a shell's terminal.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn resize_shell(&self, workspace: &WorkspaceId, number: u64, columns: u16, rows: u16) -> StoreResult<()> {
        self.query(|connection| {
            connection
                .execute(
                    "UPDATE shells SET cols = ?3, rows = ?4 WHERE workspace = ?1 AND number = ?2",
                    rusqlite::params![workspace.as_str(), number, columns, rows],
                )
                .map(drop)
        })
    }

    /// Returns a shell.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn shell(&self, workspace: &WorkspaceId, number: u64) -> StoreResult<ShellRecord> {
        self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM shells WHERE workspace = ?1 AND number = ?2"))?
                .query_row((workspace.as_str(), number), record)
                .optional()
        })?
        .ok_or_else(|| StoreError::ShellNotFound { workspace: workspace.to_string(), number })
    }

    /// Returns every shell, oldest first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn shells(&self, workspace: &WorkspaceId) -> StoreResult<Vec<ShellRecord>> {
        self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM shells WHERE workspace = ?1 ORDER BY number"))?
                .query_map([workspace.as_str()], record)?
                .collect()
        })
    }
}

pub(super) fn touch(transaction: &Transaction<'_>, workspace: &WorkspaceId) -> StoreResult<()> {
    transaction
        .execute("UPDATE workspaces SET last_activity_at = ?2 WHERE id = ?1", (workspace.as_str(), now_ms()))
        .map(drop)
        .map_err(sql(transaction))
}
