//! Operations on environments.

use pyro_image::EnvironmentName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::operation;

/// List the environments and which of them are built
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct EnvironmentList {}

/// Build an environment, unless it is there
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct EnvironmentPull {
    /// Environment, for example `debian:12`
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(value_name = "ENV"))]
    pub environment: EnvironmentName,
    /// Build it again although it is there
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
}

/// Show what an environment is made of
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct EnvironmentInspect {
    /// Environment, for example `debian:12`
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(value_name = "ENV"))]
    pub environment: EnvironmentName,
}

/// Remove environments and remains of pulls that nothing uses
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct EnvironmentPrune {
    /// Also remove current environments that no workspace or machine uses, and downloaded packages
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub all: bool,
    /// Only say what would be removed
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub dry_run: bool,
}

/// An environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentAnswer {
    /// Its name
    pub environment: String,
    /// What is in it
    pub description: String,
    /// Whether it is built; what follows is absent when it is not
    pub available: bool,
    /// Digest of its content
    pub digest: Option<String>,
    /// When it was built
    pub created_at: Option<String>,
    /// What it takes on the host's disk
    pub size_bytes: Option<u64>,
    /// Bytes of the files in its root file system
    pub content_bytes: Option<u64>,
    /// Packages installed in it
    pub package_count: Option<u32>,
    /// Its kernel
    pub kernel_version: Option<String>,
    /// Folder of its files on the host
    pub folder: Option<String>,
    /// Workspaces made from this very content
    pub workspace_count: u64,
}

/// Environments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentListAnswer {
    /// In the catalog's order
    pub environments: Vec<EnvironmentAnswer>,
}

/// One thing that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrunedItem {
    /// `partial_pull`, `superseded_environment`, `unused_environment`, `packages`, `template`, `layer`, `workspace`, `machine`
    pub kind: String,
    /// Which one
    pub name: Option<String>,
    /// What it took on the host's disk
    pub size_bytes: u64,
}

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentPruneAnswer {
    /// Whether nothing was removed because only the answer was asked for
    pub dry_run: bool,
    /// The things
    pub removed: Vec<PrunedItem>,
    /// What they took in all
    pub freed_bytes: u64,
}

operation!(EnvironmentList => EnvironmentListAnswer, "list_environments", cli: ["env", "list"], python: Some("list_environments"),
    mcp: Some("vm_list_environments"), Full, Reads, Harmless, |_request, pyro, _observer| pyro.list_environments());
operation!(EnvironmentPull => EnvironmentAnswer, "pull_environment", cli: ["env", "pull"], python: Some("pull_environment"), mcp: None,
    None, Changes, Harmless, |request, pyro, observer| pyro.pull_environment(request, observer));
operation!(EnvironmentInspect => EnvironmentAnswer, "inspect_environment", cli: ["env", "inspect"], python: Some("inspect_environment"),
    mcp: None, None, Reads, Harmless, |request, pyro, _observer| pyro.inspect_environment(request.environment));
operation!(EnvironmentPrune => EnvironmentPruneAnswer, "prune_environments", cli: ["env", "prune"], python: Some("prune_environments"),
    mcp: None, None, Destroys, Harmless, |request, pyro, _observer| pyro.prune_environments(request));
