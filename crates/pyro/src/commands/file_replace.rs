//! `pyro workspace file replace`.

use clap::Args;
use pyro_sdk::contract::{FileReplace, Operation as _};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace file replace api src/main.rs --old foo --new bar\n  pyro workspace file replace api README.md --old colour --new color --all"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: FileReplace,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-file-replace",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("path", answer.path.into()),
            ("link_target", answer.link_target.into()),
            ("replacement_count", answer.replacement_count.into()),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
