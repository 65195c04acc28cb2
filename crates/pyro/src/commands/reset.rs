//! `pyro workspace reset`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, WorkspaceReset};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace reset api\n  pyro workspace reset api --snapshot before-review")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: WorkspaceReset,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-reset",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("state", answer.state.as_str().into()),
            ("reset_count", answer.reset_count.into()),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
