//! `pyro demo`: repro and fix, on a real guest, with what exists so far.
//!
//! Everything it prints happened: the failing test fails in the guest, and every figure was measured around the step it stands beside.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use pyro_image::{Definition, Source, catalog};
use pyro_sdk::{
    CommandSpec, EnvironmentName, ErrorKind, ExecEvent, Observer, Pyro, Stdin, Workspace,
    contract::{GuestCommand, Prepare, WorkspaceCreate},
};

use crate::{
    cli::{Context, Failure, Outcome},
    render::{self, Printer},
};

/// The shipped sample: a shop that forgets its discount, and the test that notices.
const PROJECT: &str = include_str!("../../demo/make-project.sh");
const FIX: &str = include_str!("../../demo/fix.sh");
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
    let workspace = stage.step("create a workspace", create(&pyro, arguments.environment, &observer)).await?;
    let played = play(&mut stage, &workspace, &observer).await;
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

async fn create(pyro: &Pyro, environment: EnvironmentName, observer: &Observer) -> Result<Workspace, Failure> {
    Ok(pyro.create_workspace(WorkspaceCreate::new(environment), observer).await?)
}

async fn play(stage: &mut Stage<'_>, workspace: &Workspace, observer: &Observer) -> Result<(), Failure> {
    let seeded = stage.step("write a small project with a bug in it", run_script(workspace, PROJECT)).await?;
    stage.expect(&seeded, 0)?;
    let failing = stage.step("run its test: it fails", run_test(workspace)).await?;
    stage.expect(&failing, 1)?;
    let fixed = stage.step("mend the bug", run_script(workspace, FIX)).await?;
    stage.expect(&fixed, 0)?;
    let passing = stage.step("run the same test: it passes", run_test(workspace)).await?;
    stage.expect(&passing, 0)?;
    stage.step("stop the workspace", async { Ok(workspace.stop().await?) }).await?;
    stage.step("start it again", async { Ok(workspace.start(observer).await?) }).await?;
    let again = stage.step("the fix survived: the test still passes", run_test(workspace)).await?;
    stage.expect(&again, 0)
}

/// What a command printed and how it ended.
struct Ran {
    text: String,
    exit_code: i32,
}

async fn run_test(workspace: &Workspace) -> Result<Ran, Failure> {
    collect(workspace, GuestCommand::new(TEST)?, None).await
}

/// Gives a script to a shell in the guest through its standard input.
async fn run_script(workspace: &Workspace, script: &'static str) -> Result<Ran, Failure> {
    collect(workspace, GuestCommand::new(["sh", "-eu"])?, Some(script)).await
}

async fn collect(workspace: &Workspace, command: GuestCommand, stdin: Option<&'static str>) -> Result<Ran, Failure> {
    let spec = CommandSpec { stdin: if stdin.is_some() { Stdin::Open } else { Stdin::Empty }, ..CommandSpec::new(command) };
    let mut execution = workspace.start_command(&spec).await?;
    if let Some(script) = stdin {
        let input = execution.input();
        input.write(Bytes::from_static(script.as_bytes())).await;
        input.close().await;
    }
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

    /// Shows what a command printed, and insists on how it ended.
    fn expect(&self, ran: &Ran, exit_code: i32) -> Result<(), Failure> {
        for line in ran.text.lines() {
            self.say(&format!("           | {line}\n"))?;
        }
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
