//! Rows of disk layers. A layer lives while something refers to it: a workspace, a machine, or a layer above it. References are
//! counted by query, so no counter can drift.

use rusqlite::{OptionalExtension as _, Row};

use super::{
    Registry, now_ms, sql,
    workspaces::{parse, parse_optional},
};
use crate::{LayerId, MachineId, StoreResult, WorkspaceId};

/// Which of a workspace's two disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskRole {
    /// Changes to `/`: installed packages.
    Root,
    /// `/workspace`.
    Workspace,
}

/// A registered layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecord {
    /// Its id; its file is `ID.FORMAT` in the layers' folder.
    pub id: LayerId,
    /// The layer below.
    pub parent: Option<LayerId>,
    /// `raw` or `qcow2`.
    pub format: String,
    /// Virtual size.
    pub size_bytes: u64,
}

impl LayerRecord {
    /// Returns the record of the empty `/workspace` of this size that all workspaces share.
    #[must_use]
    pub fn blank_workspace(gib: u64) -> Self {
        Self { id: LayerId::blank("workspace", gib), parent: None, format: "raw".into(), size_bytes: gib << 30 }
    }

    /// Returns the record of the empty disk of root changes of this size that all workspaces share.
    #[must_use]
    pub fn blank_root(gib: u64) -> Self {
        Self { id: LayerId::blank("root", gib), parent: None, format: "raw".into(), size_bytes: gib << 30 }
    }

    /// Returns the name of its file in the layers' folder.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.id, self.format)
    }
}

/// Layers that may be in use by some process, by id.
pub type LiveLayers = std::collections::HashSet<LayerId>;

fn record(row: &Row<'_>) -> rusqlite::Result<LayerRecord> {
    Ok(LayerRecord {
        id: parse(row, 0, LayerId::try_from)?,
        parent: parse_optional(row, 1, LayerId::try_from)?,
        format: row.get(2)?,
        size_bytes: row.get(3)?,
    })
}

pub(super) fn insert(connection: &rusqlite::Connection, layer: &LayerRecord) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT OR IGNORE INTO layers (id, parent, format, size_bytes, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            rusqlite::params![layer.id.as_str(), layer.parent.as_ref().map(LayerId::as_str), layer.format, layer.size_bytes, now_ms()],
        )
        .map(drop)
}

/// Registers a layer or puts one that is registered on top of another one.
pub(super) fn place(connection: &rusqlite::Connection, layer: &LayerRecord) -> rusqlite::Result<()> {
    insert(connection, layer)?;
    connection
        .execute("UPDATE layers SET parent = ?2 WHERE id = ?1", (layer.id.as_str(), layer.parent.as_ref().map(LayerId::as_str)))
        .map(drop)
}

/// Makes a layer the top of one of a workspace's disks.
pub(super) fn put_on_top(
    connection: &rusqlite::Connection,
    workspace: &WorkspaceId,
    role: DiskRole,
    top: &LayerId,
) -> rusqlite::Result<()> {
    let column = match role {
        DiskRole::Root => "root_layer",
        DiskRole::Workspace => "workspace_layer",
    };
    connection.execute(&format!("UPDATE workspaces SET {column} = ?2 WHERE id = ?1"), (workspace.as_str(), top.as_str())).map(drop)
}

impl Registry {
    /// Registers a layer; one with this id that exists already is kept.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn insert_layer(&self, layer: &LayerRecord) -> StoreResult<()> {
        self.query(|connection| insert(connection, layer))
    }

    /// Registers the two fresh overlays of a machine.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn insert_machine_layers(&mut self, machine: &MachineId, root: &LayerRecord, workspace: &LayerRecord) -> StoreResult<()> {
        self.transaction(|transaction| {
            let error = sql(transaction);
            for layer in [root, workspace] {
                transaction
                    .execute(
                        "INSERT INTO layers (id, parent, format, size_bytes, created_at) VALUES (?1, NULL, ?2, ?3, ?4)",
                        rusqlite::params![layer.id.as_str(), layer.format, layer.size_bytes, now_ms()],
                    )
                    .map_err(&error)?;
            }
            transaction
                .execute(
                    "UPDATE machines SET root_layer = ?2, workspace_layer = ?3 WHERE id = ?1",
                    (machine.as_str(), root.id.as_str(), workspace.id.as_str()),
                )
                .map(drop)
                .map_err(&error)
        })
    }

    /// Takes back a machine's hold on overlays made for it: they are a workspace's by now, or were never used.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn release_machine_layers(&self, machine: &MachineId) -> StoreResult<()> {
        self.query(|connection| {
            connection.execute("UPDATE machines SET root_layer = NULL, workspace_layer = NULL WHERE id = ?1", [machine.as_str()]).map(drop)
        })
    }

    /// Puts a layer on top of another one.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn set_layer_parent(&self, layer: &LayerId, parent: &LayerId, size_bytes: u64) -> StoreResult<()> {
        self.query(|connection| {
            connection
                .execute(
                    "UPDATE layers SET parent = ?2, size_bytes = ?3 WHERE id = ?1",
                    rusqlite::params![layer.as_str(), parent.as_str(), size_bytes],
                )
                .map(drop)
        })
    }

    /// Puts `below` in the place of `upper` everywhere, after the upper one's data was committed into it, and forgets the upper one's
    /// parent, so that it can be removed.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn replace_layer(&mut self, upper: &LayerId, below: &LayerId) -> StoreResult<()> {
        self.transaction(|transaction| {
            let error = sql(transaction);
            for statement in [
                "UPDATE workspaces SET root_layer = ?2 WHERE root_layer = ?1",
                "UPDATE workspaces SET workspace_layer = ?2 WHERE workspace_layer = ?1",
                "UPDATE workspaces SET baseline_layer = ?2 WHERE baseline_layer = ?1",
                "UPDATE snapshots SET root_layer = ?2 WHERE root_layer = ?1",
                "UPDATE snapshots SET workspace_layer = ?2 WHERE workspace_layer = ?1",
                "UPDATE layers SET parent = ?2 WHERE parent = ?1",
            ] {
                transaction.execute(statement, (upper.as_str(), below.as_str())).map_err(&error)?;
            }
            transaction.execute("UPDATE layers SET parent = NULL WHERE id = ?1", [upper.as_str()]).map(drop).map_err(&error)
        })
    }

    /// Returns a layer and everything below it, top first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn layer_chain(&self, top: &LayerId) -> StoreResult<Vec<LayerRecord>> {
        self.query(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, parent, format, size_bytes FROM layers WHERE id = ?1")?;
            let mut chain = Vec::new();
            let mut next = Some(top.clone());
            while let Some(id) = next.take() {
                let Some(layer) = statement.query_row([id.as_str()], record).optional()? else { break };
                next.clone_from(&layer.parent);
                chain.push(layer);
            }
            Ok(chain)
        })
    }

    /// Returns every layer.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn layers(&self) -> StoreResult<Vec<LayerRecord>> {
        self.query(|connection| {
            connection.prepare_cached("SELECT id, parent, format, size_bytes FROM layers")?.query_map([], record)?.collect()
        })
    }

    /// Returns how many things refer to a layer.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn layer_references(&self, id: &LayerId) -> StoreResult<u64> {
        self.query(|connection| {
            connection.query_row(
                "SELECT (SELECT count(*) FROM layers WHERE parent = ?1) + (SELECT count(*) FROM workspaces WHERE root_layer = ?1) \
                 + (SELECT count(*) FROM workspaces WHERE workspace_layer = ?1) + (SELECT count(*) FROM workspaces WHERE baseline_layer = ?1) \
                 + (SELECT count(*) FROM machines WHERE root_layer = ?1) + (SELECT count(*) FROM machines WHERE workspace_layer = ?1) \
                 + (SELECT count(*) FROM snapshots WHERE root_layer = ?1) + (SELECT count(*) FROM snapshots WHERE workspace_layer = ?1)",
                [id.as_str()],
                |row| row.get(0),
            )
        })
    }

    /// Forgets every layer nothing refers to, from the top of each chain down, and returns them for their files to be removed.
    /// Shared blanks stay unless `blanks_too`: they cost a few kilobytes and save the next machine their making.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn take_unreferenced_layers(&mut self, blanks_too: bool) -> StoreResult<Vec<LayerRecord>> {
        self.transaction(|transaction| {
            let error = sql(transaction);
            let mut taken = Vec::new();
            loop {
                let round: Vec<LayerRecord> = transaction
                    .prepare_cached(
                        "DELETE FROM layers WHERE (id NOT LIKE 'blank-%' OR ?1) AND id NOT IN (SELECT parent FROM layers WHERE parent IS NOT NULL) \
                         AND id NOT IN (SELECT root_layer FROM workspaces WHERE root_layer IS NOT NULL UNION ALL \
                         SELECT workspace_layer FROM workspaces WHERE workspace_layer IS NOT NULL UNION ALL \
                         SELECT baseline_layer FROM workspaces WHERE baseline_layer IS NOT NULL UNION ALL \
                         SELECT root_layer FROM snapshots WHERE root_layer IS NOT NULL UNION ALL \
                         SELECT workspace_layer FROM snapshots WHERE workspace_layer IS NOT NULL UNION ALL \
                         SELECT root_layer FROM machines WHERE root_layer IS NOT NULL UNION ALL \
                         SELECT workspace_layer FROM machines WHERE workspace_layer IS NOT NULL) \
                         RETURNING id, parent, format, size_bytes",
                    )
                    .and_then(|mut statement| statement.query_map([blanks_too], record)?.collect())
                    .map_err(&error)?;
                if round.is_empty() {
                    return Ok(taken);
                }
                taken.extend(round);
            }
        })
    }
}
