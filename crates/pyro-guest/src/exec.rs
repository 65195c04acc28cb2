//! Starts commands: whose they are, where, with which streams, in which group.
//!
//! ```text
//! inputs ──▶ conduct ──stdin──▶ process ──▶ pump stdout ─┐
//!               │ timeout, signals, exit     pump stderr ─┴─▶ queue (bounded) ──▶ the call that reads it (`commands`)
//! ```
//!
//! A few tasks per command: `conduct` owns the process and its stdin, and each pump owns one pipe; at a terminal there is one for all that
//! comes out of it (`terminal`). The queue to the call is bounded, so a client that does not read stops the pumps, then the pipe, then the
//! command, and nothing else.
//!
//! **A command with an id outlives its call.** Dropped by the client or cut with the channel, the call leaves the command running; it
//! sleeps once its output has filled the queue, until another call attaches. Its stdin stays open unless the client has closed it. Its
//! time limit goes on. Ending it takes an input that says so. **A command without one ends with its call**: TERM for the process group
//! (for `end` has more) and, after the grace, KILL.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::v1::{ExecStart, SpawnFailure, exec_output};
use pyro_sys::spawn::{Command, Controlling};
use tokio::sync::mpsc;

use crate::calls::{Calls, Inputs};
use crate::commands::{self, Commands, Outputs, Whole, message};
use crate::conduct::{Process, Streams, conduct};
use crate::end::Target;
use crate::environment::Words;
use crate::group::Group;
use crate::passwd::User;
use crate::pipes::Pipes;
use crate::reap::Reaper;
use crate::refused::Refused;
use crate::terminal::Terminal;

/// Chunks between the pumps and the call: one on its way, one ready per pipe, one spare for the exit.
const OUTPUT_QUEUE: usize = 4;

/// Where commands run.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    pub(crate) reaper: Reaper,
    pub(crate) commands: Commands,
    null: Arc<OwnedFd>,
    /// Root directory of the commands; None is the agent's own.
    root: Option<CString>,
    directory: CString,
    /// Where control groups are made; None where there are none.
    groups: Option<PathBuf>,
    /// Whether users without an entry get homes: a test's agent shares its root with whoever runs the test.
    makes_homes: bool,
}

impl Executor {
    /// Makes an executor whose commands see the agent's own root.
    pub(crate) fn new(reaper: Reaper, directory: CString) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
        Ok(Self { reaper, commands: Commands::default(), null: Arc::new(null), root: None, directory, groups: None, makes_homes: false })
    }

    /// Lets it make control groups in the hierarchy mounted at `groups`.
    pub(crate) fn with_groups(self, groups: PathBuf) -> Self {
        Self { groups: Some(groups), ..self }
    }

    /// Lets it make homes for users that have none.
    pub(crate) fn with_homes(self) -> Self {
        Self { makes_homes: true, ..self }
    }

    /// Makes an executor whose commands see `root` as their root and start in it.
    pub(crate) fn within(&self, root: &'static std::ffi::CStr) -> Self {
        Self { root: Some(root.to_owned()), directory: c"/".to_owned(), ..self.clone() }
    }

    /// Starts a command and returns its outputs; the first is `started`, the last `exit`, also when it could not be started.
    ///
    /// # Errors
    /// When the request itself is not valid, or another command runs under its id.
    pub(crate) fn run(&self, start: &ExecStart, inputs: Inputs) -> Result<Outputs, Failure> {
        let words = Words::parse(start)?;
        let id = Some(start.id).filter(|&id| id != 0);
        if start.contained && id.is_none() {
            // Its name comes from the id.
            return Err(Failure::message(ErrorKind::InvalidArgument, "a contained command needs an id"));
        }
        id.map_or(Ok(()), |id| self.commands.check(id))?;
        let (sender, receiver) = mpsc::channel(OUTPUT_QUEUE);
        let (later, later_inputs) = mpsc::unbounded_channel();
        let began = Instant::now();
        let command = match self.start(start, &words) {
            Ok(process) => {
                let leader = process.target.leader();
                let pid = leader.as_raw_nonzero().get().cast_unsigned();
                let whole = process.target.group().map_or(Whole::Session(leader), |group| Whole::Group(group.path().to_owned()));
                let command = commands::Command::new(pid, Some(whole), receiver, later);
                // Before anything of it can end.
                if let Some(id) = id {
                    self.commands.enter(id, &command);
                }
                let timeout = Some(start.timeout_ms).filter(|&limit| limit > 0);
                // A limit past the end of the clock is none.
                let timeout = timeout.and_then(|limit| began.checked_add(Duration::from_millis(limit)));
                let calls = Calls { inputs: Some(inputs), later: later_inputs, table: id.map(|id| (id, self.commands.clone())) };
                tokio::spawn(conduct(process, calls, sender, began, timeout));
                command
            }
            Err(refused) => {
                // The queue is empty.
                let _ = sender.try_send(message(exec_output::Output::Exit(refused.into_exit())));
                let command = commands::Command::new(0, None, receiver, later);
                if let Some(id) = id {
                    self.commands.enter(id, &command);
                    self.commands.ended(id);
                }
                command
            }
        };
        Ok(command.read())
    }

    fn start(&self, start: &ExecStart, words: &Words) -> Result<Process, Refused> {
        let wanted = if start.user.is_empty() { "root" } else { &start.user };
        let passwd = self.read("etc/passwd");
        let user = User::find(&passwd, wanted).or_else(|| (wanted == "root").then(|| User::find("", "0")).flatten());
        let mut user = user.ok_or_else(|| Refused::new(SpawnFailure::User, format!("the guest has no user `{wanted}`")))?;
        if !user.is_listed && (!self.makes_homes || self.make_home(&user).is_err()) {
            // A root that cannot be written to: it has what a container would give it.
            user.home = "/".to_owned();
        }
        // The agent is root without groups already, so the usual command saves three system calls.
        let identity = (!start.user.is_empty() && start.user != "root").then(|| user.identity(&self.read("etc/group")));

        let group = if start.contained { Some(self.group(start.id)?) } else { None };
        let ends = match start.terminal {
            Some(size) => {
                let owner = identity.as_ref().map(|identity| identity.uid);
                Ends::Terminal(Terminal::open(size, owner).map_err(Refused::terminal)?)
            }
            None => {
                let pipes = Pipes::make().and_then(|pipes| if start.stdin { pipes.with_stdin() } else { Ok(pipes) });
                Ends::Pipes(pipes.map_err(Refused::pipe)?)
            }
        };
        let (stdin, stdout, stderr) = match &ends {
            Ends::Terminal(terminal) => (Some(terminal.slave()), terminal.slave(), terminal.slave()),
            Ends::Pipes(pipes) => pipes.theirs(),
        };
        let command = Command {
            candidates: &words.candidates(&user),
            arguments: &words.arguments(&user),
            environment: &words.environment(&user),
            root: self.root.as_deref(),
            directory: words.directory.as_deref().unwrap_or(&self.directory),
            identity: identity.as_ref(),
            stdin: stdin.unwrap_or(self.null.as_fd()),
            stdout,
            stderr,
            terminal: match &ends {
                Ends::Terminal(_) => Controlling::Stdin,
                Ends::Pipes(_) => Controlling::Nothing,
            },
            group: group.as_ref().map(Group::joined_by),
        };
        let spawned = self.reaper.spawn(&command);
        let (leader, ended) = spawned.map_err(|error| Refused::spawn(&error, &command, &words.program(&user), wanted))?;
        let (terminal, streams) = match ends {
            Ends::Terminal(terminal) => (Some(Arc::clone(&terminal)), Streams::Terminal(terminal)),
            Ends::Pipes(pipes) => {
                let (stdin, stdout, stderr) = pipes.into_ours();
                (None, Streams::Pipes { stdin, stdout, stderr })
            }
        };
        Ok(Process { target: Target::new(leader, terminal, group), ended, streams })
    }

    /// Makes the home of a user that has no entry, unless something is there.
    fn make_home(&self, user: &User) -> io::Result<()> {
        let path = self.path(user.home.trim_start_matches('/'));
        match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path) {
            Ok(()) => std::os::unix::fs::lchown(&path, Some(user.uid), Some(user.gid)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns the path of a file of the commands' root.
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.root.as_ref().map_or("/", |root| root.to_str().unwrap_or("/"))).join(name)
    }

    fn group(&self, id: u64) -> Result<Group, Refused> {
        let groups = self.groups.as_ref().ok_or_else(|| Refused::group(&"the agent is not running in a machine"))?;
        Group::make(groups, id).map_err(|error| Refused::group(&error))
    }

    /// Reads a file of the commands' root; one that is missing, unreadable or no regular file is empty. Commands may have put anything
    /// there, and a FIFO would stop the whole agent.
    pub(crate) fn read(&self, name: &str) -> String {
        /// Far above any real user database.
        const MAX_BYTES: u64 = 4 << 20;
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = std::os::unix::fs::OpenOptionsExt::custom_flags(std::fs::OpenOptions::new().read(true), nonblocking)
            .open(self.path(name))
            .and_then(|file| Ok((file.metadata()?.is_file(), file)));
        let mut bytes = Vec::new();
        if let Ok((true, file)) = file {
            // What was read before an error is as good as nothing to a parser of whole lines.
            let _ = std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES), &mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A command's streams, both ends of each.
#[derive(Debug)]
enum Ends {
    Terminal(Arc<Terminal>),
    Pipes(Pipes),
}
