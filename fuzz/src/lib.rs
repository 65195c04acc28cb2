//! The targets, for libFuzzer.

mod patch;
mod targets;

pub use patch::patch;
pub use targets::{answer, deframer, ingress, opening, question, rule};
