//! Commands: from a client through the journal into the guest, and back.
//!
//! Two tasks serve a command. One carries the client's input; one, the pump, owns the guest's output: it writes the journal and passes
//! chunks on to the client while there is one. A client that reads slowly slows its command down, as a pipe would, and nothing else. A
//! client that goes away leaves the command running.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pyro_proto::{
    error::{ErrorKind, Failure},
    limits::{ARGUMENTS_MAX, ARGUMENTS_MAX_BYTES},
    v1::{ExecAttach, ExecExit, ExecInput, ExecOutput, ExecStart, ExecStarted, StdinClosed, exec_input::Input, exec_output::Output},
};
use pyro_store::{CommandEnd, JournalWriter, OutputStream, WorkspaceId};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::{EndReason, Running, Supervisor, now_ms, secrets::RedactedOutput};
use crate::{
    error::{HostError, HostResult},
    lock,
};

/// What the guest has after a command's time is up: TERM, 2 s, KILL, and the report. A guest that needs longer does not obey.
const TIMEOUT_GRACE: Duration = Duration::from_secs(15);
/// How long the client of a one-shot command may take to read the rest of its output.
const ONE_SHOT_PATIENCE: Duration = Duration::from_secs(600);
/// Chunks on their way to one client.
const CLIENT_QUEUE: usize = 8;

type ClientSender = mpsc::Sender<Result<ExecOutput, Status>>;
/// What a client reads of its command.
pub(super) type ClientReceiver = mpsc::Receiver<Result<ExecOutput, Status>>;

struct Pump {
    supervisor: Arc<Supervisor>,
    workspace: WorkspaceId,
    sequence: u64,
    output: Streaming<ExecOutput>,
    /// Both streams without secrets: standard output, standard error.
    redacted: [RedactedOutput; 2],
    journal: JournalWriter,
    journal_failure: Option<String>,
    client: Option<ClientSender>,
    one_shot: bool,
    ended: watch::Sender<Option<ExecExit>>,
    started: std::time::Instant,
}

impl Supervisor {
    /// Starts a command and returns its output; the first message is `started`.
    pub(super) async fn exec(self: &Arc<Self>, mut start: ExecStart, inputs: Streaming<ExecInput>) -> HostResult<ClientReceiver> {
        validate(&start)?;
        if *self.disk_full.borrow() {
            return Err(HostError::HostDiskFull);
        }
        let workspace = self.adopted()?.clone();
        let agent = self.agent()?;
        let record = self.workspace_record()?;
        let argv: Vec<String> = start.argv.iter().map(|argument| self.redact(&String::from_utf8_lossy(argument)).into_owned()).collect();
        start.env.extend(self.secret_variables(&std::mem::take(&mut start.secret_env))?);
        let cwd = if start.cwd.is_empty() { "/workspace".into() } else { String::from_utf8_lossy(&start.cwd) };
        let sequence = lock(&self.registry).begin_command(&workspace, &argv, &self.redact(&cwd))?;
        let deadline = (start.timeout_ms > 0).then(|| Duration::from_millis(start.timeout_ms) + TIMEOUT_GRACE);
        let (guest, guest_input) = mpsc::channel(8);
        let wants_stdin = start.stdin;
        let (ended, ended_receiver) = watch::channel(None);
        // The guest knows it by its sequence, so that a copy of this machine finds it again.
        start.id = sequence;
        // A command has neither a terminal nor a group of its own: those are shells and services.
        (start.terminal, start.login, start.contained) = (None, false, false);
        // The queue is empty, so this cannot wait.
        drop(guest.try_send(ExecInput { input: Some(Input::Start(self.equip(start))) }));
        lock(&self.running)
            .insert(sequence, Running { started_at_ms: now_ms().cast_unsigned(), input: guest.clone(), ended: ended_receiver });
        let output = match agent.exec(guest_input, deadline).await {
            Ok(output) => output,
            Err(error) => {
                lock(&self.running).remove(&sequence);
                let failure = self.redact(&error.to_string()).into_owned();
                let end = CommandEnd { failure: Some(failure), ..CommandEnd::default() };
                lock(&self.registry).end_command(&workspace, sequence, &end)?;
                return Err(error);
            }
        };
        let (client, client_output) = mpsc::channel(CLIENT_QUEUE);
        tokio::spawn(forward_input(inputs, guest, wants_stdin));
        let pump = Pump {
            supervisor: self.clone(),
            journal: JournalWriter::new(&self.arguments.dirs, &workspace, sequence, self.settings().retention),
            workspace,
            sequence,
            output,
            redacted: [self.redacted(), self.redacted()],
            journal_failure: None,
            client: Some(client),
            one_shot: record.one_shot,
            ended,
            started: std::time::Instant::now(),
        };
        tokio::spawn(pump.run(deadline));
        Ok(client_output)
    }

    /// Goes on with the commands of a machine that was frozen: their output goes to this workspace's journal from now on.
    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    pub(super) async fn take_over(self: &Arc<Self>, sequences: Vec<u64>) {
        for sequence in sequences {
            if let Err(error) = self.take_over_one(sequence).await {
                eprintln!("cannot go on with command {sequence}: {error}");
            }
        }
        let Ok(workspace) = self.adopted() else { return };
        // Those that ended between the snapshot's look at the journal and its pause.
        let running: Vec<u64> = self.running_commands().into_iter().map(|(sequence, _)| sequence).collect();
        let known = lock(&self.registry).commands(workspace, 512).unwrap_or_default();
        for command in known {
            if command.ended_at_ms.is_none() && !running.contains(&command.sequence) {
                let end = CommandEnd { failure: Some("it ended while the snapshot was taken".into()), ..CommandEnd::default() };
                drop(lock(&self.registry).end_command(workspace, command.sequence, &end));
            }
        }
    }

    async fn take_over_one(self: &Arc<Self>, sequence: u64) -> HostResult<()> {
        let workspace = self.adopted()?.clone();
        let command = lock(&self.registry).command(&workspace, sequence)?;
        let (guest, guest_input) = mpsc::channel(8);
        let (ended, ended_receiver) = watch::channel(None);
        drop(guest.try_send(ExecInput { input: Some(Input::Attach(ExecAttach { id: sequence })) }));
        let output = self.agent()?.exec(guest_input, None).await?;
        lock(&self.running)
            .insert(sequence, Running { started_at_ms: command.started_at_ms.cast_unsigned(), input: guest, ended: ended_receiver });
        let pump = Pump {
            supervisor: self.clone(),
            journal: JournalWriter::new(&self.arguments.dirs, &workspace, sequence, self.settings().retention),
            workspace,
            sequence,
            output,
            redacted: [self.redacted(), self.redacted()],
            journal_failure: None,
            client: None,
            one_shot: false,
            ended,
            started: std::time::Instant::now(),
        };
        tokio::spawn(pump.run(None));
        Ok(())
    }

    /// Waits until a command has ended; `None` when it still runs after `timeout`.
    pub(super) async fn wait(&self, sequence: u64, timeout: Option<Duration>) -> HostResult<Option<ExecExit>> {
        let running = lock(&self.running).get(&sequence).map(|running| running.ended.clone());
        if let Some(mut ended) = running {
            let end = async { ended.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone()) };
            let exit = match timeout {
                Some(timeout) => match tokio::time::timeout(timeout, end).await {
                    Ok(exit) => exit,
                    Err(_) => return Ok(None),
                },
                None => end.await,
            };
            if exit.is_some() {
                return Ok(exit);
            }
        }
        let command = lock(&self.registry).command(self.adopted()?, sequence)?;
        if let Some(failure) = command.failure {
            return Err(HostError::WrongState { problem: format!("command {sequence} has no exit code: {failure}") });
        }
        Ok(Some(ExecExit {
            exit_code: command.exit_code.unwrap_or_default(),
            signal: command.signal.unwrap_or_default(),
            timed_out: command.timed_out,
            duration_us: command.duration_us.unwrap_or_default(),
            ..ExecExit::default()
        }))
    }

    /// Sends a signal to a command's process group; `false` when it has ended.
    pub(super) async fn signal(&self, sequence: u64, signal: i32) -> HostResult<bool> {
        if !(1..=64).contains(&signal) {
            return Err(HostError::Invalid { problem: format!("{signal} is not a signal number") });
        }
        let input = lock(&self.running).get(&sequence).map(|running| running.input.clone());
        match input {
            Some(input) => Ok(input.send(ExecInput { input: Some(Input::Signal(signal)) }).await.is_ok()),
            None => lock(&self.registry).command(self.adopted()?, sequence).map(|_| false).map_err(Into::into),
        }
    }

    /// Returns whether anything runs that holds the idle time: a command, a service, a program in a shell's foreground.
    pub(super) fn is_busy(&self) -> bool {
        !lock(&self.running).is_empty() || self.serves() || !self.busy_shells().is_empty()
    }

    /// Returns sequence and start of every running command.
    pub(super) fn running_commands(&self) -> Vec<(u64, u64)> {
        lock(&self.running).iter().map(|(sequence, running)| (*sequence, running.started_at_ms)).collect()
    }
}

fn validate(start: &ExecStart) -> HostResult<()> {
    let invalid = |problem: &str| Err(HostError::Invalid { problem: problem.into() });
    if start.argv.first().is_none_or(Bytes::is_empty) {
        return invalid("a command needs a program: give at least one argument after `--`");
    }
    let bytes = start.argv.iter().map(Bytes::len).sum::<usize>()
        + start.env.iter().map(|variable| variable.name.len() + variable.value.len()).sum::<usize>();
    if start.argv.len() > ARGUMENTS_MAX || bytes > ARGUMENTS_MAX_BYTES {
        return invalid("a command's arguments and environment are limited to 4096 entries and 1 MiB; send larger data through stdin");
    }
    let has_nul = |bytes: &[u8]| bytes.contains(&0);
    if start.argv.iter().any(|argument| has_nul(argument)) || has_nul(&start.cwd) {
        return invalid("an argument holds a zero byte");
    }
    if start.env.iter().any(|variable| variable.name.is_empty() || variable.name.contains(['=', '\0']) || has_nul(&variable.value)) {
        return invalid("an environment variable needs a name without `=`, and no zero byte");
    }
    if !start.cwd.is_empty() && !start.cwd.starts_with(b"/") {
        return invalid("the working directory must be an absolute path in the guest");
    }
    Ok(())
}

/// Carries the client's input to the guest. A client that goes away closes the command's stdin, nothing more.
async fn forward_input(mut inputs: Streaming<ExecInput>, guest: mpsc::Sender<ExecInput>, wants_stdin: bool) {
    while let Ok(Some(message)) = inputs.message().await {
        let pass = match &message.input {
            Some(Input::Stdin(_) | Input::StdinClosed(_)) => wants_stdin,
            Some(Input::Signal(_)) => true,
            Some(Input::Start(_) | Input::Attach(_) | Input::Resize(_) | Input::End(_)) | None => false,
        };
        if pass && guest.send(message).await.is_err() {
            return;
        }
    }
    if wants_stdin {
        drop(guest.send(ExecInput { input: Some(Input::StdinClosed(StdinClosed {})) }).await);
    }
}

impl Pump {
    async fn run(mut self, deadline: Option<Duration>) {
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            result = self.carry() => result,
            () = late => Err(Failure::message(ErrorKind::DeadlineExceeded, "the guest did not end the command when its time was up")),
        };
        let mut result = result.map_err(|failure| self.supervisor.redact_failure(failure));
        if let Ok(exit) = &mut result {
            exit.network_refused = self.supervisor.network_refused_since(self.started).await;
        }
        let exit = result.as_ref().ok().cloned();
        let end = CommandEnd {
            exit_code: exit.as_ref().map(|exit| exit.exit_code),
            signal: exit.as_ref().map(|exit| exit.signal).filter(|signal| *signal != 0),
            timed_out: exit.as_ref().is_some_and(|exit| exit.timed_out),
            duration_us: exit.as_ref().map_or(0, |exit| exit.duration_us),
            failure: match (&result, self.journal_failure.take()) {
                (Err(failure), _) => Some(failure.message.clone()),
                (Ok(_), Some(failure)) => Some(failure),
                (Ok(exit), None) if !exit.spawn_message.is_empty() => Some(exit.spawn_message.clone()),
                (Ok(_), None) => None,
            },
            stdout_bytes: self.journal.written(OutputStream::Stdout),
            stderr_bytes: self.journal.written(OutputStream::Stderr),
        };
        // The journal comes first: whoever has seen the exit finds it there.
        // After a reset the workspace is another machine's, and so is a command of this sequence that goes on there.
        let recorded = if self.supervisor.owns_workspace() {
            lock(&self.supervisor.registry).end_command(&self.workspace, self.sequence, &end)
        } else {
            Ok(())
        };
        drop(self.journal.enforce_workspace_cap(self.supervisor.settings().retention));
        lock(&self.supervisor.running).remove(&self.sequence);
        self.ended.send_replace(exit);
        let answer = match (result, recorded) {
            (Ok(exit), Ok(())) => Ok(ExecOutput { output: Some(Output::Exit(exit)) }),
            (Ok(_), Err(error)) => Err(HostError::from(error).into()),
            (Err(failure), _) => Err(failure.into_status()),
        };
        if let Some(client) = &self.client {
            drop(client.send(answer).await);
        }
        self.supervisor.activity.notify_waiters();
        if self.one_shot {
            // The machine goes once the client has read everything, or has gone; one that stays without reading is not waited for long.
            if let Some(client) = &self.client {
                drop(tokio::time::timeout(ONE_SHOT_PATIENCE, client.closed()).await);
            }
            self.supervisor.request_end(EndReason::Deleted);
        }
    }

    /// Carries output until the command's end.
    async fn carry(&mut self) -> Result<ExecExit, Failure> {
        let mut disk_full = self.supervisor.disk_full.subscribe();
        loop {
            let gone = async {
                match &self.client {
                    Some(client) => client.closed().await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                message = self.output.message() => message,
                () = async { drop(disk_full.wait_for(|full| *full).await) }, if self.client.is_some() => {
                    self.send_away().await;
                    continue;
                }
                () = gone => {
                    self.client = None;
                    if self.one_shot {
                        return Err(Failure::message(ErrorKind::WrongState, "the client went away"));
                    }
                    continue;
                }
            };
            match message.map_err(|status| Failure::from_status(&status, ErrorKind::MachineFailed))?.and_then(|message| message.output) {
                Some(Output::Exit(exit)) => {
                    self.flush().await;
                    return Ok(self.supervisor.redact_exit(sanitise(exit, self.started.elapsed())));
                }
                Some(Output::Started(started)) => self.pass(Output::Started(ExecStarted { sequence: self.sequence, ..started })).await,
                // Only a command with a terminal has any.
                Some(Output::Terminal(_)) => {}
                Some(Output::Stdout(bytes)) => {
                    let bytes = self.redacted[0].push(bytes);
                    self.show(OutputStream::Stdout, bytes).await;
                }
                Some(Output::Stderr(bytes)) => {
                    let bytes = self.redacted[1].push(bytes);
                    self.show(OutputStream::Stderr, bytes).await;
                }
                None => return Err(Failure::message(ErrorKind::MachineFailed, "the machine went away while the command ran")),
            }
        }
    }

    /// Shows what was held back because it could have been the beginning of a secret.
    async fn flush(&mut self) {
        for (index, stream) in [OutputStream::Stdout, OutputStream::Stderr].into_iter().enumerate() {
            let rest = self.redacted[index].finish();
            self.show(stream, rest).await;
        }
    }

    async fn show(&mut self, stream: OutputStream, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.keep(stream, &bytes);
        let output = match stream {
            OutputStream::Stdout => Output::Stdout(bytes),
            OutputStream::Stderr => Output::Stderr(bytes),
        };
        self.pass(output).await;
    }

    fn keep(&mut self, stream: OutputStream, bytes: &[u8]) {
        // Output that cannot be kept is still passed on; the journal says what happened.
        if let Err(error) = self.journal.write(stream, bytes) {
            self.journal_failure.get_or_insert_with(|| format!("its output could not be kept: {error}"));
        }
    }

    async fn pass(&mut self, output: Output) {
        let Some(client) = &self.client else { return };
        if client.send(Ok(ExecOutput { output: Some(output) })).await.is_err() {
            self.client = None;
        }
    }

    /// Tells the client that the machine is paused. The command goes on later and can be waited for.
    async fn send_away(&mut self) {
        if let Some(client) = self.client.take() {
            drop(client.send(Err(HostError::HostDiskFull.into())).await);
        }
    }
}

/// Cuts what a hostile guest may put into an exit.
pub(super) fn sanitise(mut exit: ExecExit, elapsed: Duration) -> ExecExit {
    exit.duration_us = exit.duration_us.min(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    exit.exit_code = exit.exit_code.clamp(0, 255);
    exit.signal = exit.signal.clamp(0, 64);
    exit.network_refused.clear();
    exit.spawn_message = exit.spawn_message.chars().filter(|c| !c.is_control()).take(1000).collect();
    exit
}
