//! Runs the distribution's tools: found at known places, killed with us, their output followed line by line.
//!
//! Death order: a tool runs in a process group of its own (a Ctrl-C at the terminal reaches the caller, not the tool) and dies with it.
//! Dropping a run kills the group. When the puller is killed, `setpriv --pdeathsig` kills its direct child; a tool that starts many
//! processes runs under `unshare --pid --kill-child`, whose end takes the whole PID namespace along, mounts included.
//! The signal fires when the *thread* that started the tool ends, which is the thread that waits for it here.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::error::{Error, Result, ToolOutput};

/// Where tools are looked for. A user's own PATH lacks `sbin` on Debian, where mke2fs lives, and this crate reads no environment.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// The same, for the tools that start others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Lines kept for the message of a failure: enough for apt's and dpkg's reports.
const TAIL_LINES: usize = 20;
/// Longest line looked at; maintainer scripts print what they like.
const LINE_MAX_BYTES: u64 = 8 * 1024;

/// A program of the distribution and the package it comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    package: &'static str,
}

impl Tool {
    pub(crate) const APT_CACHE: Self = Self { name: "apt-cache", package: "apt" };
    pub(crate) const APT_GET: Self = Self { name: "apt-get", package: "apt" };
    pub(crate) const DPKG_DEB: Self = Self { name: "dpkg-deb", package: "dpkg" };
    pub(crate) const DEBUGFS: Self = Self { name: "debugfs", package: "e2fsprogs" };
    pub(crate) const E2FSCK: Self = Self { name: "e2fsck", package: "e2fsprogs" };
    pub(crate) const MKE2FS: Self = Self { name: "mke2fs", package: "e2fsprogs" };
    pub(crate) const MMDEBSTRAP: Self = Self { name: "mmdebstrap", package: "mmdebstrap" };
    pub(crate) const RM: Self = Self { name: "rm", package: "coreutils" };
    pub(crate) const SHELL: Self = Self { name: "sh", package: "dash" };
    pub(crate) const XZ: Self = Self { name: "xz", package: "xz-utils" };
    pub(crate) const ZSTD: Self = Self { name: "zstd", package: "zstd" };
    const NEWUIDMAP: Self = Self { name: "newuidmap", package: "uidmap" };
    const SETPRIV: Self = Self { name: "setpriv", package: "util-linux" };
    const UNSHARE: Self = Self { name: "unshare", package: "util-linux" };

    /// Finds the program.
    pub(crate) fn locate(self) -> Result<PathBuf> {
        let mut candidates = FOLDERS.iter().map(|folder| Path::new(folder).join(self.name));
        candidates.find(|path| path.is_file()).ok_or(Error::MissingTool { tool: self.name, package: self.package })
    }

    /// Runs the tool and gives every line it prints, of both streams, to `on_line`.
    pub(crate) fn run(self, activity: &str, world: &World, arguments: &[&OsStr], on_line: &mut dyn FnMut(&str)) -> Result<()> {
        self.run_in(Path::new("/"), activity, world, arguments, on_line)
    }

    /// Runs the tool in `folder`; see [`Self::run`].
    pub(crate) fn run_in(
        self,
        folder: &Path,
        activity: &str,
        world: &World,
        arguments: &[&OsStr],
        on_line: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let mut command = world.command(self)?;
        command.args(arguments).current_dir(folder);
        follow(self, activity, command, on_line)
    }

    /// Runs the tool and returns its standard output.
    pub(crate) fn output(self, activity: &str, arguments: &[&OsStr]) -> Result<Vec<u8>> {
        self.outputs(activity, arguments).map(|output| output.stdout)
    }

    /// Runs the tool and returns what it printed on both streams, for tools that end with success whatever happened.
    pub(crate) fn outputs(self, activity: &str, arguments: &[&OsStr]) -> Result<Output> {
        let mut command = World::Host.command(self)?;
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |source| Error::io("start", self.name, source);
        let output = Running(command.spawn().map_err(failed)?).output().map_err(failed)?;
        if output.status.success() {
            return Ok(output);
        }
        let mut tail = Tail::default();
        String::from_utf8_lossy(&output.stderr).lines().for_each(|line| tail.push(line));
        Err(tail.into_error(self, activity, output.status))
    }
}

/// Where a tool runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// The host, with our rights: for tools that change nothing but their own files.
    Host,
    /// Mounts, processes and an empty network of its own: for root, where mounts and processes would else outlive a killed pull. Package
    /// scripts find no network, so that what is installed is what apt has fetched and checked.
    OwnMounts,
    /// A user namespace as well, in which we are root: for everyone else.
    OwnUsers,
}

impl World {
    /// Picks how files of many owners are made on this host.
    pub(crate) fn for_root_file_systems() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            Tool::NEWUIDMAP.locate()?;
            return Ok(Self::OwnUsers);
        }
        // A container's root may not have namespaces. It cannot mount then either, so there is nothing they would protect.
        let world = match Tool::SHELL.run("try namespaces", &Self::OwnMounts, &["-c".as_ref(), ":".as_ref()], &mut |_| {}) {
            Ok(()) => Self::OwnMounts,
            Err(Error::ToolFailed { .. }) => Self::Host,
            Err(error) => return Err(error),
        };
        Ok(world)
    }

    fn command(self, tool: Tool) -> Result<Command> {
        let program = tool.locate()?;
        let mut command = Command::new(Tool::SETPRIV.locate()?);
        command.args(["--pdeathsig", "KILL", "--"]);
        let namespaces: &[&str] = match self {
            Self::Host => &[],
            Self::OwnMounts => &["--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"],
            Self::OwnUsers => {
                &["--user", "--map-auto", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
            }
        };
        if !namespaces.is_empty() {
            command.arg(Tool::UNSHARE.locate()?).args(namespaces).arg("--");
        }
        // What is made for the image must not depend on the caller's umask.
        command.arg(Tool::SHELL.locate()?).args(["-c", "umask 022; exec \"$@\"", "sh"]).arg(program);
        // English output is parsed; a question would wait forever; TMPDIR of the caller may not exist inside.
        command.env("PATH", PATH).env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive").env_remove("TMPDIR");
        // libext2fs stamps what it makes with this instead of the clock, so that equal content is equal bytes.
        command.env("E2FSPROGS_FAKE_TIME", "946684800");
        command.stdin(Stdio::null()).process_group(0);
        Ok(command)
    }
}

/// A started tool; dropping it kills everything in its process group.
struct Running(Child);

impl Running {
    fn output(mut self) -> std::io::Result<Output> {
        // Both streams are read at once, or a tool that fills one would wait for us while we wait for the other.
        let mut errors = self.0.stderr.take().expect("stderr is piped by the caller");
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            errors.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut stdout = Vec::new();
        self.0.stdout.take().expect("stdout is piped by the caller").read_to_end(&mut stdout)?;
        let stderr = reader.join().expect("reading a pipe does not panic")?;
        Ok(Output { status: self.0.wait()?, stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.0.try_wait() {
            return;
        }
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// The last lines of a tool's output.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: &str) {
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    fn into_error(self, tool: Tool, activity: &str, status: std::process::ExitStatus) -> Error {
        let lines = Vec::from(self.0);
        // The tools have no exit code for it; the sentence is strerror(ENOSPC), in the locale we set.
        if lines.iter().any(|line| line.contains("No space left on device")) {
            return Error::DiskFull { activity: activity.to_owned() };
        }
        Error::ToolFailed { tool: tool.name, activity: activity.to_owned(), status, source: ToolOutput(lines.join("\n")) }
    }
}

fn follow(tool: Tool, activity: &str, mut command: Command, on_line: &mut dyn FnMut(&str)) -> Result<()> {
    let failed = |source| Error::io("start", tool.name, source);
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    let mut running = Running(command.spawn().map_err(failed)?);
    // The command still holds our ends of the pipe; with them open it would never end.
    drop(command);
    let (mut reader, mut tail, mut line) = (BufReader::new(reader), Tail::default(), Vec::new());
    loop {
        line.clear();
        // Over-long lines are read in pieces rather than into memory without bound.
        let count = reader.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        if count == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        // Progress bars redraw with carriage returns: what counts is what they show last.
        let shown = text.trim_end().rsplit('\r').next().unwrap_or_default();
        if !shown.is_empty() {
            on_line(shown);
            tail.push(shown);
        }
    }
    let status = running.0.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(tail.into_error(tool, activity, status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Result<()>, Vec<String>) {
        let mut lines = Vec::new();
        let arguments = ["-c".as_ref(), script.as_ref()];
        let result = Tool::SHELL.run("test", &World::Host, &arguments, &mut |line| lines.push(line.to_owned()));
        (result, lines)
    }

    #[test]
    fn lines_of_both_streams_arrive_and_redrawn_ones_count_once() {
        let (result, lines) = shell("echo one; echo two >&2; printf '10%%\\r20%%\\n'");
        result.unwrap();
        assert_eq!(lines, ["one", "two", "20%"]);
    }

    #[test]
    fn failure_carries_the_last_lines() {
        let error = shell("seq 1 100; exit 3").0.unwrap_err();
        assert_eq!(error.to_string(), "cannot test: `sh` failed with exit status: 3");
        let output = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(output.lines().count(), TAIL_LINES);
        assert!(output.starts_with("81\n") && output.ends_with("100"));
    }

    #[test]
    fn full_disk_is_recognised_in_a_tools_words() {
        let error = shell("echo 'cp: write error: No space left on device' >&2; exit 1").0.unwrap_err();
        assert_eq!(error.kind(), pyro_proto::error::ErrorKind::HostDiskFull);
    }

    #[test]
    fn missing_tool_names_its_package() {
        let error = Tool { name: "pyro-no-such-tool", package: "some-package" }.locate().unwrap_err();
        assert_eq!(error.to_string(), "the program `pyro-no-such-tool` is missing: install the package `some-package`");
        assert_eq!(error.hint().unwrap(), "install it with `sudo apt-get install some-package`");
    }
}
