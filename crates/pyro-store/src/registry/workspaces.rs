//! Rows of workspaces.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Row, types::Type};
use serde::{Deserialize, Serialize};

use super::{LayerRecord, NetworkPolicy, NetworkRules, Registry, SecretRecord, Tenure, events, now_ms, sql};
use crate::{LabelKey, LabelValue, LayerId, MachineId, MachineShape, StoreError, StoreResult, WorkspaceId, WorkspaceName};

/// Where a workspace is in its life; see the diagram in the module above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceState {
    /// A client asked for it; its machine is not ready.
    Creating,
    /// Commands run.
    Running,
    /// Its machine is shutting down.
    Stopping,
    /// Only its disks and journal exist.
    Stopped,
    /// A client asked for a machine again.
    Starting,
    /// Being removed.
    Deleting,
}

impl WorkspaceState {
    /// Every state.
    pub const ALL: [Self; 6] = [Self::Creating, Self::Running, Self::Stopping, Self::Stopped, Self::Starting, Self::Deleting];

    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Deleting => "deleting",
        }
    }

    /// Returns the state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What happens when the idle time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExpire {
    /// The machine ends, the disks are kept.
    Stop,
    /// Nothing is kept.
    Delete,
}

impl OnExpire {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Delete => "delete",
        }
    }
}

/// Where the first content of `/workspace` came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedRecord {
    /// Path on the host.
    pub path: String,
    /// `directory`, `git` or `archive`.
    pub origin_kind: String,
    /// Which version of it: a commit.
    pub origin_ref: Option<String>,
    /// Files, folders and links.
    pub entry_count: u64,
    /// Bytes of files.
    pub bytes_written: u64,
}

/// A workspace to be registered.
#[derive(Debug, Clone)]
pub struct NewWorkspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name, unique among live workspaces.
    pub name: Option<WorkspaceName>,
    /// Its labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Name of the environment it was made from.
    pub environment: String,
    /// What its machine is made of.
    pub shape: MachineShape,
    /// Size of `/workspace`.
    pub disk_gib: u64,
    /// Size of the disk of root changes.
    pub root_disk_gib: u64,
    /// Idle time until it expires.
    pub ttl_seconds: u64,
    /// What happens then.
    pub on_expire: OnExpire,
    /// Whether it ends with its first command, as `pyro run` wants.
    pub one_shot: bool,
    /// Where its first content came from.
    pub seed: Option<SeedRecord>,
    /// A layer that is registered with it, in the same transaction, so that no sweep takes it for a remnant.
    pub new_layer: Option<LayerRecord>,
    /// The layer with the seed in it; `None` is the blank.
    pub baseline_layer: Option<LayerId>,
    /// What its disk of root changes begins with, if not with a blank.
    pub root_layer: Option<LayerId>,
    /// What `/workspace` begins with, if not with a blank.
    pub workspace_layer: Option<LayerId>,
    /// What it may reach.
    pub network_policy: NetworkPolicy,
    /// What of the outside it may reach.
    pub network_rules: NetworkRules,
    /// Its secrets, without their values.
    pub secrets: Vec<SecretRecord>,
    /// The workspace it is a copy of.
    pub forked_from: Option<WorkspaceId>,
}

/// A registered workspace.
#[derive(Debug, Clone)]
pub struct WorkspaceRecord {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: Option<WorkspaceName>,
    /// Its labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Name of its environment.
    pub environment: String,
    /// Its state as last written; true once [`crate::reap`] has run.
    pub state: WorkspaceState,
    /// What its machine is made of.
    pub shape: MachineShape,
    /// Size of `/workspace`.
    pub disk_gib: u64,
    /// Size of the disk of root changes.
    pub root_disk_gib: u64,
    /// Idle time until it expires.
    pub ttl_seconds: u64,
    /// What happens then.
    pub on_expire: OnExpire,
    /// Whether it ends with its first command.
    pub one_shot: bool,
    /// Its machine, while it has one.
    pub machine: Option<MachineId>,
    /// Raised whenever a client begins to move it: see `tenure`.
    pub generation: u64,
    /// Top layer of the disk of root changes; `None` before the first machine.
    pub root_layer: Option<LayerId>,
    /// Top layer of `/workspace`.
    pub workspace_layer: Option<LayerId>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub last_activity_at_ms: i64,
    /// Milliseconds since 1970.
    pub stopped_at_ms: Option<i64>,
    /// Why it stopped.
    pub stop_reason: Option<String>,
    /// Commands so far.
    pub command_count: u64,
    /// Resets so far.
    pub reset_count: u64,
    /// Milliseconds since 1970.
    pub last_reset_at_ms: Option<i64>,
    /// Where its first content came from.
    pub seed: Option<SeedRecord>,
    /// The layer its diffs are made against; `None` is the blank.
    pub baseline_layer: Option<LayerId>,
    /// What it may reach.
    pub network_policy: NetworkPolicy,
    /// What of the outside it may reach.
    pub network_rules: NetworkRules,
    /// Its secrets, without their values.
    pub secrets: Vec<SecretRecord>,
}

const COLUMNS: &str = "id, name, labels, environment, state, shape, disk_gib, root_disk_gib, ttl_seconds, on_expire, one_shot, machine, \
     generation, root_layer, workspace_layer, created_at, last_activity_at, stopped_at, stop_reason, command_count - sequence_base, reset_count, last_reset_at, \
     seed, baseline_layer, network_policy, network_rules, secrets";

/// Converts a text column, reporting its column on failure.
pub(super) fn parse<T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: usize,
    read: impl FnOnce(String) -> Result<T, E>,
) -> rusqlite::Result<T> {
    read(row.get(column)?).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// As [`parse`], for a column that may be null.
pub(super) fn parse_optional<T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: usize,
    read: impl FnOnce(String) -> Result<T, E>,
) -> rusqlite::Result<Option<T>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null { Ok(None) } else { parse(row, column, read).map(Some) }
}

fn record(row: &Row<'_>) -> rusqlite::Result<WorkspaceRecord> {
    let state: String = row.get(4)?;
    Ok(WorkspaceRecord {
        id: parse(row, 0, WorkspaceId::try_from)?,
        name: parse_optional(row, 1, WorkspaceName::try_from)?,
        labels: parse(row, 2, |text| serde_json::from_str(&text))?,
        environment: row.get(3)?,
        state: WorkspaceState::from_name(&state).ok_or(rusqlite::Error::InvalidQuery)?,
        shape: parse(row, 5, |text| serde_json::from_str(&text))?,
        disk_gib: row.get(6)?,
        root_disk_gib: row.get(7)?,
        ttl_seconds: row.get(8)?,
        on_expire: if row.get::<_, String>(9)? == "delete" { OnExpire::Delete } else { OnExpire::Stop },
        one_shot: row.get(10)?,
        machine: parse_optional(row, 11, MachineId::try_from)?,
        generation: row.get(12)?,
        root_layer: parse_optional(row, 13, LayerId::try_from)?,
        workspace_layer: parse_optional(row, 14, LayerId::try_from)?,
        created_at_ms: row.get(15)?,
        last_activity_at_ms: row.get(16)?,
        stopped_at_ms: row.get(17)?,
        stop_reason: row.get(18)?,
        command_count: row.get(19)?,
        reset_count: row.get(20)?,
        last_reset_at_ms: row.get(21)?,
        seed: parse_optional(row, 22, |text| serde_json::from_str(&text))?,
        baseline_layer: parse_optional(row, 23, LayerId::try_from)?,
        network_policy: NetworkPolicy::from_name(&row.get::<_, String>(24)?).ok_or(rusqlite::Error::InvalidQuery)?,
        network_rules: parse_optional(row, 25, |text| serde_json::from_str(&text))?.unwrap_or_default(),
        secrets: parse(row, 26, |text| serde_json::from_str(&text))?,
    })
}

impl WorkspaceRecord {
    /// Returns when it expires if nothing happens: the end of the idle time, or of the time a stopped one's disks are kept.
    #[must_use]
    pub fn expires_at_ms(&self, stopped_ttl_seconds: u64) -> i64 {
        let (since, seconds) = match self.stopped_at_ms {
            Some(at) if self.state == WorkspaceState::Stopped => (at, stopped_ttl_seconds),
            Some(_) | None => (self.last_activity_at_ms, self.ttl_seconds),
        };
        since.saturating_add(i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX))
    }

    /// Returns what a person calls it: its name, else its id.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.name.as_ref().map_or(self.id.as_str(), WorkspaceName::as_str)
    }
}

impl Registry {
    /// Registers a workspace in state `creating`, and returns the right to place a machine under it.
    ///
    /// # Errors
    /// The name is taken.
    pub fn insert_workspace(&mut self, new: &NewWorkspace) -> StoreResult<Tenure> {
        let (labels, shape) = (to_json(&new.labels), to_json(&new.shape));
        self.transaction(|transaction| {
            let name = new.name.as_ref().map(WorkspaceName::as_str);
            ensure_name_free(transaction, name, None)?;
            if let Some(layer) = &new.new_layer {
                super::layers::insert(transaction, layer).map_err(sql(transaction))?;
            }
            transaction
                .execute(
                    "INSERT INTO workspaces (id, name, labels, environment, state, shape, disk_gib, root_disk_gib, ttl_seconds, on_expire, \
                     one_shot, created_at, last_activity_at, seed, baseline_layer, root_layer, workspace_layer, network_policy, network_rules, secrets) \
                     VALUES (?1, ?2, ?3, ?4, 'creating', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
                    rusqlite::params![
                        new.id.as_str(),
                        name,
                        labels,
                        new.environment,
                        shape,
                        new.disk_gib,
                        new.root_disk_gib,
                        new.ttl_seconds,
                        new.on_expire.as_str(),
                        new.one_shot,
                        now_ms(),
                        new.seed.as_ref().map(to_json),
                        new.baseline_layer.as_ref().map(LayerId::as_str),
                        new.root_layer.as_ref().map(LayerId::as_str),
                        new.workspace_layer.as_ref().map(LayerId::as_str),
                        new.network_policy.as_str(),
                        to_json(&new.network_rules),
                        to_json(&new.secrets)
                    ],
                )
                .map_err(sql(transaction))?;
            let detail = serde_json::json!({
                "environment": new.environment,
                "name": name,
                "seed_path": new.seed.as_ref().map(|seed| &seed.path),
                "forked_from": new.forked_from,
            });
            events::insert(transaction, &new.id, "create", &detail)?;
            Ok(Tenure { workspace: new.id.clone(), generation: 0 })
        })
    }

    /// Returns a workspace by id.
    ///
    /// # Errors
    /// There is none.
    pub fn workspace(&self, id: &WorkspaceId) -> StoreResult<WorkspaceRecord> {
        self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM workspaces WHERE id = ?1"))?
                .query_row([id.as_str()], record)
                .optional()
        })?
        .ok_or_else(|| StoreError::WorkspaceNotFound { reference: id.to_string() })
    }

    /// Finds a workspace by id, by name, or by the beginning of an id that no other id shares, in this order.
    ///
    /// # Errors
    /// None or several match.
    pub fn find_workspace(&self, reference: &str) -> StoreResult<WorkspaceRecord> {
        // A prefix is compared as text; only hexadecimal digits can be one, so no wildcard reaches GLOB.
        let hexadecimal = !reference.is_empty() && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        let pattern = if hexadecimal { format!("{}*", reference.to_ascii_lowercase()) } else { String::new() };
        let mut found = self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM workspaces WHERE name = ?1 OR id GLOB ?2 LIMIT 1000"))?
                .query_map([reference, &pattern], record)?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let by_id = |record: &WorkspaceRecord| record.id.as_str() == reference;
        let by_name = |record: &WorkspaceRecord| record.name.as_ref().is_some_and(|name| name.as_str() == reference);
        if let Some(at) = found.iter().position(by_id).or_else(|| found.iter().position(by_name)) {
            return Ok(found.swap_remove(at));
        }
        match found.len() {
            0 => Err(StoreError::WorkspaceNotFound { reference: reference.chars().take(80).collect() }),
            1 => Ok(found.swap_remove(0)),
            count => Err(StoreError::WorkspaceAmbiguous { reference: reference.to_owned(), count }),
        }
    }

    /// Returns every workspace, newest activity first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn workspaces(&self) -> StoreResult<Vec<WorkspaceRecord>> {
        self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM workspaces ORDER BY last_activity_at DESC, created_at DESC, id"))?
                .query_map([], record)?
                .collect()
        })
    }

    /// Changes name, labels and idle time together, and counts as activity.
    ///
    /// # Errors
    /// The name is taken, or the workspace is gone.
    pub fn update_workspace(
        &mut self,
        id: &WorkspaceId,
        name: Option<&WorkspaceName>,
        labels: &BTreeMap<LabelKey, LabelValue>,
        ttl_seconds: u64,
    ) -> StoreResult<()> {
        let labels = to_json(labels);
        self.transaction(|transaction| {
            let name = name.map(WorkspaceName::as_str);
            ensure_name_free(transaction, name, Some(id))?;
            let changed = transaction
                .execute(
                    "UPDATE workspaces SET name = ?2, labels = ?3, ttl_seconds = ?4, last_activity_at = ?5 WHERE id = ?1",
                    rusqlite::params![id.as_str(), name, labels, ttl_seconds, now_ms()],
                )
                .map_err(sql(transaction))?;
            if changed == 0 { Err(StoreError::WorkspaceNotFound { reference: id.to_string() }) } else { Ok(()) }
        })
    }

    /// Records activity now.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn touch_workspace(&self, id: &WorkspaceId) -> StoreResult<()> {
        self.query(|connection| {
            connection.execute("UPDATE workspaces SET last_activity_at = ?2 WHERE id = ?1", (id.as_str(), now_ms())).map(drop)
        })
    }

    /// Forgets a workspace and its commands; its layers lose their owner.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn remove_workspace(&mut self, id: &WorkspaceId) -> StoreResult<()> {
        self.query(|connection| connection.execute("DELETE FROM workspaces WHERE id = ?1", [id.as_str()]).map(drop))
    }
}

pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain fields serialise")
}

fn ensure_name_free(transaction: &rusqlite::Transaction<'_>, name: Option<&str>, except: Option<&WorkspaceId>) -> StoreResult<()> {
    let Some(name) = name else { return Ok(()) };
    let holder = transaction
        .query_row("SELECT id FROM workspaces WHERE name = ?1", [name], |row| row.get::<_, String>(0))
        .optional()
        .map_err(sql(transaction))?;
    match holder {
        Some(holder) if except.is_none_or(|id| id.as_str() != holder) => Err(StoreError::NameTaken { name: name.to_owned() }),
        Some(_) | None => Ok(()),
    }
}
