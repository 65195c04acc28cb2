//! What the commands about hosts have in common: which entry is meant, and how a change of it is told.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{Context, Failure},
    hosts::{Action, Connection, DEFAULT_NAME, Host, Plan, Scope, Server},
};

/// Where the entry is and how it is called.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Whose file: yours, or the current folder's
    #[arg(long, value_enum, value_name = "SCOPE", default_value = "user")]
    pub(super) scope: Scope,
    /// Name of the entry
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME)]
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(&self, host: Host) -> Result<Connection, Failure> {
        Ok(Connection::new(host, self.scope, &self.name)?)
    }
}

/// Whether a change is only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    Real,
    Dry,
}

impl Run {
    pub(super) const fn new(dry: bool) -> Self {
        if dry { Self::Dry } else { Self::Real }
    }
}

/// How a command tells what it did.
pub(super) struct Telling {
    /// Name of its status line.
    pub(super) status: &'static str,
    /// What it says where there was nothing to do.
    pub(super) unchanged: &'static str,
}

/// Carries a plan out unless it is only to be shown, and returns where the old file is kept.
pub(super) fn carry_out(plan: &Plan, run: Run) -> Result<Option<PathBuf>, Failure> {
    match run {
        Run::Real => Ok(plan.carry_out()?),
        Run::Dry => Ok(None),
    }
}

/// Tells what a plan changed: the difference on standard output, and the status line.
pub(super) fn tell(
    context: &Context,
    telling: &Telling,
    connection: &Connection,
    plan: &Plan,
    run: Run,
    backup: Option<PathBuf>,
    more: &[(&'static str, Value)],
) -> Result<(), Failure> {
    let backup = backup.map(|path| path.display().to_string());
    let mut answer = json!({
        "host": connection.host.name(),
        "scope": connection.scope.name(),
        "name": connection.name,
        "path": plan.path().display().to_string(),
        "action": plan.action.name(),
        "diff": plan.difference(),
        "dry_run": run == Run::Dry,
        "backup": backup,
        "server": server(&plan.server),
    });
    if let Some(fields) = answer.as_object_mut() {
        fields.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    }
    let text = match (context.printer.is_json(), plan.action) {
        (false, Action::Unchanged) => format!("{}: {}\n", telling.unchanged, plan.path().display()),
        _ => plan.difference(),
    };
    context.printer.answer(&answer, |_| text)?;
    let mut fields = vec![
        ("host", connection.host.name().into()),
        ("path", plan.path().display().to_string().into()),
        ("action", plan.action.name().into()),
        ("backup", backup.into()),
        ("dry_run", if run == Run::Dry { true.into() } else { Value::Null }),
    ];
    fields.extend(more.iter().filter(|(_, value)| !value.is_array()).cloned());
    context.printer.status(telling.status, &fields);
    Ok(())
}

pub(super) fn server(server: &Server) -> Value {
    json!({ "command": server.command, "args": server.arguments, "environment": server.environment })
}
