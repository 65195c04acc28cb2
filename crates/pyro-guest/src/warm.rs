//! Does on the scratch disk what a workspace will do first, so that the code for it is translated before anyone waits for it.
//!
//! Nothing is left behind: every process is ended and every mount undone, also when a step fails.

use std::ffi::{CStr, CString};
use std::path::Path;

use pyro_proto::v1::{
    ChangeCommit, ChangeItem, ChangeKind, ChangeStart, ExecStart, FileRange, FreezeRequest, ListFilesRequest, ReadFilesRequest,
    change_input, exec_output,
};
use rustix::mount::UnmountFlags;
use tokio_stream::StreamExt as _;

use crate::attach::{AttachError, Attachment, open_workspace};
use crate::calls::Inputs;
use crate::exec::Executor;
use crate::log;
use crate::mounts::{self, Disks, MountError, SCRATCH, WARM};
use crate::shutdown;
use crate::workspace::Workspace;

/// How long one program may take; Python's first start takes a second under translation on a busy host.
const PROGRAM_TIMEOUT_MS: u64 = 20_000;
/// Trees walked, the first that is there, and how far: enough to translate the path, not to fill the cache.
const TREES: [&str; 2] = ["/warm/usr/lib/python3", "/warm/usr/share"];
/// A file of the rehearsal.
const PATH: &[u8] = b"folder/file";
const WALK_MAX_ENTRIES: usize = 500;

/// Runs `programs` in an overlay on the scratch disk, walks a tree of it and unmounts everything.
pub(crate) async fn warm(disks: &Disks, executor: &Executor, programs: &[String]) -> Result<(), AttachError> {
    let scratch = disks.scratch()?;
    if let Err(error) = Attachment::rehearsal().wake() {
        log::failure(&error);
    }
    let mut mounted = Mounted::default();
    let prepared = mounted.mount(scratch);
    if prepared.is_ok() {
        rehearse(mounted.workspace.as_ref()).await;
        let within = executor.within(WARM);
        for program in programs {
            run(&within, program).await;
        }
        if let Some(tree) = TREES.iter().map(Path::new).find(|tree| tree.is_dir()) {
            walk(tree);
        }
        // Before a workspace is attached, whatever still runs was started above.
        shutdown::end_processes(&executor.reaper, 0).await;
    }
    let undone = mounted.undo();
    prepared.and(undone.map_err(AttachError::from))?;
    // Once more: the second time is what the workspace's mounts will be like.
    let prepared = mounted.mount(scratch);
    let undone = mounted.undo();
    prepared.and(undone.map_err(AttachError::from))
}

/// Does with the scratch disk what a host does first with a workspace's: changes a file, replaces it, reads, lists, freezes.
async fn rehearse(workspace: Option<&Workspace>) {
    let Some(workspace) = workspace else { return };
    for _ in 0..2 {
        let item = ChangeItem { path: PATH.into(), kind: ChangeKind::File.into(), mode: 0o644, size_bytes: 1, ..ChangeItem::default() };
        let inputs = [
            change_input::Input::Start(ChangeStart::default()),
            change_input::Input::Item(item),
            change_input::Input::Content(b"x".as_slice().into()),
            change_input::Input::Commit(ChangeCommit {}),
        ];
        if let Err(status) = workspace.change(&mut Vec::from(inputs).into_iter()).await {
            log::line(&format!("cannot rehearse a change: {}", status.message()));
        }
    }
    let range = FileRange { path: PATH.into(), offset: 0, max_bytes: 1, follow: true };
    if let Ok(mut answers) = workspace.read(ReadFilesRequest { ranges: vec![range] }) {
        while answers.recv().await.is_some() {}
    }
    if let Ok(mut pages) = workspace.list(&ListFilesRequest { recursive: true, ..ListFilesRequest::default() }) {
        while pages.recv().await.is_some() {}
    }
    let mut frozen = workspace.freeze(FreezeRequest { root: false, workspace: true, max_ms: 1 });
    while frozen.recv().await.is_some() {}
}

/// Runs one program, given as words with spaces between, through the same code as every command; its fate does not matter.
pub(crate) async fn run(executor: &Executor, program: &str) {
    let argv = program.split_ascii_whitespace().map(|word| word.to_owned().into()).collect();
    let start = ExecStart { argv, timeout_ms: PROGRAM_TIMEOUT_MS, ..ExecStart::default() };
    let Ok(mut outputs) = executor.run(&start, Inputs::Closed) else { return };
    while let Some(Ok(output)) = outputs.next().await {
        if let Some(exec_output::Output::Exit(_)) = output.output {
            return;
        }
    }
}

/// What is mounted at the moment.
#[derive(Debug, Default)]
struct Mounted {
    /// Innermost last.
    targets: Vec<Target>,
    /// Holds the scratch disk open as a workspace's.
    workspace: Option<Workspace>,
}

#[derive(Debug)]
enum Target {
    /// A file system of the scratch disk: nothing may be left open on it.
    Disk(&'static CStr),
    /// A view of something that lives on: taken off with the mounts below it.
    View(CString),
}

impl Mounted {
    fn mount(&mut self, device: &str) -> Result<(), AttachError> {
        mounts::disk(device, SCRATCH)?;
        self.targets.push(Target::Disk(SCRATCH));
        mounts::overlay(SCRATCH, WARM)?;
        self.targets.push(Target::Disk(WARM));
        let (workspace, leftovers) = open_workspace(SCRATCH, None)?;
        workspace.tidy(leftovers);
        self.workspace = Some(workspace);
        self.targets.push(Target::View(mounts::workspace(SCRATCH, WARM)?));
        for (source, target) in [(c"/dev", c"/warm/dev"), (c"/proc", c"/warm/proc")] {
            // Programs do without if the image has no such folder.
            if rustix::mount::mount_bind_recursive(source, target).is_ok() {
                self.targets.push(Target::View(target.to_owned()));
            }
        }
        self.targets.extend(Attachment::rehearsal().name_files("/warm").into_iter().map(Target::View));
        Ok(())
    }

    fn undo(&mut self) -> Result<(), MountError> {
        if let Some(workspace) = self.workspace.take() {
            workspace.close();
            workspace.gate.wait_until_empty();
        }
        let mut first = Ok(());
        while let Some(target) = self.targets.pop() {
            first = first.and(match target {
                Target::Disk(path) => mounts::unmount(path, UnmountFlags::empty()),
                Target::View(path) => mounts::unmount(&path, UnmountFlags::DETACH),
            });
        }
        first
    }
}

fn walk(tree: &Path) {
    let mut folders = vec![tree.to_owned()];
    let mut left = WALK_MAX_ENTRIES;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Some(next) = left.checked_sub(1) else { return };
            left = next;
            if entry.metadata().is_ok_and(|metadata| metadata.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
}
