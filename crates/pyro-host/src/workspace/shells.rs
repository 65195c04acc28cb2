//! Shells: from a client to a terminal in the guest, and from there to a ring on disk that clients read.
//!
//! One task per shell, its pump, owns what comes from the guest: it writes the ring and tells how far it has come. Nobody's reading slows
//! a shell down: who reads late finds the newest part. A shell lives until its process ends; a client that goes away changes nothing.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use pyro_proto::{
    error::{ErrorKind, Failure},
    limits::{TERMINAL_COLUMNS, TERMINAL_ROWS},
    process::ProcessId,
    v1::{
        EndProcess, ExecAttach, ExecExit, ExecInput, ExecOutput, ExecStart, QuietReason, ShellAttachInput, ShellAttachOutput,
        ShellAttachStart, ShellOpenRequest, ShellWaitAnswer, ShellWaitRequest, TerminalSize, TerminalState, exec_input::Input,
        exec_output::Output, shell_attach_input, shell_attach_output,
    },
};
use pyro_store::{RingReader, RingWriter, SHELL_RING_BYTES, ShellRecord, WorkspaceId, shell_ring, shell_ring_name};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::{Supervisor, exec::sanitise, now_ms, shell_write::open_line};
use crate::{
    error::{HostError, HostResult},
    lock,
};

/// Most shells that run in a workspace at a time: each takes a call of the channel and a ring on disk.
const SHELLS_MAX: usize = 32;
/// Pieces of input on their way to a guest.
const INPUT_QUEUE: usize = 8;
/// How long input may wait for a place in that queue. The agent takes it as fast as it arrives.
const INPUT_DEADLINE: Duration = Duration::from_secs(20);
/// What a shell that is closed has between the hang-up and KILL.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// How long the guest may take to say that it is gone: the grace, KILL, and the report of a busy one.
const CLOSE_DEADLINE: Duration = Duration::from_secs(15);
/// How long a shell that was just opened may take to its first prompt. Until then its quiet means nothing: it reads its start-up files. One
/// whose prompt cannot be told is believed after that.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Exit code of a shell whose end nobody has seen.
const LOST: i32 = 255;
/// How much of the ring one message to an attached terminal carries.
const ATTACH_PIECE_BYTES: u64 = 64 << 10;

/// A shell that runs.
#[derive(Debug)]
pub(super) struct Shell {
    input: mpsc::Sender<ExecInput>,
    ring: Mutex<RingWriter>,
    pub(super) progress: watch::Sender<Progress>,
    /// Bytes of input that were sent to the guest, by the guest's count.
    sent: AtomicU64,
    /// Bytes of input since the last end of a line.
    line_bytes: AtomicUsize,
}

/// How far a shell has come.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    /// Where its output ends in the ring.
    end: u64,
    pub(super) last_output: Instant,
    pub(super) last_input: Instant,
    pub(super) terminal: TerminalState,
    pub(super) ended: Option<ExecExit>,
    /// Until when its quiet means nothing; `None` once it was seen at a prompt or with a program.
    pub(super) starts_until: Option<Instant>,
}

impl Shell {
    fn new(input: mpsc::Sender<ExecInput>, ring: RingWriter, starts_until: Option<Instant>) -> Self {
        let now = Instant::now();
        let progress =
            Progress { end: ring.end(), last_output: now, last_input: now, terminal: TerminalState::default(), ended: None, starts_until };
        Self {
            input,
            ring: Mutex::new(ring),
            progress: watch::Sender::new(progress),
            sent: AtomicU64::new(0),
            line_bytes: AtomicUsize::new(0),
        }
    }

    async fn send(&self, input: Input) -> HostResult<()> {
        let send = self.input.send(ExecInput { input: Some(input) });
        match tokio::time::timeout(INPUT_DEADLINE, send).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(HostError::WrongState { problem: "the shell has ended".into() }),
            Err(_) => Err(HostError::AgentTimeout { seconds: INPUT_DEADLINE.as_secs(), doing: "writing to a shell" }),
        }
    }

    pub(super) async fn write(&self, bytes: Bytes) -> HostResult<()> {
        self.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        self.line_bytes.store(open_line(self.line_bytes(), &bytes), Ordering::SeqCst);
        self.progress.send_modify(|progress| progress.last_input = Instant::now());
        self.send(Input::Stdin(bytes)).await
    }

    pub(super) fn line_bytes(&self) -> usize {
        self.line_bytes.load(Ordering::SeqCst)
    }

    /// Returns where its output ends.
    pub(super) fn end(&self) -> u64 {
        self.progress.borrow().end
    }

    /// Keeps output and tells how far it has come.
    fn show(&self, bytes: &[u8]) {
        let end = {
            let mut ring = lock(&self.ring);
            // What cannot be kept is counted, so that positions stay true.
            drop(ring.write(bytes));
            ring.end()
        };
        self.progress.send_modify(|progress| {
            progress.end = end;
            progress.last_output = Instant::now();
        });
    }

    /// Tells whether the shell waits for input, having seen all that was sent to it.
    fn is_at_prompt(&self, progress: &Progress) -> bool {
        progress.terminal.prompt && self.has_taken_all(progress)
    }

    /// Tells whether the terminal had taken all that was sent when it was looked at.
    pub(super) fn has_taken_all(&self, progress: &Progress) -> bool {
        progress.terminal.input_bytes >= self.sent.load(Ordering::SeqCst)
    }
}

impl Supervisor {
    /// Opens a shell and returns its number once its process runs.
    pub(super) async fn open_shell(self: &Arc<Self>, request: ShellOpenRequest) -> HostResult<u64> {
        self.not_paused()?;
        let workspace = self.adopted()?.clone();
        let size = checked(request.size)?;
        if lock(&self.shells).len() >= SHELLS_MAX {
            return Err(HostError::TooMany { what: "open shells", maximum: SHELLS_MAX });
        }
        let secret_variables = self.secret_variables(&request.secret_env)?;
        let cwd = if request.cwd.is_empty() { "/workspace".into() } else { String::from_utf8_lossy(&request.cwd) };
        let record = ShellRecord {
            number: 0,
            command: self.redact(&request.command).into_owned(),
            cwd: self.redact(&cwd).into_owned(),
            user: self.redact(&request.user).into_owned(),
            columns: columns(size),
            rows: rows(size),
            opened_at_ms: now_ms(),
            ended_at_ms: None,
            exit_code: None,
            end_reason: None,
        };
        let number = lock(&self.registry).open_shell(&workspace, &record)?;
        let started = async {
            let ring = self.ring(&workspace, number)?;
            ring.note_size(record.columns, record.rows)?;
            let start = ExecStart {
                argv: if request.command.is_empty() { Vec::new() } else { vec![request.command.into()] },
                cwd: request.cwd,
                env: request.env.into_iter().chain(secret_variables).collect(),
                user: request.user,
                stdin: true,
                id: ProcessId::Shell(number).number(),
                terminal: Some(size),
                login: true,
                no_history_expansion: request.no_history_expansion,
                ..ExecStart::default()
            };
            // A line that is run instead of the shell comes to no prompt.
            let starts_until = start.argv.is_empty().then(|| Instant::now() + START_PATIENCE);
            self.start_shell(number, Input::Start(self.equip(start)), ring, starts_until).await
        };
        match started.await {
            Ok(()) => Ok(number),
            Err(error) => {
                let reason = error.to_string();
                self.forget_shell(&workspace, number, None, Some(&reason));
                Err(HostError::PassedOn { source: self.redact_failure(error.to_failure()) })
            }
        }
    }

    /// Goes on with a shell of a machine that was frozen.
    pub(super) async fn take_over_shell(self: &Arc<Self>, workspace: &WorkspaceId, number: u64) -> HostResult<()> {
        let ring = self.ring(workspace, number)?;
        let attach = ExecAttach { id: ProcessId::Shell(number).number() };
        self.start_shell(number, Input::Attach(attach), ring, None).await
    }

    fn ring(&self, workspace: &WorkspaceId, number: u64) -> HostResult<RingWriter> {
        Ok(RingWriter::open(&shell_ring(&self.arguments.dirs, workspace, number), SHELL_RING_BYTES)?)
    }

    async fn start_shell(self: &Arc<Self>, number: u64, first: Input, ring: RingWriter, starts_until: Option<Instant>) -> HostResult<()> {
        let (input, guest_input) = mpsc::channel(INPUT_QUEUE);
        // The queue is empty, so this cannot wait.
        drop(input.try_send(ExecInput { input: Some(first) }));
        let mut output = self.agent()?.exec(guest_input, None).await?;
        super::process::started(&mut output).await?;
        let shell = Arc::new(Shell::new(input, ring, starts_until));
        lock(&self.shells).insert(number, shell.clone());
        tokio::spawn(self.clone().pump_shell(number, shell, output));
        self.activity.notify_waiters();
        Ok(())
    }

    async fn pump_shell(self: Arc<Self>, number: u64, shell: Arc<Shell>, mut output: Streaming<ExecOutput>) {
        let mut first_state = true;
        let mut redacted = self.redacted();
        let exit = loop {
            let message = match output.message().await {
                Ok(message) => message.and_then(|message| message.output),
                Err(status) => break Err(Failure::from_status(&status, ErrorKind::MachineFailed)),
            };
            match message {
                Some(Output::Stdout(bytes) | Output::Stderr(bytes)) => {
                    shell.show(&redacted.push(bytes));
                }
                Some(Output::Terminal(state)) => {
                    if std::mem::take(&mut first_state) {
                        // A shell that goes on in a copy has read before; the count begins where it says.
                        shell.sent.fetch_add(state.input_bytes, Ordering::SeqCst);
                    }
                    self.note_terminal(&shell, state);
                }
                Some(Output::Exit(exit)) => break Ok(self.redact_exit(sanitise(exit, Duration::MAX))),
                Some(Output::Started(_)) => {}
                None => break Err(Failure::message(ErrorKind::MachineFailed, "the machine went away while the shell ran")),
            }
        };
        shell.show(&redacted.finish());
        if exit.is_err() {
            self.is_about_to_end().await;
        }
        if let Ok(workspace) = self.adopted() {
            let (code, reason) = match &exit {
                Ok(exit) => (Some(exit.exit_code), None),
                Err(failure) => (None, Some(failure.message.as_str())),
            };
            self.forget_shell(workspace, number, code, reason);
        }
        // After the registry: whoever has seen the end finds it there.
        let exit = exit.unwrap_or_else(|failure| ExecExit { exit_code: LOST, spawn_message: failure.message, ..ExecExit::default() });
        shell.progress.send_modify(|progress| progress.ended = Some(exit));
        self.activity.notify_waiters();
    }

    fn note_terminal(&self, shell: &Shell, state: TerminalState) {
        let mut program_ended = false;
        shell.progress.send_modify(|progress| {
            program_ended = progress.terminal.program && !state.program;
            progress.terminal = state;
            if state.prompt || state.program {
                progress.starts_until = None;
            }
        });
        if program_ended && self.owns_workspace() {
            // The idle time begins here.
            let touched = self.adopted().map(|workspace| lock(&self.registry).touch_workspace(workspace));
            drop(touched);
        }
        self.activity.notify_waiters();
    }

    /// Enters a shell's end; what cannot be entered is put right with the machine's own end.
    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    fn forget_shell(&self, workspace: &WorkspaceId, number: u64, exit_code: Option<i32>, reason: Option<&str>) {
        lock(&self.shells).remove(&number);
        if self.is_ending() {
            return;
        }
        let reason = reason.map(|reason| self.redact(reason));
        let ended = lock(&self.registry).end_shell(workspace, number, exit_code, reason.as_deref());
        match ended {
            Ok(forgotten) => {
                for number in forgotten {
                    drop(std::fs::remove_dir_all(shell_ring(&self.arguments.dirs, workspace, number)));
                }
            }
            Err(error) => eprintln!("cannot enter the end of shell {number}: {error}"),
        }
    }

    /// Returns a shell that runs.
    pub(super) fn shell(&self, number: u64) -> HostResult<Arc<Shell>> {
        if let Some(shell) = lock(&self.shells).get(&number) {
            return Ok(shell.clone());
        }
        let workspace = self.adopted()?;
        let record = lock(&self.registry).shell(workspace, number)?;
        Err(HostError::WrongState { problem: format!("shell sh{} has ended", record.number) })
    }

    /// Sends a signal to a shell's foreground.
    pub(super) async fn signal_shell(&self, number: u64, signal: i32) -> HostResult<()> {
        self.not_paused()?;
        if !(1..=64).contains(&signal) {
            return Err(HostError::Invalid { problem: format!("{signal} is not a signal number") });
        }
        self.shell(number)?.send(Input::Signal(signal)).await?;
        Ok(lock(&self.registry).touch_workspace(self.adopted()?)?)
    }

    /// Gives a shell's terminal another size.
    pub(super) async fn resize_shell(&self, number: u64, size: Option<TerminalSize>) -> HostResult<()> {
        self.not_paused()?;
        let size = checked(size)?;
        let shell = self.shell(number)?;
        shell.send(Input::Resize(size)).await?;
        lock(&shell.ring).note_size(columns(size), rows(size))?;
        let workspace = self.adopted()?;
        lock(&self.registry).resize_shell(workspace, number, columns(size), rows(size))?;
        Ok(lock(&self.registry).touch_workspace(workspace)?)
    }

    /// Hangs a shell up and waits for its end.
    pub(super) async fn close_shell(&self, number: u64) -> HostResult<()> {
        self.not_paused()?;
        let shell = match self.shell(number) {
            Ok(shell) => shell,
            Err(HostError::WrongState { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut progress = shell.progress.subscribe();
        let grace_ms = u64::try_from(CLOSE_GRACE.as_millis()).unwrap_or(u64::MAX);
        shell.send(Input::End(EndProcess { grace_ms })).await?;
        let ended = progress.wait_for(|progress| progress.ended.is_some());
        match tokio::time::timeout(CLOSE_DEADLINE, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(HostError::AgentTimeout { seconds: CLOSE_DEADLINE.as_secs(), doing: "closing a shell" }),
        }
    }

    /// Waits until a shell is quiet, at its prompt or at its end, or until the time is up.
    pub(super) async fn wait_for_shell(&self, request: &ShellWaitRequest) -> HostResult<ShellWaitAnswer> {
        let shell = self.shell(request.number)?;
        let mut changes = shell.progress.subscribe();
        let began = Instant::now();
        let idle = Duration::from_millis(request.idle_ms);
        let deadline = began + Duration::from_millis(request.timeout_ms);
        loop {
            let progress = changes.borrow_and_update().clone();
            let quiet_at = progress.last_output.max(began) + idle;
            // A glance waits for nothing.
            let starts_until = progress.starts_until.filter(|_| request.idle_ms > 0);
            let quiet_at = starts_until.map_or(quiet_at, |until| quiet_at.max(until));
            let now = Instant::now();
            let reason = if progress.ended.is_some() {
                Some(QuietReason::Ended)
            } else if shell.is_at_prompt(&progress) {
                Some(QuietReason::Prompt)
            } else if now >= quiet_at {
                Some(QuietReason::Idle)
            } else if now >= deadline {
                Some(QuietReason::Timeout)
            } else {
                None
            };
            if let Some(reason) = reason {
                return Ok(ShellWaitAnswer {
                    reason: reason.into(),
                    end_cursor: progress.end,
                    program: progress.terminal.program,
                    prompt: shell.is_at_prompt(&progress),
                });
            }
            // Its sender lives as long as `shell`.
            drop(tokio::time::timeout_at(quiet_at.min(deadline).into(), changes.changed()).await);
        }
    }

    /// Connects a person's terminal to a shell. The receiver gets output until the shell's end.
    pub(super) async fn attach_shell(
        self: &Arc<Self>,
        start: ShellAttachStart,
        inputs: Streaming<ShellAttachInput>,
    ) -> HostResult<mpsc::Receiver<Result<ShellAttachOutput, Status>>> {
        let shell = self.shell(start.number)?;
        if start.size.is_some() {
            self.resize_shell(start.number, start.size).await?;
        }
        let (sender, receiver) = mpsc::channel(4);
        let forwarding = tokio::spawn(self.clone().forward_terminal(start.number, shell.clone(), inputs));
        let ring = RingReader::new(shell_ring(&self.arguments.dirs, self.adopted()?, start.number));
        tokio::spawn(async move {
            show(&shell, &ring, start.cursor, &sender).await;
            forwarding.abort();
        });
        Ok(receiver)
    }

    async fn forward_terminal(self: Arc<Self>, number: u64, shell: Arc<Shell>, mut inputs: Streaming<ShellAttachInput>) {
        while let Ok(Some(ShellAttachInput { input })) = inputs.message().await {
            let sent = match input {
                Some(shell_attach_input::Input::Data(bytes)) => {
                    let touched = self.adopted().map(|workspace| lock(&self.registry).touch_workspace(workspace));
                    drop(touched);
                    shell.write(bytes).await
                }
                Some(shell_attach_input::Input::Resize(size)) => self.resize_shell(number, Some(size)).await,
                Some(shell_attach_input::Input::Start(_)) | None => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// Returns the numbers of shells in whose foreground a program runs.
    pub(super) fn busy_shells(&self) -> Vec<u64> {
        let shells = lock(&self.shells);
        shells.iter().filter(|(_, shell)| shell.progress.borrow().terminal.program).map(|(number, _)| *number).collect()
    }

    /// Returns how far the output of every shell has come, by the name of its ring.
    pub(super) fn shell_cursors(&self) -> Vec<(String, u64)> {
        let shells = lock(&self.shells);
        shells.iter().map(|(number, shell)| (shell_ring_name(*number), shell.progress.borrow().end)).collect()
    }
}

/// Sends what comes into the ring to a terminal, until the shell ends or the terminal goes. One that is slow misses what left the ring.
async fn show(shell: &Shell, ring: &RingReader, cursor: u64, sender: &mpsc::Sender<Result<ShellAttachOutput, Status>>) {
    let send = async |output| sender.send(Ok(ShellAttachOutput { output: Some(output) })).await.is_ok();
    let mut changes = shell.progress.subscribe();
    let mut at = cursor.min(changes.borrow().end);
    loop {
        let progress = changes.borrow_and_update().clone();
        while at < progress.end {
            let bytes = ring.read(at, ATTACH_PIECE_BYTES.min(progress.end - at)).unwrap_or_default();
            if bytes.is_empty() {
                // Not kept, or not any more.
                at = ring.range().map_or(progress.end, |(start, _)| start.max(at + 1)).min(progress.end);
                continue;
            }
            at += bytes.len() as u64;
            if !send(shell_attach_output::Output::Data(bytes.into())).await {
                return;
            }
        }
        if let Some(exit) = progress.ended {
            send(shell_attach_output::Output::Exit(exit)).await;
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

fn checked(size: Option<TerminalSize>) -> HostResult<TerminalSize> {
    match size {
        Some(size) if TERMINAL_COLUMNS.contains(&size.columns) && TERMINAL_ROWS.contains(&size.rows) => Ok(size),
        Some(_) | None => Err(HostError::Invalid {
            problem: format!(
                "a terminal has {} to {} columns and {} to {} rows",
                TERMINAL_COLUMNS.start(),
                TERMINAL_COLUMNS.end(),
                TERMINAL_ROWS.start(),
                TERMINAL_ROWS.end()
            ),
        }),
    }
}

fn columns(size: TerminalSize) -> u16 {
    u16::try_from(size.columns).unwrap_or(u16::MAX)
}

fn rows(size: TerminalSize) -> u16 {
    u16::try_from(size.rows).unwrap_or(u16::MAX)
}
