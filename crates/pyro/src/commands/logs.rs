//! `pyro workspace logs`.

use clap::Args;
use pyro_sdk::{
    OutputStream, Workspace,
    contract::{Logs, Operation as _},
};

use crate::{
    cli::{Context, Failure, Outcome},
    render::{self, Stream},
};

/// How much of a kept output is read at once.
const PIECE_BYTES: u64 = 256 << 10;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Logs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let pyro = context.pyro()?;
    let request = arguments.request;
    let Some(sequence) = request.sequence.filter(|_| !arguments.json) else {
        let answer = request.call(&pyro, &context.observer()).await?;
        context.printer.answer(&answer, render::journal)?;
        return Ok(0);
    };
    // At a terminal the whole output is shown, streams as they were; only an object has to be cut.
    let (stdout, stderr) = (request.stdout_offset.unwrap_or(0), request.stderr_offset.unwrap_or(0));
    let workspace = pyro.workspace(&request.workspace).await?;
    let answer = request.call(&pyro, &context.observer()).await?;
    copy(&workspace, context, sequence, (OutputStream::Stdout, Stream::Stdout), stdout).await?;
    copy(&workspace, context, sequence, (OutputStream::Stderr, Stream::Stderr), stderr).await?;
    for entry in &answer.commands {
        let fields = [
            ("workspace_id", answer.workspace_id.clone().into()),
            ("sequence", entry.sequence.into()),
            ("exit_code", entry.exit_code.into()),
            ("duration_ms", entry.duration_ms.map_or(serde_json::Value::Null, |value| format!("{value:.0}").into())),
            ("failure", entry.failure.clone().into()),
        ];
        context.printer.status("workspace-logs", &fields);
    }
    Ok(0)
}

async fn copy(
    workspace: &Workspace,
    context: &Context,
    sequence: u64,
    (from, to): (OutputStream, Stream),
    mut offset: u64,
) -> Result<(), Failure> {
    loop {
        let piece = workspace.read_output(sequence, from, offset, PIECE_BYTES).await?;
        if piece.is_empty() {
            return Ok(());
        }
        offset += piece.len() as u64;
        context.printer.bytes(to, &piece)?;
    }
}
