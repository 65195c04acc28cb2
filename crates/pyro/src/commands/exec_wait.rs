//! `pyro workspace exec-wait`.

use clap::Args;
use pyro_sdk::{
    ErrorKind,
    contract::{CommandState, ExecWait, Operation as _},
};

use super::stream::{self, End};
use crate::{
    cli::{Context, Outcome},
    render::Stream,
};

const STATUS_NAME: &str = "workspace-exec-wait";

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace exec-wait api 3\n  pyro workspace exec-wait api 3 --timeout-seconds 30   # exits with 75 while it still runs"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ExecWait,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    if !arguments.json {
        context.printer.bytes(Stream::Stdout, answer.stdout.as_bytes())?;
        context.printer.bytes(Stream::Stderr, answer.stderr.as_bytes())?;
    }
    let still_running = stream::conclude(&context.printer, STATUS_NAME, &End::Yielded, &answer)?;
    Ok(match (answer.state, answer.exit_code) {
        (CommandState::Running, _) => still_running,
        (CommandState::Exited, Some(code)) => u8::try_from(code).unwrap_or(u8::MAX),
        // Its end is not known: the machine went away.
        (CommandState::Exited, None) => ErrorKind::MachineFailed.exit_code(),
    })
}
