//! The names of a folder, sorted, in little memory.

use std::os::fd::AsFd;

use rustix::fs::RawDir;

/// One buffer of getdents64(2).
const READ_BYTES: usize = 16 << 10;

/// Names of one folder, one behind the other, handed out in the order of their bytes.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    /// Where each lies, the next one last.
    places: Vec<(usize, usize)>,
}

/// Reads the names of a folder that has just been opened, or rewound.
pub(crate) fn names(folder: impl AsFd) -> rustix::io::Result<Names> {
    let mut names = Names::default();
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.places.push((names.bytes.len(), name.len()));
            names.bytes.extend_from_slice(name);
        }
    }
    let Names { bytes, places } = &mut names;
    places.sort_unstable_by(|&(left, left_length), &(right, right_length)| {
        bytes[right..right + right_length].cmp(&bytes[left..left + left_length])
    });
    Ok(names)
}

impl Names {
    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let (at, length) = self.places.pop()?;
        Some(&self.bytes[at..at + length])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}
