//! The programs that start Pyro's MCP server: where each keeps its servers, and how an entry comes into that file and out of it.
//!
//! These files are the user's. So a change is planned on text (`plan`), shown as a difference, and lands whole or not at all (`file`);
//! what is not Pyro's entry keeps every byte. Nothing here prints, and the environment is handed in (`Surroundings`).

mod connection;
mod diagnosis;
mod difference;
mod document;
mod error;
mod file;
mod host;
mod json;
mod plan;
mod program;
#[cfg(test)]
mod property_tests;
mod server;
mod shape;
mod toml;
mod verify;

pub(crate) use self::{
    connection::{Connection, Surroundings},
    diagnosis::{Report, State, diagnose, shown_name},
    error::HostError,
    host::{Host, Scope},
    plan::{Action, Plan, connect, disconnect, mend, path},
    server::{ServeOptions, Server},
    shape::{shapes, snippet},
    verify::verify,
};

/// How the entry is called unless another name is given.
pub(crate) const DEFAULT_NAME: &str = "pyro";
