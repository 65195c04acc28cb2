//! `pyro workspace port publish`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, PortPublish};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace port publish api 8000\n  pyro workspace port publish api 8080:8000 --service web")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: PortPublish,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |answer| format!("{}:{}\n", answer.port.host, answer.port.host_port))?;
    let fields = [
        ("workspace_id", answer.workspace_id.into()),
        ("guest_port", answer.port.guest_port.into()),
        ("host_port", answer.port.host_port.into()),
        ("service_name", answer.port.service_name.into()),
    ];
    context.printer.status("workspace-port-publish", &fields);
    Ok(0)
}
