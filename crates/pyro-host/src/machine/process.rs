//! QEMU as a process: started through `pyro __machine`, which contains itself and executes it.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    os::unix::net::UnixStream as StdUnixStream,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use command_fds::{CommandFdExt as _, FdMapping};
use pyro_store::{Accelerator, MachineShape};
use pyro_sys::launch::{Containment, User};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncReadExt as _, net::UnixStream, sync::watch};

use super::command_line::{Origin, arguments, descriptor};
use crate::error::{Doing as _, HostError, HostResult};

/// First user number of machines, above what subuid(5) and systemd hand out.
const FIRST_USER: u32 = 0x7000_0000;
/// What QEMU may map beside the guest's memory: its libraries, translation buffer, thread stacks.
const OVERHEAD_BYTES: u64 = 2 << 30;
/// Largest disk, 256 GiB, and the metadata qcow2 adds.
const FILE_SIZE_BYTES: u64 = 300 << 30;
const DESCRIPTORS: u64 = 256;
/// How much of the guest's console and of QEMU's messages is kept.
const TAIL_BYTES: usize = 16 << 10;

/// Everything QEMU inherits.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) memory: OwnedFd,
    pub(crate) environment: OwnedFd,
    pub(crate) root: OwnedFd,
    pub(crate) workspace: OwnedFd,
    pub(crate) scratch: OwnedFd,
    /// Kernel and initial RAM file system, for a machine that boots.
    pub(crate) boot: Option<(OwnedFd, OwnedFd)>,
    /// A held lock that ends with the process; a machine that only makes a template needs none.
    pub(crate) life: Option<OwnedFd>,
}

/// A started QEMU. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: tokio::process::Child,
    pub(crate) monitor: StdUnixStream,
    pub(crate) agent: StdUnixStream,
    /// The other end of the network card, where the machine has one.
    pub(crate) network: Option<StdUnixStream>,
    pub(crate) console: Tail,
    /// What QEMU wrote to its standard error.
    pub(crate) messages: Tail,
}

/// The end of what was written to a stream; hostile, so it is bounded.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    finished: watch::Receiver<bool>,
}

impl Tail {
    fn follow(stream: StdUnixStream) -> HostResult<Self> {
        stream.set_nonblocking(true).doing("prepare the console")?;
        let mut stream = UnixStream::from_std(stream).doing("prepare the console")?;
        let (finish, finished) = watch::channel(false);
        let tail = Self { kept: Arc::default(), finished };
        let kept = tail.kept.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&buffer[..count]);
                let excess = kept.len().saturating_sub(TAIL_BYTES);
                kept.drain(..excess);
            }
            finish.send_replace(true);
        });
        Ok(tail)
    }

    /// Waits for the stream's end, which follows that of its writer, but not for long.
    async fn finished(&self) {
        let mut finished = self.finished.clone();
        drop(tokio::time::timeout(std::time::Duration::from_millis(200), finished.wait_for(|finished| *finished)).await);
    }

    /// Returns the text kept, control characters replaced.
    pub(crate) fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
    }
}

/// The argument of `pyro __machine`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LaunchArguments {
    parent: u32,
    user: Option<u32>,
    groups: Vec<u32>,
    address_space_bytes: u64,
    kvm: bool,
    #[serde(default)]
    read_only: Vec<PathBuf>,
    #[serde(default)]
    read_write: Vec<PathBuf>,
    program: PathBuf,
    arguments: Vec<String>,
}

impl LaunchArguments {
    /// Returns the launcher's command: this very binary, with nothing of our environment.
    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new("/proc/self/exe");
        command
            .arg("__machine")
            .arg(serde_json::to_string(self).expect("plain fields serialise"))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    fn containment(&self) -> Containment {
        // QEMU's shared libraries, its firmware and option ROMs; nothing of the user's.
        let system = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/dev/urandom", "/sys/devices/system"];
        let read_only = system.into_iter().map(PathBuf::from).chain(self.read_only.iter().cloned()).collect();
        // QEMU tries locks on /dev/null to learn whether open files can have them.
        let mut read_write = self.read_write.clone();
        read_write.push("/dev/null".into());
        if self.kvm {
            read_write.push(PathBuf::from("/dev/kvm"));
        }
        Containment {
            parent: self.parent,
            user: self.user.map(|id| User { id, groups: self.groups.clone() }),
            address_space_bytes: self.address_space_bytes,
            file_size_bytes: FILE_SIZE_BYTES,
            descriptors: DESCRIPTORS,
            read_only,
            read_write,
            first_foreign_descriptor: descriptor::LAST + 1,
        }
    }
}

/// Body of `pyro __machine`: contains this process and becomes QEMU; returns why not.
#[must_use]
pub fn become_machine(arguments: &str) -> String {
    let arguments: LaunchArguments = match serde_json::from_str(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return format!("unreadable argument: {error}"),
    };
    let containment = arguments.containment();
    let qemu_arguments: Vec<_> = arguments.arguments.iter().map(Into::into).collect();
    let error = pyro_sys::launch::exec_contained(&containment, &arguments.program, &qemu_arguments);
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Starts QEMU. Must be called on a thread that lives as long as the supervisor: the parent-death signal fires when that thread ends.
pub(crate) fn start(qemu: &Path, shape: &MachineShape, origin: Origin, user_slot: u32, inheritance: Inheritance) -> HostResult<Process> {
    let pair = || StdUnixStream::pair().doing("make a socket pair");
    let ((monitor, monitor_qemu), (agent, agent_qemu), (console, console_qemu)) = (pair()?, pair()?, pair()?);
    let root = rustix::process::geteuid().is_root();
    let kvm = shape.accelerator == Accelerator::Kvm;
    let groups = if kvm && root { kvm_group().into_iter().collect() } else { Vec::new() };
    let qemu_arguments = arguments(shape, origin).into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let launch = LaunchArguments {
        parent: std::process::id(),
        user: root.then_some(FIRST_USER + user_slot),
        groups,
        address_space_bytes: (shape.mem_mib << 20) + OVERHEAD_BYTES,
        kvm,
        read_only: Vec::new(),
        read_write: Vec::new(),
        program: qemu.to_owned(),
        arguments: qemu_arguments,
    };
    let map = |parent_fd: OwnedFd, child_fd| FdMapping { parent_fd, child_fd };
    let mut mappings = vec![
        map(monitor_qemu.into(), descriptor::MONITOR),
        map(agent_qemu.into(), descriptor::AGENT),
        map(console_qemu.into(), descriptor::CONSOLE),
        map(inheritance.memory, descriptor::MEMORY),
        map(inheritance.environment, descriptor::ENVIRONMENT),
        map(inheritance.root, descriptor::ROOT),
        map(inheritance.workspace, descriptor::WORKSPACE),
        map(inheritance.scratch, descriptor::SCRATCH),
    ];
    if let Some((kernel, initramfs)) = inheritance.boot {
        mappings.push(map(kernel, descriptor::KERNEL));
        mappings.push(map(initramfs, descriptor::INITRAMFS));
    }
    if let Some(life) = inheritance.life {
        mappings.push(map(life, descriptor::LIFE));
    }
    let network = if shape.network_card {
        let (network, network_qemu) = pair()?;
        mappings.push(map(network_qemu.into(), descriptor::NETWORK));
        Some(network)
    } else {
        None
    };
    let mut command = launch.command();
    let (messages, messages_qemu) = pair()?;
    command.stdout(Stdio::null()).stderr(Stdio::from(OwnedFd::from(messages_qemu)));
    command.fd_mappings(mappings).expect("descriptor numbers are distinct");
    let child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| HostError::Start { program: qemu.to_owned(), source })?;
    Ok(Process { child, monitor, agent, network, console: Tail::follow(console)?, messages: Tail::follow(messages)? })
}

/// Runs a program on disk layers a machine has written, contained as the machine was, and with nothing but these files.
pub(crate) async fn run_contained(
    program: &Path,
    arguments: Vec<String>,
    read_write: Vec<PathBuf>,
    read_only: Vec<PathBuf>,
) -> HostResult<()> {
    let launch = LaunchArguments {
        parent: std::process::id(),
        user: None,
        groups: Vec::new(),
        address_space_bytes: OVERHEAD_BYTES,
        kvm: false,
        read_only,
        read_write,
        program: program.to_owned(),
        arguments,
    };
    let output = tokio::process::Command::from(launch.command())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| HostError::Start { program: program.to_owned(), source })?;
    super::disks::check_tool(&output)
}

impl Process {
    /// Returns why QEMU ended, once it has.
    pub(crate) async fn end(&mut self) -> HostError {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.messages.finished().await;
        let messages = self.messages.text();
        let messages = messages.trim();
        let detail = if messages.is_empty() { String::new() } else { format!(": {messages}") };
        HostError::MachineEnded { status: format!("with {status}"), detail }
    }
}

/// Returns the group that may use `/dev/kvm`.
fn kvm_group() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/dev/kvm").ok().map(|status| status.gid())
}
