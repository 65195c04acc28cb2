//! Git checkouts: which files of them are taken, and a `.git` that is safe to hand over.
//!
//! `checkout` finds the repository of a folder and knows what it tracks, `rules` what it ignores, `list` says what of a `.git`
//! may be handed over, `compose` makes the new one. Git
//! itself is never run: a repository can configure programs that it would start.

mod checkout;
mod compose;
mod config;
mod index;
mod list;
mod rules;

pub(super) use checkout::{Checkout, Location};
pub(super) use compose::{compose, emit_text};
pub(super) use config::{CONFIG_MAX_BYTES, Config, strip_credentials};
pub(super) use list::{TEXT_MAX_BYTES, Verdict, is_text, judge, split_dot_git};
pub(super) use rules::Rules;
