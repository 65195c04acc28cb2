//! A workspace without a machine, for tests of what is read from the registry and from files.

use std::collections::BTreeMap;

use pyro_store::{
    Accelerator, Dirs, MachineId, MachineRole, MachineShape, NetworkPolicy, NewMachine, NewWorkspace, OnExpire, Registry, RingWriter,
    ServiceName, ServiceSpec, ShellRecord, WorkspaceId,
};

use crate::{Pyro, PyroOptions, Workspace, config::Configuration, text::WorkspaceReference};

/// How much of a stream is kept in these tests: the least there is.
const RING_BYTES: u64 = 1;

/// An installation with one workspace, called `api`, that is stopped.
pub(crate) struct Home {
    _folder: tempfile::TempDir,
    pub(crate) pyro: Pyro,
    pub(crate) workspace: Workspace,
    pub(crate) reference: WorkspaceReference,
}

impl Home {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = PyroOptions {
            dirs: Dirs::under(folder.path()),
            configuration: Configuration::default(),
            binary: folder.path().join("no-such-program"),
        };
        let pyro = Pyro::open(options).unwrap();
        let new = new_workspace();
        pyro.store(move |pyro, registry| {
            let tenure = registry.insert_workspace(&new)?;
            let machine = NewMachine { id: MachineId::random(), shape: shape(), role: MachineRole::Workspace, tenure: Some(tenure) };
            registry.insert_machine(&machine, &pyro.dirs().machines(), 0)?;
            registry.adopt(&machine.id, &new.id)?;
            registry.lose_machine(pyro.dirs(), &new.id, &machine.id, "for a test")?;
            Ok(registry.remove_machine(&machine.id)?)
        })
        .await
        .unwrap();
        let reference: WorkspaceReference = "api".parse().unwrap();
        let workspace = pyro.workspace(&reference).await.unwrap();
        Self { _folder: folder, pyro, workspace, reference }
    }

    /// Opens the registry as another process does.
    pub(crate) fn registry(&self) -> Registry {
        Registry::open(self.pyro.dirs()).unwrap()
    }

    /// Enters a shell that shows `output`; one with an exit code has ended.
    pub(crate) fn add_shell(&self, output: &[u8], exit_code: Option<i32>) -> u64 {
        let shell = ShellRecord {
            number: 0,
            command: String::new(),
            cwd: "/workspace".to_owned(),
            user: String::new(),
            columns: 80,
            rows: 24,
            opened_at_ms: 1,
            ended_at_ms: None,
            exit_code: None,
            end_reason: None,
        };
        let (mut registry, id) = (self.registry(), self.workspace.id());
        let number = registry.open_shell(id, &shell).unwrap();
        let mut ring = RingWriter::open(&pyro_store::shell_ring(self.pyro.dirs(), id, number), RING_BYTES).unwrap();
        ring.note_size(80, 24).unwrap();
        ring.write(output).unwrap();
        if exit_code.is_some() {
            registry.end_shell(id, number, exit_code, None).unwrap();
        }
        number
    }

    /// Enters a service that is being started, and returns what writes its log.
    pub(crate) fn add_service(&self, name: &str) -> RingWriter {
        let name: ServiceName = name.parse().unwrap();
        let spec = ServiceSpec {
            secret_env: Vec::new(),
            argv: vec!["serve".to_owned()],
            cwd: "/workspace".to_owned(),
            user: String::new(),
            env: Vec::new(),
            probe: None,
            ready_timeout_ms: 30_000,
            ready_interval_ms: 500,
            restart: pyro_store::RestartPolicy::Never,
            publish: Vec::new(),
        };
        self.registry().begin_service(self.workspace.id(), &name, &spec).unwrap();
        RingWriter::open(&pyro_store::service_ring(self.pyro.dirs(), self.workspace.id(), &name), RING_BYTES).unwrap()
    }

    pub(crate) fn end_service(&self, name: &str, exit_code: i32) {
        let mut registry = self.registry();
        let id = self.workspace.id();
        let mut service = registry.service(id, &name.parse().unwrap()).unwrap();
        service.state = pyro_store::ServiceState::Failed;
        service.exit_code = Some(exit_code);
        registry.put_service(id, &service, "service_end", &serde_json::json!({ "service_name": name })).unwrap();
    }
}

fn new_workspace() -> NewWorkspace {
    NewWorkspace {
        id: WorkspaceId::random(),
        name: Some("api".parse().unwrap()),
        labels: BTreeMap::new(),
        environment: "debian:12".to_owned(),
        shape: shape(),
        disk_gib: 1,
        root_disk_gib: 1,
        ttl_seconds: 600,
        on_expire: OnExpire::Stop,
        one_shot: false,
        seed: None,
        baseline_layer: None,
        root_layer: None,
        workspace_layer: None,
        new_layer: None,
        network_policy: NetworkPolicy::Off,
        network_rules: pyro_store::NetworkRules::default(),
        secrets: Vec::new(),
        forked_from: None,
    }
}

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
