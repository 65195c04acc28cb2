//! `pyro host connect`.

use clap::Args;
use serde_json::Value;

use super::host_entry::{Place, Run, Telling, carry_out, tell};
use crate::{
    cli::{Context, Outcome},
    hosts::{self, Action, Host, HostError, ServeOptions, Server},
};

const TELLING: Telling = Telling { status: "host-connect", unchanged: "already connected" };

/// Enter Pyro's MCP server into a host's file, and show the change
///
/// The server is started first and asked for its tools, as the host will do; nothing is written if it does not answer. What else the file
/// holds stays as it is, and the old file is kept beside the new one. Connecting again changes nothing.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro host connect claude-code\n  pyro host connect codex --mode repro-fix --project-path . --dry-run\n  pyro host connect vscode --scope project"
)]
pub(crate) struct Arguments {
    /// Host
    #[arg(value_enum, value_name = "HOST")]
    host: Host,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    options: ServeOptions,
    /// Show the change, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace an entry of this name that runs something else than Pyro
    #[arg(long)]
    replace: bool,
    /// Write the entry without starting the server first
    #[arg(long)]
    no_verify: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let (host, surroundings) = (arguments.host, context.surroundings()?);
    let connection = arguments.place.of(host)?;
    let server = Server::new(&context.binary()?, &arguments.options, &surroundings)?;
    let plan = hosts::connect(&connection, server.clone(), &surroundings)?;
    let run = Run::new(arguments.dry_run);
    if plan.action == Action::Replaced && !arguments.replace && run == Run::Real {
        return Err(plan.not_ours(&connection).into());
    }
    let answered = match (run, arguments.no_verify) {
        (Run::Dry, _) | (_, true) => None,
        (Run::Real, false) => Some(hosts::verify(&server).map_err(|source| HostError::ServerFailed { host, source })?),
    };
    let backup = carry_out(&plan, run)?;
    let tools = answered.as_ref().map_or(Value::Null, |answered| answered.tools.len().into());
    let duration =
        answered.as_ref().map_or(Value::Null, |answered| u64::try_from(answered.duration.as_millis()).unwrap_or(u64::MAX).into());
    tell(context, &TELLING, &connection, &plan, run, backup, &[("tool_count", tools), ("start_ms", duration)])?;
    if plan.action != Action::Unchanged {
        for (name, value) in &server.environment {
            context.printer.notice(&format!("the entry sets `{name}={value}`, because it is set here"));
        }
        if let Some(text) = host.afterwards(connection.scope) {
            context.printer.notice(text);
        }
    }
    Ok(0)
}
