//! `pyro top`: workspaces on the full screen of a terminal, live.
//!
//! State and view are pure: [`state`] takes keys and what was learnt, [`view`] draws a state. [`mod@run`] is the loop around them, [`look`] asks
//! and [`screen`] writes. Asking never holds up the keys, nor a supervisor that does not answer the others' rows.

mod age;
mod details;
mod keys;
mod logs;
mod look;
mod run;
mod screen;
mod state;
mod view;

pub(crate) use self::{look::once, run::run, view::Palette};
