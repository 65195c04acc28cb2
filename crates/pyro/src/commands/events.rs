//! `pyro workspace events`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, WorkspaceEvents};

use super::stream::flag;
use crate::{
    cli::{Context, EndSignals, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace events api\n  pyro workspace events api --cursor 120 --limit 50 --json\n  pyro workspace events api --follow --json   # one object per line"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: WorkspaceEvents,
    /// Go on with what happens, until the workspace is gone
    #[arg(long, conflicts_with = "limit")]
    follow: bool,
    /// Print one JSON object; with `--follow`, one per event and line
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let pyro = context.pyro()?;
    let request = arguments.request;
    if !arguments.follow {
        let answer = request.call(&pyro, &context.observer()).await?;
        context.printer.answer(&answer, |answer| answer.events.iter().map(render::event).collect())?;
        let fields = [
            ("workspace_id", answer.workspace_id.into()),
            ("next_cursor", answer.next_cursor.into()),
            ("truncated", flag(answer.truncated)),
            ("truncated_before", answer.truncated_before.into()),
        ];
        context.printer.status("workspace-events", &fields);
        return Ok(0);
    }
    let mut events = pyro.follow_events(&request.workspace, request.cursor).await?;
    let mut signals = EndSignals::listen()?;
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Some(event) => context.printer.line(&event, render::event)?,
                None => return Ok(0),
            },
            exit_code = signals.next() => return Ok(exit_code),
        }
    }
}
