//! The targets, for libFuzzer.

mod targets;

pub use targets::{answer, deframer, ingress, opening, question, rule};
