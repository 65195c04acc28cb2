//! `pyro workspace network list`.

use clap::Args;
use pyro_sdk::contract::{NetworkList, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace network list api\n  pyro workspace network list api --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: NetworkList,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::network)?;
    Ok(0)
}
