//! Applies a patch to a running workspace: worked out on the host from files as they are, sent as one change that insists on them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pyro_proto::{
    error::ErrorKind,
    v1::{ChangeItem, ChangeKind, FileRange},
};
use pyro_tree::{Edit, EntryKind, FilePatch, FileState, Operation, PATCH_MAX_BYTES, Patch, TreePath, parse};
use serde_json::json;

use crate::{
    Pyro, Workspace,
    client::{Reap, blocking},
    contract::{ArtifactType, PatchApply, PatchApplyAnswer, PatchedFile},
    error::{Error, Problem, Result},
    guest_files::{GuestFiles, artifact_type, special},
    workspace_path::path_text,
};

/// Largest file a patch can change.
const FILE_MAX_BYTES: u64 = 32 << 20;
/// Most bytes of files one patch may need read.
const FILES_MAX_BYTES: u64 = 256 << 20;
/// How often a patch is tried when something else writes its files at the same time.
const TRIES: usize = 2;
const OPERATION: &str = "apply a patch to";

/// What is at a path: its state for the patch, and the version a change of it insists on.
#[derive(Debug, Default)]
struct States {
    states: BTreeMap<TreePath, Option<FileState>>,
    versions: BTreeMap<TreePath, Bytes>,
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
        loop {
            tries -= 1;
            let states = workspace.states(&files, &patch).await?;
            let (patched, versions, edits) = blocking(move || {
                let edits = patch.apply(&states.states);
                (patch, states.versions, edits)
            })
            .await;
            patch = patched;
            let edits = edits.map_err(|error| Error::from(error).about(workspace.label()))?;
            if request.check {
                break;
            }
            match files.change_items(items(edits, &versions)).await {
                Ok(_) => break,
                // Something else wrote one of its files between our reading and our writing.
                Err(error) if error.kind() == ErrorKind::Conflict && tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
        if !request.check {
            workspace.remember("patch_apply", json!({ "files": patch.files.len() })).await?;
        }
        let files = patch.files.iter().map(patched).collect();
        Ok(PatchApplyAnswer { workspace_id: record.id.to_string(), applied: !request.check, files })
    }
}

impl Workspace {
    async fn states(&self, files: &GuestFiles, patch: &Patch) -> Result<States> {
        let paths: Vec<TreePath> = patch.reads().into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut states = States::default();
        let mut left = FILES_MAX_BYTES;
        // A few at a time, so that the sizes are known before all is held.
        for some in paths.chunks(64) {
            let range = |path: &TreePath| FileRange {
                path: Bytes::copy_from_slice(path.as_bytes()),
                offset: 0,
                max_bytes: FILE_MAX_BYTES.min(left),
                // Git patches a link, not what it leads to.
                follow: false,
            };
            let read = files.read(some.iter().map(range).collect()).await?;
            for (path, read) in some.iter().zip(read) {
                let read = match read {
                    Ok(read) => read,
                    Err(failure) if failure.kind() == ErrorKind::NotFound => {
                        states.states.insert(path.clone(), None);
                        continue;
                    }
                    Err(failure) => return Err(files.reported(failure)),
                };
                let kind = match artifact_type(&read.status) {
                    ArtifactType::File => EntryKind::File,
                    ArtifactType::Directory => EntryKind::Directory,
                    ArtifactType::Symlink => EntryKind::Link,
                    ArtifactType::Other => {
                        let what = special(&read.status);
                        return Err(Error::from(Problem::NotAFile { path: path_text(path.as_bytes()), what }).about(self.label()));
                    }
                };
                let size = read.content.len() as u64;
                if kind == EntryKind::File && read.status.size_bytes > size {
                    let path = path_text(path.as_bytes());
                    let problem = Problem::FileTooLarge { path, bytes: read.status.size_bytes, maximum: FILE_MAX_BYTES.min(left) };
                    return Err(Error::from(problem).about(self.label()));
                }
                left -= size.min(left);
                let link_target = (kind == EntryKind::Link).then(|| read.status.link_target.to_vec());
                let state = FileState { kind, mode: read.status.mode, content: read.content, link_target };
                states.states.insert(path.clone(), Some(state));
                states.versions.insert(path.clone(), read.status.version);
            }
        }
        Ok(states)
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

fn patched(file: &FilePatch) -> PatchedFile {
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
