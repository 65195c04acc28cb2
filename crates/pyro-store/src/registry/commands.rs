//! Rows of the journal: one for every command. Output is in files; see [`crate::JournalWriter`].

use rusqlite::{OptionalExtension as _, Row};

use super::{
    Registry, events, now_ms, sql,
    workspaces::{parse, to_json},
};
use crate::{StoreError, StoreResult, WorkspaceId};

/// One command of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRecord {
    /// Counts from 1.
    pub sequence: u64,
    /// The argument list; bytes that are not UTF-8 are shown as replacement characters.
    pub argv: Vec<String>,
    /// Its working directory in the guest.
    pub cwd: String,
    /// Milliseconds since 1970.
    pub started_at_ms: i64,
    /// Milliseconds since 1970; `None` while it runs.
    pub ended_at_ms: Option<i64>,
    /// As a shell reports it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether its time was up.
    pub timed_out: bool,
    /// By the guest's clock, microseconds.
    pub duration_us: Option<u64>,
    /// Why its end is not known, or why it never ran.
    pub failure: Option<String>,
    /// Bytes of output it wrote, kept or not.
    pub stdout_bytes: u64,
    /// Bytes of errors it wrote, kept or not.
    pub stderr_bytes: u64,
}

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandEnd {
    /// As a shell reports it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether its time was up.
    pub timed_out: bool,
    /// Microseconds.
    pub duration_us: u64,
    /// Why its end is not known, or why it never ran.
    pub failure: Option<String>,
    /// Bytes of output it wrote.
    pub stdout_bytes: u64,
    /// Bytes of errors it wrote.
    pub stderr_bytes: u64,
}

const COLUMNS: &str =
    "sequence, argv, cwd, started_at, ended_at, exit_code, signal, timed_out, duration_us, failure, stdout_bytes, stderr_bytes";

fn record(row: &Row<'_>) -> rusqlite::Result<CommandRecord> {
    Ok(CommandRecord {
        sequence: row.get(0)?,
        argv: parse(row, 1, |text| serde_json::from_str(&text))?,
        cwd: row.get(2)?,
        started_at_ms: row.get(3)?,
        ended_at_ms: row.get(4)?,
        exit_code: row.get(5)?,
        signal: row.get(6)?,
        timed_out: row.get(7)?,
        duration_us: row.get(8)?,
        failure: row.get(9)?,
        stdout_bytes: row.get(10)?,
        stderr_bytes: row.get(11)?,
    })
}

/// Ends every command that was still running when its machine went away.
pub(super) fn end_lost(transaction: &rusqlite::Transaction<'_>, workspace: &WorkspaceId, failure: &str) -> StoreResult<()> {
    transaction
        .execute(
            "UPDATE commands SET ended_at = ?2, failure = ?3 WHERE workspace = ?1 AND ended_at IS NULL",
            (workspace.as_str(), now_ms(), failure),
        )
        .map(drop)
        .map_err(sql(transaction))
}

impl Registry {
    /// Enters a command that is about to run; returns its sequence. Counts as activity.
    ///
    /// # Errors
    /// The workspace is gone.
    pub fn begin_command(&mut self, workspace: &WorkspaceId, argv: &[String], cwd: &str) -> StoreResult<u64> {
        let argv_json = to_json(&argv);
        let acting = self.acting.clone();
        self.transaction(|transaction| {
            super::tenure::ensure_acting(transaction, acting.as_ref(), workspace)?;
            let error = sql(transaction);
            let sequence: u64 = transaction
                .prepare_cached(
                    "UPDATE workspaces SET command_count = command_count + 1, last_activity_at = ?2 WHERE id = ?1 RETURNING command_count",
                )
                .and_then(|mut statement| statement.query_row((workspace.as_str(), now_ms()), |row| row.get(0)).optional())
                .map_err(&error)?
                .ok_or_else(|| StoreError::WorkspaceNotFound { reference: workspace.to_string() })?;
            transaction
                .prepare_cached("INSERT INTO commands (workspace, sequence, argv, cwd, started_at) VALUES (?1, ?2, ?3, ?4, ?5)")
                .and_then(|mut statement| statement.execute(rusqlite::params![workspace.as_str(), sequence, argv_json, cwd, now_ms()]))
                .map_err(&error)?;
            let detail = serde_json::json!({ "sequence": sequence, "command": argv, "cwd": cwd });
            events::insert(transaction, workspace, "command_start", &detail)?;
            Ok(sequence)
        })
    }

    /// Enters how a command ended. Counts as activity: the idle time begins here.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn end_command(&mut self, workspace: &WorkspaceId, sequence: u64, end: &CommandEnd) -> StoreResult<()> {
        self.transaction(|transaction| {
            let error = sql(transaction);
            let now = now_ms();
            let changed = transaction
                .prepare_cached(
                    "UPDATE commands SET ended_at = ?3, exit_code = ?4, signal = ?5, timed_out = ?6, duration_us = ?7, failure = ?8, \
                     stdout_bytes = ?9, stderr_bytes = ?10 WHERE workspace = ?1 AND sequence = ?2",
                )
                .and_then(|mut statement| {
                    statement.execute(rusqlite::params![
                        workspace.as_str(),
                        sequence,
                        now,
                        end.exit_code,
                        end.signal,
                        end.timed_out,
                        end.duration_us,
                        end.failure,
                        end.stdout_bytes,
                        end.stderr_bytes
                    ])
                })
                .map_err(&error)?;
            if changed == 0 {
                // The workspace was reset: the command is no part of its life.
                return Ok(());
            }
            transaction
                .prepare_cached("UPDATE workspaces SET last_activity_at = ?2 WHERE id = ?1")
                .and_then(|mut statement| statement.execute((workspace.as_str(), now)))
                .map_err(&error)?;
            let detail = serde_json::json!({
                "sequence": sequence,
                "exit_code": end.exit_code,
                "timed_out": end.timed_out,
                "duration_us": end.duration_us,
                "failure": end.failure,
            });
            events::insert(transaction, workspace, "command_end", &detail)
        })
    }

    /// Returns one command.
    ///
    /// # Errors
    /// There is none with this sequence.
    pub fn command(&self, workspace: &WorkspaceId, sequence: u64) -> StoreResult<CommandRecord> {
        self.query(|connection| {
            connection
                .query_row(
                    &format!("SELECT {COLUMNS} FROM commands WHERE workspace = ?1 AND sequence = ?2"),
                    (workspace.as_str(), sequence),
                    record,
                )
                .optional()
        })?
        .ok_or_else(|| StoreError::CommandNotFound { workspace: workspace.to_string(), sequence })
    }

    /// Returns the last `count` commands, oldest first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn commands(&self, workspace: &WorkspaceId, count: u64) -> StoreResult<Vec<CommandRecord>> {
        let mut commands: Vec<CommandRecord> = self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM commands WHERE workspace = ?1 ORDER BY sequence DESC LIMIT ?2"))?
                .query_map((workspace.as_str(), i64::try_from(count).unwrap_or(i64::MAX)), record)?
                .collect()
        })?;
        commands.reverse();
        Ok(commands)
    }
}
