//! `pyro workspace file write`.

use std::path::PathBuf;

use clap::Args;
use pyro_sdk::contract::{FileWrite, Operation as _};
use pyro_sdk::text::{FILE_TEXT_MAX_BYTES, FileText};

use super::input;

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace file write api notes.txt --text hello\n  pyro workspace file write api src/main.rs --text-file main.rs\n  generate | pyro workspace file write api config.json --text-file -"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: FileWrite,
    /// File on the host that holds the text; `-` is standard input
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let mut request = arguments.request;
    if let Some(path) = &arguments.text_file {
        request.text = FileText::from_bytes(input::read(path, FILE_TEXT_MAX_BYTES)?)?;
    }
    let answer = request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |_| String::new())?;
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-file-write",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("path", answer.path.into()),
            ("link_target", answer.link_target.into()),
            ("bytes_written", answer.bytes_written.into()),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
