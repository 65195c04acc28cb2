//! What changed between two disks, told by models of both and by hands that change one with debugfs.

use std::path::{Path, PathBuf};

use super::kit::{MIB, MTIME, Model, Node, debugfs, model, open, seed, seed_at};
use proptest::prelude::*;
use pyro_disk::{EntryKind, changes};
use pyro_image::SeedTime;

fn paths(before: &Path, after: &Path) -> Vec<String> {
    changes(&open(before), &open(after)).unwrap().into_iter().map(|changed| String::from_utf8(changed.path).unwrap()).collect()
}

fn copy(image: &Path) -> PathBuf {
    let to = image.with_file_name("copy.raw");
    super::kit::run("cp", &[&"--sparse=always", &image, &to]);
    to
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trees_differ_where_their_models_do(old in model(), new in model(), mixed in prop::collection::vec(any::<bool>(), 40)) {
        // Half of the new tree is the old one, as far as its folders allow.
        let mut both = old.clone();
        for ((path, node), take) in new.iter().zip(mixed) {
            let fits = path.iter().rposition(|byte| *byte == b'/').is_none_or(|end| matches!(both.get(&path[..end]), Some(Node::Directory { .. })));
            if take && fits && !matches!(both.get(path), Some(Node::Directory { .. })) {
                both.insert(path.clone(), node.clone());
            }
        }
        let folder = tempfile::tempdir().unwrap();
        // Different times, or two disks made alike would hold alike stamps for unlike files, as only a false clock can.
        let before = seed(folder.path(), "old.raw", 64 * MIB, &old);
        let after = seed_at(SeedTime { seconds: MTIME.seconds + 1, ..MTIME }, folder.path(), "new.raw", 64 * MIB, &both);
        let expected: Vec<_> = both.iter().filter(|(path, node)| old.get(*path) != Some(*node)).map(|(path, _)| path.clone()).collect();
        let found: Vec<_> = changes(&open(&before), &open(&after)).unwrap().into_iter().map(|changed| changed.path).collect();
        prop_assert_eq!(found, expected);
    }
}

/// A tree of two folders whose files have equal names, sizes and times, and different contents.
fn twins() -> Model {
    let file = |byte| Node::File { mode: 0o644, content: vec![byte; 5000] };
    Model::from([
        (b"a".to_vec(), Node::Directory { mode: 0o755 }),
        (b"a/f".to_vec(), file(1)),
        (b"a/same".to_vec(), file(3)),
        (b"b".to_vec(), Node::Directory { mode: 0o755 }),
        (b"b/f".to_vec(), file(2)),
        (b"b/same".to_vec(), file(3)),
        (b"l".to_vec(), Node::Link { target: b"a".to_vec() }),
    ])
}

/// Changes a copy of the twins with debugfs and names what must have changed.
#[track_caller]
fn check(commands: &[&str], expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let before = seed(folder.path(), "seed.raw", 64 * MIB, &twins());
    let after = copy(&before);
    let source = folder.path().join("source");
    std::fs::write(&source, [9; 5000]).unwrap();
    commands.iter().for_each(|command| debugfs(&after, &command.replace("SOURCE", source.to_str().unwrap())));
    assert_eq!(paths(&before, &after), expected);
}

#[test]
fn untouched_copy_has_no_changes() {
    check(&[], &[]);
}

#[test]
fn touched_files_and_folders_are_no_changes() {
    check(&["sif /tree/a/f mtime @1800000000", "sif /tree/a mtime @1800000000", "sif /tree/l ctime @1800000000"], &[]);
}

#[test]
fn folders_that_swap_their_names_show_as_changed_files() {
    check(
        &["ln /tree/a /tree/c", "unlink /tree/a", "ln /tree/b /tree/a", "unlink /tree/b", "ln /tree/c /tree/b", "unlink /tree/c"],
        &["a/f", "b/f"],
    );
}

#[test]
fn edit_that_keeps_size_and_time_shows() {
    check(&["rm /tree/a/f", "write SOURCE /tree/a/f", "sif /tree/a/f mtime @1700000000", "sif /tree/a/f ctime @1800000000"], &["a/f"]);
}

#[test]
fn additions_removals_modes_and_changed_kinds_show_sorted_by_path() {
    check(
        &[
            "sif /tree/b mode 040700",
            "write SOURCE /tree/a-b",
            "mkdir /tree/a/new",
            "write SOURCE /tree/a/new/f",
            "rm /tree/l",
            "mkdir /tree/l",
            "rm /tree/b/f",
            "sif /tree/b/same mode 0100755",
            "sif /tree/b/same ctime @1800000000",
            "cd /tree\nmknod pipe p",
        ],
        &["a-b", "a/new", "a/new/f", "b", "b/f", "b/same", "l", "pipe"],
    );
}

#[test]
fn both_sides_of_a_change_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let before = seed(folder.path(), "seed.raw", 64 * MIB, &twins());
    let after = copy(&before);
    debugfs(&after, "rm /tree/l");
    debugfs(&after, "mkdir /tree/l");
    let found = changes(&open(&before), &open(&after)).unwrap();
    let [changed] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(changed.before.as_ref().unwrap().link_target.as_deref(), Some(&b"a"[..]));
    assert_eq!(changed.after.as_ref().unwrap().kind, EntryKind::Directory);
}

#[test]
fn holes_of_a_file_larger_than_memory_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (before, source) = (super::kit::blank(folder.path(), 256 << 30), folder.path().join("source"));
    let file = std::fs::File::create(&source).unwrap();
    file.set_len(200 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 100 << 30).unwrap();
    debugfs(&before, "mkdir /tree");
    debugfs(&before, &format!("write {} /tree/f", source.display()));
    let after = copy(&before);
    debugfs(&after, "sif /tree/f ctime @1800000000");
    assert_eq!(paths(&before, &after), Vec::<String>::new());
    let tree = open(&after);
    assert_eq!(tree.read(b"f", (100 << 30) + 7, 6).unwrap(), b"middle");
}
