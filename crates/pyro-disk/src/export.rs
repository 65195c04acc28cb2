//! A whole disk as one sparse raw file.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use imago::Mapping;
use rustix::fs::{CWD, RenameFlags, SeekFrom};

use crate::disk::Disk;
use crate::error::DiskError;

/// Copied at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Zeros of this length and alignment become a hole.
const HOLE_BYTES: usize = 64 * 1024;

impl Disk {
    /// Writes the disk to `output`, which must not be there, as a sparse raw file: under another name, `aside`, on the same file system,
    /// synced, then renamed.
    ///
    /// `progress` is told how far it is, and the size of the disk; it may end the export, which is no error and answers `false`. The file is
    /// the caller's alone (0600): a disk holds what its guest kept secret.
    ///
    /// # Errors
    ///
    /// Fails if a layer cannot be read or the file cannot be written; nothing is left behind then.
    pub fn export_raw(
        &self,
        output: &Path,
        aside: &Path,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<bool, DiskError> {
        let failed = |source| DiskError::io("write", output, source);
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside).map_err(failed)?;
        let temporary = Temporary(aside.to_owned());
        file.set_len(self.size_bytes()).map_err(failed)?;
        if self.copy_to(&file, output, progress)?.is_break() {
            return Ok(false);
        }
        file.sync_all().map_err(failed)?;
        // Somebody may have made a file of this name in the minutes that this took.
        rustix::fs::renameat_with(CWD, &temporary.0, CWD, output, RenameFlags::NOREPLACE).map_err(|error| failed(error.into()))?;
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(true)
    }

    fn copy_to(
        &self,
        file: &File,
        output: &Path,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DiskError> {
        let size = self.size_bytes();
        let (mut offset, mut buffer) = (0, vec![0; PIECE_BYTES]);
        while offset < size {
            let (mapping, length) =
                self.image().get_mapping(offset, size - offset).map_err(|source| DiskError::io("read", self.path(), source))?;
            let end = offset.saturating_add(length).min(size);
            let base = self.base_of(&mapping);
            // A mapping of no length is the end of a layer; what a raw file lacks at its end reads as zeros.
            if end == offset || matches!(mapping, Mapping::Eof { .. }) {
                break;
            }
            if matches!(mapping, Mapping::Zero { .. }) {
                offset = end;
                continue;
            }
            let data = base.map_or(offset, |base| next_data(base, offset).min(end));
            let stop = end.min(data.saturating_add(PIECE_BYTES as u64));
            let piece = &mut buffer[..usize::try_from(stop - data).unwrap_or_default()];
            self.read_through(data, piece)?;
            for (index, block) in piece.chunks(HOLE_BYTES).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    let at = data + (index * HOLE_BYTES) as u64;
                    file.write_all_at(block, at).map_err(|source| DiskError::io("write", output, source))?;
                }
            }
            offset = stop;
            if progress(offset, size).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(progress(size, size))
    }
}

/// Returns where data starts at or after `offset`; where the file system cannot tell, that is `offset`.
fn next_data(file: &File, offset: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data,
        // No data up to the end of the file.
        Err(rustix::io::Errno::NXIO) => u64::MAX,
        Err(_) => offset,
    }
}

/// A file that goes unless it was renamed before.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing of this name, which is as well.
        let _ = fs_err::remove_file(&self.0);
    }
}
