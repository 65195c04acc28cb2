//! The world of a test: a stack on a thread of its own, a guest played by smoltcp's client sockets and raw frames, and real servers.

#![expect(dead_code, reason = "each test binary uses a part of the kit")]

pub(crate) mod guest;
pub(crate) mod names;
pub(crate) mod namespace;
pub(crate) mod servers;
pub(crate) mod tls;
pub(crate) mod world;

pub(crate) use guest::Guest;
pub(crate) use world::World;

/// Long enough for a busy machine; a test that gets this far has failed.
pub(crate) const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
