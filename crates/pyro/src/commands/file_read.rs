//! `pyro workspace file read`.

use super::show;
use clap::Args;
use pyro_sdk::contract::{FileRead, Operation as _};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace file read api src/main.rs\n  pyro workspace file read api /workspace/log.txt --lines 100:150\n  pyro workspace file read api data.csv --offset 65536 --content-only"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: FileRead,
    /// Print the text alone, without a status line
    #[arg(long, conflicts_with = "json")]
    content_only: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    show::content(context, &answer, "workspace-file-read", arguments.content_only)?;
    Ok(0)
}
