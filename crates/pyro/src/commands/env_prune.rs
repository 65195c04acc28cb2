//! `pyro env prune`.

use clap::Args;
use pyro_sdk::contract::{EnvironmentPrune, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro env prune --dry-run")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: EnvironmentPrune,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |answer| render::pruned(answer.dry_run, &answer.removed, answer.freed_bytes))?;
    Ok(0)
}
