//! Back to where it was, and several at once: reset, snapshot, fork.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pyro_sdk::{
    Workspace,
    contract::{SnapshotCreate, SnapshotDelete, WorkspaceFork, WorkspaceReset},
};
use serde_json::json;

use super::{Bench, files::call};
use crate::{
    arguments::Section,
    command::milliseconds,
    home::{Home, Standby, run},
    process,
    report::{Group, Report, Row, Whose},
    sample::{Samples, Target, Unit},
};

/// Copies of one workspace made by one fork.
const FORKS: u64 = 3;

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    reset(bench, report).await?;
    fork(bench, report).await
}

/// Reset against a plain create, taking turns, each with a standby machine ready.
async fn reset(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::TimeTravel, "reset to the baseline: 10 000 files, 100 MB");
    let tree = bench.run.join("reset-tree");
    let bytes = super::files::write_tree(&tree, 200, 50, 10_000)?;
    let home = bench.home("reset", Standby::One).await?;
    let seeded = home.create_seeded(&tree).await?;
    let empty = home.create().await?;
    let [mut create, mut large, mut small, mut ratio] = std::array::from_fn(|_| Samples::default());
    for _ in 0..bench.effort.samples {
        home.restore_standby().await?;
        let started = Instant::now();
        let workspace = home.create().await?;
        let plain = milliseconds(started.elapsed());
        create.push(plain);
        workspace.delete().await?;
        for (workspace, samples, is_large) in [(&seeded, &mut large, true), (&empty, &mut small, false)] {
            run(workspace, &["sh", "-c", "echo change > /workspace/changed; echo package > /opt/package"]).await?;
            home.restore_standby().await?;
            let started = Instant::now();
            call::<WorkspaceReset>(home.pyro(), json!({ "workspace": workspace.id().as_str() })).await?;
            let elapsed = milliseconds(started.elapsed());
            samples.push(elapsed);
            if is_large {
                ratio.push(elapsed / plain);
            }
            run(workspace, &["sh", "-c", "test ! -e /workspace/changed && test ! -e /opt/package"]).await?;
        }
    }
    home.close().await?;
    std::fs::remove_dir_all(&tree)?;
    group.add(Row::new(Whose::Pyro, "plain create, standby", Unit::Milliseconds, create));
    group.add(Row::new(Whose::Pyro, format!("reset, seed of {} MB, standby", bytes / 1_000_000), Unit::Milliseconds, large));
    group.add(Row::new(Whose::Pyro, "reset, no seed, standby", Unit::Milliseconds, small));
    group.add(Row::new(Whose::Pyro, "reset with the seed over the create before it", Unit::Ratio, ratio).target(Target::AtMost(1.3)));
    report.finish(group);
    Ok(())
}

/// A workspace with a shell loop and a Python process of some 20 MiB.
async fn busy(home: &Home) -> Result<Workspace> {
    let workspace = home.create().await?;
    run(&workspace, &["sh", "-c", "(while :; do sleep 0.2; echo tick; done) > /tmp/ticks 2>&1 &"]).await?;
    let hog = "dd if=/dev/urandom of=/dev/shm/hog bs=1M count=20 2> /dev/null";
    run(&workspace, &["sh", "-c", hog]).await?;
    Ok(workspace)
}

async fn fork(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::TimeTravel, "live snapshot and fork of a busy workspace");
    let home = bench.home("fork", Standby::None).await?;
    let workspace = busy(&home).await?;
    let id = workspace.id().as_str();
    let [mut pause, mut over, mut private, mut first, mut several, mut further, mut memory] = std::array::from_fn(|_| Samples::default());
    for _ in 0..bench.effort.samples {
        let snapshot = call::<SnapshotCreate>(home.pyro(), json!({ "workspace": id, "name": "bench", "live": true })).await?;
        let (paused, bytes) = (snapshot.pause_ms.context("a running workspace was paused")?, snapshot.memory_bytes as f64);
        pause.push(paused);
        private.push(bytes / f64::from(1 << 20));
        // What the pause may take: 20 ms, and one for each MB.
        over.push(paused - (20.0 + bytes / 1e6));
        call::<SnapshotDelete>(home.pyro(), json!({ "workspace": id, "name": "bench" })).await?;

        let one = forks(&home, id, 1, &mut first).await?;
        let before = machines_memory(&home)?;
        let many = forks(&home, id, 1 + FORKS, &mut several).await?;
        if let (Some(all), Some(single)) = (several.last(), first.last()) {
            further.push((all - single) / FORKS as f64);
        }
        memory.push((machines_memory(&home)? - before) / (1 + FORKS) as f64);
        for fork in one.into_iter().chain(many) {
            ensure!(run(&fork, &["sh", "-c", "test -s /dev/shm/hog && test -s /tmp/ticks"]).await.is_ok(), "the copy goes on");
            fork.delete().await?;
        }
    }
    home.close().await?;
    group.add(Row::new(Whose::Pyro, "live snapshot: the guest stands still", Unit::Milliseconds, pause));
    group.add(Row::new(Whose::Part, "  private guest memory", Unit::Mebibytes, private));
    group.add(Row::new(Whose::Pyro, "  beyond 20 ms + 1 ms/MB (negative: below)", Unit::Milliseconds, over).target(Target::AtMost(0.0)));
    group.add(Row::new(Whose::Pyro, "fork: one copy running", Unit::Milliseconds, first).target(Target::AtMost(250.0)));
    group.add(Row::new(Whose::Pyro, format!("fork: {} copies running", 1 + FORKS), Unit::Milliseconds, several));
    group.add(Row::new(Whose::Pyro, "fork: each further copy", Unit::Milliseconds, further).target(Target::AtMost(150.0)));
    group.add(Row::new(Whose::Pyro, "host memory of a copy (PSS, supervisor included)", Unit::Mebibytes, memory));
    report.finish(group);
    Ok(())
}

async fn forks(home: &Home, id: &str, count: u64, samples: &mut Samples) -> Result<Vec<Workspace>> {
    let started = Instant::now();
    let answer = call::<WorkspaceFork>(home.pyro(), json!({ "workspace": id, "count": count })).await?;
    samples.push(milliseconds(started.elapsed()));
    let mut forks = Vec::new();
    for fork in answer.forks {
        forks.push(home.pyro().workspace(&fork.workspace_id.parse()?).await?);
    }
    Ok(forks)
}

/// Memory of all machines and their supervisors in MiB, each shared page counted by its share.
fn machines_memory(home: &Home) -> Result<f64> {
    let pids = home.machines()?.into_iter().flat_map(|machine| [machine.pid, machine.machine_pid]).flatten();
    let mut sum = 0.0;
    for pid in pids {
        sum += process::memory(pid)?.pss_mib;
    }
    Ok(sum)
}
