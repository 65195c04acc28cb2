//! What must hold whatever the bytes of a patch. Panics where something does not.
//!
//! Also compiled into `crates/pyro-tree/tests/fuzz.rs`, so it uses nothing that is not there.

use std::collections::BTreeMap;

use pyro_tree::{Edit, PatchError, PathState, PathStates, TreePath, parse};

/// Most bytes a file of the tree can become: what binary parts unfold to, and what the patch itself holds.
const WRITTEN_MAX_BYTES: usize = 256 << 20;

/// A patch, read and applied to a small tree.
pub fn patch(bytes: &[u8]) {
    let patch = match parse(bytes) {
        Ok(patch) => patch,
        Err(error) => return check_error(&error),
    };
    assert_eq!(parse(bytes).as_ref(), Ok(&patch), "it is read the same again");
    let reads = patch.reads();
    let states: PathStates = tree().into_iter().filter(|(path, _)| reads.contains(path)).collect();
    let applied = match patch.apply(&states) {
        Ok(applied) => applied,
        Err(error) => return check_error(&error),
    };
    let mut files: BTreeMap<TreePath, PathState> = states.clone();
    let mut written = 0;
    for edit in applied.edits {
        let (path, state, created) = match edit {
            Edit::Remove { path } => {
                let before = files.insert(path.clone(), PathState::Absent);
                assert!(matches!(before, Some(PathState::File { .. } | PathState::Link { .. })), "{path} is removed and was not there");
                continue;
            }
            Edit::Write { path, content, mode, keep_mode, created } => {
                written += content.len();
                assert!(!keep_mode || matches!(states.get(&path), Some(PathState::File { mode: before, .. }) if *before == mode));
                (path, PathState::File { mode, content }, created)
            }
            Edit::Link { path, target, created } => (path, PathState::Link { target }, created),
        };
        assert!(reads.contains(&path), "{path} is written and was not read");
        for parent in path.ancestors() {
            let there = files.get(&parent);
            assert!(matches!(there, None | Some(PathState::Absent | PathState::Directory)), "{path} is written below a file");
        }
        let before = files.insert(path.clone(), state);
        assert_eq!(matches!(states.get(&path), None | Some(PathState::Absent)), created, "{path}");
        assert!(!matches!(before, Some(PathState::Directory)), "{path} is a directory");
    }
    assert!(written <= WRITTEN_MAX_BYTES, "{written} bytes");
    assert!(applied.left_out.len() as u64 <= applied.left_out_count);
}

fn check_error(error: &PatchError) {
    let text = error.to_string();
    assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text:?}");
    assert!(text.len() < 16 << 10, "{} bytes", text.len());
    if let PatchError::Syntax { .. } | PatchError::Ambiguous { .. } | PatchError::Empty = error {
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{text}");
    }
}

fn tree() -> PathStates {
    let file = |content: &str| PathState::File { mode: 0o644, content: content.into() };
    let entries = [
        ("f", file("1\n2\n3\n4\n5\n6\n7\n8\n9\n")),
        ("d", PathState::Directory),
        ("d/g", file("x\ny\n")),
        ("h i", file("end")),
        ("l", PathState::Link { target: b"f".to_vec() }),
        ("bin", file("\0\u{1}\u{2}")),
        ("p", PathState::Unusable),
    ];
    entries.into_iter().map(|(path, state)| (TreePath::try_from(path).expect("it is a path"), state)).collect()
}
