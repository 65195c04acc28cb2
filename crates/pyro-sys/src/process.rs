//! Priorities of process groups.

/// Sets the nice value of every thread of a process group: setpriority(2) with `PRIO_PROCESS` reaches one thread only on Linux, with
/// `PRIO_PGRP` it reaches all.
///
/// # Errors
/// The caller may not, as an unprivileged one may not raise a priority.
pub fn set_group_priority(group: u32, nice: i32) -> std::io::Result<()> {
    // SAFETY: takes numbers only (setpriority(2)).
    let result = unsafe { libc::setpriority(libc::PRIO_PGRP, group, nice) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
