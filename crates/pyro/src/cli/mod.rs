//! The command line: what it looks like, how it is resolved, and how a command's result becomes an exit code.
//!
//! `pyro --version` and a supervisor's start are on paths where a millisecond shows. So the hidden words are looked at before clap, the
//! event loop has one thread, and folders, configuration and registry are touched only by commands that need them.

mod arguments;
mod context;
mod interrupt;
mod later;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod usage;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;
use pyro_sdk::ErrorKind;

use self::interrupt::{Ended, Manner, watch};
#[cfg(test)]
pub(crate) use self::tests::check_file;
pub(crate) use self::{
    arguments::{
        AuditCommand, Cli, Command, DiskCommand, EnvCommand, FileCommand, HostCommand, LearnCommand, McpCommand, NetworkCommand,
        PatchCommand, PortCommand, ServiceCommand, ShellCommand, SnapshotCommand, SyncCommand, SystemCommand, WorkspaceCommand,
    },
    context::{Context, Failure, Outcome},
    interrupt::{EndSignals, OwnSignals, own_signals},
    later::Later,
};
use crate::{commands, render::Printer, supervise, terminal};

/// Exit code of `run` and `exec` for Pyro's own failures: the guest command has all others.
const EXEC_FAILED: u8 = 125;

/// Runs the command line.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    if let [_, word] = arguments.as_slice()
        && word == "__terminal-guard"
    {
        return terminal::run_guard();
    }
    if let [_, word, argument] = arguments.as_slice() {
        match (word.to_str(), argument.to_str()) {
            (Some("__supervise"), Some(argument)) => return supervise::supervise(argument),
            (Some("__machine"), Some(argument)) => return supervise::machine(argument),
            _ => {}
        }
    }
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => run(cli),
        Err(error) => usage::report(&arguments, &error),
    }
}

fn run(cli: Cli) -> ExitCode {
    let printer = Printer::new(cli.command.wants_json());
    let style = cli.command.failure_style();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return printer.bug(&format!("cannot start the event loop: {error}")),
    };
    let context = Context::new(printer, cli.accelerator);
    let manner = Manner::of(&cli.command);
    let ended = runtime.block_on(watch(dispatch(cli.command, &context), &context, manner));
    for put_back in context.take_put_back() {
        printer.put_back(&put_back);
    }
    match ended {
        Ended::Finished(outcome) => {
            // What still runs on a blocking thread (a pull that was given up) must not hold the exit.
            runtime.shutdown_background();
            finish(&printer, style, outcome)
        }
        Ended::Interrupted { exit_code, text } => {
            runtime.shutdown_background();
            printer.interrupted(&text);
            ExitCode::from(exit_code)
        }
    }
}

fn finish(printer: &Printer, style: FailureStyle, outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Pyro(error)) => {
            printer.failure(&error);
            exit_code(printer, style, &error)
        }
        Err(Failure::Host(error)) => {
            printer.failure(&error);
            ExitCode::from(error.kind().exit_code())
        }
        Err(Failure::Bug(text)) => printer.bug(&text),
        // Whoever read our output has had enough; there is nobody to tell.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(141),
        Err(Failure::Output(error)) => {
            let error = pyro_sdk::Error::from(pyro_sdk::Failure {
                kind: ErrorKind::Io.into(),
                message: "cannot write the output".to_owned(),
                causes: vec![error.to_string()],
            });
            printer.output_failure(&error);
            // An object cannot say it: standard output is what failed.
            exit_code(&Printer::new(false), style, &error)
        }
    }
}

fn exit_code(printer: &Printer, style: FailureStyle, error: &pyro_sdk::Error) -> ExitCode {
    match style {
        FailureStyle::ByKind => ExitCode::from(error.kind().exit_code()),
        FailureStyle::Exec(name) => {
            printer.status(name, &[("error_kind", error.kind().code().into()), ("exit_code", EXEC_FAILED.into())]);
            ExitCode::from(EXEC_FAILED)
        }
    }
}

/// Which exit code Pyro's own failures have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureStyle {
    /// The kind's.
    ByKind,
    /// 125, with the kind in a status line of this name.
    Exec(&'static str),
}

async fn dispatch(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Run(arguments) => commands::run::run(arguments, context).await,
        Command::Env(Later(EnvCommand::List(arguments))) => commands::env_list::run(arguments, context).await,
        Command::Env(Later(EnvCommand::Pull(arguments))) => commands::env_pull::run(arguments, context).await,
        Command::Env(Later(EnvCommand::Inspect(arguments))) => commands::env_inspect::run(arguments, context).await,
        Command::Env(Later(EnvCommand::Prune(arguments))) => commands::env_prune::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Create(arguments))) => commands::create::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::List(arguments))) => commands::list::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Status(arguments))) => commands::status::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Update(arguments))) => commands::update::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Exec(arguments))) => commands::exec::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::ExecWait(arguments))) => commands::exec_wait::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::ExecKill(arguments))) => commands::exec_kill::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Logs(arguments))) => commands::logs::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Summary(arguments))) => commands::summary::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Sync(Later(SyncCommand::Push(arguments))))) => {
            commands::sync_push::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::List(arguments))))) => {
            commands::file_list::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::Read(arguments))))) => {
            commands::file_read::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::Write(arguments))))) => {
            commands::file_write::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::Replace(arguments))))) => {
            commands::file_replace::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::Search(arguments))))) => {
            commands::file_search::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::Patch(Later(PatchCommand::Apply(arguments))))) => {
            commands::patch_apply::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::Diff(arguments))) => commands::diff::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Export(arguments))) => commands::export::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Apply(arguments))) => commands::apply::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Reset(arguments))) => commands::reset::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Fork(arguments))) => commands::fork::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Snapshot(Later(SnapshotCommand::Create(arguments))))) => {
            commands::snapshot_create::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::Snapshot(Later(SnapshotCommand::List(arguments))))) => {
            commands::snapshot_list::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::Snapshot(Later(SnapshotCommand::Delete(arguments))))) => {
            commands::snapshot_delete::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::Disk(Later(DiskCommand::List(arguments))))) => {
            commands::disk_list::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::Disk(Later(DiskCommand::Read(arguments))))) => {
            commands::disk_read::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::Disk(Later(DiskCommand::Export(arguments))))) => {
            commands::disk_export::run(arguments, context).await
        }
        Command::Workspace(Later(WorkspaceCommand::Stop(arguments))) => commands::stop::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Start(arguments))) => commands::start::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Shell(Later(command)))) => dispatch_shell(command, context).await,
        Command::Workspace(Later(WorkspaceCommand::Service(Later(command)))) => dispatch_service(command, context).await,
        Command::Workspace(Later(WorkspaceCommand::Network(Later(command)))) => dispatch_network(command, context).await,
        Command::Workspace(Later(WorkspaceCommand::Port(Later(command)))) => dispatch_port(command, context).await,
        Command::Workspace(Later(WorkspaceCommand::Events(arguments))) => commands::events::run(arguments, context).await,
        Command::Workspace(Later(WorkspaceCommand::Delete(arguments))) => commands::delete::run(arguments, context).await,
        Command::Prepare(arguments) => commands::prepare::run(arguments, context).await,
        Command::Top(arguments) => commands::top::run(arguments, context).await,
        Command::Doctor(arguments) => commands::doctor::run(arguments, context).await,
        Command::Host(Later(command)) => dispatch_host(command, context),
        Command::Demo(arguments) => commands::demo::run(arguments, context).await,
        Command::Mcp(Later(McpCommand::Serve(arguments))) => commands::mcp_serve::run(*arguments, context).await,
        Command::Mcp(Later(McpCommand::Tools(arguments))) => commands::mcp_tools::run(&arguments, context),
        Command::System(Later(SystemCommand::Df(arguments))) => commands::system_df::run(arguments, context).await,
        Command::System(Later(SystemCommand::Prune(arguments))) => commands::system_prune::run(arguments, context).await,
        Command::Network(Later(LearnCommand::Learn(arguments))) => commands::network_learn::run(arguments, context).await,
        Command::Audit(Later(AuditCommand::Verify(arguments))) => commands::audit_verify::run(arguments, context).await,
        Command::Config(Later(arguments)) => commands::config::run(arguments, context),
        Command::Completions(arguments) => commands::completions::run(arguments, context),
        Command::Man(arguments) => commands::man::run(arguments, context),
        Command::Version(arguments) => commands::version::run(arguments, context),
    }
}

fn dispatch_host(command: HostCommand, context: &Context) -> Outcome {
    match command {
        HostCommand::Connect(arguments) => commands::host_connect::run(&arguments, context),
        HostCommand::Disconnect(arguments) => commands::host_disconnect::run(&arguments, context),
        HostCommand::PrintConfig(arguments) => commands::host_print_config::run(&arguments, context),
        HostCommand::Doctor(arguments) => commands::host_doctor::run(&arguments, context),
        HostCommand::Repair(arguments) => commands::host_repair::run(&arguments, context),
    }
}

async fn dispatch_shell(command: ShellCommand, context: &Context) -> Outcome {
    match command {
        ShellCommand::Open(arguments) => commands::shell_open::run(arguments, context).await,
        ShellCommand::Attach(arguments) => commands::shell_attach::run(arguments, context).await,
        ShellCommand::List(arguments) => commands::shell_list::run(arguments, context).await,
        ShellCommand::Read(arguments) => commands::shell_read::run(arguments, context).await,
        ShellCommand::Write(arguments) => commands::shell_write::run(arguments, context).await,
        ShellCommand::Signal(arguments) => commands::shell_signal::run(arguments, context).await,
        ShellCommand::Resize(arguments) => commands::shell_resize::run(arguments, context).await,
        ShellCommand::Close(arguments) => commands::shell_close::run(arguments, context).await,
    }
}

async fn dispatch_service(command: ServiceCommand, context: &Context) -> Outcome {
    match command {
        ServiceCommand::Start(arguments) => commands::service_start::run(*arguments, context).await,
        ServiceCommand::List(arguments) => commands::service_list::run(arguments, context).await,
        ServiceCommand::Status(arguments) => commands::service_status::run(arguments, context).await,
        ServiceCommand::Logs(arguments) => commands::service_logs::run(arguments, context).await,
        ServiceCommand::Stop(arguments) => commands::service_stop::run(arguments, context).await,
    }
}

async fn dispatch_network(command: NetworkCommand, context: &Context) -> Outcome {
    match command {
        NetworkCommand::Allow(arguments) => commands::network_allow::run(arguments, context).await,
        NetworkCommand::Deny(arguments) => commands::network_deny::run(arguments, context).await,
        NetworkCommand::List(arguments) => commands::network_list::run(arguments, context).await,
    }
}

async fn dispatch_port(command: PortCommand, context: &Context) -> Outcome {
    match command {
        PortCommand::Publish(arguments) => commands::port_publish::run(arguments, context).await,
        PortCommand::Unpublish(arguments) => commands::port_unpublish::run(arguments, context).await,
        PortCommand::List(arguments) => commands::port_list::run(arguments, context).await,
    }
}
