//! A `PYRO_HOME` of one test.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use pyro_store::{Dirs, Registry};
use serde_json::Value;

use crate::{ENVIRONMENT, MEM_MIB, Output, eventually, pool};

/// How `pyro` finds a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// By `PYRO_HOME`.
    Named,
    /// By `HOME` and the XDG rules, as that of a user who has set nothing.
    User,
}

/// A fresh home with the shared environment and template in it.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    layout: Layout,
    _owner: Option<tempfile::TempDir>,
    settings: Vec<(&'static str, String)>,
}

impl Home {
    /// Makes a home without standby machines: stories about one machine want to count one.
    #[must_use]
    pub fn new() -> Self {
        Self::laid_out(Layout::Named)
    }

    /// Makes the home of a user who has set no variable of Pyro's.
    #[must_use]
    pub fn of_a_user() -> Self {
        Self::laid_out(Layout::User)
    }

    fn laid_out(layout: Layout) -> Self {
        let target = pool::binary().parent().expect("a target folder").to_owned();
        let folder = tempfile::Builder::new().prefix("home-").tempdir_in(target).expect("the target folder is writable");
        let settings = vec![("PYRO_STANDBY", "0".into())];
        let home = Self { folder: folder.path().to_owned(), layout, _owner: Some(folder), settings };
        home.fill_by(|from, to| std::fs::hard_link(from, to));
        home
    }

    /// Makes a home that has another environment, too, whose template is booted by the first workspace.
    #[must_use]
    pub fn with_environment(environment: &str) -> Self {
        pool::pull(environment);
        Self::new()
    }

    /// Makes a home in a folder of the caller's, say a small file system, and copies what it needs.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        let home = Self { folder: folder.to_owned(), layout: Layout::Named, _owner: None, settings: vec![("PYRO_STANDBY", "0".into())] };
        home.fill_by(|from, to| {
            // Sparse files stay sparse: a small file system could not hold them otherwise.
            let copied = Command::new("cp").args(["--sparse=always", "-p"]).arg(from).arg(to).status()?;
            if copied.success() { Ok(()) } else { Err(std::io::Error::other("cp failed")) }
        });
        home
    }

    /// Sets a variable for every command from now on; an earlier value is replaced.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
        self
    }

    fn fill_by(&self, place: impl Fn(&Path, &Path) -> std::io::Result<()>) {
        fn walk(from: &Path, to: &Path, place: &impl Fn(&Path, &Path) -> std::io::Result<()>) {
            std::fs::create_dir_all(to).expect("the home is writable");
            for entry in std::fs::read_dir(from).expect("the pool is readable").flatten() {
                let (from, to) = (entry.path(), to.join(entry.file_name()));
                if from.is_dir() {
                    walk(&from, &to, place);
                } else {
                    place(&from, &to).unwrap_or_else(|error| panic!("cannot place {}: {error}", to.display()));
                }
            }
        }
        let (from, to) = (Dirs::under(pool::pool()), self.dirs());
        for part in ["environments", "templates"] {
            walk(&from.data.join(part), &to.data.join(part), &place);
        }
    }

    /// Returns the home's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Returns Pyro's folders in it.
    #[must_use]
    pub fn dirs(&self) -> Dirs {
        let only_home = |name: &str| (name == "HOME").then(|| self.folder.clone().into());
        match self.layout {
            Layout::Named => Dirs::under(&self.folder),
            Layout::User => Dirs::from_variables(&only_home).expect("there is a home"),
        }
    }

    /// Opens its registry.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry::open(&self.dirs()).expect("the registry opens")
    }

    /// Returns `pyro ARGUMENTS`, not started yet.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(&pool::binary());
        command.args(arguments);
        command
    }

    /// Returns another program's command, not started yet, with the same environment: a `pyro` it starts finds this home.
    #[must_use]
    pub fn program(&self, program: &Path) -> Command {
        let mut command = pool::command(program, &self.folder);
        if self.layout == Layout::User {
            command.env_remove("PYRO_HOME");
        }
        for (name, value) in &self.settings {
            command.env(name, value);
        }
        command
    }

    /// Runs `pyro ARGUMENTS` to its end.
    #[must_use]
    pub fn pyro(&self, arguments: &[&str]) -> Output {
        finish(self.start(arguments))
    }

    /// Starts `pyro ARGUMENTS` with both streams piped.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pyro starts")
    }

    /// Creates a workspace and returns its id.
    #[must_use]
    pub fn create(&self, more: &[&str]) -> String {
        let mut arguments = vec!["workspace", "create", ENVIRONMENT, "--mem-mib", MEM_MIB, "--id-only"];
        arguments.extend(more);
        self.pyro(&arguments).ok().text()
    }

    /// Creates a workspace of another environment and returns its id.
    #[must_use]
    pub fn create_from(&self, environment: &str, more: &[&str]) -> String {
        let mut arguments = vec!["workspace", "create", environment, "--id-only"];
        arguments.extend(more);
        self.pyro(&arguments).ok().text()
    }

    /// Runs a command in a workspace.
    #[must_use]
    pub fn exec(&self, workspace: &str, command: &[&str]) -> Output {
        let mut arguments = vec!["workspace", "exec", workspace, "--"];
        arguments.extend(command);
        self.pyro(&arguments)
    }

    /// Runs a shell line in a workspace and returns what it printed.
    #[must_use]
    pub fn sh(&self, workspace: &str, line: &str) -> String {
        self.exec(workspace, &["sh", "-c", line]).ok().text()
    }

    /// Runs a command with this input.
    #[must_use]
    pub fn exec_with_input(&self, workspace: &str, command: &[&str], input: &[u8]) -> Output {
        let mut arguments = vec!["workspace", "exec", workspace, "--stdin", "--"];
        arguments.extend(command);
        let mut child =
            self.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pyro starts");
        let mut stdin = child.stdin.take().expect("it was piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = finish(child);
        writer.join().expect("the writer does not panic");
        output
    }

    /// Returns `workspace status --json`.
    #[must_use]
    pub fn status(&self, workspace: &str) -> Value {
        self.pyro(&["workspace", "status", workspace, "--json"]).ok().json()
    }

    /// Returns the state of a workspace as the next client sees it.
    #[must_use]
    pub fn state(&self, workspace: &str) -> String {
        self.status(workspace)["state"].as_str().expect("status has a state").to_owned()
    }

    /// Returns process ids of supervisor and QEMU of a running workspace.
    #[must_use]
    pub fn processes(&self, workspace: &str) -> (u32, u32) {
        let registry = self.registry();
        let machine = registry.find_workspace(workspace).expect("it exists").machine.expect("it runs");
        let machine = registry.machine(&machine).expect("readable").expect("it runs");
        (machine.pid.expect("it runs"), machine.machine_pid.expect("it runs"))
    }

    /// Returns the ids of all processes that belong to this home: supervisors name it in their arguments, and QEMUs are their children.
    #[must_use]
    pub fn live_processes(&self) -> Vec<u32> {
        let home = self.folder.to_string_lossy().into_owned();
        let pids = || {
            std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        };
        let supervisors: Vec<u32> = pids()
            .filter(|pid| {
                let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let arguments = String::from_utf8_lossy(&arguments);
                arguments.contains("__supervise") && arguments.contains(&home)
            })
            .collect();
        let machines = pids().filter(|pid| parent(*pid).is_some_and(|parent| supervisors.contains(&parent)));
        supervisors.iter().copied().chain(machines).collect()
    }

    /// Kills every supervisor and QEMU there is at this moment, and waits for their ends.
    pub fn kill_machines(&self) {
        let pids = self.live_processes();
        for pid in &pids {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        eventually("the killed processes are gone", 10, || pids.iter().all(|pid| has_ended(*pid)));
    }

    /// Asserts that nothing of any workspace is left: no process, no machine's folder, no layer, no journal, no row.
    pub fn assert_nothing_left(&self) {
        eventually("every process has ended", 20, || self.live_processes().is_empty());
        let _ = self.pyro(&["workspace", "list"]);
        let entries = |folder: PathBuf| -> Vec<String> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let dirs = self.dirs();
        assert_eq!(entries(dirs.machines()), Vec::<String>::new(), "machine folders are left");
        assert_eq!(entries(dirs.workspaces()), Vec::<String>::new(), "journals are left");
        // Shared blanks and the empty overlays every machine starts from stay.
        let layers: Vec<String> =
            entries(dirs.layers()).into_iter().filter(|name| !name.starts_with("blank-") && !name.starts_with("empty-")).collect();
        assert_eq!(layers, Vec::<String>::new(), "layers are left");
        assert_eq!(entries(dirs.unfinished()), Vec::<String>::new(), "notes on work are left");
        let scratch: Vec<String> = entries(dirs.state.clone()).into_iter().filter(|name| name.starts_with("spool-")).collect();
        assert_eq!(scratch, Vec::<String>::new(), "scratch folders are left");
        let registry = self.registry();
        assert_eq!(registry.workspaces().expect("readable").len(), 0, "rows of workspaces are left");
        assert_eq!(registry.machines().expect("readable").len(), 0, "rows of machines are left");
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in self.live_processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        eventually("killed processes are gone", 20, || self.live_processes().is_empty());
    }
}

/// Waits for a started command.
#[must_use]
pub fn finish(child: Child) -> Output {
    let output = child.wait_with_output().expect("it can be waited for");
    let code = output.status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&output.status).unwrap_or(0));
    Output { code, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Tells whether a killed process has let go of its files, and so of its locks: it is a zombie, and its other threads have ended, too.
fn has_ended(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    status.lines().any(|line| line.starts_with("State:\tZ")) && threads <= 1
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}
