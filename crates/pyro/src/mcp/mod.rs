//! The MCP server: every operation with a tool name, as a model wants to meet it.
//!
//! ```text
//! surface   which tools, with which fields        ◀ contract::operations(), by profile or mode
//! words     what a model is told of them          schema  their schemas without what tells nothing
//! call      one call: defaults, ceiling, yield, cancellation, progress
//! answer    its structured answer and the short text beside it
//! source    what new workspaces begin with        ceiling what the operator allows at most; reach what workspaces reach
//! server    the protocol, by `rmcp`               stdio, http its two transports
//! ```
//!
//! A tool is never written by hand: it is an operation of the contract seen through a surface.

mod answer;
mod arguments;
mod call;
mod ceiling;
mod environments;
mod http;
mod message;
mod progress;
mod reach;
mod request_id;
mod schema;
mod server;
mod source;
mod stdio;
mod surface;
mod text;
mod tokens;
mod words;

pub(crate) use self::{
    ceiling::{Ceiling, CeilingArguments},
    http::{HttpOptions, serve_http},
    server::{Server, ServerOptions},
    source::{ProjectSource, without_credentials},
    stdio::serve_stdio,
    surface::{Mode, ProfileName, Surface, ToolCost},
};

/// Tells whether a process has this number: files that are named after one that has died are remnants.
fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
