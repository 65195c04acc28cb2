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
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::v1::{ExecExit, ExecOutput, ExecStarted, exec_output};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::exec::Inputs;

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

/// What calls share of a command.
#[derive(Debug)]
pub(crate) struct Command {
    pid: u32,
    /// Hands a later call's inputs to the command.
    inputs: mpsc::UnboundedSender<Inputs>,
    output: Mutex<Output>,
}

#[derive(Debug)]
struct Output {
    /// None once the exit was taken out of it.
    queue: Option<mpsc::Receiver<ExecOutput>>,
    exit: Option<ExecExit>,
    /// Number of the call that reads, counted up by each.
    reader: u64,
    waker: Option<Waker>,
}

impl Command {
    pub(crate) fn new(pid: u32, queue: mpsc::Receiver<ExecOutput>, inputs: mpsc::UnboundedSender<Inputs>) -> Arc<Self> {
        let output = Output { queue: Some(queue), exit: None, reader: 0, waker: None };
        Arc::new(Self { pid, inputs, output: Mutex::new(output) })
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
        let command = command.ok_or_else(|| Failure::message(ErrorKind::NotFound, format!("the machine has no command `{id}`")))?;
        // Refused by one that has ended and wants none.
        let _ = command.inputs.send(inputs);
        Ok(command.read())
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

/// What the client of a call receives: `started`, output, `exit`. Dropping it leaves the rest for another call.
#[derive(Debug)]
pub(crate) struct Outputs {
    command: Arc<Command>,
    reader: u64,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Middle,
    End,
}

impl Stream for Outputs {
    type Item = Result<ExecOutput, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.at {
            At::Start => {
                this.at = At::Middle;
                let started = ExecStarted { sequence: 0, pid: this.command.pid };
                return Poll::Ready(Some(Ok(message(exec_output::Output::Started(started)))));
            }
            At::Middle => {}
            At::End => return Poll::Ready(None),
        }
        let mut output = this.command.output();
        if output.reader != this.reader {
            this.at = At::End;
            let failure = Failure::message(ErrorKind::WrongState, "another call has taken the command over");
            return Poll::Ready(Some(Err(failure.into_status())));
        }
        let Some(queue) = output.queue.as_mut() else {
            this.at = At::End;
            return Poll::Ready(output.exit.clone().map(|exit| Ok(message(exec_output::Output::Exit(exit)))));
        };
        match queue.poll_recv(context) {
            Poll::Pending => {
                output.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Poll::Ready(next) => {
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

pub(crate) fn message(output: exec_output::Output) -> ExecOutput {
    ExecOutput { output: Some(output) }
}
