//! `pyro host repair`.

use clap::Args;
use pyro_sdk::ErrorKind;

use super::{
    host_doctor::{diagnose, object},
    host_entry::{Place, Run, Telling, carry_out, tell},
};
use crate::{
    cli::{Context, Outcome},
    hosts::{self, Host, State},
    render,
};

const TELLING: Telling = Telling { status: "host-repair", unchanged: "nothing to mend" };

/// Mend Pyro's entry in a host's file: the program's path, the entry's form, an entry that is switched off
///
/// Keeps the options the entry was made with. What it cannot mend it tells.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro host repair claude-code\n  pyro host repair opencode --dry-run")]
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
    let plan = hosts::mend(&connection, &context.binary()?, &context.surroundings()?)?;
    let run = Run::new(arguments.dry_run);
    let backup = carry_out(&plan, run)?;
    if run == Run::Dry {
        tell(context, &TELLING, &connection, &plan, run, backup, &[])?;
        return Ok(0);
    }
    let report = diagnose(&connection, context)?;
    let fields = [("state", report.state.name().into()), ("checks", object(&report)["checks"].clone())];
    tell(context, &TELLING, &connection, &plan, run, backup, &fields)?;
    if report.state == State::Ready {
        return Ok(0);
    }
    context.printer.excerpt(&render::host_reports(std::slice::from_ref(&report)));
    Ok(ErrorKind::HostNotReady.exit_code())
}
