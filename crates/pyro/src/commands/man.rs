//! `pyro man`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Cli, Context, Outcome};

/// Print the manual page, or write one page per command into a folder
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro man | man -l -\n  mkdir -p man && pyro man --output man")]
pub(crate) struct Arguments {
    /// Folder for `pyro.1` and one page per command; it must exist
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments, context: &Context) -> Outcome {
    let command = Cli::whole();
    match arguments.output {
        Some(folder) => clap_mangen::generate_to(command, folder)?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            context.printer.content(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(0)
}
