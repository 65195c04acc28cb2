//! Commands as a shell user would run them, timed from their start to their end.

use std::{
    ffi::OsStr,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// No command here takes more than seconds; one that hangs is a peer that does not work on this host.
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns a command that reads nothing.
pub(crate) fn command<S: AsRef<OsStr>>(argv: &[S]) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command to its end and returns how long that took, in milliseconds, and what it printed.
pub(crate) async fn time(mut command: Command) -> Result<(f64, Output)> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let output = tokio::time::timeout(DEADLINE, command.output())
        .await
        .with_context(|| format!("`{name}` did not end within {} s", DEADLINE.as_secs()))?
        .with_context(|| format!("cannot start `{name}`"))?;
    let elapsed = milliseconds(started.elapsed());
    if !output.status.success() {
        bail!("`{name}`: {}: {}", output.status, last_line(&output.stderr));
    }
    Ok((elapsed, output))
}

/// Runs a command whose children stay and keep its streams: nothing of them is read.
pub(crate) async fn detach(mut command: Command) -> Result<()> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let status = tokio::time::timeout(DEADLINE, command.stdout(Stdio::null()).stderr(Stdio::null()).status())
        .await
        .with_context(|| format!("`{name}` did not end within {} s", DEADLINE.as_secs()))?
        .with_context(|| format!("cannot start `{name}`"))?;
    if !status.success() {
        bail!("`{name}`: {status}");
    }
    Ok(())
}

/// Returns a duration in milliseconds, to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
    line.chars().filter(|character| !character.is_control()).take(160).collect()
}
