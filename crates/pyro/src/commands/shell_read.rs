//! `pyro workspace shell read`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, ShellRead};

use super::stream::flag;
use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace shell read api sh1 --plain --wait-for-idle-ms 300\n  pyro workspace shell read api sh1 --cursor 4096 --json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ShellRead,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |answer| answer.output.clone())?;
    context.printer.end_line(&answer.output)?;
    let fields = [
        ("workspace_id", answer.workspace_id.into()),
        ("shell_id", answer.shell_id.into()),
        ("state", answer.state.as_str().into()),
        ("cursor", answer.cursor.into()),
        ("next_cursor", answer.next_cursor.into()),
        ("end_cursor", answer.end_cursor.into()),
        ("truncated", flag(answer.truncated)),
        ("truncated_before", answer.truncated_before.into()),
        ("full_screen", flag(answer.full_screen)),
        ("wait", answer.wait.map(pyro_sdk::contract::ShellWait::as_str).into()),
        ("program", answer.program.into()),
        ("prompt", answer.prompt.into()),
        ("exit_code", answer.exit_code.into()),
    ];
    context.printer.status("workspace-shell-read", &fields);
    Ok(0)
}
