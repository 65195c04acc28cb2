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
