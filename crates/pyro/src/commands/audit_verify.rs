//! `pyro audit verify`.

use clap::Args;
use pyro_sdk::contract::{AuditVerify, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

/// What `diff` and `cmp` say when two things are not the same.
const NOT_WHOLE: u8 = 1;

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro audit verify\n  pyro audit verify api --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: AuditVerify,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::audit)?;
    Ok(if answer.whole { 0 } else { NOT_WHOLE })
}
