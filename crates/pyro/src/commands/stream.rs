//! A running command at a terminal: its output live or collected, our standard input and our signals forwarded.

use std::{io::Read as _, time::Duration};

use bytes::Bytes;
use pyro_sdk::{
    Collected, CommandExit, CommandInput, ErrorKind, ExecEvent, Execution,
    contract::{CommandAnswer, CommandState},
    limits::MaxOutputBytes,
    text::Signal,
};
use serde_json::Value;
use tokio::{
    signal::unix::{self, SignalKind},
    sync::mpsc,
    time::Instant,
};

use crate::{
    cli::{Failure, Outcome, OwnSignals, own_signals},
    render::{LiveOutput, Printer, Stream},
};

/// How much of our standard input is read at once.
const INPUT_BYTES: usize = 64 << 10;
/// How long a command whose output nobody reads may take to notice. One that ignores the signal goes on in the journal.
const PIPE_GRACE: Duration = Duration::from_secs(2);
/// As a shell reports a program ended by SIGINT and SIGPIPE.
const INTERRUPTED: u8 = 130;
const PIPE_CLOSED: u8 = 141;
/// The command still runs: what was asked for took longer than it was given.
const STILL_RUNNING: u8 = ErrorKind::DeadlineExceeded.exit_code();

/// Why following a command has ended.
#[derive(Debug)]
pub(super) enum End {
    /// The command has ended.
    Exited(CommandExit),
    /// The yield time is over; the command goes on.
    Yielded,
    /// The command was only to be started.
    Detached,
    /// A second interrupt: the user wants to be let go.
    Interrupted,
    /// Nobody reads our output any more.
    PipeClosed,
}

/// How a command is followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Follow {
    pub(super) stdin: bool,
    pub(super) yield_after: Option<Duration>,
    pub(super) max_output_bytes: MaxOutputBytes,
}

/// Where output goes.
enum Sink {
    Live(LiveOutput),
    Collected(Collected),
}

impl Sink {
    async fn take(&mut self, event: ExecEvent) -> bool {
        match self {
            Self::Collected(collected) => {
                collected.push(&event);
                true
            }
            Self::Live(live) => match event {
                ExecEvent::Stdout(bytes) => live.write(Stream::Stdout, bytes).await,
                ExecEvent::Stderr(bytes) => live.write(Stream::Stderr, bytes).await,
                ExecEvent::Exited(_) => true,
            },
        }
    }

    async fn closed(&self) {
        match self {
            Self::Live(live) => live.closed().await,
            Self::Collected(_) => std::future::pending().await,
        }
    }
}

/// Signals that are the command's rather than ours.
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
    _own: OwnSignals,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| unix::signal(kind).map_err(Failure::Output);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            _own: own_signals(),
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

/// Follows a command to its end, or to where we stop following it. The answer's output is empty when it went out live.
pub(super) async fn follow(execution: &mut Execution, printer: &Printer, follow: Follow) -> Result<(End, CommandAnswer), Failure> {
    let mut signals = Signals::listen()?;
    let mut sink =
        if printer.is_json() { Sink::Collected(Collected::new(follow.max_output_bytes)) } else { Sink::Live(LiveOutput::start()) };
    let input = execution.input();
    if follow.stdin {
        tokio::spawn(forward_stdin(input.clone()));
    }
    let deadline = follow.yield_after.map(|duration| Instant::now() + duration);
    let mut interrupts = 0;
    let end = loop {
        tokio::select! {
            event = execution.next() => match event {
                Ok(Some(ExecEvent::Exited(exit))) => break Ok(End::Exited(exit)),
                Ok(Some(event)) => if !sink.take(event).await { break Ok(End::PipeClosed) },
                Ok(None) => break Ok(End::Interrupted),
                Err(error) => break Err(error),
            },
            signal = signals.next() => {
                interrupts += u32::from(signal == Signal::INT);
                if interrupts > 1 {
                    break Ok(End::Interrupted);
                }
                // Not awaited here: a command that reads no input must not keep its output from being shown.
                let input = input.clone();
                tokio::spawn(async move { input.signal(signal).await });
            },
            () = until(deadline) => break Ok(End::Yielded),
            () = sink.closed() => break Ok(End::PipeClosed),
        }
    };
    if matches!(end, Ok(End::PipeClosed)) {
        // As if it had written to the closed pipe itself. Leaving at once would take the signal along before it is on its way.
        input.signal(Signal::PIPE).await;
        drop(tokio::time::timeout(PIPE_GRACE, drain(execution)).await);
    }
    let collected = match sink {
        Sink::Collected(collected) => collected,
        Sink::Live(live) => {
            // What came before a failure is shown before the failure is.
            live.finish()?;
            Collected::new(follow.max_output_bytes)
        }
    };
    let end = end?;
    let exit = if let End::Exited(exit) = &end { Some(exit.clone()) } else { None };
    Ok((end, execution.answer(collected, exit)))
}

/// Reads on until the command has ended.
async fn drain(execution: &mut Execution) {
    while let Ok(Some(event)) = execution.next().await {
        if matches!(event, ExecEvent::Exited(_)) {
            return;
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Sends our standard input to the command. Reading blocks, so it has a thread of its own, which the end of the process takes along.
async fn forward_stdin(input: CommandInput) {
    let (sender, mut pieces) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; INPUT_BYTES];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A terminal that went away has no more input.
                Err(_) => return,
            }
        }
    });
    while let Some(piece) = pieces.recv().await {
        input.write(piece).await;
    }
    input.close().await;
}

/// Shows what is true and leaves out what is not.
pub(super) fn flag(value: bool) -> Value {
    if value { true.into() } else { Value::Null }
}

/// Prints the answer and the status line, and returns the exit code.
pub(super) fn conclude(printer: &Printer, name: &str, end: &End, answer: &CommandAnswer) -> Outcome {
    if printer.is_json() {
        printer.answer(answer, |_| String::new())?;
    }
    let number = |value: Option<f64>| value.map_or(Value::Null, |value| format!("{value:.0}").into());
    printer.status(
        name,
        &[
            ("workspace_id", answer.workspace_id.clone().into()),
            ("sequence", answer.sequence.into()),
            ("state", if answer.state == CommandState::Running { "running".into() } else { Value::Null }),
            ("execution_mode", if answer.workspace_id.is_none() { answer.execution_mode.as_str().into() } else { Value::Null }),
            ("exit_code", answer.exit_code.into()),
            ("duration_ms", number(answer.duration_ms)),
            ("timed_out", flag(answer.timed_out)),
            ("interrupted", flag(matches!(end, End::Interrupted))),
            ("truncated", flag(answer.truncated)),
            ("kept_bytes", answer.kept_bytes.filter(|_| answer.truncated).into()),
            ("total_bytes", if answer.truncated { (answer.stdout_bytes + answer.stderr_bytes).into() } else { Value::Null }),
            ("failure", answer.failure.clone().into()),
        ],
    );
    Ok(match end {
        End::Exited(exit) => u8::try_from(exit.exit_code).unwrap_or(u8::MAX),
        End::Detached => 0,
        End::Yielded => STILL_RUNNING,
        End::Interrupted => INTERRUPTED,
        End::PipeClosed => PIPE_CLOSED,
    })
}
