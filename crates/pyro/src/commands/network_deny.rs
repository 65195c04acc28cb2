//! `pyro workspace network deny`.

use clap::Args;
use pyro_sdk::contract::{NetworkDeny, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace network deny api telemetry.example.com\n  pyro workspace network deny api 203.0.113.0/24"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: NetworkDeny,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    context.printer.status("workspace-network-deny", &render::network_fields(&answer));
    Ok(0)
}
