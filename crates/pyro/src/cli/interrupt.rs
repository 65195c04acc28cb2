//! What a signal does to a command: it ends in order, and says what has become of what it was at.
//!
//! An operation whose future is dropped leaves nothing half done that the next look does not put right, so that is what happens; then Pyro
//! looks itself. Where files of the user's are involved, the operation is asked to end instead, and the answer is waited for: only it knows
//! whether it had come too far. A second signal, unless it comes right after the first, ends the process at once, and leaves the rest to the
//! next command.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::signal::unix::{self, SignalKind};

use super::{
    arguments::{Command, DiskCommand, EnvCommand, FileCommand, PatchCommand, SnapshotCommand, SyncCommand, WorkspaceCommand},
    context::{Context, Failure, Outcome},
    later::Later,
};

/// How long looking for what was left may take before the process ends all the same.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// After this time whoever waits is told for what, and a further signal ends the process. Not earlier: `timeout` and some terminals send one
/// to the process and one more to its group.
const PATIENCE: Duration = Duration::from_secs(1);
/// What every signal that asks a program to end leaves room for.
const FIRST_SIGNAL_CODE: u8 = 128;

/// Commands that listen to signals themselves at the moment.
static LISTENING: AtomicUsize = AtomicUsize::new(0);

/// While this lives, signals are for the command that has it.
#[derive(Debug)]
pub(crate) struct OwnSignals(());

/// Says that the caller listens to signals itself from now on.
pub(crate) fn own_signals() -> OwnSignals {
    LISTENING.fetch_add(1, Ordering::SeqCst);
    OwnSignals(())
}

impl Drop for OwnSignals {
    fn drop(&mut self) {
        LISTENING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What becomes of a command that is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// Whether its own answer says what has become of it.
    in_order: bool,
    /// What has become of it otherwise.
    outcome: &'static str,
}

impl Manner {
    pub(super) fn of(command: &Command) -> Self {
        use WorkspaceCommand as Of;
        let Command::Workspace(Later(of)) = command else {
            let continued = matches!(command, Command::Env(Later(EnvCommand::Pull(_))) | Command::Prepare(_));
            return Self { in_order: matches!(command, Command::Run(_)), outcome: if continued { "run it again to continue" } else { "" } };
        };
        let in_order = matches!(
            of,
            Of::Create(_)
                | Of::Start(_)
                | Of::Reset(_)
                | Of::Fork(_)
                | Of::Apply(_)
                | Of::Export(_)
                | Of::Sync(Later(SyncCommand::Push(_)))
                | Of::Disk(Later(DiskCommand::Export(_)))
        );
        let changes_files =
            matches!(of, Of::File(Later(FileCommand::Write(_) | FileCommand::Replace(_))) | Of::Patch(Later(PatchCommand::Apply(_))));
        let outcome = if matches!(of, Of::Stop(_)) {
            "the workspace may still be stopping"
        } else if matches!(of, Of::Delete(_)) {
            "the deletion is completed if it had begun"
        } else if matches!(of, Of::Snapshot(Later(SnapshotCommand::Create(_)))) {
            "the snapshot may still be created; check with `pyro workspace snapshot list`"
        } else if changes_files {
            "the change was made completely or not at all; check with `pyro workspace diff`"
        } else {
            ""
        };
        Self { in_order, outcome }
    }
}

/// How a command has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Finished(Outcome),
    /// By a signal.
    Interrupted {
        /// As a shell reports it.
        exit_code: u8,
        /// What has become of what it was at, in a sentence.
        text: String,
    },
}

/// Runs a command until it ends or a signal ends it.
pub(super) async fn watch(command: impl Future<Output = Outcome>, context: &Context, manner: Manner) -> Ended {
    let Ok(mut signals) = Kernels::listen() else { return Ended::Finished(command.await) };
    let mut command = Box::pin(command);
    let exit_code = loop {
        tokio::select! {
            outcome = &mut command => return Ended::Finished(outcome),
            exit_code = signals.next() => if LISTENING.load(Ordering::SeqCst) == 0 { break exit_code },
        }
    };
    // On a thread of its own: it must work while the event loop is held up, too.
    drop(std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        restore_defaults();
    }));
    context.call_off();
    if manner.in_order {
        let mut late = pin!(tokio::time::sleep(PATIENCE));
        let outcome = tokio::select! {
            outcome = &mut command => outcome,
            () = &mut late => {
                context.printer.notice("interrupted: ending in order; interrupt again to leave the rest to the next Pyro command");
                command.await
            }
        };
        return match outcome {
            Err(Failure::Pyro(error)) if error.is_interrupted() => Ended::Interrupted { exit_code, text: error.to_string() },
            Ok(code) => {
                context.printer.notice("interrupted too late: the command was completed");
                Ended::Finished(Ok(code))
            }
            Err(failure) => Ended::Finished(Err(failure)),
        };
    }
    drop(command);
    // A failure to look is the next command's to tell.
    drop(tokio::time::timeout(LOOK_DEADLINE, context.look_for_leftovers()).await);
    let text = match manner.outcome {
        "" => "interrupted".to_owned(),
        outcome => format!("interrupted: {outcome}"),
    };
    Ended::Interrupted { exit_code, text }
}

/// The signals that ask a program to end, for a command that ends in its own way.
#[derive(Debug)]
pub(crate) struct EndSignals {
    kernels: Kernels,
    _own: OwnSignals,
}

impl EndSignals {
    /// Takes them over until this is dropped.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { kernels: Kernels::listen()?, _own: own_signals() })
    }

    /// Waits for the next one; returns the exit code that stands for it. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> u8 {
        self.kernels.next().await
    }
}

/// The same, whoever else listens. One that whoever started us has ignored, as `nohup` does, stays so.
#[derive(Debug)]
struct Kernels {
    hang_up: Option<unix::Signal>,
    interrupt: Option<unix::Signal>,
    terminate: Option<unix::Signal>,
}

const KINDS: [SignalKind; 3] = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];

impl Kernels {
    fn listen() -> std::io::Result<Self> {
        let listen = |kind: SignalKind| if is_ignored(kind)? { Ok(None) } else { unix::signal(kind).map(Some) };
        let [hang_up, interrupt, terminate] = KINDS.map(listen);
        Ok(Self { hang_up: hang_up?, interrupt: interrupt?, terminate: terminate? })
    }

    /// Waits for the next one; returns the exit code that stands for it.
    async fn next(&mut self) -> u8 {
        async fn of(signal: &mut Option<unix::Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        let kind = tokio::select! {
            () = of(&mut self.hang_up) => SignalKind::hangup(),
            () = of(&mut self.interrupt) => SignalKind::interrupt(),
            () = of(&mut self.terminate) => SignalKind::terminate(),
        };
        FIRST_SIGNAL_CODE.saturating_add(u8::try_from(kind.as_raw_value()).unwrap_or(0))
    }
}

/// Makes a further signal end the process, whatever it is at.
fn restore_defaults() {
    for kind in KINDS.into_iter().filter(|kind| is_ignored(*kind).is_ok_and(|ignored| !ignored)) {
        // The worst that can come of it is that only SIGKILL helps.
        drop(pyro_sys::signal::restore_default(kind.as_raw_value()));
    }
}

fn is_ignored(kind: SignalKind) -> std::io::Result<bool> {
    pyro_sys::signal::is_ignored(kind.as_raw_value())
}
