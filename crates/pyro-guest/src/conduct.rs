//! Conducts one running command: its input, its time limit, its signals, its end.
//!
//! ```text
//!            leader ended                                        nobody left
//! running ───────────────────────────────────────────▶ told ◀──────────────── ending (see `end`)
//!    │ └─ contained, with 0: the rest goes on ──▶ left ──▶ told when the group is empty  ▲
//!    └─ timeout, `end`, abandoned, contained and failed ─────────────────────────────────┘
//! ```
//!
//! After the end, what is in the pipes or the terminal by then is still sent, but nobody waits for a background process that holds them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyro_proto::v1::{ExecExit, ExecOutput, exec_input, exec_output};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::calls::{Calls, Next};
use crate::commands::message;
use crate::end::{Cause, Ending, GRACE, Leader, Rest, Target};
use crate::pipes::pump;
use crate::reap::Ended;
use crate::stdin::{Overflow, Sink, Stdin};
use crate::terminal::{Terminal, attend};
use crate::timer::sleep_until;

/// A started command.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) target: Target,
    pub(crate) ended: oneshot::Receiver<Ended>,
    pub(crate) streams: Streams,
}

/// The agent's ends of a command's streams.
#[derive(Debug)]
pub(crate) enum Streams {
    Pipes { stdin: Option<Sender>, stdout: Receiver, stderr: Receiver },
    Terminal(Arc<Terminal>),
}

pub(crate) async fn conduct(
    process: Process,
    mut calls: Calls,
    outputs: mpsc::Sender<ExecOutput>,
    began: Instant,
    timeout: Option<Instant>,
) {
    let Process { target, mut ended, streams } = process;
    let (announce_end, end) = watch::channel(false);
    let (pumps, sink) = pump_all(streams, &target, &outputs, &end);
    // Whoever holds a shell or a service must be able to end it whatever it does with its input.
    let overflow = if target.terminal().is_some() || target.group().is_some() { Overflow::Drop } else { Overflow::Wait };
    let mut stdin = Stdin::new(sink, overflow);

    let mut timeout = timeout;
    let mut leader_end = None;
    let mut ending: Option<Ending> = None;
    let mut is_abandoned = false;
    loop {
        let leader = if leader_end.is_some() { Leader::Gone } else { Leader::Alive };
        let next_step = ending.as_ref().map(|ending| ending.next);
        tokio::select! {
            biased;
            end = &mut ended, if leader == Leader::Alive => {
                let has_failed = !end.as_ref().is_ok_and(has_succeeded);
                leader_end = Some(end);
                match (&mut ending, target.group()) {
                    (Some(ending), _) => if ending.step(&target, Leader::Gone) == Rest::None { break },
                    (None, None) => break,
                    (None, Some(_)) => if has_failed { begin(&mut ending, Cause::Failed, Duration::ZERO) },
                }
            }
            () = sleep_until(timeout), if timeout.is_some() => {
                timeout = None;
                begin(&mut ending, Cause::TimedOut, GRACE);
            }
            () = outputs.closed(), if !is_abandoned => {
                is_abandoned = true;
                begin(&mut ending, Cause::Abandoned, GRACE);
            }
            () = target.emptied(), if leader == Leader::Gone => break,
            () = sleep_until(next_step), if next_step.is_some() => {
                if let Some(ending) = &mut ending && ending.step(&target, leader) == Rest::None && leader == Leader::Gone {
                    break;
                }
            }
            () = stdin.work(), if stdin.has_work() => {}
            next = calls.next(), if stdin.has_room() => match next {
                Next::Input(exec_input::Input::Stdin(bytes)) => stdin.push(bytes),
                Next::Input(exec_input::Input::StdinClosed(_)) | Next::Closed => stdin.close(),
                Next::Input(exec_input::Input::Signal(number)) => target.signal(number, leader),
                Next::Input(exec_input::Input::Resize(size)) => if let Some(terminal) = target.terminal() { terminal.resize(size) },
                Next::Input(exec_input::Input::End(end)) => begin(&mut ending, Cause::Asked, Duration::from_millis(end.grace_ms)),
                // A second start has no meaning; the command goes on.
                Next::Input(exec_input::Input::Start(_) | exec_input::Input::Attach(_)) => {}
                // What is to come may come from the next call. Without one, the outputs are closed as well.
                Next::Cut => {}
            },
        }
    }
    drop(stdin);
    let exit = match leader_end {
        Some(Ok(ended)) => describe(&ended, target.group().map(|_| Instant::now()), began, ending.map(|ending| ending.cause)),
        // Only when the runtime is being torn down.
        Some(Err(oneshot::error::RecvError { .. })) | None => ExecExit { exit_code: 255, ..ExecExit::default() },
    };
    // The group goes before the id is free for another command's.
    drop(target);
    if let Some((id, commands)) = &calls.table {
        commands.ended(*id);
    }
    let _ = announce_end.send(true);
    for pump in pumps {
        // A pump ends when its stream is drained or the client is gone; it cannot panic.
        let _ = pump.await;
    }
    let _ = outputs.send(message(exec_output::Output::Exit(exit))).await;
}

/// Starts the tasks that send what comes out of the streams; returns them and where input goes.
fn pump_all(
    streams: Streams,
    target: &Target,
    outputs: &mpsc::Sender<ExecOutput>,
    end: &watch::Receiver<bool>,
) -> (Vec<JoinHandle<()>>, Sink) {
    match streams {
        Streams::Pipes { stdin, stdout, stderr } => {
            let stdout = tokio::spawn(pump(stdout, exec_output::Output::Stdout, outputs.clone(), end.clone()));
            let stderr = tokio::spawn(pump(stderr, exec_output::Output::Stderr, outputs.clone(), end.clone()));
            (vec![stdout, stderr], stdin.map_or(Sink::Nowhere, Sink::Pipe))
        }
        Streams::Terminal(terminal) => {
            let attending = tokio::spawn(attend(Arc::clone(&terminal), target.leader(), outputs.clone(), end.clone()));
            (vec![attending], Sink::Terminal(terminal))
        }
    }
}

/// Begins to end the command, or shortens the grace of an end under way.
fn begin(ending: &mut Option<Ending>, cause: Cause, grace: Duration) {
    match ending {
        Some(ending) => ending.shorten(grace),
        None => *ending = Some(Ending::new(cause, grace)),
    }
}

fn has_succeeded(ended: &Ended) -> bool {
    ended.status.exit_status() == Some(0)
}

/// Tells how a command has ended: as its leader did, at the time its leader did or, of a contained one, everybody had.
fn describe(ended: &Ended, all_ended: Option<Instant>, began: Instant, cause: Option<Cause>) -> ExecExit {
    let signal = ended.status.terminating_signal().unwrap_or(0);
    let status = ended.status.exit_status().unwrap_or(128 + signal);
    let timed_out = cause == Some(Cause::TimedOut);
    ExecExit {
        exit_code: if timed_out { 124 } else { status },
        signal,
        timed_out,
        duration_us: u64::try_from(all_ended.unwrap_or(ended.at).duration_since(began).as_micros()).unwrap_or(u64::MAX),
        ..ExecExit::default()
    }
}
