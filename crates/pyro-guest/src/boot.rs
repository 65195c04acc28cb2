//! From the kernel's hand-over to the first scan of the port. Runs once per template; every later machine is a copy of its result.
//!
//! A step that fails is logged and the next one tried: a machine that answers on its port can say what is wrong, a dead one cannot.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::time::Duration;

use pyro_proto::limits::CONCURRENT_CALLS_MAX;
use rustix::mount::MountFlags;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::connection::{Quiet, serve};
use crate::log;
use crate::mounts::{self, Disks, MountError};
use crate::port::{self, Port};
use crate::reap::{Reaper, Scope};
use crate::service::Agent;

/// The name the host gives the agent's port.
const PORT_NAME: &str = "pyro";
/// How often the agent looks for its port, which appears a few messages after its driver.
const PORT_STEP: Duration = Duration::from_millis(1);
/// How long the agent sleeps after an error of the port before it tries again.
const PORT_ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Threads that may sleep in the kernel at once: one for each call a host may make, and as many for what calls have left.
const BLOCKING_THREADS_MAX: usize = 2 * CONCURRENT_CALLS_MAX as usize;

/// Open files: commands expect a soft limit not far above 1024, and some close every number up to it; the agent itself needs three
/// per running command.
const OPEN_FILES: Rlimit = Rlimit { current: Some(4096), maximum: Some(1 << 20) };

/// Boots the machine and serves its host for good. Only PID 1 may call it.
///
/// Never returns: the kernel panics when its first process ends.
pub fn run_as_init() -> ! {
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        std::process::exit(2);
    }
    let disks = prepare();
    loop {
        if let Err(error) = run(&disks) {
            log::failure(&error);
        }
        std::thread::sleep(PORT_ERROR_PAUSE);
    }
}

fn run(disks: &Disks) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build()?;
    runtime.block_on(async {
        let reaper = Reaper::new(Scope::Machine);
        let reaping = tokio::spawn(reaper.clone().run());
        let agent = Agent::booted(reaper, disks.clone())?;
        loop {
            if let Err(error) = serve_port(&agent).await {
                log::failure(&error);
            }
            if reaping.is_finished() {
                return reaping.await?;
            }
            tokio::time::sleep(PORT_ERROR_PAUSE).await;
        }
    })
}

async fn serve_port(agent: &Agent) -> io::Result<()> {
    let path = loop {
        match port::find(PORT_NAME) {
            Some(path) => break path,
            None => tokio::time::sleep(PORT_STEP).await,
        }
    };
    let port = Port::open(&path)?;
    log::line("ready");
    serve(port, Quiet::Detached, agent.clone()).await
}

/// Mounts what a Linux system has, loads the drivers and finds the disks.
fn prepare() -> Disks {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let _ = setrlimit(Resource::Nofile, OPEN_FILES);
    for path in ["/dev", "/proc", "/sys", "/run", "/env", "/changes", "/new", "/disk", "/scratch", "/warm"] {
        note(mounts::directory(path));
    }
    let guarded = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    note(mounts::special(c"devtmpfs", c"/dev", MountFlags::NOSUID, c"mode=0755"));
    log::open();
    note(mounts::special(c"proc", c"/proc", guarded, c""));
    note(mounts::special(c"sysfs", c"/sys", guarded, c""));
    note(mounts::special(c"tmpfs", c"/run", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755"));
    for path in ["/dev/pts", "/dev/shm", "/run/lock", "/run/pyro"] {
        note(mounts::directory(path));
    }
    note(mounts::special(c"devpts", c"/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, c"gid=5,mode=0620,ptmxmode=0666"));
    note(mounts::special(c"tmpfs", c"/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777"));
    note(mounts::special(c"tmpfs", c"/run/lock", guarded, c"mode=1777,size=5m"));
    for (link, target) in
        [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")]
    {
        // devtmpfs has none of them, and shells need them for `<(…)` and `/dev/stdin`.
        let _ = std::os::unix::fs::symlink(target, format!("/dev/{link}"));
    }
    quieten();
    load_modules();
    note(mounts::special(c"cgroup2", c"/sys/fs/cgroup", guarded, c""));
    if let Err(error) = pyro_sys::device::bring_loopback_up() {
        log::line(&format!("cannot bring the loopback link up: {error}"));
    }
    let (disks, environment) = Disks::find();
    match environment {
        Some(device) => note(mounts::environment(&device)),
        None => note(Err(MountError::NoDisk { serial: "pyro-env" })),
    }
    disks
}

/// Stops the kernel's own regular wake-ups: each costs little, but a host may keep a hundred idle machines.
fn quieten() {
    let settings = [
        // Otherwise kcompactd looks at the memory twice a second.
        ("compaction_proactiveness", "0"),
        // Statistics are folded once a minute, not once a second.
        ("stat_interval", "60"),
    ];
    for (name, value) in settings {
        if let Err(error) = std::fs::write(format!("/proc/sys/vm/{name}"), value) {
            log::line(&format!("cannot set `vm.{name}`: {error}"));
        }
    }
}

/// Loads the modules named in `/modules/order`, one per line.
fn load_modules() {
    const FOLDER: &str = "/modules";
    let order = match std::fs::read_to_string(format!("{FOLDER}/order")) {
        Ok(order) => order,
        Err(error) => return log::line(&format!("cannot read `{FOLDER}/order`: {error}")),
    };
    for name in order.lines().map(str::trim).filter(|name| !name.is_empty()) {
        let no_parameters: &CStr = c"";
        let loaded = File::open(format!("{FOLDER}/{name}")).and_then(|file| Ok(rustix::system::finit_module(file, no_parameters, 0)?));
        match loaded {
            // EEXIST: built into this kernel.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => log::line(&format!("cannot load module `{name}`: {error}")),
            Ok(()) | Err(_) => {}
        }
    }
}

fn note(result: Result<(), MountError>) {
    if let Err(error) = result {
        log::failure(&error);
    }
}
