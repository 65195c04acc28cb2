//! The tree at `/workspace`, seen from the root of its disk.
//!
//! The disk's root holds `tree`, which is bind-mounted at `/workspace`, and `pyro`, the agent's own folder, which no command sees. The
//! agent works from the disk's root, so that a rename between the two stays on one mount. Paths come from the host and from users: they
//! are resolved below `tree` by the kernel (openat2(2)), which lets a relative link lead anywhere inside and nowhere else. A link it refuses
//! may still lead inside, as one to `/workspace/…` does: such a path is followed name by name (`pyro_proto::links`), and what comes out of it
//! is opened without following anything.
//!
//! Everything here blocks, possibly for as long as the file system is frozen, and belongs on a thread of its own.

mod error;
mod list;
mod path;
mod read;
mod remove;
mod status;
mod walk;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pyro_proto::links::{self, FollowError, Found};
use pyro_proto::v1::FileKind;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat, openat2, statat};
use rustix::io::Errno;

pub(crate) use error::FileError;
pub(crate) use list::list;
pub(crate) use path::TreePath;
pub(crate) use read::{Stop, read};
pub(crate) use remove::remove_tree;
pub(crate) use status::{is_folder, kind, special, version};
pub(crate) use walk::names;

const TREE: &str = "tree";
const STAGING: &str = "pyro";

/// How often a path is resolved anew when a rename elsewhere got in the way.
const RESOLVE_ATTEMPTS: usize = 64;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The two folders of a workspace's disk; what is opened here stays open until the machine ends.
#[derive(Debug)]
pub(crate) struct Files {
    disk: OwnedFd,
    tree: OwnedFd,
    staging: OwnedFd,
}

/// Whether the agent's folder was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// A blank disk: nothing can be left of an earlier life.
    None,
    /// Changes may have been left in the middle.
    Some,
}

impl Files {
    /// Opens both folders below the root of a disk, which may be blank.
    pub(crate) fn open(disk: OwnedFd) -> Result<(Self, Past), FileError> {
        let folder = |name: &str, mode: u32| {
            // Asking for a new one is cheaper than asking whether it is there.
            let past = match mkdirat(&disk, name, Mode::from_raw_mode(mode)) {
                Ok(()) => Past::None,
                Err(Errno::EXIST) => Past::Some,
                Err(error) => return Err(FileError::io("make folder", name.as_bytes(), error)),
            };
            let folder = openat(&disk, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
            Ok((folder.map_err(|error| FileError::io("open folder", name.as_bytes(), error))?, past))
        };
        let (tree, _) = folder(TREE, 0o755)?;
        let (staging, past) = folder(STAGING, 0o700)?;
        Ok((Self { disk, tree, staging }, past))
    }

    /// The root of the disk, which stands for its file system.
    pub(crate) fn disk(&self) -> BorrowedFd<'_> {
        self.disk.as_fd()
    }

    /// What commands see as `/workspace`.
    pub(crate) fn tree(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// The agent's own folder.
    pub(crate) fn staging(&self) -> BorrowedFd<'_> {
        self.staging.as_fd()
    }

    /// Opens a folder of the tree, following links that stay inside, or None when there is no such folder.
    pub(crate) fn folder(&self, path: &TreePath) -> Result<Option<OwnedFd>, FileError> {
        self.open_at(path, FOLDER)
    }

    /// Returns what is at `path`, its last component not followed, or None when nothing is.
    pub(crate) fn stat(&self, path: &TreePath) -> Result<Option<Stat>, FileError> {
        match self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)? {
            Some(place) => rustix::fs::fstat(place).map(Some).map_err(|error| FileError::opening(path, error)),
            None => Ok(None),
        }
    }

    /// Opens what is at `path`, following links that stay inside, or None when nothing is. With `NOFOLLOW` a link at its end is not followed.
    pub(crate) fn open_at(&self, path: &TreePath, flags: OFlags) -> Result<Option<OwnedFd>, FileError> {
        match self.reach(path, flags) {
            Ok(found) => Ok(Some(found)),
            Err(FollowError::NoDirectory | FollowError::Look(Errno::NOENT | Errno::NOTDIR)) => Ok(None),
            Err(error) => Err(FileError::following(path, error)),
        }
    }

    /// As [`open_at`](Self::open_at), for steps that are carried out on descriptors.
    pub(crate) fn reach(&self, path: &TreePath, flags: OFlags) -> Result<OwnedFd, FollowError<Errno>> {
        match resolve(self.tree(), path, flags, ResolveFlags::BENEATH) {
            Err(Errno::XDEV) => {
                let real = match path.split().filter(|_| flags.contains(OFlags::NOFOLLOW)) {
                    Some((parent, name)) => self.follow(&parent)?.0.join(name),
                    None => Ok(self.follow(path)?.0),
                };
                let real = real.map_err(|_| FollowError::Look(Errno::NAMETOOLONG))?;
                resolve(self.tree(), &real, flags, ResolveFlags::NO_SYMLINKS).map_err(FollowError::Look)
            }
            result => result.map_err(FollowError::Look),
        }
    }

    /// Returns the path without links that `path` leads to, where nothing may be, and what the last link on the way says.
    pub(crate) fn follow(&self, path: &TreePath) -> Result<(TreePath, Option<Vec<u8>>), FollowError<Errno>> {
        let followed = links::follow(path.bytes(), |path| {
            let path = TreePath::parse(path).map_err(|_| Errno::NAMETOOLONG)?;
            let place = match resolve(self.tree(), &path, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS) {
                Ok(place) => place,
                Err(Errno::NOENT) => return Ok(Found::Missing),
                Err(error) => return Err(error),
            };
            let stat = rustix::fs::fstat(&place)?;
            Ok(match kind(&stat) {
                FileKind::Directory => Found::Directory,
                FileKind::Link => Found::Link(list::link_target(&place, b"", &stat).into()),
                FileKind::File | FileKind::Fifo | FileKind::Socket | FileKind::Device | FileKind::Other | FileKind::Unspecified => {
                    Found::Other
                }
            })
        })?;
        let path = TreePath::parse(&followed.path).map_err(|_| FollowError::Look(Errno::NAMETOOLONG))?;
        Ok((path, followed.link.map(|(_, target)| target)))
    }
}

/// Opens `path` below `root` and nowhere else.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &TreePath, flags: OFlags, how: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let how = how | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = || openat2(root, path.at(), flags | OFlags::CLOEXEC, Mode::empty(), how);
    let mut result = open();
    for _ in 1..RESOLVE_ATTEMPTS {
        match result {
            Err(Errno::AGAIN | Errno::INTR) => result = open(),
            Ok(_) | Err(_) => break,
        }
    }
    result
}

/// Returns what an open folder has under `name`, not followed, or None when nothing is there.
pub(crate) fn stat_in(folder: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
