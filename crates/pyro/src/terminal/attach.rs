//! A terminal at a shell: bytes in both directions until a person detaches or the shell ends.
//!
//! Nothing waits for anything else. What the shell shows goes out on a thread of its own, so a terminal that takes nothing holds neither keys
//! nor signals; what is typed waits in a queue, so a shell that reads nothing does not keep the detach keys from being seen.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pyro_sdk::{CommandExit, ShellEvent, ShellKeyboard, ShellSession, TerminalSize};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{
    alternate::ScreenWatch,
    detach::DetachKeys,
    input::TerminalInput,
    raw::{Asked, Flow, RawTerminal, Signals, shell_size, size},
};
use crate::render::{LiveOutput, Stream};

/// How much may be typed, or pasted, ahead of a shell that reads nothing. More is dropped with a bell, as a terminal's own queue does when it
/// is full: `IMAXBEL` in termios(3).
const TYPED_AHEAD_BYTES: usize = 1 << 20;
/// Largest piece given to the thread that writes.
const PIECE_BYTES: usize = 64 << 10;
/// How long what was shown may take to reach the terminal once the end is known.
const SHOW_DEADLINE: Duration = Duration::from_secs(1);
/// How long what was typed may take to reach the shell after a detach.
const TYPE_DEADLINE: Duration = Duration::from_millis(500);

/// Why a terminal is no longer at a shell.
#[derive(Debug)]
pub(crate) enum End {
    /// The keys for it were typed.
    Detached,
    /// The shell ended.
    Ended(CommandExit),
    /// A signal asks us to end with this exit code.
    Signalled(u8),
    /// There is no terminal any more.
    Gone,
    /// The machine went away.
    Lost(pyro_sdk::Error),
}

/// How an attachment ended, and whether the terminal can be written to.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) end: End,
    pub(crate) flow: Flow,
}

/// Shows a shell in the terminal, which is in raw mode, until one of them has had enough. Dropping the future detaches.
pub(crate) async fn attach(
    session: &mut ShellSession,
    terminal: &mut RawTerminal,
    input: &TerminalInput,
    signals: &mut Signals,
) -> io::Result<Attached> {
    let output = LiveOutput::start();
    let typing = Typing::start(session.keyboard());
    // The size may have changed since the session was asked for.
    typing.push(Input::Resize(shell_size()));
    let mut keys = DetachKeys::default();
    let mut screen = ScreenWatch::default();
    let mut shown = Bytes::from(first_picture(std::mem::take(&mut session.initial)));
    let end = loop {
        let piece = shown.slice(..shown.len().min(PIECE_BYTES));
        tokio::select! {
            // Dropped before it is done it has handed nothing over.
            written = output.write(Stream::Stdout, piece.clone()), if !piece.is_empty() => {
                if !written {
                    break End::Gone;
                }
                terminal.will_show(screen.take(&piece));
                shown = shown.slice(piece.len()..);
            }
            event = session.next(), if shown.is_empty() => match event {
                Ok(Some(ShellEvent::Output(bytes))) => shown = bytes,
                Ok(Some(ShellEvent::Ended(exit))) => break End::Ended(exit),
                Ok(None) => break End::Detached,
                Err(error) => break End::Lost(error),
            },
            typed = input.next() => {
                let typed = typed?;
                if typed.is_empty() {
                    break End::Gone;
                }
                let typed = keys.take(&typed);
                if !typing.push(Input::Keys(typed.bytes.into())) && shown.is_empty() {
                    shown = Bytes::from_static(b"\x07");
                }
                if typed.detach {
                    break End::Detached;
                }
            }
            asked = signals.next() => match asked {
                Asked::End(code) => break End::Signalled(code),
                Asked::Resize => drop(typing.push(Input::Resize(shell_size()))),
            },
            () = output.closed() => break End::Gone,
        }
    };
    typing.finish().await;
    // The thread that is stuck is left behind; it ends with the process.
    let flow = match timeout(SHOW_DEADLINE, tokio::task::spawn_blocking(move || output.finish())).await {
        Ok(_) => Flow::Free,
        Err(_) => Flow::Stuck,
    };
    Ok(Attached { end, flow })
}

/// Moves what the terminal shows out of the way, so that it can be scrolled back to: the shell's picture begins by erasing.
fn first_picture(initial: Vec<u8>) -> Vec<u8> {
    let (_, rows) = size();
    let mut picture = format!("\x1b[{rows};1H{}", "\n".repeat(rows.into())).into_bytes();
    picture.extend(initial);
    picture
}

/// What is sent to a shell.
#[derive(Debug)]
enum Input {
    Keys(Bytes),
    Resize(TerminalSize),
}

/// A task that types, in order.
#[derive(Debug)]
struct Typing {
    sender: mpsc::UnboundedSender<Input>,
    waiting: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Typing {
    fn start(keyboard: ShellKeyboard) -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let typed = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            while let Some(input) = receiver.recv().await {
                match input {
                    Input::Keys(bytes) => {
                        let count = bytes.len();
                        keyboard.write(bytes).await;
                        typed.fetch_sub(count, Ordering::Relaxed);
                    }
                    Input::Resize(size) => keyboard.resize(size).await,
                }
            }
        });
        Self { sender, waiting, task }
    }

    /// Takes input, or drops it when too much waits: `false`.
    fn push(&self, input: Input) -> bool {
        if let Input::Keys(bytes) = &input {
            if self.waiting.load(Ordering::Relaxed) + bytes.len() > TYPED_AHEAD_BYTES {
                return false;
            }
            self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        }
        // A shell that has ended takes nothing; its end is on the way.
        drop(self.sender.send(input));
        true
    }

    /// Waits until all is typed, for as long as a person would.
    async fn finish(self) {
        let Self { sender, mut task, .. } = self;
        drop(sender);
        if timeout(TYPE_DEADLINE, &mut task).await.is_err() {
            task.abort();
        }
    }
}
