//! `pyro workspace summary`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, Summary};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace summary api\n  pyro workspace summary api --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Summary,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::summary)?;
    context.printer.ignored(answer.ignored_count);
    Ok(0)
}
