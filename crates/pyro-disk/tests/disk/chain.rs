//! Chains of overlays that QEMU wrote, read back against what was written.

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::kit::{MIB, raw, run};
use proptest::prelude::*;
use pyro_disk::{Disk, DiskError, Layer, LayerFormat};

const SIZE: u64 = 8 * MIB + 4096;

/// Describes a chain to QEMU, top layer first, as the supervisor does: no file names another.
fn describe(chain: &[Layer]) -> String {
    let [top, below @ ..] = chain else { return "null".to_owned() };
    let file = format!(r#"{{"driver":"file","filename":"{}"}}"#, top.path.display());
    match top.format {
        LayerFormat::Raw => format!(r#"{{"driver":"raw","file":{file}}}"#),
        LayerFormat::Qcow2 => format!(r#"{{"driver":"qcow2","file":{file},"backing":{}}}"#, describe(below)),
    }
}

fn overlay(folder: &Path, index: usize) -> Layer {
    let path = folder.join(format!("{index}.qcow2"));
    run("qemu-img", &[&"create", &"-q", &"-f", &"qcow2", &path, &SIZE.to_string()]);
    Layer { path, format: LayerFormat::Qcow2, size_bytes: SIZE }
}

fn base(folder: &Path) -> (Layer, Vec<u8>) {
    let path = folder.join("base.raw");
    let mut content = vec![0; usize::try_from(SIZE).unwrap()];
    content[MIB as usize..MIB as usize + 70_000].fill(9);
    std::fs::write(&path, &content).unwrap();
    run("cp", &[&"--sparse=always", &path, &folder.join("sparse.raw")]);
    std::fs::rename(folder.join("sparse.raw"), &path).unwrap();
    (raw(&path), content)
}

#[derive(Clone, Debug)]
struct Write {
    layer: usize,
    sector: usize,
    sectors: usize,
    pattern: u8,
}

fn write() -> impl Strategy<Value = Write> {
    let last = usize::try_from(SIZE / 512).unwrap();
    (0usize..3, 0..last - 600, 1usize..600, any::<u8>()).prop_map(|(layer, sector, sectors, pattern)| Write {
        layer,
        sector,
        sectors,
        pattern,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chain_reads_as_qemu_wrote_it(mut writes in prop::collection::vec(write(), 0..20), reads in prop::collection::vec((0..SIZE, 0usize..400_000), 20)) {
        let folder = tempfile::tempdir().unwrap();
        let (base, mut expected) = base(folder.path());
        let mut chain = vec![base];
        writes.sort_by_key(|write| write.layer);
        for layer in 0..3 {
            chain.insert(0, overlay(folder.path(), layer));
            let mut arguments: Vec<String> = Vec::new();
            for Write { sector, sectors, pattern, .. } in writes.iter().filter(|write| write.layer == layer) {
                let (offset, length) = (sector * 512, sectors * 512);
                expected[offset..offset + length].fill(*pattern);
                // Zeros are written as QEMU writes them for a guest that discards.
                let how = if *pattern == 0 { "-z".to_owned() } else { format!("-P {pattern}") };
                arguments.extend(["-c".to_owned(), format!("write {how} {offset} {length}")]);
            }
            arguments.push(format!("json:{}", describe(&chain)));
            run("qemu-io", &arguments.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>).collect::<Vec<_>>());
        }
        let disk = Disk::open(&chain).unwrap();
        let mut whole = vec![0; expected.len()];
        disk.read_at(0, &mut whole).unwrap();
        prop_assert!(whole == expected);
        for (offset, length) in reads {
            let start = usize::try_from(offset).unwrap();
            let end = (start + length).min(expected.len());
            let mut piece = vec![0; end - start];
            disk.read_at(offset, &mut piece).unwrap();
            prop_assert!(piece == expected[start..end]);
        }
        let output = folder.path().join("out.raw");
        let mut told = (0, 0);
        let tell = &mut |done, total| {
            told = (done, total);
            ControlFlow::Continue(())
        };
        prop_assert!(disk.export_raw(&output, &aside(&output), tell).unwrap());
        prop_assert!(std::fs::read(&output).unwrap() == expected);
        prop_assert_eq!(told, (SIZE, SIZE));
    }
}

fn aside(output: &Path) -> PathBuf {
    output.with_file_name(".aside")
}

#[test]
fn export_is_sparse_private_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let (base, _) = base(folder.path());
    let output = folder.path().join("out.raw");
    let disk = Disk::open(&[overlay(folder.path(), 0), base]).unwrap();
    assert!(!disk.export_raw(&output, &aside(&output), &mut |_, _| ControlFlow::Break(())).unwrap());
    assert!(disk.export_raw(&output, &aside(&output), &mut |_, _| ControlFlow::Continue(())).unwrap());
    let metadata = std::fs::metadata(&output).unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (SIZE, 0o600));
    assert!(metadata.blocks() * 512 < MIB, "{} blocks", metadata.blocks());
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, ["0.qcow2", "base.raw", "out.raw"].map(|name| folder.path().join(name)));
    for output in [output, folder.path().join("no/out")] {
        let error = disk.export_raw(&output, &aside(&output), &mut |_, _| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, DiskError::Io { operation: "write", .. }), "{} is there, or cannot be", output.display());
    }
}

#[test]
fn reads_past_the_end_are_errors_and_a_short_file_ends_in_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.raw");
    std::fs::write(&path, [5; 1000]).unwrap();
    let disk = Disk::open(&[Layer { path, format: LayerFormat::Raw, size_bytes: 2000 }]).unwrap();
    let mut bytes = [1; 2000];
    disk.read_at(0, &mut bytes).unwrap();
    assert!(bytes[..1000] == [5; 1000] && bytes[1000..] == [0; 1000]);
    assert!(disk.read_at(1001, &mut bytes[..1000]).is_err());
    assert!(disk.read_at(u64::MAX, &mut bytes).is_err());
}

#[test]
fn disk_in_use_opens_without_a_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (base, _) = base(folder.path());
    let top = overlay(folder.path(), 0);
    // QEMU takes its locks on a file it has open for writing; it waits for commands until its input ends.
    let mut qemu = std::process::Command::new("qemu-io")
        .args(["-f", "qcow2"])
        .arg(&top.path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Its prompt says that the file is open.
    let mut prompt = [0; 1];
    std::io::Read::read_exact(qemu.stdout.as_mut().unwrap(), &mut prompt).unwrap();
    Disk::open(&[top.clone(), base]).unwrap().read_at(0, &mut [0; 100]).unwrap();
    drop(qemu.stdin.take());
    assert!(qemu.wait().unwrap().success());
}
