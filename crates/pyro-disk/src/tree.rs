//! The tree below one folder of a disk: what is there, and what it holds.
//!
//! No link is followed in any component: a path names an entry or nothing. `.` and `..` name nothing.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::content::FileReader;
use crate::disk::Disk;
use crate::error::DiskError;
use crate::ext4::{DirectoryEntry, Inode, InodeKind, ROOT_INODE, Volume};

/// Names and blocks of folders one walk looks at: a tree of four million entries.
pub(crate) const WALK_BUDGET: u64 = 1 << 22;
/// Names kept for lookups by path, of whole folders. Whoever reads many files mostly reads many of one folder.
const NAMES_KEPT: usize = 1 << 16;
/// Longest path below the folder; no program of the guest can name a longer one.
const PATH_MAX_BYTES: usize = 4096;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path from the top of the tree, without a leading slash; empty for the top itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permissions with set-id and sticky bits: `0o7777`.
    pub mode: u32,
    /// Owner, as the guest counts users.
    pub uid: u32,
    /// Group, as the guest counts them.
    pub gid: u32,
    /// Size of the content; for a link, of its target.
    pub size_bytes: u64,
    /// Last change of the content, in nanoseconds since 1970; 2262 stands for everything later.
    pub mtime_ns: i64,
    /// Number of the inode: entries that share one are one file.
    pub inode: u32,
    /// Names this file has on the whole disk.
    pub links: u32,
    /// Where a link points.
    pub link_target: Option<Vec<u8>>,
}

/// The file system of a disk, below one of its folders.
#[derive(Debug)]
pub struct Tree {
    volume: Volume,
    /// None if the folder does not exist: an empty tree.
    top: Option<Inode>,
    folders: Mutex<Folders>,
}

/// Folders looked into of late, by inode; all are forgotten when they become too many.
#[derive(Debug, Default)]
struct Folders {
    entries: HashMap<u32, Arc<[DirectoryEntry]>>,
    names: usize,
}

impl Tree {
    /// Opens the tree below `folder` of the disk; a missing folder is an empty tree.
    ///
    /// # Errors
    ///
    /// Fails if the disk holds no sound ext4 file system, or one that its guest must mend first ([`DiskError::NeedsRecovery`]).
    pub fn open(disk: Disk, folder: &[u8]) -> Result<Self, DiskError> {
        let volume = Volume::open(disk)?;
        let root = volume.inode(ROOT_INODE)?;
        let mut tree = Self { volume, top: Some(root), folders: Mutex::default() };
        tree.top = tree.find(folder)?;
        if tree.top.as_ref().is_some_and(|top| top.kind != InodeKind::Directory) {
            return Err(DiskError::wrong_kind(folder, "folder"));
        }
        Ok(tree)
    }

    /// Makes everything that is still looked at from `deadline` on fail with [`DiskError::TooLate`].
    ///
    /// For a disk whose guest is held still only so long: what is read afterwards is worth nothing.
    pub const fn set_deadline(&mut self, deadline: Instant) {
        self.volume.disk_mut().set_deadline(deadline);
    }

    /// Returns the disk below.
    #[must_use]
    pub const fn disk(&self) -> &Disk {
        self.volume.disk()
    }

    /// Returns what is at `path`, or none.
    ///
    /// # Errors
    ///
    /// Fails if a layer cannot be read or the file system is damaged.
    pub fn status(&self, path: &[u8]) -> Result<Option<TreeEntry>, DiskError> {
        self.find(path)?.map(|inode| entry(&self.volume, path.to_owned(), &inode)).transpose()
    }

    /// Calls `each` for every entry of the folder at `path`, and below it if `recursive`: folders before what they hold, names in the
    /// order of their bytes.
    ///
    /// # Errors
    ///
    /// Fails if there is no folder at `path`, a layer cannot be read, the file system is damaged or too large to walk.
    pub fn list(&self, path: &[u8], recursive: bool, each: &mut dyn FnMut(TreeEntry) -> ControlFlow<()>) -> Result<(), DiskError> {
        let top = match self.find(path)? {
            Some(inode) if inode.kind == InodeKind::Directory => inode,
            Some(_) => return Err(DiskError::wrong_kind(path, "folder")),
            None if path.is_empty() => return Ok(()),
            None => return Err(DiskError::not_found(path)),
        };
        let mut walk = Walk::new(&self.volume);
        let mut open = vec![(path.to_owned(), walk.enter(&top)?.into_iter())];
        while let Some((folder, rest)) = open.last_mut() {
            let Some(next) = rest.next() else {
                open.pop();
                continue;
            };
            let path = join(&self.volume, folder, &next.name)?;
            let inode = self.volume.inode(next.inode)?;
            if each(entry(&self.volume, path.clone(), &inode)?).is_break() {
                return Ok(());
            }
            if recursive && inode.kind == InodeKind::Directory {
                open.push((path, walk.enter(&inode)?.into_iter()));
            }
        }
        Ok(())
    }

    /// Returns up to `max` bytes of the file at `path` from `offset` on; less only at its end.
    ///
    /// # Errors
    ///
    /// Fails if there is no file at `path`, or it cannot be read.
    pub fn read(&self, path: &[u8], offset: u64, max: usize) -> Result<Vec<u8>, DiskError> {
        read(self.reader(path)?, offset, max)
    }

    /// Returns up to `max` bytes of a file that this tree has listed, as [`Self::read`] does, without looking for its path.
    ///
    /// # Errors
    ///
    /// Fails if the entry is no file, or it cannot be read.
    pub fn read_of(&self, entry: &TreeEntry, offset: u64, max: usize) -> Result<Vec<u8>, DiskError> {
        read(self.reader_of(entry)?, offset, max)
    }

    /// Returns a reader of the file at `path`.
    ///
    /// # Errors
    ///
    /// Fails if there is no file at `path`, or where its content lies makes no sense.
    pub fn reader(&self, path: &[u8]) -> Result<FileReader<'_>, DiskError> {
        match self.find(path)? {
            Some(inode) if inode.kind == InodeKind::File => FileReader::new(&self.volume, &inode),
            Some(_) => Err(DiskError::wrong_kind(path, "file")),
            None => Err(DiskError::not_found(path)),
        }
    }

    /// Returns a reader of a file that this tree has listed, without looking for its path: a lookup reads every folder on the way, and
    /// for each file of large folders that takes the square of their size.
    ///
    /// # Errors
    ///
    /// Fails if the entry is no file, or where its content lies makes no sense.
    pub fn reader_of(&self, entry: &TreeEntry) -> Result<FileReader<'_>, DiskError> {
        let inode = self.volume.inode(entry.inode)?;
        if inode.kind == InodeKind::File { FileReader::new(&self.volume, &inode) } else { Err(DiskError::wrong_kind(&entry.path, "file")) }
    }

    pub(crate) const fn volume(&self) -> &Volume {
        &self.volume
    }

    pub(crate) const fn top(&self) -> Option<&Inode> {
        self.top.as_ref()
    }

    fn find(&self, path: &[u8]) -> Result<Option<Inode>, DiskError> {
        let Some(top) = &self.top else { return Ok(None) };
        let mut found = top.clone();
        if path.is_empty() {
            return Ok(Some(found));
        }
        for name in path.split(|byte| *byte == b'/') {
            if found.kind != InodeKind::Directory {
                return Ok(None);
            }
            let entries = self.folder(&found)?;
            let Ok(index) = entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)) else { return Ok(None) };
            found = self.volume.inode(entries[index].inode)?;
        }
        Ok(Some(found))
    }

    fn folder(&self, inode: &Inode) -> Result<Arc<[DirectoryEntry]>, DiskError> {
        if let Some(entries) = self.folders.lock().unwrap_or_else(PoisonError::into_inner).entries.get(&inode.number) {
            return Ok(Arc::clone(entries));
        }
        let entries: Arc<[DirectoryEntry]> = self.volume.directory(inode, &mut { WALK_BUDGET })?.into();
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if folders.names > NAMES_KEPT {
            *folders = Folders::default();
        }
        folders.names += entries.len() + 1;
        folders.entries.insert(inode.number, Arc::clone(&entries));
        Ok(entries)
    }
}

fn read(mut reader: FileReader<'_>, offset: u64, max: usize) -> Result<Vec<u8>, DiskError> {
    reader.skip(offset);
    let rest = usize::try_from(reader.size_bytes().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut content = vec![0; max.min(rest)];
    reader.fill(&mut content)?;
    Ok(content)
}

/// A walk over folders that ends on every file system.
pub(crate) struct Walk<'tree> {
    volume: &'tree Volume,
    budget: u64,
    seen: HashSet<u32>,
}

impl<'tree> Walk<'tree> {
    pub(crate) fn new(volume: &'tree Volume) -> Self {
        Self { volume, budget: WALK_BUDGET, seen: HashSet::new() }
    }

    /// Returns the entries of a folder, each folder once: one that is met again would make the tree endless.
    pub(crate) fn enter(&mut self, folder: &Inode) -> Result<Vec<DirectoryEntry>, DiskError> {
        if !self.seen.insert(folder.number) {
            return Err(self.volume.damaged_at(folder.number, "a folder is in the tree twice"));
        }
        self.volume.directory(folder, &mut self.budget)
    }
}

/// Makes the path of an entry from that of its folder.
pub(crate) fn join(volume: &Volume, folder: &[u8], name: &[u8]) -> Result<Vec<u8>, DiskError> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    if path.len() > PATH_MAX_BYTES { Err(volume.too_much("a path of more than 4096 bytes")) } else { Ok(path) }
}

pub(crate) fn entry(volume: &Volume, path: Vec<u8>, inode: &Inode) -> Result<TreeEntry, DiskError> {
    let link_target = if inode.kind == InodeKind::Link { Some(volume.link_target(inode)?) } else { None };
    let kind = match inode.kind {
        InodeKind::File => EntryKind::File,
        InodeKind::Directory => EntryKind::Directory,
        InodeKind::Link => EntryKind::Link,
        InodeKind::Other => EntryKind::Other,
    };
    Ok(TreeEntry {
        path,
        kind,
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        size_bytes: inode.size_bytes,
        mtime_ns: inode.mtime_ns,
        inode: inode.number,
        links: u32::from(inode.links),
        link_target,
    })
}
