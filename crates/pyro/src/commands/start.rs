//! `pyro workspace start`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, WorkspaceStart};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace start api\n  pyro workspace start api --secret TOKEN   # of the variable TOKEN")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: WorkspaceStart,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let mut arguments = arguments;
    super::secret::look_up(&mut arguments.request.secrets);
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-start",
        &[("workspace_id", answer.workspace_id.into()), ("state", answer.state.as_str().into()), ("duration_ms", duration_ms.into())],
    );
    Ok(0)
}
