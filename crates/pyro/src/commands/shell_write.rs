//! `pyro workspace shell write`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, ShellWrite};

use super::stream::flag;
use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace shell write api sh1 --input ls\n  pyro workspace shell write api sh1 --input q --no-newline   # a key of a program that has the whole screen"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ShellWrite,
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
        ("cursor", answer.cursor.into()),
        ("bytes_written", answer.bytes_written.into()),
        ("pasted", flag(answer.pasted)),
    ];
    context.printer.status("workspace-shell-write", &fields);
    Ok(0)
}
