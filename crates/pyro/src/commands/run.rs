//! `pyro run`.

use clap::Args;
use pyro_sdk::{
    Stdin,
    contract::{CommandState, VmRun},
};

use super::stream::{self, End, Follow};
use crate::cli::{Context, Outcome};

pub(crate) const STATUS_NAME: &str = "run";

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro run debian:12 -- python3 -c 'print(6 * 7)'\n  echo hello | pyro run debian:12 --stdin -- tr a-z A-Z\n  pyro run debian:12 --seed-path . --mem-mib 2048 --json -- make test"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: VmRun,
    /// Forward standard input to the command
    #[arg(long)]
    stdin: bool,
    /// Print one JSON object with head and tail of the output, instead of streaming it
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let follow = Follow { stdin: arguments.stdin, yield_after: None, max_output_bytes: arguments.request.max_output_bytes };
    let stdin = if arguments.stdin { Stdin::Open } else { Stdin::Empty };
    let mut one_shot = context.pyro()?.start_run(arguments.request, stdin, &context.observer()).await?;
    let followed = stream::follow(one_shot.execution(), &context.printer, follow).await;
    let finished = one_shot.finish().await;
    let (end, mut answer) = followed?;
    let given_up = match end {
        End::Interrupted => Some("interrupted, and gone with its machine"),
        End::PipeClosed => Some("its output was not read any more, and it is gone with its machine"),
        End::Exited(_) | End::Yielded | End::Detached => None,
    };
    if let Some(reason) = given_up {
        answer.state = CommandState::Exited;
        answer.failure = Some(reason.to_owned());
    }
    let code = stream::conclude(&context.printer, STATUS_NAME, &end, &answer)?;
    if let Err(error) = finished {
        // The command's result stands; what is left is removed by the next command.
        context.printer.warning(&format!("the machine could not be removed: {error}"));
    }
    Ok(code)
}
