//! Lists a folder, or the whole tree below it, in pages.
//!
//! The walk holds its own stack, and only the folders near the root stay open: a tree can be as deep as its paths are long, and many
//! walks can be under way. A deeper folder is opened anew when the walk comes back to it. Links are never followed below the listed one.

use std::os::fd::{BorrowedFd, OwnedFd};

use bytes::Bytes;
use pyro_proto::limits::{LIST_PAGE_ENTRIES, MESSAGE_MAX_BYTES, PATH_MAX_BYTES};
use pyro_proto::v1::{FileKind, FileStatus, ListFilesAnswer};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tonic::Status;

use super::status::{kind, status};
use super::walk::{Names, names};
use super::{FOLDER, FileError, Files, TreePath, resolve, stat_in};

/// Folders of one walk that stay open.
const OPEN_FOLDERS: usize = 32;
/// Bytes of paths and link targets in one page: 512 of the longest would be more than a message may hold.
const PAGE_BYTES: usize = MESSAGE_MAX_BYTES / 4;

/// Lists `path` into `pages` until done or nobody reads them any more; `limit` 0 is none.
pub(crate) fn list(
    files: &Files,
    path: &TreePath,
    recursive: bool,
    limit: u64,
    pages: &mpsc::Sender<Result<ListFilesAnswer, Status>>,
) -> Result<(), FileError> {
    let opening = |error| FileError::opening(path, error);
    let listed = files.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?.ok_or_else(|| FileError::Missing { path: path.shown() })?;
    let stat = rustix::fs::fstat(&listed).map_err(opening)?;
    let mut page = Page { pages, entries: Vec::new(), bytes: 0, left: if limit == 0 { u64::MAX } else { limit }, truncated: false };
    let walked = if kind(&stat) == FileKind::Directory {
        let root = openat(&listed, ".", FOLDER, Mode::empty()).map_err(opening)?;
        drop(listed);
        walk(&root, path.bytes().to_vec(), recursive, &mut page)
    } else {
        let target = link_target(&listed, b"", &stat);
        page.push(status(Bytes::copy_from_slice(path.bytes()), &stat, target)).map_err(|_: Stop| Errno::CANCELED)
    };
    match walked {
        // Also after the limit, or when nobody reads any more.
        Ok(()) | Err(Errno::CANCELED) => {
            page.finish();
            Ok(())
        }
        Err(error) => Err(FileError::io("list", path.bytes(), error)),
    }
}

/// The walk needs to go no further.
struct Stop;

struct Page<'a> {
    pages: &'a mpsc::Sender<Result<ListFilesAnswer, Status>>,
    entries: Vec<FileStatus>,
    bytes: usize,
    left: u64,
    truncated: bool,
}

impl Page<'_> {
    fn push(&mut self, entry: FileStatus) -> Result<(), Stop> {
        let Some(left) = self.left.checked_sub(1) else {
            self.truncated = true;
            return Err(Stop);
        };
        self.left = left;
        self.bytes += entry.path.len() + entry.link_target.len();
        self.entries.push(entry);
        if self.entries.len() < LIST_PAGE_ENTRIES && self.bytes < PAGE_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        let files = std::mem::take(&mut self.entries);
        self.pages.blocking_send(Ok(ListFilesAnswer { files, truncated: false })).map_err(|_| Stop)
    }

    fn finish(self) {
        // The last page is sent also when it is empty: it says whether there was more.
        let _ = self.pages.blocking_send(Ok(ListFilesAnswer { files: self.entries, truncated: self.truncated }));
    }
}

struct Frame {
    /// None while it is closed.
    folder: Option<OwnedFd>,
    names: Names,
    /// Bytes of its path.
    path: usize,
}

/// `path` is that of `root`; it comes first in every entry's.
fn walk(root: &OwnedFd, mut path: Vec<u8>, recursive: bool, page: &mut Page<'_>) -> rustix::io::Result<()> {
    let prefix = if path.is_empty() { 0 } else { path.len() + 1 };
    let mut stack = vec![Frame { folder: None, names: names(root)?, path: path.len() }];
    loop {
        let depth = stack.len();
        let Some(frame) = stack.last_mut() else { return Ok(()) };
        path.truncate(frame.path);
        if frame.folder.is_none() {
            // Somebody may have moved it since; then what is left of it is passed over.
            match reopen(root, path.get(prefix..).unwrap_or_default()) {
                Ok(folder) => frame.folder = Some(folder),
                Err(error) if is_gone(error) => frame.names = Names::default(),
                Err(error) => return Err(error),
            }
        }
        let (Some(folder), Some(name)) = (&frame.folder, frame.names.next()) else {
            stack.pop();
            continue;
        };
        if page.pages.is_closed() {
            return Err(Errno::CANCELED);
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if path.len() >= PATH_MAX_BYTES {
            continue;
        }
        let Some(stat) = stat_in(folder, name)? else { continue };
        let target = link_target(folder, name, &stat);
        page.push(status(Bytes::copy_from_slice(&path), &stat, target)).map_err(|_: Stop| Errno::CANCELED)?;
        if !recursive || kind(&stat) != FileKind::Directory {
            continue;
        }
        let inner = match openat(folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(inner) => inner,
            Err(error) if is_gone(error) => continue,
            Err(error) => return Err(error),
        };
        let names = names(&inner)?;
        if depth > OPEN_FOLDERS {
            frame.folder = None;
        }
        if !names.is_empty() {
            stack.push(Frame { folder: Some(inner), names, path: path.len() });
        }
    }
}

fn reopen(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    // What was a name of the walk is a plain path.
    let path = TreePath::parse(path).map_err(|_| Errno::NOENT)?;
    resolve(std::os::fd::AsFd::as_fd(root), &path, FOLDER, ResolveFlags::NO_SYMLINKS)
}

fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// Reads a link; what is none, or has gone by now, has no target.
pub(super) fn link_target(folder: impl std::os::fd::AsFd, name: &[u8], stat: &rustix::fs::Stat) -> Bytes {
    let folder: BorrowedFd<'_> = folder.as_fd();
    if kind(stat) != FileKind::Link {
        return Bytes::new();
    }
    rustix::fs::readlinkat(folder, name, Vec::new()).map(|target| Bytes::from(target.into_bytes())).unwrap_or_default()
}
