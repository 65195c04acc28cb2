//! Tells whether a shell waits for somebody to type: which call it sleeps in, and whether its terminal is what it waits for.
//!
//! The kernel shows the call with its arguments in `/proc/PID/syscall` and the lists they point at in `/proc/PID/mem`. Looking at the
//! descriptors is what tells a prompt from `x=$(sleep 5)`, where the shell sleeps in a read as well, but of a pipe. Whatever cannot be
//! read is no prompt.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::process::Pid;

/// Calls of x86-64 (`asm/unistd_64.h`), the only machine there are guests for.
const READ: u64 = 0;
const POLL: u64 = 7;
const SELECT: u64 = 23;
const PSELECT6: u64 = 270;
const PPOLL: u64 = 271;

/// Most descriptors of a list that are looked at; shells wait for one or two.
const LIST_MAX: u64 = 64;
/// `struct pollfd` of poll(2): descriptor, asked for, found.
const POLLFD_BYTES: usize = 8;
const POLLIN: u16 = 1;
/// `/dev/tty`, the name every process has for its own terminal: character device 5:0.
const OWN_TERMINAL: u64 = 5 << 8;

/// Whether the process sleeps until there is input at the terminal, its own, whose device has the number `device`.
pub(crate) fn awaits_input(pid: Pid, device: u64) -> bool {
    let process = format!("/proc/{pid}");
    awaited(&process).is_some_and(|descriptors| descriptors.into_iter().any(|descriptor| is_terminal(&process, descriptor, device)))
}

/// Returns the descriptors whose input the process sleeps for.
fn awaited(process: &str) -> Option<Vec<u32>> {
    // "running", or number, six arguments, stack pointer and program counter.
    let text = std::fs::read_to_string(format!("{process}/syscall")).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let number: u64 = fields.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let (first, second) = (argument()?, argument()?);
    match number {
        READ => Some(vec![u32::try_from(first).ok()?]),
        SELECT | PSELECT6 => {
            let mut set = [0; size_of::<u64>()];
            memory(process)?.read_exact_at(&mut set, second).ok()?;
            let set = u64::from_le_bytes(set);
            Some((0..first.min(LIST_MAX)).filter(|bit| set >> bit & 1 == 1).filter_map(|bit| u32::try_from(bit).ok()).collect())
        }
        POLL | PPOLL => {
            let mut list = vec![0; usize::try_from(second.min(LIST_MAX)).ok()? * POLLFD_BYTES];
            memory(process)?.read_exact_at(&mut list, first).ok()?;
            Some(list.chunks_exact(POLLFD_BYTES).filter_map(polled).collect())
        }
        _ => None,
    }
}

/// Returns the descriptor of an entry that asks for input.
fn polled(entry: &[u8]) -> Option<u32> {
    let (descriptor, rest) = entry.split_first_chunk::<4>()?;
    let (events, _) = rest.split_first_chunk::<2>()?;
    // Negative: left out of the poll.
    let descriptor = u32::try_from(i32::from_le_bytes(*descriptor)).ok()?;
    (u16::from_le_bytes(*events) & POLLIN != 0).then_some(descriptor)
}

fn memory(process: &str) -> Option<File> {
    File::open(format!("{process}/mem")).ok()
}

fn is_terminal(process: &str, descriptor: u32, device: u64) -> bool {
    rustix::fs::stat(format!("{process}/fd/{descriptor}")).is_ok_and(|status| [device, OWN_TERMINAL].contains(&status.st_rdev))
}
