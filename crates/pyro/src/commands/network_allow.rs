//! `pyro workspace network allow`.

use clap::Args;
use pyro_sdk::contract::{NetworkAllow, Operation as _};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace network allow api api.example.com:443\n  pyro workspace network allow api 10.0.0.5:5432\n  pyro workspace network allow api --allow-group packages --only"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: NetworkAllow,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    context.printer.status("workspace-network-allow", &render::network_fields(&answer));
    Ok(0)
}
