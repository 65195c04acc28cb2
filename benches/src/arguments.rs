//! What can be asked for on the command line.

use clap::{Parser, ValueEnum};

/// Measure Pyro beside its peers
///
/// Prints p50 and p95 of every figure, its target, and what other sandboxes take for the same in the same run. The exit code is 0 also
/// when a target is missed.
#[derive(Debug, Parser)]
#[command(name = "pyro-bench")]
pub(crate) struct Arguments {
    /// Measure only this; may be given several times
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) only: Vec<Section>,
    /// Samples of each figure; sections that take long per sample use fewer
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) iterations: u32,
    /// Memory of each workspace in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub(crate) mem_mib: u64,
    /// Print one JSON object on stdout, and the tables on stderr
    #[arg(long)]
    pub(crate) json: bool,
    /// Take few samples of everything, to see that the harness works; under a minute
    #[arg(long)]
    pub(crate) quick: bool,
}

/// A part of the run that can be asked for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// From nothing to the first answer of `/bin/true`
    Create,
    /// The laboratory script's own figures, when it is there
    Lab,
    /// A command on a live workspace
    Exec,
    /// Output of a command
    Stream,
    /// Seed, push, diff, files and patches
    Files,
    /// Reset, live snapshot and fork
    TimeTravel,
    /// A web server in the guest, reached through a published port
    Ports,
    /// The way out of a guest, against QEMU's own user network
    Network,
    /// The MCP server, against the SDK
    Mcp,
    /// Sizes, and what is paid once
    Footprint,
    /// Many workspaces that do nothing
    Idle,
}

impl Section {
    pub(crate) const ALL: [Self; 11] = [
        Self::Create,
        Self::Lab,
        Self::Exec,
        Self::Stream,
        Self::Files,
        Self::TimeTravel,
        Self::Ports,
        Self::Network,
        Self::Mcp,
        Self::Footprint,
        Self::Idle,
    ];
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Samples of what takes well under a second.
    pub(crate) samples: u32,
    /// Samples of what takes seconds.
    pub(crate) slow_samples: u32,
    /// Samples of a command on a live workspace, which takes milliseconds.
    pub(crate) fast_samples: u32,
    /// Idle workspaces at each look, rising.
    pub(crate) idle_counts: &'static [usize],
    /// How long idle workspaces are left alone before they are looked at.
    pub(crate) settle: std::time::Duration,
    /// How long their CPU time is watched.
    pub(crate) watch: std::time::Duration,
}

impl Arguments {
    pub(crate) fn sections(&self) -> Vec<Section> {
        if self.only.is_empty() {
            // The script boots and clones for half a minute, which `--quick` has not got.
            Section::ALL.into_iter().filter(|section| !(self.quick && *section == Section::Lab)).collect()
        } else {
            self.only.clone()
        }
    }

    pub(crate) fn effort(&self) -> Effort {
        use std::time::Duration;
        if self.quick {
            return Effort {
                samples: 2,
                slow_samples: 1,
                fast_samples: 5,
                idle_counts: &[4],
                settle: Duration::from_secs(2),
                watch: Duration::from_secs(3),
            };
        }
        Effort {
            samples: self.iterations,
            slow_samples: self.iterations.div_ceil(4),
            fast_samples: self.iterations.saturating_mul(5),
            idle_counts: &[50, 100],
            settle: Duration::from_secs(20),
            watch: Duration::from_secs(30),
        }
    }
}
