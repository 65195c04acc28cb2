//! Answers as people read them.

use pyro_sdk::contract::{
    Check, CheckStatus, CommandEntry, CommandState, DiskUse, EnvironmentAnswer, EnvironmentListAnswer, LogsAnswer, PrunedItem, Secret,
    WorkspaceList, WorkspaceSeed, WorkspaceStatus,
};

use super::{
    plain::plain,
    processes::{published, services_in_brief},
    table::{bytes, columns, duration, fields},
};

/// Longest command line shown in a list.
const COMMAND_MAX_CHARS: usize = 60;

pub(crate) fn command_line(command: &[String]) -> String {
    let mut text = plain(&command.join(" "));
    if text.chars().count() > COMMAND_MAX_CHARS {
        text = text.chars().take(COMMAND_MAX_CHARS - 1).collect();
        text.push('…');
    }
    text
}

fn ending(entry: &CommandEntry) -> String {
    match (entry.state, entry.exit_code) {
        (CommandState::Running, _) => "running".to_owned(),
        (CommandState::Exited, Some(_)) if entry.timed_out => "timed out".to_owned(),
        (CommandState::Exited, Some(code)) => format!("exit {code}"),
        (CommandState::Exited, None) => entry.failure.as_deref().map_or_else(|| "lost".to_owned(), plain),
    }
}

fn labels(status: &WorkspaceStatus) -> String {
    status.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

pub(crate) fn workspaces(list: &WorkspaceList) -> String {
    if list.workspaces.is_empty() {
        return String::new();
    }
    let mut rows = vec![["ID", "NAME", "STATE", "ENVIRONMENT", "COMMANDS", "LAST ACTIVITY", "LABELS"].map(ToOwned::to_owned).to_vec()];
    rows.extend(list.workspaces.iter().map(|status| {
        vec![
            status.workspace_id.clone(),
            status.name.clone().unwrap_or_else(|| "-".to_owned()),
            status.state.as_str().to_owned(),
            status.environment.clone(),
            status.command_count.to_string(),
            status.last_activity_at.clone(),
            labels(status),
        ]
    }));
    columns(&rows)
}

fn seed(seed: &WorkspaceSeed) -> Option<String> {
    let path = seed.seed_path.as_ref()?;
    let commit = seed.origin_ref.as_ref().map(|commit| format!(" at {}", plain(&commit.chars().take(12).collect::<String>())));
    let amount = format!("{} entries, {}", seed.entry_count, bytes(seed.bytes_written));
    Some(format!("{} ({}{}), {amount}", plain(path), seed.origin_kind, commit.unwrap_or_default()))
}

pub(crate) fn workspace(status: &WorkspaceStatus) -> String {
    let last =
        status.last_command.as_ref().map(|entry| format!("#{} {} ({})", entry.sequence, command_line(&entry.command), ending(entry)));
    let running = match status.running_command_count {
        0 => String::new(),
        count => format!(", {count} running"),
    };
    fields(&[
        ("workspace", Some(status.workspace_id.clone())),
        ("name", status.name.clone()),
        ("labels", Some(labels(status)).filter(|labels| !labels.is_empty())),
        ("state", Some(status.state.as_str().to_owned())),
        ("stopped because", status.stop_reason.as_deref().map(plain)),
        ("paused because", status.host_disk_full.then(|| "the host's disk is full".to_owned())),
        ("environment", Some(status.environment.clone())),
        ("seed", seed(&status.workspace_seed)),
        ("runs on", Some(format!("{} vCPU, {} MiB, {}", status.vcpu_count, status.mem_mib, status.accelerator))),
        ("network", Some(status.network_policy.as_str().to_owned())),
        ("secrets", secrets(&status.secrets, &status.secrets_unavailable)),
        (
            "disk",
            Some(format!(
                "{} used; at most {} GiB in `/workspace` and {} GiB of packages",
                bytes(status.disk_used_bytes),
                status.disk_gib,
                status.root_disk_gib
            )),
        ),
        ("host memory", status.memory_used_bytes.map(bytes)),
        ("commands", Some(format!("{}{running}", status.command_count))),
        ("last command", last),
        ("shells", (status.open_shell_count > 0).then(|| format!("{} open", status.open_shell_count))),
        ("services", services_in_brief(&status.services)),
        ("ports", published(&status.published_ports)),
        ("created", Some(status.created_at.clone())),
        ("last activity", Some(status.last_activity_at.clone())),
        ("expires", status.expires_at.clone()),
    ])
}

pub(crate) fn environments(list: &EnvironmentListAnswer) -> String {
    let mut rows = vec![["ENVIRONMENT", "BUILT", "SIZE", "WORKSPACES", "DESCRIPTION"].map(ToOwned::to_owned).to_vec()];
    rows.extend(list.environments.iter().map(|environment| {
        vec![
            environment.environment.clone(),
            environment.created_at.clone().unwrap_or_else(|| "no".to_owned()),
            environment.size_bytes.map_or_else(|| "-".to_owned(), bytes),
            environment.workspace_count.to_string(),
            environment.description.clone(),
        ]
    }));
    columns(&rows)
}

pub(crate) fn environment(answer: &EnvironmentAnswer) -> String {
    fields(&[
        ("environment", Some(answer.environment.clone())),
        ("description", Some(answer.description.clone())),
        ("digest", answer.digest.clone()),
        ("built", answer.created_at.clone()),
        ("on disk", answer.size_bytes.map(bytes)),
        ("files", answer.content_bytes.map(bytes)),
        ("packages", answer.package_count.map(|count| count.to_string())),
        ("kernel", answer.kernel_version.clone()),
        ("folder", answer.folder.clone()),
        ("workspaces", Some(answer.workspace_count.to_string())),
    ])
}

/// Tells names, and what is particular about them.
fn secrets(secrets: &[Secret], unavailable: &[String]) -> Option<String> {
    let one = |secret: &Secret| {
        let mut about = vec![secret.source_kind.clone()];
        about.extend((!secret.hosts.is_empty()).then(|| format!("sent to {}", secret.hosts.join(" "))));
        about.extend(unavailable.contains(&secret.name).then(|| "to be given again".to_owned()));
        format!("{} ({})", secret.name, about.join(", "))
    };
    (!secrets.is_empty()).then(|| secrets.iter().map(one).collect::<Vec<_>>().join(", "))
}

pub(crate) fn journal(answer: &LogsAnswer) -> String {
    let rows: Vec<Vec<String>> = answer
        .commands
        .iter()
        .map(|entry| {
            vec![
                format!("#{}", entry.sequence),
                entry.started_at.clone(),
                ending(entry),
                entry.duration_ms.map(duration).unwrap_or_default(),
                plain(&entry.cwd),
                command_line(&entry.command),
            ]
        })
        .collect();
    columns(&rows)
}

pub(crate) fn pruned(dry_run: bool, removed: &[PrunedItem], freed_bytes: u64) -> String {
    let rows: Vec<Vec<String>> =
        removed.iter().map(|item| vec![item.kind.clone(), item.name.clone().unwrap_or_default(), bytes(item.size_bytes)]).collect();
    let verb = if dry_run { "would free" } else { "freed" };
    format!("{}{verb} {}\n", columns(&rows), bytes(freed_bytes))
}

pub(crate) fn disk_use(answer: &DiskUse) -> String {
    let mut rows = vec![["KIND", "SIZE", "SHARED", "NAME", "USED BY"].map(ToOwned::to_owned).to_vec()];
    rows.extend(answer.items.iter().map(|item| {
        let shared = if item.shared { "yes" } else { "no" };
        vec![item.kind.clone(), bytes(item.size_bytes), shared.to_owned(), item.name.clone(), item.used_by.join(" ")]
    }));
    let orphans = match answer.orphan_count {
        0 => String::new(),
        count => format!("; {count} more belong to no workspace, `pyro system prune` ends them"),
    };
    format!(
        "{}{} in all, {} of it can be freed; {} machines, {} of them standby{orphans}\n",
        columns(&rows),
        bytes(answer.total_bytes),
        bytes(answer.reclaimable_bytes),
        answer.machine_count,
        answer.standby_count
    )
}

pub(crate) fn check_lines(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let status = match check.status {
            CheckStatus::Ok => "ok  ",
            CheckStatus::Warn => "warn",
            CheckStatus::Fail => "FAIL",
        };
        text.push_str(&format!("{status}  {}: {}\n", check.name, plain(&check.detail)));
        if let Some(fix) = &check.fix {
            text.push_str(&format!("      fix: {fix}\n"));
        }
    }
    text
}

pub(crate) fn settings(values: &[pyro_sdk::config::Configured]) -> String {
    let mut rows = vec![["SETTING", "VALUE", "ORIGIN"].map(ToOwned::to_owned).to_vec()];
    rows.extend(values.iter().map(|value| vec![value.key.to_owned(), value.value.clone(), value.origin.to_string()]));
    columns(&rows)
}
