//! `pyro workspace file search`.

use super::stream::flag;
use clap::Args;
use pyro_sdk::contract::{FileSearch, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace file search api TODO\n  pyro workspace file search api (?i)error --path src --glob *.rs --max 50"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: FileSearch,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::matches)?;
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-file-search",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("match_count", answer.matches.len().into()),
            ("file_count", answer.file_count.into()),
            ("truncated", flag(answer.truncated)),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
