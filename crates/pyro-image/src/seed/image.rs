//! The disk a seed is written to: a sparse copy of a blank under a temporary name, until it is whole.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::SeekFrom;

use crate::error::{Error, Result};
use crate::files;
use crate::partial::Partial;

const COPY_BYTES: usize = 1 << 20;
/// Where an ext4 superblock keeps the number of free inodes.
const FREE_INODES_OFFSET: u64 = 1024 + 0x10;

/// The copy; dropped before it is published, it goes.
#[derive(Debug)]
pub(super) struct Image {
    path: PathBuf,
    partial: Partial,
    size_bytes: u64,
}

impl Image {
    /// Copies `blank` to what will become `path`. Where the file system can, the two share their blocks.
    pub(super) fn copy(path: &Path, blank: &Path) -> Result<Self> {
        let source = fs::File::open(blank).map_err(|source| Error::io("read", blank, source))?;
        let size_bytes = source.metadata().map_err(|source| Error::io("read", blank, source))?.len();
        let failed = |source| Error::io("write", path, source);
        let partial = Partial::beside(path).map_err(failed)?;
        let file = partial.file();
        if rustix::fs::ioctl_ficlone(file, &source).is_err() {
            file.set_len(size_bytes).map_err(failed)?;
            copy_data(source.file(), file).map_err(failed)?;
        }
        Ok(Self { path: path.to_owned(), partial, size_bytes })
    }

    pub(super) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns where the disk lies until it is published.
    pub(super) fn temporary(&self) -> &Path {
        self.partial.path()
    }

    /// Reads from the superblock how many inodes are free.
    pub(super) fn free_inodes(&self) -> Result<u32> {
        let failed = |source| Error::io("read", self.temporary(), source);
        let mut bytes = [0; 4];
        self.partial.file().read_exact_at(&mut bytes, FREE_INODES_OFFSET).map_err(failed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Makes the disk durable and gives it its name.
    pub(super) fn publish(self) -> Result<()> {
        let failed = |source| Error::io("write", &self.path, source);
        self.partial.file().sync_all().map_err(failed)?;
        self.partial.publish(&self.path).map_err(failed)?;
        files::sync_folder(self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

/// Copies what is no hole.
fn copy_data(source: &std::fs::File, target: &std::fs::File) -> std::io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        offset = match rustix::fs::seek(source, SeekFrom::Data(offset)) {
            Ok(data) => data,
            // Nothing but holes up to the end.
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(offset))?;
        while offset < end {
            let count = usize::try_from(end - offset).map_or(COPY_BYTES, |rest| rest.min(COPY_BYTES));
            source.read_exact_at(&mut buffer[..count], offset)?;
            target.write_all_at(&buffer[..count], offset)?;
            offset += count as u64;
        }
    }
}
