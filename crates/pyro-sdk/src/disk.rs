//! The disks of a stopped workspace, looked at without a machine.

use std::ops::ControlFlow;

use pyro_disk::{Disk, EntryKind, TreeEntry};
use pyro_proto::error::ErrorKind;
use pyro_store::WorkspaceState;

use crate::{
    Observer, Progress, Pyro, Workspace,
    aside::Aside,
    client::Reap,
    contract::{ArtifactType, DiskExport, DiskExportAnswer, DiskList, DiskRead, FileEntry, FileListAnswer, FileReadAnswer},
    disk_view::{self, View, Wanted},
    error::{Cause, Error, Problem, Result},
    files::{Found, file_answer, led_to},
    follow::follow,
    guest_files::SPECIAL,
    page::{self, CHARACTER_BYTES, HEAD_BYTES, Page},
    system::allocated_bytes,
    text::WorkspaceReference,
    time::rfc3339,
    wanted::while_wanted,
    workspace_path::path_text,
};

impl Pyro {
    async fn stopped(&self, reference: &WorkspaceReference) -> Result<Workspace> {
        let (workspace, record) = self.find(reference, Reap::Now).await?;
        if record.state != WorkspaceState::Stopped {
            let problem = Problem::NotStopped { workspace: workspace.label().to_owned(), state: record.state.as_str() };
            return Err(Error::from(problem).about(workspace.label()));
        }
        Ok(workspace)
    }

    /// Lists files of a stopped workspace.
    ///
    /// # Errors
    /// It is not stopped, or there is no such folder.
    pub async fn list_disk(&self, request: DiskList) -> Result<FileListAnswer> {
        let workspace = self.stopped(&request.workspace).await?;
        let (path, recursive, limit) = (request.path.clone(), request.recursive, request.limit.get());
        let list = move |view: View| {
            let (mut entries, mut truncated) = (Vec::new(), false);
            let Some(top) = view.now.status(path.as_bytes())? else { return Err(Problem::Missing { path: path.text() }.into()) };
            if top.kind != EntryKind::Directory {
                return Ok((vec![entry(&top)], false));
            }
            view.now.list(path.as_bytes(), recursive, &mut |found| {
                truncated = entries.len() as u64 == limit;
                if truncated {
                    return ControlFlow::Break(());
                }
                entries.push(entry(&found));
                ControlFlow::Continue(())
            })?;
            Ok((entries, truncated))
        };
        let (entries, truncated) = workspace.view("list the disk of", Wanted::Now, list).await?;
        Ok(FileListAnswer { workspace_id: workspace.id().to_string(), path: request.path.text(), entries, truncated })
    }

    /// Reads a text file of a stopped workspace.
    ///
    /// # Errors
    /// It is not stopped, or there is no such file.
    pub async fn read_disk(&self, request: DiskRead) -> Result<FileReadAnswer> {
        let workspace = self.stopped(&request.workspace).await?;
        let (path, offset, max) = (request.path.clone(), request.offset, request.max_bytes.get());
        let read = move |view: View| {
            let found = follow(&view.now, &path)?;
            if found.kind != EntryKind::File {
                return Ok((found, Vec::new(), Page::Binary));
            }
            let bytes = |offset, max: u64| view.now.read_of(&found, offset, usize::try_from(max).unwrap_or(usize::MAX));
            let head = bytes(0, HEAD_BYTES)?;
            let page = if page::is_binary(&head) {
                Page::Binary
            } else {
                page::page(&bytes(offset, max.max(CHARACTER_BYTES))?, offset, max, found.size_bytes)
            };
            Ok((found, head, page))
        };
        let (found, head, page) = workspace.view("read the disk of", Wanted::Now, read).await?;
        let (artifact_type, size_bytes) = (artifact_type(found.kind), found.size_bytes);
        let link_target = led_to(&request.path, &found.path);
        file_answer(&workspace, &request.path, Found { artifact_type, size_bytes, special: SPECIAL, link_target, head: &head, page })
            .map_err(|error| error.at(&request.path))
    }

    /// Writes the disk of a stopped workspace to a file.
    ///
    /// # Errors
    /// It is not stopped, there is a file already, or it cannot be written.
    pub async fn export_disk(&self, request: DiskExport, observer: &Observer) -> Result<DiskExportAnswer> {
        let workspace = self.stopped(&request.workspace).await?;
        let id = workspace.id().clone();
        let layers = self
            .store(move |pyro, registry| {
                let record = registry.workspace(&id)?;
                disk_view::chain(pyro.dirs(), registry, record.workspace_layer.as_ref())
            })
            .await?;
        // Asked before gigabytes are written; who makes one meanwhile is the user himself.
        if std::fs::symlink_metadata(&request.output).is_ok() {
            let cause = Cause::new(format!("`{}` is there already; give another `--output`, or remove it", request.output.display()));
            return Err(Error::workspace("export the disk of", workspace.label(), ErrorKind::AlreadyExists, cause));
        }
        let (dirs, output, observed) = (self.dirs().clone(), request.output.clone(), observer.clone());
        let (size_bytes, bytes_written) = while_wanted(observer, move |wanted| {
            let disk = Disk::open(&layers)?;
            let aside = Aside::of(&dirs, &output)?;
            let started = std::time::Instant::now();
            let mut told = std::time::Duration::from_secs(1);
            let whole = disk.export_raw(&output, aside.path(), &mut |done, _| {
                if started.elapsed() >= told {
                    told = started.elapsed() + std::time::Duration::from_millis(250);
                    observed.notify(Progress::Transfer { what: "disk export", entries: 0, bytes: done });
                }
                if wanted.is_wanted() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            if !whole {
                return Err(Problem::Interrupted { outcome: "nothing was written" }.into());
            }
            let status = std::fs::metadata(&output).map_err(|error| Error::io("read", &output, error))?;
            Ok::<_, Error>((disk.size_bytes(), allocated_bytes(&status)))
        })
        .await
        .map_err(|error| error.about(workspace.label()))?;
        let output = request.output.display().to_string();
        Ok(DiskExportAnswer { workspace_id: workspace.id().to_string(), output, size_bytes, bytes_written })
    }
}

const fn artifact_type(kind: EntryKind) -> ArtifactType {
    match kind {
        EntryKind::File => ArtifactType::File,
        EntryKind::Directory => ArtifactType::Directory,
        EntryKind::Link => ArtifactType::Symlink,
        EntryKind::Other => ArtifactType::Other,
    }
}

fn entry(entry: &TreeEntry) -> FileEntry {
    FileEntry {
        path: path_text(&entry.path),
        artifact_type: artifact_type(entry.kind),
        size_bytes: entry.size_bytes,
        mode: format!("{:04o}", entry.mode),
        modified_at: rfc3339(entry.mtime_ns.div_euclid(1_000_000)),
        link_target: entry.link_target.as_deref().map(path_text),
    }
}
