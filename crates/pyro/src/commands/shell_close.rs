//! `pyro workspace shell close`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, ShellClose};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace shell close api sh1")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ShellClose,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let fields = [
        ("workspace_id", answer.workspace_id.into()),
        ("shell_id", answer.shell_id.into()),
        ("state", answer.state.as_str().into()),
        ("exit_code", answer.exit_code.into()),
        ("end_reason", answer.end_reason.into()),
        ("duration_ms", started.elapsed().as_millis().to_string().into()),
    ];
    context.printer.status("workspace-shell-close", &fields);
    Ok(0)
}
