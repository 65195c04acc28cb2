//! `pyro workspace service stop`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, ServiceStop};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace service stop api web\n  pyro workspace service stop api web --grace-seconds 60")]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ServiceStop,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let fields = [
        ("workspace_id", answer.workspace_id.into()),
        ("service_name", answer.service_name.into()),
        ("state", answer.state.as_str().into()),
        ("exit_code", answer.exit_code.into()),
        ("signal", answer.signal.into()),
        ("duration_ms", started.elapsed().as_millis().to_string().into()),
    ];
    context.printer.status("workspace-service-stop", &fields);
    Ok(0)
}
