//! The stack: one task that owns the link, every connection, the policy and what was learnt.

mod connections;
mod datagrams;
mod emit;
mod flow;
mod ingress;
mod judging;
mod link;
mod pairs;
mod questions;
mod ready;
mod run;
mod timers;

pub use link::{Deframer, FRAME_BYTES_MAX};
pub(crate) use run::{Command, Stack};
