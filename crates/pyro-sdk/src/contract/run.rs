//! The one-shot operation.

use std::path::PathBuf;

use pyro_image::EnvironmentName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommandAnswer, GuestCommand, operation::operation};
use crate::{
    limits::{DiskGib, MaxOutputBytes, MemMib, TimeoutSeconds, TtlSeconds, VcpuCount},
    text::{NetworkGroup, NetworkRule},
};

/// Run one command in a fresh microVM that is gone afterwards
///
/// The command runs as root in `/workspace`. Its exit code is the exit code; nothing it did is kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct VmRun {
    /// Environment to start from, for example `debian:12`
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(value_name = "ENV"))]
    pub environment: EnvironmentName,
    /// Folder on the host, or a `.tar`, `.tar.gz`, `.tgz` or `.tar.zst`, whose content `/workspace` begins with
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    pub seed_path: Option<PathBuf>,
    /// Virtual CPUs: 1 to the number of the host's
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub vcpu_count: VcpuCount,
    /// Memory in MiB: 128 to 80 % of the host's
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MIB", default_value_t))]
    pub mem_mib: MemMib,
    /// Room for installed packages in GiB, sparse: 1 to 256
    #[serde(default = "DiskGib::root")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "GIB", default_value_t = DiskGib::root()))]
    pub root_disk_gib: DiskGib,
    /// Time the command has, in seconds: 1 to 86400. On the command line 0 means no limit
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS", default_value_t))]
    pub timeout_seconds: TimeoutSeconds,
    /// Idle time in seconds after which the machine is removed even if nobody asks for its end: 60 to 2592000
    #[serde(default = "TtlSeconds::one_shot")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS", default_value_t = TtlSeconds::one_shot()))]
    pub ttl_seconds: TtlSeconds,
    /// Let the command reach the outside
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long))]
    pub network: bool,
    /// What it may reach, and nothing else: `api.example.com`, `*.example.org`, `203.0.113.7`, each with `:PORT`. Needs `--network`
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "allow-host", value_name = "RULE", requires = "network"))]
    pub allow_hosts: Vec<NetworkRule>,
    /// Group of rules in `[network_groups]` of config.toml, allowed as with `--allow-host`
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "allow-group", value_name = "NAME", requires = "network"))]
    pub allow_groups: Vec<NetworkGroup>,
    /// Run the command on the host, in a fresh temporary folder, when no guest can be started. Nothing contains it there
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub allow_host_compat: bool,
    /// Output an answer carries, head and tail, in bytes: 1 to 1048576. Streamed output is never cut
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTES", default_value_t))]
    pub max_output_bytes: MaxOutputBytes,
    /// The command: a list of arguments run as it is, or a string run by `sh -c`
    #[cfg_attr(feature = "cli", command(flatten))]
    pub command: GuestCommand,
}

operation!(VmRun => CommandAnswer, "vm_run", cli: ["run"], python: Some("run_in_vm"), mcp: Some("vm_run"), Run, Changes, Counts,
    |request, pyro, observer| pyro.run(request, observer));
