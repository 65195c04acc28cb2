//! What happened in a workspace, in order, as its summary tells it. Commands have a journal of their own.

use serde_json::Value;

use super::{Registry, now_ms, sql, workspaces::parse};
use crate::{StoreResult, WorkspaceId};

/// Most events kept of a workspace; the oldest go first.
const EVENTS_MAX: u64 = 10_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// Counts from 1.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// What kind of thing, for example `file_write`.
    pub kind: String,
    /// What belongs to it.
    pub detail: Value,
}

impl Registry {
    /// Enters an event. Whoever changes the workspace records the activity, too.
    ///
    /// # Errors
    /// The workspace is gone.
    pub fn add_event(&mut self, workspace: &WorkspaceId, kind: &str, detail: &Value) -> StoreResult<()> {
        self.transaction(|transaction| {
            let error = sql(transaction);
            transaction
                .execute(
                    "INSERT INTO events (workspace, sequence, at, kind, detail) VALUES (?1, \
                     (SELECT coalesce(max(sequence), 0) + 1 FROM events WHERE workspace = ?1), ?2, ?3, ?4)",
                    rusqlite::params![workspace.as_str(), now_ms(), kind, detail.to_string()],
                )
                .map_err(&error)?;
            transaction
                .execute(
                    "DELETE FROM events WHERE workspace = ?1 AND sequence <= (SELECT max(sequence) FROM events WHERE workspace = ?1) - ?2",
                    rusqlite::params![workspace.as_str(), EVENTS_MAX],
                )
                .map(drop)
                .map_err(&error)
        })
    }

    /// Returns what happened since a time, oldest first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn events_since(&self, workspace: &WorkspaceId, at_ms: i64) -> StoreResult<Vec<EventRecord>> {
        self.query(|connection| {
            connection
                .prepare_cached("SELECT sequence, at, kind, detail FROM events WHERE workspace = ?1 AND at >= ?2 ORDER BY sequence")?
                .query_map((workspace.as_str(), at_ms), |row| {
                    Ok(EventRecord {
                        sequence: row.get(0)?,
                        at_ms: row.get(1)?,
                        kind: row.get(2)?,
                        detail: parse(row, 3, |text| serde_json::from_str(&text))?,
                    })
                })?
                .collect()
        })
    }
}
