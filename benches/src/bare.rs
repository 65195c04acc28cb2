//! A machine with nothing in it but a kernel, an interpreter and a network card: what two ways out of a guest are compared with.
//!
//! Pyro's own machines cannot be given QEMU's user network: a contained QEMU may open no socket, which is what that network lives on. So both
//! ways get the same bare guest, started here as Pyro starts its own (kernel, CPU model, accelerator), and not contained.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result};
use command_fds::{CommandFdExt as _, FdMapping};
use tokio::process::{Child, Command};

const INIT: &str = include_str!("sections/network_init.pl");
const WORKER: &str = include_str!("sections/network_worker.pl");
/// What the interpreter needs of the root file system, beside what it is linked with.
const INTERPRETER: &str = "/usr/bin/perl";
/// Where QEMU finds its end of a stream.
const STREAM_DESCRIPTOR: i32 = 3;

/// How a machine's card is connected.
#[derive(Debug)]
pub(crate) enum Card {
    /// To QEMU's own user network.
    User,
    /// To a stream of frames.
    Stream(UnixStream, u16),
}

/// A running machine; dropping it kills it.
#[derive(Debug)]
pub(crate) struct BareMachine {
    _qemu: Child,
}

/// Makes the initial RAM file system all bare machines boot from: the environment's modules, the interpreter, the two scripts.
pub(crate) fn make_initramfs(environment: &Path, root: &Path, to: &Path) -> Result<()> {
    let mut archive = fs::read(environment.join("modules.cpio")).context("the environment has modules")?;
    let linked =
        std::process::Command::new("ldd").arg(root.join(INTERPRETER.trim_start_matches('/'))).output().context("cannot start ldd")?;
    let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
    let libraries: Vec<&str> = linked.split_whitespace().filter(|word| word.starts_with('/')).collect();
    let mut entries = cpio::Archive::default();
    entries.add("init", 0o100_755, INIT.as_bytes());
    entries.add("worker.pl", 0o100_644, WORKER.as_bytes());
    for path in libraries.into_iter().chain([INTERPRETER]) {
        let inside = path.trim_start_matches('/');
        let file = root.join(inside);
        entries.add(inside, 0o100_755, &fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?);
    }
    archive.extend(entries.finish());
    fs::write(to, archive)?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o644))?)
}

impl BareMachine {
    /// Boots a machine whose worker turns to `server`, an address and a port with a comma between them.
    pub(crate) fn start(model: &[String], kernel: &Path, initramfs: &Path, card: Card, server: &str, log: PathBuf) -> Result<Self> {
        let mut command = std::process::Command::new("qemu-system-x86_64");
        let append = format!(
            "console=ttyS0 loglevel=4 panic=-1 mitigations=off init_on_alloc=0 no_timer_check tsc=reliable {} server={server}",
            clock()
        );
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "microvm,acpi=on,pit=off"]).args(model);
        command.args(["-smp", "1", "-m", "256", "-append", &append]).arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        match card {
            Card::User => command.args(["-netdev", "user,id=network", "-device", "virtio-net-device,netdev=network"]),
            Card::Stream(stream, mtu) => {
                let device = format!("virtio-net-device,netdev=network,mac=52:54:00:12:34:56,host_mtu={mtu}");
                command.args(["-netdev", &format!("stream,id=network,addr.type=fd,addr.str={STREAM_DESCRIPTOR}"), "-device", &device]);
                command
                    .fd_mappings(vec![FdMapping { parent_fd: stream.into(), child_fd: STREAM_DESCRIPTOR }])
                    .expect("one descriptor does not collide")
            }
        };
        let log = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { _qemu: Command::from(command).kill_on_drop(true).spawn().context("cannot start QEMU")? })
    }
}

/// What a kernel without a timer to calibrate by is told of the clock, as Pyro tells its guests.
fn clock() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let bogomips =
        cpuinfo.lines().find_map(|line| line.strip_prefix("bogomips")?.split(':').nth(1)?.trim().replace('.', "").parse::<u64>().ok());
    let khz = bogomips.map_or(2_500_000, |hundredths| hundredths * 5);
    format!("tsc_early_khz={khz} lpj={}", khz * 4)
}

/// The archive a kernel unpacks at boot (Documentation/driver-api/early-userspace/buffer-format.rst).
mod cpio {
    #[derive(Debug, Default)]
    pub(super) struct Archive {
        bytes: Vec<u8>,
        folders: std::collections::BTreeSet<String>,
    }

    impl Archive {
        pub(super) fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
            let folders: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
            for folder in folders {
                if self.folders.insert(folder.to_owned()) {
                    self.entry(folder, 0o040_755, &[]);
                }
            }
            self.entry(path, mode, content);
        }

        pub(super) fn finish(mut self) -> Vec<u8> {
            self.entry("TRAILER!!!", 0, &[]);
            self.bytes
        }

        fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
            let fields = [1, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
            self.bytes.extend_from_slice(b"070701");
            self.bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
            self.bytes.extend_from_slice(path.as_bytes());
            self.bytes.push(0);
            self.pad();
            self.bytes.extend_from_slice(content);
            self.pad();
        }

        fn pad(&mut self) {
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
    }
}
