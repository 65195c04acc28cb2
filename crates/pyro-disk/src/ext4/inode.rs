//! Inodes: what a file is, when it changed, and where its content starts.

use super::bytes::Bytes;
use super::{ROOT_INODE, Volume};
use crate::error::DiskError;

/// Bytes of an inode read at most: the fixed part and all extra fields known today.
const INODE_BYTES_READ: u16 = 256;
/// Bytes that hold the root of the extents or a short link's target.
pub(super) const ROOT_BYTES: usize = 60;
/// Largest file: what 32-bit block numbers of 4 KiB reach, 16 TiB.
const SIZE_MAX: u64 = 1 << 44;
/// Longest target of a link, as in the kernel.
const TARGET_MAX: u64 = 4095;

const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_EA_INODE: u32 = 0x20_0000;
const FLAG_INLINE: u32 = 0x1000_0000;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InodeKind {
    File,
    Directory,
    Link,
    /// A device, pipe or socket.
    Other,
}

/// Everything the kernel changes when it changes a file: two equal stamps of one inode number mean equal content.
///
/// The version counter is part of it, since a clock that stands still or is set back by the guest's root leaves times alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    number: u32,
    generation: u32,
    version: u64,
    changed: (u32, u32),
    modified: (u32, u32),
    size_bytes: u64,
    mode: u16,
}

impl Stamp {
    /// Returns kind and permissions as they lie on the disk.
    pub(crate) const fn raw_mode(&self) -> u16 {
        self.mode
    }
}

/// An inode in use.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub(crate) number: u32,
    pub(crate) kind: InodeKind,
    /// Permissions, with set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u16,
    pub(crate) size_bytes: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) stamp: Stamp,
    pub(super) has_extents: bool,
    pub(super) root: [u8; ROOT_BYTES],
}

impl Inode {
    /// Returns the bytes that hold extents, a short link or the numbers of a device.
    pub(crate) const fn root(&self) -> &[u8; ROOT_BYTES] {
        &self.root
    }
}

impl Volume {
    /// Reads an inode that a folder names.
    pub(crate) fn inode(&self, number: u32) -> Result<Inode, DiskError> {
        let damaged = |problem| self.damaged_at(number, problem);
        if number > self.inode_count || (number < self.first_inode && number != ROOT_INODE) {
            return Err(damaged("no file can have this number"));
        }
        let index = number - 1;
        let group = usize::try_from(index / self.inodes_per_group).unwrap_or(usize::MAX);
        let table = *self.inode_tables.get(group).ok_or_else(|| damaged("its group does not exist"))?;
        let offset = table * u64::from(self.block_bytes) + u64::from(index % self.inodes_per_group) * u64::from(self.inode_bytes);
        let mut bytes = [0; INODE_BYTES_READ as usize];
        let bytes = &mut bytes[..usize::from(self.inode_bytes.min(INODE_BYTES_READ))];
        self.disk.read_at(offset, bytes)?;
        let inode = parse(number, bytes);
        let flags = Bytes(bytes).u32(0x20);
        if flags & FLAG_ENCRYPTED != 0 {
            return Err(self.unsupported("encrypted files"));
        }
        if flags & FLAG_INLINE != 0 {
            return Err(self.unsupported("the feature `inline_data`"));
        }
        if inode.links == 0 || flags & FLAG_EA_INODE != 0 {
            return Err(damaged("a folder names it, but it is not in use"));
        }
        if inode.size_bytes > SIZE_MAX {
            return Err(damaged("its size is impossible"));
        }
        Ok(inode)
    }

    /// Returns the target of a symbolic link.
    pub(crate) fn link_target(&self, inode: &Inode) -> Result<Vec<u8>, DiskError> {
        let damaged = |problem| self.damaged_at(inode.number, problem);
        let length = usize::try_from(inode.size_bytes).unwrap_or(usize::MAX);
        if length == 0 || inode.size_bytes > TARGET_MAX {
            return Err(damaged("a link's target has no sensible length"));
        }
        let target = if !inode.has_extents {
            inode.root.get(..length).filter(|_| length < ROOT_BYTES).ok_or_else(|| damaged("a link's target is cut short"))?.to_vec()
        } else {
            // A target fits in a block. A whole tree of extents would be read again for every name the link has.
            let root = Bytes(&inode.root);
            if root.u16(2) != 1 || root.u16(6) != 0 {
                return Err(damaged("a link's target lies in more than one piece"));
            }
            let extents = self.extents(inode)?;
            let mut target = vec![0; length];
            self.read_content(&extents, 0, &mut target)?;
            target
        };
        if target.contains(&0) { Err(damaged("a link's target holds a zero byte")) } else { Ok(target) }
    }
}

fn parse(number: u32, bytes: &[u8]) -> Inode {
    let root = std::array::from_fn(|index| bytes.get(0x28 + index).copied().unwrap_or_default());
    let bytes = Bytes(bytes);
    // Extra fields exist as far as the inode says so.
    let extra = if bytes.0.len() > 128 { usize::from(bytes.u16(0x80)) } else { 0 };
    let extra_u32 = |offset: usize| if 128 + extra >= offset + 4 { bytes.u32(offset) } else { 0 };
    let raw_mode = bytes.u16(0);
    let kind = match raw_mode & 0xf000 {
        0x8000 => InodeKind::File,
        0x4000 => InodeKind::Directory,
        0xa000 => InodeKind::Link,
        _ => InodeKind::Other,
    };
    let modified = (bytes.u32(0x10), extra_u32(0x88));
    let size_bytes = u64::from(bytes.u32(0x6c)) << 32 | u64::from(bytes.u32(0x04));
    Inode {
        number,
        kind,
        mode: u32::from(raw_mode & 0o7777),
        uid: u32::from(bytes.u16(0x78)) << 16 | u32::from(bytes.u16(0x02)),
        gid: u32::from(bytes.u16(0x7a)) << 16 | u32::from(bytes.u16(0x18)),
        links: bytes.u16(0x1a),
        size_bytes,
        mtime_ns: nanoseconds(modified),
        stamp: Stamp {
            number,
            generation: bytes.u32(0x64),
            version: u64::from(extra_u32(0x98)) << 32 | u64::from(bytes.u32(0x24)),
            changed: (bytes.u32(0x0c), extra_u32(0x84)),
            modified,
            size_bytes,
            mode: raw_mode,
        },
        has_extents: bytes.u32(0x20) & FLAG_EXTENTS != 0,
        root,
    }
}

/// Turns seconds and their extension (two more bits of seconds, thirty of nanoseconds) into nanoseconds since 1970; years after 2262,
/// which 64 bits of nanoseconds do not reach, become the last moment they do.
fn nanoseconds((seconds, extra): (u32, u32)) -> i64 {
    let seconds = i64::from(seconds.cast_signed()) + (i64::from(extra & 3) << 32);
    seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(extra >> 2).min(999_999_999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_after_2038_are_exact_and_far_ones_end_in_2262() {
        let year = |seconds: i64| seconds * 1_000_000_000;
        assert_eq!(nanoseconds((0, 5 << 2)), 5);
        assert_eq!(nanoseconds((u32::MAX, 0)), year(-1));
        assert_eq!(nanoseconds((0x8000_0000, 1)), year(1 << 31));
        assert_eq!(nanoseconds((0, u32::MAX)), i64::MAX);
    }
}
