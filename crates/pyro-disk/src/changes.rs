//! What differs between two trees: walked side by side, with content read only where an inode does not prove it unchanged.
//!
//! Both trees come from one line of disks, so a file nobody touched has the same inode in both, down to its change time, which only the
//! kernel sets. A folder's own inode proves nothing about what lies deeper, so every folder is looked into. A guest that writes past its
//! kernel, to the bare disk, can hide a change of its own from this; it cannot make one up, and cannot point outside.

use crate::error::DiskError;
use crate::ext4::{DirectoryEntry, Inode, InodeKind, Stretch, Volume};
use crate::tree::{Tree, TreeEntry, Walk, entry, join};

/// Content is compared in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// Memory a result may take, with the folders still to be looked into: an agent that makes more changes than this is told so.
const MEMORY_MAX: usize = 512 << 20;
/// What one change, or one folder to be looked into, takes beside its paths and targets.
const FIXED_BYTES: usize = 400;

/// An entry that differs: new if `before` is none, gone if `after` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Path from the top of the tree.
    pub path: Vec<u8>,
    /// The entry as it was.
    pub before: Option<TreeEntry>,
    /// The entry as it is.
    pub after: Option<TreeEntry>,
}

/// Returns what differs between two trees, sorted by path. Kind, permissions, content and link targets count; times and owners do not.
///
/// # Errors
///
/// Fails if a layer cannot be read, or a file system is damaged or too large to walk.
pub fn changes(before: &Tree, after: &Tree) -> Result<Vec<Changed>, DiskError> {
    let (mut before_walk, mut after_walk) = (Walk::new(before.volume()), Walk::new(after.volume()));
    let mut comparison = Comparison { before: before.volume(), after: after.volume(), found: Vec::new(), room: Room(MEMORY_MAX) };
    comparison.take(FIXED_BYTES)?;
    let mut open = vec![(Vec::new(), before.top().cloned(), after.top().cloned())];
    while let Some((folder, before_folder, after_folder)) = open.pop() {
        comparison.room.give_back(FIXED_BYTES + folder.len());
        let enter = |walk: &mut Walk<'_>, folder: Option<Inode>| folder.map_or(Ok(Vec::new()), |folder| walk.enter(&folder));
        let (old, new) = (enter(&mut before_walk, before_folder)?, enter(&mut after_walk, after_folder)?);
        for (old, new) in merge(old, new) {
            let Some(name) = old.as_ref().or(new.as_ref()).map(|entry| entry.name.as_slice()) else { continue };
            let path = join(after.volume(), &folder, name)?;
            let old = old.map(|entry| before.volume().inode(entry.inode)).transpose()?;
            let new = new.map(|entry| after.volume().inode(entry.inode)).transpose()?;
            if comparison.differ(old.as_ref(), new.as_ref())? {
                comparison.note(&path, old.as_ref(), new.as_ref())?;
            }
            let folders = (old.filter(is_folder), new.filter(is_folder));
            if folders.0.is_some() || folders.1.is_some() {
                comparison.take(FIXED_BYTES + path.len())?;
                open.push((path, folders.0, folders.1));
            }
        }
    }
    comparison.found.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    Ok(comparison.found)
}

fn is_folder(inode: &Inode) -> bool {
    inode.kind == InodeKind::Directory
}

type Pair = (Option<DirectoryEntry>, Option<DirectoryEntry>);

/// Pairs the entries of two sorted folders by name.
fn merge(old: Vec<DirectoryEntry>, new: Vec<DirectoryEntry>) -> impl Iterator<Item = Pair> {
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (Some(left), Some(right)) => left.name.cmp(&right.name),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return None,
        };
        Some((if order.is_le() { old.next() } else { None }, if order.is_ge() { new.next() } else { None }))
    })
}

struct Comparison<'tree> {
    before: &'tree Volume,
    after: &'tree Volume,
    found: Vec<Changed>,
    room: Room,
}

/// Memory that may still be taken.
struct Room(usize);

impl Room {
    /// Takes some, or tells that there is not enough.
    const fn take(&mut self, bytes: usize) -> bool {
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }

    const fn give_back(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
    }
}

/// Returns what a change takes. Names of one link share nothing: its target is in memory once for each.
fn cost(changed: &Changed) -> usize {
    let sides = [&changed.before, &changed.after].into_iter().flatten();
    let side = |entry: &TreeEntry| entry.path.len() + entry.link_target.as_ref().map_or(0, Vec::len);
    FIXED_BYTES + changed.path.len() + sides.map(side).sum::<usize>()
}

impl Comparison<'_> {
    fn note(&mut self, path: &[u8], old: Option<&Inode>, new: Option<&Inode>) -> Result<(), DiskError> {
        let before = old.map(|inode| entry(self.before, path.to_owned(), inode)).transpose()?;
        let after = new.map(|inode| entry(self.after, path.to_owned(), inode)).transpose()?;
        let changed = Changed { path: path.to_owned(), before, after };
        self.take(cost(&changed))?;
        self.found.push(changed);
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), DiskError> {
        if self.room.take(bytes) { Ok(()) } else { Err(self.after.too_much("too many changes")) }
    }

    fn differ(&self, old: Option<&Inode>, new: Option<&Inode>) -> Result<bool, DiskError> {
        let (Some(old), Some(new)) = (old, new) else { return Ok(true) };
        if old.stamp == new.stamp {
            return Ok(false);
        }
        if old.kind != new.kind {
            return Ok(true);
        }
        Ok(match old.kind {
            InodeKind::Directory => old.mode != new.mode,
            InodeKind::Link => self.before.link_target(old)? != self.after.link_target(new)?,
            InodeKind::File => old.mode != new.mode || old.size_bytes != new.size_bytes || self.contents_differ(old, new)?,
            // The root of an inode that is no file holds the numbers of its device.
            InodeKind::Other => old.stamp.raw_mode() != new.stamp.raw_mode() || old.root() != new.root(),
        })
    }

    /// Compares two files of the same size; what is a hole in both is not read.
    fn contents_differ(&self, old: &Inode, new: &Inode) -> Result<bool, DiskError> {
        let (old_extents, new_extents) = (self.before.extents(old)?, self.after.extents(new)?);
        let piece = usize::try_from(old.size_bytes).map_or(PIECE_BYTES, |size| size.min(PIECE_BYTES));
        let (mut old_bytes, mut new_bytes) = (vec![0; piece], vec![0; piece]);
        let mut offset = 0;
        while offset < old.size_bytes {
            let rest = old.size_bytes - offset;
            if let (Stretch::Hole(left), Stretch::Hole(right)) = (old_extents.at(offset), new_extents.at(offset)) {
                offset += left.min(right).min(rest);
                continue;
            }
            let count = usize::try_from(rest).map_or(piece, |rest| rest.min(piece));
            self.before.read_content(&old_extents, offset, &mut old_bytes[..count])?;
            self.after.read_content(&new_extents, offset, &mut new_bytes[..count])?;
            if old_bytes[..count] != new_bytes[..count] {
                return Ok(true);
            }
            offset += count as u64;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::EntryKind;

    #[test]
    fn every_name_of_a_link_is_charged_its_target_until_there_is_no_room() {
        let path = vec![b'p'; 10];
        let link = TreeEntry {
            path: path.clone(),
            kind: EntryKind::Link,
            mode: 0o777,
            uid: 0,
            gid: 0,
            size_bytes: 4095,
            mtime_ns: 0,
            inode: 12,
            links: 60_000,
            link_target: Some(vec![b't'; 4095]),
        };
        let one = cost(&Changed { path: path.clone(), before: None, after: Some(link.clone()) });
        assert_eq!(one, 400 + 10 + 10 + 4095);
        assert_eq!(cost(&Changed { path, before: Some(link.clone()), after: Some(link) }), one + 10 + 4095);
        let mut room = Room(MEMORY_MAX);
        let fitting = (0..300_000).take_while(|_| room.take(one)).count();
        assert_eq!(fitting, MEMORY_MAX / one);
        assert!(!room.take(one));
        room.give_back(one);
        assert!(room.take(one));
    }
}
