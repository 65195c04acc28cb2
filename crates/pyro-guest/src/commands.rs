//! Commands and the calls that read them. A call may end long before its command: the machine is frozen in the middle of it and a copy
//! wakes up with another host, or the host's end is cut.
//!
//! ```text
//!              start, attach                      exit taken by a call
//! unattended ───────────────▶ attended by a call ─────────────────────▶ ended, its exit kept
//!      ▲────── call dropped ────────┘ ▲── a later attach takes over
//! ```
//!
//! What a command says waits in its bounded queue while nobody reads it; then its pipes fill, and then it sleeps. So nothing is lost of
//! what was not handed to HTTP/2. A command without an id cannot be found again: it is ended with its call (see `exec`).

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::v1::{ExecExit, ExecOutput, ExecStarted, TerminalState, exec_output};
use rustix::process::Pid;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::calls::Inputs;

/// Ended commands whose exit, and last output, are kept.
const ENDED_MAX: usize = 1024;

/// The commands that can be attached to; clones share the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Commands(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    commands: BTreeMap<u64, Arc<Command>>,
    /// Ids of those that have ended, oldest first.
    ended: VecDeque<u64>,
}

/// What a command consists of.
#[derive(Debug, Clone)]
pub(crate) enum Whole {
    /// The processes of the session it leads.
    Session(Pid),
    /// Those of its control group.
    Group(PathBuf),
}

/// What calls share of a command.
#[derive(Debug)]
pub(crate) struct Command {
    pid: u32,
    /// None of one that could not be started.
    whole: Option<Whole>,
    /// Hands a later call's inputs to the command.
    inputs: mpsc::UnboundedSender<Inputs>,
    output: Mutex<Output>,
}

#[derive(Debug)]
struct Output {
    /// None once the exit was taken out of it.
    queue: Option<mpsc::Receiver<ExecOutput>>,
    exit: Option<ExecExit>,
    /// What was going on at its terminal by the latest that was taken out of the queue.
    state: Option<TerminalState>,
    /// Number of the call that reads, counted up by each.
    reader: u64,
    waker: Option<Waker>,
}

impl Command {
    pub(crate) fn new(
        pid: u32,
        whole: Option<Whole>,
        queue: mpsc::Receiver<ExecOutput>,
        inputs: mpsc::UnboundedSender<Inputs>,
    ) -> Arc<Self> {
        let output = Output { queue: Some(queue), exit: None, state: None, reader: 0, waker: None };
        Arc::new(Self { pid, whole, inputs, output: Mutex::new(output) })
    }

    /// Takes the output over from whoever reads it now.
    pub(crate) fn read(self: Arc<Self>) -> Outputs {
        let mut output = self.output();
        output.reader += 1;
        let reader = output.reader;
        if let Some(waker) = output.waker.take() {
            waker.wake();
        }
        drop(output);
        Outputs { command: self, reader, at: At::Start }
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        // Nothing that can panic happens while it is held.
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Commands {
    /// Enters a command under its id; refused while another one runs under it.
    pub(crate) fn enter(&self, id: u64, command: &Arc<Command>) {
        let mut table = self.lock();
        table.ended.retain(|ended| *ended != id);
        table.commands.insert(id, Arc::clone(command));
    }

    /// Refuses an id that a running command has.
    pub(crate) fn check(&self, id: u64) -> Result<(), Failure> {
        let table = self.lock();
        if table.commands.contains_key(&id) && !table.ended.contains(&id) {
            return Err(Failure::message(ErrorKind::AlreadyExists, format!("a command `{id}` is running")));
        }
        Ok(())
    }

    /// Notes the end of a command; the oldest one past the limit is forgotten.
    pub(crate) fn ended(&self, id: u64) {
        let mut table = self.lock();
        if !table.commands.contains_key(&id) {
            return;
        }
        table.ended.push_back(id);
        if table.ended.len() > ENDED_MAX
            && let Some(oldest) = table.ended.pop_front()
        {
            table.commands.remove(&oldest);
        }
    }

    /// Goes on with a command: returns its output from now on; `inputs` are its inputs from now on.
    pub(crate) fn attach(&self, id: u64, inputs: Inputs) -> Result<Outputs, Failure> {
        let command = self.lock().commands.get(&id).cloned();
        let command = command.ok_or_else(|| unknown(id))?;
        // Refused by one that has ended and wants none.
        let _ = command.inputs.send(inputs);
        Ok(command.read())
    }

    /// Returns what runs for a command; None when it has ended.
    pub(crate) fn whole(&self, id: u64) -> Result<Option<Whole>, Failure> {
        let table = self.lock();
        let command = table.commands.get(&id).ok_or_else(|| unknown(id))?;
        Ok(command.whole.clone().filter(|_| !table.ended.contains(&id)))
    }

    /// Ids of the commands whose exit no call has taken yet.
    pub(crate) fn unfinished(&self) -> Vec<u64> {
        let commands: Vec<_> = self.lock().commands.iter().map(|(&id, command)| (id, Arc::clone(command))).collect();
        commands.into_iter().filter(|(_, command)| command.output().exit.is_none()).map(|(id, _)| id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the client of a call receives: `started`, at a terminal its state, output, `exit`. Dropping it leaves the rest for another call.
#[derive(Debug)]
pub(crate) struct Outputs {
    command: Arc<Command>,
    reader: u64,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    /// `started` was told; next is what an earlier call knew of the terminal.
    State,
    Middle,
    End,
}

impl Stream for Outputs {
    type Item = Result<ExecOutput, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.at {
            At::Start => {
                this.at = At::State;
                let started = ExecStarted { sequence: 0, pid: this.command.pid };
                return Poll::Ready(Some(Ok(message(exec_output::Output::Started(started)))));
            }
            At::State | At::Middle => {}
            At::End => return Poll::Ready(None),
        }
        let mut output = this.command.output();
        if output.reader != this.reader {
            this.at = At::End;
            let failure = Failure::message(ErrorKind::WrongState, "another call has taken the command over");
            return Poll::Ready(Some(Err(failure.into_status())));
        }
        if output.queue.is_none() {
            this.at = At::End;
            return Poll::Ready(output.exit.clone().map(|exit| Ok(message(exec_output::Output::Exit(exit)))));
        }
        if this.at == At::State {
            this.at = At::Middle;
            if let Some(state) = output.state {
                return Poll::Ready(Some(Ok(message(exec_output::Output::Terminal(state)))));
            }
        }
        let Some(queue) = output.queue.as_mut() else { return Poll::Ready(None) };
        match queue.poll_recv(context) {
            Poll::Pending => {
                output.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Poll::Ready(next) => {
                if let Some(ExecOutput { output: Some(exec_output::Output::Terminal(state)) }) = &next {
                    output.state = Some(*state);
                }
                if let None | Some(ExecOutput { output: Some(exec_output::Output::Exit(_)) }) = &next {
                    this.at = At::End;
                    output.queue = None;
                    output.exit = match &next {
                        Some(ExecOutput { output: Some(exec_output::Output::Exit(exit)) }) => Some(exit.clone()),
                        Some(_) | None => Some(ExecExit { exit_code: 255, ..ExecExit::default() }),
                    };
                }
                Poll::Ready(next.map(Ok))
            }
        }
    }
}

fn unknown(id: u64) -> Failure {
    Failure::message(ErrorKind::NotFound, format!("the machine has no command `{id}`"))
}

pub(crate) fn message(output: exec_output::Output) -> ExecOutput {
    ExecOutput { output: Some(output) }
}
