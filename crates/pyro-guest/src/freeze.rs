//! Gets the machine ready to be frozen: what a first command needs is in memory, and nothing of the writable disks is.
//!
//! Nothing secret or unique may come into being here, since every machine of this shape will be a copy.

use std::fs::File;
use std::io::Read as _;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::exec::Executor;
use crate::log;
use crate::mounts::{Disks, ENVIRONMENT};
use crate::warm::run;

/// What nearly every program of a Debian system maps.
const SHARED: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"];
/// Where a program named without a slash is looked for.
const FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Reads and runs `programs` in the environment, then drops the writable disks from the buffer cache.
pub(crate) async fn prepare(disks: &Disks, executor: &Executor, programs: &[String]) {
    SHARED.iter().copied().for_each(read);
    let within = executor.within(ENVIRONMENT);
    for program in programs {
        match program.split_ascii_whitespace().next() {
            Some(path) if path.contains('/') => read(path),
            Some(name) => FOLDERS.iter().for_each(|folder| read(&format!("{folder}/{name}"))),
            None => {}
        }
        run(&within, program).await;
    }
    for device in disks.writable() {
        if let Err(error) = File::open(device).and_then(|disk| pyro_sys::device::flush_block_buffers(&disk)) {
            log::line(&format!("cannot flush the buffers of `{device}`: {error}"));
        }
    }
}

/// Reads a file of the environment into the page cache, if it is there.
fn read(path: &str) {
    let Ok(root) = crate::mounts::handle(ENVIRONMENT) else { return };
    // Links in the image mean the image, whatever they point at.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let Ok(mut file) = file.map(File::from) else { return };
    let mut piece = vec![0; 64 << 10];
    while matches!(file.read(&mut piece), Ok(count) if count > 0) {}
}
