//! A terminal in raw mode: every key is a byte, and none is a signal.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pyro_sdk::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{self, SignalKind, signal};

use super::{alternate::Shown, guard::Guard, reset::reset};
use crate::cli::{OwnSignals, own_signals};

/// What a terminal that tells no size has, a serial line for one.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Tells whether a person's terminal is on standard input and standard output.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Returns columns and rows of the terminal.
pub(crate) fn size() -> (u16, u16) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        Ok(_) | Err(_) => USUAL_SIZE,
    }
}

/// Returns the size a shell gets that is shown in the terminal.
pub(super) fn shell_size() -> TerminalSize {
    let (columns, rows) = size();
    TerminalSize::nearest(columns, rows)
}

/// Whether the terminal takes what is written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Free,
    /// A write to it waits: it must not be written to on this thread.
    Stuck,
}

/// The terminal in raw mode, with a guard. Dropping it gives the terminal back.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    /// Taken when the terminal is given back.
    taken: Option<(Termios, Guard)>,
    /// Whether the alternate screen is shown; a panic looks at it, too.
    alternate: Arc<AtomicBool>,
}

impl RawTerminal {
    /// Takes the terminal over. `binary` is this program.
    pub(crate) fn enter(binary: &Path) -> io::Result<Self> {
        // Before raw mode: from the first moment on there is somebody to put it back.
        let guard = Guard::start(binary)?;
        let cooked = tcgetattr(io::stdin())?;
        let mut raw = cooked.clone();
        raw.make_raw();
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &raw) {
            guard.dismiss();
            return Err(error.into());
        }
        let alternate = Arc::new(AtomicBool::new(false));
        tell_panics_on_a_cooked_terminal(cooked.clone(), Arc::clone(&alternate));
        Ok(Self { taken: Some((cooked, guard)), alternate })
    }

    /// Notes which screen is about to be shown, for whoever gives the terminal back.
    pub(super) fn will_show(&mut self, shown: Shown) {
        let alternate = shown == Shown::Alternate;
        if self.alternate.swap(alternate, Ordering::Relaxed) != alternate
            && let Some((_, guard)) = &mut self.taken
        {
            guard.tell(shown);
        }
    }

    /// Notes that a full screen is about to be shown.
    pub(crate) fn will_show_full_screen(&mut self) {
        self.will_show(Shown::Alternate);
    }

    /// Leaves whatever a program has made of the screen. A terminal that is gone is noticed by whoever writes next.
    pub(crate) fn leave_full_screen(&mut self) {
        drop(write_reset(&self.alternate));
        self.will_show(Shown::Main);
    }

    /// Leaves a shell's picture: what follows begins on a line of its own, with nothing below.
    pub(crate) fn leave_shell(&mut self) {
        self.leave_full_screen();
        let mut stdout = io::stdout().lock();
        drop(stdout.write_all(b"\r\n\x1b[J").and_then(|()| stdout.flush()));
    }

    /// Gives the terminal back.
    pub(crate) fn restore(mut self, flow: Flow) {
        self.put_back(flow);
    }

    fn put_back(&mut self, flow: Flow) {
        let Some((cooked, guard)) = self.taken.take() else { return };
        drop(std::panic::take_hook());
        // Does not wait for output: `Now` asks for no draining.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &cooked);
        match flow {
            Flow::Free => {
                drop(write_reset(&self.alternate));
                guard.dismiss();
            }
            // Without a word the guard writes, which may take as long as it takes.
            Flow::Stuck => drop(guard),
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.put_back(Flow::Free);
    }
}

/// Writes what puts the terminal's own modes back.
fn write_reset(alternate: &AtomicBool) -> io::Result<()> {
    let shown = if alternate.load(Ordering::Relaxed) { Shown::Alternate } else { Shown::Main };
    let mut stdout = io::stdout().lock();
    stdout.write_all(reset(shown).as_bytes())?;
    stdout.flush()
}

/// Makes the message of a panic readable: it comes before the process aborts, and would be lost with the alternate screen.
fn tell_panics_on_a_cooked_terminal(cooked: Termios, alternate: Arc<AtomicBool>) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &cooked);
        drop(write_reset(&alternate));
        tell(panic);
    }));
}

/// Signals that end whoever has taken a terminal over. Once listened to they no longer end the process by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    hang_up: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    terminate: unix::Signal,
    window_change: unix::Signal,
    _own: OwnSignals,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To end, with this exit code.
    End(u8),
    /// To look at the terminal's size.
    Resize,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            window_change: signal(SignalKind::window_change())?,
            _own: own_signals(),
        })
    }

    /// Waits for the next one. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Asked {
        let end = |signal: SignalKind| Asked::End(128 + u8::try_from(signal.as_raw_value()).unwrap_or(0));
        tokio::select! {
            _ = self.hang_up.recv() => end(SignalKind::hangup()),
            _ = self.interrupt.recv() => end(SignalKind::interrupt()),
            _ = self.quit.recv() => end(SignalKind::quit()),
            _ = self.terminate.recv() => end(SignalKind::terminate()),
            _ = self.window_change.recv() => Asked::Resize,
        }
    }
}
