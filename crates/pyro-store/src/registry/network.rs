//! What a workspace may reach: its policy, its rules, the names of its secrets, and the newest entry of its network log.

use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Registry, events, sql, workspaces::to_json};
use crate::{ChainEnd, StoreError, StoreResult, WorkspaceId};

/// What a guest may reach, and what may reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkPolicy {
    /// Nothing: it has no network card, and no port of it is published.
    #[default]
    Off,
    /// It has a network card, behind which its rules stand.
    Egress,
    /// Both.
    #[serde(rename = "egress+published-ports")]
    EgressAndPublishedPorts,
    /// Ports of it can be published on the host's loopback. It has no network card.
    PublishedPorts,
}

impl NetworkPolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Off, Self::Egress, Self::EgressAndPublishedPorts, Self::PublishedPorts];

    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Egress => "egress",
            Self::EgressAndPublishedPorts => "egress+published-ports",
            Self::PublishedPorts => "published-ports",
        }
    }

    /// Returns the policy with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == name)
    }

    /// Tells whether the guest has a network card.
    #[must_use]
    pub const fn has_egress(self) -> bool {
        matches!(self, Self::Egress | Self::EgressAndPublishedPorts)
    }

    /// Tells whether ports can be published.
    #[must_use]
    pub const fn has_published_ports(self) -> bool {
        matches!(self, Self::PublishedPorts | Self::EgressAndPublishedPorts)
    }
}

/// What of the outside a guest with a network card may reach. The rules are text; who enters them has checked them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkRules {
    /// Whether only what an allow rule names may be reached.
    pub only_allowed: bool,
    /// What may be reached.
    pub allow: Vec<String>,
    /// What may not, whatever else says so.
    pub deny: Vec<String>,
    /// Whether the guest trusts the certificate authorities that the host's administrator added.
    pub host_certificates: bool,
}

/// Where the value of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// It was said at create. Only the supervisor has it.
    Literal,
    /// A file of the host, read whenever the workspace gets a machine.
    File(std::path::PathBuf),
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub source: SecretSource,
    /// How it is used where its value stays on the host; `None` for one that is handed to commands.
    #[serde(flatten)]
    pub outside: Option<OutsideRecord>,
}

/// How a secret is used that does not enter the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideRecord {
    /// The hosts it is sent to, as rules; at least one.
    pub hosts: Vec<String>,
    /// The header of requests to them in which it stands.
    pub header: String,
    /// What the guest has instead of the value. A copy has the same, since its processes know it.
    pub placeholder: String,
}

impl Registry {
    /// Changes a workspace's rules and enters the change as an event; nothing is changed when `change` refuses.
    ///
    /// # Errors
    /// The workspace is gone.
    pub fn change_network_rules<R>(
        &mut self,
        id: &WorkspaceId,
        detail: &Value,
        change: impl FnOnce(NetworkRules) -> Result<NetworkRules, R>,
    ) -> StoreResult<Result<(), R>> {
        self.transaction(|transaction| {
            let gone = || StoreError::WorkspaceNotFound { reference: id.to_string() };
            let rules: Option<String> = transaction
                .query_row("SELECT network_rules FROM workspaces WHERE id = ?1", [id.as_str()], |row| row.get(0))
                .optional()
                .map_err(sql(transaction))?
                .ok_or_else(gone)?;
            let corrupt = |value: String| move |_| StoreError::Corrupt { what: "network rules", value };
            let rules = rules.map(|text| serde_json::from_str(&text).map_err(corrupt(text.clone()))).transpose()?;
            let rules = match change(rules.unwrap_or_default()) {
                Ok(rules) => rules,
                Err(refusal) => return Ok(Err(refusal)),
            };
            transaction
                .execute("UPDATE workspaces SET network_rules = ?2 WHERE id = ?1", (id.as_str(), to_json(&rules)))
                .map_err(sql(transaction))?;
            events::insert(transaction, id, "network_rules", detail).map(Ok)
        })
    }

    /// Records the newest entry of a workspace's network log, and enters events of what is new in it.
    ///
    /// # Errors
    /// The workspace is gone.
    pub fn note_network(&mut self, id: &WorkspaceId, newest: &ChainEnd, happened: &[(&str, Value)]) -> StoreResult<()> {
        self.transaction(|transaction| {
            // Two writers may note in another order than they wrote.
            transaction
                .execute(
                    "UPDATE workspaces SET network_log_sequence = ?2, network_log_hash = ?3 WHERE id = ?1 AND network_log_sequence < ?2",
                    (id.as_str(), newest.sequence, &newest.hash),
                )
                .map_err(sql(transaction))?;
            happened.iter().try_for_each(|(kind, detail)| events::insert(transaction, id, kind, detail))
        })
    }

    /// Returns the newest entry of a workspace's network log that was noted.
    ///
    /// # Errors
    /// The workspace is gone.
    pub fn network_log_end(&self, id: &WorkspaceId) -> StoreResult<ChainEnd> {
        self.query(|connection| {
            connection.query_row("SELECT network_log_sequence, network_log_hash FROM workspaces WHERE id = ?1", [id.as_str()], |row| {
                Ok(ChainEnd { sequence: row.get(0)?, hash: row.get(1)? })
            })
        })
    }
}
