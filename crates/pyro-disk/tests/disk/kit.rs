//! What the tests share: trees as they should be, disks made of them, and the distribution's tools as oracles.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proptest::prelude::*;
use pyro_disk::{Disk, DiskError, EntryKind, Layer, LayerFormat, Tree, TreeEntry};
use pyro_image::{SeedTime, SeedWriter};

pub(crate) const MIB: u64 = 1 << 20;
/// All that is seeded carries this time.
pub(crate) const MTIME: SeedTime = SeedTime { seconds: 1_700_000_000, nanoseconds: 123_456_789 };

/// An entry as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File { mode: u32, content: Vec<u8> },
    Directory { mode: u32 },
    Link { target: Vec<u8> },
}

pub(crate) type Model = BTreeMap<Vec<u8>, Node>;

/// Runs one of the distribution's tools, which must succeed.
pub(crate) fn run(tool: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(tool);
    arguments.iter().for_each(|argument| {
        command.arg(argument);
    });
    let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    // e2fsck says with 1 that it has mended something, as it was asked to.
    let mended = tool == "e2fsck" && arguments.iter().any(|argument| argument.as_ref() == "-fyD") && output.status.code() == Some(1);
    assert!(
        mended || output.status.success(),
        "{tool}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs commands of debugfs, one per line.
pub(crate) fn debugfs(image: &Path, command: &str) {
    let commands = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(commands.path(), format!("{command}\n")).unwrap();
    let output = run("debugfs", &[&"-w", &"-f", &commands.path(), &image]);
    let errors = String::from_utf8_lossy(&output.stderr).lines().skip(1).collect::<String>();
    assert_eq!(errors, "", "{command}");
}

pub(crate) fn check_with_e2fsck(image: &Path) {
    run("e2fsck", &[&"-fn", &image]);
}

pub(crate) fn blank(folder: &Path, size_bytes: u64) -> PathBuf {
    let path = folder.join("blank.raw");
    pyro_image::write_blank_ext4(&path, size_bytes, "test").unwrap();
    path
}

/// Writes a model to a disk, the way seeds are written.
pub(crate) fn seed(folder: &Path, name: &str, size_bytes: u64, model: &Model) -> PathBuf {
    seed_at(MTIME, folder, name, size_bytes, model)
}

pub(crate) fn seed_at(mtime: SeedTime, folder: &Path, name: &str, size_bytes: u64, model: &Model) -> PathBuf {
    let path = folder.join(name);
    let mut writer = SeedWriter::start(&path, &blank(folder, size_bytes)).unwrap();
    for (path, node) in model {
        match node {
            Node::Directory { mode } => writer.directory(path, *mode, mtime).unwrap(),
            Node::Link { target } => writer.link(path, target, mtime).unwrap(),
            Node::File { mode, content } => {
                writer.file(path, *mode, mtime, content.len() as u64, &mut content.as_slice()).unwrap();
            }
        }
    }
    writer.finish().unwrap();
    path
}

pub(crate) fn raw(path: &Path) -> Layer {
    Layer { path: path.to_owned(), format: LayerFormat::Raw, size_bytes: std::fs::metadata(path).unwrap().len() }
}

pub(crate) fn open(path: &Path) -> Tree {
    try_open(path).unwrap()
}

pub(crate) fn try_open(path: &Path) -> Result<Tree, DiskError> {
    Tree::open(Disk::open(&[raw(path)])?, b"tree")
}

pub(crate) fn list(tree: &Tree) -> Vec<TreeEntry> {
    let mut entries = Vec::new();
    tree.list(b"", true, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    })
    .unwrap();
    entries
}

/// Reads a whole tree back.
pub(crate) fn read_model(tree: &Tree) -> Model {
    let node = |entry: TreeEntry| {
        assert_eq!((entry.uid, entry.gid), (0, 0));
        let node = match entry.kind {
            EntryKind::File => {
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut tree.reader(&entry.path).unwrap(), &mut content).unwrap();
                assert_eq!(content.len() as u64, entry.size_bytes);
                Node::File { mode: entry.mode, content }
            }
            EntryKind::Directory => Node::Directory { mode: entry.mode },
            EntryKind::Link => Node::Link { target: entry.link_target.unwrap() },
            EntryKind::Other => panic!("{:?} is something else", entry.path),
        };
        (entry.path, node)
    };
    list(tree).into_iter().map(node).collect()
}

/// Names of one component: any bytes a guest may use, odd ones often.
pub(crate) fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => b'a'..=b'e', 1 => any::<u8>().prop_filter("no separator", |byte| !matches!(byte, 0 | b'/'))];
    let special =
        prop::sample::select(vec![&b"<2>"[..], b"-rf", b" x ", b"\"", b"a\"b c\"", b"\\", b"#", b"l\nb", b"c\rr", b"\xff\xfe", b"\t"]);
    prop_oneof![4 => prop::collection::vec(byte, 1..6), 1 => special.prop_map(<[u8]>::to_vec), 1 => Just(vec![b'n'; 255])]
        .prop_filter("a name", |name| name != b"." && name != b"..")
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop_oneof![Just(0o755), Just(0o644), 0u32..0o10000];
    let content = prop_oneof![3 => prop::collection::vec(any::<u8>(), 0..200), 1 => (any::<u8>(), 0usize..300_000).prop_map(|(byte, size)| vec![byte; size])];
    let target = prop_oneof![
        3 => prop::collection::vec(any::<u8>().prop_filter("no zero", |byte| *byte != 0), 1..130),
        // The other reader takes no component of more than 255 bytes.
        1 => Just(b"t/".repeat(2047)),
    ];
    prop_oneof![
        3 => (mode.clone(), content).prop_map(|(mode, content)| Node::File { mode, content }),
        2 => mode.prop_map(|mode| Node::Directory { mode }),
        1 => target.prop_map(|target| Node::Link { target }),
    ]
}

/// Whole trees: entries are hung below whichever folder their number picks.
pub(crate) fn model() -> impl Strategy<Value = Model> {
    prop::collection::vec((any::<prop::sample::Index>(), name(), node()), 0..40).prop_map(|parts| {
        let (mut model, mut folders) = (Model::new(), vec![Vec::new()]);
        for (parent, name, node) in parts {
            let parent: &Vec<u8> = &folders[parent.index(folders.len())];
            let path = if parent.is_empty() { name } else { [parent.as_slice(), b"/", &name].concat() };
            if path.len() > 4000 || model.contains_key(&path) {
                continue;
            }
            if matches!(node, Node::Directory { .. }) {
                folders.push(path.clone());
            }
            model.insert(path, node);
        }
        model
    })
}
