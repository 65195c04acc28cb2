//! What is measured, a file per section. In each, Pyro and its peers take turns, so that a busy moment of the host hits all alike.

mod create;
mod exec;
mod files;
mod footprint;
mod idle;
mod lab;
mod mcp;
mod network;
mod ports;
mod stream;
mod time_travel;

use std::path::{Path, PathBuf};

use anyhow::Result;
use pyro_sdk::limits::MemMib;

use crate::{
    arguments::{Arguments, Effort, Section},
    bed::ENVIRONMENT,
    home::{Home, Standby},
    peers::Peers,
    process,
    report::Report,
};

/// What sections share.
#[derive(Debug)]
struct Bench {
    run: PathBuf,
    effort: Effort,
    mem_mib: MemMib,
    /// Where the template was made that every other home is given. No machine runs in it.
    seed: Home,
    peers: Peers,
}

impl Bench {
    /// Makes a home with the template in it, and lets everything happen there that happens once.
    async fn home(&self, name: &str, standby: Standby) -> Result<Home> {
        let home = Home::new(&self.run, name, standby, self.mem_mib, Some(&self.seed))?;
        home.prime().await?;
        Ok(home)
    }
}

/// Measures what was asked for.
pub(crate) fn run(arguments: &Arguments, run: &Path) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(arguments, run))
}

async fn measure(arguments: &Arguments, run: &Path) -> Result<()> {
    let mem_mib = MemMib::new(arguments.mem_mib)?;
    let seed = Home::new(run, "seed", Standby::None, mem_mib, None)?;
    let workspace = seed.create().await?;
    let accelerator = seed.accelerator()?;
    workspace.delete().await?;
    let peers = Peers::prepare(run, &seed.root_image().await?).await?;
    let bench = Bench { run: run.to_owned(), effort: arguments.effort(), mem_mib, seed, peers };

    let mut report = Report::begin(
        vec![
            format!("host       {}", process::host()),
            format!("guests     {ENVIRONMENT}, 1 vCPU, {mem_mib} MiB, accelerator {accelerator}"),
            format!("load       {:.1} at the start", process::load()),
        ],
        arguments.json,
    );
    for section in arguments.sections() {
        match section {
            Section::Create => create::measure(&bench, &mut report).await?,
            Section::Lab => lab::show(&bench, &mut report).await,
            Section::Exec => exec::measure(&bench, &mut report).await?,
            Section::Stream => stream::measure(&bench, &mut report).await?,
            Section::Files => files::measure(&bench, &mut report).await?,
            Section::TimeTravel => time_travel::measure(&bench, &mut report).await?,
            Section::Ports => ports::measure(&bench, &mut report).await?,
            Section::Network => network::measure(&bench, &mut report).await?,
            Section::Mcp => mcp::measure(&bench, &mut report).await?,
            Section::Footprint => footprint::measure(&bench, &mut report).await?,
            Section::Idle => idle::measure(&bench, &mut report).await?,
        }
    }
    report.end()
}
