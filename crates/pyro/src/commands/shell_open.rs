//! `pyro workspace shell open`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, ShellOpen};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace shell open api\n  pyro workspace shell open api --cwd src --cols 160 --rows 50 --id-only\n  pyro workspace shell open api --command top --json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: ShellOpen,
    /// Print the id alone
    #[arg(long, conflicts_with = "json")]
    id_only: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
    context.printer.answer(&answer, |shell| format!("{}\n", shell.shell_id))?;
    if !arguments.id_only {
        let fields = [
            ("workspace_id", answer.workspace_id.into()),
            ("shell_id", answer.shell_id.into()),
            ("state", answer.state.as_str().into()),
            ("cols", answer.cols.into()),
            ("rows", answer.rows.into()),
            ("duration_ms", started.elapsed().as_millis().to_string().into()),
        ];
        context.printer.status("workspace-shell-open", &fields);
    }
    Ok(0)
}
