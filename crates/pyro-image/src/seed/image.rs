//! The disk a seed is written to: a sparse copy of a blank under a temporary name, until it is whole.

use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::SeekFrom;

use crate::error::{Error, Result};
use crate::files;

const COPY_BYTES: usize = 1 << 20;
/// Where an ext4 superblock keeps the number of free inodes.
const FREE_INODES_OFFSET: u64 = 1024 + 0x10;

/// The copy; dropped before it is published, it goes.
#[derive(Debug)]
pub(super) struct Image {
    path: PathBuf,
    temporary: PathBuf,
    size_bytes: u64,
}

impl Image {
    /// Copies `blank` to what will become `path`. Where the file system can, the two share their blocks.
    pub(super) fn copy(path: &Path, blank: &Path) -> Result<Self> {
        let source = fs::File::open(blank).map_err(|source| Error::io("read", blank, source))?;
        let size_bytes = source.metadata().map_err(|source| Error::io("read", blank, source))?.len();
        let temporary = path.with_extension(format!("partial-{}-{:?}", std::process::id(), std::thread::current().id()));
        let failed = |source| Error::io("write", path, source);
        // What a killed process of our number left would stop us for good.
        let _ = fs::remove_file(&temporary);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = fs::OpenOptions::from_options(options).open(&temporary).map_err(failed)?;
        let image = Self { path: path.to_owned(), temporary, size_bytes };
        if rustix::fs::ioctl_ficlone(&file, &source).is_err() {
            file.set_len(size_bytes).map_err(failed)?;
            copy_data(&source, &file).map_err(failed)?;
        }
        Ok(image)
    }

    pub(super) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns where the disk lies until it is published.
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Reads from the superblock how many inodes are free.
    pub(super) fn free_inodes(&self) -> Result<u32> {
        let failed = |source| Error::io("read", &self.temporary, source);
        let mut bytes = [0; 4];
        std::fs::File::open(&self.temporary).and_then(|file| file.read_exact_at(&mut bytes, FREE_INODES_OFFSET)).map_err(failed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Makes the disk durable and gives it its name.
    pub(super) fn publish(self) -> Result<()> {
        let failed = |source| Error::io("write", &self.path, source);
        fs::File::open(&self.temporary).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&self.temporary, &self.path).map_err(failed)?;
        files::sync_folder(self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Once published there is nothing of this name.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Copies what is no hole.
fn copy_data(source: &fs::File, target: &fs::File) -> std::io::Result<()> {
    let (source, target) = (source.file(), target.file());
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
