//! What signals do to this process.

/// Lets a signal do again what it does to a program that has no handler, whatever handler was installed before.
///
/// # Errors
/// There is no such signal, or it cannot be handled.
pub fn restore_default(signal: i32) -> std::io::Result<()> {
    // SAFETY: takes numbers only, and the default action runs no code of this process (signal(2)). A handler that was installed is not
    // freed by whoever did that, it is only not called any more.
    let result = unsafe { libc::signal(signal, libc::SIG_DFL) };
    if result == libc::SIG_ERR { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Tells whether this process ignores a signal, as `nohup` and shells without job control have their children do.
///
/// # Errors
/// There is no such signal.
pub fn is_ignored(signal: i32) -> std::io::Result<bool> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only (sigaction(2)): the kernel writes the whole action if it returns 0, and reads none.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: it was written.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_told_from_others() {
        // Rust's runtime ignores it before `main`.
        assert!(is_ignored(libc::SIGPIPE).expect("a signal"));
        assert!(!is_ignored(libc::SIGWINCH).expect("a signal"));
        assert!(is_ignored(10_000).is_err());
    }
}
