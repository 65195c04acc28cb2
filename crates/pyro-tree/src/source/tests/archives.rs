//! Archives against the real `tar`, and archives that no `tar` would make.

use proptest::prelude::*;

use super::*;

/// Makes a header block: fields by where they lie, the checksum last.
pub(super) fn header(fields: &[(usize, &[u8])]) -> [u8; 512] {
    let mut block = [0; 512];
    for (at, field) in [(148, &b"        "[..])].iter().chain(fields) {
        block[*at..*at + field.len()].copy_from_slice(field);
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Fills up to a whole block.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(512), 0);
    padded
}

/// Makes an entry of the old GNU form with its content.
pub(super) fn member(kind: u8, name: &[u8], data: &[u8]) -> Vec<u8> {
    let link = matches!(kind, b'1' | b'2');
    let (target, content) = if link { (data, &b""[..]) } else { (&b""[..], data) };
    let size = format!("{:011o}", content.len());
    let fields =
        [(100, &b"0000644\0"[..]), (124, size.as_bytes()), (136, b"00000000001"), (156, &[kind]), (157, target), (257, b"ustar  \0")];
    let long = if name.len() > 100 { member(b'L', b"././@LongLink", &[name, b"\0"].concat()) } else { Vec::new() };
    [long, header(&[&fields[..], &[(0, &name[..name.len().min(100)])]].concat()).to_vec(), padded(content)].concat()
}

/// Writes an archive of parts that are there as bytes, and the mark of its end.
fn written(parts: &[Vec<u8>]) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    fs::write(&path, [parts.concat(), vec![0; 1024]].concat()).unwrap();
    (folder, path)
}

/// Makes an archive of entries: kind, name, link target or content.
pub(super) fn archive(entries: &[(u8, &[u8], &[u8])]) -> (TempDir, std::path::PathBuf) {
    written(&entries.iter().map(|(kind, name, data)| member(*kind, name, data)).collect::<Vec<_>>())
}

#[test]
fn archives_are_unpacked_as_tar_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    put(path, &[("in/a", "a"), (&format!("in/{long}"), "long"), ("in/s/t", "t")]);
    fs::hard_link(path.join("in/a"), path.join("in/s/hard")).unwrap();
    symlink("../a", path.join("in/s/link")).unwrap();
    let sparse = fs::File::create(path.join("in/sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    (&sparse).write_all(b"start").unwrap();
    let (expected, _) = take(&path.join("in"), &SourceOptions::default());
    for (name, arguments) in [
        ("gnu.tar", ["--format=gnu", "--sparse", "-cf"].as_slice()),
        ("pax.tar.gz", &["--format=pax", "-czf"]),
        ("old.tgz", &["--format=gnu", "-czf"]),
        ("z.tar.zst", &["--format=pax", "--zstd", "-cf"]),
    ] {
        let mut arguments = arguments.to_vec();
        arguments.extend([name, "-C", "in", "."]);
        run(path, "tar", &arguments);
        let (taken, report) = take(&path.join(name), &SourceOptions::default());
        assert_eq!(taken.0, expected.0, "{name}");
        assert_eq!(report.origin, OriginKind::Archive);
        let whole = fs::read(path.join(name)).unwrap();
        for cut in [0, 100, 700, whole.len() / 2 + 1] {
            let cut_path = path.join(format!("cut-{name}"));
            fs::write(&cut_path, &whole[..cut]).unwrap();
            assert!(refused(&cut_path).contains("is damaged after"), "{name} cut at {cut}");
        }
    }
}

#[test]
fn zstandard_archives_are_read_frame_by_frame() {
    let (folder, plain) = archive(&[(b'0', b"a", b"content"), (b'0', b"b", b"more")]);
    let bytes = fs::read(&plain).unwrap();
    let pack = |bytes: &[u8]| ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest);
    // What `pzstd` puts between frames.
    let skipped = b"\x50\x2a\x4d\x18\x04\0\0\0size".to_vec();
    let packed = [skipped.clone(), pack(&bytes[..700]), skipped, pack(&bytes[700..])].concat();
    let path = folder.path().join("a.tar.zst");
    fs::write(&path, &packed).unwrap();
    assert_eq!(take(&path, &SourceOptions::default()).0, take(&plain, &SourceOptions::default()).0);
    for cut in [0, 3, 11, 20, packed.len() - 1] {
        fs::write(&path, &packed[..cut]).unwrap();
        assert!(refused(&path).contains("is damaged after"), "cut at {cut}");
    }
}

#[test]
fn the_content_says_how_an_archive_is_packed() {
    let (folder, plain) = archive(&[(b'0', b"a", b"content")]);
    let expected = take(&plain, &SourceOptions::default()).0;
    let bytes = fs::read(&plain).unwrap();
    let gzip = |bytes: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    };
    let members = [gzip(&bytes[..700]), gzip(&bytes[700..])].concat();
    for (name, content) in [
        ("plain.tar.gz", bytes.clone()),
        ("plain.tar.zst", bytes.clone()),
        ("packed.tar", gzip(&bytes)),
        ("members.tgz", members.clone()),
        ("zeros.tgz", [members.clone(), vec![0; 5000]].concat()),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        assert_eq!(take(&path, &SourceOptions::default()).0, expected, "{name}");
    }
    for (content, said) in [
        ([members.clone(), b"\0\0junk".to_vec()].concat(), "trailing data follows the gzip stream"),
        ([members, b"junk".to_vec()].concat(), "is damaged after"),
        (b"\xfd7zXZ\0...".to_vec(), "is compressed with xz"),
        (b"BZh91AY&SY".to_vec(), "is compressed with bzip2"),
        ([b"BZh".to_vec(), vec![b' '; 600]].concat(), "is compressed with bzip2"),
        (vec![b'x'; 600], "it is not a tar archive"),
    ] {
        let path = folder.path().join("a.tar");
        fs::write(&path, content).unwrap();
        let message = refused(&path);
        assert!(message.contains(said), "{message} does not contain {said}");
    }
}

#[test]
fn a_hostile_archive_is_refused_whole() {
    let file = (b'0', &b"ok"[..], &b"x"[..]);
    let deep = b"d/".repeat(10_000);
    let check = |entries: &[(u8, &[u8], &[u8])], expected: &str| {
        let (_folder, path) = archive(&[&[file], entries].concat());
        let message = refused(&path);
        assert!(message.contains(expected), "{message} does not contain {expected}");
    };
    check(&[(b'0', b"/etc/x", b"")], "entry 2, `/etc/x`: its path is absolute");
    check(&[(b'0', b"a/../../x", b"")], "`..`");
    check(&[(b'2', b"l", b"/etc"), (b'0', b"l/x", b"")], "entry 3, `l/x`: it lies behind a link");
    check(&[(b'0', b"l/x", b""), (b'2', b"l", b"/etc")], "entry 3, `l`: it is a folder in one place");
    check(&[(b'1', b"h", b"nothing")], "hard link to no file");
    check(&[(b'1', b"h", b"../x")], "its path has a component");
    check(&[(b'3', b"c", b"")], "device");
    check(&[(b'0', b"ok/below", b"")], "folder in one place");
    check(&[(b'5', &deep, b"")], "longer than 4096 bytes");
    check(&[(b'Q', b"v", b"")], "kind `Q`");
    check(&[(b'M', b"v", b"")], "entry 2, `v`: it is part of a multi-volume archive");
    check(&[(b'x', b"x", b"25 GNU.volume.filename=v\n"), (b'0', b"v", b"")], "multi-volume");
    check(&[(b'x', b"x", b"99 path=v\n"), (b'0', b"v", b"")], "its extended header is damaged");
    check(&[(b'x', b"x", b"15 mtime=later\n"), (b'0', b"v", b"")], "a number in its header is damaged");
}

#[test]
fn of_two_entries_of_one_name_the_later_counts() {
    let (_folder, path) = archive(&[
        (b'0', b"./a", b"first"),
        (b'1', b"h", b"a"),
        (b'0', b"x/y/z", b"z"),
        (b'0', b"a", b"second"),
        (b'5', b"x/", b""),
        (b'5', b"empty/", b""),
        (b'0', b"empty", b"now a file"),
        (b'2', b"becomes", b"a"),
        (b'5', b"becomes/", b""),
        (b'0', b"becomes/b", b"b"),
    ]);
    let (taken, _) = take(&path, &SourceOptions::default());
    assert_eq!(taken.names(), ["a", "becomes", "becomes/b", "empty", "h", "x", "x/y", "x/y/z"]);
    assert_eq!((taken.text("a").as_str(), taken.text("h").as_str(), taken.text("empty").as_str()), ("second", "first", "now a file"));
    assert_eq!((taken.0["x"].1, taken.0["x/y"].1), (0o644, 0o755));
}

/// Headers whose fields old and odd programs leave behind, and what becomes of a file `a` of two bytes.
#[test]
fn odd_headers_are_read_as_tar_reads_them() {
    let plain: [(usize, &[u8]); 5] = [(0, b"a"), (100, b"0000640\0"), (124, b"00000000002\0"), (136, b"00000000007\0"), (156, b"0")];
    let check = |odd: &[(usize, &[u8])], (name, mode, seconds): (&str, u32, i64)| {
        let entry = [header(&[&plain, odd].concat()).to_vec(), padded(b"hi")].concat();
        let (_folder, path) = written(&[entry, member(b'0', b"z", b"next")]);
        let (taken, _) = take(&path, &SourceOptions::default());
        assert_eq!(taken.0[name], (EntryKind::File, mode, b"hi".to_vec()), "{odd:?}");
        assert_eq!(taken.1[name], Timestamp::from_seconds(seconds), "{odd:?}");
        assert_eq!(taken.text("z"), "next");
    };
    check(&[], ("a", 0o640, 7));
    check(&[(156, b"\0")], ("a", 0o640, 7));
    check(&[(156, b"7")], ("a", 0o640, 7));
    check(&[(100, b"        ")], ("a", 0o644, 7));
    check(&[(100, b"   640 \0")], ("a", 0o640, 7));
    check(&[(100, b"0100640\0")], ("a", 0o640, 7));
    check(&[(136, b"            ")], ("a", 0o640, 0));
    check(&[(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")], ("a", 0o640, -1));
    check(&[(136, b"\x80\0\0\0\0\0\0\x01\0\0\0\0")], ("a", 0o640, 1 << 32));
    check(&[(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x02")], ("a", 0o640, 7));
    check(&[(124, b"         2  ")], ("a", 0o640, 7));
    // Owners mean nothing here, however they are written.
    check(&[(108, b"        "), (116, b"\xff\xff\xff\xff\xff\xff\xff\xff")], ("a", 0o640, 7));
    check(&[(108, b"nobody\0\0"), (265, b"\xff"), (329, b"xxxxxxxx")], ("a", 0o640, 7));
    check(&[(257, b"ustar\x0000"), (345, b"deep/er")], ("deep/er/a", 0o640, 7));
    check(&[(257, b"ustar  \0"), (345, b"14755136410")], ("a", 0o640, 7));
}

#[test]
fn a_header_of_which_a_number_is_damaged_is_refused_by_name() {
    for (at, field) in [(100, b"0000x44\0"), (124, b"-0000002"), (136, b"99999999")] {
        let entry = header(&[(0, b"odd"), (100, b"0000644\0"), (124, b"00000000000\0"), (156, b"0"), (at, field)]).to_vec();
        let (_folder, path) = written(&[entry]);
        let message = refused(&path);
        assert!(message.contains("entry 1, `odd`: a number in its header is damaged"), "{message}");
    }
}

#[test]
fn a_checksum_that_counts_signed_bytes_is_right() {
    let mut entry = header(&[(0, b"\xe9"), (124, b"00000000000\0"), (156, b"0")]);
    let sum: i64 =
        entry.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { i64::from(byte.cast_signed()) }).sum();
    entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let (_folder, path) = written(&[entry.to_vec()]);
    assert_eq!(take(&path, &SourceOptions::default()).0.names(), ["\\xe9"]);
    entry[0] = b'f';
    let (_folder, path) = written(&[member(b'0', b"a", b""), entry.to_vec()]);
    assert!(refused(&path).contains("the checksum of a header does not match"));
}

#[test]
fn the_end_is_where_tar_sees_it() {
    let (one, two) = (member(b'0', b"a", b"a"), member(b'0', b"b", b"b"));
    let zeros = |blocks: usize| vec![0; blocks * 512];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    for (bytes, expected) in [
        (vec![one.clone()], vec!["a"]),
        (vec![one.clone(), zeros(1)], vec!["a"]),
        (vec![one.clone(), zeros(1), two.clone(), zeros(2)], vec!["a"]),
        (vec![one.clone(), zeros(2), two.clone(), zeros(2)], vec!["a"]),
        (vec![one.clone(), zeros(2), b"trailing garbage".to_vec()], vec!["a"]),
        (vec![one.clone(), zeros(300), vec![1]], vec!["a"]),
        (vec![zeros(20)], vec![]),
    ] {
        fs::write(&path, bytes.concat()).unwrap();
        let unpacked = tempfile::tempdir().unwrap();
        run(unpacked.path(), "tar", &["-xf", &path.display().to_string()]);
        assert_eq!(take(unpacked.path(), &SourceOptions::default()).0.names(), expected, "tar");
        assert_eq!(take(&path, &SourceOptions::default()).0.names(), expected);
    }
    for bytes in [[one.clone(), two[..100].to_vec()].concat(), two[..513].to_vec(), member(b'L', b"x", b"long")] {
        fs::write(&path, bytes).unwrap();
        assert!(refused(&path).contains("is damaged after"));
    }
}

#[test]
fn headers_that_are_no_files_are_read_over() {
    let label = header(&[(0, b"Backup of today"), (124, b"00000000000\0"), (156, b"V")]).to_vec();
    let (_folder, path) = written(&[
        label,
        member(b'g', b"pax_global_header", b"52 comment=0123456789012345678901234567890123456789\n"),
        member(b'g', b"pax_global_header", b"11 mtime=9\n"),
        member(b'D', b"d/", b"Yfile\0Ddir\0\0"),
        member(b'0', b"d/file", b"content"),
        member(b'x', b"x", b"13 mtime=1.5\n30 SCHILY.xattr.user.a=bcdefg\n"),
        member(b'0', b"own", b""),
        member(b'x', b"x", b"9 mtime=\n"),
        member(b'0', b"none", b""),
    ]);
    let (taken, _) = take(&path, &SourceOptions::default());
    assert_eq!(taken.names(), ["d", "d/file", "none", "own"]);
    assert_eq!(taken.text("d/file"), "content");
    assert_eq!(taken.1["d/file"], Timestamp::from_seconds(9));
    assert_eq!(taken.1["own"], Timestamp { seconds: 1, nanoseconds: 500_000_000 });
}

#[test]
fn volumes_are_refused_and_incremental_backups_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    put(path, &[("in/a", "small"), ("in/sub/b", "b"), ("in/z", &"z".repeat(40_000))]);
    let (expected, _) = take(&path.join("in"), &SourceOptions::default());
    for form in ["gnu", "posix"] {
        let format = format!("--format={form}");
        // A change script that names the next volume, instead of asking for a tape.
        put(path, &[("next", &format!("#!/bin/sh\necho {form}2.tar >&$TAR_FD\n"))]);
        fs::set_permissions(path.join("next"), fs::Permissions::from_mode(0o755)).unwrap();
        let volumes = ["--multi-volume", "--tape-length=30", "--info-script=./next", "--sort=name"];
        run(path, "tar", &[&[&format, "-cf", &format!("{form}1.tar")], &volumes[..], &["-C", "in", "."]].concat());
        assert!(refused(&path.join(format!("{form}1.tar"))).contains("is damaged after"));
        let message = refused(&path.join(format!("{form}2.tar")));
        assert!(message.contains("z`: it is part of a multi-volume archive"), "{message}");
        let snapshot = format!("--listed-incremental={form}.snapshot");
        let incremental = [snapshot.as_str(), "-C", "in", "."];
        run(path, "tar", &[&[&format, "-cf", "incremental.tar"], &incremental[..]].concat());
        assert_eq!(take(&path.join("incremental.tar"), &SourceOptions::default()).0.0, expected.0, "{form}");
    }
}

#[test]
fn the_tarball_of_a_commit_is_what_the_commit_holds() {
    let folder = checkout();
    let place = tempfile::tempdir().unwrap();
    for name in ["r.tar", "r.tar.gz"] {
        let path = place.path().join(name);
        git(folder.path(), &["archive", "--prefix=r-1.0/", "-o", &path.display().to_string(), "HEAD"]);
        let (taken, report) = take(&path, &SourceOptions::default());
        assert_eq!(
            taken.names(),
            [
                "r-1.0",
                "r-1.0/.gitignore",
                "r-1.0/a.txt",
                "r-1.0/build",
                "r-1.0/build/tracked.o",
                "r-1.0/gone",
                "r-1.0/odd é\\n",
                "r-1.0/out",
                "r-1.0/sub",
                "r-1.0/sub/.gitignore",
                "r-1.0/sub/b"
            ]
        );
        assert_eq!(report.left_out, []);
    }
}

#[test]
fn bombs_do_not_go_off() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = |name: &str, blocks: &[[u8; 512]], zeros: u64| {
        let path = folder.path().join(name);
        let mut writer = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
        writer.write_all(&blocks.concat()).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(zeros), &mut writer).unwrap();
        writer.finish().unwrap();
        refused(&path)
    };
    for kind in [b"L", b"K", b"x", b"g"] {
        let large = header(&[(124, b"\x80\0\0\0\0\0\x01\0\0\0\0\0"), (156, kind)]);
        assert!(bomb("name.tgz", &[large], 8 << 20).contains("headers of one entry are too long"));
    }
    // One piece of no bytes at an offset of 64 GiB, so all of the file is a hole.
    let far = b"\x80\0\0\0\0\0\0\x10\0\0\0\0";
    let fields: [(usize, &[u8]); 6] = [(0, b"s"), (124, b"00000000000"), (156, b"S"), (386, far), (398, b"00000000000"), (483, far)];
    assert!(bomb("sparse.tgz", &[header(&fields)], 1024).contains("holes are too large"));
    // A map that never ends.
    let blocks = [vec![header(&[&fields[..], &[(482, b"\x01")]].concat())], vec![[1; 512]; 5000]].concat();
    assert!(bomb("map.tgz", &blocks, 0).contains("headers of one entry are too long"));
    let (_folder, path) =
        written(&[member(b'x', b"x", b"22 GNU.sparse.major=1\n25 GNU.sparse.realsize=5\n"), member(b'0', b"s", b"99999999999999\n1\n")]);
    assert!(refused(&path).contains("damaged map of holes"));
}

/// Something of a tree that is packed: its name, what it is, its mode and its time.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    /// Size of a file; from 70 000 on all but four bytes of it are a hole.
    size: Option<usize>,
    mode: u32,
    seconds: i64,
    nanoseconds: u32,
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let name = prop::collection::vec(prop_oneof!["[a-c]", "[a-c]{3}", "d{90}", "e{140}", Just(" o\u{e9}\\\n\"".to_owned())], 1..4);
    let time = prop_oneof![Just(-1), Just(0), -2_000_000_000_i64..2_000_000_000, 2_200_000_000_i64..8_000_000_000];
    let size = prop_oneof![Just(None), (0_usize..1500).prop_map(Some), (70_000_usize..300_000).prop_map(Some)];
    let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o400), Just(0o4711), Just(0o1777)];
    let part = (name, size, mode, time, 0_u32..1_000_000_000);
    let part = part.prop_map(|(name, size, mode, seconds, nanoseconds)| Part { name: name.join("/"), size, mode, seconds, nanoseconds });
    prop::collection::vec(part, 1..7)
}

/// Makes the parts below a folder, and returns the names of everything there.
fn make(folder: &Path, parts: &[Part]) -> Vec<String> {
    let mut names = std::collections::BTreeSet::new();
    let mut made: Option<std::path::PathBuf> = None;
    for part in parts {
        let path = folder.join(&part.name);
        if fs::create_dir_all(path.parent().unwrap()).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        match (part.size, &made) {
            (Some(size), _) if size < 70_000 => fs::write(&path, "content".bytes().cycle().take(size).collect::<Vec<_>>()).unwrap(),
            (Some(size), _) => {
                let file = fs::File::create(&path).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, b"data", size as u64 / 2).unwrap();
                file.set_len(size as u64).unwrap();
            }
            (None, Some(linked)) if part.seconds % 2 == 0 => fs::hard_link(linked, &path).unwrap(),
            (None, Some(_)) => symlink("a/../b c", &path).unwrap(),
            (None, None) => fs::create_dir(&path).unwrap(),
        }
        if part.size.is_some() {
            made = Some(path);
        }
        for (at, _) in part.name.match_indices('/') {
            names.insert(part.name[..at].to_owned());
        }
        names.insert(part.name.clone());
    }
    // The innermost first, since making something changes the time of its folder.
    for name in names.iter().rev() {
        let part = parts.iter().find(|part| part.name == *name).unwrap_or(&parts[0]);
        let path = folder.join(name);
        let kind = path.symlink_metadata().unwrap().file_type();
        if !kind.is_symlink() {
            let mode = if kind.is_dir() { part.mode | 0o700 } else { part.mode };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let last_modification = rustix::fs::Timespec { tv_sec: part.seconds, tv_nsec: part.nanoseconds.into() };
        let times = rustix::fs::Timestamps { last_access: last_modification, last_modification };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    names.into_iter().collect()
}

const FORMS: [&[&str]; 8] = [
    &["--format=v7"],
    &["--format=ustar"],
    &["--format=oldgnu", "--sparse"],
    &["--format=gnu", "--label=Volume 1"],
    &["--format=posix", "--sparse", "--sparse-version=0.0"],
    &["--format=posix", "--sparse", "--sparse-version=0.1"],
    &["--format=posix", "--sparse", "--sparse-version=1.0", "--label=Volume 1"],
    &["--format=posix", "--zstd", "--pax-option=globexthdr.name=g,comment=c"],
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, max_shrink_iters: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_tar_packs_comes_out_as_tar_unpacks_it(parts in parts(), form in 0..FORMS.len(), shuffled in any::<Option<u64>>(), twice in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        fs::create_dir(place.join("in")).unwrap();
        fs::create_dir(place.join("out")).unwrap();
        // What a form cannot hold: long names, times before 1970 and after 2242.
        let poor = form < 2;
        let parts: Vec<_> = parts.into_iter().filter(|part| !poor || (part.name.len() < 90 && part.seconds >= 0)).collect();
        prop_assume!(!parts.is_empty());
        let mut names = make(&place.join("in"), &parts);
        if twice && shuffled.is_some() {
            names.push(names[0].clone());
        }
        // Any order: folders may come after what they hold.
        let mut state = shuffled.unwrap_or(0);
        for index in (1..names.len()).rev().filter(|_| shuffled.is_some()) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            names.swap(index, usize::try_from(state >> 33).unwrap() % (index + 1));
        }
        fs::write(place.join("names"), names.join("\0")).unwrap();
        let packing = ["--no-recursion", "--null", "--verbatim-files-from", "-C", "in", "-T", "names", "-cf", "a.tar"];
        run(place, "tar", &[FORMS[form], &packing].concat());
        run(place, "tar", &["--same-permissions", "--no-same-owner", "-C", "out", "-xf", "a.tar"]);
        let (expected, _) = take(&place.join("out"), &SourceOptions::default());
        let (taken, report) = take(&place.join("a.tar"), &SourceOptions::default());
        prop_assert_eq!(&taken.0, &expected.0);
        for (name, time) in &expected.1 {
            // tar sets the time of a folder when it leaves it, and not again when it comes back.
            let folder = expected.0[name].0 == EntryKind::Directory;
            prop_assert!((folder && shuffled.is_some()) || taken.1[name] == *time, "{name}: {:?} instead of {time:?}", taken.1[name]);
        }
        prop_assert_eq!(report.left_out, []);
    }

    #[test]
    fn no_damage_makes_the_reader_panic(
        at in prop::collection::vec((0_usize..6000, any::<u8>()), 1..6),
        cut in 0_usize..6000,
        kinds in prop::collection::vec(prop::sample::select(b"0125LKSxgVDM".as_slice()), 1..5),
    ) {
        let mut bytes: Vec<u8> = kinds.iter().flat_map(|kind| member(*kind, b"a", b"22 GNU.sparse.major=1\n25 GNU.sparse.realsize=5\n")).collect();
        bytes.resize(cut.max(bytes.len()), 0);
        for (at, byte) in at {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        // Headers are made right again, or nothing behind the first damage would be reached.
        for block in bytes.as_chunks_mut::<512>().0 {
            if matches!(block[156], b'0'..=b'7' | b'K'..=b'Z' | b'g' | b'x') {
                *block = header(&[(0, &block[..148]), (156, &block[156..])]);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        fs::write(&path, bytes).unwrap();
        let _ = read_source(&path, &SourceOptions::default(), &mut Taken::default());
    }
}
