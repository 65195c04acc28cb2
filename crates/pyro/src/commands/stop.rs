//! `pyro workspace stop`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, WorkspaceStop};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace stop api")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: WorkspaceStop,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let duration_ms = started.elapsed().as_millis().to_string();
    let unavailable = Some(answer.secrets_unavailable.join(",")).filter(|names| !names.is_empty());
    context.printer.status(
        "workspace-stop",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("state", answer.state.as_str().into()),
            ("secrets_unavailable", unavailable.into()),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
