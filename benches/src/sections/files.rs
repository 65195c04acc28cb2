//! A code base's way in, through, and out: seed, push, diff, files, patch.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use pyro_sdk::{
    Observer, Pyro, Workspace,
    contract::{Diff, FileRead, FileWrite, Operation, PatchApply, SyncPush},
};
use serde_json::{Value, json};

use super::Bench;
use crate::{
    arguments::Section,
    command::{self, milliseconds},
    home::{Home, Standby, run},
    report::{Group, Report, Row, Whose},
    sample::{Samples, Target, Unit},
};

/// A tree of the size the targets speak of: 200 folders of 50 files, 10 KB each on average.
const SEED_FOLDERS: usize = 200;
const SEED_FILES: usize = 50;
/// For the diff: 20 000 small files.
const LARGE_FOLDERS: usize = 200;
const LARGE_FILES: usize = 100;
const PATCHED_FILES: usize = 50;

/// Makes files of text whose content differs, so that nothing can be shared; returns their bytes.
pub(super) fn write_tree(root: &Path, folders: usize, files: usize, mean_bytes: usize) -> Result<u64> {
    let mut bytes = 0;
    for folder in 0..folders {
        let path = root.join(format!("d{}/s{folder}", folder / 20));
        std::fs::create_dir_all(&path)?;
        for file in 0..files {
            let number = folder * files + file;
            // From a fifth of the mean to nearly twice it, the same in every run.
            let size = mean_bytes / 5 + (number * 7919) % (mean_bytes * 8 / 5);
            let line = format!("file {number}: the quick brown fox jumps over the lazy dog\n");
            let text: String = line.chars().cycle().take(size).collect();
            std::fs::write(path.join(format!("f{file}.txt")), &text)?;
            bytes += text.len() as u64;
        }
    }
    Ok(bytes)
}

/// Calls an operation as every surface does, with its request in JSON.
pub(super) async fn call<O: Operation>(pyro: &Pyro, request: Value) -> Result<O::Answer> {
    let request: O = serde_json::from_value(request).context("the request follows its schema")?;
    Ok(request.call(pyro, &Observer::none()).await?)
}

async fn timed<O: Operation>(pyro: &Pyro, request: Value, samples: &mut Samples) -> Result<O::Answer> {
    let started = Instant::now();
    let answer = call::<O>(pyro, request).await?;
    samples.push(milliseconds(started.elapsed()));
    Ok(answer)
}

fn tar(tree: &Path, output: PathBuf) -> Result<PathBuf> {
    let done = std::process::Command::new("tar").arg("-C").arg(tree).arg("-cf").arg(&output).arg(".").status()?;
    ensure!(done.success(), "tar failed");
    Ok(output)
}

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let tree = bench.run.join("seed-tree");
    let bytes = write_tree(&tree, SEED_FOLDERS, SEED_FILES, 10_000)?;
    let archive = tar(&tree, bench.run.join("seed-tree.tar"))?;
    seed(bench, report, &tree, &archive, bytes).await?;
    diff(bench, report).await?;
    small(bench, report).await?;
    std::fs::remove_dir_all(&tree)?;
    Ok(std::fs::remove_file(&archive)?)
}

async fn seed(bench: &Bench, report: &mut Report, tree: &Path, archive: &Path, bytes: u64) -> Result<()> {
    let mut group = Group::begin(Section::Files, format!("{} files, {} MB into a sandbox", SEED_FOLDERS * SEED_FILES, bytes / 1_000_000));
    let home = bench.home("seeding", Standby::One).await?;
    let mut peers = bench.peers.live().await;
    let [mut folder, mut packed, mut push] = std::array::from_fn(|_| Samples::default());
    let mut copied = vec![Samples::default(); peers.len()];
    for round in 0..bench.effort.slow_samples {
        for (path, samples) in [(tree, &mut folder), (archive, &mut packed)] {
            home.restore_standby().await?;
            let started = Instant::now();
            let workspace = home.create_seeded(path).await?;
            samples.push(milliseconds(started.elapsed()));
            let count = run(&workspace, &["sh", "-c", "find /workspace -type f | wc -l"]).await?;
            ensure!(count.stdout_bytes > 0, "the seed is there");
            workspace.delete().await?;
        }
        home.restore_standby().await?;
        let workspace = home.create().await?;
        let request = json!({ "workspace": workspace.id().as_str(), "source": tree });
        timed::<SyncPush>(home.pyro(), request, &mut push).await?;
        workspace.delete().await?;
        for (peer, samples) in peers.iter_mut().zip(&mut copied) {
            if peer.exec.is_err() {
                continue;
            }
            let target = format!("/tmp/seed-{round}");
            let script = format!("mkdir -p {target} && tar x -C {target}");
            let mut command = command::command(&peer.argv(&["/bin/sh", "-c", &script])?);
            command.stdin(Stdio::from(File::open(archive)?));
            let result = command::time(command).await.map(|(elapsed, _)| elapsed);
            peer.keep(result, samples);
        }
    }
    home.close().await?;
    group.add(Row::new(Whose::Pyro, "pyro create --seed-path FOLDER", Unit::Milliseconds, folder).target(Target::AtMost(4000.0)));
    group.add(Row::new(Whose::Pyro, "pyro create --seed-path FILE.tar", Unit::Milliseconds, packed).target(Target::AtMost(4000.0)));
    group.add(Row::new(Whose::Pyro, "pyro sync push FOLDER, into a running workspace", Unit::Milliseconds, push));
    for (peer, samples) in peers.into_iter().zip(copied) {
        let subject = format!("tar | {}", peer.subject);
        group.add(match &peer.exec {
            Ok(_) => Row::new(Whose::Peers, subject, Unit::Milliseconds, samples),
            Err(problem) => Row::missing(Whose::Peers, subject, Unit::Milliseconds, problem.clone()),
        });
        peer.stop().await;
    }
    report.finish(group);
    Ok(())
}

async fn diff(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Files, format!("diff of {} files, 10 changed", LARGE_FOLDERS * LARGE_FILES));
    let tree = bench.run.join("large-tree");
    write_tree(&tree, LARGE_FOLDERS, LARGE_FILES, 500)?;
    let home = bench.home("diff", Standby::None).await?;
    let [mut warm, mut cold, mut walk] = std::array::from_fn(|_| Samples::default());
    for _ in 0..bench.effort.slow_samples {
        let workspace = home.create_seeded(&tree).await?;
        // Nobody has looked at the tree: neither the guest's cache nor, for what is read through it, the supervisor has seen it.
        edit(&workspace, "a").await?;
        timed_diff(&home, &workspace, &mut cold).await?;
        run(&workspace, &["find", "/workspace", "-newer", "/etc/hostname"]).await?;
        for round in 0..4 {
            edit(&workspace, &format!("b{round}")).await?;
            timed_diff(&home, &workspace, &mut warm).await?;
        }
        let started = Instant::now();
        run(&workspace, &["find", "/workspace", "-newer", "/etc/hostname"]).await?;
        walk.push(milliseconds(started.elapsed()));
        workspace.delete().await?;
    }
    home.close().await?;
    std::fs::remove_dir_all(&tree)?;
    group.add(Row::new(Whose::Pyro, "pyro diff, warm", Unit::Milliseconds, warm).target(Target::AtMost(500.0)));
    group.add(Row::new(Whose::Pyro, "pyro diff, cold", Unit::Milliseconds, cold));
    group.add(Row::new(Whose::Peers, "find -newer in the guest, warm: the bare walk", Unit::Milliseconds, walk));
    report.finish(group);
    Ok(())
}

async fn edit(workspace: &Workspace, text: &str) -> Result<()> {
    let script = format!("for i in 0 20 40 60 80 100 120 140 160 180; do echo {text} >> /workspace/d$((i / 20))/s$i/f7.txt; done");
    run(workspace, &["sh", "-c", &script]).await.map(drop)
}

async fn timed_diff(home: &Home, workspace: &Workspace, samples: &mut Samples) -> Result<()> {
    let answer = timed::<Diff>(home.pyro(), json!({ "workspace": workspace.id().as_str() }), samples).await?;
    ensure!(answer.entries.len() == 10, "{} entries instead of 10", answer.entries.len());
    Ok(())
}

async fn small(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut group = Group::begin(Section::Files, "single files and a patch");
    let home = bench.home("files", Standby::None).await?;
    let workspace = home.create().await?;
    let id = workspace.id().as_str();
    let [mut write, mut read, mut patch] = std::array::from_fn(|_| Samples::default());
    for round in 0..bench.effort.fast_samples + 5 {
        let text = format!("round {round}\n").repeat(200);
        // The first few translate the code of their path.
        let (write, read) = if round < 5 { (&mut Samples::default(), &mut Samples::default()) } else { (&mut write, &mut read) };
        timed::<FileWrite>(home.pyro(), json!({ "workspace": id, "path": "src/one.txt", "text": text }), write).await?;
        let answer = timed::<FileRead>(home.pyro(), json!({ "workspace": id, "path": "src/one.txt" }), read).await?;
        ensure!(answer.content.as_deref() == Some(text.as_str()), "what was written is read");
    }
    let lines = |number: usize, word: &str| format!("first of {number}\nsecond\n{word}\nfourth\nfifth\n");
    for file in 0..PATCHED_FILES {
        let request = json!({ "workspace": id, "path": format!("patched/{file}.txt"), "text": lines(file, "w0") });
        call::<FileWrite>(home.pyro(), request).await?;
    }
    for round in 0..bench.effort.samples {
        let text: String = (0..PATCHED_FILES)
            .map(|file| {
                format!(
                    "--- a/patched/{file}.txt\n+++ b/patched/{file}.txt\n@@ -1,5 +1,5 @@\n first of {file}\n second\n-w{round}\n+w{}\n fourth\n fifth\n",
                    round + 1
                )
            })
            .collect();
        let answer = timed::<PatchApply>(home.pyro(), json!({ "workspace": id, "patch": text }), &mut patch).await?;
        ensure!(answer.applied && answer.files.len() == PATCHED_FILES, "the patch was applied");
    }
    home.close().await?;
    group.add(Row::new(Whose::Pyro, "pyro file write, 2 KB", Unit::Milliseconds, write).target(Target::AtMost(5.0)));
    group.add(Row::new(Whose::Pyro, "pyro file read, 2 KB", Unit::Milliseconds, read).target(Target::AtMost(5.0)));
    group.add(
        Row::new(Whose::Pyro, format!("pyro patch apply, {PATCHED_FILES} files"), Unit::Milliseconds, patch).target(Target::AtMost(150.0)),
    );
    report.finish(group);
    Ok(())
}
