//! Does on the scratch disk what a workspace will do first, so that the code for it is translated before anyone waits for it.
//!
//! Nothing is left behind: every process is ended and every mount undone, also when a step fails.

use std::ffi::{CStr, CString};
use std::path::Path;

use pyro_proto::v1::{ExecStart, exec_output};
use rustix::mount::UnmountFlags;

use crate::attach::Attachment;
use crate::exec::{Executor, NoInputs};
use crate::log;
use crate::mounts::{self, Disks, MountError, SCRATCH, WARM};
use crate::shutdown;

/// How long one program may take; Python's first start takes a second under translation on a busy host.
const PROGRAM_TIMEOUT_MS: u64 = 20_000;
/// Trees walked, the first that is there, and how far: enough to translate the path, not to fill the cache.
const TREES: [&str; 2] = ["/warm/usr/lib/python3", "/warm/usr/share"];
const WALK_MAX_ENTRIES: usize = 500;

/// Runs `programs` in an overlay on the scratch disk, walks a tree of it and unmounts everything.
pub(crate) async fn warm(disks: &Disks, executor: &Executor, programs: &[String]) -> Result<(), MountError> {
    let scratch = disks.scratch()?;
    if let Err(error) = Attachment::rehearsal().wake() {
        log::failure(&error);
    }
    let mut mounted = Mounted::default();
    let prepared = mounted.mount(scratch);
    if prepared.is_ok() {
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
    prepared.and(undone)?;
    // Once more: the second time is what the workspace's mounts will be like.
    let prepared = mounted.mount(scratch);
    let undone = mounted.undo();
    prepared.and(undone)
}

/// Runs one program, given as words with spaces between, through the same code as every command; its fate does not matter.
pub(crate) async fn run(executor: &Executor, program: &str) {
    let argv = program.split_ascii_whitespace().map(|word| word.to_owned().into()).collect();
    let start = ExecStart { argv, timeout_ms: PROGRAM_TIMEOUT_MS, ..ExecStart::default() };
    let Ok(mut outputs) = executor.run(&start, NoInputs) else { return };
    while let Some(Ok(output)) = outputs.recv().await {
        if let Some(exec_output::Output::Exit(_)) = output.output {
            return;
        }
    }
}

/// What is mounted at the moment, innermost last.
#[derive(Debug, Default)]
struct Mounted(Vec<Target>);

#[derive(Debug)]
enum Target {
    /// A file system of the scratch disk: nothing may be left open on it.
    Disk(&'static CStr),
    /// A view of something that lives on: taken off with the mounts below it.
    View(CString),
}

impl Mounted {
    fn mount(&mut self, device: &str) -> Result<(), MountError> {
        mounts::disk(device, SCRATCH)?;
        self.0.push(Target::Disk(SCRATCH));
        mounts::overlay(SCRATCH, WARM)?;
        self.0.push(Target::Disk(WARM));
        for (source, target) in [(c"/dev", c"/warm/dev"), (c"/proc", c"/warm/proc")] {
            // Programs do without if the image has no such folder.
            if rustix::mount::mount_bind_recursive(source, target).is_ok() {
                self.0.push(Target::View(target.to_owned()));
            }
        }
        self.0.extend(Attachment::rehearsal().name_files("/warm").into_iter().map(Target::View));
        Ok(())
    }

    fn undo(&mut self) -> Result<(), MountError> {
        let mut first = Ok(());
        while let Some(target) = self.0.pop() {
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
