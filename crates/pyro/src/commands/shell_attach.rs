//! `pyro workspace shell attach`.

use clap::Args;
use pyro_sdk::{
    ErrorKind,
    text::{ShellId, WorkspaceReference},
};
use serde_json::Value;

use crate::{
    cli::{Context, Failure, Outcome},
    render,
    terminal::{self, Attached, End, Flow, RawTerminal, Signals, TerminalInput},
};

/// As a shell reports a program ended by SIGHUP: there is no terminal to tell anything.
const HUNG_UP: u8 = 129;

/// Attach this terminal to a shell of a workspace
///
/// Shows what the shell shows and goes on from there. `Ctrl-]` then `q` detaches and leaves the shell as it is; `Ctrl-]` twice sends one.
/// The exit code is the shell's when it ends, and 0 after a detach. Programs use `shell read` and `shell write`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro workspace shell attach api sh1")]
pub(crate) struct Arguments {
    /// Workspace: its name, its id, or the beginning of its id
    #[arg(value_name = "WORKSPACE")]
    workspace: WorkspaceReference,
    /// Shell: its id
    #[arg(value_name = "SHELL")]
    shell_id: ShellId,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    if !terminal::is_interactive() {
        let message = "standard input and output are not a terminal to attach; `pyro workspace shell read` and `shell write` need none";
        return Err(Failure::Pyro(pyro_sdk::Failure::message(ErrorKind::InvalidArgument, message).into()));
    }
    let pyro = context.pyro()?;
    let workspace = pyro.workspace(&arguments.workspace).await?;
    let (columns, rows) = terminal::size();
    // Before the terminal is taken over, so that a call that takes its time can be interrupted.
    let mut session = workspace.attach_shell(arguments.shell_id, pyro_sdk::TerminalSize::nearest(columns, rows)).await?;
    context.printer.notice(&format!(
        "attached to shell `{}` of `{}`; detach with `Ctrl-]` then `q`, send `Ctrl-]` by typing it twice",
        arguments.shell_id,
        workspace.label()
    ));
    let binary = context.binary()?;
    let input = TerminalInput::open().map_err(terminal::failure)?;
    let mut signals = Signals::listen().map_err(terminal::failure)?;
    let mut terminal = RawTerminal::enter(&binary).map_err(terminal::failure)?;
    let attached = terminal::attach(&mut session, &mut terminal, &input, &mut signals).await;
    let (flow, gone) = attached.as_ref().map_or((Flow::Free, true), |attached| (attached.flow, matches!(attached.end, End::Gone)));
    if flow == Flow::Free && !gone {
        terminal.leave_shell();
    }
    terminal.restore(flow);
    // The shell goes on without us.
    drop(session);
    let Attached { end, flow } = attached.map_err(terminal::failure)?;
    if flow == Flow::Stuck {
        return Ok(match end {
            End::Ended(exit) => exit_code(exit.exit_code),
            End::Signalled(code) => code,
            End::Detached => 0,
            End::Gone | End::Lost(_) => HUNG_UP,
        });
    }
    conclude(end, &arguments, context)
}

fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Says how it ended and returns the exit code.
fn conclude(end: End, arguments: &Arguments, context: &Context) -> Outcome {
    let (state, code) = match end {
        End::Detached => {
            let again = format!("pyro workspace shell attach {} {}", arguments.workspace, arguments.shell_id);
            context.printer.notice(&format!("detached, and the shell goes on; attach again with `{again}`"));
            ("detached", 0)
        }
        End::Ended(exit) => {
            let code = exit_code(exit.exit_code);
            let because = exit.failure.map(|reason| format!(": {}", render::plain(&reason))).unwrap_or_default();
            context.printer.notice(&format!("the shell ended with exit code {code}{because}"));
            ("ended", code)
        }
        End::Signalled(code) => ("detached", code),
        End::Gone => return Ok(HUNG_UP),
        End::Lost(error) => return Err(error.into()),
    };
    let fields: [(&str, Value); 4] = [
        ("workspace", arguments.workspace.to_string().into()),
        ("shell_id", arguments.shell_id.to_string().into()),
        ("state", state.into()),
        ("exit_code", code.into()),
    ];
    context.printer.status("workspace-shell-attach", &fields);
    Ok(code)
}
