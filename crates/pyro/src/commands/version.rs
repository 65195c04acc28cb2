//! `pyro version`.

use clap::Args;
use serde_json::json;

use crate::cli::{Context, Outcome};

/// Print the version
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro version --json")]
pub(crate) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(_arguments: Arguments, context: &Context) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    context.printer.answer(&json!({ "version": version }), |_| format!("pyro {version}\n"))?;
    Ok(0)
}
