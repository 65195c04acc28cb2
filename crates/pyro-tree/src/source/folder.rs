//! A host folder that is read without ever being left: each step resolves below it and through no link.
//!
//! Folders are opened by their path from the top, not kept open on the way down: a tree may be deeper than there are descriptors.

use std::{
    ffi::OsStr,
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
};

use crate::entry::Timestamp;

/// Files up to this size are read whole before the sink sees them, so that one that shrinks or fails meanwhile is no failure of the source.
const WHOLE_MAX_BYTES: u64 = 1 << 20;

/// A host folder held open.
#[derive(Debug)]
pub(super) struct Folder {
    root: OwnedFd,
    path: PathBuf,
}

/// What a name in a folder stands for.
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    pub(super) kind: FileType,
}

/// Content of a file that has been opened.
pub(super) enum Opened {
    Whole(Vec<u8>),
    Stream(fs_err::File, u64),
}

impl Folder {
    /// Opens a folder; links in `path` itself are followed, since the user named it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { root, path: path.into() })
    }

    /// Returns the host path of something below, for messages.
    pub(super) fn host_path(&self, below: &[u8]) -> PathBuf {
        if below.is_empty() { self.path.clone() } else { self.path.join(OsStr::from_bytes(below)) }
    }

    fn resolve(&self, below: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let below = if below.is_empty() { b"." } else { below };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.root, below, flags, Mode::empty(), resolve)?)
    }

    /// Opens a folder below; an empty path is this one.
    pub(super) fn folder(&self, below: &[u8]) -> io::Result<OwnedFd> {
        self.resolve(below, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Returns what a path below is, without following it.
    pub(super) fn status(&self, below: &[u8]) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.resolve(below, OFlags::PATH)?)?)
    }

    /// Reads a small regular file whole; `None` when there is none or it is something else.
    pub(super) fn read_small(&self, below: &[u8], max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.resolve(below, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > max_bytes) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is larger than {max_bytes} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Returns where a link below leads, as it is written in it; `None` when there is none.
    pub(super) fn read_link(&self, below: &[u8]) -> Option<Vec<u8>> {
        let link = self.resolve(below, OFlags::PATH).ok()?;
        rustix::fs::readlinkat(&link, "", Vec::new()).ok().map(std::ffi::CString::into_bytes)
    }

    /// Opens the regular file `name` of the open folder `parent`; its size is what can be read of it.
    pub(super) fn open_file(&self, parent: &OwnedFd, name: &[u8], shown: PathBuf) -> io::Result<(Opened, Stat)> {
        // Without NONBLOCK a FIFO that took the file's place would hold us for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        let status = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("became something else while it was read"));
        }
        let size = u64::try_from(status.st_size).map_err(io::Error::other)?;
        let mut file = fs_err::File::from_parts(file.into(), shown);
        if size > WHOLE_MAX_BYTES {
            return Ok((Opened::Stream(file, size), status));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(io::Error::other)?);
        (&mut file).take(size).read_to_end(&mut bytes)?;
        Ok((Opened::Whole(bytes), status))
    }

    /// Lists an open folder, sorted by name.
    pub(super) fn list(&self, folder: &OwnedFd) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for item in Dir::read_from(folder)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match item.file_type() {
                FileType::Unknown => FileType::from_raw_mode(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
                known @ (FileType::RegularFile
                | FileType::Directory
                | FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice) => known,
            };
            found.push(Found { name: name.to_vec(), kind });
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }
}

/// Returns when something was changed last.
pub(super) fn mtime_of(status: &Stat) -> Timestamp {
    Timestamp { seconds: status.st_mtime, nanoseconds: u32::try_from(status.st_mtime_nsec).unwrap_or(0) }
}

/// Returns whether an error says that there is no such thing below the folder.
pub(super) fn is_absent(error: &io::Error) -> bool {
    let code = rustix::io::Errno::from_io_error(error);
    code.is_some_and(|code| matches!(code, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP))
}

/// Names a kind that no tree holds.
pub(super) const fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "is a FIFO",
        FileType::Socket => "is a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "is a device",
        FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown => "is of an unknown kind",
    }
}
