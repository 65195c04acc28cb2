//! The registry: which workspaces, machines, layers and commands there are. SQLite in WAL mode, opened by every process that needs it.
//!
//! A workspace's states, and who moves it:
//!
//! ```text
//!            client              supervisor            supervisor
//!   (none) ─────────▶ creating ─────────────▶ running ───────────▶ stopping ──▶ stopped
//!                        │ fails: row removed     ▲                                 │
//!                        ▼                        └────── supervisor ── starting ◀──┘ client
//!                      (none) ◀── delete, from every state, by a client or the supervisor of an expired one
//! ```
//!
//! A reset moves a running or stopped workspace to `starting` with other disks and no machine, in one transaction; the machine it had sees
//! that it has lost its workspace and ends. What its supervisor would still write is refused then: see [`Registry::act_for`]. Who may do
//! what while several clients do, is told in `tenure`.
//!
//! A row whose machine's lock is free tells of a process that died; [`crate::reap`] puts it right.
//!
//! `synchronous=NORMAL` in WAL mode never corrupts; a power cut may lose the last transactions, and with them machines that a power
//! cut ends anyway. What a user would miss, `stopped` and everything it refers to, is followed by a checkpoint that syncs.

mod commands;
mod events;
mod layers;
mod machines;
mod network;
mod services;
mod shells;
mod snapshots;
mod tenure;
#[cfg(test)]
mod tenure_tests;
#[cfg(test)]
pub(crate) mod tests;
mod workspaces;

use std::{path::PathBuf, time::Duration};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

pub use self::{
    commands::{CommandEnd, CommandRecord},
    events::EventRecord,
    layers::{DiskRole, LayerRecord, LiveLayers},
    machines::{MachineRecord, MachineRole, MachineState, NewMachine},
    network::{NetworkPolicy, NetworkRules, OutsideRecord, SecretRecord, SecretSource},
    services::{
        CarriedProcesses, PortRecord, PortSpec, ReadinessProbe, RestartPolicy, SERVICES_MAX, ServiceRecord, ServiceSpec, ServiceState,
    },
    shells::ShellRecord,
    snapshots::{Carried, CarriedCommand, ResetTarget, SnapshotKind, SnapshotRecord},
    tenure::{Bereft, Tenure},
    workspaces::{NewWorkspace, OnExpire, SeedRecord, WorkspaceRecord, WorkspaceState},
};
use crate::{Dirs, MachineId, StoreError, StoreResult};

/// Newest format this build knows; see `migrate`.
const FORMAT: i64 = 5;
/// How long a writer waits for another one. Transactions take well under a millisecond; a machine with both cores busy and fifty
/// clients starting at once was seen to need two seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection to the registry.
#[derive(Debug)]
pub struct Registry {
    connection: Connection,
    path: PathBuf,
    /// The machine whose supervisor writes through this connection.
    acting: Option<MachineId>,
}

impl Registry {
    /// Opens the registry, making it and the folders around it when they are missing.
    ///
    /// # Errors
    /// The file cannot be opened, or a newer Pyro wrote it.
    pub fn open(dirs: &Dirs) -> StoreResult<Self> {
        let path = dirs.registry();
        if !path.exists() {
            dirs.create()?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|source| StoreError::Registry { path: path.clone(), source })?;
        let mut registry = Self { connection, path, acting: None };
        registry.prepare().or_else(|error| registry.fail(error))?;
        let found = registry.query(|connection| connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)))?;
        if found > FORMAT {
            return Err(StoreError::RegistryNewer { path: registry.path, found, known: FORMAT });
        }
        if found < FORMAT {
            registry.transaction(|transaction| migrate(transaction, dirs))?;
        }
        Ok(registry)
    }

    /// From now on writes for a machine's supervisor: what it enters for a workspace holds only while that is its own. A machine that was
    /// overtaken by a reset would otherwise enter its last commands into the workspace's new life.
    pub fn act_for(&mut self, machine: &MachineId) {
        self.acting = Some(machine.clone());
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        // The last process to close would merge and delete the log, and the next one would sync a new one before its first write: 5 to
        // 20 ms of every create on an idle host.
        self.connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        self.connection.pragma_update(None, "foreign_keys", "ON")
    }

    fn fail<T>(&self, source: rusqlite::Error) -> StoreResult<T> {
        Err(StoreError::Registry { path: self.path.clone(), source })
    }

    fn query<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> StoreResult<T> {
        work(&self.connection).or_else(|error| self.fail(error))
    }

    /// Runs `work` in one write transaction: all of it happens or nothing.
    fn transaction<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> StoreResult<T>) -> StoreResult<T> {
        let path = self.path.clone();
        let wrap = |source| StoreError::Registry { path: path.clone(), source };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrap)?;
        let result = work(&transaction)?;
        transaction.commit().map_err(wrap)?;
        Ok(result)
    }

    /// Syncs everything committed so far to the disk.
    ///
    /// # Errors
    /// The host's disk refuses.
    pub fn checkpoint(&self) -> StoreResult<()> {
        self.query(|connection| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
    }

    /// Returns a remembered fact about this host, or `None` when it was stored under another condition (say, another boot).
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn fact(&self, name: &str, condition: &str) -> StoreResult<Option<String>> {
        self.query(|connection| {
            let mut statement = connection.prepare_cached("SELECT value FROM facts WHERE name = ?1 AND condition = ?2")?;
            let mut rows = statement.query((name, condition))?;
            rows.next()?.map(|row| row.get(0)).transpose()
        })
    }

    /// Remembers a fact about this host for as long as `condition` holds.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn remember_fact(&self, name: &str, condition: &str, value: &str) -> StoreResult<()> {
        self.query(|connection| {
            connection
                .execute("INSERT OR REPLACE INTO facts (name, condition, value) VALUES (?1, ?2, ?3)", (name, condition, value))
                .map(drop)
        })
    }
}

/// Returns the wall clock in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Makes an error closure for statements inside a transaction.
fn sql(transaction: &Transaction<'_>) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
    let path = transaction.path().map(PathBuf::from).unwrap_or_default();
    move |source| StoreError::Registry { path: path.clone(), source }
}

fn migrate(transaction: &Transaction<'_>, dirs: &Dirs) -> StoreResult<()> {
    let error = sql(transaction);
    // Another process may have migrated between our look and our lock.
    let found = transaction.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).map_err(&error)?;
    let schemas = [
        include_str!("schema.sql"),
        include_str!("schema-2.sql"),
        include_str!("schema-3.sql"),
        include_str!("schema-4.sql"),
        include_str!("schema-5.sql"),
    ];
    for (format, schema) in (1..).zip(schemas) {
        if found < format {
            transaction.execute_batch(schema).map_err(&error)?;
        }
    }
    if (1..5).contains(&found) {
        machines::find_folders(transaction, dirs)?;
    }
    transaction.pragma_update(None, "user_version", found.max(FORMAT)).map_err(&error)
}
