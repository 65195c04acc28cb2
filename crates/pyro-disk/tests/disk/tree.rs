//! Trees read back from disks that others wrote: debugfs, mke2fs, e2fsck; `ext4-view` reads them a second time.

use std::ops::ControlFlow;
use std::path::Path;

use super::kit::{MIB, MTIME, Model, Node, blank, check_with_e2fsck, debugfs, list, model, open, read_model, run, seed, try_open};
use ext4_view::{Ext4, FileType};
use proptest::prelude::*;
use pyro_disk::{DiskError, EntryKind};
use pyro_image::{SeedTime, SeedWriter};
use pyro_proto::error::ErrorKind;

/// Reads a tree with the other reader.
fn read_with_ext4_view(image: &Path) -> Model {
    let volume = Ext4::load_from_path(image).unwrap();
    let (mut model, mut open) = (Model::new(), vec![b"/tree".to_vec()]);
    while let Some(folder) = open.pop() {
        for entry in volume.read_dir(folder.as_slice()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let name: &[u8] = name.as_ref();
            if name == b"." || name == b".." {
                continue;
            }
            let full = [folder.as_slice(), b"/", name].concat();
            let metadata = volume.symlink_metadata(full.as_slice()).unwrap();
            let node = match metadata.file_type() {
                FileType::Directory => Node::Directory { mode: u32::from(metadata.mode() & 0o7777) },
                FileType::Symlink => Node::Link { target: AsRef::<[u8]>::as_ref(&volume.read_link(full.as_slice()).unwrap()).to_vec() },
                FileType::Regular => {
                    Node::File { mode: u32::from(metadata.mode() & 0o7777), content: volume.read(full.as_slice()).unwrap() }
                }
                FileType::BlockDevice | FileType::CharacterDevice | FileType::Fifo | FileType::Socket => {
                    panic!("{full:?} is something else")
                }
            };
            if matches!(node, Node::Directory { .. }) {
                open.push(full.clone());
            }
            model.insert(full[b"/tree/".len()..].to_vec(), node);
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn seeded_trees_read_back_as_they_were_by_both_readers(model in model()) {
        let folder = tempfile::tempdir().unwrap();
        let image = seed(folder.path(), "seed.raw", 64 * MIB, &model);
        check_with_e2fsck(&image);
        let tree = open(&image);
        prop_assert_eq!(&read_model(&tree), &model);
        prop_assert_eq!(&read_with_ext4_view(&image), &model);
        for entry in list(&tree) {
            prop_assert_eq!(entry.mtime_ns, MTIME.seconds * 1_000_000_000 + i64::from(MTIME.nanoseconds));
            prop_assert_eq!(&tree.status(&entry.path).unwrap(), &Some(entry));
        }
    }
}

#[test]
fn every_time_that_a_file_can_have_reads_back_or_becomes_the_nearest_that_ext4_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seed.raw");
    let mut writer = SeedWriter::start(&path, &blank(folder.path(), 64 * MIB)).unwrap();
    let first = -(1 << 31);
    let times = [
        ((-1, 0), "-1.000000000"),
        ((-1, 5), "-0.999999995"),
        ((0, 0), "0.000000000"),
        ((0, 999_999_999), "0.999999999"),
        ((1, 1), "1.000000001"),
        ((-5, 500_000_000), "-4.500000000"),
        ((first, 0), "-2147483648.000000000"),
        ((first - 1, 7), "-2147483648.000000000"),
        ((i64::MIN, 7), "-2147483648.000000000"),
        (((1 << 31) - 1, 0), "2147483647.000000000"),
        (((1 << 32) - 1, 0), "4294967295.000000000"),
        ((1 << 32, 0), "4294967296.000000000"),
        ((6_000_000_000, 1), "6000000000.000000001"),
    ];
    for (index, ((seconds, nanoseconds), _)) in times.iter().enumerate() {
        let time = SeedTime { seconds: *seconds, nanoseconds: *nanoseconds };
        writer.directory(format!("d{index}").as_bytes(), 0o755, time).unwrap();
        writer.directory(format!("odd\n{index}").as_bytes(), 0o755, time).unwrap();
        writer.link(format!("l{index}").as_bytes(), b"x", time).unwrap();
        writer.file(format!("f{index}").as_bytes(), 0o644, time, 1, &mut &b"x"[..]).unwrap();
        writer.file(format!("d{index}/f").as_bytes(), 0o644, time, 1, &mut &b"x"[..]).unwrap();
    }
    let far = SeedTime { seconds: i64::MAX, nanoseconds: 7 };
    writer.file(b"far", 0o644, far, 0, &mut std::io::empty()).unwrap();
    writer.directory(b"", 0o755, SeedTime { seconds: -1, nanoseconds: 250_000_000 }).unwrap();
    writer.finish().unwrap();
    check_with_e2fsck(&path);
    let tree = open(&path);
    let shown = |path: &[u8]| {
        let entry = tree.status(path).unwrap().unwrap();
        let sign = if entry.mtime_ns < 0 { "-" } else { "" };
        let size = entry.mtime_ns.unsigned_abs();
        format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000)
    };
    for (index, (_, expected)) in times.iter().enumerate() {
        for name in [format!("d{index}"), format!("odd\n{index}"), format!("l{index}"), format!("f{index}"), format!("d{index}/f")] {
            assert_eq!(shown(name.as_bytes()), *expected, "{name:?}");
        }
    }
    // The last second of ext4 is beyond what nanoseconds in 64 bits reach, so debugfs is asked.
    let stat = |what: &str| String::from_utf8(run("debugfs", &[&"-R", &format!("stat {what}"), &path]).stdout).unwrap();
    assert!(stat("/tree/far").contains("mtime: 0x7fffffff:00000003"), "{}", stat("/tree/far"));
    assert!(stat("/tree").contains("mtime: 0xffffffff:3b9aca00"), "{}", stat("/tree"));
}

/// Makes a file system of a host folder with other options than ours, and reads it back.
#[track_caller]
fn check_made_by_mke2fs(options: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("host/tree");
    std::fs::create_dir_all(top.join("below/deeper")).unwrap();
    let mut expected = Model::new();
    for index in 0..700_usize {
        let content = vec![u8::try_from(index % 251).unwrap(); index * 37];
        let name = format!("below/file with a name that fills blocks {index}");
        std::fs::write(top.join(&name), &content).unwrap();
        expected.insert(name.into_bytes(), content_of(content));
    }
    for (name, target) in [("short", "x".repeat(59)), ("long", "y".repeat(60)), ("longest", "z".repeat(900))] {
        std::os::unix::fs::symlink(&target, top.join(name)).unwrap();
        expected.insert(name.into(), Node::Link { target: target.into_bytes() });
    }
    let image = folder.path().join("image.raw");
    std::fs::File::create(&image).unwrap().set_len(128 * MIB).unwrap();
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"-q", &"-F", &"-t", &"ext4", &"-m", &"0"];
    options.iter().for_each(|option| arguments.push(option));
    let host = folder.path().join("host");
    arguments.extend([&"-d" as &dyn AsRef<std::ffi::OsStr>, &host, &image]);
    run("mke2fs", &arguments);
    // Turns large folders into indexed ones, as a kernel would have made them.
    run("e2fsck", &[&"-fyD", &image]);
    let found: Model = list(&open(&image))
        .into_iter()
        .filter(|entry| entry.kind != EntryKind::Directory)
        .map(|entry| {
            let node = match entry.link_target {
                Some(target) => Node::Link { target },
                None => content_of(open(&image).read(&entry.path, 0, usize::MAX).unwrap()),
            };
            (entry.path, node)
        })
        .collect();
    assert!(found == expected, "{options:?}");
}

fn content_of(content: Vec<u8>) -> Node {
    Node::File { mode: 0, content }
}

#[test]
fn file_systems_of_other_shapes_read_the_same() {
    check_made_by_mke2fs(&["-b", "4096"]);
    check_made_by_mke2fs(&["-b", "1024"]);
    check_made_by_mke2fs(&["-b", "2048", "-O", "^64bit,^metadata_csum,^flex_bg"]);
    check_made_by_mke2fs(&["-b", "4096", "-I", "128", "-O", "^has_journal"]);
    check_made_by_mke2fs(&["-b", "4096", "-I", "1024", "-O", "metadata_csum_seed,orphan_file,large_dir"]);
}

#[test]
fn file_systems_it_cannot_read_are_refused_by_name() {
    for (option, feature) in [
        ("bigalloc", "the feature `bigalloc`"),
        ("inline_data", "the feature `inline_data`"),
        ("encrypt", "the feature `encrypt`"),
        ("casefold", "the feature `casefold`"),
        ("meta_bg,^resize_inode", "the feature `meta_bg`"),
        ("ea_inode", "the feature `ea_inode`"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image.raw");
        std::fs::File::create(&image).unwrap().set_len(64 * MIB).unwrap();
        run("mke2fs", &[&"-q", &"-F", &"-t", &"ext4", &"-O", &option, &image]);
        let error = try_open(&image).unwrap_err();
        assert!(matches!(error, DiskError::Unsupported { feature: found, .. } if found == feature), "{error}");
        assert_eq!(error.kind(), ErrorKind::Incompatible);
    }
}

#[test]
fn disk_of_a_killed_machine_asks_to_be_started_once() {
    let folder = tempfile::tempdir().unwrap();
    let image = super::kit::blank(folder.path(), 64 * MIB);
    debugfs(&image, "feature needs_recovery");
    let error = try_open(&image).unwrap_err();
    assert!(matches!(error, DiskError::NeedsRecovery { .. }));
    assert_eq!(error.kind(), ErrorKind::WrongState);
}

#[test]
fn disk_without_the_folder_is_an_empty_tree() {
    let folder = tempfile::tempdir().unwrap();
    let tree = open(&super::kit::blank(folder.path(), 64 * MIB));
    assert_eq!(list(&tree), []);
    assert_eq!(tree.status(b"").unwrap(), None);
    assert_eq!(tree.status(b"a").unwrap(), None);
}

#[test]
fn paths_are_not_followed_through_links_and_dots_name_nothing() {
    let model = Model::from([
        (b"d".to_vec(), Node::Directory { mode: 0o755 }),
        (b"d/f".to_vec(), Node::File { mode: 0o644, content: b"0123456789".to_vec() }),
        (b"l".to_vec(), Node::Link { target: b"d".to_vec() }),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let tree = open(&seed(folder.path(), "seed.raw", 64 * MIB, &model));
    for path in [&b"l/f"[..], b"d/..", b".", b"d/./f", b"/d", b"d/", b"d//f", b"d/f/x", b"../tree/d", b"nope"] {
        assert_eq!(tree.status(path).unwrap(), None, "{}", path.escape_ascii());
        assert_eq!(tree.read(path, 0, 1).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(tree.status(b"l").unwrap().unwrap().kind, EntryKind::Link);
    assert_eq!(tree.read(b"d/f", 3, 4).unwrap(), b"3456");
    assert_eq!(tree.read(b"d/f", 8, 100).unwrap(), b"89");
    assert_eq!(tree.read(b"d/f", u64::MAX, 100).unwrap(), b"");
    assert_eq!(tree.read(b"d", 0, 1).unwrap_err().to_string(), "`d` on the disk is not a file");
    let mut seen = Vec::new();
    tree.list(b"", false, &mut |entry| {
        seen.push(entry.path);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, [b"d", b"l"]);
    tree.list(b"", true, &mut |_| ControlFlow::Break(())).unwrap();
}

#[test]
fn file_in_thousands_of_pieces_reads_whole_and_its_holes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (image, source) = (super::kit::blank(folder.path(), 64 * MIB), folder.path().join("source"));
    let file = std::fs::File::create(&source).unwrap();
    let piece = |index: u64| vec![u8::try_from(index % 255).unwrap() + 1; 4096];
    for index in 0..3000 {
        std::os::unix::fs::FileExt::write_all_at(&file, &piece(index), index * 8192).unwrap();
    }
    file.set_len(3000 * 8192 + 100).unwrap();
    debugfs(&image, "mkdir /tree");
    debugfs(&image, &format!("write {} /tree/f", source.display()));
    let tree = open(&image);
    let expected = std::fs::read(&source).unwrap();
    assert!(tree.read(b"f", 0, usize::MAX).unwrap() == expected);
    let mut reader = tree.reader(b"f").unwrap();
    assert_eq!(reader.hole_bytes(), 0);
    reader.skip(5000);
    assert_eq!(reader.hole_bytes(), 8192 - 5000);
    reader.skip(3000 * 8192 - 5000);
    assert_eq!(reader.hole_bytes(), 100);
}

#[test]
fn file_of_a_listing_reads_by_its_inode_and_other_entries_are_refused() {
    let model = Model::from([
        (b"d".to_vec(), Node::Directory { mode: 0o755 }),
        (b"d/f".to_vec(), Node::File { mode: 0o644, content: b"0123456789".to_vec() }),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let tree = open(&seed(folder.path(), "seed.raw", 64 * MIB, &model));
    let mut file = tree.status(b"d/f").unwrap().unwrap();
    // A path that names nothing shows that none is looked up.
    file.path = b"nowhere/f".to_vec();
    assert_eq!(tree.read_of(&file, 3, 4).unwrap(), b"3456");
    let mut whole = Vec::new();
    std::io::Read::read_to_end(&mut tree.reader_of(&file).unwrap(), &mut whole).unwrap();
    assert_eq!(whole, b"0123456789");
    let top = tree.status(b"d").unwrap().unwrap();
    assert_eq!(tree.read_of(&top, 0, 1).unwrap_err().to_string(), "`d` on the disk is not a file");
}

#[test]
fn everything_fails_once_the_deadline_is_over_even_a_walk_that_has_begun() {
    let model = Model::from([(b"f".to_vec(), Node::File { mode: 0o644, content: b"x".to_vec() })]);
    let folder = tempfile::tempdir().unwrap();
    let image = seed(folder.path(), "seed.raw", 64 * MIB, &model);
    let (before, mut tree) = (open(&image), open(&image));
    let now = std::time::Instant::now();
    tree.set_deadline(now + std::time::Duration::from_secs(3600));
    let file = tree.status(b"f").unwrap().unwrap();
    tree.set_deadline(now);
    let errors = [
        tree.status(b"f").unwrap_err(),
        tree.read_of(&file, 0, 1).unwrap_err(),
        tree.list(b"", true, &mut |_| ControlFlow::Continue(())).unwrap_err(),
        pyro_disk::changes(&before, &tree).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, DiskError::TooLate { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    }
}

#[test]
fn link_whose_target_lies_in_pieces_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (image, source) = (super::kit::blank(folder.path(), 64 * MIB), folder.path().join("source"));
    let file = std::fs::File::create(&source).unwrap();
    for index in 0..600 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], index * 8192).unwrap();
    }
    debugfs(&image, "mkdir /tree");
    debugfs(&image, &format!("write {} /tree/l", source.display()));
    // A file of 600 pieces calls itself a link.
    debugfs(&image, "sif /tree/l mode 0120777");
    debugfs(&image, "sif /tree/l size 4095");
    let error = open(&image).status(b"l").unwrap_err();
    assert!(matches!(error, DiskError::CorruptInode { problem: "a link's target lies in more than one piece", .. }), "{error}");
}
