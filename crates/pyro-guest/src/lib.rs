//! The agent in the guest: PID 1 of every machine, reached by the host over one byte stream.

mod attach;
mod boot;
mod connection;
mod environment;
mod exec;
mod freeze;
mod link;
mod log;
mod mounts;
mod passwd;
mod port;
mod reap;
mod service;
mod shutdown;
mod stage;
mod warm;

pub use boot::run_as_init;
pub use connection::{Quiet, serve};
pub use reap::{Reaper, Scope};
pub use service::Agent;
