//! Little-endian numbers at fixed places of a structure. What lies past its end reads as zero, as ext4 means fields it did not have yet.

/// A structure as it lies on the disk.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    pub(super) fn u8(self, offset: usize) -> u8 {
        self.0.get(offset).copied().unwrap_or_default()
    }

    pub(super) fn u16(self, offset: usize) -> u16 {
        u16::from_le_bytes([self.u8(offset), self.u8(offset + 1)])
    }

    pub(super) fn u32(self, offset: usize) -> u32 {
        u32::from(self.u16(offset + 2)) << 16 | u32::from(self.u16(offset))
    }
}
