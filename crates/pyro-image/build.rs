//! Builds the guest agent, a static program, so that it can be embedded: `agent.rs` includes what this leaves in `OUT_DIR`.
//!
//! A cargo inside a build script would wait for ever on its parent's lock, so it has a target folder of its own; and it must not inherit
//! the parent's flags, which were meant for this target and profile. `crt-static` needs an explicit `--target`, or it would be applied to
//! proc-macros too, which cannot be static.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use sha2::{Digest as _, Sha256};

/// The only target there are guests for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The agent is translated instruction by instruction on hosts without hardware virtualization: every unit of optimisation pays.
const PROFILE: [(&str, &str); 7] = [
    ("OPT_LEVEL", "3"),
    ("LTO", "fat"),
    ("CODEGEN_UNITS", "1"),
    ("PANIC", "abort"),
    ("STRIP", "symbols"),
    ("DEBUG", "0"),
    ("INCREMENTAL", "false"),
];

/// What the agent is made of, relative to the workspace's root.
const SOURCES: [&str; 9] = [
    "crates/pyro-guest/src",
    "crates/pyro-guest/Cargo.toml",
    "crates/pyro-proto/src",
    "crates/pyro-proto/proto",
    "crates/pyro-proto/build.rs",
    "crates/pyro-proto/Cargo.toml",
    "crates/pyro-sys/src",
    "crates/pyro-sys/Cargo.toml",
    "Cargo.lock",
];

fn main() -> io::Result<()> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = manifest_dir.ancestors().nth(2).ok_or_else(|| io::Error::other("the crate is not two folders deep"))?;
    println!("cargo::rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    let agent = build(root, &out.join("agent-target"))?;
    let bytes = fs::read(&agent)?;
    fs::write(out.join("pyro-guest"), &bytes)?;
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=PYRO_AGENT_DIGEST={digest}");
    Ok(())
}

/// Runs cargo for the agent alone and returns the path of the program.
fn build(root: &Path, target_dir: &Path) -> io::Result<PathBuf> {
    let mut cargo = Command::new(variable("CARGO")?);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        // What cargo told this script about its own package and profile would be taken for settings of the agent's. RUSTC_WORKSPACE_WRAPPER
        // is clippy. The job server stays, so that both builds share the machine's cores.
        let is_parents =
            ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PKG_", "CARGO_PROFILE_", "DEP_"].iter().any(|prefix| text.starts_with(prefix))
                || ["RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"].contains(&text.as_ref());
        if is_parents {
            cargo.env_remove(&name);
        }
    }
    for (name, value) in PROFILE {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
    }
    // Takes precedence over every other source of flags. A fixed address saves PID 1 its own relocation.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\x1f-Crelocation-model=static");
    cargo.current_dir(root).args(["build", "--release", "--locked", "--package", "pyro-guest", "--bin", "pyro-guest", "--target", TARGET]);
    cargo.arg("--target-dir").arg(target_dir);
    let status = cargo.status()?;
    if !status.success() {
        return Err(io::Error::other(format!("cannot build the guest agent: cargo {status}")));
    }
    Ok(target_dir.join(TARGET).join("release/pyro-guest"))
}

#[expect(clippy::disallowed_methods, reason = "a build script is told everything by its environment")]
fn variable(name: &str) -> io::Result<OsString> {
    env::var_os(name).ok_or_else(|| io::Error::other(format!("cargo has not set {name}")))
}
