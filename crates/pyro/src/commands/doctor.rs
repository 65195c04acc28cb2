//! `pyro doctor`.

use clap::Args;
use pyro_sdk::{
    ErrorKind,
    contract::{Doctor, Operation as _},
};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro doctor\n  pyro doctor --environment debian:12-build --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Doctor,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |answer| {
        let verdict = if answer.ready { "ready: workspaces run on this host" } else { "not ready: mend what failed above" };
        format!("{}{verdict}\n", render::check_lines(&answer.checks))
    })?;
    Ok(if answer.ready { 0 } else { ErrorKind::HostNotReady.exit_code() })
}
