//! Rows of snapshots: the layers, and of a live one the memory, a workspace can be put back to. A snapshot holds its layers.
//!
//! A fork's checkpoint is a snapshot with a name no user can give, gone when the fork is done; [`crate::reap`] removes what a killed client
//! left of one.

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{
    CarriedProcesses, DiskRole, LayerRecord, Registry, Tenure, WorkspaceState, now_ms, services, sql, tenure,
    workspaces::{parse, parse_optional, to_json},
};
use crate::{LayerId, MachineId, MachineShape, SnapshotName, StoreError, StoreResult, WorkspaceId};

/// What a snapshot keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// Both disks.
    Disk,
    /// Both disks, memory and processes.
    Live,
}

impl SnapshotKind {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Live => "live",
        }
    }
}

/// A snapshot of a workspace.
#[derive(Debug, Clone)]
pub struct SnapshotRecord {
    /// Its name, unique in its workspace.
    pub name: SnapshotName,
    /// What it keeps.
    pub kind: SnapshotKind,
    /// Top layer of the disk of root changes; `None` is the blank.
    pub root_layer: Option<LayerId>,
    /// Top layer of `/workspace`; `None` is the blank.
    pub workspace_layer: Option<LayerId>,
    /// What the machine was made of: a live one can only be resumed on its like.
    pub shape: MachineShape,
    /// Of a live one: the name of its folder below `checkpoints`.
    pub checkpoint: Option<String>,
    /// Of a live one: bytes of guest memory kept.
    pub memory_bytes: u64,
    /// Files, folders and links in `/workspace`.
    pub entry_count: u64,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
}

/// A command that was running when a live snapshot was taken, and runs again when it is resumed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CarriedCommand {
    /// Its sequence in the journal, which the guest knows it by.
    pub sequence: u64,
    /// The argument list.
    pub argv: Vec<String>,
    /// Its working directory.
    pub cwd: String,
    /// Milliseconds since 1970.
    pub started_at_ms: i64,
}

/// What goes on in a workspace made from a live snapshot.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    /// Commands of the journal.
    pub commands: Vec<CarriedCommand>,
    /// Shells, services and ports.
    pub processes: CarriedProcesses,
}

/// Where a reset leads.
#[derive(Debug, Clone)]
pub struct ResetTarget {
    /// Top layer of the disk of root changes; `None` is the blank.
    pub root_layer: Option<LayerId>,
    /// Top layer of `/workspace`; `None` is the blank.
    pub workspace_layer: Option<LayerId>,
    /// What goes on.
    pub carried: Carried,
}

const COLUMNS: &str = "name, kind, root_layer, workspace_layer, shape, checkpoint, memory_bytes, entry_count, created_at";

fn record(row: &Row<'_>) -> rusqlite::Result<SnapshotRecord> {
    Ok(SnapshotRecord {
        name: parse(row, 0, |text| Ok::<_, std::convert::Infallible>(SnapshotName::stored(text)))?,
        kind: if row.get::<_, String>(1)? == "live" { SnapshotKind::Live } else { SnapshotKind::Disk },
        root_layer: parse_optional(row, 2, LayerId::try_from)?,
        workspace_layer: parse_optional(row, 3, LayerId::try_from)?,
        shape: parse(row, 4, |text| serde_json::from_str(&text))?,
        checkpoint: row.get(5)?,
        memory_bytes: row.get(6)?,
        entry_count: row.get(7)?,
        created_at_ms: row.get(8)?,
    })
}

impl Registry {
    /// Enters a snapshot of what the disks hold now, and puts the overlays `above` on top of them, if the machine goes on: all at once.
    ///
    /// # Errors
    /// The name is taken, or the workspace is gone.
    pub fn insert_snapshot(
        &mut self,
        workspace: &WorkspaceId,
        snapshot: &SnapshotRecord,
        above: Option<(&LayerRecord, &LayerRecord)>,
    ) -> StoreResult<()> {
        let (shape, acting) = (to_json(&snapshot.shape), self.acting.clone());
        self.transaction(|transaction| {
            // A machine that has lost the workspace must not put its disks back under it.
            tenure::ensure_acting(transaction, acting.as_ref(), workspace)?;
            let error = sql(transaction);
            ensure_free(transaction, workspace, &snapshot.name)?;
            transaction
                .execute(
                    "INSERT INTO snapshots (workspace, name, kind, root_layer, workspace_layer, shape, checkpoint, memory_bytes, created_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    rusqlite::params![
                        workspace.as_str(),
                        snapshot.name.as_str(),
                        snapshot.kind.as_str(),
                        snapshot.root_layer.as_ref().map(LayerId::as_str),
                        snapshot.workspace_layer.as_ref().map(LayerId::as_str),
                        shape,
                        snapshot.checkpoint,
                        snapshot.memory_bytes,
                        snapshot.created_at_ms
                    ],
                )
                .map_err(&error)?;
            let Some((root, disk)) = above else { return Ok(()) };
            for layer in [root, disk] {
                super::layers::place(transaction, layer).map_err(&error)?;
            }
            transaction
                .execute(
                    "UPDATE workspaces SET root_layer = ?2, workspace_layer = ?3 WHERE id = ?1",
                    (workspace.as_str(), root.id.as_str(), disk.id.as_str()),
                )
                .map(drop)
                .map_err(&error)
        })
    }

    /// Makes an overlay that a machine has put on a disk the workspace's top layer.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn put_overlay(&mut self, workspace: &WorkspaceId, role: DiskRole, layer: &LayerRecord) -> StoreResult<()> {
        let acting = self.acting.clone();
        self.transaction(|transaction| {
            tenure::ensure_acting(transaction, acting.as_ref(), workspace)?;
            super::layers::place(transaction, layer).map_err(sql(transaction))?;
            super::layers::put_on_top(transaction, workspace, role, &layer.id).map_err(sql(transaction))
        })
    }

    /// Returns a snapshot.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn snapshot(&self, workspace: &WorkspaceId, name: &SnapshotName) -> StoreResult<SnapshotRecord> {
        self.query(|connection| {
            connection
                .query_row(
                    &format!("SELECT {COLUMNS} FROM snapshots WHERE workspace = ?1 AND name = ?2"),
                    (workspace.as_str(), name.as_str()),
                    record,
                )
                .optional()
        })?
        .ok_or_else(|| StoreError::SnapshotNotFound { workspace: workspace.to_string(), name: name.to_string() })
    }

    /// Returns the snapshots a user has made, oldest first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn snapshots(&self, workspace: &WorkspaceId) -> StoreResult<Vec<SnapshotRecord>> {
        let mut snapshots = self.all_snapshots(workspace)?;
        snapshots.retain(|snapshot| !snapshot.name.is_internal());
        Ok(snapshots)
    }

    /// Returns every snapshot of a workspace, a fork's included, oldest first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn all_snapshots(&self, workspace: &WorkspaceId) -> StoreResult<Vec<SnapshotRecord>> {
        self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM snapshots WHERE workspace = ?1 ORDER BY created_at, name"))?
                .query_map([workspace.as_str()], record)?
                .collect()
        })
    }

    /// Enters how many entries a snapshot's `/workspace` has, counted after it was made.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn set_snapshot_entries(&self, workspace: &WorkspaceId, name: &SnapshotName, entry_count: u64) -> StoreResult<()> {
        self.query(|connection| {
            connection
                .execute(
                    "UPDATE snapshots SET entry_count = ?3 WHERE workspace = ?1 AND name = ?2",
                    rusqlite::params![workspace.as_str(), name.as_str(), entry_count],
                )
                .map(drop)
        })
    }

    /// Returns the keys of templates that live snapshots build on.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn live_templates(&self) -> StoreResult<Vec<String>> {
        let shapes: Vec<MachineShape> = self.query(|connection| {
            connection
                .prepare_cached("SELECT shape FROM snapshots WHERE kind = 'live'")?
                .query_map([], |row| parse(row, 0, |text| serde_json::from_str(&text)))?
                .collect()
        })?;
        Ok(shapes.iter().map(|shape| shape.key().to_string()).collect())
    }

    /// Forgets a snapshot; its layers lose a holder.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn delete_snapshot(&mut self, workspace: &WorkspaceId, name: &SnapshotName) -> StoreResult<()> {
        let removed = self.query(|connection| {
            connection.execute("DELETE FROM snapshots WHERE workspace = ?1 AND name = ?2", (workspace.as_str(), name.as_str()))
        })?;
        if removed == 0 {
            return Err(StoreError::SnapshotNotFound { workspace: workspace.to_string(), name: name.to_string() });
        }
        Ok(())
    }

    /// Takes the workspace from its machine and puts its disks back, in one transaction; returns the right to place another, and the machine
    /// it had, whose supervisor ends when it sees that. The workspace is `starting` then.
    ///
    /// # Errors
    /// It is neither running nor stopped.
    pub fn begin_reset(&mut self, id: &WorkspaceId, target: &ResetTarget) -> StoreResult<(Tenure, Option<MachineId>)> {
        self.transaction(|transaction| {
            let error = sql(transaction);
            tenure::expect_state(transaction, id, &[WorkspaceState::Running, WorkspaceState::Stopped])?;
            let machine: Option<String> =
                transaction.query_row("SELECT machine FROM workspaces WHERE id = ?1", [id.as_str()], |row| row.get(0)).map_err(&error)?;
            transaction.execute("DELETE FROM commands WHERE workspace = ?1", [id.as_str()]).map_err(&error)?;
            transaction
                .execute(
                    "UPDATE workspaces SET state = 'starting', machine = NULL, root_layer = ?2, workspace_layer = ?3, \
                     sequence_base = command_count, reset_count = reset_count + 1, last_reset_at = ?4, last_activity_at = ?4, \
                     stopped_at = NULL, stop_reason = NULL WHERE id = ?1",
                    rusqlite::params![
                        id.as_str(),
                        target.root_layer.as_ref().map(LayerId::as_str),
                        target.workspace_layer.as_ref().map(LayerId::as_str),
                        now_ms()
                    ],
                )
                .map_err(&error)?;
            services::forget(transaction, id)?;
            carry(transaction, id, &target.carried)?;
            let next = "UPDATE workspaces SET generation = generation + 1, last_activity_at = ?2 WHERE id = ?1 RETURNING generation";
            let held = tenure::tenure(transaction, id, next)?;
            let machine = machine.map(MachineId::try_from).transpose();
            Ok((held, machine.map_err(|error| StoreError::Corrupt { what: "machine", value: error.value })?))
        })
    }

    /// Enters what goes on in a workspace made from a live snapshot.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn carry(&mut self, id: &WorkspaceId, carried: &Carried) -> StoreResult<()> {
        self.transaction(|transaction| carry(transaction, id, carried))
    }

    /// Returns the names of every checkpoint folder that a snapshot refers to.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn checkpoints(&self) -> StoreResult<Vec<String>> {
        self.query(|connection| {
            connection
                .prepare_cached("SELECT checkpoint FROM snapshots WHERE checkpoint IS NOT NULL")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }
}

fn carry(transaction: &Transaction<'_>, id: &WorkspaceId, carried: &Carried) -> StoreResult<()> {
    services::carry(transaction, id, &carried.processes)?;
    let (carried, error) = (&carried.commands, sql(transaction));
    for command in carried {
        transaction
            .execute(
                "INSERT INTO commands (workspace, sequence, argv, cwd, started_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                rusqlite::params![id.as_str(), command.sequence, to_json(&command.argv), command.cwd, command.started_at_ms],
            )
            .map_err(&error)?;
    }
    // The guest knows its commands by their sequences, so a new one must not get the number of one that goes on.
    let newest = carried.iter().map(|command| command.sequence).max().unwrap_or(0);
    transaction
        .execute("UPDATE workspaces SET command_count = max(command_count, ?2) WHERE id = ?1", rusqlite::params![id.as_str(), newest])
        .map_err(&error)?;
    // What is counted is what the journal holds.
    transaction
        .execute(
            "UPDATE workspaces SET sequence_base = command_count - ?2 WHERE id = ?1",
            rusqlite::params![id.as_str(), carried.len() as u64],
        )
        .map(drop)
        .map_err(&error)
}

fn ensure_free(transaction: &Transaction<'_>, workspace: &WorkspaceId, name: &SnapshotName) -> StoreResult<()> {
    let taken: bool = transaction
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM snapshots WHERE workspace = ?1 AND name = ?2)",
            (workspace.as_str(), name.as_str()),
            |row| row.get(0),
        )
        .map_err(sql(transaction))?;
    if taken { Err(StoreError::SnapshotExists { workspace: workspace.to_string(), name: name.to_string() }) } else { Ok(()) }
}
