//! Which process a number in the registry means. A number alone means nothing: it is used again, and in another PID namespace it is
//! another process. With the time of its start and the namespace it was counted in, it names one process or none.

use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process, named so that no other is ever taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// Its number, in the namespace of whoever wrote it down.
    pub pid: u32,
    /// When it started, in clock ticks since the host did (proc_pid_stat(5), field 22).
    pub started_ticks: u64,
    /// Inode of the PID namespace.
    pub pid_namespace: u64,
}

impl ProcessIdentity {
    /// Returns the identity of a process of this namespace; `None` when there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started_ticks: started_ticks(pid)?, pid_namespace: own_namespace()? })
    }

    /// Tells whether the process is there; `None` when it cannot be seen from this namespace.
    #[must_use]
    pub fn is_alive(&self) -> Option<bool> {
        (Some(self.pid_namespace) == own_namespace()).then(|| started_ticks(self.pid) == Some(self.started_ticks))
    }

    /// Kills the process and no other; returns whether it was there to be killed.
    #[must_use]
    pub fn kill(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // The descriptor is opened before the look: what it names then can neither end nor be replaced unnoticed.
        let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return false };
        self.is_alive() == Some(true) && pidfd_send_signal(&process, Signal::KILL).is_ok()
    }
}

fn own_namespace() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino())
}

/// Reads when a process started; a zombie has ended.
fn started_ticks(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may hold anything, a closing parenthesis included; what follows the last one is fixed.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_used_again_names_nobody() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("starts");
        let own = ProcessIdentity::of(child.id()).expect("runs");
        assert_eq!(own.is_alive(), Some(true));
        let earlier = ProcessIdentity { started_ticks: own.started_ticks.wrapping_sub(1), ..own };
        assert_eq!((earlier.is_alive(), earlier.kill()), (Some(false), false));
        let elsewhere = ProcessIdentity { pid_namespace: own.pid_namespace + 1, ..own };
        assert_eq!((elsewhere.is_alive(), elsewhere.kill()), (None, false));
        assert_eq!(own.is_alive(), Some(true), "neither was killed for it");
        assert!(own.kill());
        drop(child.wait());
        assert_eq!(own.is_alive(), Some(false));
    }
}
