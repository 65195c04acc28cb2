//! A `PYRO_HOME` of the run, driven through the SDK and through the command line.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use pyro_sdk::{
    CommandExit, CommandSpec, ExecEvent, Observer, Pyro, PyroOptions, Workspace,
    config::{Configuration, Flags},
    contract::{GuestCommand, WorkspaceCreate, WorkspaceListRequest},
    edge::process_variable,
    limits::MemMib,
};
use pyro_store::{Dirs, MachineRecord, MachineRole, MachineState, Registry};
use tokio::process::Command;

use crate::{
    bed::{self, ENVIRONMENT},
    command::{self, milliseconds},
};

/// Warming a standby machine takes a second or two at low priority; a busy host was seen to need ten times that.
const STANDBY_DEADLINE: Duration = Duration::from_secs(60);
/// How often the registry is looked at meanwhile: rarely enough not to show in what is measured next.
const STANDBY_POLL: Duration = Duration::from_millis(20);

/// Whether a home keeps a standby machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standby {
    One,
    None,
}

impl Standby {
    const fn count(self) -> u32 {
        match self {
            Self::One => 1,
            Self::None => 0,
        }
    }
}

/// One installation of Pyro.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    pyro: Pyro,
    registry: Registry,
    binary: PathBuf,
    standby: Standby,
    mem_mib: MemMib,
}

impl Home {
    /// Makes a home with the pulled environment and, when there is one, the template of `seed`.
    pub(crate) fn new(run: &Path, name: &str, standby: Standby, mem_mib: MemMib, seed: Option<&Self>) -> Result<Self> {
        let folder = run.join(name);
        bed::link_tree(&bed::pool()?.join("data/environments"), &folder.join("data/environments"))?;
        if let Some(seed) = seed {
            bed::link_tree(&seed.folder.join("data/templates"), &folder.join("data/templates"))?;
        }
        let dirs = Dirs::under(&folder);
        let mut configuration = Configuration::resolve(None, &process_variable, Flags::default())?;
        configuration.settings.standby = standby.count();
        let binary = bed::binary()?;
        let pyro = Pyro::open(PyroOptions { dirs: dirs.clone(), configuration, binary: binary.clone() })?;
        Ok(Self { folder, pyro, registry: Registry::open(&dirs)?, binary, standby, mem_mib })
    }

    /// Asks for a workspace of the run's size.
    pub(crate) async fn create(&self) -> Result<Workspace> {
        let request = WorkspaceCreate { mem_mib: self.mem_mib, ..WorkspaceCreate::new(ENVIRONMENT.parse()?) };
        Ok(self.pyro.create_workspace(request, &Observer::none()).await?)
    }

    /// Asks for a workspace of the run's size with what a folder or an archive holds in it.
    pub(crate) async fn create_seeded(&self, path: &Path) -> Result<Workspace> {
        let request =
            WorkspaceCreate { mem_mib: self.mem_mib, seed_path: Some(path.to_owned()), ..WorkspaceCreate::new(ENVIRONMENT.parse()?) };
        Ok(self.pyro.create_workspace(request, &Observer::none()).await?)
    }

    /// Returns the installation.
    pub(crate) const fn pyro(&self) -> &Pyro {
        &self.pyro
    }

    /// Creates a workspace, runs a command and deletes it, so that what happens once has happened.
    pub(crate) async fn prime(&self) -> Result<()> {
        let workspace = self.create().await?;
        run(&workspace, &["/bin/true"]).await?;
        self.wait_for_standby().await?;
        Ok(workspace.delete().await?)
    }

    /// Waits until a standby machine can be claimed; at once where none is wanted.
    pub(crate) async fn wait_for_standby(&self) -> Result<()> {
        let deadline = Instant::now() + STANDBY_DEADLINE;
        while self.standby == Standby::One && !self.has_ready_standby()? {
            if Instant::now() > deadline {
                bail!("no standby machine was ready within {} s", STANDBY_DEADLINE.as_secs());
            }
            tokio::time::sleep(STANDBY_POLL).await;
        }
        Ok(())
    }

    /// Makes sure of a standby machine, by an extra workspace where nothing else would start one; tells whether that was needed.
    pub(crate) async fn restore_standby(&self) -> Result<bool> {
        /// How long a replacement that was going to come takes to show up in the registry.
        const SHOWS_UP_WITHIN: Duration = Duration::from_secs(3);
        let deadline = Instant::now() + SHOWS_UP_WITHIN;
        while self.standbys()?.is_empty() {
            if Instant::now() > deadline {
                self.prime().await?;
                return Ok(true);
            }
            tokio::time::sleep(STANDBY_POLL).await;
        }
        self.wait_for_standby().await?;
        Ok(false)
    }

    fn has_ready_standby(&self) -> Result<bool> {
        Ok(self.standbys()?.iter().any(|machine| machine.state == MachineState::Ready))
    }

    /// Returns the standby machines nobody has claimed.
    pub(crate) fn standbys(&self) -> Result<Vec<MachineRecord>> {
        let machines = self.registry.machines()?;
        Ok(machines.into_iter().filter(|machine| machine.role == MachineRole::Standby && machine.workspace.is_none()).collect())
    }

    /// Returns the machines of workspaces.
    pub(crate) fn machines(&self) -> Result<Vec<MachineRecord>> {
        Ok(self.registry.machines()?.into_iter().filter(|machine| machine.workspace.is_some()).collect())
    }

    /// Returns how guests run here.
    pub(crate) fn accelerator(&self) -> Result<String> {
        let workspaces = self.registry.workspaces()?;
        Ok(workspaces.first().context("a workspace is there")?.shape.accelerator.to_string())
    }

    /// Returns the root file system the guests have, for peers.
    pub(crate) async fn root_image(&self) -> Result<PathBuf> {
        Ok(self.environment_folder().await?.join("root.ext4"))
    }

    /// Returns the folder of the guests' environment.
    pub(crate) async fn environment_folder(&self) -> Result<PathBuf> {
        let environment = self.pyro.inspect_environment(ENVIRONMENT.parse()?).await?;
        Ok(environment.folder.context("the environment is built")?.into())
    }

    /// Returns `pyro ARGUMENTS` in this home.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = command::command(&[self.binary.as_os_str()]);
        command.args(arguments).env("PYRO_HOME", &self.folder).env("PYRO_STANDBY", self.standby.count().to_string());
        command
    }

    /// Creates a workspace as a shell user would; returns its id and the milliseconds it took.
    pub(crate) async fn cli_create(&self) -> Result<(String, f64)> {
        let memory = self.mem_mib.to_string();
        let (elapsed, output) = command::time(self.cli(&["workspace", "create", ENVIRONMENT, "--mem-mib", &memory, "--id-only"])).await?;
        Ok((String::from_utf8(output.stdout)?.trim().to_owned(), elapsed))
    }

    /// Runs `pyro run … /bin/true`: a machine made, used and removed.
    pub(crate) async fn cli_run(&self) -> Result<f64> {
        let memory = self.mem_mib.to_string();
        Ok(command::time(self.cli(&["run", ENVIRONMENT, "--mem-mib", &memory, "--", "/bin/true"])).await?.0)
    }

    /// Ends everything in the home and removes it.
    pub(crate) async fn close(self) -> Result<()> {
        for status in self.pyro.list_workspaces(WorkspaceListRequest::default()).await?.workspaces {
            self.pyro.workspace(&status.workspace_id.parse()?).await?.delete().await?;
        }
        for standby in self.registry.machines()? {
            if let Some(pid) = standby.pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
                // One that ended by itself meanwhile is what was wanted.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let deadline = Instant::now() + STANDBY_DEADLINE;
        while !self.registry.machines()?.is_empty() && Instant::now() < deadline {
            self.pyro.reap().await?;
            tokio::time::sleep(STANDBY_POLL).await;
        }
        std::fs::remove_dir_all(&self.folder).with_context(|| format!("cannot remove `{}`", self.folder.display()))
    }
}

/// What a command in a workspace took.
#[derive(Debug)]
pub(crate) struct Ran {
    /// From the call to the exit's arrival, in milliseconds.
    pub(crate) elapsed: f64,
    /// What the guest says, fork to exit, in milliseconds.
    pub(crate) in_guest: f64,
    /// Bytes on standard output.
    pub(crate) stdout_bytes: u64,
}

/// Runs a command through the SDK, counting its output.
pub(crate) async fn run(workspace: &Workspace, argv: &[&str]) -> Result<Ran> {
    let spec = CommandSpec::new(GuestCommand::new(argv.iter().copied())?);
    let started = Instant::now();
    let mut execution = workspace.start_command(&spec).await?;
    let mut stdout_bytes = 0;
    while let Some(event) = execution.next().await? {
        match event {
            ExecEvent::Stdout(bytes) => stdout_bytes += bytes.len() as u64,
            ExecEvent::Stderr(_) => {}
            ExecEvent::Exited(CommandExit { exit_code: 0, duration, .. }) => {
                return Ok(Ran { elapsed: milliseconds(started.elapsed()), in_guest: milliseconds(duration), stdout_bytes });
            }
            ExecEvent::Exited(exit) => bail!("`{}` ended with {exit:?}", argv.join(" ")),
        }
    }
    bail!("`{}` ended without an exit", argv.join(" "))
}
