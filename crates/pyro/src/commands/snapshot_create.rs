//! `pyro workspace snapshot create`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, SnapshotCreate};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace snapshot create api before-review\n  pyro workspace snapshot create api warm --live"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: SnapshotCreate,
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
        "workspace-snapshot-create",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("snapshot_name", answer.snapshot_name.into()),
            ("kind", answer.kind.as_str().into()),
            ("bytes_written", answer.bytes_written.into()),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
