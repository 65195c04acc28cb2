//! `pyro workspace diff`.

use super::{positive, stream::flag};
use clap::Args;
use pyro_sdk::contract::{Diff, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace diff api --stat\n  pyro workspace diff api --against host\n  pyro workspace diff api --against before-review > review.patch"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Diff,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    match &answer.patch {
        Some(patch) if !arguments.json => context.printer.patch(patch.as_bytes())?,
        Some(_) | None => context.printer.answer(&answer, render::diff_stat)?,
    }
    if answer.summary.binary > 0 && answer.patch.is_some() && !arguments.json {
        let text = format!(
            "{} binary {} no part of the patch; `pyro workspace apply` or `export` brings them home",
            answer.summary.binary,
            if answer.summary.binary == 1 { "file is" } else { "files are" }
        );
        context.printer.notice(&text);
    }
    context.printer.ignored(answer.ignored_count);
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-diff",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("against", answer.against.into()),
            ("entry_count", answer.summary.entry_count.into()),
            ("insertions", answer.summary.insertions.into()),
            ("deletions", answer.summary.deletions.into()),
            ("binary", positive(answer.summary.binary)),
            ("ignored_count", positive(answer.ignored_count)),
            ("truncated", flag(answer.truncated)),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
