//! Operations on a workspace's life.

use std::{collections::BTreeMap, path::PathBuf};

use pyro_image::EnvironmentName;
use pyro_store::{LabelKey, WorkspaceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ExpireAction, NetworkPolicy, WorkspaceCreated, WorkspaceDeleted, WorkspaceList, WorkspaceState, WorkspaceStatus, operation::operation,
};
use crate::{
    limits::{DiskGib, MemMib, TtlSeconds, VcpuCount},
    secret_text::{file_map, literal_map},
    text::{Label, LiteralSecret, NetworkGroup, NetworkRule, SecretFile, SecretHeader, SecretHost, WorkspaceReference, label_map},
};

/// Create a workspace: a Linux machine that lives until it is deleted or expires
///
/// Returns when commands run in it. Work in `/workspace` and installed packages survive a stop.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceCreate {
    /// Environment to start from, for example `debian:12`; built first when it is not there
    #[schemars(with = "String")]
    #[cfg_attr(feature = "cli", arg(value_name = "ENV"))]
    pub environment: EnvironmentName,
    /// Name, unique among workspaces: 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "cli", arg(long))]
    pub name: Option<WorkspaceName>,
    /// Label to find it by, at most 32: key 1 to 63 of a-z 0-9 . _ / -, value at most 256 characters
    #[serde(default, with = "label_map")]
    #[schemars(with = "BTreeMap<String, String>")]
    #[cfg_attr(feature = "cli", arg(long = "label", value_name = "K=V"))]
    pub labels: Vec<Label>,
    /// Folder on the host, or a `.tar`, `.tar.gz`, `.tgz` or `.tar.zst`, whose content `/workspace` begins with. Of a Git checkout: tracked
    /// files, untracked ones that are not ignored, and `.git` without hooks and credentials
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH"))]
    pub seed_path: Option<PathBuf>,
    /// Take ignored files of a Git checkout, too
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, requires = "seed_path"))]
    pub seed_all: bool,
    /// Leave `.git` out
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, requires = "seed_path"))]
    pub no_git: bool,
    /// Fail when a file of the seed cannot be read, instead of leaving it out
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, requires = "seed_path"))]
    pub strict: bool,
    /// Virtual CPUs: 1 to the number of the host's
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub vcpu_count: VcpuCount,
    /// Memory in MiB: 128 to 80 % of the host's
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MIB", default_value_t))]
    pub mem_mib: MemMib,
    /// Size of `/workspace` in GiB, sparse: 1 to 256
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "GIB", default_value_t))]
    pub disk_gib: DiskGib,
    /// Room for installed packages in GiB, sparse: 1 to 256
    #[serde(default = "DiskGib::root")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "GIB", default_value_t = DiskGib::root()))]
    pub root_disk_gib: DiskGib,
    /// Idle time in seconds until it expires: 60 to 2592000. A running command, service or program in a shell holds it
    #[serde(default = "TtlSeconds::workspace")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS", default_value_t = TtlSeconds::workspace()))]
    pub ttl_seconds: TtlSeconds,
    /// What happens when it expires. The disks of a stopped one are kept for 30 days
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value = "stop"))]
    pub on_expire: ExpireAction,
    /// What the guest may reach, and what may reach it
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long, value_enum, default_value = "off"))]
    pub network_policy: NetworkPolicy,
    /// What it may reach, and nothing else: `api.example.com`, `*.example.org`, `203.0.113.7`, `10.0.0.0/8`, each with `:PORT`. Needs `egress`
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "allow-host", value_name = "RULE"))]
    pub allow_hosts: Vec<NetworkRule>,
    /// What it may not reach, whatever else says so
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "deny-host", value_name = "RULE"))]
    pub deny_hosts: Vec<NetworkRule>,
    /// Group of rules in `[network_groups]` of config.toml, allowed as with `--allow-host`
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "allow-group", value_name = "NAME"))]
    pub allow_groups: Vec<NetworkGroup>,
    /// Do not let the guest trust the certificate authorities that the host's administrator added
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_host_certificates: bool,
    /// Secret: `NAME=VALUE`, or `NAME` for the value of the variable of that name, which other users of this host cannot see. At most 64
    #[serde(default, with = "literal_map")]
    #[schemars(with = "BTreeMap<String, Option<String>>", extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "secret", value_name = "NAME[=VALUE]"))]
    pub secrets: Vec<LiteralSecret>,
    /// Secret that is the content of a file on the host, read whenever the workspace gets a machine
    #[serde(default, with = "file_map")]
    #[schemars(with = "BTreeMap<String, PathBuf>", extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "secret-file", value_name = "NAME=PATH"))]
    pub secret_files: Vec<SecretFile>,
    /// Host that the secret is sent to: it stays outside of the guest, which gets a placeholder that is replaced on the way to this host
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "secret-host", value_name = "[NAME=]HOST[:PORT]"))]
    pub secret_hosts: Vec<SecretHost>,
    /// Header in which it is sent there; `Authorization` by default
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "secret-header", value_name = "[NAME=]HEADER"))]
    pub secret_headers: Vec<SecretHeader>,
}

impl WorkspaceCreate {
    /// Asks for a workspace with the contract's defaults.
    #[must_use]
    pub fn new(environment: EnvironmentName) -> Self {
        Self {
            environment,
            name: None,
            labels: Vec::new(),
            seed_path: None,
            seed_all: false,
            no_git: false,
            strict: false,
            vcpu_count: VcpuCount::default(),
            mem_mib: MemMib::default(),
            disk_gib: DiskGib::default(),
            root_disk_gib: DiskGib::root(),
            ttl_seconds: TtlSeconds::workspace(),
            on_expire: ExpireAction::default(),
            network_policy: NetworkPolicy::default(),
            allow_hosts: Vec::new(),
            deny_hosts: Vec::new(),
            allow_groups: Vec::new(),
            no_host_certificates: false,
            secrets: Vec::new(),
            secret_files: Vec::new(),
            secret_hosts: Vec::new(),
            secret_headers: Vec::new(),
        }
    }
}

/// List workspaces, newest activity first
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceListRequest {
    /// Only those that have this label; several must all be there
    #[serde(default, with = "label_map")]
    #[schemars(with = "BTreeMap<String, String>")]
    #[cfg_attr(feature = "cli", arg(long = "label", value_name = "K=V"))]
    pub labels: Vec<Label>,
    /// Only those in this state
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum))]
    pub state: Option<WorkspaceState>,
}

/// Show a workspace: state, size, last command, expiry, memory and disk used
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceStatusRequest {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
}

/// Change a workspace's name, labels or idle time
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceUpdate {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// New name: 1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "cli", arg(long, conflicts_with = "clear_name"))]
    pub name: Option<WorkspaceName>,
    /// Take the name away
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub clear_name: bool,
    /// Label to set, at most 32 in all
    #[serde(default, with = "label_map")]
    #[schemars(with = "BTreeMap<String, String>")]
    #[cfg_attr(feature = "cli", arg(long = "label", value_name = "K=V"))]
    pub labels: Vec<Label>,
    /// Key of a label to take away
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    #[cfg_attr(feature = "cli", arg(long = "clear-label", value_name = "K"))]
    pub clear_labels: Vec<LabelKey>,
    /// New idle time in seconds: 60 to 2592000
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SECONDS"))]
    pub ttl_seconds: Option<TtlSeconds>,
}

/// Stop a workspace: processes end, `/workspace` and installed packages stay
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceStop {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
}

/// Start a stopped workspace with its disks as they were
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceStart {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Secret whose value nobody has any more: `NAME=VALUE`, or `NAME` for the value of the variable of that name
    #[serde(default, with = "literal_map")]
    #[schemars(with = "BTreeMap<String, Option<String>>", extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "secret", value_name = "NAME[=VALUE]"))]
    pub secrets: Vec<LiteralSecret>,
}

/// Delete a workspace: nothing of it is left on the host
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceDelete {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Delete it although a command, a service or a program in a shell is running in it
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub force: bool,
}

operation!(WorkspaceCreate => WorkspaceCreated, "workspace_create", cli: ["workspace", "create"], python: Some("create_workspace"),
    mcp: Some("workspace_create"), Core, Changes, Counts,
    |request, pyro, observer| pyro.create_and_describe(request, observer));
operation!(WorkspaceListRequest => WorkspaceList, "workspace_list", cli: ["workspace", "list"], python: Some("list_workspaces"),
    mcp: Some("workspace_list"), Core, Reads, Harmless, |request, pyro, _observer| pyro.list_workspaces(request));
operation!(WorkspaceStatusRequest => WorkspaceStatus, "workspace_status", cli: ["workspace", "status"], python: Some("workspace_status"),
    mcp: Some("workspace_status"), Core, Reads, Harmless,
    |request, pyro, _observer| async { pyro.workspace(&request.workspace).await?.status().await });
operation!(WorkspaceUpdate => WorkspaceStatus, "workspace_update", cli: ["workspace", "update"], python: Some("update_workspace"),
    mcp: Some("workspace_update"), Core, Changes, Harmless, |request, pyro, _observer| pyro.update_workspace(request));
operation!(WorkspaceStop => WorkspaceStatus, "workspace_stop", cli: ["workspace", "stop"], python: Some("stop_workspace"),
    mcp: Some("workspace_stop"), Full, Changes, Harmless,
    |request, pyro, observer| async { pyro.workspace(&request.workspace).await?.stop(observer).await });
operation!(WorkspaceStart => WorkspaceStatus, "workspace_start", cli: ["workspace", "start"], python: Some("start_workspace"),
    mcp: Some("workspace_start"), Full, Changes, Harmless,
    |request, pyro, observer| async { pyro.workspace(&request.workspace).await?.start(&request.secrets, observer).await });
operation!(WorkspaceDelete => WorkspaceDeleted, "workspace_delete", cli: ["workspace", "delete"], python: Some("delete_workspace"),
    mcp: Some("workspace_delete"), Core, Destroys, Harmless, |request, pyro, observer| pyro.delete_workspace(request, observer));
