//! `pyro network learn`.

use clap::Args;
use pyro_sdk::{
    CommandSpec, Stdin,
    contract::{NetworkLearn, Operation as _},
    limits::MaxOutputBytes,
};

use super::stream::{self, Follow};
use crate::cli::{Context, Outcome};

pub(crate) const STATUS_NAME: &str = "network-learn";

#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  pyro network learn api -- pip install -r requirements.txt\n  pyro network learn api --group packages -- sh -c 'apt-get update && apt-get install -y jq'"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: NetworkLearn,
    /// Print one JSON object when the command has ended
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let pyro = context.pyro()?;
    let request = arguments.request;
    if arguments.json {
        let answer = request.call(&pyro, &context.observer()).await?;
        context.printer.answer(&answer, |_| String::new())?;
        return Ok(answer.exit_code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
    }
    let workspace = pyro.workspace(&request.workspace).await?;
    let learning = workspace.learn().await?;
    let spec = CommandSpec { timeout: request.timeout_seconds, stdin: Stdin::Empty, ..CommandSpec::new(request.command) };
    let mut execution = workspace.start_command(&spec).await?;
    let follow = Follow { stdin: false, yield_after: None, max_output_bytes: MaxOutputBytes::default() };
    let (end, answer) = stream::follow(&mut execution, &context.printer, follow).await?;
    let code = stream::conclude(&context.printer, STATUS_NAME, &end, &answer)?;
    let learnt = learning.finish().await?;
    if learnt.rules.is_empty() {
        context.printer.notice("it reached nothing");
    } else {
        let flags = format!("--network-policy egress {}\n", learnt.flags());
        context.printer.content(&format!(
            "\n# As flags of `pyro workspace create`:\n{flags}\n# As a group for config.toml, used with `--allow-group {0}`:\n{1}",
            request.group,
            learnt.group(&request.group)
        ))?;
    }
    for rule in learnt.refused {
        context.printer.notice(&format!("refused even so, since nothing named it: {rule}"));
    }
    Ok(code)
}
