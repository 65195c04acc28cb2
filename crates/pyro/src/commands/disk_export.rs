//! `pyro workspace disk export`.

use clap::Args;
use pyro_sdk::contract::{DiskExport, Operation as _};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace disk export api --output api.ext4")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: DiskExport,
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
        "workspace-disk-export",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("output", answer.output.into()),
            ("size_bytes", answer.size_bytes.into()),
            ("bytes_written", answer.bytes_written.into()),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
