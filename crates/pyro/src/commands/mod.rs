//! One file per command: its arguments are the contract's request and what only a terminal needs; its function does the work.

pub(crate) mod apply;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod disk_export;
pub(crate) mod disk_list;
pub(crate) mod disk_read;
pub(crate) mod doctor;
pub(crate) mod env_inspect;
pub(crate) mod env_list;
pub(crate) mod env_prune;
pub(crate) mod env_pull;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod exec_kill;
pub(crate) mod exec_wait;
pub(crate) mod export;
pub(crate) mod file_list;
pub(crate) mod file_read;
pub(crate) mod file_replace;
pub(crate) mod file_search;
pub(crate) mod file_write;
pub(crate) mod fork;
mod input;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod mcp_serve;
pub(crate) mod mcp_tools;
pub(crate) mod patch_apply;
pub(crate) mod port_list;
pub(crate) mod port_publish;
pub(crate) mod port_unpublish;
pub(crate) mod prepare;
pub(crate) mod reset;
pub(crate) mod run;
pub(crate) mod service_list;
pub(crate) mod service_logs;
pub(crate) mod service_start;
pub(crate) mod service_status;
pub(crate) mod service_stop;
pub(crate) mod shell_attach;
pub(crate) mod shell_close;
pub(crate) mod shell_list;
pub(crate) mod shell_open;
pub(crate) mod shell_read;
pub(crate) mod shell_resize;
pub(crate) mod shell_signal;
pub(crate) mod shell_write;
mod show;
pub(crate) mod snapshot_create;
pub(crate) mod snapshot_delete;
pub(crate) mod snapshot_list;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
mod stream;
pub(crate) mod summary;
pub(crate) mod sync_push;
pub(crate) mod system_df;
pub(crate) mod system_prune;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod version;

/// Shows a count that is worth a word, and leaves nothing out of nothing.
fn positive(count: u64) -> serde_json::Value {
    if count > 0 { count.into() } else { serde_json::Value::Null }
}
