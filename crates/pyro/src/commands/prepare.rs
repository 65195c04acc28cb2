//! `pyro prepare`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, Prepare};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro prepare\n  pyro prepare debian:12-build")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Prepare,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    // The steps were told as they ended.
    context.printer.answer(&answer, |_| String::new())?;
    let fields = [("environment", answer.environment.into()), ("accelerator", answer.accelerator.into())];
    context.printer.status("prepare", &fields);
    Ok(0)
}
