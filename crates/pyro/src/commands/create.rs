//! `pyro workspace create`.

use clap::Args;
use pyro_sdk::contract::{Operation as _, WorkspaceCreate};

use crate::cli::{Context, Outcome};

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro workspace create debian:12 --name api --seed-path .\n  pyro workspace create debian:12 --label team=web --network-policy egress --allow-host api.example.com:443\n  pyro workspace create debian:12 --network-policy egress --secret TOKEN --secret-host api.example.com   # of the variable TOKEN"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: WorkspaceCreate,
    /// Print the id alone
    #[arg(long, conflicts_with = "json")]
    id_only: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let started = std::time::Instant::now();
    let mut arguments = arguments;
    super::secret::look_up(&mut arguments.request.secrets);
    if arguments.json {
        let answer = arguments.request.call(&context.pyro()?, &context.observer()).await?;
        context.printer.answer(&answer, |_| String::new())?;
        return Ok(0);
    }
    let workspace = context.pyro()?.create_workspace(arguments.request, &context.observer()).await?;
    context.printer.content(&format!("{}\n", workspace.id()))?;
    if !arguments.id_only {
        let fields = [
            ("workspace_id", workspace.id().as_str().into()),
            ("state", "running".into()),
            ("duration_ms", started.elapsed().as_millis().to_string().into()),
        ];
        context.printer.status("workspace-create", &fields);
    }
    Ok(0)
}
