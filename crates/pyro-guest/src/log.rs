//! Short lines for the kernel's log, which reaches the console the host keeps. Nothing here can fail the caller.

use std::fs::File;
use std::io::Write as _;
use std::sync::OnceLock;

static KERNEL_LOG: OnceLock<File> = OnceLock::new();

/// Opens the kernel's log; lines written before are lost.
pub(crate) fn open() {
    if let Ok(file) = File::options().write(true).open("/dev/kmsg") {
        let _ = KERNEL_LOG.set(file);
    }
}

/// Writes one line with the level of a notice.
pub(crate) fn line(message: &str) {
    if let Some(mut log) = KERNEL_LOG.get() {
        // One write is one record; the kernel cuts what is too long for it.
        let _ = log.write_all(format!("<5>pyro-guest: {message}\n").as_bytes());
    }
}

/// Writes one line for an error and its causes.
pub(crate) fn failure(error: &dyn std::error::Error) {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    line(&message);
}
