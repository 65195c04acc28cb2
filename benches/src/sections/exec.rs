//! A command on a live workspace, against what the guest itself needs to fork and execute it.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Bench;
use crate::{
    arguments::Section,
    command,
    home::{Standby, run},
    report::{Group, Report, Row, Whose},
    sample::{Samples, Target, Unit},
};

/// Runs before the first sample: under TCG the guest translates the code of a command's path while they go.
const WARM_UP: u32 = 10;

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Exec, "exec /bin/true on a live workspace");
    let home = bench.home("exec", Standby::None).await?;
    let workspace = home.create().await?;
    let mut peers = bench.peers.live().await;
    for _ in 0..WARM_UP {
        run(&workspace, &["/bin/true"]).await?;
    }
    let [mut sdk, mut guest, mut overhead, mut cli, mut cli_overhead] = std::array::from_fn(|_| Samples::default());
    let mut peer_samples = vec![Samples::default(); peers.len()];
    for _ in 0..bench.effort.fast_samples {
        let ran = run(&workspace, &["/bin/true"]).await?;
        sdk.push(ran.elapsed);
        guest.push(ran.in_guest);
        overhead.push(ran.elapsed - ran.in_guest);

        let id = workspace.id().to_string();
        let (elapsed, output) = command::time(home.cli(&["workspace", "exec", &id, "--json", "--", "/bin/true"])).await?;
        let answer: Value = serde_json::from_slice(&output.stdout).context("`workspace exec --json` printed no JSON")?;
        cli.push(elapsed);
        cli_overhead.push(elapsed - answer["duration_ms"].as_f64().context("the answer has a duration")?);

        for (peer, samples) in peers.iter_mut().zip(&mut peer_samples) {
            if peer.exec.is_ok() {
                peer.keep(peer.time(&["/bin/true"]).await, samples);
            }
        }
    }
    home.close().await?;

    group.add(Row::new(Whose::Pyro, "pyro SDK: round trip", Unit::Milliseconds, sdk));
    group.add(Row::new(Whose::Part, "  of it the guest's own fork + exec + exit", Unit::Milliseconds, guest));
    group.add(Row::new(Whose::Pyro, "pyro SDK: overhead", Unit::Milliseconds, overhead).target(Target::AtMost(5.0)));
    group.add(Row::new(Whose::Pyro, "pyro CLI: one process per command", Unit::Milliseconds, cli));
    group.add(Row::new(Whose::Pyro, "pyro CLI: overhead", Unit::Milliseconds, cli_overhead));
    for (peer, samples) in peers.into_iter().zip(peer_samples) {
        group.add(match &peer.exec {
            Ok(_) => Row::new(Whose::Peers, peer.subject.clone(), Unit::Milliseconds, samples),
            Err(problem) => Row::missing(Whose::Peers, peer.subject.clone(), Unit::Milliseconds, problem.clone()),
        });
        peer.stop().await;
    }
    group.note("bwrap has no exec: its sandbox is one process tree.");
    report.finish(group);
    Ok(())
}
