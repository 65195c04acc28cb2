//! The laboratory script's figures for a bare restore, printed as they come: what is left of them in a product is the section above.

use std::time::Duration;

use super::Bench;
use crate::{bed, command::command, report::Report};

/// Cold boot, five clones and five forks take half a minute on a quiet host.
const DEADLINE: Duration = Duration::from_secs(300);
const CLONES: &str = "5";

pub(super) async fn show(bench: &Bench, report: &mut Report) {
    report.line("\nlab/restore.py: a bare guest restored by a script, for comparison");
    match run(bench).await {
        Ok(text) => text.lines().for_each(|line| report.line(&format!("  {line}"))),
        Err(reason) => report.line(&format!("  skipped: {reason}")),
    }
}

async fn run(bench: &Bench) -> Result<String, String> {
    let script = bed::repository().join("../shared/lab/restore.py");
    if !script.is_file() {
        return Err(format!("`{}` is not there", script.display()));
    }
    if !rustix::process::geteuid().is_root() {
        return Err("it needs root".to_owned());
    }
    for program in ["python3", "gcc", "cpio", "busybox"] {
        if command(&[program, "--help"]).output().await.is_err() {
            return Err(format!("`{program}` is not installed"));
        }
    }
    let mut command = command(&["python3"]);
    // Its working folder goes with the run's, also when it fails half-way.
    command.arg(&script).arg(CLONES).env("TMPDIR", &bench.run);
    let output = tokio::time::timeout(DEADLINE, command.output()).await.map_err(|_| "it took more than five minutes".to_owned())?;
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("it failed: {}", text.lines().next_back().unwrap_or("no message")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
