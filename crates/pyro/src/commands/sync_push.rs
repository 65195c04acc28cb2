//! `pyro workspace sync push`.

use super::positive;
use clap::Args;
use pyro_sdk::contract::{Operation as _, SyncPush};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace sync push api ./src --dest src\n  pyro workspace sync push api release.tar.gz --dest /workspace/release --delete"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: SyncPush,
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
        "workspace-sync-push",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("entry_count", answer.entry_count.into()),
            ("bytes_written", answer.bytes_written.into()),
            ("removed_count", positive(answer.removed_count)),
            ("left_out_count", positive(answer.left_out_count)),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
