//! `pyro completions`.

use clap::Args;

use crate::cli::{Cli, Context, Outcome};

/// Print a completion script for a shell
///
/// For bash: `pyro completions bash > ~/.local/share/bash-completion/completions/pyro`
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro completions bash > ~/.local/share/bash-completion/completions/pyro")]
pub(crate) struct Arguments {
    /// Shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::whole(), "pyro", &mut script);
    context.printer.content(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
