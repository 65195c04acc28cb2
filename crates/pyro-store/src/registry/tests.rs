//! What tests of the store need to have in a registry.

use std::collections::BTreeMap;

use super::{NetworkPolicy, NetworkRules, NewWorkspace, OnExpire};
use crate::{Accelerator, MachineShape, WorkspaceId};

pub(crate) fn shape() -> MachineShape {
    MachineShape {
        environment_digest: String::new(),
        vcpu_count: 1,
        mem_mib: 512,
        network_card: false,
        accelerator: Accelerator::Tcg,
        agent_digest: String::new(),
        qemu_identity: String::new(),
        command_line_generation: 0,
    }
}

pub(crate) fn new_workspace() -> NewWorkspace {
    NewWorkspace {
        id: WorkspaceId::random(),
        name: None,
        labels: BTreeMap::new(),
        environment: "debian:12".to_owned(),
        shape: shape(),
        disk_gib: 1,
        root_disk_gib: 1,
        ttl_seconds: 600,
        on_expire: OnExpire::Stop,
        one_shot: false,
        seed: None,
        new_layer: None,
        baseline_layer: None,
        root_layer: None,
        workspace_layer: None,
        network_policy: NetworkPolicy::Off,
        network_rules: NetworkRules::default(),
        secrets: Vec::new(),
        forked_from: None,
    }
}
