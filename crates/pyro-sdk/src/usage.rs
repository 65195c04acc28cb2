//! What machines take of the host right now. Read from the registry and from `/proc`, never from a supervisor: one that does not answer
//! does not hold this up.

use std::{path::Path, time::Instant};

use pyro_store::MachineRecord;

use crate::{Pyro, error::Result};

/// Ticks of a process's clock in a second. The kernel's `USER_HZ`, part of its interface to programs, is 100 on this architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processor time of one process, up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProcessTime {
    pid: u32,
    /// When it was started, in ticks: a process id is used again, this together with it is not.
    started: u64,
    ticks: u64,
}

/// What one machine, its supervisor included, has used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineUsage {
    /// Id of its workspace; a standby machine has none.
    pub workspace_id: Option<String>,
    /// Bytes of the host's memory. Only of a standby machine: a workspace's status tells its own.
    pub memory_bytes: Option<u64>,
    processes: Vec<ProcessTime>,
}

/// What all machines use and what the host has, at one moment.
#[derive(Debug, Clone)]
pub struct HostUsage {
    /// When this was read.
    pub at: Instant,
    /// The machines, oldest first.
    pub machines: Vec<MachineUsage>,
    /// Processors of the host.
    pub cpu_count: u64,
    /// Memory of the host.
    pub memory_total_bytes: u64,
    /// Memory programs can still have.
    pub memory_available_bytes: u64,
    /// Bytes left where Pyro keeps its disks.
    pub disk_free_bytes: u64,
}

impl HostUsage {
    /// Returns how many machines wait for a workspace.
    #[must_use]
    pub fn standby_count(&self) -> usize {
        self.machines.iter().filter(|machine| machine.workspace_id.is_none()).count()
    }

    /// Returns the processor time all machines used since an earlier look, in percent of one processor.
    #[must_use]
    pub fn cpu_percent_since(&self, earlier: &Self) -> Option<f64> {
        self.percent(earlier, |_| true)
    }

    /// Returns the processor time a workspace's machine used since an earlier look, in percent of one processor; none when it had no machine
    /// in one of the two.
    #[must_use]
    pub fn workspace_cpu_percent_since(&self, earlier: &Self, workspace_id: &str) -> Option<f64> {
        self.percent(earlier, |machine| machine.workspace_id.as_deref() == Some(workspace_id))
    }

    fn percent(&self, earlier: &Self, counts: impl Fn(&MachineUsage) -> bool) -> Option<f64> {
        let seconds = self.at.checked_duration_since(earlier.at)?.as_secs_f64();
        let before: Vec<&ProcessTime> = earlier.machines.iter().flat_map(|machine| &machine.processes).collect();
        let used = self.machines.iter().filter(|machine| counts(machine)).flat_map(|machine| &machine.processes).filter_map(|now| {
            let then = before.iter().find(|then| (then.pid, then.started) == (now.pid, now.started))?;
            now.ticks.checked_sub(then.ticks)
        });
        let (count, ticks) = used.fold((0, 0), |(count, sum), ticks| (count + 1, sum + ticks));
        (count > 0 && seconds > 0.0).then(|| ticks as f64 / TICKS_PER_SECOND / seconds * 100.0)
    }
}

impl Pyro {
    /// Returns what the machines use now.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub async fn usage(&self) -> Result<HostUsage> {
        self.store(|pyro, registry| {
            let machines = registry.machines()?.iter().map(measure).collect();
            let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
            Ok(HostUsage {
                at: Instant::now(),
                machines,
                cpu_count: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
                memory_total_bytes: kibibytes(&memory, "MemTotal:"),
                memory_available_bytes: kibibytes(&memory, "MemAvailable:"),
                disk_free_bytes: free_bytes(&pyro.dirs().data),
            })
        })
        .await
    }
}

fn measure(machine: &MachineRecord) -> MachineUsage {
    let pids: Vec<u32> = [machine.pid, machine.machine_pid].into_iter().flatten().collect();
    MachineUsage {
        workspace_id: machine.workspace.as_ref().map(ToString::to_string),
        memory_bytes: machine.workspace.is_none().then(|| pids.iter().map(|pid| proportional_set_bytes(*pid)).sum()),
        processes: pids.into_iter().filter_map(process_time).collect(),
    }
}

fn process_time(pid: u32) -> Option<ProcessTime> {
    parse_stat(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a process's times: fields 14, 15 and 22 of proc_pid_stat(5). The second may hold spaces and brackets, so counting begins after it.
fn parse_stat(pid: u32, text: &str) -> Option<ProcessTime> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(ProcessTime { pid, started: number(22)?, ticks: number(14)? + number(15)? })
}

fn proportional_set_bytes(pid: u32) -> u64 {
    kibibytes(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(), "Pss:")
}

/// Returns the number of a line `NAME  NUMBER kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> u64 {
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |status| status.f_bavail * status.f_frsize)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn look(at: Instant, processes: &[(Option<&str>, u32, u64, u64)]) -> HostUsage {
        let machine = |&(workspace, pid, started, ticks): &(Option<&str>, u32, u64, u64)| MachineUsage {
            workspace_id: workspace.map(ToOwned::to_owned),
            memory_bytes: None,
            processes: vec![ProcessTime { pid, started, ticks }],
        };
        HostUsage {
            at,
            machines: processes.iter().map(machine).collect(),
            cpu_count: 2,
            memory_total_bytes: 0,
            memory_available_bytes: 0,
            disk_free_bytes: 0,
        }
    }

    #[test]
    fn processor_time_is_that_between_two_looks_at_the_same_processes() {
        let start = Instant::now();
        let before = look(start, &[(Some("a"), 10, 1, 500), (Some("b"), 11, 1, 70), (None, 12, 1, 0)]);
        let after = look(start + Duration::from_secs(2), &[(Some("a"), 10, 1, 600), (Some("b"), 11, 9, 900), (None, 12, 1, 100)]);
        assert_eq!(after.workspace_cpu_percent_since(&before, "a"), Some(50.0));
        // Another process has the same number by now.
        assert_eq!(after.workspace_cpu_percent_since(&before, "b"), None);
        assert_eq!(after.workspace_cpu_percent_since(&before, "c"), None);
        assert_eq!(after.cpu_percent_since(&before), Some(100.0));
        assert_eq!((after.cpu_percent_since(&after), after.standby_count()), (None, 1));
    }

    #[test]
    fn times_of_a_process_are_found_whatever_it_is_called() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 31 11 0 0 20 0 1 0 4242 1 1";
        assert_eq!(parse_stat(7, text), Some(ProcessTime { pid: 7, started: 4242, ticks: 42 }));
        assert_eq!(parse_stat(7, "7 (cut off) S 1"), None);
        assert!(process_time(std::process::id()).is_some());
    }

    #[test]
    fn sizes_of_the_kernel_are_read() {
        assert_eq!(kibibytes("MemTotal:       16 kB\nMemAvailable: 8 kB\n", "MemAvailable:"), 8192);
        assert_eq!(kibibytes("nothing", "MemTotal:"), 0);
    }
}
