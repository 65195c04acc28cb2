//! `pyro host disconnect`.

use clap::Args;

use super::host_entry::{Place, Run, Telling, carry_out, tell};
use crate::{
    cli::{Context, Outcome},
    hosts::{self, Host},
};

const TELLING: Telling = Telling { status: "host-disconnect", unchanged: "not connected" };

/// Take Pyro's entry out of a host's file, and show the change
///
/// Workspaces stay. An entry of that name which does not run Pyro is left alone.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro host disconnect codex\n  pyro host disconnect cursor --scope project --dry-run")]
pub(crate) struct Arguments {
    /// Host
    #[arg(value_enum, value_name = "HOST")]
    host: Host,
    #[command(flatten)]
    place: Place,
    /// Show the change, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let connection = arguments.place.of(arguments.host)?;
    let plan = hosts::disconnect(&connection, &context.surroundings()?)?;
    let run = Run::new(arguments.dry_run);
    let backup = carry_out(&plan, run)?;
    tell(context, &TELLING, &connection, &plan, run, backup, &[])?;
    Ok(0)
}
