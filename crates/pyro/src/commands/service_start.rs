//! `pyro workspace service start`.

use clap::Args;
use pyro_sdk::{
    ErrorKind,
    contract::{Operation as _, ServiceOutcome, ServiceStart},
};

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace service start api web --ready-http http://localhost:8000/ -- python3 -m http.server 8000\n  pyro workspace service start api db --ready-tcp 5432 --ready-timeout-seconds 60 --restart on-failure -- ./run-database\n  pyro workspace service start api web --publish 8080:8000 --ready-tcp 8000 -- ./serve   # exits with 75 while it is not ready"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ServiceStart,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |answer| render::ports_in_brief(&answer.service.published_ports))?;
    if let Some(log) = answer.log_tail.as_ref().filter(|_| !context.printer.is_json()) {
        context.printer.excerpt(log);
    }
    let service = answer.service;
    let fields = [
        ("workspace_id", service.workspace_id.into()),
        ("service_name", service.service_name.into()),
        ("outcome", answer.outcome.as_str().into()),
        ("state", service.state.as_str().into()),
        ("pid", service.pid.into()),
        ("exit_code", service.exit_code.into()),
        ("signal", service.signal.into()),
        ("stop_reason", service.stop_reason.into()),
        ("duration_ms", started.elapsed().as_millis().to_string().into()),
    ];
    context.printer.status("workspace-service-start", &fields);
    Ok(match answer.outcome {
        ServiceOutcome::Ready => 0,
        ServiceOutcome::TimedOut => ErrorKind::DeadlineExceeded.exit_code(),
        ServiceOutcome::Exited | ServiceOutcome::Stopped => ErrorKind::WrongState.exit_code(),
    })
}
