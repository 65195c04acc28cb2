//! Seeds that cannot be written, and what is left of them. That written ones read back is tested in pyro-disk, which can read.

use std::path::PathBuf;

use pyro_proto::error::ErrorKind;

use super::*;
use crate::tool::World;

const MIB: u64 = 1 << 20;

struct Place {
    folder: tempfile::TempDir,
    blank: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blank = folder.path().join("blank.raw");
        crate::write_blank_ext4(&blank, 16 * MIB, "test").unwrap();
        Self { folder, blank }
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("seed.raw")
    }

    fn start(&self) -> SeedWriter {
        SeedWriter::start(&self.image(), &self.blank).unwrap()
    }

    #[track_caller]
    fn check_nothing_left(&self) {
        let names: Vec<_> = fs_err::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["blank.raw"]);
    }
}

#[test]
fn finished_seed_is_alone_sparse_private_and_sound() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    let mut writer = place.start();
    writer.directory(b"d", 0o700, SeedTime::default()).unwrap();
    let written = writer.file(b"d/f", 0o640, SeedTime { seconds: i64::MAX, nanoseconds: 7 }, 3, &mut &b"abc"[..]).unwrap();
    assert_eq!(written.digest[..4], [0xba, 0x78, 0x16, 0xbf]);
    writer.finish().unwrap();
    assert_eq!(fs_err::read_dir(place.folder.path()).unwrap().count(), 2);
    let metadata = fs_err::metadata(place.image()).unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (16 * MIB, 0o600));
    assert!(metadata.blocks() * 512 < 4 * MIB, "{} blocks", metadata.blocks());
    Tool::E2FSCK.run("check", &World::Host, &["-fn".as_ref(), place.image().as_os_str()], &mut |_| {}).unwrap();
}

#[test]
fn dropped_seed_leaves_nothing() {
    let place = Place::new();
    place.start().file(b"f", 0o644, SeedTime::default(), 1, &mut &b"x"[..]).unwrap();
    place.check_nothing_left();
}

#[test]
fn seed_larger_than_its_disk_is_told_with_both_sizes() {
    let place = Place::new();
    let mut writer = place.start();
    let content = vec![1; 9 << 20];
    let mut write = |name: &[u8]| writer.file(name, 0o644, SeedTime::default(), 9 * MIB, &mut content.as_slice());
    write(b"a").unwrap();
    let error = write(b"b").unwrap_err();
    assert!(matches!(error, Error::SeedTooLarge { seed_bytes: 18_874_368, disk_bytes: 16_777_216 }), "{error}");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    drop(writer);
    place.check_nothing_left();
}

#[test]
fn seed_that_overflows_only_with_the_disks_own_tables_is_too_large_as_well() {
    let place = Place::new();
    let mut writer = place.start();
    writer.file(b"f", 0o644, SeedTime::default(), 15 * MIB, &mut vec![1; 15 << 20].as_slice()).unwrap();
    assert!(matches!(writer.finish().unwrap_err(), Error::SeedTooLarge { .. }));
    place.check_nothing_left();
}

#[test]
fn seed_of_more_files_than_inodes_is_too_large() {
    let place = Place::new();
    let mut writer = place.start();
    let error = (0_u32..).find_map(|index| writer.link(index.to_string().as_bytes(), b"x", SeedTime::default()).err()).unwrap();
    assert!(matches!(error, Error::SeedTooLarge { .. }), "{error}");
}

#[test]
fn entries_that_cannot_be_are_refused() {
    let place = Place::new();
    let mut writer = place.start();
    let mut check = |path: &[u8], problem: &str| {
        let error = writer.link(path, b"x", SeedTime::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot seed `{}`: {problem}", path.escape_ascii()));
    };
    for path in [&b""[..], b"/a", b"a/", b"a//b", b".", b"a/..", b"a\0", &[b'n'; 256]] {
        assert!(!SeedWriter::accepts(path));
        check(path, "its name cannot be written to a disk");
    }
    check(b"missing/a", "its folder is not in the seed");
    assert!(writer.link(b"a", b"", SeedTime::default()).is_err());
    assert!(writer.link(b"a", &[b'x'; 4096], SeedTime::default()).is_err());
    writer.directory(b"d", 0o755, SeedTime::default()).unwrap();
    assert!(writer.directory(b"d", 0o755, SeedTime::default()).is_err());
}

#[test]
fn file_that_changes_its_size_while_it_is_read_is_refused() {
    let place = Place::new();
    for size in [2, 4] {
        let error = place.start().file(b"f", 0o644, SeedTime::default(), size, &mut &b"abc"[..]).unwrap_err();
        assert_eq!(error.to_string(), "cannot seed `f`: its size changed while it was read");
    }
}

#[test]
fn name_used_twice_fails_the_seed_although_debugfs_ends_well() {
    for odd in [false, true] {
        let place = Place::new();
        let mut writer = place.start();
        let name: &[u8] = if odd { b"line\nbreak" } else { b"f" };
        writer.file(name, 0o644, SeedTime::default(), 1, &mut &b"x"[..]).unwrap();
        let again = writer.file(name, 0o644, SeedTime::default(), 1, &mut &b"x"[..]).map(|_| ());
        let error = again.and_then(|()| writer.finish()).unwrap_err();
        assert!(matches!(error, Error::SeedNotWritten { .. }), "{error}");
        place.check_nothing_left();
    }
}

#[test]
fn more_files_than_one_batch_holds_are_all_there() {
    let place = Place::new();
    let mut writer = place.start();
    for index in 0..2100 {
        writer.file(index.to_string().as_bytes(), 0o644, SeedTime { seconds: index, nanoseconds: 1 }, 0, &mut std::io::empty()).unwrap();
    }
    writer.finish().unwrap();
    let listing = Tool::DEBUGFS.output("list", &["-R".as_ref(), "ls -p /tree".as_ref(), place.image().as_os_str()]).unwrap();
    assert_eq!(listing.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"/")).count(), 2100 + 2);
}
