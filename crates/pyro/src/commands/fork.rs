//! `pyro workspace fork`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, WorkspaceFork};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace fork api --name attempt\n  pyro workspace fork api --name attempt --count 3 --json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: WorkspaceFork,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::forks)?;
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-fork",
        &[("workspace_id", answer.workspace_id.into()), ("fork_count", answer.forks.len().into()), ("duration_ms", duration_ms.into())],
    );
    Ok(0)
}
