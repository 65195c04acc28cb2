//! Rows of machines: every supervisor has one from before it starts until after it ends.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{
    Registry, Tenure, now_ms, sql, tenure,
    workspaces::{parse, parse_optional, to_json},
};
use crate::{Dirs, LayerId, MachineId, MachineShape, ProcessIdentity, StoreError, StoreResult, TemplateKey, WorkspaceId, WorkspaceState};

/// What a machine was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineRole {
    /// One workspace.
    Workspace,
    /// To wait for one.
    Standby,
}

/// How far a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineState {
    /// Its supervisor is restoring it.
    Starting,
    /// A standby machine that can be claimed.
    Ready,
    /// It belongs to a workspace.
    Claimed,
}

impl MachineRole {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Standby => "standby",
        }
    }
}

impl MachineState {
    const ALL: [Self; 3] = [Self::Starting, Self::Ready, Self::Claimed];

    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Claimed => "claimed",
        }
    }
}

/// A machine to be registered.
#[derive(Debug, Clone)]
pub struct NewMachine {
    /// Its id; its folder and lock exist already.
    pub id: MachineId,
    /// What it is made of.
    pub shape: MachineShape,
    /// What it is for.
    pub role: MachineRole,
    /// For which workspace it was started, if for one.
    pub tenure: Option<Tenure>,
}

/// A registered machine.
#[derive(Debug, Clone)]
pub struct MachineRecord {
    /// Its id.
    pub id: MachineId,
    /// What it is made of.
    pub shape: MachineShape,
    /// Key of `shape`.
    pub template: String,
    /// What it was started for.
    pub role: MachineRole,
    /// How far it is.
    pub state: MachineState,
    /// Whose it is.
    pub workspace: Option<WorkspaceId>,
    /// Where its lock and its socket are; `None` of a machine that an older Pyro made and nobody has found.
    pub folder: Option<PathBuf>,
    /// The supervisor.
    pub supervisor: Option<ProcessIdentity>,
    /// Process id of the supervisor.
    pub pid: Option<u32>,
    /// Process id of QEMU.
    pub machine_pid: Option<u32>,
    /// Number of the user QEMU runs as, counted from Pyro's first; no two machines share it.
    pub user_slot: u32,
    /// Its own, still unadopted overlay for root changes.
    pub root_layer: Option<LayerId>,
    /// Its own, still unadopted overlay for `/workspace`.
    pub workspace_layer: Option<LayerId>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// When an unclaimed standby machine ends, milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
}

const COLUMNS: &str = "id, shape, template, role, state, workspace, pid, machine_pid, user_slot, root_layer, workspace_layer, created_at, expires_at, folder, \
     started_ticks, pid_namespace";

fn record(row: &Row<'_>) -> rusqlite::Result<MachineRecord> {
    Ok(MachineRecord {
        id: parse(row, 0, MachineId::try_from)?,
        shape: parse(row, 1, |text| serde_json::from_str(&text))?,
        template: row.get(2)?,
        role: if row.get::<_, String>(3)? == "standby" { MachineRole::Standby } else { MachineRole::Workspace },
        state: {
            let state: String = row.get(4)?;
            MachineState::ALL.into_iter().find(|known| known.as_str() == state).ok_or(rusqlite::Error::InvalidQuery)?
        },
        workspace: parse_optional(row, 5, WorkspaceId::try_from)?,
        pid: row.get(6)?,
        machine_pid: row.get(7)?,
        user_slot: row.get(8)?,
        root_layer: parse_optional(row, 9, LayerId::try_from)?,
        workspace_layer: parse_optional(row, 10, LayerId::try_from)?,
        created_at_ms: row.get(11)?,
        expires_at_ms: row.get(12)?,
        folder: row.get::<_, Option<String>>(13)?.map(PathBuf::from),
        supervisor: match (row.get(6)?, row.get(14)?, row.get(15)?) {
            (Some(pid), Some(started_ticks), Some(pid_namespace)) => Some(ProcessIdentity { pid, started_ticks, pid_namespace }),
            _ => None,
        },
    })
}

impl Registry {
    /// Registers a machine in state `starting`, whose lock and socket are in `folder`, and gives it a user of its own. At most
    /// `standby_limit` standby machines of a template are registered at a time.
    ///
    /// # Errors
    /// There are enough standby machines, another client has begun to change the workspace, or the registry cannot be written.
    pub fn insert_machine(&mut self, new: &NewMachine, folder: &Path, standby_limit: u32) -> StoreResult<()> {
        let shape = to_json(&new.shape);
        let template = new.shape.key();
        self.transaction(|transaction| {
            if new.role == MachineRole::Standby {
                let unclaimed: u32 = transaction
                    .query_row(
                        "SELECT count(*) FROM machines WHERE role = 'standby' AND workspace IS NULL AND template = ?1",
                        [template.as_str()],
                        |row| row.get(0),
                    )
                    .map_err(sql(transaction))?;
                if unclaimed >= standby_limit {
                    return Err(StoreError::StandbyLimit);
                }
            }
            let workspace = new.tenure.as_ref().map(|tenure| tenure.workspace.as_str());
            transaction
                .execute(
                    "INSERT INTO machines (id, shape, template, role, state, workspace, user_slot, created_at, folder) VALUES (?1, ?2, ?3, \
                     ?4, 'starting', ?5, (SELECT min(slot) FROM (SELECT 0 AS slot UNION SELECT user_slot + 1 FROM machines) \
                     WHERE slot NOT IN (SELECT user_slot FROM machines)), ?6, ?7)",
                    rusqlite::params![
                        new.id.as_str(),
                        shape,
                        template.as_str(),
                        new.role.as_str(),
                        workspace,
                        now_ms(),
                        path_text(folder)?
                    ],
                )
                .map_err(sql(transaction))?;
            new.tenure.as_ref().map_or(Ok(()), |held| tenure::place(transaction, held, &new.id))
        })
    }

    /// Gives the workspace a ready standby machine of this shape, in one transaction: two clients never get the same one.
    ///
    /// # Errors
    /// Another client has begun to change the workspace, or the registry cannot be written.
    pub fn claim_standby(&mut self, held: &Tenure, template: &TemplateKey) -> StoreResult<Option<MachineId>> {
        self.transaction(|transaction| {
            let claimed = transaction
                .query_row(
                    "UPDATE machines SET state = 'claimed', workspace = ?1, expires_at = NULL WHERE id = (SELECT id FROM machines WHERE \
                     role = 'standby' AND state = 'ready' AND template = ?2 AND (expires_at IS NULL OR expires_at > ?3) \
                     ORDER BY created_at LIMIT 1) RETURNING id",
                    rusqlite::params![held.workspace.as_str(), template.as_str(), now_ms()],
                    |row| parse(row, 0, MachineId::try_from),
                )
                .optional()
                .map_err(sql(transaction))?;
            if let Some(machine) = &claimed {
                tenure::place(transaction, held, machine)?;
            }
            Ok(claimed)
        })
    }

    /// Returns a machine.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn machine(&self, id: &MachineId) -> StoreResult<Option<MachineRecord>> {
        self.query(|connection| {
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM machines WHERE id = ?1"))?.query_row([id.as_str()], record).optional()
        })
    }

    /// Returns every machine, oldest first.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn machines(&self) -> StoreResult<Vec<MachineRecord>> {
        self.query(|connection| {
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM machines ORDER BY created_at, id"))?.query_map([], record)?.collect()
        })
    }

    /// Returns the folder of a machine's lock and socket, wherever the one who made it put it; that of a machine nobody knows is where a new
    /// one would be.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn machine_folder(&self, dirs: &Dirs, id: &MachineId) -> StoreResult<PathBuf> {
        Ok(self.machine(id)?.map_or_else(|| dirs.machine(id), |machine| machine.folder(dirs)))
    }

    /// Records the supervisor's process, by whoever started it.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn set_supervisor(&self, id: &MachineId, process: &ProcessIdentity) -> StoreResult<()> {
        let ProcessIdentity { pid, started_ticks, pid_namespace } = *process;
        self.query(|connection| {
            connection
                .execute(
                    "UPDATE machines SET pid = ?2, started_ticks = ?3, pid_namespace = ?4 WHERE id = ?1",
                    rusqlite::params![id.as_str(), pid, started_ticks, pid_namespace],
                )
                .map(drop)
        })
    }

    /// Records QEMU's process, once it is known.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn set_machine_process(&self, id: &MachineId, machine: u32) -> StoreResult<()> {
        self.query(|connection| connection.execute("UPDATE machines SET machine_pid = ?2 WHERE id = ?1", (id.as_str(), machine)).map(drop))
    }

    /// Offers a standby machine for claiming until `expires_at_ms`.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn offer_standby(&self, id: &MachineId, expires_at_ms: i64) -> StoreResult<()> {
        self.query(|connection| {
            connection
                .execute(
                    "UPDATE machines SET state = 'ready', expires_at = ?2 WHERE id = ?1 AND state = 'starting'",
                    (id.as_str(), expires_at_ms),
                )
                .map(drop)
        })
    }

    /// Takes a standby machine off the market; `false` when someone has claimed it.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn withdraw_standby(&mut self, id: &MachineId) -> StoreResult<bool> {
        self.query(|connection| {
            let changed =
                connection.execute("UPDATE machines SET state = 'starting' WHERE id = ?1 AND workspace IS NULL", [id.as_str()])?;
            Ok(changed > 0)
        })
    }

    /// Makes a machine the workspace's: its overlays become the tops of the workspace's disks, and the workspace is `running`.
    /// `activity` tells whether this was asked for by a client.
    ///
    /// # Errors
    /// The workspace is no longer waiting for this machine.
    pub fn adopt(&mut self, machine: &MachineId, workspace: &WorkspaceId) -> StoreResult<()> {
        self.transaction(|transaction| {
            let error = sql(transaction);
            let changed = transaction
                .execute(
                    "UPDATE workspaces SET state = ?3, last_activity_at = ?4, stopped_at = NULL, stop_reason = NULL, \
                     shape = (SELECT shape FROM machines WHERE id = ?2), \
                     root_layer = (SELECT root_layer FROM machines WHERE id = ?2), \
                     workspace_layer = (SELECT workspace_layer FROM machines WHERE id = ?2) \
                     WHERE id = ?1 AND machine = ?2 AND state IN ('creating', 'starting')",
                    rusqlite::params![workspace.as_str(), machine.as_str(), WorkspaceState::Running.as_str(), now_ms()],
                )
                .map_err(&error)?;
            if changed == 0 {
                return Err(StoreError::WrongState { workspace: workspace.to_string(), state: "no longer waiting for this machine" });
            }
            transaction
                .execute(
                    "UPDATE machines SET state = 'claimed', workspace = ?2, root_layer = NULL, workspace_layer = NULL, expires_at = NULL WHERE id = ?1",
                    (machine.as_str(), workspace.as_str()),
                )
                .map_err(&error)?;
            super::events::insert(transaction, workspace, "start", &serde_json::json!({ "machine": machine }))
        })
    }

    /// Forgets a machine; overlays that were never adopted lose their owner.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn remove_machine(&self, id: &MachineId) -> StoreResult<()> {
        self.query(|connection| connection.execute("DELETE FROM machines WHERE id = ?1", [id.as_str()]).map(drop))
    }
}

impl MachineRecord {
    /// Returns the folder of its lock and socket.
    #[must_use]
    pub fn folder(&self, dirs: &Dirs) -> PathBuf {
        match &self.folder {
            // Another mount of the same disks may not have the path that its maker saw.
            Some(folder) if folder.is_dir() => folder.clone(),
            Some(_) | None => dirs.machine(&self.id),
        }
    }
}

/// Looks where the machines of an older Pyro are, which knew them by a folder of their maker's environment only.
pub(super) fn find_folders(transaction: &Transaction<'_>, dirs: &Dirs) -> StoreResult<()> {
    let error = sql(transaction);
    let user = rustix::process::getuid().as_raw();
    let places = [dirs.runtime.clone(), dirs.state.join("run"), PathBuf::from(format!("/run/user/{user}/pyro"))];
    let ids: Vec<String> = transaction
        .prepare("SELECT id FROM machines WHERE folder IS NULL")
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .map_err(&error)?;
    for id in ids {
        let Some(folder) = places.iter().map(|place| place.join("machines").join(&id)).find(|folder| folder.is_dir()) else { continue };
        transaction.execute("UPDATE machines SET folder = ?2 WHERE id = ?1", (&id, path_text(&folder)?)).map_err(&error)?;
    }
    Ok(())
}

fn path_text(path: &Path) -> StoreResult<&str> {
    let invalid = || std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("the name of `{}` is not UTF-8", path.display()));
    std::str::from_utf8(OsStr::as_bytes(path.as_os_str())).map_err(|_| invalid().into())
}
