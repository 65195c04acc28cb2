//! `pyro workspace service status`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, ServiceStatus};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace service status api web\n  pyro workspace service status api web --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ServiceStatus,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::service)?;
    Ok(0)
}
