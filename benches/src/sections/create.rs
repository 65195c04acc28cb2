//! From nothing to the first answer of `/bin/true`.

use std::time::Instant;

use anyhow::Result;

use super::Bench;
use crate::{
    arguments::Section,
    command::{self, milliseconds},
    home::{Home, Standby, run},
    report::{Group, Report, Row, Whose},
    sample::{Samples, Target, Unit},
};

#[derive(Debug, Default)]
struct Figures {
    create: Samples,
    answer: Samples,
}

impl Figures {
    /// Creates a workspace through the SDK, runs `/bin/true` in it, and returns it.
    async fn by_sdk(&mut self, home: &Home) -> Result<pyro_sdk::Workspace> {
        let started = Instant::now();
        let workspace = home.create().await?;
        self.create.push(milliseconds(started.elapsed()));
        run(&workspace, &["/bin/true"]).await?;
        self.answer.push(milliseconds(started.elapsed()));
        Ok(workspace)
    }

    /// The same by two commands of a shell user.
    async fn by_cli(&mut self, home: &Home) -> Result<String> {
        let (id, create) = home.cli_create().await?;
        let (exec, _) = command::time(home.cli(&["workspace", "exec", &id, "--", "/bin/true"])).await?;
        self.create.push(create);
        self.answer.push(create + exec);
        Ok(id)
    }
}

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Create, "create → first answer of /bin/true");
    let spare = bench.home("standby", Standby::One).await?;
    let plain = bench.home("plain", Standby::None).await?;
    let mut peers: Vec<_> = bench.peers.one_shots().await.into_iter().map(|peer| (peer, Samples::default())).collect();
    let [mut with, mut without, mut sibling, mut cli_with, mut cli_without] = std::array::from_fn(|_| Figures::default());
    let (mut run_with, mut run_without, mut unreplaced) = (Samples::default(), Samples::default(), 0);

    for _ in 0..bench.effort.samples {
        // Before each sample the standby machine is there and nothing is being made in the background.
        spare.restore_standby().await?;
        let workspace = with.by_sdk(&spare).await?;
        spare.wait_for_standby().await?;
        workspace.delete().await?;

        let id = cli_with.by_cli(&spare).await?;
        spare.wait_for_standby().await?;
        command::time(spare.cli(&["workspace", "delete", &id])).await?;

        run_with.push(spare.cli_run().await?);
        unreplaced += u32::from(spare.restore_standby().await?);

        // The first has the template to load from its file, the second gets it from the first's supervisor.
        let first = without.by_sdk(&plain).await?;
        let second = sibling.by_sdk(&plain).await?;
        second.delete().await?;
        first.delete().await?;

        let id = cli_without.by_cli(&plain).await?;
        command::time(plain.cli(&["workspace", "delete", &id])).await?;
        run_without.push(plain.cli_run().await?);

        for (peer, samples) in &mut peers {
            if peer.problem().is_none() {
                peer.sample(samples).await;
            }
        }
    }
    spare.close().await?;
    plain.close().await?;

    let row = |subject: &str, samples| Row::new(Whose::Pyro, subject, Unit::Milliseconds, samples);
    group.add(row("pyro SDK, standby: the create call alone", with.create).target(Target::AtMost(30.0)));
    group.add(row("pyro SDK, standby: to the first answer", with.answer).target(Target::AtMost(100.0)));
    group.add(row("pyro SDK, no standby: the create call alone", without.create));
    group.add(row("pyro SDK, no standby: to the first answer", without.answer).target(Target::AtMost(350.0)));
    group.add(row("pyro SDK, no standby, a sibling runs: to the first answer", sibling.answer));
    group.add(row("pyro CLI, standby: create + exec, two processes", cli_with.answer));
    group.add(row("pyro CLI, no standby: create + exec, two processes", cli_without.answer));
    group.add(row("pyro run, standby: made, used and removed", run_with));
    group.add(row("pyro run, no standby: made, used and removed", run_without));
    for (peer, samples) in peers {
        group.add(match peer.problem() {
            Some(problem) => Row::missing(Whose::Peers, peer.subject.clone(), Unit::Milliseconds, problem.clone()),
            None => Row::new(Whose::Peers, peer.subject, Unit::Milliseconds, samples),
        });
    }
    if unreplaced > 0 {
        group.note(format!("note: {unreplaced} of {} times `pyro run` left no standby machine behind", bench.effort.samples));
    }
    report.finish(group);
    Ok(())
}
