//! What was done in a workspace, in short: for a person, for a pull request, for the model that did it.

use std::fmt::Write as _;

use pyro_store::{CommandRecord, EventRecord, ServiceRecord, WorkspaceRecord};

use crate::{
    Observer, Pyro,
    client::Reap,
    contract::{CommandEntry, CommandState, DiffItem, ServiceInBrief, ServiceState, Summary, SummaryAnswer},
    diff::{self, Comparison},
    error::Result,
    text::DiffReference,
    time::rfc3339,
};

/// Commands shown, the newest.
const COMMANDS_MAX: usize = 20;
/// Differences shown.
const ENTRIES_MAX: usize = 50;
/// Longest command line shown, in characters.
const COMMAND_MAX_CHARS: usize = 80;
/// What counts as an edit from outside, as the events are called.
const EDITS: [&str; 4] = ["sync_push", "file_write", "file_replace", "patch_apply"];
/// What counts as an export.
const EXPORTS: [&str; 2] = ["export", "apply"];

impl Pyro {
    /// Shows what was done in a workspace since its last reset. Does not count as activity.
    ///
    /// # Errors
    /// There is no such workspace, or its disk cannot be read.
    pub async fn summary(&self, request: Summary, observer: &Observer) -> Result<SummaryAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let since = record.last_reset_at_ms.unwrap_or(record.created_at_ms);
        let id = record.id.clone();
        let done = self
            .store(move |_, registry| {
                Ok(Done {
                    commands: registry.commands(&id, u64::MAX)?,
                    events: registry.events_since(&id, since)?,
                    services: registry.services(&id)?,
                    snapshots: registry.snapshots(&id)?.len() as u64,
                })
            })
            .await?;
        let comparison = workspace.compare(DiffReference::Baseline, request.include_ignored, observer).await?;
        Ok(answer(&record, &done, &comparison))
    }
}

/// What the registry tells of the time since the last reset.
struct Done {
    commands: Vec<CommandRecord>,
    events: Vec<EventRecord>,
    services: Vec<ServiceRecord>,
    snapshots: u64,
}

/// Tells whether an event is a service's end that nobody wished for, whether it was started again or not.
fn is_service_failure(event: &EventRecord) -> bool {
    match event.kind.as_str() {
        "service_restart" => true,
        "service_end" => event.detail["state"] == ServiceState::Failed.as_str(),
        _ => false,
    }
}

fn answer(record: &WorkspaceRecord, done: &Done, comparison: &Comparison) -> SummaryAnswer {
    let report = &comparison.report;
    let Done { commands, events, services, snapshots } = done;
    let count = |kinds: &[&str]| events.iter().filter(|event| kinds.contains(&event.kind.as_str())).count() as u64;
    let failed = commands.iter().filter(|command| command.ended_at_ms.is_some() && command.exit_code != Some(0)).count() as u64;
    let newest = &commands[commands.len().saturating_sub(COMMANDS_MAX)..];
    let mut answer = SummaryAnswer {
        workspace_id: record.id.to_string(),
        name: record.name.as_ref().map(ToString::to_string),
        environment: record.environment.clone(),
        state: record.state.into(),
        since: rfc3339(record.last_reset_at_ms.unwrap_or(record.created_at_ms)),
        command_count: commands.len() as u64,
        failed_command_count: failed,
        commands: newest.iter().map(CommandEntry::from).collect(),
        edit_count: count(&EDITS),
        export_count: count(&EXPORTS),
        snapshot_count: *snapshots,
        shell_count: count(&["shell_open"]),
        service_count: services.len() as u64,
        services: services.iter().map(ServiceInBrief::from).collect(),
        service_failure_count: events.iter().filter(|event| is_service_failure(event)).count() as u64,
        port_count: count(&["port_publish"]),
        diff: diff::summary(report),
        entries: report.entries.iter().take(ENTRIES_MAX).map(diff::item).collect(),
        ignored_count: comparison.ignored_count,
        markdown: String::new(),
    };
    answer.markdown = markdown(&answer).unwrap_or_default();
    answer
}

fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Makes foreign text safe within backticks in a table.
fn code(text: &str) -> String {
    let mut shown: String =
        text.chars().take(COMMAND_MAX_CHARS).map(|character| if character.is_control() { ' ' } else { character }).collect();
    if text.chars().count() > COMMAND_MAX_CHARS {
        shown.push('…');
    }
    // Nothing ends code but a run of backticks as long as the one it began with.
    format!("`{}`", shown.replace('`', "'").replace('|', "\\|"))
}

fn outcome(entry: &CommandEntry) -> String {
    match (entry.state, entry.exit_code) {
        (CommandState::Running, _) => "running".to_owned(),
        (CommandState::Exited, Some(_)) if entry.timed_out => "timed out".to_owned(),
        (CommandState::Exited, Some(0)) => "ok".to_owned(),
        (CommandState::Exited, Some(code)) => format!("exit {code}"),
        (CommandState::Exited, None) => "lost".to_owned(),
    }
}

fn service_outcome(service: &ServiceInBrief) -> String {
    let exit = match (service.state, service.exit_code) {
        (ServiceState::Failed, Some(code)) => format!(", exit {code}"),
        _ => String::new(),
    };
    let restarts = if service.restart_count > 0 { format!(", started again {}×", service.restart_count) } else { String::new() };
    format!("{} ({}{exit}{restarts})", code(&service.service_name), service.state.as_str())
}

fn markdown(answer: &SummaryAnswer) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let name = answer.name.as_ref().unwrap_or(&answer.workspace_id);
    writeln!(text, "## Workspace {} ({})\n", code(name), answer.environment)?;
    let failed = if answer.failed_command_count > 0 { format!(" ({} failed)", answer.failed_command_count) } else { String::new() };
    let mut counts = vec![
        format!("{}{failed}", plural(answer.command_count, "command")),
        plural(answer.edit_count, "edit"),
        plural(answer.export_count, "export"),
        plural(answer.snapshot_count, "snapshot"),
    ];
    // Most workspaces have none of these, and a line about nothing is too long.
    let some = [(answer.shell_count, "shell"), (answer.service_count, "service"), (answer.port_count, "published port")];
    counts.extend(some.iter().filter(|(count, _)| *count > 0).map(|(count, one)| plural(*count, one)));
    writeln!(text, "Since {}: {}.", answer.since, counts.join(", "))?;
    if !answer.services.is_empty() {
        let services: Vec<String> = answer.services.iter().map(service_outcome).collect();
        let failures = match answer.service_failure_count {
            0 => String::new(),
            count => format!(" Services failed {}.", if count == 1 { "once".to_owned() } else { format!("{count} times") }),
        };
        writeln!(text, "\nServices: {}.{failures}", services.join(", "))?;
    }
    if !answer.commands.is_empty() {
        writeln!(text, "\n| # | command | outcome | time |\n|---|---|---|---|")?;
        for entry in &answer.commands {
            let time = entry.duration_ms.map(|milliseconds| format!("{:.1} s", milliseconds / 1000.0)).unwrap_or_default();
            writeln!(text, "| {} | {} | {} | {time} |", entry.sequence, code(&entry.command.join(" ")), outcome(entry))?;
        }
        let left = answer.command_count - answer.commands.len() as u64;
        if left > 0 {
            writeln!(text, "\nand {} before.", plural(left, "command"))?;
        }
    }
    if answer.entries.is_empty() {
        writeln!(text, "\nNothing in `/workspace` has changed.")?;
        return ignored(text, answer.ignored_count);
    }
    writeln!(text, "\n{}: +{} −{} lines.\n", plural(answer.diff.entry_count, "change"), answer.diff.insertions, answer.diff.deletions)?;
    for entry in &answer.entries {
        writeln!(text, "- {}", difference(entry))?;
    }
    let left = answer.diff.entry_count - answer.entries.len() as u64;
    if left > 0 {
        writeln!(text, "- and {left} more")?;
    }
    ignored(text, answer.ignored_count)
}

/// Says how much was left out, if anything was.
fn ignored(mut text: String, count: u64) -> Result<String, std::fmt::Error> {
    if count > 0 {
        writeln!(text, "\nLeft out: {} that the seed's ignore rules ignore.", plural(count, "new file"))?;
    }
    Ok(text)
}

fn difference(entry: &DiffItem) -> String {
    let change = entry.change.replace('_', " ");
    let from = entry.old_path.as_ref().map(|path| format!(" from {}", code(path))).unwrap_or_default();
    let lines = match (entry.insertions, entry.deletions) {
        _ if entry.binary => " (binary)".to_owned(),
        (0, 0) => String::new(),
        (insertions, deletions) => format!(" (+{insertions} −{deletions})"),
    };
    format!("{change} {}{from}{lines}", code(&entry.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_leave_its_cell() {
        assert_eq!(code("a | b `c`\nd"), "`a \\| b 'c' d`");
        assert_eq!(code(&"x".repeat(100)).chars().count(), COMMAND_MAX_CHARS + 3);
    }

    #[test]
    fn services_are_told_with_what_became_of_them() {
        let service = |state, exit_code, restart_count| {
            service_outcome(&ServiceInBrief { service_name: "web".to_owned(), state, exit_code, restart_count })
        };
        assert_eq!(service(ServiceState::Ready, None, 0), "`web` (ready)");
        assert_eq!(service(ServiceState::Failed, Some(3), 4), "`web` (failed, exit 3, started again 4×)");
        assert_eq!(service(ServiceState::Exited, Some(0), 0), "`web` (exited)");
    }

    #[test]
    fn failures_of_services_are_counted_whether_they_were_started_again_or_not() {
        let event = |kind: &str, detail| EventRecord { sequence: 1, at_ms: 0, kind: kind.to_owned(), detail };
        assert!(is_service_failure(&event("service_restart", serde_json::json!({ "exit_code": 1 }))));
        assert!(is_service_failure(&event("service_end", serde_json::json!({ "state": "failed" }))));
        assert!(!is_service_failure(&event("service_end", serde_json::json!({ "state": "stopped" }))));
        assert!(!is_service_failure(&event("service_start", serde_json::json!({}))));
    }
}
