//! The guard: a process that gives the terminal back when the one that took it over cannot.
//!
//! It is this program again, by a hidden word, with a socket as standard input and the terminal as standard output (to write to) and
//! standard error (whose line discipline it keeps). It reads the line discipline, says that it is ready, and waits. It is told which screen is
//! shown, and when the terminal was given back and there is nothing to do; the end of the socket means that the other side is gone, however it
//! went.
//!
//! It has a session of its own, so neither the terminal's signals nor the end of a process group reach it, and the kernel does not stop it
//! for setting a terminal that is not its own (`SIGTTOU`, see `tty_check_change` in the kernel). It ends by itself in every case: the socket
//! ends, and what it then does has a deadline.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::termios::{OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    signal::unix::{SignalKind, signal},
};

use super::{alternate::Shown, reset::reset};

/// The hidden word.
const WORD: &str = "__terminal-guard";
/// How long a terminal may take the bytes that reset it. One that is stopped takes none, and nobody looks at it.
const RESET_DEADLINE: Duration = Duration::from_secs(2);
/// How long a guard may take to start: it is a process of a few milliseconds, on a host that may be busy.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// How long its end is waited for, so that no command leaves a process behind. It has nothing to do then.
const END_DEADLINE: Duration = Duration::from_millis(500);

/// What a guard is told.
const DISMISSED: u8 = b'q';
const ALTERNATE: u8 = b'a';
const MAIN: u8 = b'm';

/// The handle on a guard. Dropping it without a word makes the guard act.
#[derive(Debug)]
pub(super) struct Guard {
    control: UnixStream,
    process: Child,
}

impl Guard {
    /// Starts a guard and waits until it knows the line discipline.
    pub(super) fn start(binary: &Path) -> io::Result<Self> {
        let (mut control, theirs) = UnixStream::pair()?;
        let process = Command::new(binary)
            .arg(WORD)
            .env_clear()
            // So that it keeps no file system from being unmounted.
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(io::stdout().as_fd().try_clone_to_owned()?)
            .stderr(io::stdin().as_fd().try_clone_to_owned()?)
            .spawn()?;
        control.set_read_timeout(Some(START_DEADLINE))?;
        control.read_exact(&mut [0])?;
        Ok(Self { control, process })
    }

    /// Tells which screen is shown.
    pub(super) fn tell(&mut self, shown: Shown) {
        let word = match shown {
            Shown::Main => MAIN,
            Shown::Alternate => ALTERNATE,
        };
        // A guard that was killed helps nobody, and hurts nobody.
        drop(self.control.write_all(&[word]));
    }

    /// Tells the guard that all is well, and sees it end.
    pub(super) fn dismiss(mut self) {
        let dismissed = self.control.write_all(&[DISMISSED]).and_then(|()| self.control.set_read_timeout(Some(END_DEADLINE)));
        if dismissed.is_ok() {
            // Its end of the socket closes when it ends; one that was stopped by somebody is left alone.
            drop(self.control.read(&mut [0]));
        }
        drop(self.process.try_wait());
    }
}

/// Is the guard.
pub(crate) fn run() -> ExitCode {
    match keep_watch() {
        Ok(()) => ExitCode::SUCCESS,
        // There is nobody to tell: standard error is the terminal that is somebody else's by now.
        Err(_) => ExitCode::FAILURE,
    }
}

fn keep_watch() -> io::Result<()> {
    rustix::process::setsid()?;
    let terminal = io::stderr();
    let cooked = tcgetattr(&terminal)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let left = runtime.block_on(async {
        // A handler that does nothing: what ends the other process must not end this one before.
        let _handled = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit()].map(signal);
        let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        control.set_nonblocking(true)?;
        let mut control = tokio::net::UnixStream::from_std(control)?;
        control.write_all(b"r").await?;
        Ok::<_, io::Error>(left_behind(&mut control).await)
    })?;
    if let Some(shown) = left {
        give_back(&cooked, shown);
    }
    Ok(())
}

/// Waits, and returns the screen that is shown when nobody is left to give the terminal back.
async fn left_behind(control: &mut tokio::net::UnixStream) -> Option<Shown> {
    let mut shown = Shown::Main;
    let mut word = [0];
    // An error is an end, too.
    while let Ok(1) = control.read(&mut word).await {
        match word[0] {
            DISMISSED => return None,
            ALTERNATE => shown = Shown::Alternate,
            _ => shown = Shown::Main,
        }
    }
    Some(shown)
}

fn give_back(cooked: &Termios, shown: Shown) {
    let terminal = io::stderr();
    // A shell that noticed first has put its own modes back, and may already edit its next line.
    if tcgetattr(&terminal).is_ok_and(|now| is_raw_of(&now, cooked)) {
        // What was typed into a workspace must not be run by the shell of the host.
        let _ = tcflush(&terminal, QueueSelector::IFlush);
        let _ = tcsetattr(&terminal, OptionalActions::Now, cooked);
    }
    let (sender, written) = mpsc::channel();
    std::thread::spawn(move || {
        let mut stdout = io::stdout().lock();
        drop(stdout.write_all(reset(shown).as_bytes()).and_then(|()| stdout.write_all(b"\r\n")).and_then(|()| stdout.flush()));
        let _ = sender.send(());
    });
    // The thread that is stuck ends with the process.
    let _ = written.recv_timeout(RESET_DEADLINE);
}

/// Tells whether `now` is what [`super::RawTerminal`] made of `cooked`.
fn is_raw_of(now: &Termios, cooked: &Termios) -> bool {
    let mut raw = cooked.clone();
    raw.make_raw();
    now.input_modes == raw.input_modes
        && now.output_modes == raw.output_modes
        && now.control_modes == raw.control_modes
        && now.local_modes == raw.local_modes
}
