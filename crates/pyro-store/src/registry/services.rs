//! Rows of services and of published ports.
//!
//! A service's states, all written by its workspace's supervisor (a client that finds a dead one writes `stopped`):
//!
//! ```text
//!            started        probe succeeds
//! starting ──────────▶ (no probe, or its time is over) running ──▶ ready
//!    ▲   └──────────────────────────────────────────────────────────▲
//!    └── restart on failure ◀─┐
//!  any of them ── exit 0 ──▶ exited,  exit ≠ 0, not startable ──▶ failed,  asked to end, machine gone ──▶ stopped
//! ```

use rusqlite::{OptionalExtension as _, Row, Transaction};
use serde::{Deserialize, Serialize};

use super::{
    Registry, events, now_ms,
    shells::{self, Numbered, ShellRecord},
    sql,
    tenure::{ensure_acting, is_acting},
    workspaces::{parse, to_json},
};
use crate::{ServiceName, StoreError, StoreResult, WorkspaceId};

/// Most services of a workspace: with the cap of each one's log this bounds what they take on disk.
pub const SERVICES_MAX: u64 = 32;

/// How it is found out that a service can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessProbe {
    /// A path is there: absolute, in the guest.
    File(String),
    /// A connection is accepted.
    Tcp {
        /// As the guest resolves it; empty is its loopback.
        host: String,
        /// Port in the guest.
        port: u16,
    },
    /// A `GET` is answered with a status of 200 to 399.
    Http {
        /// As the guest resolves it.
        host: String,
        /// Port in the guest.
        port: u16,
        /// Path and query.
        target: String,
        /// The whole URL, as it was given.
        url: String,
    },
    /// A shell line exits with 0.
    Command(String),
}

/// What happens when a service fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    Never,
    /// It is started again, later and later.
    OnFailure,
}

/// A port to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// In the guest.
    pub guest_port: u16,
    /// On the host; `None` takes a free one.
    pub host_port: Option<u16>,
}

/// What a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The argument list.
    pub argv: Vec<String>,
    /// Absolute path in the guest.
    pub cwd: String,
    /// Whose it is; empty is root.
    pub user: String,
    /// Variables beside those a login has.
    pub env: Vec<(String, String)>,
    /// Secrets it gets as variables: the secret's name, the variable's.
    #[serde(default)]
    pub secret_env: Vec<(String, String)>,
    /// How it is found out that it can be used.
    pub probe: Option<ReadinessProbe>,
    /// How long it may take to become ready, in milliseconds.
    pub ready_timeout_ms: u64,
    /// How long between two probes, in milliseconds.
    pub ready_interval_ms: u64,
    /// What happens when it fails.
    pub restart: RestartPolicy,
    /// Ports that live and die with it.
    pub publish: Vec<PortSpec>,
}

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Its process is being started, or started again, or its probe has not succeeded yet.
    Starting,
    /// It runs; it has no probe, or its time to become ready is over.
    Running,
    /// Its probe has succeeded.
    Ready,
    /// It ended by itself with 0.
    Exited,
    /// It ended by itself with something else, or could not be started.
    Failed,
    /// It was ended.
    Stopped,
}

impl ServiceState {
    /// Every state.
    pub const ALL: [Self; 6] = [Self::Starting, Self::Running, Self::Ready, Self::Exited, Self::Failed, Self::Stopped];

    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Tells whether something of it may run.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Ready => true,
            Self::Exited | Self::Failed | Self::Stopped => false,
        }
    }
}

/// A service of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Its name, unique in its workspace.
    pub name: ServiceName,
    /// Number of its newest start, which the guest knows it by.
    pub number: u64,
    /// What it is.
    pub spec: ServiceSpec,
    /// Where it is in its life.
    pub state: ServiceState,
    /// Its first process in the guest.
    pub pid: Option<u32>,
    /// Milliseconds since 1970.
    pub started_at_ms: i64,
    /// Milliseconds since 1970.
    pub ready_at_ms: Option<i64>,
    /// Milliseconds since 1970.
    pub ended_at_ms: Option<i64>,
    /// As a shell reports it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it is not running, or not ready.
    pub stop_reason: Option<String>,
    /// How often it was started again.
    pub restart_count: u64,
}

/// A port of the guest that is reachable on the host's 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRecord {
    /// On the host.
    pub host_port: u16,
    /// In the guest.
    pub guest_port: u16,
    /// Whether the host's port was asked for by number.
    pub fixed: bool,
    /// The service it lives and dies with; `None` is the machine.
    pub service: Option<ServiceName>,
}

/// What goes on in a machine that is frozen with it, beside commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedProcesses {
    /// Whose they were: a copy is another workspace.
    pub workspace: Option<WorkspaceId>,
    /// Shells that run.
    pub shells: Vec<ShellRecord>,
    /// Services that run.
    pub services: Vec<ServiceRecord>,
    /// Ports, each with the host's port it had.
    pub ports: Vec<PortRecord>,
    /// Where the output of each had come to, by the name of its ring.
    pub cursors: std::collections::BTreeMap<String, u64>,
}

const COLUMNS: &str = "name, number, spec, state, pid, started_at, ready_at, ended_at, exit_code, signal, stop_reason, restart_count";

fn record(row: &Row<'_>) -> rusqlite::Result<ServiceRecord> {
    let state: String = row.get(3)?;
    Ok(ServiceRecord {
        name: parse(row, 0, ServiceName::try_from)?,
        number: row.get(1)?,
        spec: parse(row, 2, |text| serde_json::from_str(&text))?,
        state: ServiceState::ALL.into_iter().find(|known| known.as_str() == state).ok_or(rusqlite::Error::InvalidQuery)?,
        pid: row.get(4)?,
        started_at_ms: row.get(5)?,
        ready_at_ms: row.get(6)?,
        ended_at_ms: row.get(7)?,
        exit_code: row.get(8)?,
        signal: row.get(9)?,
        stop_reason: row.get(10)?,
        restart_count: row.get(11)?,
    })
}

fn port_record(row: &Row<'_>) -> rusqlite::Result<PortRecord> {
    let service: String = row.get(3)?;
    Ok(PortRecord {
        host_port: row.get(0)?,
        guest_port: row.get(1)?,
        fixed: row.get(2)?,
        service: if service.is_empty() { None } else { Some(parse(row, 3, ServiceName::try_from)?) },
    })
}

fn put(transaction: &Transaction<'_>, workspace: &WorkspaceId, service: &ServiceRecord) -> StoreResult<()> {
    transaction
        .execute(
            &format!(
                "INSERT OR REPLACE INTO services (workspace, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
            ),
            rusqlite::params![
                workspace.as_str(),
                service.name.as_str(),
                service.number,
                to_json(&service.spec),
                service.state.as_str(),
                service.pid,
                service.started_at_ms,
                service.ready_at_ms,
                service.ended_at_ms,
                service.exit_code,
                service.signal,
                service.stop_reason,
                service.restart_count
            ],
        )
        .map(drop)
        .map_err(sql(transaction))
}

/// Ends what ran in a machine that is gone: shells, services, published ports.
pub(super) fn end_lost(transaction: &Transaction<'_>, workspace: &WorkspaceId, reason: &str) -> StoreResult<()> {
    shells::end_lost(transaction, workspace, reason)?;
    let error = sql(transaction);
    transaction
        .execute(
            "UPDATE services SET state = 'stopped', pid = NULL, ended_at = ?2, stop_reason = ?3 WHERE workspace = ?1 AND state IN ('starting', 'running', 'ready')",
            (workspace.as_str(), now_ms(), reason),
        )
        .map_err(&error)?;
    transaction.execute("DELETE FROM ports WHERE workspace = ?1", [workspace.as_str()]).map(drop).map_err(&error)
}

/// Forgets shells, services and ports, as a reset does.
pub(super) fn forget(transaction: &Transaction<'_>, workspace: &WorkspaceId) -> StoreResult<()> {
    for table in ["shells", "services", "ports"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE workspace = ?1"), [workspace.as_str()]).map_err(sql(transaction))?;
    }
    Ok(())
}

/// Enters what goes on in a workspace made from a live snapshot. Its ports are published anew by its supervisor.
pub(super) fn carry(transaction: &Transaction<'_>, workspace: &WorkspaceId, carried: &CarriedProcesses) -> StoreResult<()> {
    for shell in &carried.shells {
        shells::insert(transaction, workspace, shell)?;
    }
    for service in &carried.services {
        put(transaction, workspace, service)?;
    }
    // The guest knows what goes on by its number, so nothing new may get it.
    for (numbered, newest) in [
        (Numbered::Shells, carried.shells.iter().map(|shell| shell.number).max()),
        (Numbered::ServiceStarts, carried.services.iter().map(|service| service.number).max()),
    ] {
        let column = numbered.column();
        transaction
            .execute(
                &format!("UPDATE workspaces SET {column} = max({column}, ?2) WHERE id = ?1"),
                rusqlite::params![workspace.as_str(), newest.unwrap_or(0)],
            )
            .map_err(sql(transaction))?;
    }
    Ok(())
}

impl Registry {
    /// Enters a service that is about to be started, in place of one of its name that has ended. Counts as activity. Where there are as many
    /// as there may be, the one that ended first is forgotten and returned, too: its log goes.
    ///
    /// # Errors
    /// One of its name runs, or there are too many that run.
    pub fn begin_service(
        &mut self,
        workspace: &WorkspaceId,
        name: &ServiceName,
        spec: &ServiceSpec,
    ) -> StoreResult<(ServiceRecord, Option<ServiceName>)> {
        let acting = self.acting.clone();
        self.transaction(|transaction| {
            ensure_acting(transaction, acting.as_ref(), workspace)?;
            let error = sql(transaction);
            let (others, alive): (u64, bool) = transaction
                .query_row(
                    "SELECT count(*) FILTER (WHERE name <> ?2), coalesce(max(name = ?2 AND state IN ('starting', 'running', 'ready')), 0) \
                     FROM services WHERE workspace = ?1",
                    (workspace.as_str(), name.as_str()),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .map_err(&error)?;
            if alive {
                return Err(StoreError::ServiceRuns { workspace: workspace.to_string(), name: name.to_string() });
            }
            let mut forgotten = None;
            if others >= SERVICES_MAX {
                forgotten = transaction
                    .query_row(
                        "DELETE FROM services WHERE workspace = ?1 AND name = (SELECT name FROM services WHERE workspace = ?1 AND name <> ?2 \
                         AND state NOT IN ('starting', 'running', 'ready') ORDER BY ended_at, name LIMIT 1) RETURNING name",
                        (workspace.as_str(), name.as_str()),
                        |row| parse(row, 0, ServiceName::try_from),
                    )
                    .optional()
                    .map_err(&error)?;
                if forgotten.is_none() {
                    return Err(StoreError::TooManyServices { workspace: workspace.to_string(), maximum: SERVICES_MAX });
                }
            }
            let service = ServiceRecord {
                name: name.clone(),
                number: shells::next_number(transaction, workspace, Numbered::ServiceStarts)?,
                spec: spec.clone(),
                state: ServiceState::Starting,
                pid: None,
                started_at_ms: now_ms(),
                ready_at_ms: None,
                ended_at_ms: None,
                exit_code: None,
                signal: None,
                stop_reason: None,
                restart_count: 0,
            };
            put(transaction, workspace, &service)?;
            let detail = serde_json::json!({ "service_name": name.as_str(), "command": spec.argv });
            events::insert(transaction, workspace, "service_start", &detail)?;
            shells::touch(transaction, workspace)?;
            Ok((service, forgotten))
        })
    }

    /// Gives a service that is started again another number, which it returns.
    ///
    /// # Errors
    /// The workspace has no such service any more: it was reset.
    pub fn renumber_service(&mut self, workspace: &WorkspaceId, service: &ServiceRecord) -> StoreResult<u64> {
        self.transaction(|transaction| {
            let number = shells::next_number(transaction, workspace, Numbered::ServiceStarts)?;
            let changed = transaction
                .execute(
                    "UPDATE services SET number = ?4 WHERE workspace = ?1 AND name = ?2 AND number = ?3",
                    rusqlite::params![workspace.as_str(), service.name.as_str(), service.number, number],
                )
                .map_err(sql(transaction))?;
            if changed == 0 {
                return Err(StoreError::ServiceNotFound { workspace: workspace.to_string(), name: service.name.to_string() });
            }
            Ok(number)
        })
    }

    /// Enters what has become of a service, and tells it as an event. Its end counts as activity: the idle time begins there.
    ///
    /// Without effect once the workspace was reset, or another start has taken the name: the supervisor of a machine that has lost its
    /// workspace must not write into what came after it.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn put_service(
        &mut self,
        workspace: &WorkspaceId,
        service: &ServiceRecord,
        event: &str,
        detail: &serde_json::Value,
    ) -> StoreResult<()> {
        self.transaction(|transaction| {
            let known: bool = transaction
                .query_row(
                    "SELECT EXISTS (SELECT 1 FROM services WHERE workspace = ?1 AND name = ?2 AND number = ?3)",
                    rusqlite::params![workspace.as_str(), service.name.as_str(), service.number],
                    |row| row.get(0),
                )
                .map_err(sql(transaction))?;
            if !known {
                return Ok(());
            }
            put(transaction, workspace, service)?;
            events::insert(transaction, workspace, event, detail)?;
            if service.state.is_alive() { Ok(()) } else { shells::touch(transaction, workspace) }
        })
    }

    /// Returns a service.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn service(&self, workspace: &WorkspaceId, name: &ServiceName) -> StoreResult<ServiceRecord> {
        self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM services WHERE workspace = ?1 AND name = ?2"))?
                .query_row((workspace.as_str(), name.as_str()), record)
                .optional()
        })?
        .ok_or_else(|| StoreError::ServiceNotFound { workspace: workspace.to_string(), name: name.to_string() })
    }

    /// Returns every service, by name.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn services(&self, workspace: &WorkspaceId) -> StoreResult<Vec<ServiceRecord>> {
        self.query(|connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM services WHERE workspace = ?1 ORDER BY name"))?
                .query_map([workspace.as_str()], record)?
                .collect()
        })
    }

    /// Enters a port that is reachable now. Counts as activity.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn insert_port(&mut self, workspace: &WorkspaceId, port: &PortRecord) -> StoreResult<()> {
        let acting = self.acting.clone();
        self.transaction(|transaction| {
            ensure_acting(transaction, acting.as_ref(), workspace)?;
            let service = port.service.as_ref().map_or("", ServiceName::as_str);
            transaction
                .execute(
                    "INSERT OR REPLACE INTO ports (workspace, host_port, guest_port, fixed, service) VALUES (?1, ?2, ?3, ?4, ?5)",
                    rusqlite::params![workspace.as_str(), port.host_port, port.guest_port, port.fixed, service],
                )
                .map_err(sql(transaction))?;
            events::insert(transaction, workspace, "port_publish", &port_detail(port))?;
            shells::touch(transaction, workspace)
        })
    }

    /// Forgets a port that is not reachable any more. Without effect once the workspace was reset: its number may be another machine's.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn remove_port(&mut self, workspace: &WorkspaceId, port: &PortRecord) -> StoreResult<()> {
        let acting = self.acting.clone();
        self.transaction(|transaction| {
            if !is_acting(transaction, acting.as_ref(), workspace)? {
                return Ok(());
            }
            transaction
                .execute("DELETE FROM ports WHERE workspace = ?1 AND host_port = ?2", (workspace.as_str(), port.host_port))
                .map_err(sql(transaction))?;
            events::insert(transaction, workspace, "port_unpublish", &port_detail(port))
        })
    }

    /// Returns every published port, by its port in the guest.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn ports(&self, workspace: &WorkspaceId) -> StoreResult<Vec<PortRecord>> {
        self.query(|connection| {
            connection
                .prepare_cached(
                    "SELECT host_port, guest_port, fixed, service FROM ports WHERE workspace = ?1 ORDER BY guest_port, host_port",
                )?
                .query_map([workspace.as_str()], port_record)?
                .collect()
        })
    }
}

fn port_detail(port: &PortRecord) -> serde_json::Value {
    serde_json::json!({ "guest_port": port.guest_port, "host_port": port.host_port, "service_name": port.service })
}
