//! Many workspaces that do nothing: what each costs the host in memory, and all together in CPU time.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::Bench;
use crate::{
    arguments::Section,
    command::milliseconds,
    home::{Home, Standby},
    process,
    report::{Group, Report, Row, Whose},
    sample::{Samples, Target, Unit},
};

/// Returns supervisors and QEMUs.
fn processes(home: &Home) -> Result<(Vec<u32>, Vec<u32>)> {
    let machines = home.machines()?;
    let supervisors = machines.iter().map(|machine| machine.pid.context("every workspace runs")).collect::<Result<_>>()?;
    let machines = machines.iter().map(|machine| machine.machine_pid.context("every workspace runs")).collect::<Result<_>>()?;
    Ok((supervisors, machines))
}

fn sum(pids: &[u32], read: impl Fn(u32) -> Result<f64>) -> Result<f64> {
    pids.iter().map(|pid| read(*pid)).sum()
}

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let effort = bench.effort;
    let home = bench.home("idle", Standby::None).await?;
    let available = process::available_mib();
    let mut count = 0;
    for &wanted in effort.idle_counts {
        let mut group = Group::begin(Section::Idle, format!("{wanted} idle workspaces of {} MiB, no standby", bench.mem_mib));
        let mut create = Samples::default();
        while count < wanted {
            let started = Instant::now();
            home.create().await?;
            create.push(milliseconds(started.elapsed()));
            count += 1;
        }
        tokio::time::sleep(effort.settle).await;

        let (supervisors, machines) = processes(&home)?;
        let pss = |pid| Ok(process::memory(pid)?.pss_mib);
        let supervisor_pss = sum(&supervisors, pss)? / count as f64;
        let machine_pss = sum(&machines, pss)? / count as f64;
        let taken = (available - process::available_mib()) / count as f64;

        let all = [supervisors, machines].concat();
        let (started, before) = (Instant::now(), sum(&all, process::cpu_seconds)?);
        tokio::time::sleep(effort.watch).await;
        let cpu = (sum(&all, process::cpu_seconds)? - before) / started.elapsed().as_secs_f64() * 100.0;

        let memory = |subject: &str, value: f64| Row::new(Whose::Pyro, subject, Unit::Mebibytes, value);
        group.add(memory(&format!("{count} idle: host memory each, PSS"), supervisor_pss + machine_pss).target(Target::AtMost(45.0)));
        group.add(memory("  of it the supervisor", supervisor_pss));
        group.add(memory("  of it QEMU", machine_pss));
        group.add(memory("host's MemAvailable taken, each", taken));
        group.add(
            Row::new(Whose::Pyro, format!("{count} idle: CPU time of all together"), Unit::PercentOfOneCore, cpu)
                .target(Target::AtMost(3.0)),
        );
        group.add(Row::new(Whose::Pyro, "create, one after the other", Unit::Milliseconds, create));
        group.note(format!(
            "After {} s of rest; CPU time over {} s. PSS counts the template's pages that are mapped, MemAvailable everything, page cache aside.",
            effort.settle.as_secs(),
            effort.watch.as_secs()
        ));
        report.finish(group);
    }
    home.close().await
}
