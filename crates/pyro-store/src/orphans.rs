//! Supervisors that no row of the registry knows: what a lost registry, a folder removed by hand or a fault of ours leaves running. They show
//! in no list of workspaces, so they are looked for where nothing hides: in the table of processes.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{Dirs, MachineId, ProcessIdentity, Registry, StoreResult, SupervisorArguments};

/// Longest command line of a process that is read.
const ARGUMENTS_MAX_BYTES: u64 = 1 << 20;

/// A supervisor that no row knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The machine it was started for.
    pub machine: MachineId,
    /// Its process.
    pub process: ProcessIdentity,
    /// The folder it was given for its socket.
    folder: PathBuf,
}

impl Orphan {
    /// Ends it, its machine with it, and removes its folder; returns whether it was there to be ended.
    #[must_use]
    pub fn end(&self) -> bool {
        let ended = self.process.kill();
        // What cannot be removed now is a remnant, which every client looks for.
        drop(std::fs::remove_dir_all(&self.folder));
        ended
    }
}

/// Finds supervisors of this installation that no row knows. One that is just ending has no row either: whoever acts on this looks twice.
///
/// # Errors
/// The registry cannot be read.
pub fn orphans(dirs: &Dirs, registry: &Registry) -> StoreResult<Vec<Orphan>> {
    let mut found: Vec<Orphan> = processes().filter_map(|pid| supervisor(dirs, pid)).collect();
    if found.is_empty() {
        return Ok(found);
    }
    // Asked afterwards: a row is there before its process is.
    let known = registry.machines()?;
    found.retain(|orphan| !known.iter().any(|machine| machine.id == orphan.machine));
    Ok(found)
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns what a process supervises, if it is a supervisor of this installation.
fn supervisor(dirs: &Dirs, pid: u32) -> Option<Orphan> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(format!("/proc/{pid}/cmdline")).ok()?.take(ARGUMENTS_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let mut arguments = bytes.split(|byte| *byte == 0);
    let (_, word, argument) = (arguments.next()?, arguments.next()?, arguments.next()?);
    if word != b"__supervise" {
        return None;
    }
    let arguments: SupervisorArguments = serde_json::from_slice(argument).ok()?;
    if !is_same(&arguments.dirs.registry(), &dirs.registry()) {
        return None;
    }
    let folder = arguments.dirs.machine(&arguments.machine);
    Some(Orphan { machine: arguments.machine, process: ProcessIdentity::of(pid)?, folder })
}

/// Tells whether two paths name one file; one that is gone is known by its name.
fn is_same(one: &Path, other: &Path) -> bool {
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewMachine, Settings, registry::tests::shape};

    #[test]
    fn a_supervisor_without_a_row_is_found_and_can_be_ended() {
        let home = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(home.path());
        let mut registry = Registry::open(&dirs).expect("opens");
        let arguments =
            SupervisorArguments { machine: MachineId::random(), dirs: dirs.clone(), settings: Settings::default(), resume: None };
        let text = serde_json::to_string(&arguments).expect("serialises");
        // Programs that wait: what they are given as arguments is all that is looked at.
        let program = home.path().join("__supervise");
        std::fs::write(&program, "read line").expect("writable");
        let start = |arguments: &[&str]| {
            let mut command = std::process::Command::new("sh");
            command.current_dir(home.path()).args(arguments).stdin(std::process::Stdio::piped());
            command.spawn().expect("starts")
        };
        let mut other = start(&["-c", "read line", "__supervise", &text]);
        assert_eq!(orphans(&dirs, &registry).expect("looks"), [], "the word is not where a supervisor has it");
        drop(other.kill());
        drop(other.wait());
        let mut process = start(&["__supervise", &text]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // A program is started before the kernel shows its arguments.
        let found = loop {
            let found = orphans(&dirs, &registry).expect("looks");
            if !found.is_empty() || std::time::Instant::now() > deadline {
                break found;
            }
            std::thread::yield_now();
        };
        assert_eq!(found.iter().map(|orphan| &orphan.machine).collect::<Vec<_>>(), [&arguments.machine]);
        let machine = NewMachine { id: arguments.machine, shape: shape(), role: crate::MachineRole::Standby, tenure: None };
        registry.insert_machine(&machine, &dirs.machine(&machine.id), 1).expect("free");
        assert_eq!(orphans(&dirs, &registry).expect("looks"), []);
        registry.remove_machine(&machine.id).expect("removes");
        assert!(found[0].end());
        drop(process.wait());
        assert_eq!(orphans(&dirs, &registry).expect("looks"), []);
    }
}
