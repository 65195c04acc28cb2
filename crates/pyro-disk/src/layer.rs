//! The layers of a disk, and what is checked of one before anything else looks at it.
//!
//! imago parses qcow2, but it was not written for headers that lie: it opens encrypted images as if they were not, panics on a name
//! table cut short, and keeps a cache of 160 clusters that may be 2 MiB each. So the header is checked here first, and only a form that
//! our own overlays have is let through. A machine could rewrite the header between this look and imago's; all it would win is the end of
//! the client's own process.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::DiskError;

const MAGIC: u32 = 0x5146_49fb;
/// Bytes of a version 3 header up to its length field.
const HEADER_BYTES: usize = 104;
/// Cluster sizes let through: 4 to 64 KiB. Ours have 64 KiB; larger ones make imago's caches large.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 12..=16;
/// Most entries of a first-level table, 8 MiB of it: at 64 KiB clusters that maps 512 TiB.
const L1_ENTRIES_MAX: u32 = 1 << 20;
/// The extension qemu-img writes into every overlay: the names of feature bits.
const FEATURE_NAMES: u32 = 0x6803_f857;
/// What QEMU writes beside an empty name of a backing file: the format the file would have. Whoever opens the chain says it himself.
const BACKING_FORMAT: u32 = 0xe279_2aca;
const BACKING_FORMAT_MAX_BYTES: u32 = 16;
/// Bytes of one such name.
const FEATURE_NAME_BYTES: u32 = 48;
/// The dirty bit alone may be set, and says that counts of references, which no reader needs, may be stale.
const DIRTY: u64 = 1;

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerFormat {
    /// The bytes of the disk as they are; only the lowest layer of a chain is.
    Raw,
    /// An overlay that names no backing file.
    Qcow2,
}

/// One layer of a disk, as the registry knows it. In a chain the top one comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Where it lies on the host.
    pub path: PathBuf,
    /// How it is stored.
    pub format: LayerFormat,
    /// Size of the disk the guest sees. What the file's own header says is not believed.
    pub size_bytes: u64,
}

/// Opens a layer for reading, without any lock: QEMU holds its own on the top layer of a running machine.
pub(crate) fn open(layer: &Layer) -> Result<File, DiskError> {
    let failed = |source| DiskError::io("open layer", &layer.path, source);
    // A pipe in the layer's place must not make the open wait.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&layer.path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(corrupt(&layer.path, "it is not a regular file"));
    }
    if layer.format == LayerFormat::Qcow2 {
        check_header(layer, &file)?;
    }
    Ok(file)
}

fn corrupt(path: &Path, problem: &'static str) -> DiskError {
    DiskError::CorruptLayer { path: path.to_owned(), problem }
}

/// Lets through the headers our overlays have; see <https://www.qemu.org/docs/master/interop/qcow2.html>.
fn check_header(layer: &Layer, file: &File) -> Result<(), DiskError> {
    let refuse = |problem| Err(corrupt(&layer.path, problem));
    let read = |bytes: &mut [u8], offset| match file.read_exact_at(bytes, offset) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(corrupt(&layer.path, "it is cut short")),
        other => other.map_err(|source| DiskError::io("read layer", &layer.path, source)),
    };
    let mut header = [0; HEADER_BYTES];
    read(&mut header, 0)?;
    let u32_at = |offset: usize| u32::from_be_bytes([header[offset], header[offset + 1], header[offset + 2], header[offset + 3]]);
    let u64_at = |offset: usize| u64::from(u32_at(offset)) << 32 | u64::from(u32_at(offset + 4));
    if u32_at(0) != MAGIC || u32_at(4) != 3 {
        return refuse("it is no qcow2 image of version 3");
    }
    // QEMU leaves an empty name where it was told to write none, after it has pulled up a layer.
    if u64_at(8) != 0 && u32_at(16) != 0 {
        return refuse("it names a backing file");
    }
    let cluster_bits = u32_at(20);
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return refuse("its cluster size is out of range");
    }
    if u64_at(24) != layer.size_bytes {
        return refuse("its size is not the one on record");
    }
    if u32_at(32) != 0 {
        return refuse("it is encrypted");
    }
    if u32_at(36) > L1_ENTRIES_MAX {
        return refuse("its first-level table is too large");
    }
    if u64_at(72) & !DIRTY != 0 {
        return refuse("it uses incompatible features, such as a data file of its own");
    }
    // The size of the header is a multiple of 8, so that fields of 8 bytes stay together.
    let (mut offset, end) = (u64::from(u32_at(100)), 1 << cluster_bits);
    if offset < 104 || !offset.is_multiple_of(8) {
        return refuse("its header is malformed");
    }
    while offset + 8 <= end {
        let mut extension = [0; 8];
        read(&mut extension, offset)?;
        let [kind @ .., l0, l1, l2, l3] = extension;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        match u32::from_be_bytes(kind) {
            0 => return Ok(()),
            FEATURE_NAMES if length.is_multiple_of(FEATURE_NAME_BYTES) => {}
            BACKING_FORMAT if length <= BACKING_FORMAT_MAX_BYTES => {}
            _ => return refuse("its header carries an unexpected extension"),
        }
        offset += 8 + u64::from(length).next_multiple_of(8);
    }
    refuse("its header does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn overlay(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Layer {
        let path = folder.join("overlay.qcow2");
        let made = std::process::Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("64M").status().unwrap();
        assert!(made.success());
        let mut bytes = fs_err::read(&path).unwrap();
        change(&mut bytes);
        fs_err::write(&path, bytes).unwrap();
        Layer { path, format: LayerFormat::Qcow2, size_bytes: 64 * MIB }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<u8>), expected: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let found = match open(&overlay(folder.path(), change)) {
            Ok(_) => None,
            Err(DiskError::CorruptLayer { problem, .. }) => Some(problem),
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn own_overlays_pass_also_when_dirty() {
        check(|_| {}, None);
        check(|bytes| bytes[79] = 1, None);
        check(|bytes| bytes[15] = 200, None);
    }

    #[test]
    fn headers_that_lie_are_refused() {
        check(|bytes| bytes[0] = 0, Some("it is no qcow2 image of version 3"));
        check(|bytes| bytes[7] = 2, Some("it is no qcow2 image of version 3"));
        check(|bytes| bytes[15..20].copy_from_slice(&[200, 0, 0, 0, 3]), Some("it names a backing file"));
        check(|bytes| bytes[23] = 21, Some("its cluster size is out of range"));
        check(|bytes| bytes[24] = 1, Some("its size is not the one on record"));
        check(|bytes| bytes[35] = 1, Some("it is encrypted"));
        check(|bytes| bytes[36] = 0xff, Some("its first-level table is too large"));
        check(|bytes| bytes[79] = 4, Some("it uses incompatible features, such as a data file of its own"));
        check(|bytes| bytes[72] = 1, Some("it uses incompatible features, such as a data file of its own"));
        check(|bytes| bytes[103] = 0, Some("its header is malformed"));
        check(|bytes| bytes[112..116].copy_from_slice(&0x4441_5441_u32.to_be_bytes()), Some("its header carries an unexpected extension"));
        // imago 0.2.6 indexes past the end of such a name.
        check(|bytes| bytes[119] = 49, Some("its header carries an unexpected extension"));
        check(|bytes| bytes.truncate(50), Some("it is cut short"));
    }

    #[test]
    fn pipes_and_folders_are_no_layers() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&Layer { path: folder.path().to_owned(), format: LayerFormat::Raw, size_bytes: MIB }).unwrap_err();
        assert!(error.to_string().ends_with("it is not a regular file"));
    }
}
