//! `pyro host print-config`.

use clap::Args;
use serde_json::json;

use super::host_entry::{Place, server};
use crate::{
    cli::{Context, Outcome},
    hosts::{self, Host, ServeOptions, Server},
    render,
};

/// Print what to enter into a host's file by hand
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro host print-config opencode\n  pyro host print-config codex --profile vm-run --json")]
pub(crate) struct Arguments {
    /// Host
    #[arg(value_enum, value_name = "HOST")]
    host: Host,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    options: ServeOptions,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let (host, surroundings) = (arguments.host, context.surroundings()?);
    let connection = arguments.place.of(host)?;
    let made = Server::new(&context.binary()?, &arguments.options, &surroundings)?;
    let path = hosts::path(&connection, &surroundings)?.display().to_string();
    let texts = hosts::shapes(host).iter().map(|shape| (shape.form(), hosts::snippet(host, *shape, &connection.name, &made)));
    let texts: Vec<_> = texts.collect();
    let answer = json!({
        "host": host.name(),
        "scope": connection.scope.name(),
        "path": path,
        "server": server(&made),
        "configurations": texts.iter().map(|(form, text)| json!({ "form": form, "text": text })).collect::<Vec<_>>(),
    });
    context.printer.answer(&answer, |_| render::host_snippets(&texts))?;
    context.printer.status("host-print-config", &[("host", host.name().into()), ("path", path.into())]);
    Ok(0)
}
