//! Sizes, and what is paid once: the command line's start, the supervisor, the binary, the first template.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result};

use super::Bench;
use crate::{
    arguments::Section,
    bed,
    command::{self, command, milliseconds},
    home::{Home, Standby, run},
    process,
    report::{Group, Report, Row, Whose},
    sample::{Samples, Target, Unit},
};

const PEERS: [&str; 4] = ["bwrap", "crun", "podman", "runsc"];

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    versions(bench, report).await?;
    memory(bench, report).await?;
    sizes(report).await?;
    templates(bench, report).await
}

async fn versions(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Footprint, "--version, from start to end");
    let binary = bed::binary()?.to_string_lossy().into_owned();
    let mut programs = vec![(Whose::Pyro, "pyro --version".to_owned(), binary)];
    programs.extend(PEERS.map(|name| (Whose::Peers, name.to_owned(), name.to_owned())));
    programs.push((Whose::Part, "/bin/true, the cost of starting any program".to_owned(), "/bin/true".to_owned()));
    let mut rows: Vec<_> = programs.into_iter().map(|program| (program, Samples::default(), None)).collect();
    for _ in 0..bench.effort.fast_samples {
        for ((_, _, program), samples, problem) in &mut rows {
            match command::time(command(&[program.as_str(), "--version"])).await {
                Ok((elapsed, _)) => samples.push(elapsed),
                Err(error) => *problem = Some(format!("{error:#}")),
            }
        }
    }
    for ((whose, subject, _), samples, problem) in rows {
        group.add(match (problem, whose) {
            (Some(problem), _) => Row::missing(whose, subject, Unit::Milliseconds, problem),
            (None, Whose::Pyro) => Row::new(whose, subject, Unit::Milliseconds, samples).target(Target::AtMost(10.0)),
            (None, Whose::Peers | Whose::Part) => Row::new(whose, subject, Unit::Milliseconds, samples),
        });
    }
    report.finish(group);
    Ok(())
}

/// Returns where a program of `PATH` is.
async fn which(program: &str) -> Option<String> {
    let (_, output) = command::time(command(&["sh", "-c", "command -v \"$0\"", program])).await.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn file_mib(path: &Path) -> Result<f64> {
    let length = std::fs::metadata(path).with_context(|| format!("cannot look at `{}`", path.display()))?.len();
    Ok(length as f64 / f64::from(1 << 20))
}

async fn memory(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Footprint, "memory of a supervisor");
    let home = bench.home("footprint", Standby::One).await?;
    let [mut idle_rss, mut idle_pss, mut used_rss, mut used_pss, mut machine_pss] = std::array::from_fn(|_| Samples::default());
    for _ in 0..bench.effort.slow_samples {
        home.restore_standby().await?;
        let standby = home.standbys()?.pop().and_then(|machine| machine.pid).context("a standby machine runs")?;
        let memory = process::memory(standby)?;
        idle_rss.push(memory.rss_mib);
        idle_pss.push(memory.pss_mib);
        let workspace = home.create().await?;
        run(&workspace, &["/bin/true"]).await?;
        let machine = home.machines()?.pop().context("the workspace runs")?;
        let memory = process::memory(machine.pid.context("it runs")?)?;
        used_rss.push(memory.rss_mib);
        used_pss.push(memory.pss_mib);
        machine_pss.push(process::memory(machine.machine_pid.context("it runs")?)?.pss_mib);
        home.wait_for_standby().await?;
        workspace.delete().await?;
    }
    home.close().await?;

    let row = |subject: &str, samples| Row::new(Whose::Pyro, subject, Unit::Mebibytes, samples);
    group.add(row("supervisor of a standby machine, RSS", idle_rss).target(Target::AtMost(12.0)));
    group.add(row("supervisor of a standby machine, PSS", idle_pss));
    group.add(row("supervisor of a workspace after a command, RSS", used_rss).target(Target::AtMost(12.0)));
    group.add(row("supervisor of a workspace after a command, PSS", used_pss));
    group.add(row("  its QEMU, PSS", machine_pss));
    group.note("Resident memory is mostly the binary's own pages, which all supervisors share: PSS is what one more costs.");
    report.finish(group);
    Ok(())
}

async fn sizes(report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Footprint, "size of the binary on disk");
    group.add(Row::new(Whose::Pyro, "pyro: command line, supervisor, guest agent", Unit::Mebibytes, file_mib(&bed::binary()?)?));
    for peer in PEERS {
        group.add(match which(peer).await {
            Some(path) => Row::new(Whose::Peers, peer, Unit::Mebibytes, file_mib(Path::new(&path))?),
            None => Row::missing(Whose::Peers, peer, Unit::Mebibytes, "it is not installed".to_owned()),
        });
    }
    group.note("Without what each needs beside it: QEMU, an environment and a template for Pyro; conmon, crun and images for podman.");
    report.finish(group);
    Ok(())
}

async fn templates(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Footprint, "paid once per environment and size");
    let mut samples = Samples::default();
    for round in 0..bench.effort.slow_samples {
        let home = Home::new(&bench.run, &format!("cold-{round}"), Standby::None, bench.mem_mib, None)?;
        let started = Instant::now();
        home.create().await?;
        samples.push(milliseconds(started.elapsed()));
        home.close().await?;
    }
    group.add(Row::new(Whose::Pyro, "first create: boot, freeze, restore", Unit::Milliseconds, samples));
    group.note("A fresh home each time, so the probe for hardware virtualization and the blank disks are in it too.");
    report.finish(group);
    Ok(())
}
