//! Running commands: a stream of events while they run, and a handle to write to them.

use std::time::Duration;

use bytes::Bytes;
use pyro_proto::{
    error::ErrorKind,
    limits::{ARGUMENTS_MAX_BYTES, OUTPUT_CHUNK_BYTES},
    v1::{
        EnvironmentVariable, ExecExit, ExecInput, ExecKillRequest, ExecOutput, ExecStart, ExecWaitRequest, StdinClosed, exec_input,
        exec_output,
    },
};
use pyro_store::{MachineId, WorkspaceRecord, WorkspaceState};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    Pyro, Workspace,
    client::Reap,
    collect::Collected,
    contract::{CommandAnswer, CommandState, ExecKill, ExecKillAnswer, ExecWait, ExecutionMode, GuestCommand, WorkspaceExec},
    error::{Cause, Error, Problem, Result},
    host_compat::HostCommand,
    journal,
    limits::{MaxOutputBytes, TimeoutSeconds},
    text::{GuestPath, GuestUser, SecretVariable, Signal, Variable},
};

/// Pieces of input on their way to a command; with their size this bounds what a slow command makes its client hold.
const INPUT_QUEUE: usize = 8;
/// What a client allows beyond a command's own time before it gives the supervisor up: the guest kills the process group, which takes
/// seconds on a busy host.
const TIMEOUT_GRACE: Duration = Duration::from_secs(30);

/// What [`Workspace::start_command`] is called in failures.
const START_OPERATION: &str = "run a command in";
/// How long a supervisor has for its first answer. It answers once the guest has the command: milliseconds, a few seconds on a host
/// with more busy machines than processors. A supervisor that was stopped or hangs must not take its clients along.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// How long one call waits for a command's end before it is made anew, so that a supervisor that hangs is noticed.
const WAIT_SLICE: Duration = Duration::from_secs(10);

/// Whether a command can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdin {
    /// It reads an empty stream.
    #[default]
    Empty,
    /// What [`CommandInput::write`] sends.
    Open,
}

/// A command and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// What is run.
    pub command: GuestCommand,
    /// How long it may run.
    pub timeout: TimeoutSeconds,
    /// As whom; `None` is root.
    pub user: Option<GuestUser>,
    /// Where.
    pub cwd: GuestPath,
    /// Variables beside those a login has.
    pub env: Vec<Variable>,
    /// Secrets it gets as variables.
    pub secret_env: Vec<SecretVariable>,
    /// Whether it can be written to.
    pub stdin: Stdin,
    /// After how long a collected call answers although the command still runs.
    pub yield_after: Option<Duration>,
    /// How much output a collected answer carries.
    pub max_output_bytes: MaxOutputBytes,
}

impl CommandSpec {
    /// Runs `command` with the contract's defaults: as root, in `/workspace`, for ten minutes at most.
    #[must_use]
    pub fn new(command: GuestCommand) -> Self {
        Self {
            command,
            timeout: TimeoutSeconds::default(),
            user: None,
            cwd: GuestPath::default(),
            env: Vec::new(),
            secret_env: Vec::new(),
            stdin: Stdin::Empty,
            yield_after: None,
            max_output_bytes: MaxOutputBytes::default(),
        }
    }

    fn start(&self) -> Result<ExecStart> {
        let arguments: usize = self.command.arguments().iter().map(Vec::len).sum();
        let count = arguments + self.env.iter().map(|variable| variable.name.len() + variable.value.len() + 2).sum::<usize>();
        if count > ARGUMENTS_MAX_BYTES {
            return Err(Problem::CommandTooLong { what: "bytes of arguments and variables", count, maximum: ARGUMENTS_MAX_BYTES }.into());
        }
        Ok(ExecStart {
            argv: self.command.arguments().iter().map(|argument| Bytes::copy_from_slice(argument)).collect(),
            cwd: Bytes::copy_from_slice(self.cwd.as_str().as_bytes()),
            env: self
                .env
                .iter()
                .map(|variable| EnvironmentVariable { name: variable.name.clone(), value: variable.value.clone().into() })
                .collect(),
            user: self.user.as_ref().map(ToString::to_string).unwrap_or_default(),
            timeout_ms: self.timeout.duration().map_or(0, |duration| duration.as_millis().try_into().unwrap_or(u64::MAX)),
            stdin: self.stdin == Stdin::Open,
            secret_env: secret_variables(&self.secret_env),
            ..ExecStart::default()
        })
    }
}

/// Returns what asks the supervisor for secrets.
pub(crate) fn secret_variables(wanted: &[SecretVariable]) -> Vec<pyro_proto::v1::SecretVariable> {
    wanted
        .iter()
        .map(|wanted| pyro_proto::v1::SecretVariable { secret: wanted.name.to_string(), variable: wanted.variable.clone() })
        .collect()
}

impl From<WorkspaceExec> for CommandSpec {
    fn from(request: WorkspaceExec) -> Self {
        Self {
            command: request.command,
            timeout: request.timeout_seconds,
            user: request.user,
            cwd: request.cwd,
            env: request.env,
            secret_env: request.secret_env,
            stdin: Stdin::Empty,
            yield_after: request.yield_after_ms.map(|milliseconds| Duration::from_millis(milliseconds.get())),
            max_output_bytes: request.max_output_bytes,
        }
    }
}

/// What a running command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// It wrote to standard output.
    Stdout(Bytes),
    /// It wrote to standard error.
    Stderr(Bytes),
    /// It ended; nothing follows.
    Exited(CommandExit),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandExit {
    /// As a shell reports it.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether its time was up.
    pub timed_out: bool,
    /// From its start to its end, by the guest's clock.
    pub duration: Duration,
    /// Why it could not be started.
    pub failure: Option<String>,
    /// What the workspace's network refused meanwhile, as the narrowest rules that would allow it.
    pub network_refused: Vec<String>,
}

impl From<ExecExit> for CommandExit {
    fn from(exit: ExecExit) -> Self {
        Self {
            exit_code: exit.exit_code,
            signal: (exit.signal != 0).then_some(exit.signal),
            timed_out: exit.timed_out,
            duration: Duration::from_micros(exit.duration_us),
            failure: (!exit.spawn_message.is_empty()).then_some(exit.spawn_message),
            network_refused: exit.network_refused,
        }
    }
}

/// Writes to a running command. Every call waits while the command does not read.
#[derive(Debug, Clone)]
pub struct CommandInput(mpsc::Sender<ExecInput>);

impl CommandInput {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<ExecInput>) {
        let (sender, receiver) = mpsc::channel(INPUT_QUEUE);
        (Self(sender), receiver)
    }

    async fn send(&self, input: exec_input::Input) {
        // A command that has ended reads nothing more; its exit tells the rest.
        drop(self.0.send(ExecInput { input: Some(input) }).await);
    }

    /// Writes to standard input. Without effect once the command has ended.
    pub async fn write(&self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(OUTPUT_CHUNK_BYTES));
            self.send(exec_input::Input::Stdin(piece)).await;
        }
    }

    /// Ends standard input.
    pub async fn close(&self) {
        self.send(exec_input::Input::StdinClosed(StdinClosed {})).await;
    }

    /// Sends the command's process group a signal.
    pub async fn signal(&self, signal: Signal) {
        self.send(exec_input::Input::Signal(signal.number())).await;
    }
}

#[derive(Debug)]
enum Source {
    Guest(Box<GuestCall>),
    Host(HostCommand),
}

#[derive(Debug)]
struct GuestCall {
    output: tonic::Streaming<ExecOutput>,
    machine: MachineId,
    workspace: Workspace,
    one_shot: bool,
}

/// A running command. Dropping it detaches: the command goes on, its output goes to the journal. (A command on the host is killed.)
#[derive(Debug)]
pub struct Execution {
    source: Source,
    input: CommandInput,
    sequence: Option<u64>,
    ended: bool,
    end: Option<tokio::time::Instant>,
    accelerator: Option<&'static str>,
    cwd: String,
}

impl Execution {
    pub(crate) fn on_host(command: HostCommand, input: CommandInput, cwd: String) -> Self {
        Self { source: Source::Host(command), input, sequence: None, ended: false, end: None, accelerator: None, cwd }
    }

    /// Returns its number in the workspace's journal; a command on the host has none.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// Returns where it runs.
    #[must_use]
    pub const fn mode(&self) -> ExecutionMode {
        match self.source {
            Source::Guest(_) => ExecutionMode::Guest,
            Source::Host(_) => ExecutionMode::HostCompat,
        }
    }

    /// Returns a handle to write to it.
    #[must_use]
    pub fn input(&self) -> CommandInput {
        self.input.clone()
    }

    /// Waits for what the command does next; `None` after its exit. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The machine went away, or the command's time and a grace are over without word of its end.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>> {
        let event = match self.end {
            Some(end) => match tokio::time::timeout_at(end, self.receive()).await {
                Ok(event) => event,
                Err(_) => Err(self.overdue()),
            },
            None => self.receive().await,
        };
        event.map_err(|error| if self.is_one_shot() { error.gone() } else { error })
    }

    fn is_one_shot(&self) -> bool {
        matches!(&self.source, Source::Guest(call) if call.one_shot)
    }

    fn label(&self) -> &str {
        match &self.source {
            Source::Guest(call) => call.workspace.label(),
            Source::Host(_) => "of the host",
        }
    }

    fn overdue(&self) -> Error {
        let cause = Cause::new(format!("nothing was heard of the command's end {} s after its time was up", TIMEOUT_GRACE.as_secs()));
        Error::workspace("run a command in", self.label(), ErrorKind::DeadlineExceeded, cause)
    }

    async fn receive(&mut self) -> Result<Option<ExecEvent>> {
        match &mut self.source {
            Source::Host(command) => command.next().await,
            Source::Guest(call) => loop {
                let GuestCall { output, machine, workspace, .. } = &mut **call;
                let message = match output.message().await {
                    Ok(message) => message,
                    Err(status) => return Err(workspace.pyro().call_failed(machine, "run a command in", workspace.label(), &status).await),
                };
                let Some(message) = message else { return if self.ended { Ok(None) } else { Err(ended_without_exit(workspace.label())) } };
                return Ok(Some(match message.output {
                    Some(exec_output::Output::Stdout(bytes)) => ExecEvent::Stdout(bytes),
                    Some(exec_output::Output::Stderr(bytes)) => ExecEvent::Stderr(bytes),
                    Some(exec_output::Output::Exit(exit)) => {
                        self.ended = true;
                        ExecEvent::Exited(exit.into())
                    }
                    Some(exec_output::Output::Started(started)) => {
                        self.sequence = Some(started.sequence);
                        continue;
                    }
                    // A terminal's, which a command has not; or one of a newer supervisor.
                    Some(exec_output::Output::Terminal(_)) | None => continue,
                }));
            },
        }
    }

    /// Waits for the end and keeps head and tail of the output.
    pub(crate) async fn collect(mut self, limit: MaxOutputBytes, yield_after: Option<Duration>) -> Result<CommandAnswer> {
        let mut output = Collected::new(limit);
        let deadline = yield_after.map(|duration| tokio::time::Instant::now() + duration);
        let exit = loop {
            let event = match deadline {
                Some(deadline) => match tokio::time::timeout_at(deadline, self.next()).await {
                    Ok(event) => event?,
                    Err(_) => break None,
                },
                None => self.next().await?,
            };
            match event {
                Some(ExecEvent::Exited(exit)) => break Some(exit),
                Some(event) => output.push(&event),
                None => return Err(ended_without_exit(self.label())),
            }
        };
        Ok(self.answer(output, exit))
    }

    /// Makes the contract's answer of what was collected; without an exit the command still runs.
    #[must_use]
    pub fn answer(&self, output: Collected, exit: Option<CommandExit>) -> CommandAnswer {
        let output = output.finish();
        let workspace_id = match &self.source {
            Source::Guest(call) => Some(call.workspace.id().to_string()),
            Source::Host(_) => None,
        };
        let state = if exit.is_some() { CommandState::Exited } else { CommandState::Running };
        let exit = exit.unwrap_or_default();
        let ended = state == CommandState::Exited;
        CommandAnswer {
            workspace_id,
            sequence: self.sequence,
            state,
            exit_code: ended.then_some(exit.exit_code),
            signal: exit.signal,
            timed_out: exit.timed_out,
            duration_ms: ended.then(|| milliseconds(exit.duration)),
            cwd: self.cwd.clone(),
            stdout: output.stdout,
            stderr: output.stderr,
            stdout_bytes: output.stdout_bytes,
            stderr_bytes: output.stderr_bytes,
            kept_bytes: None,
            truncated: output.truncated,
            failure: exit.failure,
            network_refused: exit.network_refused,
            execution_mode: self.mode(),
            accelerator: self.accelerator.map(ToOwned::to_owned),
        }
    }
}

fn ended_without_exit(label: &str) -> Error {
    Error::workspace("run a command in", label, ErrorKind::MachineFailed, Cause::new("the call ended before the command did"))
}

/// Returns a duration in milliseconds, to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

impl Workspace {
    /// Starts a command and returns once it has its number in the journal.
    ///
    /// Dropping the future may leave the command running, with its output in the journal.
    ///
    /// # Errors
    /// The workspace does not run, the request passes a limit, or its machine fails. That a program is not there is no error but an
    /// exit with code 127.
    pub async fn start_command(&self, spec: &CommandSpec) -> Result<Execution> {
        let record = self.record().await?;
        self.start_command_in(&record, spec).await
    }

    pub(crate) async fn start_command_in(&self, record: &WorkspaceRecord, spec: &CommandSpec) -> Result<Execution> {
        let started = self.answered(START_OPERATION, ANSWER_DEADLINE, self.open_command(record, spec)).await;
        started.map_err(|error| if record.one_shot { error.gone() } else { error })
    }

    /// Insists on an answer of the supervisor within `deadline`.
    pub(crate) async fn answered<T>(
        &self,
        operation: &'static str,
        deadline: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| {
            let source = Cause::new(format!("its supervisor said nothing for {} s", deadline.as_secs()));
            let workspace = self.label().to_owned();
            Err(Error::from(Problem::Unresponsive { operation, workspace, source }).about(self.label()))
        })
    }

    async fn open_command(&self, record: &WorkspaceRecord, spec: &CommandSpec) -> Result<Execution> {
        const OPERATION: &str = START_OPERATION;
        let machine = self.running_machine(record)?;
        crate::secrets::has_all(record, self.label(), &spec.secret_env)?;
        let start = spec.start()?;
        let (input, receiver) = CommandInput::channel();
        input.send(exec_input::Input::Start(start)).await;
        let mut client = self.pyro().supervisor(&machine, OPERATION, self.label()).await?;
        let mut output = match client.exec(ReceiverStream::new(receiver)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Err(self.pyro().call_failed(&machine, OPERATION, self.label(), &status).await),
        };
        let sequence = match output.message().await {
            Ok(Some(ExecOutput { output: Some(exec_output::Output::Started(started)) })) => started.sequence,
            Ok(_) => {
                let cause = Cause::new("its supervisor answered out of order");
                return Err(Error::workspace(OPERATION, self.label(), ErrorKind::Internal, cause));
            }
            Err(status) => return Err(self.pyro().call_failed(&machine, OPERATION, self.label(), &status).await),
        };
        Ok(Execution {
            source: Source::Guest(Box::new(GuestCall { output, machine, workspace: self.clone(), one_shot: record.one_shot })),
            input,
            sequence: Some(sequence),
            ended: false,
            end: spec.timeout.duration().map(|duration| tokio::time::Instant::now() + duration + TIMEOUT_GRACE),
            accelerator: Some(record.shape.accelerator.as_str()),
            cwd: spec.cwd.to_string(),
        })
    }

    /// Runs a command to its end, or to `yield_after`, and returns head and tail of its output.
    ///
    /// # Errors
    /// As [`Self::start_command`].
    pub async fn exec(&self, spec: CommandSpec) -> Result<CommandAnswer> {
        self.start_command(&spec).await?.collect(spec.max_output_bytes, spec.yield_after).await
    }

    /// Waits until a command has ended, or until `timeout`.
    async fn wait_for_command(&self, machine: &MachineId, sequence: u64, timeout: Option<Duration>) -> Result<()> {
        const OPERATION: &str = "wait for a command in";
        let end = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
        loop {
            let left = end.map_or(WAIT_SLICE, |end| end.saturating_duration_since(tokio::time::Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            let slice = left.clamp(Duration::from_millis(1), WAIT_SLICE);
            let timeout_ms = slice.as_millis().try_into().unwrap_or(u64::MAX);
            let wait = async {
                let mut client = self.pyro().supervisor(machine, OPERATION, self.label()).await?;
                match client.exec_wait(ExecWaitRequest { sequence, timeout_ms }).await {
                    Ok(answer) => Ok(answer.into_inner().running),
                    Err(status) => Err(self.pyro().call_failed(machine, OPERATION, self.label(), &status).await),
                }
            };
            if !self.answered(OPERATION, slice + ANSWER_DEADLINE, wait).await? {
                return Ok(());
            }
        }
    }

    pub(crate) fn running_machine(&self, record: &WorkspaceRecord) -> Result<MachineId> {
        match (&record.machine, record.state) {
            (Some(machine), WorkspaceState::Running) => Ok(machine.clone()),
            (_, state) => {
                Err(Error::from(Problem::NotRunning { workspace: self.label().to_owned(), state: state.as_str() }).about(self.label()))
            }
        }
    }
}

impl Pyro {
    /// Starts the command of a request; see [`Workspace::start_command`].
    ///
    /// # Errors
    /// As [`Workspace::start_command`], or there is no such workspace.
    pub async fn start_exec(&self, request: WorkspaceExec, stdin: Stdin) -> Result<(Workspace, Execution)> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let spec = CommandSpec { stdin, ..request.into() };
        let execution = workspace.start_command_in(&record, &spec).await?;
        Ok((workspace, execution))
    }

    /// Runs the command of a request; see [`Workspace::exec`].
    ///
    /// # Errors
    /// As [`Workspace::exec`], or there is no such workspace.
    pub async fn exec(&self, request: WorkspaceExec) -> Result<CommandAnswer> {
        let spec = CommandSpec::from(request.clone());
        let (_, execution) = self.start_exec(request, Stdin::Empty).await?;
        execution.collect(spec.max_output_bytes, spec.yield_after).await
    }

    /// Waits for a command's end and returns how it ended, with its output from the journal.
    ///
    /// # Errors
    /// There is no such workspace or command, or the machine goes away meanwhile.
    pub async fn exec_wait(&self, request: ExecWait) -> Result<CommandAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let known = workspace.command(request.sequence).await?;
        if known.ended_at_ms.is_none()
            && let Ok(machine) = workspace.running_machine(&record)
        {
            let timeout = request.timeout_seconds.and_then(TimeoutSeconds::duration);
            workspace.wait_for_command(&machine, request.sequence, timeout).await?;
        }
        let command = workspace.command(request.sequence).await?;
        journal::answer(&workspace, &record, command, request.max_output_bytes).await
    }

    /// Sends a command a signal.
    ///
    /// # Errors
    /// There is no such workspace or command, or the machine goes away meanwhile.
    pub async fn exec_kill(&self, request: ExecKill) -> Result<ExecKillAnswer> {
        const OPERATION: &str = "signal a command in";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let command = workspace.command(request.sequence).await?;
        let mut delivered = false;
        if command.ended_at_ms.is_none()
            && let Ok(machine) = workspace.running_machine(&record)
        {
            let signal = ExecKillRequest { sequence: request.sequence, signal: request.signal.number() };
            let kill = async {
                let mut client = self.supervisor(&machine, OPERATION, workspace.label()).await?;
                match client.exec_kill(signal).await {
                    Ok(answer) => Ok(answer.into_inner().delivered),
                    Err(status) => Err(self.call_failed(&machine, OPERATION, workspace.label(), &status).await),
                }
            };
            delivered = workspace.answered(OPERATION, ANSWER_DEADLINE, kill).await?;
        }
        Ok(ExecKillAnswer { workspace_id: workspace.id().to_string(), sequence: request.sequence, delivered })
    }
}
