//! `pyro workspace logs`.

use clap::{ArgMatches, Args, FromArgMatches, parser::ValueSource};
use pyro_sdk::{
    OutputStream, Workspace,
    contract::{CommandState, Logs, Operation as _},
};
use serde_json::Value;

use super::stream::flag;
use crate::{
    cli::{Context, Failure, Outcome},
    render::{self, Stream},
};

/// How much of a kept output is read at once.
const PIECE_BYTES: u64 = 256 << 10;

/// Whether text is cut: a person who did not ask for it gets everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Never,
    AsAsked,
}

impl Args for Cut {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command
    }
}

impl FromArgMatches for Cut {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let asked = matches.value_source("max_output_bytes") == Some(ValueSource::CommandLine);
        Ok(if asked { Self::AsAsked } else { Self::Never })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace logs api\n  pyro workspace logs api --sequence 3 --stdout-offset 65536 --json\n  pyro workspace logs api --network --tail 50"
)]
pub(crate) struct Arguments {
    // Before the request: what is parsed takes its values away.
    #[command(flatten)]
    cut: Cut,
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
        context.printer.answer(&answer, |answer| match &answer.entries {
            Some(entries) => render::network_log(entries),
            None => render::journal(answer),
        })?;
        return Ok(0);
    };
    let offsets = [request.stdout_offset, request.stderr_offset];
    let paged = offsets.iter().any(Option::is_some);
    let workspace = pyro.workspace(&request.workspace).await?;
    let answer = request.call(&pyro, &context.observer()).await?;
    let output = answer.output.unwrap_or_default();
    match arguments.cut {
        Cut::AsAsked if paged => {
            // Text replaces what is not UTF-8; a page is passed on byte for byte.
            let pages = [
                (OutputStream::Stdout, Stream::Stdout, offsets[0], output.stdout_next_offset.unwrap_or(output.stdout_kept_bytes)),
                (OutputStream::Stderr, Stream::Stderr, offsets[1], output.stderr_next_offset.unwrap_or(output.stderr_kept_bytes)),
            ];
            for (from, to, offset, end) in pages {
                if let Some(offset) = offset {
                    let page = workspace.read_output(sequence, from, offset, end.saturating_sub(offset)).await?;
                    context.printer.bytes(to, &page)?;
                }
            }
        }
        Cut::AsAsked => {
            context.printer.bytes(Stream::Stdout, output.stdout.as_bytes())?;
            context.printer.bytes(Stream::Stderr, output.stderr.as_bytes())?;
        }
        Cut::Never => {
            copy(&workspace, context, sequence, (OutputStream::Stdout, Stream::Stdout), offsets[0].unwrap_or(0)).await?;
            copy(&workspace, context, sequence, (OutputStream::Stderr, Stream::Stderr), offsets[1].unwrap_or(0)).await?;
        }
    }
    let kept_bytes = output.stdout_kept_bytes + output.stderr_kept_bytes;
    for entry in &answer.commands {
        let total_bytes = kept_bytes.max(entry.stdout_bytes + entry.stderr_bytes);
        let truncated = kept_bytes < total_bytes || (arguments.cut == Cut::AsAsked && output.truncated);
        let cut = |value: u64| if truncated { value.into() } else { Value::Null };
        let next = |offset: Option<u64>| offset.filter(|_| paged && arguments.cut == Cut::AsAsked).into();
        let fields = [
            ("workspace_id", answer.workspace_id.clone().into()),
            ("sequence", entry.sequence.into()),
            ("state", if entry.state == CommandState::Running { "running".into() } else { Value::Null }),
            ("exit_code", entry.exit_code.into()),
            ("duration_ms", entry.duration_ms.map_or(Value::Null, |value| format!("{value:.0}").into())),
            ("timed_out", flag(entry.timed_out)),
            ("truncated", flag(truncated)),
            ("kept_bytes", cut(kept_bytes)),
            ("total_bytes", cut(total_bytes)),
            ("stdout_next_offset", next(output.stdout_next_offset)),
            ("stderr_next_offset", next(output.stderr_next_offset)),
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
