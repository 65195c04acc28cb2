//! `pyro workspace service logs`.

use clap::Args;
use pyro_sdk::{
    LogFollower,
    contract::{Operation as _, ServiceLogs, ServiceLogsAnswer},
    limits::MaxOutputBytes,
};
use serde_json::Value;

use super::{logs::Cut, stream::flag};
use crate::{
    cli::{Context, EndSignals, Failure, Outcome},
    render::Stream,
};

const STATUS_NAME: &str = "workspace-service-logs";

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace service logs api web\n  pyro workspace service logs api web --tail-lines 20 --follow\n  pyro workspace service logs api web --all > web.log"
)]
pub(crate) struct Arguments {
    // Before the request: what is parsed takes its values away.
    #[command(flatten)]
    cut: Cut,
    #[command(flatten)]
    request: ServiceLogs,
    /// Go on with what comes, until the service has ended
    #[arg(long, conflicts_with_all = ["json", "max_output_bytes"])]
    follow: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why following a log has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ended,
    Interrupted { exit_code: u8 },
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let pyro = context.pyro()?;
    let Arguments { cut, mut request, follow, json } = arguments;
    let whole = cut == Cut::Never && !json;
    if whole && request.cursor.is_none() && !request.all {
        // Lines that were asked for are shown as they are, however long.
        request.max_output_bytes = MaxOutputBytes::most();
    }
    // What is copied is not read first: a page that is not shown would be in vain, and it may be the whole log.
    let copied = whole && (request.all || request.cursor.is_some());
    let (workspace, name) = (request.workspace.clone(), request.name.clone());
    let answer = request.call(&pyro, &context.observer()).await?;
    if !copied {
        context.printer.answer(&answer, |answer| answer.log.clone())?;
    }
    if json || (!copied && !follow) {
        status(context, &answer, answer.next_cursor, End::Ended);
        return Ok(0);
    }
    let from = if copied { answer.cursor } else { answer.next_cursor };
    let mut log = pyro.workspace(&workspace).await?.follow_service_log(&name, from).await?;
    let end = if follow { follow_log(&mut log, context).await? } else { copy(&mut log, context).await? };
    status(context, &ServiceLogsAnswer { state: log.state(), truncated: false, ..answer }, log.cursor(), end);
    Ok(match end {
        End::Interrupted { exit_code } => exit_code,
        End::Ended => 0,
    })
}

/// Prints what is there.
async fn copy(log: &mut LogFollower, context: &Context) -> Result<End, Failure> {
    while let Some(bytes) = log.available().await? {
        context.printer.bytes(Stream::Stdout, &bytes)?;
    }
    Ok(End::Ended)
}

/// Prints what is there and what comes.
async fn follow_log(log: &mut LogFollower, context: &Context) -> Result<End, Failure> {
    let mut signals = EndSignals::listen()?;
    loop {
        tokio::select! {
            bytes = log.next() => match bytes? {
                Some(bytes) => context.printer.bytes(Stream::Stdout, &bytes)?,
                None => return Ok(End::Ended),
            },
            exit_code = signals.next() => return Ok(End::Interrupted { exit_code }),
        }
    }
}

fn status(context: &Context, answer: &ServiceLogsAnswer, next_cursor: u64, end: End) {
    let fields: [(&str, Value); 8] = [
        ("workspace_id", answer.workspace_id.clone().into()),
        ("service_name", answer.service_name.clone().into()),
        ("state", answer.state.as_str().into()),
        ("cursor", answer.cursor.into()),
        ("next_cursor", next_cursor.into()),
        ("truncated", flag(answer.truncated)),
        ("truncated_before", answer.truncated_before.into()),
        ("interrupted", flag(end != End::Ended)),
    ];
    context.printer.status(STATUS_NAME, &fields);
}
