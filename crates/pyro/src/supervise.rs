//! The hidden words of the binary: a machine's supervisor, and the step between it and QEMU. The only use of `pyro-host`.

use std::process::ExitCode;

/// Runs a machine's supervisor until the machine ends. Its stderr is its log.
#[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file; the renderer is for people")]
pub(crate) fn supervise(arguments: &str) -> ExitCode {
    match pyro_host::supervise(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("supervisor: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Contains this process and becomes QEMU; returns only when that failed, and says why to the supervisor that reads its stderr.
#[expect(clippy::print_stderr, reason = "the supervisor reads it as the machine's last words")]
pub(crate) fn machine(arguments: &str) -> ExitCode {
    eprintln!("{}", pyro_host::become_machine(arguments));
    ExitCode::FAILURE
}
