//! What has changed in a workspace: two trees on disk compared, what differs read, and shown as a patch.

use std::collections::HashSet;

use pyro_disk::{Changed, Tree, TreeEntry, changes};
use pyro_tree::{Content, DiffEntry, DiffLimits, DiffReport, Difference, EntryKind, Side, TreePath, render};

use crate::{
    Observer, Pyro, Workspace,
    apply::{self, differences_from_host},
    client::{Reap, blocking},
    contract::{Diff, DiffAnswer, DiffItem, DiffSummary},
    disk_view::{View, Wanted},
    error::Result,
    ignored::Ignored,
    text::{DiffReference, PatchText},
    workspace_path::path_text,
};

/// Most bytes of changed files held at once, both sides together. What is beyond is listed and not shown.
const CONTENT_MAX_BYTES: u64 = 256 << 20;

/// Reads the content of one side of a difference.
pub(crate) trait ReadContent {
    /// Reads a file of `tree`.
    fn read(&mut self, tree: &Tree, entry: &TreeEntry) -> Result<Content>;
}

/// Holds content in memory, as much as a patch can show.
pub(crate) struct InMemory {
    limits: DiffLimits,
    left: u64,
}

impl InMemory {
    pub(crate) const fn new(limits: DiffLimits, left: u64) -> Self {
        Self { limits, left }
    }
}

impl ReadContent for InMemory {
    fn read(&mut self, tree: &Tree, entry: &TreeEntry) -> Result<Content> {
        let size = entry.size_bytes;
        if size > self.limits.text_max_bytes || size > self.left {
            return Ok(Content::TooLarge);
        }
        self.left -= size;
        Ok(Content::Bytes(tree.read_of(entry, 0, usize::try_from(size).unwrap_or(usize::MAX))?))
    }
}

/// Finds what differs and reads it. Blocks.
fn differences(view: &View, ignored: &mut Ignored, before: &mut dyn ReadContent, after: &mut dyn ReadContent) -> Result<Vec<Difference>> {
    let Some(old) = &view.before else { return Ok(Vec::new()) };
    let mut changed = Vec::new();
    for Changed { path, before, after } in changes(old, &view.now)? {
        changed.push((TreePath::try_from(path.as_slice())?, before, after));
    }
    ignored.learn(view, changed.iter().map(|(path, before, after)| (path, after.as_ref().or(before.as_ref()))))?;
    let mut found = Vec::new();
    for (path, was, is) in changed {
        if is_git(path.as_bytes()) || ignored.leaves_out(&path) {
            continue;
        }
        let was = side(old, was, before)?;
        let is = side(&view.now, is, after)?;
        // Sockets and devices are nothing that could be brought anywhere.
        if was.is_some() || is.is_some() {
            found.push(Difference { path, before: was, after: is });
        }
    }
    leave_out_hollow(&mut found, |path| ignored.is_above(path));
    Ok(found)
}

/// Takes new folders away that are hollow and hold nothing that is shown.
pub(crate) fn leave_out_hollow(found: &mut Vec<Difference>, is_hollow: impl Fn(&TreePath) -> bool) {
    let hollow = |difference: &Difference| matches!(difference, Difference { before: None, after: Some(Side { kind: EntryKind::Directory, .. }), path } if is_hollow(path));
    let shown = found.iter().filter(|difference| !hollow(difference));
    let needed: HashSet<TreePath> = shown.flat_map(|difference| difference.path.ancestors().collect::<Vec<_>>()).collect();
    found.retain(|difference| needed.contains(&difference.path) || !hollow(difference));
}

/// Tells whether a path belongs to what Git keeps for itself. `git status` alone rewrites its index; no patch may touch it, and its hooks
/// and configuration would run on the host.
pub(crate) fn is_git(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|name| name == b".git")
}

/// Returns what an entry of a disk is, if it can be brought anywhere.
pub(crate) fn kind(entry: &TreeEntry) -> Option<EntryKind> {
    match entry.kind {
        pyro_disk::EntryKind::File => Some(EntryKind::File),
        pyro_disk::EntryKind::Directory => Some(EntryKind::Directory),
        pyro_disk::EntryKind::Link => Some(EntryKind::Link),
        pyro_disk::EntryKind::Other => None,
    }
}

pub(crate) fn side(tree: &Tree, entry: Option<TreeEntry>, contents: &mut dyn ReadContent) -> Result<Option<Side>> {
    let Some(entry) = entry else { return Ok(None) };
    let (kind, size_bytes, content) = match entry.kind {
        pyro_disk::EntryKind::File => (EntryKind::File, entry.size_bytes, contents.read(tree, &entry)?),
        pyro_disk::EntryKind::Directory => (EntryKind::Directory, 0, Content::None),
        pyro_disk::EntryKind::Link => (EntryKind::Link, 0, Content::Link(entry.link_target.unwrap_or_default())),
        pyro_disk::EntryKind::Other => return Ok(None),
    };
    Ok(Some(Side { kind, mode: entry.mode, size_bytes, content }))
}

/// What a comparison found.
pub(crate) struct Comparison {
    pub(crate) report: DiffReport,
    /// How many new files and links the seed's ignore rules left out.
    pub(crate) ignored_count: u64,
}

impl Workspace {
    /// Compares the workspace with something earlier.
    pub(crate) async fn compare(&self, against: DiffReference, include_ignored: bool, observer: &Observer) -> Result<Comparison> {
        let limits = DiffLimits::default();
        let record = self.record().await?;
        let (dirs, seed_folder) = (self.pyro().dirs().clone(), apply::seed_folder(&record));
        let wanted = match &against {
            DiffReference::Baseline | DiffReference::Host => Wanted::Against(None),
            DiffReference::Snapshot(name) => Wanted::Against(Some(name.clone())),
        };
        let read = move |view: View, _: &crate::wanted::Wanted| {
            let contents = || InMemory::new(limits, CONTENT_MAX_BYTES / 2);
            let mut ignored = Ignored::load(&dirs, &record.id, include_ignored)?;
            let differences = if against == DiffReference::Host {
                let given = apply::given_by_home(&dirs, &record.id, seed_folder.as_deref())?;
                differences_from_host(&view, &given, &mut ignored, &mut contents())?
            } else {
                differences(&view, &mut ignored, &mut contents(), &mut contents())?
            };
            Ok((differences, ignored.count()))
        };
        let (differences, ignored_count) = self.view_while_wanted("compare the files of", wanted, observer, read).await?;
        // The workspace goes on while this is worked out.
        Ok(Comparison { report: blocking(move || render(differences, limits)).await, ignored_count })
    }
}

impl Pyro {
    /// Shows what has changed in a workspace. Does not count as activity.
    ///
    /// # Errors
    /// There is no such workspace or snapshot, or a disk cannot be read.
    pub async fn diff(&self, request: Diff, observer: &Observer) -> Result<DiffAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let against = request.against.unwrap_or_default();
        let Comparison { report, ignored_count } = workspace.compare(against.clone(), request.include_ignored, observer).await?;
        Ok(DiffAnswer {
            workspace_id: record.id.to_string(),
            against: against.to_string(),
            changed: !report.entries.is_empty(),
            summary: summary(&report),
            entries: report.entries.iter().map(item).collect(),
            patch: (!request.stat).then(|| PatchText::from(report.patch)),
            truncated: !request.stat && report.truncated,
            ignored_count,
        })
    }
}

/// Counts differences.
pub(crate) fn summary(report: &DiffReport) -> DiffSummary {
    use pyro_tree::Change;
    let count = |wanted: fn(Change) -> bool| report.entries.iter().filter(|entry| wanted(entry.change)).count() as u64;
    DiffSummary {
        entry_count: report.entries.len() as u64,
        added: count(|change| change == Change::Added),
        modified: count(|change| matches!(change, Change::Modified | Change::TypeChanged | Change::ModeChanged)),
        deleted: count(|change| change == Change::Deleted),
        renamed: count(|change| change == Change::Renamed),
        insertions: report.insertions,
        deletions: report.deletions,
        binary: report.entries.iter().filter(|entry| entry.binary).count() as u64,
    }
}

/// Shows one difference.
pub(crate) fn item(entry: &DiffEntry) -> DiffItem {
    let mode = |mode: Option<u32>| mode.map(|mode| format!("{mode:04o}"));
    DiffItem {
        path: path_text(entry.path.as_bytes()),
        old_path: entry.old_path.as_ref().map(|path| path_text(path.as_bytes())),
        change: entry.change.as_str().to_owned(),
        artifact_type: artifact_type(entry.kind),
        binary: entry.binary,
        old_mode: mode(entry.old_mode),
        new_mode: mode(entry.new_mode),
        insertions: entry.insertions,
        deletions: entry.deletions,
        old_size_bytes: entry.old_size,
        new_size_bytes: entry.new_size,
    }
}

/// Returns what an entry of a tree is called.
pub(crate) const fn artifact_type(kind: EntryKind) -> crate::contract::ArtifactType {
    match kind {
        EntryKind::File => crate::contract::ArtifactType::File,
        EntryKind::Directory => crate::contract::ArtifactType::Directory,
        EntryKind::Link => crate::contract::ArtifactType::Symlink,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_keeps_for_itself_is_no_difference() {
        assert!(is_git(b".git") && is_git(b".git/index") && is_git(b"sub/.git/HEAD"));
        assert!(!is_git(b".gitignore") && !is_git(b".github/workflows/x") && !is_git(b"a.git/b"));
    }
}
