//! `pyro config`.

use clap::Subcommand;
use serde_json::json;

use crate::{
    cli::{Context, Outcome},
    render,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Show every setting and where its value comes from
    #[command(after_long_help = "Examples:\n  pyro config show\n  pyro --accelerator tcg config show --json")]
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Outcome {
    let Arguments::Show { json: _ } = arguments;
    let configuration = context.configuration()?;
    let settings: serde_json::Map<String, serde_json::Value> = configuration
        .values
        .iter()
        .map(|value| (value.key.to_owned(), json!({ "value": value.value, "origin": value.origin.to_string() })))
        .collect();
    context.printer.answer(&json!({ "settings": settings }), |_| render::settings(&configuration.values))?;
    Ok(0)
}
