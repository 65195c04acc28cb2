//! `pyro mcp tools`.

use clap::Args;
use pyro_sdk::contract::Profile;
use serde::Serialize;

use crate::{
    cli::{Context, Outcome},
    mcp::{Ceiling, Mode, ProfileName, ServerOptions, Surface, ToolCost},
    render,
};

/// Which tools.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Tools by how much a model shall be able to do
    #[arg(long, value_enum, default_value = "workspace-full", conflicts_with = "mode")]
    profile: ProfileName,
    /// Tools by the work to be done, described in its words
    #[arg(long, value_enum)]
    mode: Option<Mode>,
}

impl Selection {
    pub(crate) fn surface(&self) -> Surface {
        match self.mode {
            Some(mode) => Surface::Mode(mode),
            None => Surface::Profile(Profile::from(self.profile)),
        }
    }
}

/// Show the tools of a profile or a mode, and what they cost a model in tokens
///
/// The tokens are those of names, descriptions and schemas, estimated a little high; a host may leave some of these out.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro mcp tools --profile workspace-core\n  pyro mcp tools --mode inspect --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Print one JSON object, with the tools as a client lists them
    #[arg(long)]
    pub(crate) json: bool,
}

/// The tools of a surface.
#[derive(Debug, Serialize)]
pub(crate) struct Listing {
    /// Its name
    pub(crate) surface: &'static str,
    /// Tokens of all of them
    pub(crate) tokens: usize,
    /// Tokens they may cost at most
    pub(crate) budget_tokens: usize,
    /// What each costs
    pub(crate) costs: Vec<ToolCost>,
    /// As a client lists them
    pub(crate) tools: serde_json::Value,
}

pub(crate) fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let surface = arguments.selection.surface();
    // With everything an operator can allow.
    let options = ServerOptions { ceiling: Ceiling { allow_apply: true, ..Ceiling::default() }, ..ServerOptions::default() };
    let costs = surface.costs(&options);
    let listing = Listing {
        surface: surface.name(),
        tokens: costs.iter().map(|cost| cost.tokens).sum(),
        budget_tokens: surface.budget(),
        costs,
        tools: serde_json::to_value(surface.tools(&options)).unwrap_or_default(),
    };
    context.printer.answer(&listing, render::tools)?;
    Ok(0)
}
