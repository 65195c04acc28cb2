//! The agent in the guest: PID 1 of every machine, reached by the host over one byte stream.

mod attach;
mod boot;
mod change;
mod commands;
mod connection;
mod environment;
mod exec;
mod files;
mod freeze;
mod gate;
mod link;
mod log;
mod mounts;
mod passwd;
mod port;
mod reap;
mod refused;
mod service;
mod shutdown;
mod stage;
mod stdin;
mod warm;
mod workspace;

pub use boot::run_as_init;
pub use connection::{Quiet, serve};
pub use reap::{Reaper, Scope};
pub use service::Agent;
