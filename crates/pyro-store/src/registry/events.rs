//! What happened in a workspace, in order: the stream that clients follow, and that the summary is told from. It goes on over stops and
//! resets and ends with the workspace.

use rusqlite::Transaction;
use serde_json::Value;

use super::{Registry, now_ms, sql, workspaces::parse};
use crate::{StoreResult, WorkspaceId};

/// Most events kept of a workspace; the oldest go first.
const EVENTS_MAX: u64 = 10_000;
/// Longest detail kept: a command may have a mebibyte of arguments, which its journal entry has.
const DETAIL_MAX_BYTES: usize = 16 << 10;

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

/// Enters an event as part of a transaction that does what it tells.
pub(super) fn insert(transaction: &Transaction<'_>, workspace: &WorkspaceId, kind: &str, detail: &Value) -> StoreResult<()> {
    let error = sql(transaction);
    let mut text = detail.to_string();
    if text.len() > DETAIL_MAX_BYTES {
        text = shortened(detail).to_string();
    }
    let sequence: u64 = transaction
        .prepare_cached(
            "INSERT INTO events (workspace, sequence, at, kind, detail) VALUES (?1, \
             (SELECT coalesce(max(sequence), 0) + 1 FROM events WHERE workspace = ?1), ?2, ?3, ?4) RETURNING sequence",
        )
        .and_then(|mut statement| statement.query_row(rusqlite::params![workspace.as_str(), now_ms(), kind, text], |row| row.get(0)))
        .map_err(&error)?;
    let Some(oldest) = sequence.checked_sub(EVENTS_MAX) else { return Ok(()) };
    transaction
        .prepare_cached("DELETE FROM events WHERE workspace = ?1 AND sequence <= ?2")
        .and_then(|mut statement| statement.execute((workspace.as_str(), oldest)))
        .map(drop)
        .map_err(&error)
}

/// Keeps short values as they are and the beginning of long ones.
fn shortened(detail: &Value) -> Value {
    const TEXT_MAX_CHARS: usize = 1000;
    const ITEMS_MAX: usize = 8;
    match detail {
        Value::String(text) if text.chars().count() > TEXT_MAX_CHARS => {
            Value::String(text.chars().take(TEXT_MAX_CHARS).chain(['…']).collect())
        }
        Value::Array(items) => items.iter().take(ITEMS_MAX).map(shortened).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shortened(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => detail.clone(),
    }
}

impl Registry {
    /// Enters an event. Whoever changes the workspace records the activity, too.
    ///
    /// # Errors
    /// The workspace is gone.
    pub fn add_event(&mut self, workspace: &WorkspaceId, kind: &str, detail: &Value) -> StoreResult<()> {
        self.transaction(|transaction| insert(transaction, workspace, kind, detail))
    }

    /// Returns what happened since a time, oldest first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn events_since(&self, workspace: &WorkspaceId, at_ms: i64) -> StoreResult<Vec<EventRecord>> {
        self.read_events("at >= ?2 ORDER BY sequence", workspace, at_ms, u64::MAX)
    }

    /// Returns what happened after an event, oldest first, `limit` at the most.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn events_after(&self, workspace: &WorkspaceId, sequence: u64, limit: u64) -> StoreResult<Vec<EventRecord>> {
        self.read_events("sequence > ?2 ORDER BY sequence", workspace, i64::try_from(sequence).unwrap_or(i64::MAX), limit)
    }

    /// Returns the numbers of the oldest and the newest event that are kept.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn event_range(&self, workspace: &WorkspaceId) -> StoreResult<Option<(u64, u64)>> {
        self.query(|connection| {
            connection
                .prepare_cached("SELECT min(sequence), max(sequence) FROM events WHERE workspace = ?1")?
                .query_row([workspace.as_str()], |row| Ok(row.get::<_, Option<u64>>(0)?.zip(row.get(1)?)))
        })
    }

    /// Returns a number that changes whenever another process has written to the registry: a look that costs nothing.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn data_version(&self) -> StoreResult<i64> {
        self.query(|connection| connection.query_row("PRAGMA data_version", [], |row| row.get(0)))
    }

    fn read_events(&self, which: &str, workspace: &WorkspaceId, bound: i64, limit: u64) -> StoreResult<Vec<EventRecord>> {
        self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT sequence, at, kind, detail FROM events WHERE workspace = ?1 AND {which} LIMIT ?3"))?
                .query_map((workspace.as_str(), bound, i64::try_from(limit).unwrap_or(i64::MAX)), |row| {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_details_keep_their_beginning_and_their_form() {
        let long = "x".repeat(5000);
        let detail = json!({ "sequence": 7, "command": vec![long.as_str(); 20] });
        let kept = shortened(&detail);
        assert_eq!(kept["sequence"], 7);
        assert_eq!(kept["command"].as_array().map(Vec::len), Some(8));
        assert!(kept.to_string().len() < DETAIL_MAX_BYTES);
    }
}
