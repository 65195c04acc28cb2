//! Changes of a tree in a temporary folder: against a model, and stopped after every step as by a kill.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use pyro_proto::error::ErrorKind;
use pyro_proto::v1::{ChangeCommit, ChangeItem, ChangeKind, ChangeStart};

use super::*;
use crate::files::TreePath;

/// A disk's root, and the files on it.
struct Disk {
    folder: tempfile::TempDir,
    files: Arc<Files>,
    gate: Arc<Gate>,
}

/// What a tree holds; the text of a link is its target.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(Vec<u8>, u32),
    Folder(u32),
    Link(Vec<u8>),
}

type Tree = BTreeMap<String, Node>;

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (files, past) = Files::open(std::fs::File::open(folder.path()).expect("it opens").into()).expect("it is set up");
        assert_eq!(past, crate::files::Past::None);
        Self { folder, files: Arc::new(files), gate: Arc::default() }
    }

    fn with(tree: &Tree) -> Self {
        let disk = Self::new();
        for (path, node) in tree {
            let path = disk.path(path);
            match node {
                Node::File(content, mode) => {
                    std::fs::write(&path, content).expect("it is written");
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).expect("it is ours");
                }
                Node::Folder(mode) => {
                    std::fs::create_dir(&path).expect("its parent comes first");
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).expect("it is ours");
                }
                Node::Link(target) => std::os::unix::fs::symlink(std::str::from_utf8(target).expect("text"), &path).expect("it is made"),
            }
        }
        disk
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("tree").join(path)
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        let root = self.path("");
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                let metadata = entry.metadata().expect("it is there");
                let mode = metadata.permissions().mode() & 0o7777;
                let node = if metadata.is_dir() {
                    folders.push(path.clone());
                    Node::Folder(mode)
                } else if metadata.is_symlink() {
                    Node::Link(std::os::unix::ffi::OsStringExt::into_vec(std::fs::read_link(&path).expect("a link").into_os_string()))
                } else {
                    Node::File(std::fs::read(&path).expect("a file"), mode)
                };
                tree.insert(path.strip_prefix(&root).expect("below it").to_str().expect("text").to_owned(), node);
            }
        }
        tree
    }

    fn run(&self, inputs: Vec<change_input::Input>) -> Result<ChangeAnswer, FileError> {
        let (sender, mut receiver) = mpsc::channel(inputs.len().max(1));
        inputs.into_iter().for_each(|input| sender.try_send(input).expect("there is room"));
        drop(sender);
        let (answer, answered) = oneshot::channel();
        run(&self.files, &self.gate, &mut receiver, answer);
        assert!(is_empty(&self.folder.path().join("pyro")), "nothing is left of a change");
        answered.blocking_recv().expect("an answer")
    }

    fn change(&self, items: &[Item]) -> Result<ChangeAnswer, FileError> {
        self.run(inputs("", false, items))
    }

    /// Goes through a change up to its first `steps` steps, as if the machine had been killed then; None is before the intent.
    fn kill_after(&self, inputs: Vec<change_input::Input>, steps: Option<usize>) -> usize {
        let (sender, mut receiver) = mpsc::channel(inputs.len());
        inputs.into_iter().for_each(|input| sender.try_send(input).expect("there is room"));
        let mut stage = Stage::begin(&self.files).expect("it begins");
        stage.fill(&mut receiver).expect("it is staged");
        stage.settle().expect("it settles");
        let plan = Plan::make(&self.files, &stage).expect("no conflict");
        let place = Place::new(&self.files, stage.folder(), stage.staged());
        if let Some(steps) = steps {
            intent::write(&place, &plan.steps).expect("it is written");
            plan.steps[..steps].iter().for_each(|step| step.apply(&place).expect("it can be done"));
        }
        plan.steps.len()
    }

    /// Attaches the disk anew.
    fn reopen(&mut self) {
        let (files, past) = Files::open(std::fs::File::open(self.folder.path()).expect("it opens").into()).expect("it is set up");
        assert_eq!(past, crate::files::Past::Some);
        for name in recover(&files).expect("it recovers") {
            discard(&files, &self.gate, &name);
        }
        self.files = Arc::new(files);
        assert!(is_empty(&self.folder.path().join("pyro")), "nothing is left of an earlier life");
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("a folder").next().is_none()
}

/// An item with its content.
type Item = (ChangeItem, Vec<u8>);

fn file(path: &str, content: &str) -> Item {
    let size_bytes = content.len() as u64;
    (
        ChangeItem { path: path.to_owned().into(), kind: ChangeKind::File.into(), mode: 0o644, size_bytes, ..ChangeItem::default() },
        content.into(),
    )
}

fn item(path: &str, kind: ChangeKind) -> Item {
    (
        ChangeItem { path: path.to_owned().into(), kind: kind.into(), mode: 0o755, link_target: "target".into(), ..ChangeItem::default() },
        Vec::new(),
    )
}

fn with(mut item: Item, change: impl FnOnce(&mut ChangeItem)) -> Item {
    change(&mut item.0);
    item
}

fn inputs(destination: &str, replace: bool, items: &[Item]) -> Vec<change_input::Input> {
    let mut inputs = vec![change_input::Input::Start(ChangeStart { destination: destination.to_owned().into(), replace })];
    for (item, content) in items {
        inputs.push(change_input::Input::Item(item.clone()));
        inputs.extend(content.chunks(3).map(|piece| change_input::Input::Content(piece.to_vec().into())));
    }
    inputs.push(change_input::Input::Commit(ChangeCommit {}));
    inputs
}

fn sample() -> Tree {
    Tree::from([
        ("a".to_owned(), Node::File(b"old a".to_vec(), 0o755)),
        ("d".to_owned(), Node::Folder(0o750)),
        ("d/x".to_owned(), Node::File(b"old x".to_vec(), 0o600)),
        ("d/e".to_owned(), Node::Folder(0o755)),
        ("d/e/y".to_owned(), Node::File(b"y".to_vec(), 0o644)),
        ("f".to_owned(), Node::Folder(0o755)),
        ("f/only".to_owned(), Node::File(b"only".to_vec(), 0o644)),
        ("l".to_owned(), Node::Link(b"d".to_vec())),
    ])
}

fn conflict(result: Result<ChangeAnswer, FileError>, path: &str) {
    let error = result.expect_err("it must be refused");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains(&format!("`{path}`")), "{error}");
}

/// A change with every kind of step in it.
fn manifold() -> Vec<Item> {
    vec![
        file("a", "new a"),
        file("d/x", ""),
        file("d/n/deep/er", "content"),
        item("d/n/l", ChangeKind::Link),
        with(item("d", ChangeKind::Directory), |item| item.mode = 0o711),
        item("f/only", ChangeKind::Remove),
        file("f", "a file by now"),
        item("d/e/y", ChangeKind::Remove),
        item("l", ChangeKind::Remove),
        file("l/inside", "the link became a folder"),
    ]
}

#[test]
fn change_of_every_kind_is_made_whole() {
    let disk = Disk::with(&sample());
    let answer = disk.change(&manifold()).expect("it is made");
    assert_eq!((answer.written, answer.removed), (7, 3));
    let expected = Tree::from([
        ("a".to_owned(), Node::File(b"new a".to_vec(), 0o644)),
        ("d".to_owned(), Node::Folder(0o711)),
        ("d/n".to_owned(), Node::Folder(0o755)),
        ("d/n/deep".to_owned(), Node::Folder(0o755)),
        ("d/n/deep/er".to_owned(), Node::File(b"content".to_vec(), 0o644)),
        ("d/n/l".to_owned(), Node::Link(b"target".to_vec())),
        ("d/x".to_owned(), Node::File(b"".to_vec(), 0o644)),
        ("f".to_owned(), Node::File(b"a file by now".to_vec(), 0o644)),
        ("l".to_owned(), Node::Folder(0o755)),
        ("l/inside".to_owned(), Node::File(b"the link became a folder".to_vec(), 0o644)),
    ]);
    assert_eq!(disk.tree(), expected);
}

#[test]
fn killed_change_is_made_whole_or_not_at_all() {
    let check = |destination: &str, replace: bool, items: &[Item]| {
        let inputs = || inputs(destination, replace, items);
        let whole = Disk::with(&sample());
        whole.run(inputs()).expect("it is made");
        let mut disk = Disk::with(&sample());
        let steps = disk.kill_after(inputs(), None);
        disk.reopen();
        assert_eq!(disk.tree(), sample(), "without an intent nothing has happened");
        for done in 0..=steps {
            let mut disk = Disk::with(&sample());
            disk.kill_after(inputs(), Some(done));
            disk.reopen();
            let (mut tree, mut expected) = (disk.tree(), whole.tree());
            // The one thing a kill may leave undone.
            tree.remove("d/e");
            expected.remove("d/e");
            assert_eq!(tree, expected, "after {done} of {steps} steps");
        }
    };
    check("", false, &manifold());
    check("", true, &[file("d", "file"), file("n/n", "n"), file("a", "a")]);
    check("d", true, &[file("x", "x")]);
}

#[test]
fn failed_step_takes_back_the_ones_before_it() {
    let steps = Disk::with(&sample()).kill_after(inputs("", false, &manifold()), None);
    for failing in 0..steps {
        let disk = Disk::with(&sample());
        let (sender, mut receiver) = mpsc::channel(64);
        inputs("", false, &manifold()).into_iter().for_each(|input| sender.try_send(input).expect("there is room"));
        let mut stage = Stage::begin(&disk.files).expect("it begins");
        stage.fill(&mut receiver).expect("it is staged");
        stage.settle().expect("it settles");
        let mut plan = Plan::make(&disk.files, &stage).expect("no conflict");
        let place = Place::new(&disk.files, stage.folder(), stage.staged());
        let nowhere = TreePath::parse(b"no/where").expect("valid");
        plan.steps[failing] = step::Step::Place { path: nowhere, inode: 0 };
        let error = step::apply_all(&place, &plan.steps).expect_err("there is no such folder");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(disk.tree(), sample(), "failed at {failing}");
    }
}

#[test]
fn conflicts_are_refused_with_their_path_and_change_nothing() {
    let check = |items: &[Item], path: &str| {
        let disk = Disk::with(&sample());
        conflict(disk.change(&[&[file("zzz", "written before")], items].concat()), path);
        assert_eq!(disk.tree(), sample());
    };
    check(&[file("a/b", "a is a file")], "a");
    check(&[file("d", "d is a folder")], "d");
    check(&[item("d", ChangeKind::Remove)], "d");
    check(&[item("a", ChangeKind::Directory)], "a");
    check(&[item("l", ChangeKind::Directory)], "l");
    check(&[with(file("a", ""), |item| item.expected_absent = true)], "a");
    check(&[with(file("b", ""), |item| item.expected_version = vec![1].into())], "b");
    check(&[with(file("a", ""), |item| item.expected_version = vec![1; 36].into())], "a");
    check(&[item("f/only", ChangeKind::Remove), file("d", "not emptied")], "d");
}

#[test]
fn nonsense_is_refused() {
    let check = |inputs: Vec<change_input::Input>| {
        let disk = Disk::with(&sample());
        let error = disk.run(inputs).expect_err("it must be refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_eq!(disk.tree(), sample());
    };
    for path in ["", "../out", "/etc/passwd", "d/../../out", "d//x", "d/./x", "d/"] {
        check(inputs("", false, &[file(path, "x")]));
        if !path.is_empty() {
            check(inputs(path, false, &[]));
        }
    }
    check(inputs("", false, &[file("n", "1"), file("n", "2")]));
    check(inputs("", false, &[file("n", "1"), file("n/m", "2")]));
    check(inputs("", false, &[item("n", ChangeKind::Link), file("n/m", "through a staged link")]));
    check(inputs("", false, &[file("a", "1"), item("a", ChangeKind::Remove)]));
    check(inputs("", false, &[with(item("n", ChangeKind::Link), |item| item.link_target = "".into())]));
    check(inputs("", false, &[item("n", ChangeKind::Unspecified)]));
    check(inputs("", false, &[with(file("n", "short"), |item| item.size_bytes = 6)]));
    check(inputs("", false, &[with(file("n", "longer"), |item| item.size_bytes = 5)]));
    check(vec![change_input::Input::Commit(ChangeCommit {})]);
    check(vec![change_input::Input::Start(ChangeStart::default()), change_input::Input::Start(ChangeStart::default())]);
}

#[test]
fn change_without_its_commit_changes_nothing() {
    let disk = Disk::with(&sample());
    let mut inputs = inputs("", false, &manifold());
    inputs.pop();
    assert!(matches!(disk.run(inputs), Err(FileError::Abandoned)));
    assert_eq!(disk.tree(), sample());
}

#[test]
fn link_in_the_middle_is_followed_inside_and_never_out() {
    let disk = Disk::with(&sample());
    disk.change(&[file("l/x", "through the link")]).expect("it stays inside");
    assert_eq!(std::fs::read(disk.path("d/x")).expect("a file"), b"through the link");
    for (name, target) in [("out", "/etc"), ("up", "../.."), ("staging", "../pyro"), ("proc", "/proc/self/root")] {
        std::os::unix::fs::symlink(target, disk.path(name)).expect("it is made");
        let before = disk.tree();
        let error = disk.change(&[file(&format!("{name}/x"), "x")]).expect_err("it leads out");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        let error = disk.run(inputs(name, true, &[])).expect_err("it leads out");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert_eq!(disk.tree(), before);
    }
}

fn link(disk: &Disk, name: &str, target: &str) {
    std::os::unix::fs::symlink(target, disk.path(name)).expect("it is made");
}

#[test]
fn absolute_link_to_the_workspace_leads_inside() {
    let disk = Disk::with(&sample());
    for (name, target) in [("absolute", "/workspace/d"), ("climbing", "../workspace/d"), ("top", "/workspace")] {
        link(&disk, name, target);
    }
    disk.change(&[file("absolute/x", "one"), file("absolute/new/deep", "two"), file("climbing/z", "three"), file("top/a", "four")])
        .expect("it stays inside");
    for (path, content) in [("d/x", "one"), ("d/new/deep", "two"), ("d/z", "three"), ("a", "four")] {
        assert_eq!(std::fs::read(disk.path(path)).expect("a file"), content.as_bytes(), "{path}");
    }
    disk.change(&[
        item("absolute/x", ChangeKind::Remove),
        item("absolute/e/y", ChangeKind::Remove),
        file("absolute/e", "no directory now"),
    ])
    .expect("it stays inside");
    assert!(!disk.path("d/x").exists() && disk.path("d/e").is_file());
    assert!(disk.path("absolute").is_symlink());
}

#[test]
fn file_is_written_where_its_link_leads() {
    let disk = Disk::with(&sample());
    let follow = |path: &str, content: &str| with(file(path, content), |item| (item.follow, item.keep_mode) = (true, true));
    for (name, target, written) in [
        ("relative", "d/x", "d/x"),
        ("absolute", "/workspace/d/x", "d/x"),
        ("chain", "relative", "d/x"),
        ("d/up", "../a", "a"),
        ("l/through", "../a", "a"),
        ("dangling", "d/e/new", "d/e/new"),
        ("deep", "no/such/new", "no/such/new"),
    ] {
        link(&disk, name, target);
        let answer = disk.change(&[follow(name, name)]).expect(name);
        assert_eq!(answer.followed, written.as_bytes(), "{name}");
        assert_eq!(std::fs::read(disk.path(written)).expect("a file"), name.as_bytes());
        assert_eq!(std::fs::read_link(disk.path(name)).expect("still a link"), Path::new(target));
    }
    assert_eq!(std::fs::metadata(disk.path("d/x")).expect("a file").permissions().mode() & 0o7777, 0o600, "the target's mode is kept");
    let answer = disk.change(&[follow("d/x", "directly"), follow("fresh", "new")]).expect("no link");
    assert_eq!(answer.followed, "");
}

#[test]
fn link_that_leads_out_or_nowhere_is_not_written_through() {
    let disk = Disk::with(&sample());
    let follow = |path: &str| with(file(path, "x"), |item| item.follow = true);
    for (name, target, kind) in [
        ("out", "/etc/passwd", ErrorKind::PermissionDenied),
        ("up", "../../x", ErrorKind::PermissionDenied),
        ("staging", "../pyro/x", ErrorKind::PermissionDenied),
        ("loop", "loop", ErrorKind::Conflict),
        ("ping", "pong", ErrorKind::Conflict),
        ("pong", "ping", ErrorKind::Conflict),
        ("folder", "d", ErrorKind::Conflict),
        ("top", "/workspace", ErrorKind::Conflict),
        ("below", "a/x", ErrorKind::NotFound),
    ] {
        link(&disk, name, target);
        let before = disk.tree();
        // The second of two links that lead to each other is not there yet when the first one is tried.
        if name != "ping" {
            let error = disk.change(&[follow(name)]).expect_err(name);
            assert_eq!(error.kind(), kind, "{name}: {error}");
            assert_eq!(disk.tree(), before, "{name}");
        }
    }
    let error = disk.change(&[follow("out")]).expect_err("it leads out").to_string();
    assert_eq!(error, "`out` leads out of the workspace: `out` is a link to `/etc/passwd`");
}

#[test]
fn link_that_changes_while_its_file_is_sent_is_a_conflict() {
    let disk = Disk::with(&sample());
    link(&disk, "link", "d/x");
    let (sender, mut receiver) = mpsc::channel(8);
    inputs("", false, &[with(file("link", "x"), |item| item.follow = true)]).into_iter().for_each(|input| {
        sender.try_send(input).expect("there is room");
    });
    let mut stage = Stage::begin(&disk.files).expect("it begins");
    stage.fill(&mut receiver).expect("it is staged");
    std::fs::remove_file(disk.path("link")).expect("it is there");
    link(&disk, "link", "a");
    let error = Plan::make(&disk.files, &stage).expect_err("the link leads elsewhere by now");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[test]
fn special_file_is_never_replaced_by_a_file() {
    let disk = Disk::with(&sample());
    rustix::fs::mknodat(rustix::fs::CWD, disk.path("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("it is made");
    let _socket = std::os::unix::net::UnixListener::bind(disk.path("socket")).expect("it is made");
    link(&disk, "to-fifo", "fifo");
    for (change, what) in [
        (file("fifo", "x"), "`fifo` is a FIFO, not a regular file"),
        (file("socket", "x"), "`socket` is a socket, not a regular file"),
        (item("fifo", ChangeKind::Link), "`fifo` is a FIFO, not a regular file"),
        (with(file("to-fifo", "x"), |item| item.follow = true), "`fifo` is a FIFO, not a regular file"),
    ] {
        assert_eq!(disk.change(&[change]).expect_err("it is refused").to_string(), what);
    }
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&std::fs::symlink_metadata(disk.path("fifo")).expect("it is there").file_type()));
}

#[test]
fn replaced_file_keeps_mode_and_owner_when_asked_to() {
    let disk = Disk::with(&sample());
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(disk.path("d/x"), Some(1234), Some(4321)).expect("root may");
        std::fs::set_permissions(disk.path("d/x"), std::fs::Permissions::from_mode(0o4711)).expect("root may");
    }
    let before = std::fs::metadata(disk.path("d/x")).expect("a file");
    let version =
        crate::files::version(&disk.files.stat(&TreePath::parse(b"d/x").expect("valid")).expect("no error").expect("it is there"));
    let kept = with(file("d/x", "new"), |item| {
        item.keep_mode = true;
        item.expected_version = version.into();
        item.mtime_ns = Some(-1_500_000_000);
    });
    disk.change(&[kept, with(file("n", "new"), |item| item.keep_mode = true)]).expect("it is made");
    let after = std::fs::metadata(disk.path("d/x")).expect("a file");
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_eq!((after.mtime(), after.mtime_nsec()), (-2, 500_000_000));
    assert_ne!(after.ino(), before.ino());
    assert_eq!(std::fs::metadata(disk.path("n")).expect("a file").mode() & 0o7777, 0o644);
}

#[test]
fn deep_and_wide_trees_are_replaced_and_removed() {
    let disk = Disk::new();
    let deep = vec!["d"; 2000].join("/");
    let mut items = vec![file(&deep, "at the bottom")];
    items.extend((0..2000).map(|number| file(&format!("wide/{}/{number}", number % 7), "x")));
    let answer = disk.change(&items).expect("it is made");
    assert_eq!(answer.written, 2001);
    // Deeper than any path: by moving it further down.
    for _ in 0..4 {
        std::fs::rename(disk.path("d"), disk.path("moved")).expect("it moves");
        disk.change(&[file(&vec!["d"; 1000].join("/"), "x")]).expect("it is made");
        let bottom = disk.path(&vec!["d"; 999].join("/"));
        std::fs::rename(disk.path("moved"), bottom.join("m")).expect("it moves");
    }
    disk.run(inputs("", true, &[file("alone", "x")])).expect("it is replaced");
    assert_eq!(disk.tree().len(), 1);
}

/// The model: what a change makes of a tree, or that it is refused.
fn model(tree: &Tree, destination: &str, replace: bool, items: &[Item]) -> Option<Tree> {
    let parents = |path: &str| -> Vec<String> { path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect() };
    let full = |item: &ChangeItem| {
        let path = String::from_utf8(item.path.to_vec()).expect("text");
        if destination.is_empty() { path } else { format!("{destination}/{path}") }
    };
    let below = |path: &str, folder: &str| folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let mut staged = Tree::new();
    let mut removed = BTreeSet::new();
    let mut explicit = BTreeSet::new();
    let folder = |staged: &mut Tree, path: &str| matches!(staged.entry(path.to_owned()).or_insert(Node::Folder(0o755)), Node::Folder(_));
    for parent in parents(&format!("{destination}/")).iter().filter(|path| !path.is_empty()) {
        folder(&mut staged, parent);
    }
    for (item, content) in items {
        let path = full(item);
        if item.kind() == ChangeKind::Remove {
            removed.insert(path);
            continue;
        }
        if !parents(&path).iter().all(|parent| folder(&mut staged, parent)) {
            return None;
        }
        let mode = match tree.get(&path) {
            Some(Node::File(_, mode)) if item.keep_mode && item.kind() == ChangeKind::File => *mode,
            _ => item.mode,
        };
        let node = match item.kind() {
            ChangeKind::Directory => {
                if !folder(&mut staged, &path) {
                    return None;
                }
                explicit.insert(path.clone());
                Node::Folder(mode)
            }
            kind @ (ChangeKind::Link | ChangeKind::File | ChangeKind::Remove | ChangeKind::Unspecified) => {
                if staged.contains_key(&path) {
                    return None;
                }
                if kind == ChangeKind::Link { Node::Link(item.link_target.to_vec()) } else { Node::File(content.clone(), mode) }
            }
        };
        staged.insert(path, node);
    }
    if removed.iter().any(|path| staged.get(path).is_some_and(|node| !matches!(node, Node::Folder(_)))) {
        return None;
    }
    let mut after = tree.clone();
    if replace {
        after.retain(|path, _| !below(path, destination));
        removed.clear();
    }
    let mut went = BTreeSet::new();
    for path in &removed {
        match after.get(path) {
            Some(Node::Folder(_)) => return None,
            Some(_) => {
                after.remove(path);
                went.insert(path.clone());
            }
            None => {}
        }
    }
    let is_empty = |tree: &Tree, folder: &str| !tree.keys().any(|path| below(path, folder));
    for (path, node) in &staged {
        match (node, after.get(path).cloned()) {
            (Node::Folder(_), Some(Node::Folder(mode))) => {
                let Node::Folder(new) = node else { continue };
                after.insert(path.clone(), Node::Folder(if explicit.contains(path) { *new } else { mode }));
                continue;
            }
            (Node::Folder(_), Some(_)) => return None,
            (_, Some(Node::Folder(_))) => {
                let inside: Vec<_> = after.keys().filter(|inner| below(inner, path)).cloned().collect();
                let emptied = |folder: &String| matches!(after[folder], Node::Folder(_)) && !is_empty(tree, folder);
                if !inside.iter().chain([path]).all(emptied) {
                    return None;
                }
                inside.iter().for_each(|inner| drop(after.remove(inner)));
            }
            (_, _) => {}
        }
        after.insert(path.clone(), node.clone());
    }
    for path in &went {
        for parent in parents(path).iter().rev() {
            if explicit.contains(parent) || !matches!(after.get(parent), Some(Node::Folder(_))) || !is_empty(&after, parent) {
                break;
            }
            after.remove(parent);
        }
    }
    Some(after)
}

fn any_item() -> impl Strategy<Value = Item> {
    let path = prop_oneof![
        5 => proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..4).prop_map(|names| names.join("/")),
        // Links are leaves here: what they lead to has its own test.
        1 => proptest::collection::vec(prop_oneof![Just("a"), Just("b")], 0..2).prop_map(|mut names| { names.push("l"); names.join("/") }),
    ];
    (path, 0..6, prop_oneof![Just(0o644), Just(0o755), Just(0o600)], any::<bool>(), "[a-z]{0,7}").prop_map(
        |(path, kind, mode, keep_mode, content)| {
            let is_link = path.ends_with('l');
            let item = match kind {
                0 | 1 => item(&path, ChangeKind::Remove),
                _ if is_link => item(&path, ChangeKind::Link),
                2 => item(&path, ChangeKind::Directory),
                _ => file(&path, &content),
            };
            with(item, |item| {
                item.mode = mode;
                item.keep_mode = keep_mode;
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_do_what_the_model_does(changes in proptest::collection::vec(
        (prop_oneof![3 => Just(""), 1 => Just("a"), 1 => Just("a/b")], prop::bool::weighted(0.2), proptest::collection::vec(any_item(), 0..6)), 1..8,
    )) {
        let disk = Disk::new();
        let mut tree = Tree::new();
        for (destination, replace, items) in changes {
            let result = disk.run(inputs(destination, replace, &items));
            let expected = model(&tree, destination, replace, &items);
            prop_assert_eq!(result.is_ok(), expected.is_some(), "{:?} of {:?} {} {:?} on {:?}", result, destination, replace, items, tree);
            tree = expected.unwrap_or(tree);
            prop_assert_eq!(disk.tree(), tree.clone());
        }
    }
}
