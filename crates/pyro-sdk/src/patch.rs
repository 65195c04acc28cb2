//! Applies a patch to a running workspace: worked out on the host from files as they are, sent as one change that insists on them.

use std::collections::BTreeMap;

use bytes::Bytes;
use pyro_proto::{
    error::{ErrorKind, Failure},
    v1::{ChangeItem, ChangeKind, FileRange},
};
use pyro_tree::{Applied, Edit, Operation, PATCH_MAX_BYTES, Patch, PatchError, PatchedPath, PathState, PathStates, TreePath, parse};
use serde_json::json;

use crate::{
    Pyro, Workspace,
    client::{Reap, blocking},
    contract::{ArtifactType, PatchApply, PatchApplyAnswer, PatchedFile},
    error::{Cause, Error, Problem, Result},
    guest_files::{FileRead, GuestFiles, artifact_type, special},
    workspace_path::path_text,
};

/// Largest file a patch can change.
const FILE_MAX_BYTES: u64 = 32 << 20;
/// Most bytes of files one patch may need read.
const FILES_MAX_BYTES: u64 = 256 << 20;
/// How often a patch is tried when something else writes its files at the same time.
const TRIES: usize = 2;
const OPERATION: &str = "apply a patch to";

/// Paths asked for in one call.
const PATHS_AT_ONCE: usize = 64;
/// Bytes of each file that are read before its size is known.
const FIRST_BYTES: u64 = 64 << 10;

/// What is at the paths of a patch: their states, and the versions a change of them insists on.
#[derive(Debug, Default)]
struct States {
    states: PathStates,
    versions: BTreeMap<TreePath, Bytes>,
    /// Why those that no patch can change cannot be. A patch may not mean them.
    unusable: BTreeMap<TreePath, Error>,
}

/// What a path is to a patch.
#[derive(Debug)]
enum Judged {
    /// Nothing more is to be known, and what a change of it insists on.
    State(PathState, Option<Bytes>),
    /// A file of which not all was read yet.
    Large { size_bytes: u64 },
    /// No patch can change it.
    Unusable(Error),
}

impl Pyro {
    /// Applies a patch, or says whether it could be: all files or none.
    ///
    /// # Errors
    /// The workspace does not run, or the patch is none or does not fit; the causes say where and what is there instead.
    pub async fn apply_patch(&self, request: PatchApply) -> Result<PatchApplyAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let files = workspace.guest_files(&record, OPERATION)?;
        let bytes = request.patch.as_bytes();
        if bytes.len() > PATCH_MAX_BYTES {
            return Err(Problem::TextTooLong { what: "patch", bytes: bytes.len() as u64, maximum: PATCH_MAX_BYTES }.into());
        }
        let text = request.patch.clone();
        let mut patch = blocking(move || parse(text.as_bytes())).await.map_err(|error| Error::from(error).about(workspace.label()))?;
        let mut tries = TRIES;
        let applied = loop {
            tries -= 1;
            let States { states, versions, mut unusable } = workspace.states(&files, &patch).await?;
            let (patched, applied) = blocking(move || {
                let applied = patch.apply(&states);
                (patch, applied)
            })
            .await;
            patch = patched;
            let mut applied = applied.map_err(|error| {
                let why = if let PatchError::Unusable { path } = &error { unusable.remove(path) } else { None };
                why.unwrap_or_else(|| error.into())
            });
            // A patch may only be about submodules, which are left alone.
            if let Ok(Applied { edits, .. }) = &mut applied
                && !request.check
                && !edits.is_empty()
            {
                match files.change_items(items(std::mem::take(edits), &versions)).await {
                    Ok(_) => {}
                    // Something else wrote one of its files between our reading and our writing.
                    Err(error) if error.kind() == ErrorKind::Conflict && tries > 0 => continue,
                    Err(error) => return Err(error),
                }
            }
            break applied.map_err(|error: Error| error.about(workspace.label()))?;
        };
        if !request.check {
            workspace.remember("patch_apply", json!({ "files": applied.files.len() })).await?;
        }
        Ok(PatchApplyAnswer {
            workspace_id: record.id.to_string(),
            applied: !request.check,
            files: applied.files.iter().map(patched).collect(),
            left_out: applied.left_out.into_iter().map(Into::into).collect(),
            left_out_count: applied.left_out_count,
        })
    }
}

impl Workspace {
    /// Reads what is at the paths of a patch.
    async fn states(&self, files: &GuestFiles, patch: &Patch) -> Result<States> {
        let mut states = States::default();
        let mut left = FILES_MAX_BYTES;
        // Git patches a link, not what it leads to.
        let range =
            |path: &TreePath, max_bytes| FileRange { path: Bytes::copy_from_slice(path.as_bytes()), offset: 0, max_bytes, follow: false };
        for some in patch.reads().chunks(PATHS_AT_ONCE) {
            // Little of each at first, so that sizes are known before much is held.
            let found = files.read(some.iter().map(|path| range(path, FIRST_BYTES)).collect()).await?;
            let mut wanted = Vec::new();
            for (path, found) in some.iter().zip(found) {
                match self.judge(files, path, found, left) {
                    Judged::State(state, version) => {
                        if let PathState::File { content, .. } = &state {
                            left -= left.min(content.len() as u64);
                        }
                        states.states.insert(path.clone(), state);
                        states.versions.extend(version.map(|version| (path.clone(), version)));
                    }
                    Judged::Large { size_bytes } => {
                        left -= size_bytes;
                        wanted.push((path, size_bytes));
                    }
                    Judged::Unusable(error) => {
                        states.states.insert(path.clone(), PathState::Unusable);
                        states.unusable.insert(path.clone(), error);
                    }
                }
            }
            // A byte more than there was shows a file that grows.
            let read = files.read(wanted.iter().map(|(path, size_bytes)| range(path, size_bytes + 1)).collect()).await?;
            for ((path, size_bytes), read) in wanted.into_iter().zip(read) {
                let read = read.map_err(|failure| files.reported(failure))?;
                if artifact_type(&read.status) != ArtifactType::File || read.content.len() as u64 > size_bytes {
                    let cause = Cause::new(format!("`{}` changed while it was read", path_text(path.as_bytes())));
                    return Err(Error::workspace(OPERATION, self.label(), ErrorKind::Conflict, cause));
                }
                states.versions.insert(path.clone(), read.status.version);
                states.states.insert(path.clone(), PathState::File { mode: read.status.mode, content: read.content });
            }
        }
        Ok(states)
    }

    /// Says what a path is to a patch, of whose files `left` bytes may still be read.
    fn judge(&self, files: &GuestFiles, path: &TreePath, found: Result<FileRead, Failure>, left: u64) -> Judged {
        let (status, content) = match found {
            Ok(FileRead { status, content }) => (status, content),
            Err(failure) if failure.kind() == ErrorKind::NotFound => return Judged::State(PathState::Absent, None),
            Err(failure) => return Judged::Unusable(files.reported(failure)),
        };
        let unusable = |problem: Problem| Judged::Unusable(Error::from(problem).about(self.label()));
        let path = path_text(path.as_bytes());
        match artifact_type(&status) {
            ArtifactType::Directory => Judged::State(PathState::Directory, Some(status.version)),
            ArtifactType::Symlink => Judged::State(PathState::Link { target: status.link_target.to_vec() }, Some(status.version)),
            ArtifactType::Other => unusable(Problem::NotAFile { path, what: special(&status) }),
            ArtifactType::File => {
                let maximum = FILE_MAX_BYTES.min(left);
                if status.size_bytes > maximum {
                    return unusable(Problem::FileTooLarge { path, bytes: status.size_bytes, maximum });
                }
                if status.size_bytes > content.len() as u64 {
                    return Judged::Large { size_bytes: status.size_bytes };
                }
                Judged::State(PathState::File { mode: status.mode, content }, Some(status.version))
            }
        }
    }
}

/// Makes the items of a change of a patch's edits. What goes, goes first: it may make room for a folder.
fn items(edits: Vec<Edit>, versions: &BTreeMap<TreePath, Bytes>) -> Vec<(ChangeItem, Bytes)> {
    let mut items: Vec<(ChangeItem, Bytes)> = edits.into_iter().map(|edit| item(edit, versions)).collect();
    items.sort_by_key(|(item, _)| item.kind != i32::from(ChangeKind::Remove));
    items
}

fn item(edit: Edit, versions: &BTreeMap<TreePath, Bytes>) -> (ChangeItem, Bytes) {
    let expect = |path: &TreePath| {
        let expected_version = versions.get(path).cloned();
        ChangeItem {
            path: Bytes::copy_from_slice(path.as_bytes()),
            expected_absent: expected_version.is_none(),
            expected_version: expected_version.unwrap_or_default(),
            ..ChangeItem::default()
        }
    };
    match edit {
        Edit::Write { path, content, mode, keep_mode, .. } => {
            let (kind, size_bytes) = (ChangeKind::File.into(), content.len() as u64);
            (ChangeItem { kind, mode, keep_mode, size_bytes, ..expect(&path) }, content.into())
        }
        Edit::Link { path, target, .. } => {
            (ChangeItem { kind: ChangeKind::Link.into(), link_target: target.into(), ..expect(&path) }, Bytes::new())
        }
        Edit::Remove { path } => (ChangeItem { kind: ChangeKind::Remove.into(), ..expect(&path) }, Bytes::new()),
    }
}

fn patched(file: &PatchedPath) -> PatchedFile {
    let text = |path: &TreePath| path_text(path.as_bytes());
    let (change, moved) = match file.operation {
        Operation::Add => ("added", false),
        Operation::Modify => ("modified", false),
        Operation::Delete => ("deleted", false),
        Operation::Rename => ("renamed", true),
        Operation::Copy => ("copied", true),
    };
    PatchedFile { path: text(&file.path), change: change.to_owned(), old_path: moved.then(|| text(&file.source)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_insists_on_what_was_read_and_what_goes_goes_first() {
        let path = |text: &str| TreePath::try_from(text).unwrap();
        let versions = BTreeMap::from([(path("old"), Bytes::from_static(b"v1"))]);
        let write = Edit::Write { path: path("old/new"), content: b"x".to_vec(), mode: 0o755, keep_mode: false, created: true };
        let items = items(vec![write, Edit::Remove { path: path("old") }], &versions);
        let seen: Vec<_> = items.iter().map(|(item, _)| (item.path.clone(), item.expected_version.clone(), item.expected_absent)).collect();
        assert_eq!(seen, [("old".into(), "v1".into(), false), ("old/new".into(), "".into(), true)]);
        assert_eq!((items[1].0.mode, items[1].0.size_bytes), (0o755, 1));
    }
}
