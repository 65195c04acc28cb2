//! Blank ext4 disks: what a workspace's `/workspace`, its root changes and a standby's scratch disk start from.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files;
use crate::partial::Partial;
use crate::tool::{Tool, World};

const MIB: u64 = 1 << 20;
/// Below this ext4 has no room for a journal beside its own tables.
const MINIMUM_BYTES: u64 = 16 * MIB;
/// From this size on a disk gets the larger journal.
const LARGE_BYTES: u64 = 512 * MIB;
/// One identifier for all: equal arguments give equal bytes, and no guest mounts by it. It also seeds the hash of directory names, so
/// a guest that knows it can make its *own* directories slow, nobody else's.
pub(crate) const UUID: &str = "50795f72-6f00-4000-8000-656d70747900";

/// Writes a blank ext4 file system of `size_bytes` to `path`, as a sparse raw file of a few MiB, replacing what is there.
///
/// There is no `lost+found`, since the root folder of the disk is what the user sees as `/workspace`; e2fsck makes one when it needs it.
/// No blocks are reserved, and nothing is left for the guest's kernel to initialise in the background. The file appears whole or not at all.
pub fn write_blank_ext4(path: &Path, size_bytes: u64, label: &str) -> Result<()> {
    if size_bytes < MINIMUM_BYTES {
        return Err(Error::DiskTooSmall { bytes: size_bytes, minimum_bytes: MINIMUM_BYTES });
    }
    let failed = |source| Error::io("write", path, source);
    let partial = Partial::beside(path).map_err(failed)?;
    write(&partial, size_bytes, label)?;
    partial.publish(path).map_err(failed)?;
    files::sync_folder(path.parent().unwrap_or(path))
}

fn write(partial: &Partial, size_bytes: u64, label: &str) -> Result<()> {
    let (path, file) = (partial.path(), partial.file());
    let failed = |source| Error::io("write", path, source);
    // Made afresh, so that what `assume_storage_prezeroed` promises below is true.
    file.set_len(size_bytes).map_err(failed)?;
    let journal_mib = if size_bytes >= LARGE_BYTES { "size=16" } else { "size=4" };
    // `lazy_itable_init=0` alone would write the tables out: 180 MiB of zeros for a disk of 10 GiB. Promising zeros marks them as
    // initialised without a write.
    let extended = format!("assume_storage_prezeroed=1,lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0,hash_seed={UUID}");
    let arguments: [&OsStr; 18] = [
        "-q".as_ref(),
        "-F".as_ref(),
        "-t".as_ref(),
        "ext4".as_ref(),
        "-b".as_ref(),
        "4096".as_ref(),
        "-m".as_ref(),
        "0".as_ref(),
        "-J".as_ref(),
        journal_mib.as_ref(),
        "-U".as_ref(),
        UUID.as_ref(),
        "-L".as_ref(),
        label.as_ref(),
        "-E".as_ref(),
        extended.as_ref(),
        "--".as_ref(),
        path.as_ref(),
    ];
    Tool::MKE2FS.run("make a blank disk", &World::Host, &arguments, &mut |_| {})?;
    let remove = ["-w".as_ref(), "-R".as_ref(), "rmdir lost+found".as_ref(), path.as_ref()];
    Tool::DEBUGFS.run("make a blank disk", &World::Host, &remove, &mut |_| {})?;
    file.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[track_caller]
    fn check(size_bytes: u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        write_blank_ext4(&path, size_bytes, "scratch").unwrap();
        let metadata = fs_err::metadata(&path).unwrap();
        assert_eq!(metadata.len(), size_bytes);
        assert!(metadata.blocks() * 512 < 32 * MIB, "{} blocks: not sparse", metadata.blocks());
        Tool::E2FSCK.run("check", &World::Host, &["-fn".as_ref(), path.as_ref()], &mut |_| {}).unwrap();
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the disk");
        let listing = Tool::DEBUGFS.output("list", &["-R".as_ref(), "ls -p /".as_ref(), path.as_ref()]).unwrap();
        assert!(!String::from_utf8(listing).unwrap().contains("lost+found"));
    }

    #[test]
    fn blank_disks_of_every_size_are_sound_sparse_and_empty() {
        for size in [MINIMUM_BYTES, 64 * MIB, LARGE_BYTES, 10 << 30, 64 << 30] {
            check(size);
        }
    }

    #[test]
    fn too_small_a_disk_is_refused() {
        let error = write_blank_ext4(Path::new("/nonexistent/disk"), 1, "x").unwrap_err();
        assert_eq!(error.kind(), pyro_proto::error::ErrorKind::InvalidArgument);
    }
}
