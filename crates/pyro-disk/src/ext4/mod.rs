//! The ext4 file system of a disk: superblock and group descriptors here; inodes, extents and folders beside.
//!
//! Written by hand because what changed since a snapshot is told by inode numbers, generations and change times, which no crate shows
//! (docs/adr/0005). It reads what `blank.rs` of pyro-image makes and Linux writes into it: blocks of 1 to 4 KiB, extents, 32- or 64-bit
//! descriptors. Anything else is refused by name. A journal is never replayed: a frozen or unmounted file system has an empty one, and
//! after a crash the guest's kernel does it better. Checksums are not verified: they guard against accidents below the host's own disk,
//! and whoever lies here can compute them. Layout: <https://docs.kernel.org/filesystems/ext4/>.

mod bytes;
mod directory;
mod extents;
mod inode;

pub(crate) use directory::DirectoryEntry;
pub(crate) use extents::{Extents, Stretch};
pub(crate) use inode::{Inode, InodeKind};

use crate::disk::Disk;
use crate::error::DiskError;
use bytes::Bytes;

/// Inode of the root folder.
pub(crate) const ROOT_INODE: u32 = 2;

const SUPERBLOCK_OFFSET: u64 = 1024;
const SUPERBLOCK_BYTES: usize = 1024;
const MAGIC: u16 = 0xef53;
/// Most block groups: 8 TiB of disk with blocks of 4 KiB. It caps the table of descriptors at 512 KiB in memory.
const GROUPS_MAX: u64 = 65_536;

/// Incompatible features that need nothing of a reader but what is here: file types, extents, 64 bits, flexible groups, a seed of
/// checksums, large folders.
const INCOMPATIBLE_KNOWN: u32 = 0x2 | 0x40 | INCOMPATIBLE_64BIT | 0x200 | 0x2000 | 0x4000;
const INCOMPATIBLE_64BIT: u32 = 0x80;
const INCOMPATIBLE_RECOVER: u32 = 0x4;
const READ_ONLY_BIGALLOC: u32 = 0x200;
/// What else may be met, by the name its tools give it.
const FEATURE_NAMES: [(u32, &str); 8] = [
    (0x1, "the feature `compression`"),
    (0x8, "the feature `journal_dev`"),
    (0x10, "the feature `meta_bg`"),
    (0x100, "the feature `mmp`"),
    (0x400, "the feature `ea_inode`"),
    (0x8000, "the feature `inline_data`"),
    (0x1_0000, "the feature `encrypt`"),
    (0x2_0000, "the feature `casefold`"),
];

/// An ext4 file system, opened for reading.
#[derive(Debug)]
pub(crate) struct Volume {
    disk: Disk,
    /// 1024, 2048 or 4096.
    block_bytes: u32,
    block_count: u64,
    inode_count: u32,
    inodes_per_group: u32,
    inode_bytes: u16,
    /// Numbers below are the file system's own.
    first_inode: u32,
    /// Block of each group's inode table; checked to lie in the file system.
    inode_tables: Vec<u64>,
}

impl Volume {
    /// Reads superblock and descriptors.
    pub(crate) fn open(disk: Disk) -> Result<Self, DiskError> {
        let path = disk.path().to_owned();
        let damaged = |problem| DiskError::CorruptVolume { path: path.clone(), problem };
        if disk.size_bytes() < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES as u64 {
            return Err(damaged("the disk is too small to hold one"));
        }
        let mut superblock = [0; SUPERBLOCK_BYTES];
        disk.read_at(SUPERBLOCK_OFFSET, &mut superblock)?;
        let superblock = Bytes(&superblock);
        if superblock.u16(0x38) != MAGIC {
            return Err(damaged("it has no superblock of ext4"));
        }
        let incompatible = superblock.u32(0x60);
        let unsupported = |feature| DiskError::Unsupported { path: path.clone(), feature };
        // An image with unknown features may hold its journal elsewhere, so they are looked at first.
        let unknown = incompatible & !(INCOMPATIBLE_KNOWN | INCOMPATIBLE_RECOVER);
        if unknown != 0 {
            let named = FEATURE_NAMES.iter().find(|(bit, _)| unknown & bit != 0);
            return Err(unsupported(named.map_or("features newer than Pyro", |(_, name)| name)));
        }
        if superblock.u32(0x64) & READ_ONLY_BIGALLOC != 0 {
            return Err(unsupported("the feature `bigalloc`"));
        }
        if incompatible & INCOMPATIBLE_RECOVER != 0 {
            return Err(DiskError::NeedsRecovery { path });
        }
        let block_bytes = match superblock.u32(0x18) {
            shift @ 0..=2 => 1024_u32 << shift,
            _ => return Err(unsupported("blocks of more than 4 KiB")),
        };
        let wide = incompatible & INCOMPATIBLE_64BIT != 0;
        let high = if wide { superblock.u32(0x150) } else { 0 };
        let block_count = u64::from(high) << 32 | u64::from(superblock.u32(0x04));
        if block_count.checked_mul(u64::from(block_bytes)).is_none_or(|bytes| bytes > disk.size_bytes()) {
            return Err(damaged("it is larger than its disk"));
        }
        let (inode_count, inodes_per_group) = (superblock.u32(0x00), superblock.u32(0x28));
        let (first_block, blocks_per_group) = (u64::from(superblock.u32(0x14)), u64::from(superblock.u32(0x20)));
        // A group's bitmaps are one block each, which bounds both.
        let group_max = block_bytes * 8;
        if !(1..=group_max).contains(&inodes_per_group) || !(1..=u64::from(group_max)).contains(&blocks_per_group) {
            return Err(damaged("its groups have no sensible size"));
        }
        let (inode_bytes, first_inode) = match superblock.u32(0x4c) {
            0 => return Err(unsupported("the layout of ext2's first revision")),
            _ => (superblock.u16(0x58), superblock.u32(0x54)),
        };
        if !inode_bytes.is_power_of_two() || inode_bytes < 128 || u32::from(inode_bytes) > block_bytes {
            return Err(damaged("its inodes have no sensible size"));
        }
        let descriptor_bytes = if wide { superblock.u16(0xfe) } else { 32 };
        if !descriptor_bytes.is_power_of_two() || !(32..=1024).contains(&descriptor_bytes) || (wide && descriptor_bytes < 64) {
            return Err(damaged("its group descriptors have no sensible size"));
        }
        let groups = block_count.saturating_sub(first_block).div_ceil(blocks_per_group);
        if groups > GROUPS_MAX {
            return Err(DiskError::TooMuch { path, what: "its file system has too many groups" });
        }
        if u64::from(inode_count) > groups * u64::from(inodes_per_group) {
            return Err(damaged("it claims more inodes than its groups hold"));
        }
        let mut volume =
            Self { disk, block_bytes, block_count, inode_count, inodes_per_group, inode_bytes, first_inode, inode_tables: Vec::new() };
        volume.inode_tables = volume.read_descriptors(first_block, groups, descriptor_bytes)?;
        Ok(volume)
    }

    fn read_descriptors(&self, first_block: u64, groups: u64, descriptor_bytes: u16) -> Result<Vec<u64>, DiskError> {
        let start = (first_block + 1) * u64::from(self.block_bytes);
        let table_blocks = (u64::from(self.inodes_per_group) * u64::from(self.inode_bytes)).div_ceil(u64::from(self.block_bytes));
        let (mut tables, mut descriptor) = (Vec::new(), vec![0; usize::from(descriptor_bytes)]);
        for group in 0..groups {
            self.disk.read_at(start + group * u64::from(descriptor_bytes), &mut descriptor)?;
            let descriptor = Bytes(&descriptor);
            // The high half is there from 64 bytes on; a short descriptor reads as zero.
            let table = u64::from(descriptor.u32(0x28)) << 32 | u64::from(descriptor.u32(0x08));
            if table <= first_block || table.checked_add(table_blocks).is_none_or(|end| end > self.block_count) {
                return Err(self.damaged("an inode table lies outside"));
            }
            tables.push(table);
        }
        Ok(tables)
    }

    pub(crate) const fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) const fn disk_mut(&mut self) -> &mut Disk {
        &mut self.disk
    }

    fn damaged(&self, problem: &'static str) -> DiskError {
        DiskError::CorruptVolume { path: self.disk.path().to_owned(), problem }
    }

    pub(crate) fn damaged_at(&self, inode: u32, problem: &'static str) -> DiskError {
        DiskError::CorruptInode { path: self.disk.path().to_owned(), inode, problem }
    }

    fn unsupported(&self, feature: &'static str) -> DiskError {
        DiskError::Unsupported { path: self.disk.path().to_owned(), feature }
    }

    pub(crate) fn too_much(&self, what: &'static str) -> DiskError {
        DiskError::TooMuch { path: self.disk.path().to_owned(), what }
    }
}
