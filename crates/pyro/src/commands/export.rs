//! `pyro workspace export`.

use clap::Args;
use pyro_sdk::contract::{Export, Operation as _};

use crate::cli::{Context, Outcome};

/// Most hazards named at a terminal.
const HAZARDS_SHOWN: usize = 20;

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace export api dist --output ./dist\n  pyro workspace export api /workspace/report.html --output report.html --force"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Export,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    for left in &answer.left_out {
        context.printer.notice(&format!("`{}` was not taken: {}", left.path.escape_debug(), left.reason));
    }
    for hazard in answer.hazards.iter().take(HAZARDS_SHOWN) {
        context.printer.notice(&format!("look at `{}` before you use it: it {}", hazard.path.escape_debug(), hazard.why));
    }
    if answer.hazards.len() > HAZARDS_SHOWN {
        context.printer.notice(&format!("and {} more; `--json` has them", answer.hazards.len() - HAZARDS_SHOWN));
    }
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-export",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("output", answer.output.into()),
            ("entry_count", answer.entry_count.into()),
            ("bytes_written", answer.bytes_written.into()),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
