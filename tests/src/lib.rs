//! The kit for stories on real guests.
//!
//! Every test owns a fresh `PYRO_HOME`. Building an environment takes half a minute and booting a template some seconds, so both come
//! from a pool shared by all tests of a target folder: their files never change, and a home gets them as hard links. A home that goes
//! out of scope deletes its workspaces and then looks for anything left: a process or a socket is a failed test.

mod canary;
mod clients;
mod home;
mod mcp;
mod output;
mod pool;
mod shell;
mod small_disk;
mod tmux;
mod tools;
pub mod world;

pub use canary::Canary;
pub use clients::{HttpServer, clients, node, player, pyro, python, repository};
pub use home::{Home, finish};
pub use mcp::McpClient;
pub use output::Output;
pub use pool::binary;
pub use shell::{open_shell, read_shell, type_line, write_shell};
pub use small_disk::SmallDisk;
pub use tmux::Tmux;
pub use tools::bring;

/// Environment of the stories: the smallest.
pub const ENVIRONMENT: &str = "debian:12-base";

/// Guest memory of the stories.
pub const MEM_MIB: &str = "256";

/// Returns how often a story that depends on chance is played: a few times, or as often as `PYRO_TEST_ROUNDS` says.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a test's switch, not the product's")]
pub fn rounds() -> u32 {
    std::env::var("PYRO_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3)
}

/// Waits until `condition` holds, looking every few milliseconds; panics with `what` after `seconds`.
pub fn eventually(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Ends a child of a test, whatever it does, and takes its exit status.
pub(crate) fn kill(child: &mut std::process::Child) {
    drop(child.kill());
    drop(child.wait());
}

/// Returns the memory of a process that is only its own, without files it has mapped.
#[must_use]
pub fn anonymous_memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux tells");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}
