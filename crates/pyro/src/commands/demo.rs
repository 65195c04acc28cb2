//! `pyro demo`: repro and fix, on a real guest.
//!
//! Everything it prints happened: the failing test fails in the guest, and every figure was measured around the step it stands beside.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use clap::Args;
use pyro_image::{Definition, Source, catalog};
use pyro_sdk::{
    CommandSpec, EnvironmentName, ErrorKind, ExecEvent, Observer, Pyro, Workspace,
    contract::{Diff, DiffAnswer, Export, GuestCommand, PatchApply, Prepare, WorkspaceCreate, WorkspaceReset},
    text::WorkspaceReference,
};

use crate::{
    cli::{Context, Failure, Outcome},
    render::{self, Printer},
};

/// The shipped sample: a shop that forgets its discount, the test that notices, and the patch that mends it.
const PROJECT: [(&str, &str); 2] =
    [("basket.py", include_str!("../../demo/project/basket.py")), ("test_basket.py", include_str!("../../demo/project/test_basket.py"))];
const FIX: &str = include_str!("../../demo/fix.patch");
/// As a shell reports a program that is not there.
const NOT_FOUND: i32 = 127;
const TEST: [&str; 3] = ["python3", "-B", "test_basket.py"];

/// Play the repro-and-fix story on a real guest, with timings
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro demo")]
pub(crate) struct Arguments {
    /// Environment; it needs python3
    #[arg(long, value_name = "ENV", default_value = "debian:12")]
    environment: EnvironmentName,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    check_environment(arguments.environment)?;
    let pyro = context.pyro()?;
    let mut stage = Stage { printer: &context.printer, steps: Vec::new() };
    let observer = context.observer();
    stage.say("Repro and fix: a failing test, reproduced and mended in a machine of its own.\n")?;
    stage.step("prepare the environment (once per host)", prepare(&pyro, arguments.environment, &observer)).await?;
    let folder = project()?;
    let seed = folder.path().join("project");
    let workspace =
        stage.step("create a workspace, seeded with a small project", create(&pyro, arguments.environment, &seed, &observer)).await?;
    let played = play(&mut stage, &pyro, &workspace, folder.path(), &observer).await;
    let deleted = stage.step("delete it, with everything in it", async { Ok(workspace.delete().await?) }).await;
    played?;
    deleted?;
    let total: Duration = stage.steps.iter().map(|(_, duration)| *duration).sum();
    stage.say(&format!(
        "\n{} in all. Its workspace is gone; the environment, its template and perhaps a standby machine stay for the next one.\n",
        render::duration(total.as_secs_f64() * 1000.0)
    ))?;
    Ok(0)
}

/// Refuses an environment without what the sample is written in, before anything is made.
fn check_environment(environment: EnvironmentName) -> Result<(), Failure> {
    let suitable = |definition: &Definition| match definition.source {
        Source::DebianPackages { packages, .. } => packages.contains(&"python3"),
        // Unknown kinds of environments may have it; the guest tells.
        _ => true,
    };
    if suitable(catalog::find(environment)) {
        return Ok(());
    }
    let known: Vec<_> = catalog::all().iter().filter(|definition| suitable(definition)).map(|found| format!("`{}`", found.name)).collect();
    let message = format!("the demo needs python3, which `{environment}` lacks; {} have it", known.join(" and "));
    Err(Failure::Pyro(pyro_sdk::Failure::message(ErrorKind::InvalidArgument, message).into()))
}

async fn prepare(pyro: &Pyro, environment: EnvironmentName, observer: &Observer) -> Result<(), Failure> {
    pyro.prepare(Prepare { environment, force: false }, observer).await?;
    Ok(())
}

/// What this program itself wrote was refused.
fn bug(what: &str) -> Failure {
    Failure::Bug(format!("the demo's {what} is not one"))
}

/// Writes the sample to a folder that is gone with the demo.
fn project() -> Result<tempfile::TempDir, Failure> {
    let folder = tempfile::Builder::new().prefix("pyro-demo-").tempdir()?;
    let project = folder.path().join("project");
    std::fs::create_dir(&project)?;
    for (name, text) in PROJECT {
        std::fs::write(project.join(name), text)?;
    }
    Ok(folder)
}

async fn create(pyro: &Pyro, environment: EnvironmentName, seed: &Path, observer: &Observer) -> Result<Workspace, Failure> {
    let request = WorkspaceCreate { seed_path: Some(seed.to_owned()), ..WorkspaceCreate::new(environment) };
    Ok(pyro.create_workspace(request, observer).await?)
}

async fn play(stage: &mut Stage<'_>, pyro: &Pyro, workspace: &Workspace, folder: &Path, observer: &Observer) -> Result<(), Failure> {
    let reference: WorkspaceReference = workspace.id().as_str().parse().map_err(|_| bug("an id"))?;
    let failing = stage.step("run its test: it fails", run_test(workspace)).await?;
    stage.expect(&failing, 1)?;
    let patch = PatchApply { workspace: reference.clone(), patch: FIX.as_bytes().to_vec().into(), check: false };
    stage.step("apply a patch", async { Ok(pyro.apply_patch(patch).await?) }).await?;
    let passing = stage.step("run the same test: it passes", run_test(workspace)).await?;
    stage.expect(&passing, 0)?;
    let changed = stage.step("look at the diff", diff(pyro, &reference, observer)).await?;
    if let Some(patch) = &changed.patch {
        stage.show(&String::from_utf8_lossy(patch.as_bytes()))?;
    }
    let output = folder.join("basket.py");
    let export = Export {
        workspace: reference.clone(),
        path: "basket.py".parse().map_err(|_| bug("a path"))?,
        output: output.clone(),
        force: false,
    };
    stage.step("export the mended file", async { Ok(pyro.export(export, observer).await?) }).await?;
    let mended = std::fs::read_to_string(&output)?;
    let reset = WorkspaceReset { workspace: reference.clone(), snapshot: None };
    stage.step("reset the workspace: a fresh machine with the seed", async { Ok(pyro.reset_workspace(&reset, observer).await?) }).await?;
    let unchanged = stage.step("look again: no difference", diff(pyro, &reference, observer)).await?;
    if unchanged.changed || !changed.changed || !mended.contains("(count - free)") {
        return Err(Failure::Bug("the demo's files are not what they should be".to_owned()));
    }
    Ok(())
}

async fn diff(pyro: &Pyro, workspace: &WorkspaceReference, observer: &Observer) -> Result<DiffAnswer, Failure> {
    Ok(pyro.diff(Diff { workspace: workspace.clone(), stat: false, against: None, include_ignored: false }, observer).await?)
}

/// What a command printed and how it ended.
struct Ran {
    text: String,
    exit_code: i32,
}

async fn run_test(workspace: &Workspace) -> Result<Ran, Failure> {
    let mut execution = workspace.start_command(&CommandSpec::new(GuestCommand::new(TEST)?)).await?;
    let (mut output, mut exit_code) = (Vec::new(), -1);
    while let Some(event) = execution.next().await? {
        match event {
            ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => output.extend_from_slice(&bytes),
            ExecEvent::Exited(exit) => {
                exit_code = exit.exit_code;
                break;
            }
        }
    }
    Ok(Ran { text: String::from_utf8_lossy(&output).into_owned(), exit_code })
}

/// Where the story is told.
struct Stage<'a> {
    printer: &'a Printer,
    steps: Vec<(&'static str, Duration)>,
}

impl Stage<'_> {
    fn say(&self, text: &str) -> Result<(), Failure> {
        Ok(self.printer.content(text)?)
    }

    async fn step<T>(&mut self, name: &'static str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let started = Instant::now();
        let value = work.await?;
        let duration = started.elapsed();
        self.steps.push((name, duration));
        self.say(&format!("{:>9}  {name}\n", render::duration(duration.as_secs_f64() * 1000.0)))?;
        Ok(value)
    }

    /// Shows what came out of the guest.
    fn show(&self, text: &str) -> Result<(), Failure> {
        for line in text.lines() {
            self.say(&format!("           | {line}\n"))?;
        }
        Ok(())
    }

    /// Shows what a command printed, and insists on how it ended.
    fn expect(&self, ran: &Ran, exit_code: i32) -> Result<(), Failure> {
        self.show(&ran.text)?;
        if ran.exit_code == exit_code {
            return Ok(());
        }
        if ran.exit_code == NOT_FOUND {
            let message = "the environment lacks a program the demo needs";
            return Err(Failure::Pyro(pyro_sdk::Failure::message(ErrorKind::EnvironmentUnavailable, message).into()));
        }
        Err(Failure::Bug(format!("the demo expected exit code {exit_code} and got {}", ran.exit_code)))
    }
}
