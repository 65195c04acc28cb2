//! The thin lifecycle, for hosts that drive a VM by hand. A VM is a workspace: the same ids, seen with fewer words.

use pyro_image::EnvironmentName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CommandAnswer, GuestCommand, NetworkPolicy, OpenPort, WorkspaceCreate, WorkspaceDelete, WorkspaceDeleted, WorkspaceExec,
    WorkspaceStatus, operation::operation,
};
use crate::{
    limits::{MaxOutputBytes, MemMib, TimeoutSeconds, TtlSeconds, VcpuCount},
    text::{GuestPath, WorkspaceReference},
};

/// Create a VM and boot it
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmCreate {
    /// Environment to start from, for example `debian:12`; built first when it is not there
    #[schemars(with = "String")]
    pub environment: EnvironmentName,
    /// Virtual CPUs: 1 to the number of the host's
    #[serde(default)]
    pub vcpu_count: VcpuCount,
    /// Memory in MiB: 128 to 80 % of the host's
    #[serde(default)]
    pub mem_mib: MemMib,
    /// Idle time in seconds until it expires: 60 to 2592000
    #[serde(default = "TtlSeconds::workspace")]
    pub ttl_seconds: TtlSeconds,
    /// What the guest may reach, and what may reach it
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    pub network_policy: NetworkPolicy,
}

impl From<VmCreate> for WorkspaceCreate {
    fn from(request: VmCreate) -> Self {
        Self {
            vcpu_count: request.vcpu_count,
            mem_mib: request.mem_mib,
            ttl_seconds: request.ttl_seconds,
            network_policy: request.network_policy,
            ..Self::new(request.environment)
        }
    }
}

/// Boot a stopped VM; one that runs is left as it is
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmStart {
    /// VM: its name, its id, or the beginning of its id
    pub workspace: WorkspaceReference,
}

/// Run a command in a VM to its end
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmExec {
    /// VM: its name, its id, or the beginning of its id
    pub workspace: WorkspaceReference,
    /// Time the command has, in seconds: 1 to 86400
    #[serde(default)]
    pub timeout_seconds: TimeoutSeconds,
    /// The command: a list of arguments run as it is, or a string run by `sh -c`
    pub command: GuestCommand,
}

impl From<VmExec> for WorkspaceExec {
    fn from(request: VmExec) -> Self {
        Self {
            workspace: request.workspace,
            timeout_seconds: request.timeout_seconds,
            user: None,
            cwd: GuestPath::default(),
            env: Vec::new(),
            secret_env: Vec::new(),
            yield_after_ms: None,
            max_output_bytes: MaxOutputBytes::default(),
            command: request.command,
        }
    }
}

/// Shut a VM down; its disks stay
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmStop {
    /// VM: its name, its id, or the beginning of its id
    pub workspace: WorkspaceReference,
}

/// Delete a VM with its disks, whatever runs in it
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmDelete {
    /// VM: its name, its id, or the beginning of its id
    pub workspace: WorkspaceReference,
}

/// Show a VM's state and size
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmStatus {
    /// VM: its name, its id, or the beginning of its id
    pub workspace: WorkspaceReference,
}

/// Show what a VM may reach, and which of its ports are published
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmNetworkInfo {
    /// VM: its name, its id, or the beginning of its id
    pub workspace: WorkspaceReference,
}

/// A VM's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmNetwork {
    /// Its id
    pub workspace_id: String,
    /// What the guest may reach, and what may reach it
    pub network_policy: NetworkPolicy,
    /// Ports reachable from the host
    pub published_ports: Vec<OpenPort>,
}

/// Remove what is due now: expired VMs, and what crashed ones left
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmReapExpired {}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmReaped {
    /// Machines whose supervisor had died
    pub machine_count: u64,
    /// Workspaces whose time was over, or that were never finished
    pub workspace_count: u64,
    /// Disk layers freed
    pub layer_count: u64,
}

operation!(VmCreate => WorkspaceStatus, "vm_create", cli: [], python: Some("create_vm"), mcp: Some("vm_create"), Full, Changes, Counts,
    |request, pyro, observer| async { pyro.create_workspace(request.into(), observer).await?.status().await });
operation!(VmStart => WorkspaceStatus, "vm_start", cli: [], python: Some("start_vm"), mcp: Some("vm_start"), Full, Changes, Harmless,
    |request, pyro, observer| async { pyro.workspace(&request.workspace).await?.start(&[], observer).await });
operation!(VmExec => CommandAnswer, "vm_exec", cli: [], python: Some("exec_vm"), mcp: Some("vm_exec"), Full, Changes, Counts,
    |request, pyro, _observer| pyro.exec(request.into()));
operation!(VmStop => WorkspaceStatus, "vm_stop", cli: [], python: Some("stop_vm"), mcp: Some("vm_stop"), Full, Changes, Harmless,
    |request, pyro, observer| async { pyro.workspace(&request.workspace).await?.stop(observer).await });
operation!(VmDelete => WorkspaceDeleted, "vm_delete", cli: [], python: Some("delete_vm"), mcp: Some("vm_delete"), Full, Destroys, Harmless,
    |request, pyro, observer| pyro.delete_workspace(WorkspaceDelete { workspace: request.workspace, force: true }, observer));
operation!(VmStatus => WorkspaceStatus, "vm_status", cli: [], python: Some("status_vm"), mcp: Some("vm_status"), Full, Reads, Harmless,
    |request, pyro, _observer| async { pyro.workspace(&request.workspace).await?.status().await });
operation!(VmNetworkInfo => VmNetwork, "vm_network_info", cli: [], python: Some("network_info_vm"), mcp: Some("vm_network_info"), Full, Reads,
Harmless, |request, pyro, _observer| async {
    let status = pyro.workspace(&request.workspace).await?.status().await?;
    Ok(VmNetwork {
        workspace_id: status.workspace_id,
        network_policy: status.network_policy,
        published_ports: status.published_ports,
    })
});
operation!(VmReapExpired => VmReaped, "vm_reap_expired", cli: [], python: Some("reap_expired"), mcp: Some("vm_reap_expired"), Full, Destroys,
Harmless, |_request, pyro, _observer| async {
    let reaped = pyro.reap_now().await?;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Ok(VmReaped {
        machine_count: count(reaped.machines),
        workspace_count: count(reaped.workspaces),
        layer_count: count(reaped.layers),
    })
});
