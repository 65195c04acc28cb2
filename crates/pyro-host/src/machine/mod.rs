//! One virtual machine. Nothing above this module knows that it is QEMU: what it offers is a byte stream to the agent, disks that can be
//! hung under it, and an end.

pub(crate) mod checkpoint;
mod command_line;
pub(crate) mod disks;
pub(crate) mod handoff;
mod memory;
pub(crate) mod pages;
mod process;
mod qmp;
pub(crate) mod template;

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, AsRawFd as _},
    os::unix::net::UnixStream as StdUnixStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use pyro_store::{Dirs, LayerLock, LayerRecord, MachineShape};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

pub use self::process::become_machine;
use self::{command_line::Origin, process::Inheritance, qmp::Qmp};
pub(crate) use self::{
    command_line::{Disk, NETWORK_CARD, NETWORK_MTU_BYTES},
    qmp::QmpEvent,
};
use crate::error::{Doing as _, HostError, HostResult};

/// First fd set for what comes after the start; lower numbers are on the command line.
const FIRST_FDSET: u32 = 100;

/// A running machine. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Machine {
    qmp: Qmp,
    pid: u32,
    kill: mpsc::Sender<()>,
    ended: watch::Receiver<Option<String>>,
    next_fdset: AtomicU32,
    /// Nodes of each disk's chain, topmost first.
    chains: Mutex<BTreeMap<&'static str, Vec<String>>>,
    /// Locks on each disk's layers, the one that is written last.
    locks: Mutex<BTreeMap<&'static str, Vec<LayerLock>>>,
    console: process::Tail,
}

/// What comes with a fresh machine, each with one user.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) agent: StdUnixStream,
    /// Ethernet frames, each after its length in four bytes, where the machine has a network card.
    pub(crate) network: Option<StdUnixStream>,
    pub(crate) events: mpsc::Receiver<QmpEvent>,
}

impl Machine {
    /// Starts QEMU and its monitor; the guest does not run yet, or boots, as `origin` says.
    async fn start(
        qemu: &std::path::Path,
        shape: &MachineShape,
        origin: Origin,
        user_slot: u32,
        inheritance: Inheritance,
    ) -> HostResult<(Self, Ports)> {
        let mut process = process::start(qemu, shape, origin, user_slot, inheritance)?;
        let pid = process.child.id().unwrap_or_default();
        let monitor = process.monitor.try_clone().doing("duplicate the monitor's socket")?;
        let agent = process.agent.try_clone().doing("duplicate the agent's socket")?;
        let network = process.network.take();
        let console = process.console.clone();
        let (event_sender, events) = mpsc::channel(4);
        let qmp = Qmp::start(monitor, event_sender)?;
        let (kill, mut killed) = mpsc::channel(1);
        let (end_sender, ended) = watch::channel(None);
        tokio::spawn(async move {
            // A closed channel means that the machine was dropped, which kills it as well.
            let error = tokio::select! {
                error = process.end() => error,
                _ = killed.recv() => {
                    drop(process.child.start_kill());
                    process.end().await
                }
            };
            drop(end_sender.send(Some(error.to_string().trim_start_matches("QEMU ended ").to_owned())));
        });
        let machine = Self {
            qmp,
            pid,
            kill,
            ended,
            next_fdset: AtomicU32::new(FIRST_FDSET),
            chains: Mutex::default(),
            locks: Mutex::default(),
            console,
        };
        match machine.qmp.negotiate().await {
            Ok(()) => Ok((machine, Ports { agent, network, events })),
            Err(error) => Err(machine.explain(error).await),
        }
    }

    /// Prefers the reason QEMU gave at its end over the broken monitor it left.
    async fn explain(&self, error: HostError) -> HostError {
        let mut ended = self.ended.clone();
        let end = tokio::time::timeout(std::time::Duration::from_millis(500), ended.wait_for(Option::is_some)).await;
        match end {
            Ok(Ok(reason)) => HostError::MachineEnded { status: "at its start: ".into(), detail: reason.clone().unwrap_or_default() },
            Ok(Err(_)) | Err(_) => error,
        }
    }

    /// Returns QEMU's process id.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the end of the guest's console.
    pub(crate) fn console(&self) -> String {
        self.console.text()
    }

    /// Resolves with the reason when QEMU has ended, whoever ended it.
    pub(crate) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "its watcher is gone".to_owned(),
        }
    }

    /// Stops the guest between two instructions.
    pub(crate) async fn pause(&self) -> HostResult<()> {
        self.qmp.execute("stop", json!({})).await.map(drop)
    }

    /// Returns the state of all devices of a paused guest, memory and disks not included. The guest can go on after it.
    pub(crate) async fn device_state(&self) -> HostResult<Vec<u8>> {
        /// 16–18 KB for our machines; a QEMU taken over by its guest may write anything.
        const STATE_MAX_BYTES: u64 = 16 << 20;
        let state = memfd_create("pyro-state", MemfdFlags::CLOEXEC).doing("make room for device state")?;
        // An fd set hands out a descriptor only for the very access mode it was opened with.
        let write_only = rustix::fs::open(format!("/proc/self/fd/{}", state.as_raw_fd()), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .doing("make room for device state")?;
        let fdset = self.add_fd(write_only.as_fd()).await?;
        // Not `live`: that would give up the disks.
        let arguments = json!({ "filename": format!("/dev/fdset/{fdset}"), "live": false });
        self.qmp.execute("xen-save-devices-state", arguments).await?;
        drop(self.qmp.execute("remove-fd", json!({ "fdset-id": fdset })).await);
        let mut bytes = Vec::new();
        let mut file = std::fs::File::from(state);
        std::io::Seek::rewind(&mut file).doing("read device state")?;
        std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, STATE_MAX_BYTES), &mut bytes).doing("read device state")?;
        Ok(bytes)
    }

    async fn add_fd(&self, descriptor: std::os::fd::BorrowedFd<'_>) -> HostResult<u32> {
        let fdset = self.next_fdset.fetch_add(1, Ordering::Relaxed);
        self.qmp.execute_with("add-fd", json!({ "fdset-id": fdset }), descriptor).await?;
        Ok(fdset)
    }

    /// Keeps a lock on a layer for as long as the machine lives.
    pub(crate) fn keep(&self, disk: Disk, layer: LayerLock) {
        crate::lock(&self.locks).entry(disk.node()).or_default().push(layer);
    }

    /// Puts an empty overlay on a disk in use: what was there until now is only read from then on. Costs a few milliseconds.
    pub(crate) async fn overlay(&self, disk: Disk, overlay: disks::Overlay) -> HostResult<()> {
        let fdset = self.add_fd(overlay.file.as_fd()).await?;
        let name = format!("{}-{fdset}", disk.node());
        let file = json!({
            "driver": "file", "node-name": format!("{name}-file"), "filename": format!("/dev/fdset/{fdset}"), "auto-read-only": false,
        });
        self.qmp.execute("blockdev-add", json!({ "driver": "qcow2", "node-name": name, "file": file, "backing": null })).await?;
        self.qmp.execute("blockdev-snapshot", json!({ "node": self.chain(disk)[0], "overlay": name })).await?;
        let below = self.chain(disk);
        crate::lock(&self.chains).insert(disk.node(), std::iter::once(name).chain(below).collect());
        let mut locks = crate::lock(&self.locks);
        let layers = locks.entry(disk.node()).or_default();
        // What is below may be read by forks from now on.
        let shared = layers.iter().try_for_each(LayerLock::share);
        layers.push(overlay.lock);
        Ok(shared?)
    }

    /// Returns the nodes of a disk, the one its device writes to first.
    fn chain(&self, disk: Disk) -> Vec<String> {
        crate::lock(&self.chains).get(disk.node()).cloned().unwrap_or_else(|| vec![disk.node().to_owned()])
    }

    /// Copies what the `count` layers below a disk's top hold into the top, and lets go of them. The guest runs on meanwhile. Called off, what
    /// was copied stays above what it was copied from, and the chain as it was.
    pub(crate) async fn pull_up(&self, disk: Disk, count: usize, called_off: &AtomicBool) -> HostResult<()> {
        const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);
        let chain = self.chain(disk);
        let Some(base) = chain.get(count + 1) else {
            return Err(HostError::WrongState { problem: "the disk has no such layer".into() });
        };
        let job = format!("pull-{}", disk.node());
        // It would write the base's name into the header otherwise; the registry alone knows the chain.
        let arguments = json!({ "job-id": job, "device": chain[0], "base-node": base, "backing-file": "", "auto-dismiss": false });
        self.qmp.execute("block-stream", arguments).await?;
        loop {
            let jobs = self.qmp.execute("query-jobs", json!({})).await?;
            let own = jobs.as_array().and_then(|jobs| jobs.iter().find(|known| known["id"] == job.as_str()));
            match own.and_then(|own| own["status"].as_str()) {
                Some("concluded") => {
                    let failure = own.and_then(|own| own["error"].as_str()).map(|reason| reason.chars().take(500).collect::<String>());
                    self.qmp.execute("job-dismiss", json!({ "id": job })).await?;
                    match failure {
                        Some(reason) => return Err(HostError::Qmp { command: "block-stream", reason }),
                        None => break,
                    }
                }
                Some(_) => {
                    if called_off.load(Ordering::SeqCst) {
                        // It may have concluded just now, or be cancelled already.
                        drop(self.qmp.execute("job-cancel", json!({ "id": job })).await);
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                None => return Err(HostError::Qmp { command: "block-stream", reason: "its job is gone".into() }),
            }
        }
        for node in &chain[1..=count] {
            // Nodes that came as part of a larger one went with it; they cannot be named any more.
            drop(self.qmp.execute("blockdev-del", json!({ "node-name": node })).await);
        }
        let kept = chain.iter().take(1).chain(&chain[count + 1..]).cloned().collect();
        crate::lock(&self.chains).insert(disk.node(), kept);
        Ok(())
    }

    /// Lets the guest run.
    pub(crate) async fn resume(&self) -> HostResult<()> {
        self.qmp.execute("cont", json!({})).await.map(drop)
    }

    /// Hangs a chain of layers, top first, under a disk the guest has not touched. Costs about 2 ms.
    pub(crate) async fn hang(&self, dirs: &Dirs, disk: Disk, chain: &[LayerRecord]) -> HostResult<()> {
        // Another chain may hang there already, so the name is a new one.
        let base = format!("{}-base-{}", disk.node(), self.next_fdset.fetch_add(1, Ordering::Relaxed));
        let mut names = Vec::new();
        let mut node = Value::Null;
        for (depth, layer) in chain.iter().enumerate().rev() {
            if let Some(lock) = disks::lock_layer(dirs, layer).await? {
                self.keep(disk, lock);
            }
            let fdset = self.add_fd(disks::open_layer(dirs, layer)?.as_fd()).await?;
            let name = if depth == 0 { base.clone() } else { format!("{base}-{depth}") };
            names.insert(0, name.clone());
            let file = json!({
                "driver": "file", "filename": format!("/dev/fdset/{fdset}"), "read-only": true, "auto-read-only": false, "locking": "off",
            });
            let below = std::mem::take(&mut node);
            node = json!({ "driver": layer.format, "node-name": name, "read-only": true, "file": file });
            if layer.format == "qcow2" {
                node["backing"] = below;
            }
        }
        self.qmp.execute("blockdev-add", node).await?;
        let options = json!([{ "driver": "qcow2", "node-name": disk.node(), "file": format!("{}-file", disk.node()), "backing": base }]);
        self.qmp.execute("blockdev-reopen", json!({ "options": options })).await?;
        names.insert(0, disk.node().to_owned());
        crate::lock(&self.chains).insert(disk.node(), names);
        Ok(())
    }

    /// Announces another size of a disk to the guest.
    pub(crate) async fn resize(&self, disk: Disk, size_bytes: u64) -> HostResult<()> {
        self.qmp.execute("block_resize", json!({ "node-name": disk.node(), "size": size_bytes })).await.map(drop)
    }

    /// Ends QEMU in order, which flushes its disks, and waits for its end; kills it after `deadline`.
    pub(crate) async fn quit(&self, deadline: std::time::Duration) {
        let quit = async {
            drop(self.qmp.execute("quit", json!({})).await);
            self.ended().await
        };
        if tokio::time::timeout(deadline, quit).await.is_err() {
            return self.kill().await;
        }
        crate::lock(&self.locks).clear();
    }

    /// Kills QEMU and waits for its end.
    pub(crate) async fn kill(&self) {
        // A full queue holds the wish already.
        let _ = self.kill.try_send(());
        self.ended().await;
        crate::lock(&self.locks).clear();
    }
}
