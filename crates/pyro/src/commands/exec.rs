//! `pyro workspace exec`.

use std::time::Duration;

use clap::Args;
use pyro_sdk::{Collected, Stdin, contract::WorkspaceExec};

use super::stream::{self, End, Follow};
use crate::cli::{Context, Outcome};

pub(crate) const STATUS_NAME: &str = "workspace-exec";

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace exec api -- ls -l\n  pyro workspace exec api --cwd /tmp --env CI=1 -- sh -c 'make && make test'\n  pyro workspace exec api --yield-after-ms 5000 -- make   # exits with 75 while it still runs"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: WorkspaceExec,
    /// Forward standard input to the command
    #[arg(long)]
    stdin: bool,
    /// Leave once the command runs; its output goes to the journal
    #[arg(long, conflicts_with_all = ["stdin", "yield_after_ms"])]
    detach: bool,
    /// Print one JSON object with head and tail of the output, instead of streaming it
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let request = arguments.request;
    let follow = Follow {
        stdin: arguments.stdin,
        yield_after: request.yield_after_ms.map(|milliseconds| Duration::from_millis(milliseconds.get())),
        max_output_bytes: request.max_output_bytes,
    };
    let stdin = if arguments.stdin { Stdin::Open } else { Stdin::Empty };
    let (workspace, mut execution) = context.pyro()?.start_exec(request, stdin).await?;
    if arguments.detach {
        let answer = execution.answer(Collected::new(follow.max_output_bytes), None);
        if !arguments.json {
            context.printer.content(&format!("{}\n", answer.sequence.unwrap_or_default()))?;
        }
        return stream::conclude(&context.printer, STATUS_NAME, &End::Detached, &answer);
    }
    let (end, answer) = stream::follow(&mut execution, &context.printer, follow).await?;
    let code = stream::conclude(&context.printer, STATUS_NAME, &end, &answer)?;
    if !answer.network_refused.is_empty() && !context.printer.is_json() {
        let rules = answer.network_refused.join(" ");
        let allow = format!("pyro workspace network allow {} {rules}", workspace.label());
        context.printer.notice(&format!(
            "the network refused {rules}; `{allow}` allows it, `pyro workspace logs {} --network` says why",
            workspace.label()
        ));
    }
    if let (End::Interrupted, Some(sequence)) = (&end, answer.sequence) {
        context.printer.notice(&format!("the command goes on: `pyro workspace exec-wait {} {sequence}`", workspace.label()));
    }
    Ok(code)
}
