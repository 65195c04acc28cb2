//! A command's terminal: its output, its input, its size, and what is going on at it.
//!
//! ```text
//! host ──stdin──▶ conduct ──▶ master ═══ slave ◀──▶ the leader and its programs
//! host ◀─queue─── attend ◀────────┘
//!                    └─ looks, after traffic at growing intervals: whose is the foreground, does the leader wait for input
//! ```
//!
//! One task (`attend`) reads the terminal *and* looks at it, so that a state it tells never overtakes output that was written before it.
//! A shell that waits at its prompt is not looked at until something moves: an idle machine is quiet.
//!
//! The agent keeps the slave open as well. Otherwise reading would fail for as long as no process has it open, and every look would have
//! to open it anew. A terminal is hung up when its last owner, `attend` or `conduct`, is done with it; that is after its leader has ended.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyro_proto::limits;
use pyro_proto::v1::{ExecOutput, TerminalSize, TerminalState, exec_output};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::Uid;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, LocalModes, OptionalActions, Winsize, tcgetattr, tcgetpgrp, tcsetattr, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, watch};

use crate::commands::message;
use crate::paste_mode::PasteMode;
use crate::pipes::FIRST_READ_BYTES;
use crate::prompt;
use crate::timer::sleep_until;

/// When a terminal is looked at first after something has moved, and at most, the pause doubling in between.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Least pause between looks while something moves all the time.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How long after a write nobody is taken to be at a prompt: a work queue of the kernel carries it to where the slave's reader finds it.
const SETTLE: Duration = Duration::from_millis(20);
/// When a write is tried again although nothing has told that there is room: the kernel wakes writers before its work queue has made
/// some, and such a wake-up is lost.
const WRITE_RETRY: Duration = Duration::from_millis(250);
/// More than a terminal holds: 8 KiB on their way and a line discipline of 4 KiB.
const HELD_MAX_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Terminal {
    master: AsyncFd<OwnedFd>,
    slave: OwnedFd,
    /// Number of the slave's device.
    device: u64,
    input: Mutex<Input>,
    /// What the output so far has asked for.
    paste_mode: Mutex<PasteMode>,
    /// Told when input, a signal or a new size has gone to the terminal.
    moved: Notify,
}

/// Bytes of stdin.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Input {
    /// Taken from the host to be written.
    accepted: u64,
    written: u64,
    /// Lost. They count as written once everything before them is.
    dropped: u64,
    dropped_counted: u64,
    last_written: Option<Instant>,
}

impl Input {
    fn is_written(&self) -> bool {
        self.accepted == self.written
    }

    fn settle(&mut self) {
        if self.is_written() {
            self.dropped_counted = self.dropped;
        }
    }
}

impl Terminal {
    /// Makes a terminal of that size, owned by `user` if not by the agent's.
    #[expect(deprecated, reason = "its replacement is unsafe; a descriptor owned by the registration stays open while registered")]
    pub(crate) fn open(size: TerminalSize, user: Option<Uid>) -> io::Result<Arc<Self>> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let mut modes = tcgetattr(&slave)?;
        // Erasing must take a whole character (termios(3)).
        modes.input_modes |= InputModes::IUTF8;
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
        tcsetwinsize(&slave, window(size))?;
        if let Some(user) = user {
            // Its group stays that of terminals. Programs open it by its name, too.
            rustix::fs::fchown(&slave, Some(user), None)?;
        }
        rustix::io::ioctl_fionbio(&master, true)?;
        let device = rustix::fs::fstat(&slave)?.st_rdev;
        let master = AsyncFd::new(master)?;
        Ok(Arc::new(Self { master, slave, device, input: Mutex::default(), paste_mode: Mutex::default(), moved: Notify::new() }))
    }

    /// Returns the end a command gets for its streams.
    pub(crate) fn slave(&self) -> BorrowedFd<'_> {
        self.slave.as_fd()
    }

    /// Notes bytes that are to be written.
    pub(crate) fn accepted(&self, count: usize) {
        self.input().accepted += count as u64;
        self.moved.notify_one();
    }

    /// Notes bytes that are lost.
    pub(crate) fn dropped(&self, count: usize) {
        let mut input = self.input();
        input.dropped += count as u64;
        input.settle();
    }

    /// Notes that everything accepted and not written is lost.
    pub(crate) fn dropped_all(&self) {
        let mut input = self.input();
        input.dropped += input.accepted - input.written;
        input.accepted = input.written;
        input.settle();
    }

    /// Writes some of `piece`; returns how much. Nothing is written when the future is dropped.
    pub(crate) async fn write(&self, piece: &[u8]) -> io::Result<usize> {
        let ready = tokio::time::timeout(WRITE_RETRY, self.master.writable()).await;
        match rustix::io::write(&self.master, piece) {
            Ok(count) => {
                let mut input = self.input();
                input.written += count as u64;
                input.last_written = Some(Instant::now());
                input.settle();
                self.moved.notify_one();
                Ok(count)
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                if let Ok(Ok(mut ready)) = ready {
                    ready.clear_ready();
                }
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the terminal another size, the nearest of those accepted; the kernel tells the foreground.
    pub(crate) fn resize(&self, size: TerminalSize) {
        let nearest = |count: u32, accepted: RangeInclusive<u32>| count.clamp(*accepted.start(), *accepted.end());
        let columns = nearest(size.columns, limits::TERMINAL_COLUMNS);
        let rows = nearest(size.rows, limits::TERMINAL_ROWS);
        // Fails only for what is no terminal.
        let _ = tcsetwinsize(&self.master, window(TerminalSize { columns, rows }));
        self.moved.notify_one();
    }

    /// Returns the process group the terminal's input and signals go to.
    pub(crate) fn foreground(&self) -> Option<Pid> {
        tcgetpgrp(&self.master).ok()
    }

    /// Notes that the host has done something that may change what is going on.
    pub(crate) fn touch(&self) {
        self.moved.notify_one();
    }

    fn look(&self, leader: Pid) -> Look {
        let input = *self.input();
        let foreground = self.foreground();
        let settles = input.last_written.map(|at| at + SETTLE).filter(|&at| at > Instant::now());
        let prompt = foreground == Some(leader)
            && input.is_written()
            && settles.is_none()
            && self.is_read()
            && prompt::awaits_input(leader, self.device);
        let program = foreground.is_some_and(|group| group != leader);
        let bracketed_paste = self.paste_mode().is_on();
        // Fails only for what is no terminal.
        let canonical = tcgetattr(&self.slave).is_ok_and(|modes| modes.local_modes.contains(LocalModes::ICANON));
        let input_bytes = input.written + input.dropped_counted;
        Look { state: TerminalState { program, prompt, input_bytes, bracketed_paste, canonical }, settles }
    }

    /// Whether everything written has been read. Half a line that waits for its end counts as read, as nobody can.
    fn is_read(&self) -> bool {
        // Polling makes the kernel's work queue deliver first (`n_tty_poll` of `drivers/tty/n_tty.c`), counting alone does not.
        let mut slave = [PollFd::new(&self.slave, PollFlags::IN)];
        let readable = rustix::event::poll(&mut slave, Some(&Timespec::default()));
        readable == Ok(0) && rustix::io::ioctl_fionread(&self.slave) == Ok(0)
    }

    /// Reads what is there, at most `limit` bytes; None when nothing is at the moment.
    fn read(&self, limit: usize) -> Option<Vec<u8>> {
        let mut buffer = Vec::with_capacity(limit.min(FIRST_READ_BYTES));
        // A terminal hands out at most its line discipline's 4 KiB; one message for what many reads bring costs less than one each.
        while buffer.len() < limit {
            if buffer.len() == buffer.capacity() {
                buffer.reserve(limit - buffer.len());
            }
            match rustix::io::read(&self.master, rustix::buffer::spare_capacity(&mut buffer)) {
                Ok(count) if count > 0 => {}
                Err(Errno::INTR) => {}
                // AGAIN: nothing is there. EIO: hung up by a program, until another opens it.
                Ok(_) | Err(_) => break,
            }
        }
        self.paste_mode().show(&buffer);
        (!buffer.is_empty()).then_some(buffer)
    }

    fn paste_mode(&self) -> MutexGuard<'_, PasteMode> {
        // A sequence cut in the middle is the worst that whoever panicked while holding it has left.
        self.paste_mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn input(&self) -> MutexGuard<'_, Input> {
        // Plain numbers: whoever panicked while holding them left them whole.
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what comes out of a terminal and what is going on at it, until its leader has ended and what it held then was told.
pub(crate) async fn attend(terminal: Arc<Terminal>, leader: Pid, outputs: mpsc::Sender<ExecOutput>, mut end: watch::Receiver<bool>) {
    // The leader has only just been started: this needs no look, and nothing may come before it.
    let mut told = TerminalState::default();
    if outputs.send(message(exec_output::Output::Terminal(told))).await.is_err() {
        return;
    }
    let mut looks = Looks::new(Instant::now());
    while !*end.borrow() {
        if looks.is_due(Instant::now()) {
            let look = terminal.look(leader);
            if forward(&terminal, HELD_MAX_BYTES, &outputs).await.is_err() {
                return;
            }
            looks.looked(Instant::now(), &look);
            if told != look.state {
                told = look.state;
                if outputs.send(message(exec_output::Output::Terminal(told))).await.is_err() {
                    return;
                }
            }
        }
        let next = looks.next;
        tokio::select! {
            biased;
            _ = end.changed() => {}
            ready = terminal.master.readable() => {
                let Ok(mut ready) = ready else { return };
                match terminal.read(limits::OUTPUT_CHUNK_BYTES) {
                    Some(bytes) => {
                        looks.moved(Instant::now());
                        if outputs.send(message(exec_output::Output::Stdout(bytes.into()))).await.is_err() {
                            return;
                        }
                    }
                    None if ready.ready().is_read_closed() => {
                        // Every slave was hung up, the agent's included, which tokio takes for final.
                        ready.clear_ready();
                        tokio::time::sleep(LOOK_PAUSE).await;
                    }
                    None => ready.clear_ready(),
                }
            }
            () = terminal.moved.notified() => looks.moved(Instant::now()),
            () = sleep_until(next) => {}
        }
    }
    // A background process may write for ever.
    let _ = forward(&terminal, HELD_MAX_BYTES, &outputs).await;
}

/// Sends what is there, at most `limit` bytes.
async fn forward(terminal: &Terminal, limit: usize, outputs: &mpsc::Sender<ExecOutput>) -> Result<(), mpsc::error::SendError<ExecOutput>> {
    match terminal.read(limit) {
        Some(bytes) => outputs.send(message(exec_output::Output::Stdout(bytes.into()))).await,
        None => Ok(()),
    }
}

/// What a look has found.
#[derive(Debug)]
struct Look {
    state: TerminalState,
    /// When what was written last can be taken to have arrived, if that is still to come.
    settles: Option<Instant>,
}

/// When the terminal is looked at.
#[derive(Debug)]
struct Looks {
    /// None while nothing is expected to change by itself.
    next: Option<Instant>,
    pause: Duration,
    last: Option<Instant>,
}

impl Looks {
    fn new(now: Instant) -> Self {
        Self { next: Some(now + LOOK_FIRST), pause: LOOK_FIRST, last: None }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    fn moved(&mut self, now: Instant) {
        self.pause = LOOK_FIRST;
        let soon = self.last.map_or(now + LOOK_FIRST, |last| (last + LOOK_PAUSE).max(now + LOOK_FIRST));
        self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
    }

    fn looked(&mut self, now: Instant, look: &Look) {
        self.last = Some(now);
        self.next = if look.state.prompt { None } else { Some(now + self.pause) };
        if let (Some(settles), Some(next)) = (look.settles, self.next) {
            self.next = Some(next.min(settles));
        }
        self.pause = (self.pause * 2).min(LOOK_MAX);
    }
}

fn window(size: TerminalSize) -> Winsize {
    let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    Winsize { ws_row: cells(size.rows), ws_col: cells(size.columns), ws_xpixel: 0, ws_ypixel: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(prompt: bool) -> Look {
        Look { state: TerminalState { prompt, ..TerminalState::default() }, settles: None }
    }

    #[test]
    fn looks_grow_rarer_and_stop_at_the_prompt_until_something_moves() {
        let began = Instant::now();
        let mut looks = Looks::new(began);
        let mut pauses = Vec::new();
        let mut now = began + LOOK_FIRST;
        for _ in 0..12 {
            assert!(looks.is_due(now));
            looks.looked(now, &look(false));
            let next = looks.next.expect("it is not at the prompt");
            pauses.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 1000]);
        looks.looked(now, &look(true));
        assert_eq!(looks.next, None);
        looks.moved(now);
        assert_eq!(looks.next, Some(now + LOOK_PAUSE));
    }

    #[test]
    fn lost_input_counts_once_everything_before_it_is_written() {
        let mut input = Input { accepted: 10, written: 4, dropped: 7, ..Input::default() };
        input.settle();
        assert_eq!(input.dropped_counted, 0);
        input.written = 10;
        input.settle();
        assert_eq!(input.dropped_counted, 7);
    }
}
