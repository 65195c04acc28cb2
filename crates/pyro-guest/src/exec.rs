//! Runs one command: its streams, its time limit, its end.
//!
//! ```text
//! inputs ──▶ conduct ──stdin──▶ process ──▶ pump stdout ─┐
//!               │ timeout, signals, exit     pump stderr ─┴─▶ queue (bounded) ──▶ the call that reads it (`commands`)
//! ```
//!
//! Three tasks per command: `conduct` owns the process and its stdin, and each pump owns one pipe. The queue to the call is bounded, so
//! a client that does not read stops the pumps, then the pipe, then the command, and nothing else.
//!
//! **A command with an id outlives its call.** Dropped by the client or cut with the channel, the call leaves the command running; it
//! sleeps once its output has filled the queue, until another call attaches. Its stdin stays open unless the client has closed it. Its
//! time limit goes on. Ending it takes a signal. **A command without one ends with its call**: TERM for the process group and, after the
//! grace, KILL.
//!
//! After the process has ended, what is in the pipes by then is still sent, but nobody waits for a background process that holds them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pyro_proto::error::Failure;
use pyro_proto::limits;
use pyro_proto::v1::{ExecExit, ExecInput, ExecOutput, ExecStart, SpawnFailure, exec_input, exec_output};
use pyro_sys::spawn::Command;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Streaming;

use crate::commands::{self, Commands, Outputs, message};
use crate::environment::Words;
use crate::passwd::User;
use crate::reap::{Ended, Reaper};
use crate::refused::Refused;
use crate::stdin::StdinQueue;

/// How long a process group may take to end after TERM.
const GRACE: Duration = Duration::from_secs(2);
/// How often the group is looked at meanwhile; the kernel tells nobody when a group becomes empty.
const GRACE_STEP: Duration = Duration::from_millis(20);
/// Chunks between the pumps and the call: one on its way, one ready per pipe, one spare for the exit.
const OUTPUT_QUEUE: usize = 4;
/// The first read of a pipe; most commands say little, and a large buffer costs page faults.
const FIRST_READ_BYTES: usize = 8 << 10;
/// Pipe size of a command that says more.
const PIPE_BYTES: usize = 1 << 20;

/// Where commands run.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    pub(crate) reaper: Reaper,
    pub(crate) commands: Commands,
    null: Arc<OwnedFd>,
    /// Root directory of the commands; None is the agent's own.
    root: Option<CString>,
    directory: CString,
}

impl Executor {
    /// Makes an executor whose commands see the agent's own root.
    pub(crate) fn new(reaper: Reaper, directory: CString) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
        Ok(Self { reaper, commands: Commands::default(), null: Arc::new(null), root: None, directory })
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
        id.map_or(Ok(()), |id| self.commands.check(id))?;
        let (sender, receiver) = mpsc::channel(OUTPUT_QUEUE);
        let (later, later_inputs) = mpsc::unbounded_channel();
        let began = Instant::now();
        let command = match self.start(start, &words) {
            Ok(process) => {
                let pid = process.group.as_raw_nonzero().get().cast_unsigned();
                let command = commands::Command::new(pid, receiver, later);
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
                let command = commands::Command::new(0, receiver, later);
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
        let user = user.ok_or_else(|| Refused::new(SpawnFailure::User, format!("the guest has no user `{wanted}`")))?;
        // The agent is root without groups already, so the usual command saves three system calls.
        let identity = (!start.user.is_empty() && start.user != "root").then(|| user.identity(&self.read("etc/group")));

        let (stdout, their_stdout) = pipe_from_command().map_err(Refused::pipe)?;
        let (stderr, their_stderr) = pipe_from_command().map_err(Refused::pipe)?;
        let (stdin, their_stdin) = if start.stdin {
            pipe_to_command().map(|(ours, theirs)| (Some(ours), Some(theirs))).map_err(Refused::pipe)?
        } else {
            (None, None)
        };
        let command = Command {
            candidates: &words.candidates(),
            arguments: &words.arguments,
            environment: &words.environment(&user),
            root: self.root.as_deref(),
            directory: words.directory.as_deref().unwrap_or(&self.directory),
            identity: identity.as_ref(),
            stdin: their_stdin.as_ref().map_or(self.null.as_fd(), |pipe| pipe.as_fd()),
            stdout: their_stdout.as_fd(),
            stderr: their_stderr.as_fd(),
        };
        let (group, ended) = self.reaper.spawn(&command).map_err(|error| Refused::spawn(&error, &command, wanted))?;
        Ok(Process { group, ended, stdin, stdout, stderr })
    }

    /// Reads a file of the commands' root; one that is missing, unreadable or no regular file is empty. Commands may have put anything
    /// there, and a FIFO would stop the whole agent.
    fn read(&self, name: &str) -> String {
        /// Far above any real user database.
        const MAX_BYTES: u64 = 4 << 20;
        let root = self.root.as_ref().map_or("/", |root| root.to_str().unwrap_or("/"));
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = std::os::unix::fs::OpenOptionsExt::custom_flags(std::fs::OpenOptions::new().read(true), nonblocking)
            .open(PathBuf::from(root).join(name))
            .and_then(|file| Ok((file.metadata()?.is_file(), file)));
        let mut bytes = Vec::new();
        if let Ok((true, file)) = file {
            // What was read before an error is as good as nothing to a parser of whole lines.
            let _ = std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES), &mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Where a running command's inputs come from.
#[derive(Debug)]
pub(crate) enum Inputs {
    /// A call.
    Call(Box<Streaming<ExecInput>>),
    /// Nobody.
    Closed,
}

#[derive(Debug)]
enum Next {
    Input(exec_input::Input),
    /// No more will come, as the client has said.
    Closed,
    /// The call was cut.
    Cut,
}

impl Inputs {
    /// Returns the next input. Safe to drop and call again.
    async fn next(&mut self) -> Next {
        let Self::Call(call) = self else { return Next::Closed };
        loop {
            match call.message().await {
                // An input this generation does not know.
                Ok(Some(ExecInput { input: None })) => {}
                Ok(Some(ExecInput { input: Some(input) })) => return Next::Input(input),
                Ok(None) => return Next::Closed,
                Err(_) => return Next::Cut,
            }
        }
    }
}

/// A command's calls, one after the other.
#[derive(Debug)]
struct Calls {
    /// Of the present call, until they end.
    inputs: Option<Inputs>,
    /// Of those that attach later.
    later: mpsc::UnboundedReceiver<Inputs>,
    /// Where the end is told; None for a command that ends with its first call.
    table: Option<(u64, Commands)>,
}

impl Calls {
    async fn next(&mut self) -> Next {
        loop {
            let present = async {
                match self.inputs.as_mut() {
                    Some(inputs) => inputs.next().await,
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                biased;
                Some(later) = self.later.recv() => {
                    self.inputs = Some(later);
                    continue;
                }
                next = present => next,
            };
            if !matches!(next, Next::Input(_)) {
                self.inputs = None;
            }
            return next;
        }
    }
}

/// A started command.
#[derive(Debug)]
struct Process {
    /// Process id and process group.
    group: Pid,
    ended: oneshot::Receiver<Ended>,
    stdin: Option<Sender>,
    stdout: Receiver,
    stderr: Receiver,
}

/// Why the command is being ended by the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    TimedOut,
    Abandoned,
}

async fn conduct(process: Process, mut calls: Calls, outputs: mpsc::Sender<ExecOutput>, began: Instant, timeout: Option<Instant>) {
    let Process { group, mut ended, mut stdin, stdout, stderr } = process;
    let (announce_end, end) = watch::channel(false);
    let stdout = tokio::spawn(pump(stdout, exec_output::Output::Stdout, outputs.clone(), end.clone()));
    let stderr = tokio::spawn(pump(stderr, exec_output::Output::Stderr, outputs.clone(), end));

    let mut queue = StdinQueue::default();
    let timeout = timeout.map(|at| tokio::time::sleep_until(at.into()));
    let mut timeout = std::pin::pin!(async {
        match timeout {
            Some(timeout) => timeout.await,
            None => std::future::pending().await,
        }
    });
    let (exit, cause) = loop {
        tokio::select! {
            biased;
            exit = &mut ended => break (exit, None),
            () = &mut timeout => break (end_group(group, &mut ended).await, Some(Cause::TimedOut)),
            () = outputs.closed() => break (end_group(group, &mut ended).await, Some(Cause::Abandoned)),
            written = queue.write(stdin.as_ref()), if stdin.is_some() && queue.has_work() => {
                // The command has closed its end (EPIPE), or the end of its input was reached.
                if written.is_err() || queue.is_done() {
                    stdin = None;
                    queue.discard();
                }
            }
            next = calls.next(), if queue.has_room() => match next {
                Next::Input(exec_input::Input::Stdin(bytes)) => if stdin.is_some() { queue.push(bytes) },
                Next::Input(exec_input::Input::StdinClosed(_)) | Next::Closed => queue.close(),
                Next::Input(exec_input::Input::Signal(number)) => signal_group(group, number),
                // A second start has no meaning; the command goes on.
                Next::Input(exec_input::Input::Start(_) | exec_input::Input::Attach(_)) => {}
                // What is to come may come from the next call. Without one, the outputs are closed as well.
                Next::Cut => {}
            },
        }
    };
    drop(stdin);
    if let Some((id, commands)) = &calls.table {
        commands.ended(*id);
    }
    let _ = announce_end.send(true);
    // A pump ends when its pipe is drained or the client is gone; it cannot panic.
    let _ = tokio::join!(stdout, stderr);
    let exit = match exit {
        Ok(ended) => describe(&ended, began, cause),
        // Only when the runtime is being torn down.
        Err(oneshot::error::RecvError { .. }) => ExecExit { exit_code: 255, ..ExecExit::default() },
    };
    let _ = outputs.send(message(exec_output::Output::Exit(exit))).await;
}

/// Ends the whole process group, and returns when none of it is left.
async fn end_group(group: Pid, ended: &mut oneshot::Receiver<Ended>) -> Result<Ended, oneshot::error::RecvError> {
    let _ = kill_process_group(group, Signal::TERM);
    // A stopped process takes TERM only once it goes on.
    let _ = kill_process_group(group, Signal::CONT);
    let deadline = Instant::now() + GRACE;
    // ESRCH once every member was collected, the leader by the reaper. The leader's number stays taken for as long as its group exists.
    while test_kill_process_group(group).is_ok() && Instant::now() < deadline {
        tokio::time::sleep(GRACE_STEP).await;
    }
    let _ = kill_process_group(group, Signal::KILL);
    ended.await
}

fn signal_group(group: Pid, number: i32) {
    // 1 to 64 are the kernel's; anything else would be refused by it.
    if let Some(signal) = Signal::from_named_raw(number) {
        // ESRCH: it has just ended.
        let _ = kill_process_group(group, signal);
    }
}

fn describe(ended: &Ended, began: Instant, cause: Option<Cause>) -> ExecExit {
    let signal = ended.status.terminating_signal().unwrap_or(0);
    let status = ended.status.exit_status().unwrap_or(128 + signal);
    let timed_out = cause == Some(Cause::TimedOut);
    ExecExit {
        exit_code: if timed_out { 124 } else { status },
        signal,
        timed_out,
        duration_us: u64::try_from(ended.at.duration_since(began).as_micros()).unwrap_or(u64::MAX),
        ..ExecExit::default()
    }
}

/// Sends what comes out of a pipe until it closes, or, once the process has ended, until what was in it then has been sent.
async fn pump(pipe: Receiver, kind: fn(Bytes) -> exec_output::Output, outputs: mpsc::Sender<ExecOutput>, mut end: watch::Receiver<bool>) {
    let mut size = FIRST_READ_BYTES;
    // Some once the process has ended: a background process may fill the pipe for ever.
    let mut left = None;
    loop {
        if left == Some(0) {
            return;
        }
        if left.is_none() && *end.borrow() {
            left = rustix::io::ioctl_fionread(&pipe).ok();
            continue;
        }
        let mut buffer = Vec::with_capacity(size);
        let mut read = || Ok(rustix::io::read(&pipe, rustix::buffer::spare_capacity(&mut buffer))?);
        // tokio reads only what epoll has reported. At the end the report may be on its way still: the process can be collected on
        // behalf of another's SIGCHLD.
        match if left.is_some() { read() } else { pipe.try_io(&mut read) } {
            Ok(0) => return,
            Ok(count) => {
                left = left.map(|left| left.saturating_sub(count as u64));
                if count == size && size < limits::OUTPUT_CHUNK_BYTES {
                    size = limits::OUTPUT_CHUNK_BYTES;
                    // Refused past the limit of pipe pages of an ordinary user; a small pipe works too.
                    let _ = fcntl_setpipe_size(&pipe, PIPE_BYTES);
                }
                if outputs.send(message(kind(buffer.into()))).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && left.is_none() => {
                tokio::select! {
                    ready = pipe.readable() => if ready.is_err() { return },
                    _ = end.changed() => {}
                }
            }
            // Drained after the end, or beyond help.
            Err(_) => return,
        }
    }
}

/// Makes a pipe: the agent's end, registered and non-blocking, and the command's, blocking as programs expect.
fn pipe_from_command() -> io::Result<(Receiver, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((Receiver::from_owned_fd_unchecked(ours)?, theirs))
}

/// Makes a pipe in the other direction.
fn pipe_to_command() -> io::Result<(Sender, OwnedFd)> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((Sender::from_owned_fd_unchecked(ours)?, theirs))
}
