//! What to type or to do next, for each problem. The kind's own hint holds where the place that failed knows no better one.

use pyro_proto::error::ErrorKind;
use pyro_store::StoreError;
use pyro_tree::ExportError;

use super::{Error, Problem};
use crate::{endpoint::UrlError, workspace_path::WorkspacePathError};

impl Error {
    /// Returns the next thing to type or to do: the kind's hint, unless the place that failed knows a better one.
    #[must_use]
    pub fn hint(&self) -> String {
        let special = match &*self.problem {
            Problem::Environment(error) => error.hint(),
            Problem::UnknownEnvironment(_) => Some("list the environments with `pyro env list`".to_owned()),
            Problem::Request { field: Some(field), .. } => Some(format!("correct `{field}` and try again")),
            Problem::Request { field: None, .. } => Some("correct the request and try again".to_owned()),
            Problem::UnknownOperation { .. } => Some("the operations are in `docs/reference/operations.md`".to_owned()),
            Problem::Limit(error) if error.kind() == ErrorKind::InvalidArgument => {
                Some(format!("give a number from {} to {}", error.minimum, error.maximum))
            }
            Problem::CutOff { workspace, kind: ErrorKind::NotFound, .. } => Some(format!(
                "put the folder back in its place, and the next command restores its files; if it is gone for good, forget it with \
                 `pyro workspace delete {workspace} --force`"
            )),
            Problem::CutOff { workspace, .. } => Some(format!(
                "restore all files, over what changed since, with `pyro workspace apply {workspace} --undo --force`; copy what you want to keep of \
                 them first"
            )),
            Problem::UndoConflict { workspace, .. } => Some(format!(
                "restore all files, over what changed since, with `pyro workspace apply {workspace} --undo --force`; copy what you want to keep of \
                 them first"
            )),
            Problem::Interrupted { .. } => Some("run it again when you want to".to_owned()),
            Problem::NoHome => Some("set `PYRO_HOME` to a folder of your own".to_owned()),
            Problem::NoBinary => Some("install `pyro`, or set `PYRO_BINARY` to its path".to_owned()),
            Problem::NoQemu { setting: Some(setting), .. } => {
                Some(format!("correct {setting}, or take it away and install QEMU with `sudo apt-get install qemu-system-x86`"))
            }
            Problem::NoQemu { setting: None, .. } => Some("install it with `sudo apt-get install qemu-system-x86`".to_owned()),
            Problem::NoKvm { .. } => Some("run without it: `--accelerator auto` or `--accelerator tcg`".to_owned()),
            Problem::EnvironmentMissing { name } => Some(format!("build it with `pyro env pull {name}`")),
            Problem::StillRunning { workspace, running } => Some(format!(
                "end it with `{}`, or delete all the same with `pyro workspace delete {workspace} --force`",
                running.end(workspace)
            )),
            Problem::ShellEnded { workspace, shell } => Some(format!(
                "open another one with `pyro workspace shell open {workspace}`; what this one showed is read with `pyro workspace shell read {workspace} {shell}`"
            )),
            Problem::CursorBeyondEnd { .. } => Some("give the `next_cursor` of an earlier answer, or leave `--cursor` away".to_owned()),
            Problem::NoPublishedPorts { environment, with_ports, .. } => {
                Some(format!("a policy is given when a workspace is made: `pyro workspace create {environment} --network-policy {with_ports}`"))
            }
            Problem::NoEgress { environment, with_egress, .. } => {
                Some(format!("a policy is given when a workspace is made: `pyro workspace create {environment} --network-policy {with_egress}`"))
            }
            Problem::RulesWithoutEgress { with_egress } => Some(format!("add `--network-policy {with_egress}`")),
            Problem::NoNetworkGroup { known, .. } if known.is_empty() => Some(
                "add it to `config.toml` (in `~/.config/pyro`, or in `config` below `PYRO_HOME`): `[network_groups]`, then `NAME = [\"host.example:443\"]`; `pyro network learn` finds out what belongs into it".to_owned(),
            ),
            Problem::NoNetworkGroup { known, .. } => Some(format!("config.toml has {known}")),
            Problem::TooManyNetworkRules { .. } => Some("wildcards and networks cover many hosts with one rule: `*.example.org`, `203.0.113.0/24`".to_owned()),
            Problem::SecretUnclear { flag } => Some(format!("say which: `{flag} NAME=…`")),
            Problem::StillDenied { workspace, deny, .. } => {
                Some(format!("take the deny rule back first: `pyro workspace network allow {workspace} {deny}`"))
            }
            Problem::SecretHostDenied { deny, .. } => Some(format!("leave `--deny-host {deny}` away, or the secret's host")),
            Problem::SecretHostNotAllowed { host, .. } => Some(format!("add `--allow-host {host}`")),
            Problem::HeaderWithoutHost { name } => Some(format!("add `--secret-host {name}=HOST`")),
            Problem::SecretNotSaid { name } => Some(format!("set the variable `{name}`, or put the value into a file: `--secret-file {name}=PATH`")),
            Problem::SecretsUnavailable { workspace, literals, .. } => {
                let flags: Vec<String> = literals.iter().map(|name| format!("--secret {name}")).collect();
                Some(format!(
                    "nobody keeps a literal secret of a workspace that does not run: give all of them again with `pyro workspace start {workspace} {}`, \
                     their values in the variables of their names",
                    flags.join(" ")
                ))
            }
            Problem::SecretsWhileRunning { workspace } => Some(format!("stop it first: `pyro workspace stop {workspace}`")),
            Problem::SecretTwice { .. } => Some("give each secret once, by `--secret` or by `--secret-file`".to_owned()),
            Problem::SecretTooShort { name } => Some(format!(
                "use a longer value, or pass what is not secret to commands as a plain variable, `pyro workspace exec WORKSPACE --env {name}=VALUE -- …`: every occurrence of a secret in output is replaced, and a short \
                 value occurs everywhere"
            )),
            Problem::SecretUnknown { workspace, known, .. } => Some(match &known[..] {
                [] => format!("`pyro workspace status {workspace}` shows that it has none; they are named when a workspace is created: `--secret NAME`"),
                known => format!("it has `{}`; see them with `pyro workspace status {workspace}`", known.join("`, `")),
            }),
            Problem::SecretUnusable { .. } => Some("a secret is UTF-8 text of 4 bytes to 64 KiB".to_owned()),
            Problem::TooManySecrets { .. } => Some("put several into one file, and give that with `--secret-file`".to_owned()),
            Problem::NoSuchSecret { .. } => Some(
                "secrets are named when the workspace is made: `--secret NAME=VALUE`, `--secret-file NAME=PATH`; `pyro workspace status WORKSPACE` \
                 lists them"
                    .to_owned(),
            ),
            Problem::NothingToAllow => Some("name a rule, for example `api.example.com:443`, or a group with `--allow-group`".to_owned()),
            Problem::SeveralProbes => {
                Some("give one of `--ready-file`, `--ready-tcp`, `--ready-http` and `--ready-command`; a command can check several things".to_owned())
            }
            Problem::CommandNotText => Some("put what it needs into a script, and start that".to_owned()),
            Problem::CursorAndAll => Some("read page by page: the first with `--all`, each other with `--cursor`".to_owned()),
            Problem::Url(UrlError::Https { .. }) => {
                Some("use `--ready-command` with a program of the guest that speaks TLS, for example `curl -fsk URL`".to_owned())
            }
            Problem::Url(UrlError::Malformed { .. }) => Some("for example `--ready-http http://localhost:8000/health`".to_owned()),
            Problem::Ports { kind: ErrorKind::Conflict, .. } => {
                Some("choose another port of the host, or leave it away: a free one is taken then".to_owned())
            }
            Problem::Ports { kind: ErrorKind::PermissionDenied, .. } => {
                Some("choose a port of the host from 1024 on, or leave it away: a free one is taken then".to_owned())
            }
            Problem::Ports { kind: ErrorKind::NotFound, .. } => {
                Some("see what is published with `pyro workspace port list WORKSPACE`".to_owned())
            }
            Problem::Store(StoreError::ShellNotFound { workspace, .. }) => {
                let workspace = self.workspace.as_ref().unwrap_or(workspace);
                Some(format!("see the shells it has with `pyro workspace shell list {workspace}`"))
            }
            Problem::Store(StoreError::ServiceNotFound { workspace, .. }) => {
                let workspace = self.workspace.as_ref().unwrap_or(workspace);
                Some(format!("see the services it has with `pyro workspace service list {workspace}`"))
            }
            Problem::Store(StoreError::ServiceRuns { workspace, name }) => {
                let workspace = self.workspace.as_ref().unwrap_or(workspace);
                Some(format!("choose another name, or stop it first with `pyro workspace service stop {workspace} {name}`"))
            }
            Problem::Store(StoreError::TooManyServices { workspace, .. }) => {
                let workspace = self.workspace.as_ref().unwrap_or(workspace);
                Some(format!("start it under the name of one that has ended: `pyro workspace service list {workspace}`"))
            }
            Problem::NotRunning { workspace, state: "stopped" } => Some(format!("start it with `pyro workspace start {workspace}`")),
            Problem::NotRunning { workspace, .. } => Some(format!("see its state with `pyro workspace status {workspace}`")),
            Problem::Store(StoreError::DataMissing { .. }) => {
                Some("move the directory back to where it was, or mount the disk it is on".to_owned())
            }
            Problem::Store(StoreError::Overtaken { .. }) => Some("see its state with `pyro workspace status WORKSPACE`, then try again".to_owned()),
            Problem::Store(StoreError::NameTaken { name }) => {
                Some(format!("choose another name, or delete the other one with `pyro workspace delete {name}`"))
            }
            Problem::Store(StoreError::CommandNotFound { workspace, .. }) => {
                let workspace = self.workspace.as_ref().unwrap_or(workspace);
                Some(format!("see the commands it has with `pyro workspace logs {workspace}`"))
            }
            Problem::CommandsUnknown { workspace, .. } => {
                Some(format!("delete it all the same with `pyro workspace delete {workspace} --force`"))
            }
            Problem::Unresponsive { .. } if self.gone => Some("check the host with `pyro doctor`, then try again".to_owned()),
            Problem::Unresponsive { workspace, .. } => Some(format!(
                "end its machine with `pyro workspace stop {workspace}`, or with everything in it: `pyro workspace delete {workspace} --force`"
            )),
            Problem::Workspace { kind: ErrorKind::MachineFailed, .. } if self.gone => {
                Some("check the host with `pyro doctor`, then try again".to_owned())
            }
            Problem::Workspace { operation: "write to a shell of", kind: ErrorKind::LimitExceeded, .. } => Some(
                "nothing was written; write the text to a file with `pyro workspace file write WORKSPACE FILE --text TEXT`, and have the program read that".to_owned(),
            ),
            Problem::Workspace { operation: "open a shell in", workspace, kind: ErrorKind::NotFound, .. } => Some(format!(
                "give a folder and a user that are in it: `pyro workspace exec {workspace} -- ls -d FOLDER`, `pyro workspace exec {workspace} -- id USER`"
            )),
            Problem::HostCompatRefused { .. } | Problem::HostCommand { .. } | Problem::Internal { .. } | Problem::TargetRefused { .. } => None,
            Problem::Cleanup { .. } => Some("what is left is removed by the next Pyro command that can".to_owned()),
            Problem::Path(WorkspacePathError::Outside { .. }) => {
                Some("name a path below `/workspace`, absolute or relative to it; a command reaches all others: `pyro workspace exec WORKSPACE -- …`".to_owned())
            }
            Problem::Disk(error) => error.hint().map(ToOwned::to_owned),
            Problem::Export(error) if error.kind() == ErrorKind::AlreadyExists => {
                Some("choose another `--output`, or replace what is there with `--force`".to_owned())
            }
            Problem::Export(ExportError::IsFolder { path }) => {
                Some(format!("name the file in it: `--output {}`", path.join("NAME").display()))
            }
            Problem::Export(ExportError::WouldLose { .. }) => Some("choose another `--output`, or take away what is there first".to_owned()),
            Problem::Export(ExportError::Write { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Some("the folder that `--output` is to be in must be there: make it, or choose another".to_owned())
            }
            Problem::PatchRejected { .. } => Some(
                "correct the patch by what the workspace has (`pyro workspace file list WORKSPACE`, `pyro workspace file read WORKSPACE PATH`), and test \
                 it with `--check`"
                    .to_owned(),
            ),
            Problem::Patch(error) => error.hint(),
            Problem::Files { kind: ErrorKind::NotFound, .. } | Problem::Missing { .. } | Problem::LinkDangling { .. } | Problem::LinkLoop { .. } => Some("see what is there with `pyro workspace file list WORKSPACE`".to_owned()),
            Problem::NotAFile { path, what: "a directory" } => {
                Some(format!("see what is in it with `pyro workspace file list WORKSPACE {path}`"))
            }
            Problem::NotAFile { .. } | Problem::Files { kind: ErrorKind::Conflict, .. } => {
                Some("see what each entry is with `pyro workspace file list WORKSPACE`".to_owned())
            }
            Problem::FileTooLarge { .. } => Some("change it with a command: `pyro workspace exec WORKSPACE -- …`".to_owned()),
            Problem::ReplaceMismatch { count: 0, has_crlf: true, .. } => Some(
                "it is there with CR LF line ends: write each line end of `--old` and `--new` as CR LF (`$'…\\r\\n…'` in a shell, `\\r\\n` in JSON)".to_owned(),
            ),
            Problem::ReplaceMismatch { path, count: 0, .. } => {
                Some(format!("read what is there with `pyro workspace file read WORKSPACE {path}`; spaces and line ends count"))
            }
            Problem::ReplaceMismatch { .. } => Some("give more of what is around it, or replace all with `--all`".to_owned()),
            Problem::NothingToReplace => Some("write a file as a whole with `pyro workspace file write WORKSPACE PATH --text TEXT`".to_owned()),
            Problem::Pattern { .. } => Some("the syntax is Rust's `regex`; a literal `(`, `[`, `.` or `*` needs a backslash".to_owned()),
            Problem::NotStopped { workspace, .. } => Some(format!(
                "stop it with `pyro workspace stop {workspace}`, or read a running one with `pyro workspace file list {workspace}`"
            )),
            Problem::NoSeed { workspace } => Some(format!("name a directory with `pyro workspace apply {workspace} --to HOSTDIR`")),
            Problem::NothingToUndo { workspace } => Some(format!("see what an apply would change with `pyro workspace apply {workspace} --dry-run`")),
            Problem::ApplyConflict { workspace, target, named, forced, .. } => {
                let to = if *named { format!(" --to {}", target.display()) } else { String::new() };
                let way = if *forced {
                    "`--force` does not overwrite these: move what is in their place on the host, or choose another directory with `--to`"
                } else {
                    "overwrite the host's files with `--force`"
                };
                Some(format!("see every verdict with `pyro workspace apply {workspace}{to} --dry-run`; {way}"))
            }
            Problem::HomeGone { workspace, .. } => {
                Some(format!("if it was moved, name its new place with `pyro workspace apply {workspace} --to HOSTDIR`"))
            }
            Problem::Store(StoreError::SnapshotNotFound { workspace, .. }) => {
                let workspace = self.workspace.as_ref().unwrap_or(workspace);
                Some(format!("see the snapshots it has with `pyro workspace snapshot list {workspace}`"))
            }
            Problem::Store(StoreError::SnapshotExists { workspace, name }) => {
                let workspace = self.workspace.as_ref().unwrap_or(workspace);
                Some(format!("choose another name, or delete the other one with `pyro workspace snapshot delete {workspace} {name}`"))
            }
            Problem::NotText { .. } => Some("bring binary files in with `pyro workspace sync push WORKSPACE SOURCE`".to_owned()),
            Problem::Files { kind: ErrorKind::InvalidArgument, .. } => {
                Some("see what is there with `pyro workspace file list WORKSPACE`".to_owned())
            }
            Problem::Files { kind: ErrorKind::PermissionDenied, .. } | Problem::LinkOutside { .. } => Some(
                "links that lead out of `/workspace` are not followed; a command follows them: `pyro workspace exec WORKSPACE -- cat PATH`".to_owned(),
            ),
            Problem::Seed { kind: ErrorKind::NotFound, .. } | Problem::Source { kind: ErrorKind::NotFound, .. } => {
                Some("check the path: it is one of this host, a folder or an archive".to_owned())
            }
            Problem::Files { .. }
            | Problem::Ports { .. }
            | Problem::TooManyPorts { .. }
            | Problem::Store(_)
            | Problem::Export(_)
            | Problem::Landing(_)
            | Problem::Manifest(_)
            | Problem::TreePath(_)
            | Problem::Seed { .. }
            | Problem::Source { .. }
            | Problem::CalledOff(_)
            | Problem::Path(_)
            | Problem::TextTooLong { .. }
            | Problem::Limit(_)
            | Problem::Id(_)
            | Problem::Config(_)
            | Problem::TooManyLabels { .. }
            | Problem::CommandTooLong { .. }
            | Problem::CommandMalformed
            | Problem::Workspace { .. }
            | Problem::Reported { .. }
            | Problem::Io { .. } => None,
        };
        let hint = special.unwrap_or_else(|| self.kind().hint().to_owned());
        let hint = match &self.path {
            Some(path) => hint.replace("PATH", path),
            None => hint,
        };
        match &self.workspace {
            Some(workspace) => hint.replace("WORKSPACE", workspace),
            None => hint,
        }
    }
}
