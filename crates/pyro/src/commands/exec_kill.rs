//! `pyro workspace exec-kill`.

use clap::Args;
use pyro_sdk::contract::{ExecKill, Operation as _};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace exec-kill api 3\n  pyro workspace exec-kill api 3 --signal INT")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ExecKill,
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
        "workspace-exec-kill",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("sequence", answer.sequence.into()),
            ("delivered", answer.delivered.into()),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
