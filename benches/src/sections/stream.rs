//! How fast a command's output arrives. Pyro's also goes to the journal on disk meanwhile; the peers' does not.

use std::{process::Stdio, time::Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::{io::AsyncReadExt as _, process::Command};

use super::Bench;
use crate::{
    arguments::Section,
    command::command,
    home::{Standby, run},
    report::{Group, Report, Row, Whose},
    sample::{Samples, Target, Unit},
};

const MEBIBYTES: u64 = 256;
const BYTES: u64 = MEBIBYTES << 20;
const DD: [&str; 5] = ["dd", "if=/dev/zero", "bs=1M", "count=256", "status=none"];

fn megabytes_per_second(started: Instant) -> f64 {
    BYTES as f64 / 1e6 / started.elapsed().as_secs_f64()
}

/// Reads a command's output to its end by a pipe, as the next program of a shell user would.
async fn by_pipe(mut command: Command) -> Result<f64> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut pipe = child.stdout.take().context("it was piped")?;
    let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match pipe.read(&mut buffer).await? {
            0 => break,
            count => total += count as u64,
        }
    }
    let status = child.wait().await?;
    ensure!(status.success() && total == BYTES, "{total} bytes of {BYTES} arrived; {status}");
    Ok(megabytes_per_second(started))
}

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Stream, format!("output of `{}`", DD.join(" ")));
    let home = bench.home("stream", Standby::None).await?;
    let workspace = home.create().await?;
    let mut peers = bench.peers.live().await;
    let (mut sdk, mut cli) = (Samples::default(), Samples::default());
    let mut peer_samples = vec![Samples::default(); peers.len()];
    for _ in 0..bench.effort.slow_samples {
        let started = Instant::now();
        let ran = run(&workspace, &DD).await?;
        ensure!(ran.stdout_bytes == BYTES, "{} bytes of {BYTES} arrived", ran.stdout_bytes);
        sdk.push(megabytes_per_second(started));

        let id = workspace.id().to_string();
        let arguments = [&["workspace", "exec", &id, "--"], &DD[..]].concat();
        cli.push(by_pipe(home.cli(&arguments)).await?);

        for (peer, samples) in peers.iter_mut().zip(&mut peer_samples) {
            if let Ok(argv) = peer.argv(&DD) {
                peer.keep(by_pipe(command(&argv)).await, samples);
            }
        }
    }
    home.close().await?;

    group.add(Row::new(Whose::Pyro, "pyro SDK: output", Unit::MegabytesPerSecond, sdk).target(Target::AtLeast(40.0)));
    group.add(Row::new(Whose::Pyro, "pyro CLI: output to a pipe", Unit::MegabytesPerSecond, cli));
    for (peer, samples) in peers.into_iter().zip(peer_samples) {
        group.add(match &peer.exec {
            Ok(_) => Row::new(Whose::Peers, format!("{}, to a pipe", peer.subject), Unit::MegabytesPerSecond, samples),
            Err(problem) => Row::missing(Whose::Peers, peer.subject.clone(), Unit::MegabytesPerSecond, problem.clone()),
        });
        peer.stop().await;
    }
    report.finish(group);
    Ok(())
}
