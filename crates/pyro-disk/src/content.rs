//! The content of one file, read in order or skipped where there is none.

use std::io;

use crate::error::DiskError;
use crate::ext4::{Extents, Inode, Stretch, Volume};

/// Reads one file from its beginning to its end.
#[derive(Debug)]
pub struct FileReader<'tree> {
    volume: &'tree Volume,
    extents: Extents,
    offset: u64,
    size_bytes: u64,
}

impl<'tree> FileReader<'tree> {
    pub(crate) fn new(volume: &'tree Volume, inode: &Inode) -> Result<Self, DiskError> {
        Ok(Self { volume, extents: volume.extents(inode)?, offset: 0, size_bytes: inode.size_bytes })
    }

    /// Returns the size of the file.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns how many bytes from here on are a hole: zeros that take no space, which [`Self::skip`] passes without reading them.
    #[must_use]
    pub fn hole_bytes(&self) -> u64 {
        match self.extents.at(self.offset) {
            Stretch::Hole(bytes) => bytes.min(self.rest()),
            Stretch::Data { .. } => 0,
        }
    }

    /// Passes over `bytes` bytes, at most to the end of the file.
    pub fn skip(&mut self, bytes: u64) {
        self.offset += bytes.min(self.rest());
    }

    /// Reads into `buffer`, as much as fits or is left; tells how much.
    ///
    /// # Errors
    ///
    /// Fails if a layer cannot be read.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let count = usize::try_from(self.rest()).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        self.volume.read_content(&self.extents, self.offset, &mut buffer[..count])?;
        self.offset += count as u64;
        Ok(count)
    }

    const fn rest(&self) -> u64 {
        self.size_bytes.saturating_sub(self.offset)
    }
}

impl io::Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill(buffer).map_err(io::Error::other)
    }
}
