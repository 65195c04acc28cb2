//! Which paths Git would ignore, decided exactly as Git decides it.
//!
//! `glob` is Git's pattern language, `pattern` one line of a file of patterns, `rules` the files of one or more checkouts and which of
//! them speaks when, `store` how a set of them is kept beside a seed. Nothing here reads a tree: whoever walks one brings the bytes. They may
//! come from a guest, so no pattern costs more than its length times that of a path.

mod glob;
mod pattern;
mod rules;
mod store;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use glob::{Case, Glob, Slash};
pub(crate) use pattern::{Negation, Pattern};
pub(crate) use rules::{Excludes, Scope};
pub use rules::{IGNORE_FILE_MAX_BYTES, IgnoreJudge, IgnoreRules, TooManyRules};
