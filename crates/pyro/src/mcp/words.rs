//! What a model is told of tools and fields. The contract's own words are for people at a terminal; these say when to use a tool and when
//! another, and nothing else.
//!
//! A sentence that names a tool in backticks is told only where that tool is in the list, so a smaller profile never points at nothing.

use super::surface::Mode;

/// A tool's description.
struct Tool {
    name: &'static str,
    text: &'static str,
}

const fn tool(name: &'static str, text: &'static str) -> Tool {
    Tool { name, text }
}

const TOOLS: &[Tool] = &[
    tool(
        "vm_run",
        "Run one command in a fresh Linux VM that is thrown away afterwards; returns exit code and output. Runs as root in an empty \
         /workspace, without network. For several steps on the same files use `workspace_create`.",
    ),
    tool("vm_list_environments", "List the environments a VM can start from, and which are built."),
    tool("vm_create", "Create and boot a VM to drive by hand. Prefer `workspace_create`, which also takes files."),
    tool("vm_start", "Boot a stopped VM."),
    tool("vm_exec", "Run a command in a VM. Same as `workspace_exec`."),
    tool("vm_stop", "Shut a VM down; its disks are kept."),
    tool("vm_delete", "Delete a VM and its disks."),
    tool("vm_status", "Show a VM's state and size."),
    tool("vm_network_info", "Show what a VM can reach and which of its ports are published."),
    tool("vm_reap_expired", "Remove VMs whose time is over, and what crashed ones left."),
    tool(
        "workspace_create",
        "Create a workspace: an isolated Linux VM with a /workspace folder that lives until deleted. Use it for any work of more than one \
         command. Delete it when done.",
    ),
    tool("workspace_list", "List workspaces, newest activity first."),
    tool("workspace_status", "Show one workspace: state, last command, expiry, resources."),
    tool("workspace_update", "Change a workspace's name, labels or idle time."),
    tool(
        "workspace_exec",
        "Run a command in a workspace, as root in /workspace. Each call is a new process; pass cwd and env each time. If it answers state \
         \"running\", go on with `workspace_exec_wait` or end it with `workspace_exec_kill`. Servers and watchers belong in `service_start`, \
         interactive programs in `shell_open`.",
    ),
    tool("workspace_exec_wait", "Wait for a command that still runs, and get its result."),
    tool("workspace_exec_kill", "Send a running command a signal."),
    tool("workspace_logs", "Show past commands, or with sequence the output of one, also what an earlier answer left out."),
    tool("workspace_summary", "Summarize what was done since the last reset: commands, edits, diff. Ready for a pull request."),
    tool("workspace_sync_push", "Copy a folder or archive of the host into a workspace."),
    tool("workspace_file_list", "List files of a workspace."),
    tool("workspace_file_read", "Read a text file of a workspace."),
    tool("workspace_file_write", "Write a whole text file. For small edits use `workspace_file_replace`."),
    tool("workspace_file_replace", "Replace an exact piece of text in a file; it must occur once unless all is true."),
    tool("workspace_file_search", "Search text files with a regular expression."),
    tool("workspace_patch_apply", "Apply a unified diff: all of its files or none. For one edit use `workspace_file_replace`."),
    tool("workspace_diff", "Show what changed since the workspace was created, as a patch."),
    tool("workspace_export", "Copy a file or folder out of a workspace to the host."),
    tool("workspace_apply", "Bring a workspace's changes home into the folder on the host it was seeded from. Try dry_run first."),
    tool("workspace_reset", "Throw away everything done since creation and start over. Faster and surer than repairing."),
    tool("workspace_stop", "Stop a workspace; files and packages stay, processes end."),
    tool("workspace_start", "Start a stopped workspace."),
    tool("workspace_fork", "Make live copies of a workspace, running processes included, to try things in parallel."),
    tool("workspace_delete", "Delete a workspace for good. Export what is needed first."),
    tool("workspace_events", "Read what happened in a workspace, from a cursor on."),
    tool("workspace_disk_list", "List files of a stopped workspace."),
    tool("workspace_disk_read", "Read a file of a stopped workspace."),
    tool("workspace_disk_export", "Copy a stopped workspace's disk image to the host."),
    tool("snapshot_create", "Keep a workspace's files and packages under a name for `workspace_reset`; with live its processes, too."),
    tool("snapshot_list", "List a workspace's snapshots."),
    tool("snapshot_delete", "Delete a snapshot."),
    tool(
        "shell_open",
        "Open an interactive terminal that stays between calls: REPLs, debuggers, editors. For plain commands use `workspace_exec`.",
    ),
    tool("shell_list", "List a workspace's terminals."),
    tool("shell_read", "Read what a terminal shows, from a cursor on. Pass wait_for_idle_ms 300 after a write."),
    tool("shell_write", "Type into a terminal; Enter is added unless no_newline. Tabs and newlines within a text are pasted, not pressed."),
    tool("shell_signal", "Send the terminal's foreground program a signal."),
    tool("shell_resize", "Resize a terminal."),
    tool("shell_close", "Close a terminal and end what runs in it."),
    tool(
        "service_start",
        "Start a server or watcher that keeps running, and wait until it is ready. Give one readiness probe. publish needs a workspace created \
         with network_policy published-ports.",
    ),
    tool("service_list", "List a workspace's services."),
    tool("service_status", "Show a service's state."),
    tool("service_logs", "Read a service's log."),
    tool("service_stop", "Stop a service."),
    tool("port_publish", "Make a port of the workspace reachable on the host's 127.0.0.1. Needs network_policy published-ports."),
    tool("port_unpublish", "Take a published port back."),
    tool("port_list", "List published ports."),
    tool(
        "network_allow",
        "Let a running workspace reach more hosts. Needs a workspace with egress. A refused connection names the narrowest rule: pass that.",
    ),
    tool("network_deny", "Keep a workspace from reaching hosts; open connections to them are reset."),
    tool("network_list", "Show what a workspace may reach."),
];

/// Descriptions that a mode tells instead.
const STORIES: &[(Mode, &str, &str)] = &[
    (
        Mode::ReproFix,
        "workspace_create",
        "First step: create an isolated Linux VM holding the project in /workspace. Then reproduce the failure, fix it, run the same command \
         again, and take the diff.",
    ),
    (
        Mode::ReproFix,
        "workspace_exec",
        "Run the failing command, and after the fix the very same one. As root in /workspace; each call is a \
         new process. If it answers state \"running\", go on with `workspace_exec_wait` or end it with `workspace_exec_kill`.",
    ),
    (Mode::ReproFix, "workspace_diff", "The fix as a patch. After `workspace_reset` it must be empty."),
    (
        Mode::Inspect,
        "workspace_create",
        "Create an isolated, offline Linux VM to look at files nobody trusts. Read and search before running anything.",
    ),
    (
        Mode::Inspect,
        "workspace_exec",
        "Run the smallest command that answers the question; read files with `workspace_file_read` instead. If \
         it answers state \"running\", go on with `workspace_exec_wait` or end it with `workspace_exec_kill`.",
    ),
    (Mode::Inspect, "workspace_export", "Copy the report, and only that, to the host."),
    (
        Mode::ColdStart,
        "workspace_create",
        "Create a fresh Linux VM holding the project, to find out whether its README works for a newcomer: set-up, tests, start.",
    ),
    (
        Mode::ColdStart,
        "service_start",
        "Start what the README says to start, with a readiness probe, and wait until it is ready. publish needs a workspace created with \
         network_policy published-ports.",
    ),
    (
        Mode::ReviewEval,
        "workspace_create",
        "Create an isolated Linux VM holding the change under review. Take a snapshot before the review begins.",
    ),
    (Mode::ReviewEval, "snapshot_create", "Keep the state before the review under a name; `workspace_reset` to it between attempts."),
];

/// Words for fields: a tool's name or `*`, the field, the text. An empty text drops the description, since the name says it all.
const FIELDS: &[(&str, &str, &str)] = &[
    ("*", "workspace", "Name or id"),
    ("*", "environment", "debian:12 (default), debian:12-base, debian:12-build"),
    ("*", "command", "String: run by sh -c. List: run as is"),
    ("*", "mem_mib", "Guest memory"),
    ("*", "vcpu_count", ""),
    ("*", "disk_gib", "Size of /workspace"),
    ("*", "timeout_seconds", "Killed after that"),
    ("workspace_exec_wait", "timeout_seconds", ""),
    ("*", "ttl_seconds", "Idle time until it expires"),
    ("*", "cwd", "Default /workspace"),
    ("*", "user", "Default root"),
    ("*", "env", ""),
    ("*", "yield_after_ms", "Answer by then even if it still runs; default 45000"),
    ("*", "max_output_bytes", "Head and tail are kept"),
    ("*", "sequence", "Of the command"),
    ("workspace_logs", "sequence", "Only this command, with output"),
    ("*", "stdout_offset", "Read on from this byte"),
    ("*", "stderr_offset", ""),
    ("*", "tail", "Newest commands"),
    ("*", "labels", ""),
    ("workspace_list", "state", ""),
    ("*", "clear_name", ""),
    ("*", "clear_labels", "Keys"),
    ("*", "name", ""),
    ("workspace_create", "name", "Unique; a-z 0-9 . _ -"),
    ("workspace_create", "seed_path", "Host folder or tar archive that /workspace begins with"),
    ("vm_run", "seed_path", "Host folder or tar archive that /workspace begins with"),
    ("*", "signal", ""),
    ("*", "path", "Relative to /workspace"),
    ("workspace_disk_read", "path", ""),
    ("*", "glob", "E.g. *.rs"),
    ("*", "recursive", ""),
    ("*", "limit", ""),
    ("*", "lines", "A:B, from 1"),
    ("*", "max_bytes", ""),
    ("*", "offset", "next_offset of the answer before"),
    ("*", "text", ""),
    ("*", "old", ""),
    ("*", "new", ""),
    ("*", "all", ""),
    ("workspace_sync_push", "all", "Ignored files of a Git checkout, too"),
    ("*", "pattern", ""),
    ("*", "max", "Lines"),
    ("*", "source", "On the host"),
    ("*", "dest", "Below /workspace"),
    ("workspace_sync_push", "delete", "Remove what the source lacks"),
    ("*", "patch", "Unified diff"),
    ("*", "check", "Only check"),
    ("*", "stat", "Without the patch"),
    ("*", "against", "Snapshot; default: creation"),
    ("*", "output", "Path on the host"),
    ("workspace_export", "force", "Overwrite"),
    ("workspace_delete", "force", "Even while something runs"),
    ("*", "snapshot", "Go back to this one instead"),
    ("*", "network_policy", ""),
    ("*", "allow_hosts", "Only these: api.example.com:443, *.example.org, 203.0.113.0/24"),
    ("*", "deny_hosts", ""),
    ("*", "allow_groups", "Of the operator's configuration"),
    ("*", "no_host_certificates", ""),
    ("vm_run", "network", ""),
    ("workspace_logs", "network", "Connections, refusals and DNS questions instead"),
    ("*", "after", "Entries after this sequence"),
    ("*", "rules", "host, *.suffix, address or network, each with :PORT"),
    ("*", "only", "Refuse everything that no rule allows"),
    ("*", "on_expire", ""),
    ("*", "count", ""),
    ("*", "live", "Memory and processes, too"),
    ("*", "cols", ""),
    ("*", "rows", ""),
    ("shell_open", "command", "Default: a login shell"),
    ("*", "shell_id", ""),
    ("*", "cursor", "next_cursor of the answer before"),
    ("*", "max_chars", ""),
    ("*", "plain", "As a person sees it, without escapes"),
    ("*", "wait_for_idle_ms", "Wait until quiet for so long"),
    ("*", "input", ""),
    ("*", "no_newline", ""),
    ("*", "ready_file", "Path that must exist"),
    ("*", "ready_tcp", "[HOST:]PORT that must accept"),
    ("*", "ready_http", "URL that must answer 2xx or 3xx"),
    ("*", "ready_command", "Must exit 0"),
    ("*", "ready_timeout_seconds", ""),
    ("*", "restart", ""),
    ("*", "publish", "[HOSTPORT:]GUESTPORT"),
    ("service_logs", "all", "From the beginning"),
    ("*", "tail_lines", ""),
    ("*", "grace_seconds", ""),
    ("port_publish", "port", "[HOSTPORT:]GUESTPORT"),
    ("port_publish", "service", "It ends with this service"),
    ("port_unpublish", "port", "Guest port"),
    ("*", "to", "Other folder on the host"),
    ("*", "dry_run", ""),
    ("workspace_apply", "force", "Overwrite files changed on the host"),
    ("*", "undo", "Take the last one back"),
];

/// Fields that a person at a terminal wants and a model does not.
const NEEDLESS: &[(&str, &str)] = &[
    ("vm_run", "allow_host_compat"),
    ("vm_run", "root_disk_gib"),
    ("vm_run", "ttl_seconds"),
    ("vm_run", "max_output_bytes"),
    ("vm_run", "vcpu_count"),
    ("workspace_create", "root_disk_gib"),
    ("workspace_create", "seed_all"),
    ("workspace_create", "no_git"),
    ("workspace_create", "strict"),
    ("workspace_sync_push", "no_git"),
    ("workspace_sync_push", "strict"),
    ("service_start", "ready_interval_ms"),
    ("shell_open", "no_history_expansion"),
];

/// Numbers that the server fills in instead of the contract's defaults.
const DEFAULTS: &[(&str, &str, u64)] = &[
    // With a machine's start it stays below the yield time.
    ("vm_run", "timeout_seconds", 40),
    ("workspace_file_list", "limit", 1000),
    ("workspace_disk_list", "limit", 1000),
];

/// Returns the defaults of a tool that are not the contract's.
pub(super) fn defaults(tool: &str) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    DEFAULTS.iter().filter(move |(of, ..)| *of == tool).map(|(_, field, value)| (*field, *value))
}

/// Fields that the server fills in when they are missing.
const OPTIONAL: &[(&str, &str)] = &[("vm_run", "environment"), ("vm_create", "environment"), ("workspace_create", "environment")];

/// Returns a tool's description as told by `mode`, without sentences about tools that are not in the list.
pub(super) fn description(tool: &str, mode: Option<Mode>, listed: impl Fn(&str) -> bool) -> Option<String> {
    let story = STORIES.iter().find(|(of, name, _)| Some(*of) == mode && *name == tool).map(|(_, _, text)| *text);
    let text = story.or_else(|| TOOLS.iter().find(|known| known.name == tool).map(|known| known.text))?;
    let mut told = String::new();
    for sentence in text.split_inclusive(". ") {
        // An odd piece stands between two backticks.
        if sentence.split('`').skip(1).step_by(2).all(&listed) {
            told.push_str(sentence);
        }
    }
    Some(told.trim_end().replace('`', ""))
}

/// Returns what a model is told of a field instead of the contract's words.
pub(super) fn field(tool: &str, field: &str) -> Option<&'static str> {
    let find = |wanted: &str| FIELDS.iter().find(|(of, name, _)| *of == wanted && *name == field).map(|(_, _, text)| *text);
    find(tool).or_else(|| find("*"))
}

/// Tells whether a model is not offered a field.
pub(super) fn is_needless(tool: &str, field: &str) -> bool {
    NEEDLESS.contains(&(tool, field))
}

/// Tells whether the server fills a field in that the contract requires.
pub(super) fn is_optional(tool: &str, field: &str) -> bool {
    OPTIONAL.contains(&(tool, field))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pyro_sdk::contract::{Profile, operations};
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_tool_is_described_and_every_description_has_its_tool() {
        let tools: BTreeSet<&str> = operations().iter().filter_map(|entry| entry.definition.mcp).collect();
        let described: BTreeSet<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        assert_eq!(tools, described);
        for (_, name, _) in STORIES {
            assert!(tools.contains(name), "{name}");
        }
    }

    #[test]
    fn words_are_about_fields_that_exist() {
        let fields: BTreeSet<(String, String)> = operations()
            .iter()
            .filter_map(|entry| Some((entry.definition.mcp?, entry.request_schema(Profile::Full))))
            .flat_map(|(tool, schema)| {
                let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
                properties.into_iter().map(move |(name, _)| (tool.to_owned(), name))
            })
            .collect();
        let known = |tool: &str, field: &str| fields.iter().any(|(of, name)| (tool == "*" || of == tool) && name == field);
        for (tool, field) in FIELDS.iter().map(|(tool, field, _)| (tool, field)).chain(NEEDLESS.iter().chain(OPTIONAL).map(|(a, b)| (a, b)))
        {
            assert!(known(tool, field), "{tool}.{field}");
        }
    }

    #[test]
    fn sentence_about_a_tool_that_is_not_listed_is_not_told() {
        let text = description("vm_run", None, |name| name == "vm_run").expect("known");
        assert!(!text.contains("workspace_create") && text.ends_with("without network."), "{text}");
        assert!(description("vm_run", None, |_| true).expect("known").contains("workspace_create"));
    }
}
