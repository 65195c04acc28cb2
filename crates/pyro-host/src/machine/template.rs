//! Templates: a guest booted once, frozen with its agent waiting, restored as often as wanted.
//!
//! A template is two files under a key that names everything it depends on: `memory`, sparse, and `state`, QEMU's device state. Whoever
//! needs one that is not there builds it under a lock; the others wait for the lock and find it. It is written into a working folder and
//! renamed, so a folder under its key is whole.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    os::unix::net::UnixStream as StdUnixStream,
    path::PathBuf,
    time::Duration,
};

use pyro_image::{Environment, Environments};
use pyro_store::{Dirs, FileLock, LayerRecord, MachineShape, Settings};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Machine, Ports,
    command_line::{Disk, Origin},
    disks::{self, Own},
    memory::{self, SealedMemory, TemplateMemory},
    pages,
    process::Inheritance,
};
use crate::{
    agent::{self, Agent},
    error::{Doing as _, HostError, HostResult},
};

/// Booting takes 2–5 s under TCG on an idle machine, and ten times that was seen with both cores busy.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);
/// What the first commands of a workspace are made of; read into the template's page cache once.
const FIRST_PROGRAMS: [&str; 4] = ["/usr/bin/true", "/bin/sh", "/usr/bin/git", "/usr/bin/python3"];
/// Format of `template.json`.
const FORMAT: u32 = 1;

/// A frozen guest, ready to be copied.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) memory: TemplateMemory,
    pub(crate) state: Vec<u8>,
}

/// What is stored beside memory and state, for people and for `system df`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format_version: u32,
    shape: MachineShape,
    environment: String,
    created_at_ms: u64,
    boot_ms: u64,
}

/// Returns the environment a shape was made from.
pub(crate) fn environment(dirs: &Dirs, shape: &MachineShape) -> HostResult<Environment> {
    let digest =
        shape.environment_digest.parse().map_err(|_| HostError::EnvironmentMissing { digest: shape.environment_digest.clone() })?;
    Environments::open(&dirs.data, &dirs.cache)
        .and_then(|environments| environments.by_digest(&digest))
        .map_err(|source| HostError::Environment { source })?
        .ok_or_else(|| HostError::EnvironmentMissing { digest: shape.environment_digest.clone() })
}

/// Loads the template of this shape, building it when it is missing. `tell` hears of what takes long.
pub(crate) async fn obtain(
    dirs: &Dirs,
    settings: &Settings,
    shape: &MachineShape,
    user_slot: u32,
    in_use: &(dyn Fn(&str) -> bool + Sync),
    tell: &(dyn Fn(&str) + Sync),
) -> HostResult<Template> {
    if let Some(template) = load(dirs, shape)? {
        return Ok(template);
    }
    let lock_path = dirs.templates().join(format!("{}.lock", shape.key()));
    let _lock = match FileLock::try_acquire(&lock_path)? {
        Some(lock) => lock,
        None => {
            tell("template: waiting for the process that builds it");
            tokio::task::spawn_blocking(move || FileLock::acquire(&lock_path))
                .await
                .map_err(|error| HostError::File { operation: "wait for a lock", source: error.into() })??
        }
    };
    if let Some(template) = load(dirs, shape)? {
        return Ok(template);
    }
    tell("template: booting the guest once");
    let template = build(dirs, settings, shape, user_slot).await?;
    prune_stale(dirs, shape, in_use);
    Ok(template)
}

/// Removes templates that no machine of today's QEMU, agent and Pyro can be made from and that no live machine came from. Failing to
/// remove one is no reason to fail: the next build tries again, and `system prune` reports it.
fn prune_stale(dirs: &Dirs, shape: &MachineShape, in_use: &(dyn Fn(&str) -> bool + Sync)) {
    for folder in std::fs::read_dir(dirs.templates()).into_iter().flatten().flatten() {
        let Ok(record) = std::fs::read(folder.path().join("template.json")) else { continue };
        let Ok(record) = serde_json::from_slice::<Record>(&record) else { continue };
        let current = record.shape.agent_digest == shape.agent_digest
            && record.shape.qemu_identity == shape.qemu_identity
            && record.shape.command_line_generation == shape.command_line_generation;
        if !current && !in_use(&folder.file_name().to_string_lossy()) {
            drop(std::fs::remove_dir_all(folder.path()));
        }
    }
}

fn load(dirs: &Dirs, shape: &MachineShape) -> HostResult<Option<Template>> {
    let folder = dirs.template(&shape.key());
    let state = match fs_err::read(folder.join("state")) {
        Ok(state) => state,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).doing("load a template"),
    };
    Ok(Some(Template { memory: TemplateMemory::load(&folder.join("memory"))?, state }))
}

/// Loads only the device state, for a supervisor that got the memory from another one.
pub(crate) fn load_state(dirs: &Dirs, shape: &MachineShape) -> Option<Vec<u8>> {
    std::fs::read(dirs.template(&shape.key()).join("state")).ok()
}

async fn build(dirs: &Dirs, settings: &Settings, shape: &MachineShape, user_slot: u32) -> HostResult<Template> {
    let started = std::time::Instant::now();
    let environment = environment(dirs, shape)?;
    let memory = memory::create(shape.mem_mib << 20)?;
    let (root, workspace, scratch) = disks::create_template_overlays(dirs).await?;
    let modules = fs_err::read(environment.modules_archive()).doing("read the environment's modules")?;
    let initramfs = pyro_image::initramfs(&modules, pyro_image::agent::AGENT);
    let kernel = fs_err::read(environment.kernel()).doing("read the environment's kernel")?;
    let inheritance = Inheritance {
        memory: memory.try_clone().doing("duplicate guest memory")?,
        environment: disks::open_environment(&environment.root_image())?,
        root,
        workspace,
        scratch,
        boot: Some((in_memory(&kernel)?, in_memory(&initramfs)?)),
        life: None,
    };
    drop((kernel, initramfs, modules));
    let (machine, ports) = Machine::start(&settings.qemu, shape, Origin::Boot { tsc_khz: tsc_khz() }, user_slot, inheritance).await?;
    let frozen = freeze(&machine, ports).await;
    let state = match frozen {
        Ok(state) => state,
        Err(error) => {
            machine.kill().await;
            eprint_console(&machine);
            return Err(error);
        }
    };
    machine.quit(Duration::from_secs(10)).await;
    store(dirs, shape, &environment, &memory, &state, started.elapsed())?;
    Ok(Template { memory: TemplateMemory::Sealed(memory::seal(memory)?), state })
}

/// Leaves the guest's last words in the supervisor's log, where the client's error points.
#[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
fn eprint_console(machine: &Machine) {
    eprintln!("guest console:\n{}", machine.console());
}

/// Brings a booting machine to where every clone begins, and saves its devices.
async fn freeze(machine: &Machine, ports: Ports) -> HostResult<Vec<u8>> {
    let programs = FIRST_PROGRAMS.map(str::to_owned).to_vec();
    let boot = async {
        let agent = Agent::connect(ports.agent, BOOT_DEADLINE).await?;
        agent.prepare_freeze(programs).await?;
        agent.close().await;
        HostResult::Ok(())
    };
    tokio::select! {
        result = boot => result?,
        reason = machine.ended() => return Err(HostError::MachineEnded { status: "while booting".into(), detail: format!(": {reason}") }),
    }
    machine.pause().await?;
    machine.device_state().await
}

fn store(dirs: &Dirs, shape: &MachineShape, environment: &Environment, memory: &OwnedFd, state: &[u8], boot: Duration) -> HostResult<()> {
    let folder = dirs.template(&shape.key());
    // Ours alone: the lock of this key is held. What a killed builder left is of no use.
    let aside = dirs.templates().join(format!("{}.partial", shape.key()));
    let write = || -> HostResult<()> {
        drop(std::fs::remove_dir_all(&aside));
        fs_err::create_dir(&aside).doing("store a template")?;
        memory::store(memory, &aside.join("memory"))?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let record = Record {
            format_version: FORMAT,
            shape: shape.clone(),
            environment: environment.name.to_string(),
            created_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            boot_ms: u64::try_from(boot.as_millis()).unwrap_or(u64::MAX),
        };
        pyro_store::write_atomically(&aside.join("template.json"), &serde_json::to_vec_pretty(&record).expect("plain fields serialise"))?;
        pyro_store::write_atomically(&aside.join("state"), state)?;
        // A folder of this key can only be one whose state was removed by hand; it is of no use to anybody.
        drop(std::fs::remove_dir_all(&folder));
        fs_err::rename(&aside, &folder).doing("publish a template")
    };
    write().inspect_err(|_| drop(std::fs::remove_dir_all(&aside)))
}

/// Where a clone goes on that is not a fresh copy of its template.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// File of the pages that differ from the template's.
    pub(crate) pages: PathBuf,
    /// What hangs under the overlays of its disks, top first.
    pub(crate) chains: Vec<(Disk, Vec<LayerRecord>)>,
}

/// Restores a copy of the template with disks of its own, or with `checkpoint` a copy of a workspace's machine, whose device state `template`
/// then holds; the guest runs when this returns.
pub(crate) async fn restore(
    settings: &Settings,
    dirs: &Dirs,
    shape: &MachineShape,
    template: Template,
    own: Own,
    checkpoint: Option<Checkpoint>,
) -> HostResult<(Machine, Ports, SealedMemory)> {
    let environment = environment(dirs, shape)?;
    let Own { overlays, life, user_slot } = own;
    let inheritance = Inheritance {
        memory: template.memory.as_fd().try_clone_to_owned().doing("duplicate template memory")?,
        environment: disks::open_environment(&environment.root_image())?,
        root: overlays.root.file,
        workspace: overlays.workspace.file,
        scratch: overlays.scratch,
        boot: None,
        life: Some(life),
    };
    let (machine, ports) = Machine::start(&settings.qemu, shape, Origin::Clone, user_slot, inheritance).await?;
    machine.keep(Disk::Root, overlays.root.lock);
    machine.keep(Disk::Workspace, overlays.workspace.lock);
    let memory = template.memory.settle().await?;
    if let Some(checkpoint) = &checkpoint {
        let (pages, pid) = (checkpoint.pages.clone(), machine.pid());
        tokio::task::spawn_blocking(move || pages::load(&pages, pid))
            .await
            .map_err(std::io::Error::from)
            .doing("write the machine's memory")??;
    }
    let state = in_memory(&template.state)?;
    machine.qmp.execute_with("getfd", json!({ "fdname": "state" }), state.as_fd()).await?;
    machine.qmp.execute("migrate-incoming", json!({ "uri": "fd:state" })).await?;
    // The stream is 16 KiB: it is loaded within a few milliseconds, and no event is sent unless asked for.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let status = machine.qmp.execute("query-migrate", json!({})).await?;
        match status.get("status").and_then(serde_json::Value::as_str) {
            Some("completed") => break,
            Some("failed") => {
                let reason = status.get("error-desc").and_then(serde_json::Value::as_str).unwrap_or("no reason given");
                return Err(HostError::Qmp { command: "migrate-incoming", reason: reason.chars().take(500).collect() });
            }
            Some(_) | None if tokio::time::Instant::now() > deadline => {
                return Err(HostError::Qmp { command: "migrate-incoming", reason: "device state was not loaded within 10 s".into() });
            }
            Some(_) | None => tokio::time::sleep(Duration::from_micros(300)).await,
        }
    }
    for (disk, chain) in checkpoint.iter().flat_map(|checkpoint| &checkpoint.chains) {
        // Only now: while a state is awaited, QEMU leaves its disks alone.
        machine.hang(dirs, *disk, chain).await?;
    }
    machine.resume().await?;
    Ok((machine, ports, memory))
}

/// Hangs the blank scratch disk and warms the guest on it.
pub(crate) async fn warm(
    dirs: &Dirs,
    registry: &std::sync::Mutex<pyro_store::Registry>,
    machine: &Machine,
    agent: &Agent,
) -> HostResult<()> {
    let blank = disks::blank(dirs, registry, disks::Blank::Scratch).await?;
    machine.hang(dirs, Disk::Scratch, &[blank]).await?;
    agent.warm(vec!["/usr/bin/true".into(), "/bin/sh".into()]).await
}

fn in_memory(content: &[u8]) -> HostResult<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("pyro-file", MemfdFlags::CLOEXEC).doing("make a file in memory")?);
    std::io::Write::write_all(&mut file, content).doing("make a file in memory")?;
    std::io::Seek::rewind(&mut file).doing("make a file in memory")?;
    Ok(file.into())
}

/// Returns the host's TSC rate. The kernel derives bogomips from it on x86: two loops per tick, in millions per second.
fn tsc_khz() -> u64 {
    const FALLBACK_KHZ: u64 = 2_500_000;
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let bogomips =
        cpuinfo.lines().find_map(|line| line.strip_prefix("bogomips")?.split(':').nth(1)?.trim().replace('.', "").parse::<u64>().ok());
    // Two decimals, so the number without its point is bogomips × 100 = kHz / 5.
    bogomips.map_or(FALLBACK_KHZ, |hundredths| hundredths * 5)
}

/// The deadline of a restored guest's first answer: 65–150 ms on an idle machine.
pub(crate) const RESTORE_DEADLINE: Duration = Duration::from_secs(30);

/// Connects to the agent of a restored machine.
pub(crate) async fn connect(machine: &Machine, agent: StdUnixStream) -> HostResult<Agent> {
    tokio::select! {
        agent = agent::Agent::connect(agent, RESTORE_DEADLINE) => agent,
        reason = machine.ended() => Err(HostError::MachineEnded { status: "after its restore".into(), detail: format!(": {reason}") }),
    }
}
