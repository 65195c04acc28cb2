//! Writes the inputs of a change below `pyro/change-N/new`, where each has the path it will have below `/workspace`.
//!
//! Content goes to the disk as it comes. In memory stays only what the plan cannot see in the staged tree: what is to be removed, what
//! must be compared first, and the modes of folders.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pyro_proto::limits::VERSION_MAX_BYTES;
use pyro_proto::v1::{ChangeAnswer, ChangeItem, ChangeKind, ChangeStart, change_input};
use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, chmodat, fchmod, futimens, mkdirat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::PREFIX;
use crate::files::{FileError, Files, TreePath, resolve};

/// Most items of one change.
const ITEMS_MAX: u64 = 1_000_000;
/// Most memory for items that must be remembered.
const REMEMBERED_MAX_BYTES: usize = 48 << 20;
/// What remembering an item costs besides its path.
const REMEMBERED_BYTES: usize = 128;
/// Files that are written out one by one; past it, flushing the whole file system once is cheaper.
const WRITTEN_OUT_MAX: u64 = 16;

const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
const OPEN_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Numbers the changes of this life of the agent; what an earlier one has left is stepped over.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// An item the plan must know of.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) path: TreePath,
    /// The path that was named, when links lead from it to `path`.
    pub(super) named: Option<TreePath>,
    pub(super) what: What,
    pub(super) expected_version: Bytes,
    pub(super) expected_absent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A file, whether it keeps the mode and owner of the one it replaces.
    File {
        keep_mode: bool,
    },
    Folder {
        mode: u32,
        mtime: Option<i64>,
    },
    Link,
    Remove,
}

/// A change being staged.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    files: &'a Files,
    name: Vec<u8>,
    folder: OwnedFd,
    new: OwnedFd,
    pub(super) destination: TreePath,
    pub(super) replace: bool,
    pub(super) remembered: Vec<Remembered>,
    remembered_bytes: usize,
    items: u64,
    counts: ChangeAnswer,
    /// The folder the last item went to.
    parent: Option<(TreePath, OwnedFd)>,
    /// Whether files have to be flushed before anything is renamed.
    unwritten: bool,
}

/// A file whose bytes are coming.
struct Incoming {
    file: OwnedFd,
    path: TreePath,
    left: u64,
    mtime: Option<i64>,
}

impl<'a> Stage<'a> {
    pub(super) fn begin(files: &'a Files) -> Result<Self, FileError> {
        let failed = |error| FileError::io("stage a change in", b"pyro", error);
        let name = loop {
            let name = format!("{PREFIX}{}", NEXT.fetch_add(1, Ordering::Relaxed));
            match mkdirat(files.staging(), name.as_str(), Mode::RWXU) {
                Ok(()) => break name,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
        };
        let open = || {
            let folder = openat(files.staging(), name.as_str(), OPEN_FOLDER, Mode::empty())?;
            mkdirat(&folder, "new", FOLDER_MODE)?;
            let new = openat(&folder, "new", OPEN_FOLDER, Mode::empty())?;
            Ok((folder, new))
        };
        let (folder, new) = open().map_err(failed)?;
        Ok(Self {
            files,
            name: name.into_bytes(),
            folder,
            new,
            destination: TreePath::default(),
            replace: false,
            remembered: Vec::new(),
            remembered_bytes: 0,
            items: 0,
            counts: ChangeAnswer::default(),
            parent: None,
            unwritten: false,
        })
    }

    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    pub(super) fn staged(&self) -> BorrowedFd<'_> {
        self.new.as_fd()
    }

    pub(super) fn into_name(self) -> Vec<u8> {
        self.name
    }

    pub(super) fn counts(&self) -> ChangeAnswer {
        self.counts.clone()
    }

    /// Takes inputs until the commit.
    pub(super) fn fill(&mut self, inputs: &mut mpsc::Receiver<change_input::Input>) -> Result<(), FileError> {
        let invalid = |reason: &str| FileError::Change { reason: reason.to_owned() };
        let mut started = false;
        let mut incoming: Option<Incoming> = None;
        loop {
            let input = inputs.blocking_recv().ok_or(FileError::Abandoned)?;
            if !started && !matches!(input, change_input::Input::Start(_)) {
                return Err(invalid("its first input is not its start"));
            }
            if incoming.is_some() && !matches!(input, change_input::Input::Content(_)) {
                return Err(invalid("a file has fewer bytes than announced"));
            }
            match input {
                change_input::Input::Start(_) if started => return Err(invalid("it starts twice")),
                change_input::Input::Start(start) => {
                    started = true;
                    self.start(&start)?;
                }
                change_input::Input::Item(item) => incoming = self.item(item)?,
                change_input::Input::Content(bytes) => {
                    let Some(mut file) = incoming.take() else {
                        // An empty file may be followed by no bytes in one piece.
                        if bytes.is_empty() {
                            continue;
                        }
                        return Err(invalid("a file has more bytes than announced"));
                    };
                    file.write(&bytes)?;
                    if file.left > 0 {
                        incoming = Some(file);
                    } else {
                        self.close(&file)?;
                    }
                }
                change_input::Input::Commit(_) => return Ok(()),
            }
        }
    }

    fn start(&mut self, start: &ChangeStart) -> Result<(), FileError> {
        self.destination = TreePath::parse(&start.destination)?;
        self.replace = start.replace;
        let destination = self.destination.clone();
        self.make_folders(&destination)
    }

    fn item(&mut self, item: ChangeItem) -> Result<Option<Incoming>, FileError> {
        self.items += 1;
        if self.items > ITEMS_MAX {
            return Err(FileError::TooLarge { reason: "it has more than 1000000 items" });
        }
        if item.expected_version.len() > VERSION_MAX_BYTES {
            return Err(FileError::Change { reason: "an expected version is longer than 64 bytes".to_owned() });
        }
        if item.path.is_empty() {
            return Err(FileError::Change { reason: "an item has no path".to_owned() });
        }
        let mut path = self.destination.join(&item.path)?;
        let mut named = None;
        if item.follow && item.kind() == ChangeKind::File {
            let (real, link) = self.files.follow(&path).map_err(|error| FileError::following(&path, error))?;
            if real.is_root() {
                return Err(FileError::conflict(&path, "it is a link to a directory"));
            }
            if link.is_some() {
                self.counts.followed = Bytes::copy_from_slice(real.bytes());
                named = Some(std::mem::replace(&mut path, real));
            }
        }
        let mode = item.mode & 0o7777;
        let mut incoming = None;
        let what = match item.kind() {
            ChangeKind::File => {
                incoming = self.file(&path, &item, mode)?;
                What::File { keep_mode: item.keep_mode }
            }
            ChangeKind::Directory => {
                self.make_folders(&path)?;
                What::Folder { mode, mtime: item.mtime_ns }
            }
            ChangeKind::Link => {
                self.link(&path, &item)?;
                What::Link
            }
            ChangeKind::Remove => What::Remove,
            ChangeKind::Unspecified => return Err(FileError::Change { reason: format!("`{}` has no kind", path.shown()) }),
        };
        if what != What::Remove {
            self.counts.written += 1;
        }
        let is_plain = matches!(what, What::File { keep_mode: false } | What::Link);
        if !is_plain || named.is_some() || !item.expected_version.is_empty() || item.expected_absent {
            let name_bytes = named.as_ref().map_or(0, |named| named.bytes().len());
            self.remembered_bytes += REMEMBERED_BYTES + path.bytes().len() + name_bytes + item.expected_version.len();
            if self.remembered_bytes > REMEMBERED_MAX_BYTES {
                return Err(FileError::TooLarge { reason: "it has too many items that remove, compare or keep something" });
            }
            // Of its own memory: what came from the wire keeps the whole message alive.
            let expected_version = Bytes::copy_from_slice(&item.expected_version);
            self.remembered.push(Remembered { path, named, what, expected_version, expected_absent: item.expected_absent });
        }
        Ok(incoming)
    }

    fn file(&mut self, path: &TreePath, item: &ChangeItem, mode: u32) -> Result<Option<Incoming>, FileError> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| staging(path, error))?;
        fchmod(&file, Mode::from_raw_mode(mode)).map_err(|error| staging(path, error))?;
        self.counts.bytes_written = self.counts.bytes_written.saturating_add(item.size_bytes);
        let incoming = Incoming { file, path: path.clone(), left: item.size_bytes, mtime: item.mtime_ns };
        if incoming.left > 0 {
            return Ok(Some(incoming));
        }
        incoming.set_time()?;
        Ok(None)
    }

    /// Ends a file whose bytes are all there.
    fn close(&mut self, file: &Incoming) -> Result<(), FileError> {
        file.set_time()?;
        if self.items > WRITTEN_OUT_MAX {
            self.unwritten = true;
            return Ok(());
        }
        write_out(&file.file, &file.path)
    }

    fn link(&mut self, path: &TreePath, item: &ChangeItem) -> Result<(), FileError> {
        if item.link_target.is_empty() || item.link_target.contains(&0) {
            return Err(FileError::Change { reason: format!("the link `{}` leads nowhere", path.shown()) });
        }
        let (parent, name) = self.parent(path)?;
        symlinkat(&*item.link_target, parent, name).map_err(|error| staging(path, error))?;
        if let Some(mtime) = item.mtime_ns {
            utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(|error| staging(path, error))?;
        }
        Ok(())
    }

    /// Makes the staged folder an entry goes to, and returns it with the entry's name.
    fn parent<'p>(&mut self, path: &'p TreePath) -> Result<(BorrowedFd<'_>, &'p [u8]), FileError> {
        let (parent, _) = path.split().expect("an item's path is not empty");
        let name = &path.bytes()[path.bytes().len() - path.split().map_or(0, |(_, name)| name.len())..];
        if parent.is_root() {
            return Ok((self.new.as_fd(), name));
        }
        if self.parent.as_ref().is_none_or(|(open, _)| *open != parent) {
            self.make_folders(&parent)?;
            let folder = self.open(&parent).map_err(|error| staging(&parent, error))?;
            self.parent = Some((parent, folder));
        }
        let (_, folder) = self.parent.as_ref().expect("it was just set");
        Ok((folder.as_fd(), name))
    }

    /// Makes a staged folder and its parents.
    fn make_folders(&mut self, path: &TreePath) -> Result<(), FileError> {
        if path.is_root() || self.open(path).is_ok() {
            return Ok(());
        }
        for prefix in path.prefixes() {
            // Not through a staged link, which the path itself would follow.
            let (parent, name) = prefix.split().expect("a prefix is not empty");
            let made = self.open(&parent).and_then(|parent| mkdirat(parent, name, FOLDER_MODE));
            match made {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(staging(path, error)),
            }
        }
        self.open(path).map(drop).map_err(|error| staging(path, error))
    }

    fn open(&self, path: &TreePath) -> rustix::io::Result<OwnedFd> {
        resolve(self.new.as_fd(), path, OPEN_FOLDER, ResolveFlags::NO_SYMLINKS)
    }

    /// Gets the staged tree ready to be moved: folders get their modes, content reaches the disk.
    pub(super) fn settle(&mut self) -> Result<(), FileError> {
        for item in &self.remembered {
            let What::Folder { mode, mtime } = item.what else { continue };
            let (path, failed) = (item.path.bytes(), |error| staging(&item.path, error));
            // The staged tree is the agent's own, and folders in it are no links.
            chmodat(&self.new, path, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(failed)?;
            if let Some(mtime) = mtime {
                utimensat(&self.new, path, &times(mtime), AtFlags::empty()).map_err(failed)?;
            }
        }
        if self.unwritten {
            rustix::fs::syncfs(self.files.staging()).map_err(|error| FileError::io("flush", b"pyro", error))?;
        }
        Ok(())
    }
}

impl Incoming {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left = self
            .left
            .checked_sub(count)
            .ok_or_else(|| FileError::Change { reason: format!("`{}` has more bytes than announced", self.path.shown()) })?;
        while !bytes.is_empty() {
            match rustix::io::write(&self.file, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(staging(&self.path, error)),
            }
        }
        Ok(())
    }

    fn set_time(&self) -> Result<(), FileError> {
        match self.mtime {
            Some(mtime) => futimens(&self.file, &times(mtime)).map_err(|error| staging(&self.path, error)),
            None => Ok(()),
        }
    }
}

pub(super) fn write_out(file: &OwnedFd, path: &TreePath) -> Result<(), FileError> {
    pyro_sys::device::write_out(file).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        FileError::io("write out", path.bytes(), errno)
    })
}

fn times(mtime: i64) -> Timestamps {
    let at = Timespec { tv_sec: mtime.div_euclid(1_000_000_000), tv_nsec: mtime.rem_euclid(1_000_000_000) };
    Timestamps { last_access: at, last_modification: at }
}

/// What staging an entry failed with.
fn staging(path: &TreePath, error: Errno) -> FileError {
    match error {
        // Nothing but this change's own items is there.
        Errno::EXIST | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR => {
            FileError::Change { reason: format!("`{}` is named twice, or lies below what is no folder", path.shown()) }
        }
        error => FileError::io("stage", path.bytes(), error),
    }
}
