//! `pyro workspace apply`.

use super::{positive, stream::flag};
use clap::Args;
use pyro_sdk::contract::{Apply, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace apply api --dry-run\n  pyro workspace apply api --to ../checkout\n  pyro workspace apply api --undo"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Apply,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::applied)?;
    if !context.printer.is_json() {
        for hazard in &answer.hazards {
            context.printer.warning(&format!("look at `{}` before you go on: {}", hazard.path.escape_debug(), hazard.why));
        }
    }
    context.printer.ignored(answer.ignored_count);
    let conflicts = answer.files.iter().filter(|file| file.verdict == "conflict").count() as u64;
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-apply",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("target", answer.target.into()),
            ("applied", answer.applied.into()),
            ("undone", flag(answer.undone)),
            ("written_count", answer.written_count.into()),
            ("removed_count", positive(answer.removed_count)),
            ("conflict_count", positive(conflicts)),
            ("ignored_count", positive(answer.ignored_count)),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
