//! One file per command: its arguments are the contract's request and what only a terminal needs; its function does the work.

pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod env_inspect;
pub(crate) mod env_list;
pub(crate) mod env_prune;
pub(crate) mod env_pull;
pub(crate) mod exec;
pub(crate) mod exec_kill;
pub(crate) mod exec_wait;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod prepare;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
mod stream;
pub(crate) mod system_df;
pub(crate) mod system_prune;
pub(crate) mod update;
pub(crate) mod version;
