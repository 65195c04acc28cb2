//! `pyro host doctor`.

use clap::{Args, CommandFactory as _};
use pyro_sdk::ErrorKind;
use serde_json::{Value, json};

use super::host_entry::Place;
use crate::{
    cli::{Cli, Context, Failure, Outcome},
    hosts::{self, Connection, Host, Report, State},
    render,
};

/// Check whether hosts can start Pyro's MCP server, and say what mends the rest
///
/// Starts the server of each entry and asks for its tools. Without a host all of them are looked at, and only an entry that does not work
/// counts as a failure.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro host doctor\n  pyro host doctor gemini --json")]
pub(crate) struct Arguments {
    /// Host; all of them when it is left away
    #[arg(value_enum, value_name = "HOST")]
    host: Option<Host>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let hosts = arguments.host.map_or_else(|| Host::ALL.to_vec(), |host| vec![host]);
    let reports = hosts.into_iter().map(|host| diagnose(&arguments.place.of(host)?, context)).collect::<Result<Vec<_>, Failure>>()?;
    context.printer.answer(&json!({ "hosts": reports.iter().map(object).collect::<Vec<_>>() }), |_| render::host_reports(&reports))?;
    let fails = |state| match state {
        State::Broken => true,
        State::NotConnected => arguments.host.is_some(),
        State::Ready => false,
    };
    Ok(if reports.iter().any(|report| fails(report.state)) { ErrorKind::HostNotReady.exit_code() } else { 0 })
}

/// Looks at one connection.
pub(super) fn diagnose(connection: &Connection, context: &Context) -> Result<Report, Failure> {
    Ok(hosts::diagnose(connection, &context.binary()?, &context.surroundings()?, &refused))
}

/// Says why this version's command line does not take an entry's words.
fn refused(words: &[String]) -> Option<String> {
    let error = Cli::command().try_get_matches_from(std::iter::once("pyro").chain(words.iter().map(String::as_str))).err()?;
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    Some(first.strip_prefix("error: ").unwrap_or(first).to_owned())
}

pub(super) fn object(report: &Report) -> Value {
    json!({
        "host": report.connection.host.name(),
        "scope": report.connection.scope.name(),
        "name": report.connection.name,
        "path": report.path.as_ref().map(|path| path.display().to_string()),
        "state": report.state.name(),
        "tool_count": report.tool_count,
        "checks": report.checks,
    })
}
