//! Descriptors a process was started with.

use std::os::fd::{FromRawFd as _, OwnedFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Marks every descriptor from `first` on close-on-exec, so that what a careless caller left open reaches no program started from here.
///
/// # Errors
/// The kernel is older than 5.11.
pub fn keep_from_children(first: u32) -> std::io::Result<()> {
    // SAFETY: takes numbers only and closes nothing (close_range(2), CLOSE_RANGE_CLOEXEC); no descriptor's owner is affected.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Takes over a descriptor inherited under a known number.
///
/// Sound although it is safe: everything Rust's standard library and rustix open is close-on-exec, an inherited descriptor never is, and
/// taking one over marks it. So a number that somebody in this process owns is refused, and so is taking one twice.
///
/// # Errors
/// Nothing was inherited under this number, or it is owned already.
pub fn take_inherited(number: i32) -> std::io::Result<OwnedFd> {
    if number <= 2 {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: borrowed for the two calls below only, which report an unused number as an error.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    if fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(std::io::ErrorKind::AlreadyExists.into());
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: the number is open, and was not close-on-exec until now, so no `OwnedFd` of this process holds it (see above).
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
