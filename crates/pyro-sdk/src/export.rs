//! Copies files of a workspace to the host, read from its disk: the guest has no say in where anything goes.

use std::{io::Read, ops::ControlFlow, path::PathBuf};

use pyro_disk::{FileReader, Tree, TreeEntry};
use pyro_tree::{Content, Difference, Entry, EntryKind, Exporter, Repositories, Side, Sparse, Timestamp, TreePath, hazards, is_git};
use serde_json::json;

use crate::{
    Observer, Pyro,
    aside::Aside,
    client::Reap,
    contract::{AppliedHazard, ArtifactType, Export, ExportAnswer, LeftOut},
    diff::kind,
    disk_view::{View, Wanted},
    error::{Error, Problem, Result},
    meter::Meter,
    text::WorkspacePath,
    wanted::{Wanted as StillWanted, while_wanted},
    workspace_path::path_text,
};

/// Most entries named that were not taken.
const LEFT_OUT_MAX: usize = 1000;
/// Most hazards named.
const HAZARDS_MAX: usize = 1000;

/// Why `.git` is not copied.
const GIT_LEFT_OUT: &str = "its configuration and hooks would run programs on the host; name it to have it";
/// What an interruption leaves.
const NOTHING_WRITTEN: &str = "nothing was written";
/// What is said of a folder that Git takes for a repository.
const REPOSITORY: &str = "makes a Git repository whose configuration can run programs";

impl Pyro {
    /// Copies a file or a folder of a workspace to the host. A failure leaves nothing there.
    ///
    /// # Errors
    /// There is nothing at the path, something is at the output already, or a disk cannot be read or written.
    pub async fn export(&self, request: Export, observer: &Observer) -> Result<ExportAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let meter = Meter::new(observer, "export");
        let (dirs, path, output, force) = (self.dirs().clone(), request.path.clone(), request.output.clone(), request.force);
        // A sparse file, or one with many names, takes more on the host than in the workspace; more than its whole disk is no honest one.
        let data_max = record.disk_gib.saturating_mul(1 << 30);
        let copy = move |view: View, wanted: &StillWanted| {
            let to = To { aside: Aside::of(&dirs, &output)?, output, force, data_max };
            let copied = copy(&view.now, &path, to, &mut Watched { meter, wanted });
            // What failed because nobody waits for it says something else by itself.
            wanted.check(NOTHING_WRITTEN)?;
            copied
        };
        let copied = workspace.view_while_wanted("copy files out of", Wanted::Now, observer, copy).await?;
        let Copied { exporter, aside, artifact_type, left_out, hazards } = copied;
        // Syncing and renaming need no workspace.
        let report = while_wanted(observer, move |wanted| {
            // Dropped in this order's reverse: the staging folder goes before the note on it does.
            let _aside = aside;
            let exporter = exporter;
            wanted.check(NOTHING_WRITTEN)?;
            Ok::<_, Error>(exporter.finish()?)
        });
        let report = report.await?;
        let id = record.id.clone();
        let detail = json!({ "path": request.path.text(), "output": request.output.display().to_string() });
        workspace.remember("export", detail).await?;
        self.store(move |_, registry| Ok(registry.touch_workspace(&id)?)).await?;
        Ok(ExportAnswer {
            workspace_id: record.id.to_string(),
            path: request.path.text(),
            artifact_type,
            output: request.output.display().to_string(),
            entry_count: report.entry_count,
            bytes_written: report.bytes_written,
            left_out,
            hazards,
        })
    }
}

/// Where a copy goes.
struct To {
    aside: Aside,
    output: PathBuf,
    force: bool,
    data_max: u64,
}

/// What is told of a copy, and asked about it.
struct Watched<'w> {
    meter: Meter,
    wanted: &'w StillWanted,
}

/// What waits to be published.
struct Copied {
    exporter: Exporter,
    aside: Aside,
    artifact_type: ArtifactType,
    left_out: Vec<LeftOut>,
    hazards: Vec<AppliedHazard>,
}

fn copy(tree: &Tree, path: &WorkspacePath, to: To, watched: &mut Watched<'_>) -> Result<Copied> {
    let To { aside, output, force, data_max } = to;
    let from = path.as_bytes();
    let Some(top) = tree.status(from)? else { return Err(Problem::Missing { path: path.text() }.into()) };
    let mut left_out = Vec::new();
    let kind = match kind(&top) {
        Some(kind) => kind,
        None => return Err(Problem::NotAFile { path: path.text(), what: "a socket, a device or the like" }.into()),
    };
    if kind != EntryKind::Directory {
        let mut exporter = Exporter::single(&output, aside.path(), force)?.with_data_max(data_max);
        let name = path.tree_path().map_or(&b"workspace"[..], TreePath::file_name);
        let mut look = Look::default();
        write(tree, &top, name, &mut exporter, &mut look, watched)?;
        return Ok(Copied { exporter, aside, artifact_type: crate::diff::artifact_type(kind), left_out, hazards: look.hazards() });
    }
    let mut exporter = Exporter::directory(&output, aside.path(), force)?.with_data_max(data_max);
    let mut look = Look::default();
    let mut failed = None;
    tree.list(from, true, &mut |entry| {
        let below = if from.is_empty() { &entry.path[..] } else { &entry.path[(from.len() + 1).min(entry.path.len())..] };
        if is_git(below) {
            if !is_within_git(below) && left_out.len() < LEFT_OUT_MAX {
                left_out.push(LeftOut { path: path_text(&entry.path), reason: GIT_LEFT_OUT.to_owned() });
            }
            return ControlFlow::Continue(());
        }
        match write(tree, &entry, below, &mut exporter, &mut look, watched) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => {
                if left_out.len() < LEFT_OUT_MAX {
                    left_out.push(LeftOut { path: path_text(&entry.path), reason: "a socket, a device or the like".to_owned() });
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(Copied { exporter, aside, artifact_type: ArtifactType::Directory, left_out, hazards: look.hazards() }),
    }
}

/// Looks at what is copied, for what the host would run.
#[derive(Default)]
struct Look {
    found: Vec<AppliedHazard>,
    repositories: Repositories,
}

impl Look {
    fn at(&mut self, entry: &Entry) {
        self.repositories.add(&entry.path);
        if self.found.len() >= HAZARDS_MAX {
            return;
        }
        let content = match &entry.link_target {
            Some(target) => Content::Link(target.clone()),
            None => Content::TooLarge,
        };
        let after = Side { kind: entry.kind, mode: entry.mode, size_bytes: entry.size_bytes, content };
        for hazard in hazards(&[Difference { path: entry.path.clone(), before: None, after: Some(after) }]) {
            self.found.push(AppliedHazard { path: path_text(hazard.path.as_bytes()), why: hazard.why.to_owned() });
        }
    }

    /// Returns what was found, repositories first: they are known when everything has been seen.
    fn hazards(self) -> Vec<AppliedHazard> {
        let head = |folder: Option<TreePath>| {
            let folder = folder.map(|folder| format!("{}/", path_text(folder.as_bytes()))).unwrap_or_default();
            AppliedHazard { path: format!("{folder}HEAD"), why: REPOSITORY.to_owned() }
        };
        self.repositories.folders().into_iter().map(head).chain(self.found).take(HAZARDS_MAX).collect()
    }
}

/// Tells whether a path is not `.git` itself, which is named as left out, but something in it, which need not be.
fn is_within_git(path: &[u8]) -> bool {
    path.iter().rposition(|&byte| byte == b'/').is_some_and(|end| is_git(&path[..end]))
}

/// Writes one entry under a name; false when it is nothing that can be written.
fn write(tree: &Tree, entry: &TreeEntry, name: &[u8], exporter: &mut Exporter, look: &mut Look, watched: &mut Watched<'_>) -> Result<bool> {
    watched.wanted.check(NOTHING_WRITTEN)?;
    let Some(kind) = kind(entry) else { return Ok(false) };
    let made = Entry {
        path: TreePath::try_from(name)?,
        kind,
        mode: entry.mode,
        size_bytes: if kind == EntryKind::File { entry.size_bytes } else { 0 },
        mtime: Timestamp::from_ns(entry.mtime_ns),
        link_target: entry.link_target.clone(),
    };
    if kind == EntryKind::File {
        let mut content = Metered { content: tree.reader_of(entry)?, watched };
        exporter.entry(&made, &mut content)?;
    } else {
        exporter.entry(&made, &mut std::io::empty())?;
    }
    look.at(&made);
    watched.meter.add(1, 0);
    Ok(true)
}

/// Counts what is read.
struct Metered<'a, 'tree, 'w> {
    content: FileReader<'tree>,
    watched: &'a mut Watched<'w>,
}

impl Sparse for Metered<'_, '_, '_> {
    fn skip_hole(&mut self) -> u64 {
        let hole = self.content.hole_bytes();
        self.content.skip(hole);
        hole
    }
}

impl Read for Metered<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !self.watched.wanted.is_wanted() {
            return Err(std::io::Error::other("nobody waits for it any more"));
        }
        let count = self.content.read(buffer)?;
        self.watched.meter.add(0, count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_repository_that_is_left_out_only_its_folder_is_named() {
        assert!(!is_within_git(b"sub/.GIT") && !is_within_git(b".git"));
        assert!(is_within_git(b".git/config") && is_within_git(b"sub/.Git/hooks/x"));
    }

    #[test]
    fn a_repository_by_another_name_and_a_link_that_leads_out_are_hazards() {
        let mut look = Look::default();
        for (path, link_target) in [("a/HEAD", None), ("a/objects", None), ("a/refs", None), ("l", Some(b"/etc".to_vec())), ("x", None)] {
            let path = TreePath::try_from(path).unwrap();
            let kind = if link_target.is_some() { EntryKind::Link } else { EntryKind::File };
            look.at(&Entry { path, kind, mode: 0o644, size_bytes: 0, mtime: Timestamp::default(), link_target });
        }
        let found: Vec<_> = look.hazards().into_iter().map(|hazard| format!("{} {}", hazard.path, hazard.why)).collect();
        assert_eq!(found, [format!("a/HEAD {REPOSITORY}"), "l is a link that points out of the folder".to_owned()]);
    }
}
