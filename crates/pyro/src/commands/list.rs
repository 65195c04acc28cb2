//! `pyro workspace list`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, WorkspaceListRequest};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace list\n  pyro workspace list --state running --label team=web --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: WorkspaceListRequest,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::workspaces)?;
    Ok(0)
}
