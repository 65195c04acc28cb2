//! `pyro workspace shell signal`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, ShellSignalRequest};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace shell signal api sh1\n  pyro workspace shell signal api sh1 --signal KILL")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ShellSignalRequest,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let fields = [("workspace_id", answer.workspace_id.into()), ("shell_id", answer.shell_id.into()), ("signal", answer.signal.into())];
    context.printer.status("workspace-shell-signal", &fields);
    Ok(0)
}
