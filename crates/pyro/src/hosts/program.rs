//! Programs on this machine: is it there, where, which version.

use std::{
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use super::Surroundings;

/// How long a program may take to say its version. Some start a JavaScript engine first, which on a busy machine takes seconds.
const VERSION_DEADLINE: Duration = Duration::from_secs(15);
/// No version is longer.
const VERSION_BYTES: u64 = 4096;

/// Finds the first of these programs on `PATH`.
pub(super) fn find(names: &[&str], surroundings: &Surroundings) -> Option<PathBuf> {
    let path = surroundings.variable("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|file| is_executable(file))
}

/// Tells whether a file is one that can be started.
pub(super) fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Tells whether two paths lead to the same file.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one == other || matches!((std::fs::canonicalize(one), std::fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// Asks a program for its version, and returns the first line that holds a digit.
pub(super) fn version(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running::start(&mut command).ok()?;
    let stdout = running.child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        drop(stdout.take(VERSION_BYTES).read_to_end(&mut text));
        drop(sender.send(String::from_utf8_lossy(&text).into_owned()));
    });
    let text = receiver.recv_timeout(VERSION_DEADLINE).ok()?;
    text.lines().map(str::trim).find(|line| line.contains(|character: char| character.is_ascii_digit())).map(ToOwned::to_owned)
}

/// A started program in a group of its own, which ends with this value: all of the group is killed, and the program is waited for.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
}

impl Running {
    pub(super) fn start(command: &mut Command) -> std::io::Result<Self> {
        Ok(Self { child: command.process_group(0).spawn()? })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It fails when all of them have ended by themselves.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        drop(self.child.wait());
    }
}
