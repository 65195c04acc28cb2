//! A host folder that is written to without ever being left.
//!
//! Every path is resolved by `openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, so a link that a guest, a repository or somebody
//! else at the same time puts in the way is an error and nothing is written behind it. Names are made with `O_EXCL` and moved into place.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    entry::EntryKind,
    files::{self, PIECE_BYTES},
    path::TreePath,
};

/// What an entry of the host looks like; the time of its last change is not part of its identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) size_bytes: u64,
    pub(crate) mtime_seconds: i64,
    pub(crate) mtime_nanoseconds: i64,
    /// SHA-256 of a file.
    pub(crate) digest: Option<[u8; 32]>,
    pub(crate) link_target: Option<Vec<u8>>,
    /// Whose it is; `None` in what an older Pyro wrote down, and of what is still to be made.
    #[serde(default)]
    pub(crate) owner: Option<Owner>,
}

/// User and group of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Owner {
    pub(crate) fn of(status: &Stat) -> Self {
        Self { user: status.st_uid, group: status.st_gid }
    }
}

impl Shape {
    /// Returns whether two entries hold the same.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.kind == other.kind && self.digest == other.digest && self.link_target == other.link_target
    }

    /// Returns whether two entries are the same but for their time.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.same_content(other) && (self.kind == EntryKind::Link || self.mode == other.mode)
    }
}

/// What is found at a path.
#[derive(Debug, Clone)]
pub(crate) enum Look {
    Absent,
    /// A folder on the way is a link.
    BehindLink,
    /// A folder on the way is none.
    BehindFile,
    /// A device, FIFO or socket.
    Other,
    Found(Shape),
}

/// Content of a file that may have holes.
pub trait Sparse: Read {
    /// Passes over the hole that begins here, and returns its size; 0 when there is none, or nobody knows.
    fn skip_hole(&mut self) -> u64 {
        0
    }
}

impl Sparse for &[u8] {}
impl Sparse for io::Empty {}

/// What became of a file with holes.
pub(crate) struct Made {
    pub(crate) size_bytes: u64,
    /// Without the holes.
    pub(crate) data_bytes: u64,
}

/// A host folder held open.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: OwnedFd,
    path: PathBuf,
}

impl Beneath {
    /// Opens a folder; links in its own path are followed, since the user named it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root, path: path.into() })
    }

    /// Returns the host path of something below, for messages.
    pub(crate) fn host_path(&self, path: &TreePath) -> PathBuf {
        self.path.join(path.as_path())
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Opens the folder that holds a path, and returns its last name.
    fn parent<'p>(&self, path: &'p TreePath) -> io::Result<(OwnedFd, &'p OsStr)> {
        let parent = path.parent();
        let bytes = parent.as_ref().map_or(&b"."[..], TreePath::as_bytes);
        let folder = self.resolve(bytes, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((folder, OsStr::from_bytes(path.file_name())))
    }

    /// Returns the status of what is at a path, not followed; `None` when there is nothing.
    pub(crate) fn status(&self, path: &TreePath) -> io::Result<Option<Stat>> {
        match self.resolve(path.as_bytes(), OFlags::PATH) {
            Ok(found) => Ok(Some(rustix::fs::fstat(found)?)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns what is at a path, with a file's digest.
    pub(crate) fn look(&self, path: &TreePath) -> io::Result<Look> {
        let found = match self.resolve(path.as_bytes(), OFlags::PATH) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(Look::Absent),
            Err(Errno::NOTDIR) => return Ok(Look::BehindFile),
            Err(Errno::LOOP) => return Ok(Look::BehindLink),
            Err(error) => return Err(error.into()),
        };
        let status = rustix::fs::fstat(&found)?;
        let mut shape = Shape {
            kind: EntryKind::File,
            mode: status.st_mode & 0o777,
            size_bytes: 0,
            mtime_seconds: status.st_mtime,
            mtime_nanoseconds: i64::try_from(status.st_mtime_nsec).map_err(io::Error::other)?,
            digest: None,
            link_target: None,
            owner: Some(Owner::of(&status)),
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {
                let (digest, size) = files::digest(&mut self.read(path)?)?;
                shape.digest = Some(digest);
                shape.size_bytes = size;
            }
            FileType::Directory => shape.kind = EntryKind::Directory,
            FileType::Symlink => {
                shape.kind = EntryKind::Link;
                shape.link_target = Some(rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes());
            }
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                return Ok(Look::Other);
            }
        }
        Ok(Look::Found(shape))
    }

    /// Opens a regular file for reading.
    pub(crate) fn read(&self, path: &TreePath) -> io::Result<std::fs::File> {
        let file = self.resolve(path.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("is no regular file"));
        }
        Ok(file.into())
    }

    /// Lists the names in a folder; `None` is the top.
    pub(crate) fn names(&self, path: Option<&TreePath>) -> io::Result<Vec<Vec<u8>>> {
        let folder = self.resolve(path.map_or(&b"."[..], TreePath::as_bytes), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for item in Dir::read_from(&folder)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&self, path: &TreePath, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
        self.set_folder_mode(path, mode)
    }

    /// Gives a folder its permission bits.
    pub(crate) fn set_folder_mode(&self, path: &TreePath, mode: u32) -> io::Result<()> {
        let folder = self.resolve(path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(rustix::fs::fchmod(folder, Mode::from_raw_mode(mode & 0o777))?)
    }

    /// Makes a symbolic link.
    pub(crate) fn make_link(&self, path: &TreePath, target: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::symlinkat(target, &parent, name)?)
    }

    fn create(&self, path: &TreePath) -> io::Result<std::fs::File> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Makes a file with holes where `content` has them, which are not read. It ends where content passes one of the maxima.
    pub(crate) fn make_sparse_file(
        &self,
        path: &TreePath,
        mode: u32,
        content: &mut dyn Sparse,
        size_max: u64,
        data_max: u64,
    ) -> io::Result<Made> {
        let file = self.create(path)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut made = Made { size_bytes: 0, data_bytes: 0 };
        loop {
            let offset = made.size_bytes;
            let hole = content.skip_hole();
            made.size_bytes = made.size_bytes.saturating_add(hole);
            if made.size_bytes > size_max {
                return Ok(made);
            }
            if hole > 0 {
                continue;
            }
            let count = match content.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let read = u64::try_from(count).map_err(io::Error::other)?;
            made.size_bytes = made.size_bytes.saturating_add(read);
            made.data_bytes = made.data_bytes.saturating_add(read);
            if made.size_bytes > size_max || made.data_bytes > data_max {
                return Ok(made);
            }
            file.write_all_at(&piece[..count], offset)?;
        }
        file.set_len(made.size_bytes)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        Ok(made)
    }

    /// Makes a file with everything `content` gives; returns its digest and size. Set-user-id and its like are dropped.
    ///
    /// Zeros become holes: a spooled file is read without knowing where it had them.
    pub(crate) fn make_file(&self, path: &TreePath, mode: u32, content: &mut dyn Read) -> io::Result<([u8; 32], u64)> {
        let file = self.create(path)?;
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut size = 0_u64;
        loop {
            let count = match content.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&piece[..count]);
            if piece[..count].iter().any(|&byte| byte != 0) {
                file.write_all_at(&piece[..count], size)?;
            }
            size = size.saturating_add(u64::try_from(count).map_err(io::Error::other)?);
        }
        file.set_len(size)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        Ok((hasher.finalize().into(), size))
    }

    /// Moves something to a place below, over a file or link that is there.
    pub(crate) fn rename(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        Ok(rustix::fs::renameat(&from_parent, from_name, &to_parent, to_name)?)
    }

    /// Moves something to a place below where nothing is.
    pub(crate) fn rename_new(&self, from: &TreePath, to: &TreePath) -> io::Result<()> {
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        Ok(rustix::fs::renameat_with(&from_parent, from_name, &to_parent, to_name, RenameFlags::NOREPLACE)?)
    }

    /// Removes a file or link.
    pub(crate) fn remove(&self, path: &TreePath) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?)
    }

    /// Removes an empty folder; returns whether it was empty.
    pub(crate) fn remove_folder(&self, path: &TreePath) -> io::Result<bool> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the time of the last change of an entry, not following it.
    pub(crate) fn set_mtime(&self, path: &TreePath, seconds: i64, nanoseconds: i64) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::utimensat(&parent, name, &modified(seconds, nanoseconds), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Gives an entry to a user and group, not following it. Where this process may not, which only root may, it stays its own: a file that
    /// cannot be given back is better than none.
    pub(crate) fn give_to(&self, path: &TreePath, owner: Owner) -> io::Result<()> {
        let status = self.status(path)?.ok_or(io::ErrorKind::NotFound)?;
        if Owner::of(&status) == owner {
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
        match rustix::fs::chownat(&parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::PERM) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the status of the folder itself.
    pub(crate) fn own_status(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.root)?)
    }

    /// Sets the time of the last change of the folder itself.
    pub(crate) fn set_own_mtime(&self, seconds: i64, nanoseconds: i64) -> io::Result<()> {
        Ok(rustix::fs::futimens(&self.root, &modified(seconds, nanoseconds))?)
    }

    /// Writes everything below to the disk, directory entries included.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }
}

const fn modified(seconds: i64, nanoseconds: i64) -> Timestamps {
    let last_modification = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}
