//! `pyro env pull`.

use clap::Args;
use pyro_sdk::contract::{EnvironmentPull, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro env pull debian:12\n  pyro env pull debian:12-build --force")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: EnvironmentPull,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::environment)?;
    Ok(0)
}
