//! `pyro workspace disk list`.

use super::stream::flag;
use clap::Args;
use pyro_sdk::contract::{DiskList, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace disk list api\n  pyro workspace disk list api src --recursive")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: DiskList,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::files)?;
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-disk-list",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("entry_count", answer.entries.len().into()),
            ("truncated", flag(answer.truncated)),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
