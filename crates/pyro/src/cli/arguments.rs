//! The tree of commands. What each takes comes from the contract's request, flattened into the command's own arguments.

use clap::{Parser, Subcommand};
use pyro_sdk::config::AcceleratorChoice;

use super::{FailureStyle, Later, later::at_once};
use crate::commands;

/// Disposable microVM workspaces for coding agents
#[derive(Debug, Parser)]
#[command(name = "pyro", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// How guests run: `auto` tries hardware virtualization and falls back to translation, `kvm`, or `tcg`
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) accelerator: Option<AcceleratorChoice>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(commands::run::Arguments),
    /// Work with workspaces
    #[command(subcommand)]
    Workspace(Later<WorkspaceCommand>),
    /// Work with environments
    #[command(subcommand)]
    Env(Later<EnvCommand>),
    /// Serve workspaces to models by the Model Context Protocol
    #[command(subcommand)]
    Mcp(Later<McpCommand>),
    Top(commands::top::Arguments),
    Prepare(commands::prepare::Arguments),
    Doctor(commands::doctor::Arguments),
    /// Connect the programs agents live in (Claude Code, Codex, opencode, Cursor, VS Code, Gemini CLI) to Pyro's MCP server
    #[command(subcommand)]
    Host(Later<HostCommand>),
    Demo(commands::demo::Arguments),
    /// See and free what Pyro takes on this host
    #[command(subcommand)]
    System(Later<SystemCommand>),
    /// Find out what a command needs of the network
    #[command(subcommand)]
    Network(Later<LearnCommand>),
    /// Check what was written down
    #[command(subcommand)]
    Audit(Later<AuditCommand>),
    /// See the configuration
    #[command(subcommand)]
    Config(Later<commands::config::Arguments>),
    Completions(commands::completions::Arguments),
    Man(commands::man::Arguments),
    Version(commands::version::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum McpCommand {
    Serve(Box<commands::mcp_serve::Arguments>),
    Tools(commands::mcp_tools::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    Create(commands::create::Arguments),
    List(commands::list::Arguments),
    Status(commands::status::Arguments),
    Update(commands::update::Arguments),
    Exec(commands::exec::Arguments),
    ExecWait(commands::exec_wait::Arguments),
    ExecKill(commands::exec_kill::Arguments),
    Logs(commands::logs::Arguments),
    Summary(commands::summary::Arguments),
    /// Copy files of the host into a workspace
    #[command(subcommand)]
    Sync(Later<SyncCommand>),
    /// List, read, write and search single files of a workspace
    #[command(subcommand)]
    File(Later<FileCommand>),
    /// Change files of a workspace by a patch
    #[command(subcommand)]
    Patch(Later<PatchCommand>),
    Diff(commands::diff::Arguments),
    Export(commands::export::Arguments),
    Apply(commands::apply::Arguments),
    Reset(commands::reset::Arguments),
    Stop(commands::stop::Arguments),
    Start(commands::start::Arguments),
    Fork(commands::fork::Arguments),
    /// Keep moments of a workspace
    #[command(subcommand)]
    Snapshot(Later<SnapshotCommand>),
    /// Look at the disk of a stopped workspace
    #[command(subcommand)]
    Disk(Later<DiskCommand>),
    /// Open terminals in a workspace that stay between calls, write to them and read what they show
    #[command(subcommand)]
    Shell(Later<ShellCommand>),
    /// Start programs that stay, find out when they can be used, and read their logs
    #[command(subcommand)]
    Service(Later<ServiceCommand>),
    /// Publish ports of a workspace on this host's 127.0.0.1
    #[command(subcommand)]
    Port(Later<PortCommand>),
    /// Say what a workspace with egress may reach, while it runs
    #[command(subcommand)]
    Network(Later<NetworkCommand>),
    Events(commands::events::Arguments),
    Delete(commands::delete::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    Connect(commands::host_connect::Arguments),
    Disconnect(commands::host_disconnect::Arguments),
    PrintConfig(commands::host_print_config::Arguments),
    Doctor(commands::host_doctor::Arguments),
    Repair(commands::host_repair::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ShellCommand {
    Open(commands::shell_open::Arguments),
    Attach(commands::shell_attach::Arguments),
    List(commands::shell_list::Arguments),
    Read(commands::shell_read::Arguments),
    Write(commands::shell_write::Arguments),
    Signal(commands::shell_signal::Arguments),
    Resize(commands::shell_resize::Arguments),
    Close(commands::shell_close::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    // Boxed: its request has far more fields than any other.
    Start(Box<commands::service_start::Arguments>),
    List(commands::service_list::Arguments),
    Status(commands::service_status::Arguments),
    Logs(commands::service_logs::Arguments),
    Stop(commands::service_stop::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    Allow(commands::network_allow::Arguments),
    Deny(commands::network_deny::Arguments),
    List(commands::network_list::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum LearnCommand {
    Learn(commands::network_learn::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    Verify(commands::audit_verify::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortCommand {
    Publish(commands::port_publish::Arguments),
    Unpublish(commands::port_unpublish::Arguments),
    List(commands::port_list::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SyncCommand {
    Push(commands::sync_push::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    List(commands::file_list::Arguments),
    Read(commands::file_read::Arguments),
    Write(commands::file_write::Arguments),
    Replace(commands::file_replace::Arguments),
    Search(commands::file_search::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PatchCommand {
    Apply(commands::patch_apply::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    Create(commands::snapshot_create::Arguments),
    List(commands::snapshot_list::Arguments),
    Delete(commands::snapshot_delete::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {
    List(commands::disk_list::Arguments),
    Read(commands::disk_read::Arguments),
    Export(commands::disk_export::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    List(commands::env_list::Arguments),
    Pull(commands::env_pull::Arguments),
    Inspect(commands::env_inspect::Arguments),
    Prune(commands::env_prune::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    Df(commands::system_df::Arguments),
    Prune(commands::system_prune::Arguments),
}

impl Cli {
    /// Describes every command, also those that a command line would ask for later.
    pub(crate) fn whole() -> clap::Command {
        at_once(<Self as clap::CommandFactory>::command)
    }
}

impl Command {
    pub(super) fn wants_json(&self) -> bool {
        match self {
            Self::Run(arguments) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Create(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::List(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Status(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Update(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Exec(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::ExecWait(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::ExecKill(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Logs(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Summary(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Sync(Later(SyncCommand::Push(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::List(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::Read(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::Write(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::Replace(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::File(Later(FileCommand::Search(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Patch(Later(PatchCommand::Apply(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Diff(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Export(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Apply(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Reset(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Fork(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Snapshot(Later(SnapshotCommand::Create(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Snapshot(Later(SnapshotCommand::List(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Snapshot(Later(SnapshotCommand::Delete(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Disk(Later(DiskCommand::List(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Disk(Later(DiskCommand::Read(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Disk(Later(DiskCommand::Export(arguments))))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Shell(Later(command)))) => command.wants_json(),
            Self::Workspace(Later(WorkspaceCommand::Service(Later(command)))) => command.wants_json(),
            Self::Workspace(Later(WorkspaceCommand::Port(Later(command)))) => command.wants_json(),
            Self::Workspace(Later(WorkspaceCommand::Network(Later(command)))) => command.wants_json(),
            Self::Network(Later(LearnCommand::Learn(arguments))) => arguments.json,
            Self::Audit(Later(AuditCommand::Verify(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Events(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Stop(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Start(arguments))) => arguments.json,
            Self::Workspace(Later(WorkspaceCommand::Delete(arguments))) => arguments.json,
            Self::Env(Later(EnvCommand::List(arguments))) => arguments.json,
            Self::Env(Later(EnvCommand::Pull(arguments))) => arguments.json,
            Self::Env(Later(EnvCommand::Inspect(arguments))) => arguments.json,
            Self::Env(Later(EnvCommand::Prune(arguments))) => arguments.json,
            Self::Mcp(Later(McpCommand::Tools(arguments))) => arguments.json,
            Self::Top(arguments) => arguments.json,
            Self::Prepare(arguments) => arguments.json,
            Self::Doctor(arguments) => arguments.json,
            Self::Host(Later(command)) => command.wants_json(),
            Self::System(Later(SystemCommand::Df(arguments))) => arguments.json,
            Self::System(Later(SystemCommand::Prune(arguments))) => arguments.json,
            Self::Config(Later(commands::config::Arguments::Show { json })) => *json,
            Self::Version(arguments) => arguments.json,
            Self::Mcp(Later(McpCommand::Serve(_))) | Self::Demo(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }

    pub(super) fn failure_style(&self) -> FailureStyle {
        match self {
            Self::Run(_) => FailureStyle::Exec(commands::run::STATUS_NAME),
            Self::Network(Later(LearnCommand::Learn(_))) => FailureStyle::Exec(commands::network_learn::STATUS_NAME),
            Self::Workspace(Later(WorkspaceCommand::Exec(_))) => FailureStyle::Exec(commands::exec::STATUS_NAME),
            Self::Workspace(_)
            | Self::Env(_)
            | Self::Audit(_)
            | Self::Mcp(_)
            | Self::Top(_)
            | Self::Prepare(_)
            | Self::Doctor(_)
            | Self::Host(_)
            | Self::Demo(_)
            | Self::System(_)
            | Self::Config(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Version(_) => FailureStyle::ByKind,
        }
    }
}

impl NetworkCommand {
    fn wants_json(&self) -> bool {
        match self {
            Self::Allow(arguments) => arguments.json,
            Self::Deny(arguments) => arguments.json,
            Self::List(arguments) => arguments.json,
        }
    }
}

impl HostCommand {
    fn wants_json(&self) -> bool {
        match self {
            Self::Connect(arguments) => arguments.json,
            Self::Disconnect(arguments) => arguments.json,
            Self::PrintConfig(arguments) => arguments.json,
            Self::Doctor(arguments) => arguments.json,
            Self::Repair(arguments) => arguments.json,
        }
    }
}

impl ShellCommand {
    fn wants_json(&self) -> bool {
        match self {
            Self::Open(arguments) => arguments.json,
            Self::Attach(_) => false,
            Self::List(arguments) => arguments.json,
            Self::Read(arguments) => arguments.json,
            Self::Write(arguments) => arguments.json,
            Self::Signal(arguments) => arguments.json,
            Self::Resize(arguments) => arguments.json,
            Self::Close(arguments) => arguments.json,
        }
    }
}

impl ServiceCommand {
    fn wants_json(&self) -> bool {
        match self {
            Self::Start(arguments) => arguments.json,
            Self::List(arguments) => arguments.json,
            Self::Status(arguments) => arguments.json,
            Self::Logs(arguments) => arguments.json,
            Self::Stop(arguments) => arguments.json,
        }
    }
}

impl PortCommand {
    fn wants_json(&self) -> bool {
        match self {
            Self::Publish(arguments) => arguments.json,
            Self::Unpublish(arguments) => arguments.json,
            Self::List(arguments) => arguments.json,
        }
    }
}
