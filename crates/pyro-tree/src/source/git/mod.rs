//! Git checkouts: which files of them are taken, and a `.git` that is safe to hand over.
//!
//! `checkout` finds the repository of a folder and knows what it tracks, `levels` what all of Git's configuration says about it, `list` what of
//! a `.git` may be handed over, `compose` makes the new one, with a configuration from `guest`. Git itself is never run: a repository
//! can configure programs that it would start.

mod attributes;
mod checkout;
mod compose;
mod config;
mod conversions;
mod credentials;
mod environment;
mod guest;
mod index;
mod levels;
mod list;
mod reftable;
#[cfg(test)]
mod tests;

pub(super) use checkout::{Checkout, Location};
pub(super) use compose::{compose, emit_text};
pub(super) use config::{CONFIG_MAX_BYTES, Config, Level};
pub(super) use credentials::strip_credentials;
pub use environment::GitEnvironment;
pub(super) use guest::{GuestConfig, References};
pub(super) use list::{TEXT_MAX_BYTES, Verdict, is_text, judge, split_dot_git};
