//! `pyro workspace port unpublish`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, PortUnpublish};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace port unpublish api 8000\n  pyro workspace port unpublish api 8080:8000")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: PortUnpublish,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let fields = [
        ("workspace_id", answer.workspace_id.into()),
        ("guest_port", answer.guest_port.into()),
        ("unpublished_count", answer.unpublished_count.into()),
    ];
    context.printer.status("workspace-port-unpublish", &fields);
    Ok(0)
}
