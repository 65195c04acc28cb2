//! Disks that lie: damaged at random, looped and cut. Errors are right, so is wrong content; panics and endless walks are not.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::kit::{MIB, Model, Node, debugfs, open, raw, run, seed, try_open};
use proptest::prelude::*;
use pyro_disk::{Disk, DiskError, Layer, LayerFormat, Tree, changes};

/// Looks at everything a tree has; errors are allowed everywhere.
fn look(tree: &Tree, other: &Tree) {
    let mut files = Vec::new();
    let _ = tree.list(b"", true, &mut |entry| {
        files.push(entry.path);
        ControlFlow::Continue(())
    });
    for path in files {
        let _ = tree.status(&path);
        if let Ok(mut reader) = tree.reader(&path) {
            let mut buffer = vec![0; 100_000];
            let _ = reader.fill(&mut buffer);
            reader.skip(reader.size_bytes() / 2);
            let _ = (reader.hole_bytes(), reader.fill(&mut buffer));
        }
    }
    let _ = changes(other, tree);
    let _ = changes(tree, other);
}

/// A small disk with folders, an indexed one, fragmented files and links, made once.
fn sound() -> &'static (tempfile::TempDir, PathBuf, Vec<u8>) {
    static SOUND: OnceLock<(tempfile::TempDir, PathBuf, Vec<u8>)> = OnceLock::new();
    SOUND.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        for parent in 0..4 {
            model.insert(format!("d{parent}").into_bytes(), Node::Directory { mode: 0o755 });
            for index in 0..150 {
                let content = vec![b'x'; index * 97];
                model.insert(format!("d{parent}/file-of-a-longer-name-{index}").into_bytes(), Node::File { mode: 0o644, content });
            }
        }
        model.insert(b"l".to_vec(), Node::Link { target: vec![b'y'; 200] });
        let image = seed(folder.path(), "sound.raw", 24 * MIB, &model);
        let source = folder.path().join("holes");
        let file = std::fs::File::create(&source).unwrap();
        for index in 0..600 {
            std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], index * 8192).unwrap();
        }
        debugfs(&image, &format!("write {} /tree/holes", source.display()));
        run("e2fsck", &[&"-fyD", &image]);
        let bytes = std::fs::read(&image).unwrap();
        (folder, image, bytes)
    })
}

/// Offsets of blocks that hold metadata: all that is neither zero nor the files' one letter.
fn metadata_blocks(bytes: &[u8]) -> Vec<usize> {
    let plain = |block: &[u8]| block.iter().all(|byte| matches!(byte, 0 | b'x' | b'y' | 7));
    bytes.chunks(4096).enumerate().filter(|(_, block)| !plain(block)).map(|(index, _)| index * 4096).collect()
}

/// Looks at a copy of a sound disk with some bytes changed.
fn check(image: &Path, damage: impl Iterator<Item = (usize, u8)>) {
    let damaged = tempfile::NamedTempFile::new().unwrap();
    super::kit::run("cp", &[&"--sparse=always", &image, &damaged.path()]);
    for (offset, value) in damage {
        std::os::unix::fs::FileExt::write_all_at(damaged.as_file(), &[value], offset as u64).unwrap();
    }
    if let Ok(tree) = try_open(damaged.path()) {
        look(&tree, &open(image));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_file_system_never_panics_or_hangs(damage in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4096, any::<u8>()), 1..60)) {
        let (_folder, image, bytes) = sound();
        let blocks = metadata_blocks(bytes);
        check(image, damage.into_iter().map(|(block, offset, value)| (blocks[block.index(blocks.len())] + offset, value)));
    }

    #[test]
    fn damaged_superblock_never_panics_or_hangs(damage in prop::collection::vec((0usize..1024 + 64, any::<u8>()), 1..6)) {
        let (_folder, image, _) = sound();
        // The superblock, and the first descriptor in the block behind it.
        check(image, damage.into_iter().map(|(offset, value)| (if offset < 1024 { 1024 + offset } else { 3072 + offset }, value)));
    }

    #[test]
    fn damaged_overlay_never_panics_or_hangs(
        damage in prop::collection::vec((0usize..6 * 65536, any::<u8>()), 0..40),
        header in prop::collection::vec((0usize..600, any::<u8>()), 0..3),
        entries in prop::collection::vec((3usize..5, 0usize..100, any::<u64>()), 0..10),
        length in prop::option::of(0u64..500_000),
    ) {
        let (_folder, image, _) = sound();
        let folder = tempfile::tempdir().unwrap();
        let overlay = overlay_with_writes(folder.path(), image);
        let mut bytes = std::fs::read(&overlay).unwrap();
        let end = bytes.len();
        for (offset, value) in damage.into_iter().chain(header) {
            bytes[offset % end] = value;
        }
        // Entries of both tables: compressed, far away, unaligned.
        for (cluster, index, value) in entries {
            let table = cluster * 65536 + index * 8;
            bytes[table..table + 8].copy_from_slice(&value.to_be_bytes());
        }
        std::fs::write(&overlay, &bytes).unwrap();
        if let Some(length) = length {
            std::fs::OpenOptions::new().write(true).open(&overlay).unwrap().set_len(length).unwrap();
        }
        let base = raw(image);
        let top = Layer { path: overlay, format: LayerFormat::Qcow2, size_bytes: base.size_bytes };
        if let Ok(disk) = Disk::open(&[top, base]) {
            let _ = disk.export_raw(&folder.path().join("out.raw"), &folder.path().join("aside"), &mut |_, _| ControlFlow::Continue(()));
            let _ = std::fs::remove_file(folder.path().join("out.raw"));
            if let Ok(tree) = Tree::open(disk, b"tree") {
                look(&tree, &open(image));
            }
        }
    }
}

fn overlay_with_writes(folder: &Path, base: &Path) -> PathBuf {
    let overlay = folder.join("overlay.qcow2");
    run("qemu-img", &[&"create", &"-q", &"-f", &"qcow2", &"-b", &base, &"-F", &"raw", &overlay]);
    run("qemu-io", &[&"-f", &"qcow2", &"-c", &"write -P 7 3M 100k", &"-c", &"write -z 5M 128k", &overlay]);
    // The name in the header has done its duty.
    run("qemu-img", &[&"rebase", &"-u", &"-b", &"", &overlay]);
    overlay
}

#[test]
fn folders_that_hold_themselves_are_damage() {
    let (folder, image, _) = sound();
    let looped = folder.path().join("looped.raw");
    run("cp", &[&"--sparse=always", image, &looped]);
    debugfs(&looped, "ln /tree/d0 /tree/d0/again");
    let error = open(&looped).list(b"", true, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, DiskError::CorruptInode { problem: "a folder is in the tree twice", .. }), "{error}");
}

#[test]
fn chains_must_have_layers_and_raw_ones_lie_lowest() {
    let (_folder, image, _) = sound();
    assert!(matches!(Disk::open(&[]).unwrap_err(), DiskError::NoLayers));
    let error = Disk::open(&[raw(image), raw(image)]).unwrap_err();
    assert!(matches!(error, DiskError::CorruptLayer { problem: "it is raw, but not the lowest", .. }));
}
