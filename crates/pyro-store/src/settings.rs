//! What a supervisor is told at its start. It reads no environment variable and no configuration file: the edge resolved both.

use serde::{Deserialize, Serialize};

use crate::{Dirs, LayerId, MachineId, Retention};

/// Resolved configuration, flags over environment over `config.toml` over defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Standby machines kept per recently used template; 0 turns them off.
    pub standby: u32,
    /// How long an unclaimed standby machine lives, in seconds.
    pub standby_ttl_seconds: u64,
    /// The QEMU binary.
    pub qemu: std::path::PathBuf,
    /// How much output the journal keeps.
    pub retention: Retention,
    /// How long a stopped workspace's disks are kept, in seconds.
    pub stopped_ttl_seconds: u64,
    /// Resolvers that guests' questions are forwarded to; empty are the host's own.
    #[serde(default)]
    pub resolvers: Vec<std::net::SocketAddr>,
    /// Certificate authorities to trust beside the host's, PEM: by guests with egress, and where secrets are sent to.
    #[serde(default)]
    pub certificates: Option<std::path::PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            standby: 1,
            standby_ttl_seconds: 600,
            qemu: "/usr/bin/qemu-system-x86_64".into(),
            retention: Retention::default(),
            stopped_ttl_seconds: 30 * 24 * 3600,
            resolvers: Vec::new(),
            certificates: None,
        }
    }
}

/// The argument of `pyro __supervise`, as JSON. Beside it a supervisor inherits two descriptors: see `pyro-host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorArguments {
    /// The machine's row in the registry.
    pub machine: MachineId,
    /// Pyro's folders.
    pub dirs: Dirs,
    /// Resolved configuration.
    pub settings: Settings,
    /// Set for a machine that goes on where a live snapshot was taken.
    #[serde(default)]
    pub resume: Option<Resume>,
}

/// Where a machine goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Name of the checkpoint's folder.
    pub checkpoint: String,
    /// What is below the machine's overlay of the disk of root changes.
    pub root_layer: LayerId,
    /// What is below the machine's overlay of `/workspace`.
    pub workspace_layer: LayerId,
}
