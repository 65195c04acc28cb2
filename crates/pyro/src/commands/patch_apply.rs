//! `pyro workspace patch apply`.

use std::path::PathBuf;

use clap::Args;
use pyro_sdk::contract::{Operation as _, PatchApply};
use pyro_sdk::text::{PATCH_MAX_BYTES, PatchText};

use super::{input, positive};

use crate::{
    cli::{Context, Outcome},
    render,
};

/// Most parts named at a terminal that were left out.
const LEFT_OUT_SHOWN: usize = 20;

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace patch apply api --patch-file fix.patch\n  git diff --binary | pyro workspace patch apply api --patch-file - --check\n  git format-patch --stdout main | pyro workspace patch apply api --patch-file -"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: PatchApply,
    /// File on the host that holds the patch; `-` is standard input
    #[arg(long, value_name = "FILE")]
    patch_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let mut request = arguments.request;
    if let Some(path) = &arguments.patch_file {
        request.patch = PatchText::from(input::read(path, PATCH_MAX_BYTES)?);
    }
    let answer = request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, render::patched)?;
    for left in answer.left_out.iter().take(LEFT_OUT_SHOWN) {
        context.printer.notice(&format!("`{}` was left out: it {}", left.path.escape_debug(), left.reason));
    }
    if answer.left_out_count > LEFT_OUT_SHOWN as u64 {
        context.printer.notice(&format!("{} more were left out; see `--json`", answer.left_out_count - LEFT_OUT_SHOWN as u64));
    }
    let duration_ms = started.elapsed().as_millis().to_string();
    context.printer.status(
        "workspace-patch-apply",
        &[
            ("workspace_id", answer.workspace_id.into()),
            ("applied", answer.applied.into()),
            ("file_count", answer.files.len().into()),
            ("left_out_count", positive(answer.left_out_count)),
            ("duration_ms", duration_ms.into()),
        ],
    );
    Ok(0)
}
