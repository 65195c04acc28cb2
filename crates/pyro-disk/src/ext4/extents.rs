//! Extents: where the content of a file lies, as a list of runs in order, and how it is read.
//!
//! A tree of extents that lies could loop or name one block a thousand times. Each node must therefore stay within the logical range
//! its parent gives it, in rising order and without overlaps, so no leaf can be visited twice, and the number of runs has a limit.

use super::Volume;
use super::bytes::Bytes;
use super::inode::Inode;
use crate::error::DiskError;

const MAGIC: u16 = 0xf30a;
const ENTRY_BYTES: usize = 12;
/// Deepest tree the kernel makes.
const DEPTH_MAX: u16 = 5;
/// Longest run; a longer length means allocated, but never written, and this much shorter.
const WRITTEN_MAX: u16 = 32_768;
/// Most entries looked at for one file, 24 bytes each: what a file of 4 GiB has whose every block lies apart.
const ENTRIES_MAX: usize = 1 << 20;

/// A run of blocks, all of them written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First block, counted in the file.
    pub(crate) logical: u64,
    /// First block, counted on the disk.
    pub(crate) physical: u64,
    pub(crate) blocks: u64,
}

/// The written runs of a file in order; what lies between reads as zeros.
#[derive(Clone, Debug)]
pub(crate) struct Extents {
    runs: Vec<Extent>,
    block_bytes: u64,
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// This many bytes of zeros; `u64::MAX` when no content follows.
    Hole(u64),
    /// This many bytes, from this offset of the disk on.
    Data { disk_offset: u64, bytes: u64 },
}

impl Extents {
    /// Returns what is at `offset` of the file and how far it goes.
    pub(crate) fn at(&self, offset: u64) -> Stretch {
        let block = offset / self.block_bytes;
        let next = self.runs.partition_point(|run| run.logical + run.blocks <= block);
        match self.runs.get(next) {
            None => Stretch::Hole(u64::MAX),
            Some(run) if run.logical > block => Stretch::Hole(run.logical * self.block_bytes - offset),
            Some(run) => {
                let into = offset - run.logical * self.block_bytes;
                Stretch::Data { disk_offset: run.physical * self.block_bytes + into, bytes: run.blocks * self.block_bytes - into }
            }
        }
    }

    pub(super) fn runs(&self) -> &[Extent] {
        &self.runs
    }
}

/// A tree of extents on its way to a list.
#[derive(Default)]
struct Walk {
    runs: Vec<Extent>,
    /// Nodes still to be read; the last one is the first in order.
    pending: Vec<Node>,
    entries_seen: usize,
}

/// A node: its block, its depth and the logical blocks it may speak of.
struct Node {
    block: u64,
    depth: u16,
    start: u64,
    end: u64,
}

impl Volume {
    /// Reads where the content of a file, folder or long link lies.
    pub(crate) fn extents(&self, inode: &Inode) -> Result<Extents, DiskError> {
        let block_bytes = u64::from(self.block_bytes);
        if !inode.has_extents {
            // Without extents an empty file has nothing at all; others would need ext3's block maps.
            if inode.size_bytes > 0 {
                return Err(self.unsupported("files without extents"));
            }
            return Ok(Extents { runs: Vec::new(), block_bytes });
        }
        let mut walk = Walk::default();
        self.read_node(inode, Bytes(&inode.root), None, &mut walk)?;
        let mut buffer = vec![0; usize::try_from(self.block_bytes).unwrap_or_default()];
        while let Some(node) = walk.pending.pop() {
            self.disk.read_at(node.block * block_bytes, &mut buffer)?;
            self.read_node(inode, Bytes(&buffer), Some(&node), &mut walk)?;
        }
        Ok(Extents { runs: walk.runs, block_bytes })
    }

    /// Reads one node; `place` is none for the root, which lies in the inode.
    fn read_node(&self, inode: &Inode, node: Bytes<'_>, place: Option<&Node>, walk: &mut Walk) -> Result<(), DiskError> {
        let damaged = |problem| self.damaged_at(inode.number, problem);
        let (count, depth) = (usize::from(node.u16(2)), node.u16(6));
        if node.u16(0) != MAGIC || ENTRY_BYTES * (count + 1) > node.0.len() {
            return Err(damaged("a node of its extents is malformed"));
        }
        let (mut free, end) = match place {
            None if depth <= DEPTH_MAX => (0, 1 << 32),
            // A node below the root is never empty, so there are no more nodes than entries.
            Some(place) if depth == place.depth && count > 0 => (place.start, place.end),
            _ => return Err(damaged("the tree of its extents has the wrong depth")),
        };
        walk.entries_seen += count;
        if walk.entries_seen > ENTRIES_MAX {
            return Err(self.too_much("a file in too many pieces"));
        }
        let entry = |index: usize| Bytes(node.0.get(ENTRY_BYTES * (index + 1)..).unwrap_or_default());
        let first_pending = walk.pending.len();
        for index in 0..count {
            let at = entry(index);
            let logical = u64::from(at.u32(0));
            if logical < free || logical >= end {
                return Err(damaged("its extents are out of order"));
            }
            if depth > 0 {
                let block = u64::from(at.u16(8)) << 32 | u64::from(at.u32(4));
                let next = if index + 1 < count { u64::from(entry(index + 1).u32(0)) } else { end };
                self.check_blocks(inode, block, 1)?;
                walk.pending.push(Node { block, depth: depth - 1, start: logical, end: next.min(end) });
                free = logical + 1;
                continue;
            }
            let (length, physical) = (at.u16(4), u64::from(at.u16(6)) << 32 | u64::from(at.u32(8)));
            let (blocks, written) = if length > WRITTEN_MAX { (length - WRITTEN_MAX, false) } else { (length, true) };
            let blocks = u64::from(blocks);
            if blocks == 0 || logical + blocks > end {
                return Err(damaged("an extent has no sensible length"));
            }
            self.check_blocks(inode, physical, blocks)?;
            free = logical + blocks;
            if written {
                walk.runs.push(Extent { logical, physical, blocks });
            }
        }
        walk.pending[first_pending..].reverse();
        Ok(())
    }

    fn check_blocks(&self, inode: &Inode, first: u64, count: u64) -> Result<(), DiskError> {
        // Block 0 holds the superblock or lies before it.
        if first == 0 || first.checked_add(count).is_none_or(|end| end > self.block_count) {
            return Err(self.damaged_at(inode.number, "its content lies outside the disk"));
        }
        Ok(())
    }

    /// Fills `buffer` with the content from `offset` on; holes and what follows the last run are zeros.
    pub(crate) fn read_content(&self, extents: &Extents, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let (mut offset, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            // Terabytes of holes take their time, too.
            self.disk.ensure_in_time()?;
            let stretch = extents.at(offset);
            let bytes = match stretch {
                Stretch::Hole(bytes) | Stretch::Data { bytes, .. } => bytes,
            };
            let count = usize::try_from(bytes).map_or(rest.len(), |bytes| bytes.min(rest.len()));
            let (now, later) = rest.split_at_mut(count);
            match stretch {
                Stretch::Hole(_) => now.fill(0),
                Stretch::Data { disk_offset, .. } => self.disk.read_at(disk_offset, now)?,
            }
            offset += count as u64;
            rest = later;
        }
        Ok(())
    }
}
