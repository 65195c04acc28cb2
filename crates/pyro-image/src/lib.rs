//! Environments: the Debian systems a workspace starts from, built once from the host's own package sources and kept by content.
//!
//! The crate is synchronous: callers that live in an event loop give it a thread. It prints nothing, reads no environment variable and
//! knows neither machines nor workspaces; whoever uses an environment says so when it prunes.

pub mod agent;
mod blank;
pub mod catalog;
mod cpio;
mod debian;
mod digest;
mod error;
mod files;
mod initramfs;
mod modules;
mod partial;
mod progress;
mod record;
mod seed;
mod store;
mod tool;

pub use blank::write_blank_ext4;
pub use catalog::{Definition, EnvironmentName, Source, UnknownEnvironment};
pub use digest::{EnvironmentDigest, MalformedDigest};
pub use error::{Error, Result, ToolOutput};
pub use initramfs::initramfs;
pub use partial::Partial;
pub use progress::{PullProgress, phase};
pub use seed::{SeedTime, SeedWriter, Written};
pub use store::{Entry, Environment, Environments, PruneScope, Pruned, PrunedWhat, PullOptions};
