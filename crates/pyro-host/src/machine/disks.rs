//! Disk files: blanks every workspace shares, empty overlays, and the chains hung under a machine.
//!
//! ```text
//! blank (raw ext4, shared, never written) ◀── overlay (qcow2) ◀── overlay … ◀── the running machine's overlay
//! ```
//!
//! No overlay names its backing file: the registry knows the chain, and QEMU is told node by node, because it opens no path. A machine
//! starts with an empty overlay that has no backing at all; the chain is hung under it later (`blockdev-reopen`), which works as long as
//! the overlay has no allocated cluster and the guest has not read the disk.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use pyro_store::{Dirs, LayerId, LayerLock, LayerRecord, MachineId, Registry};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::process;
use crate::error::{Doing as _, HostError, HostResult};

/// Size of `/workspace` in a template; other sizes are announced to the guest before it mounts the disk.
pub(crate) const TEMPLATE_WORKSPACE_GIB: u64 = 8;
/// Size of the disk of root changes in a template.
pub(crate) const TEMPLATE_ROOT_GIB: u64 = 16;
const SCRATCH_BYTES: u64 = 64 << 20;

/// An overlay's file, and the lock that keeps every other machine from it. The lock is the supervisor's: a machine that had it could take
/// it from others.
#[derive(Debug)]
pub(crate) struct Overlay {
    pub(crate) file: OwnedFd,
    pub(crate) lock: LayerLock,
}

/// What a restored machine has for itself: the overlays it writes to, and a held lock that says that it lives.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) overlays: Overlays,
    pub(crate) life: OwnedFd,
    pub(crate) user_slot: u32,
}

/// The overlays one machine writes to.
#[derive(Debug)]
pub(crate) struct Overlays {
    pub(crate) root: Overlay,
    pub(crate) workspace: Overlay,
    pub(crate) scratch: OwnedFd,
}

/// Makes the empty overlays of a machine and registers the two that may outlive it.
pub(crate) async fn create_overlays(
    dirs: &Dirs,
    registry: &std::sync::Mutex<Registry>,
    machine: &MachineId,
    root_gib: u64,
    workspace_gib: u64,
) -> HostResult<Overlays> {
    let (root, workspace) = (new_overlay(None, root_gib << 30), new_overlay(None, workspace_gib << 30));
    crate::lock(registry).insert_machine_layers(machine, &root, &workspace)?;
    let (root, workspace) = (create_overlay(dirs, &root).await?, create_overlay(dirs, &workspace).await?);
    Ok(Overlays { root, workspace, scratch: create_scratch(dirs).await? })
}

/// Returns the record of an overlay that is still to be made.
pub(crate) fn new_overlay(parent: Option<LayerId>, size_bytes: u64) -> LayerRecord {
    LayerRecord { id: LayerId::random(), parent, format: "qcow2".into(), size_bytes }
}

/// Makes an overlay's file, empty, and opens it for the one machine that will write it.
pub(crate) async fn create_overlay(dirs: &Dirs, layer: &LayerRecord) -> HostResult<Overlay> {
    let path = dirs.layers().join(layer.file_name());
    fs_err::copy(empty_overlay(dirs, layer.size_bytes).await?, &path).doing("make a disk overlay")?;
    let lock = LayerLock::writer(&path)?.ok_or_else(|| HostError::LayerInUse { layer: layer.id.to_string() })?;
    Ok(Overlay { file: open(&path, OFlags::RDWR)?, lock })
}

/// Makes overlays for a template: without names, gone with the process.
pub(crate) async fn create_template_overlays(dirs: &Dirs) -> HostResult<(OwnedFd, OwnedFd, OwnedFd)> {
    let root = anonymous_copy(dirs, &empty_overlay(dirs, TEMPLATE_ROOT_GIB << 30).await?)?;
    let workspace = anonymous_copy(dirs, &empty_overlay(dirs, TEMPLATE_WORKSPACE_GIB << 30).await?)?;
    Ok((root, workspace, create_scratch(dirs).await?))
}

async fn create_scratch(dirs: &Dirs) -> HostResult<OwnedFd> {
    anonymous_copy(dirs, &empty_overlay(dirs, SCRATCH_BYTES).await?)
}

/// Copies a small file into one without a name.
fn anonymous_copy(dirs: &Dirs, source: &Path) -> HostResult<OwnedFd> {
    let content = fs_err::read(source).doing("read an empty overlay")?;
    let file = rustix::fs::open(dirs.layers(), OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
        .doing("make a scratch disk")?;
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, &content).doing("make a scratch disk")?;
    Ok(file.into())
}

/// Returns the path of an empty overlay of this virtual size, made once: `qemu-img` costs more than copying its 200 KiB.
async fn empty_overlay(dirs: &Dirs, size_bytes: u64) -> HostResult<PathBuf> {
    let path = dirs.layers().join(format!("empty-{size_bytes}.qcow2"));
    if !path.exists() {
        let aside = pyro_image::Partial::beside(&path).doing("make an empty overlay")?;
        qemu_img(&["create", "-q", "-f", "qcow2", &aside.path().to_string_lossy(), &size_bytes.to_string()]).await?;
        aside.publish(&path).doing("make an empty overlay")?;
    }
    Ok(path)
}

/// Runs `qemu-img` to its end, on files no machine has written.
async fn qemu_img(arguments: &[&str]) -> HostResult<()> {
    let output = tokio::process::Command::new("qemu-img")
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| HostError::Start { program: "qemu-img".into(), source })?;
    check_tool(&output)
}

/// Turns a failed run of `qemu-img` into an error.
pub(super) fn check_tool(output: &std::process::Output) -> HostResult<()> {
    if output.status.success() {
        return Ok(());
    }
    let detail: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(2000).collect();
    if detail.contains("No space left") { Err(HostError::HostDiskFull) } else { Err(HostError::Program { program: "qemu-img", detail }) }
}

/// Which of the shared blanks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Blank {
    Root { gib: u64 },
    Workspace { gib: u64 },
    Scratch,
}

/// Returns the shared blank file system of this size, made once.
pub(crate) async fn blank(dirs: &Dirs, registry: &std::sync::Mutex<Registry>, blank: Blank) -> HostResult<LayerRecord> {
    let (layer, label) = match blank {
        Blank::Root { gib } => (LayerRecord::blank_root(gib), "pyro-root"),
        Blank::Workspace { gib } => (LayerRecord::blank_workspace(gib), "pyro-workspace"),
        Blank::Scratch => {
            let id: LayerId = "blank-scratch".parse().expect("made of letters and a dash");
            (LayerRecord { id, parent: None, format: "raw".into(), size_bytes: SCRATCH_BYTES }, "pyro-scratch")
        }
    };
    let size_bytes = layer.size_bytes;
    crate::lock(registry).insert_layer(&layer)?;
    let path = dirs.layers().join(layer.file_name());
    if !path.exists() {
        tokio::task::spawn_blocking(move || pyro_image::write_blank_ext4(&path, size_bytes, label))
            .await
            .map_err(|error| HostError::File { operation: "wait for mke2fs", source: error.into() })?
            .map_err(|source| HostError::Environment { source })?;
    }
    Ok(layer)
}

/// Refuses a layer whose header names another file. A QEMU taken over by its guest can write any header into its overlay, and whoever
/// opens that later would follow the name with rights of its own: an external data file or a backing file, which no layer of ours has.
fn check_header(file: &OwnedFd, layer: &LayerRecord) -> HostResult<()> {
    /// "dirty", after a crash; no other incompatible feature is made by our QEMU (docs/interop/qcow2.txt).
    const KNOWN_FEATURES: u64 = 1;
    if layer.format != "qcow2" {
        return Ok(());
    }
    let mut header = [0u8; 80];
    let file = std::fs::File::from(file.try_clone().doing("check a disk layer")?);
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut header, 0).doing("check a disk layer")?;
    let number = |at: usize, length: usize| header[at..at + length].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let sound = header.starts_with(b"QFI\xfb")
        && number(4, 4) == 3
        // An empty name is what QEMU leaves when it was told to write none.
        && (number(8, 8) == 0 || number(16, 4) == 0)
        && number(32, 4) == 0
        && number(72, 8) & !KNOWN_FEATURES == 0;
    if sound { Ok(()) } else { Err(HostError::LayerTampered { layer: layer.id.to_string() }) }
}

/// Merges the top layer of a resting chain into the one below, in a process that can reach these layers and nothing else.
pub(crate) async fn merge_top(dirs: &Dirs, qemu: &Path, chain: &[LayerRecord]) -> HostResult<()> {
    for layer in chain {
        open_layer(dirs, layer)?;
    }
    // Held to the end: a machine that is placed meanwhile, say by a reset, waits for it.
    let mut locks = Vec::new();
    for (depth, layer) in chain.iter().enumerate().filter(|(_, layer)| layer.format == "qcow2") {
        let path = dirs.layers().join(layer.file_name());
        let lock = if depth < 2 { LayerLock::writer(&path)? } else { LayerLock::reader(&path)? };
        locks.push(lock.ok_or_else(|| HostError::LayerInUse { layer: layer.id.to_string() })?);
    }
    let path = |layer: &LayerRecord| dirs.layers().join(layer.file_name());
    let image = chain.iter().rev().fold(serde_json::Value::Null, |backing, layer| {
        let file = json!({ "driver": "file", "filename": path(layer).to_string_lossy() });
        let mut node = json!({ "driver": layer.format, "file": file });
        if layer.format == "qcow2" {
            node["backing"] = backing;
        }
        node
    });
    let beside = qemu.with_file_name("qemu-img");
    let program = if beside.is_file() { beside } else { PathBuf::from("/usr/bin/qemu-img") };
    let arguments = ["commit", "-q", "-d", &format!("json:{image}")].map(str::to_owned).to_vec();
    let (writable, readable) = chain.split_at(chain.len().min(2));
    process::run_contained(&program, arguments, writable.iter().map(path).collect(), readable.iter().map(path).collect()).await
}

/// Takes a layer that a machine will read, so that nobody writes it from now on. One that is being merged is waited for. Layers that no
/// machine ever wrote need no lock.
pub(crate) async fn lock_layer(dirs: &Dirs, layer: &LayerRecord) -> HostResult<Option<LayerLock>> {
    /// Merging copies what the layers hold, gigabytes at worst.
    const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(20);
    if layer.format != "qcow2" {
        return Ok(None);
    }
    let (path, end) = (dirs.layers().join(layer.file_name()), tokio::time::Instant::now() + DEADLINE);
    loop {
        match LayerLock::reader(&path)? {
            Some(lock) => return Ok(Some(lock)),
            None if tokio::time::Instant::now() < end => tokio::time::sleep(LOOK_EVERY).await,
            None => return Err(HostError::LayerInUse { layer: layer.id.to_string() }),
        }
    }
}

/// Opens a layer for reading, for the machine it will be hung under alone: image locks belong to open files.
pub(crate) fn open_layer(dirs: &Dirs, layer: &LayerRecord) -> HostResult<OwnedFd> {
    let file = open(&dirs.layers().join(layer.file_name()), OFlags::RDONLY)?;
    check_header(&file, layer)?;
    Ok(file)
}

fn open(path: &Path, flags: OFlags) -> HostResult<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| std::io::Error::new(std::io::Error::from(errno).kind(), format!("`{}`: {errno}", path.display())))
        .doing("open a disk layer")
}

/// Opens the environment's image.
pub(crate) fn open_environment(path: &Path) -> HostResult<OwnedFd> {
    open(path, OFlags::RDONLY)
}
