//! One virtual machine. Nothing above this module knows that it is QEMU: what it offers is a byte stream to the agent, disks that can be
//! hung under it, and an end.

mod command_line;
pub(crate) mod disks;
pub(crate) mod handoff;
mod memory;
mod process;
mod qmp;
pub(crate) mod template;

use std::{
    os::fd::AsFd as _,
    os::unix::net::UnixStream as StdUnixStream,
    sync::atomic::{AtomicU32, Ordering},
};

use pyro_store::{Dirs, LayerRecord, MachineShape};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

pub use self::process::become_machine;
pub(crate) use self::{command_line::Disk, qmp::QmpEvent};
use self::{command_line::Origin, process::Inheritance, qmp::Qmp};
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
    console: process::Tail,
}

/// What comes with a fresh machine, each with one user.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) agent: StdUnixStream,
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
        let machine = Self { qmp, pid, kill, ended, next_fdset: AtomicU32::new(FIRST_FDSET), console };
        match machine.qmp.negotiate().await {
            Ok(()) => Ok((machine, Ports { agent, events })),
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

    /// Lets the guest run.
    pub(crate) async fn resume(&self) -> HostResult<()> {
        self.qmp.execute("cont", json!({})).await.map(drop)
    }

    /// Hangs a chain of layers, top first, under a disk the guest has not touched. Costs about 2 ms.
    pub(crate) async fn hang(&self, dirs: &Dirs, disk: Disk, chain: &[LayerRecord]) -> HostResult<()> {
        // Another chain may hang there already, so the name is a new one.
        let base = format!("{}-base-{}", disk.node(), self.next_fdset.fetch_add(1, Ordering::Relaxed));
        let mut node = Value::Null;
        for (depth, layer) in chain.iter().enumerate().rev() {
            let fdset = self.next_fdset.fetch_add(1, Ordering::Relaxed);
            let file = disks::open_layer(dirs, layer)?;
            self.qmp.execute_with("add-fd", json!({ "fdset-id": fdset }), file.as_fd()).await?;
            let name = if depth == 0 { base.clone() } else { format!("{base}-{depth}") };
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
        self.qmp.execute("blockdev-reopen", json!({ "options": options })).await.map(drop)
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
            self.kill().await;
        }
    }

    /// Kills QEMU and waits for its end.
    pub(crate) async fn kill(&self) {
        // A full queue holds the wish already.
        let _ = self.kill.try_send(());
        self.ended().await;
    }
}
