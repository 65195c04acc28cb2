//! Folders: names and the inodes behind them.
//!
//! Read block by block and in order, indexed folders too: the nodes of their index look like blocks with one unused entry, by design.

use super::Volume;
use super::bytes::Bytes;
use super::inode::{Inode, InodeKind};
use crate::error::DiskError;

/// Bytes of an entry before its name.
const HEADER_BYTES: usize = 8;
/// Largest folder: a million names, all of the longest kind. Its names are held in memory.
const FOLDER_BYTES_MAX: u64 = 256 << 20;

/// One name of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DirectoryEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) inode: u32,
}

impl Volume {
    /// Returns the names in a folder, sorted by their bytes, without `.` and `..`.
    ///
    /// `budget` is what the caller is willing to look at: every block and every name takes one off, so that a walk over a file system
    /// whose folders all share the same blocks ends.
    pub(crate) fn directory(&self, inode: &Inode, budget: &mut u64) -> Result<Vec<DirectoryEntry>, DiskError> {
        let damaged = |problem| self.damaged_at(inode.number, problem);
        if inode.kind != InodeKind::Directory {
            return Err(damaged("it is no folder"));
        }
        let block_bytes = u64::from(self.block_bytes);
        if !inode.size_bytes.is_multiple_of(block_bytes) {
            return Err(damaged("a folder does not end with a block"));
        }
        if inode.size_bytes > FOLDER_BYTES_MAX {
            return Err(self.too_much("a folder of more than 256 MiB"));
        }
        let extents = self.extents(inode)?;
        let mut block = vec![0; usize::try_from(self.block_bytes).unwrap_or_default()];
        let (mut entries, mut wanted) = (Vec::new(), 0);
        for run in extents.runs() {
            // The size says how many blocks there are, the runs where: a folder has no holes.
            if run.logical != wanted {
                return Err(damaged("a folder has a hole"));
            }
            for index in 0..run.blocks {
                if wanted * block_bytes >= inode.size_bytes {
                    break;
                }
                self.spend(budget)?;
                self.disk.read_at((run.physical + index) * block_bytes, &mut block)?;
                self.read_block(inode, &block, budget, &mut entries)?;
                wanted += 1;
            }
        }
        if wanted * block_bytes < inode.size_bytes {
            return Err(damaged("a folder has a hole"));
        }
        entries.sort_unstable();
        if entries.windows(2).any(|pair| pair[0].name == pair[1].name) {
            return Err(damaged("a folder has a name twice"));
        }
        Ok(entries)
    }

    fn read_block(&self, inode: &Inode, block: &[u8], budget: &mut u64, entries: &mut Vec<DirectoryEntry>) -> Result<(), DiskError> {
        let damaged = |problem| self.damaged_at(inode.number, problem);
        let mut rest = block;
        while !rest.is_empty() {
            let at = Bytes(rest);
            // The length of a name is one byte; the next one holds its type, which the inode knows better.
            let (number, record, length) = (at.u32(0), usize::from(at.u16(4)), usize::from(at.u8(6)));
            if record < HEADER_BYTES || !record.is_multiple_of(4) || record > rest.len() || HEADER_BYTES + length > record {
                return Err(damaged("an entry of a folder is malformed"));
            }
            let name = &rest[HEADER_BYTES..HEADER_BYTES + length];
            rest = &rest[record..];
            if number == 0 || name == b"." || name == b".." {
                continue;
            }
            if name.is_empty() || name.contains(&0) || name.contains(&b'/') {
                return Err(damaged("a folder holds an impossible name"));
            }
            self.spend(budget)?;
            entries.push(DirectoryEntry { name: name.to_owned(), inode: number });
        }
        Ok(())
    }

    fn spend(&self, budget: &mut u64) -> Result<(), DiskError> {
        *budget = budget.checked_sub(1).ok_or_else(|| self.too_much("too many files and folders"))?;
        Ok(())
    }
}
