//! Pyro's library: disposable microVM workspaces for coding agents.
//!
//! ```no_run
//! # async fn story() -> pyro_sdk::Result<()> {
//! use pyro_sdk::{CommandSpec, Observer, Pyro, contract::{GuestCommand, WorkspaceCreate}};
//!
//! let pyro = Pyro::from_env()?;
//! let workspace = pyro.create_workspace(WorkspaceCreate::new("debian:12".parse()?), &Observer::none()).await?;
//! let answer = workspace.exec(CommandSpec::new(GuestCommand::shell("uname -a")?)).await?;
//! println!("{}", answer.stdout);
//! workspace.delete().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The library prints nothing and, outside [`edge`], reads no environment variable. It needs a tokio runtime, of any flavour.

mod accelerator;
mod apply;
mod aside;
mod attach;
mod client;
mod collect;
pub mod config;
mod content;
pub mod contract;
mod create;
mod diff;
mod disk;
mod disk_view;
mod doctor;
pub mod edge;
mod endpoint;
mod environments;
mod error;
mod events;
mod exec;
mod export;
mod files;
mod follow;
mod fork;
mod guest_files;
mod host_compat;
mod ignored;
mod journal;
mod lifecycle;
pub mod limits;
mod meter;
mod network;
mod network_log;
mod network_text;
mod observe;
mod page;
mod patch;
mod port;
mod prepare;
mod process_text;
mod push;
mod reset;
mod ring;
mod run;
mod running;
mod screen;
mod search;
mod secret_text;
mod secrets;
mod seed;
mod service;
mod service_logs;
mod shell;
mod shell_read;
mod snapshot;
mod summary;
mod supervisor;
mod system;
#[cfg(test)]
mod testing;
pub mod text;
mod time;
mod turn;
mod usage;
mod wanted;
mod workspace;
mod workspace_path;

pub use apply::{CutOffApply, PutBack};
pub use attach::{ShellEvent, ShellKeyboard, ShellSession, TerminalSize};
pub use client::{Pyro, PyroOptions};
pub use collect::Collected;
pub use error::{Error, Result};
pub use events::EventStream;
pub use exec::{CommandExit, CommandInput, CommandSpec, ExecEvent, Execution, Stdin};
pub use observe::{CallOff, Observer, Progress};
pub use pyro_image::{EnvironmentName, UnknownEnvironment};
pub use pyro_proto::error::{ErrorKind, Failure};
pub use pyro_store::{Accelerator, Dirs, LabelKey, LabelValue, OutputStream, ServiceName, Settings, WorkspaceId, WorkspaceName};
pub use pyro_tree::GitEnvironment;
pub use run::OneShot;
pub use service_logs::LogFollower;
pub use time::now_rfc3339;
pub use usage::{HostUsage, MachineUsage};
pub use workspace::Workspace;
