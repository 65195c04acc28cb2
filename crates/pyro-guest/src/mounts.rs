//! The machine's disks and the places the agent mounts things, before and after a workspace is attached.
//!
//! | place | what | from |
//! |---|---|---|
//! | `/env` | environment image, read-only | boot |
//! | `/scratch`, `/warm` | scratch disk, overlay on it | `Warm`, gone after it |
//! | `/changes`, `/new` | root-changes disk, overlay on it that becomes `/` | `Attach` |
//! | `/disk` | workspace's disk, whose `tree` is bound to `/workspace` | `Attach` |
//!
//! All of them lie in the initial RAM file system, which `Attach` covers with the overlay.

use std::ffi::{CStr, CString};
use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};

pub(crate) const ENVIRONMENT: &CStr = c"/env";
pub(crate) const CHANGES: &CStr = c"/changes";
pub(crate) const NEW_ROOT: &CStr = c"/new";
pub(crate) const DISK: &CStr = c"/disk";
pub(crate) const SCRATCH: &CStr = c"/scratch";
pub(crate) const WARM: &CStr = c"/warm";

/// The zeroing of inode tables in the background would fill a sparse disk of 8 GiB with 128 MiB of zeros.
const EXT4_OPTIONS: &CStr = c"noinit_itable";

const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

/// A mount, its end, or what belongs to one could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("the machine has no disk `{serial}`")]
    NoDisk { serial: &'static str },
    #[error("cannot mount {what} at `{target}`")]
    Mount { what: String, target: String, source: io::Error },
    #[error("cannot unmount `{target}`")]
    Unmount { target: String, source: io::Error },
    #[error("cannot make directory `{path}`")]
    Directory { path: String, source: io::Error },
}

/// Device paths of the writable disks; the environment is mounted at boot and needs no name afterwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disks {
    changes: Option<String>,
    workspace: Option<String>,
    scratch: Option<String>,
}

impl Disks {
    /// Finds the disks by their virtio serials; returns the environment's device too.
    pub(crate) fn find() -> (Self, Option<String>) {
        let mut disks = Self::default();
        let mut environment = None;
        let Ok(blocks) = std::fs::read_dir("/sys/block") else { return (disks, None) };
        for block in blocks.flatten() {
            let Ok(serial) = std::fs::read_to_string(block.path().join("serial")) else { continue };
            let device = Some(format!("/dev/{}", block.file_name().to_string_lossy()));
            match serial.trim_end() {
                "pyro-env" => environment = device,
                "pyro-root" => disks.changes = device,
                "pyro-workspace" => disks.workspace = device,
                "pyro-scratch" => disks.scratch = device,
                _ => {}
            }
        }
        (disks, environment)
    }

    pub(crate) fn changes(&self) -> Result<&str, MountError> {
        self.changes.as_deref().ok_or(MountError::NoDisk { serial: "pyro-root" })
    }

    pub(crate) fn workspace(&self) -> Result<&str, MountError> {
        self.workspace.as_deref().ok_or(MountError::NoDisk { serial: "pyro-workspace" })
    }

    pub(crate) fn scratch(&self) -> Result<&str, MountError> {
        self.scratch.as_deref().ok_or(MountError::NoDisk { serial: "pyro-scratch" })
    }

    pub(crate) fn writable(&self) -> impl Iterator<Item = &str> {
        [&self.changes, &self.workspace, &self.scratch].into_iter().flatten().map(String::as_str)
    }
}

/// Mounts a file system with a source of its own kind: `proc`, `tmpfs` and the like.
pub(crate) fn special(kind: &CStr, target: &CStr, flags: MountFlags, options: &CStr) -> Result<(), MountError> {
    rustix::mount::mount(kind, target, kind, flags, options).map_err(|error| failed(&kind.to_string_lossy(), target, error))
}

/// Mounts a disk for writing, replaying the journal of a machine that was killed.
pub(crate) fn disk(device: &str, target: &CStr) -> Result<(), MountError> {
    rustix::mount::mount(device, target, c"ext4", MountFlags::NOATIME, EXT4_OPTIONS).map_err(|error| failed(device, target, error))
}

/// Mounts the environment at `/env`.
pub(crate) fn environment(device: &str) -> Result<(), MountError> {
    // The image is shared by every machine: not even a journal may be replayed on it.
    rustix::mount::mount(device, ENVIRONMENT, c"ext4", MountFlags::RDONLY | MountFlags::NOATIME, c"noload")
        .map_err(|error| failed(device, ENVIRONMENT, error))
}

/// Mounts the environment with its changes, which go to `upper` and `work` of the file system at `changes`.
pub(crate) fn overlay(changes: &CStr, target: &CStr) -> Result<(), MountError> {
    let changes = changes.to_string_lossy();
    let options = CString::new(format!("lowerdir=/env,upperdir={changes}/upper,workdir={changes}/work"));
    let options = options.expect("no part of it holds a zero byte");
    let mount = || rustix::mount::mount(c"overlay", target, c"overlay", MountFlags::NOATIME, options.as_c_str());
    let folders = [format!("{changes}/work"), format!("{changes}/upper")];
    // Asking for one is cheaper than a failed mount, which also leaves a line in the log; a blank disk has neither.
    if rustix::fs::mkdir(&folders[0], FOLDER_MODE).is_ok() {
        directory(&folders[1])?;
    }
    match mount() {
        // The machine was killed between the two.
        Err(rustix::io::Errno::NOENT) => {
            folders.iter().try_for_each(|folder| directory(folder))?;
            mount()
        }
        result => result,
    }
    .map_err(|error| failed("an overlay", target, error))
}

/// Shows the tree of a workspace's disk, mounted at `disk`, as the folder `workspace` of the root at `root`. Returns where that is.
pub(crate) fn workspace(disk: &CStr, root: &CStr) -> Result<CString, MountError> {
    let path = format!("{}/workspace", root.to_string_lossy());
    let target = CString::new(path.as_str()).expect("no part of it holds a zero byte");
    let tree = format!("{}/tree", disk.to_string_lossy());
    let bind = || rustix::mount::mount_bind(tree.as_str(), target.as_c_str());
    if bind().is_err() {
        directory(&path)?;
        bind().map_err(|error| failed("the workspace's tree", &target, error))?;
    }
    Ok(target)
}

/// Moves a mount, submounts included.
pub(crate) fn move_to(source: &CStr, target: &CStr) -> Result<(), MountError> {
    rustix::mount::mount_move(source, target).map_err(|error| failed(&format!("`{}`", source.to_string_lossy()), target, error))
}

pub(crate) fn unmount(target: &CStr, flags: UnmountFlags) -> Result<(), MountError> {
    rustix::mount::unmount(target, flags)
        .map_err(|error| MountError::Unmount { target: target.to_string_lossy().into_owned(), source: error.into() })
}

/// Makes a directory with mode 0755 unless it is there.
pub(crate) fn directory(path: &str) -> Result<(), MountError> {
    match rustix::fs::mkdir(path, FOLDER_MODE) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(MountError::Directory { path: path.to_owned(), source: error.into() }),
    }
}

/// Opens a directory that stands for its mount and file system: for paths below it, for flushing, freezing and mounting anew.
pub(crate) fn handle(path: &CStr) -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn failed(what: &str, target: &CStr, error: rustix::io::Errno) -> MountError {
    MountError::Mount { what: what.to_owned(), target: target.to_string_lossy().into_owned(), source: error.into() }
}
