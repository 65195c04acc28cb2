//! `pyro workspace shell resize`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, ShellResize};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace shell resize api sh1 --cols 80 --rows 24")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ShellResize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let fields = [
        ("workspace_id", answer.workspace_id.into()),
        ("shell_id", answer.shell_id.into()),
        ("cols", answer.cols.into()),
        ("rows", answer.rows.into()),
    ];
    context.printer.status("workspace-shell-resize", &fields);
    Ok(0)
}
