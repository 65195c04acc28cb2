//! Operations on the host: is it ready, make it ready, what takes space.

use pyro_image::EnvironmentName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PrunedItem, operation::operation};

fn default_environment() -> EnvironmentName {
    "debian:12".parse().expect("the catalog has it")
}

/// Build everything a first workspace needs, and prove it: create, run a command, delete
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// Environment
    #[serde(default = "default_environment")]
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(value_name = "ENV", default_value_t = default_environment()))]
    pub environment: EnvironmentName,
    /// Build the environment again although it is there
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
}

/// One measured step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// What was done
    pub name: String,
    /// How long it took
    pub duration_ms: f64,
}

/// What was prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrepareAnswer {
    /// Environment
    pub environment: String,
    /// Digest of its content
    pub digest: String,
    /// How guest instructions are executed: `kvm` or `tcg`
    pub accelerator: String,
    /// What was done, in order
    pub steps: Vec<Step>,
}

/// Check what works on this host, and say what mends the rest
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Doctor {
    /// Environment whose readiness is told
    #[serde(default = "default_environment")]
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "ENV", default_value_t = default_environment()))]
    pub environment: EnvironmentName,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CheckStatus {
    /// Nothing to do
    Ok,
    /// It works, with a drawback
    Warn,
    /// No workspace can run before this is mended
    Fail,
}

/// One check of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Stable name
    pub name: String,
    /// How it came out
    pub status: CheckStatus,
    /// What was found
    pub detail: String,
    /// The command that mends it
    pub fix: Option<String>,
}

/// How fast a first workspace would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Readiness {
    /// The environment is not built, or no template of it
    Cold,
    /// Environment and template are there
    Warm,
    /// They are there but were made with another QEMU or agent
    Stale,
}

/// What works on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorAnswer {
    /// Whether workspaces run here
    pub ready: bool,
    /// Version of Pyro
    pub version: String,
    /// Environment looked at
    pub environment: String,
    /// How fast a first workspace of it would be
    pub readiness: Readiness,
    /// How guest instructions will be executed: `kvm` or `tcg`
    pub accelerator: Option<String>,
    /// The checks
    pub checks: Vec<Check>,
}

/// Show what takes space and memory: environments, templates, disks, standby machines
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SystemDf {}

/// Something that takes space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskUseItem {
    /// `environment`, `template`, `layer`, `workspace_output`, `packages`, `standby`
    pub kind: String,
    /// Which one
    pub name: String,
    /// Who uses it: workspaces, machines, templates
    pub used_by: Vec<String>,
    /// Bytes on the host's disk
    pub size_bytes: u64,
    /// Whether more than one uses it, or could
    pub shared: bool,
}

/// What takes space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskUse {
    /// Everything, largest first
    pub items: Vec<DiskUseItem>,
    /// All of it
    pub total_bytes: u64,
    /// What a prune would free
    pub reclaimable_bytes: u64,
    /// Standby machines that wait
    pub standby_count: u64,
    /// Running machines, standby ones included
    pub machine_count: u64,
    /// Machines that run and that no workspace, list or registry knows; a prune ends them
    pub orphan_count: u64,
}

/// Remove what nothing uses: stale templates, loose layers, superseded environments
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct SystemPrune {
    /// Also end standby machines, and remove templates, environments and packages that no workspace uses
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub all: bool,
    /// Only say what would be removed
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub dry_run: bool,
}

/// What a prune removed, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemPruneAnswer {
    /// Whether nothing was removed because only the answer was asked for
    pub dry_run: bool,
    /// The things
    pub removed: Vec<PrunedItem>,
    /// What they took in all
    pub freed_bytes: u64,
}

operation!(Prepare => PrepareAnswer, "prepare", cli: ["prepare"], python: Some("prepare"), mcp: None, None, Changes, Harmless,
    |request, pyro, observer| pyro.prepare(request, observer));
operation!(Doctor => DoctorAnswer, "doctor", cli: ["doctor"], python: Some("doctor"), mcp: None, None, Reads, Harmless,
    |request, pyro, _observer| pyro.doctor(request));
operation!(SystemDf => DiskUse, "system_df", cli: ["system", "df"], python: Some("system_df"), mcp: None, None, Reads, Harmless,
    |_request, pyro, _observer| pyro.system_df());
operation!(SystemPrune => SystemPruneAnswer, "system_prune", cli: ["system", "prune"], python: Some("system_prune"), mcp: None, None,
    Destroys, Harmless, |request, pyro, _observer| pyro.system_prune(request));
