//! `pyro top`.

use clap::Args;
use pyro_sdk::ErrorKind;

use crate::{
    cli::{Context, Failure, Outcome},
    render, terminal,
    top::{self, Palette},
};

/// Show all workspaces live: what runs in them and what they take of this host
///
/// Attaches to shells, shows logs, stops and deletes by keys; `?` shows them.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro top\n  pyro top --json   # one look, for programs")]
pub(crate) struct Arguments {
    /// Print one look as a JSON object and end
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    if arguments.json {
        let answer = top::once(&context.pyro()?).await?;
        context.printer.answer(&answer, render::json_text)?;
        return Ok(0);
    }
    if !terminal::is_interactive() {
        let message = "standard input and output are not a terminal; programs use `pyro workspace list --json` or `pyro top --json`";
        return Err(Failure::Pyro(pyro_sdk::Failure::message(ErrorKind::InvalidArgument, message).into()));
    }
    #[expect(clippy::disallowed_methods, reason = "how a terminal is to look is this command's own edge")]
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    top::run(context.pyro()?, &context.binary()?, Palette::new(colours)).await.map_err(terminal::failure)
}
