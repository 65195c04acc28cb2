//! The journal of a workspace: commands from the registry, their output from files. Reading it needs no machine.

use pyro_store::{CommandOutput, CommandRecord, Dirs, OutputStream, StoreError, WorkspaceId, WorkspaceRecord};

use crate::{
    Pyro, Workspace,
    client::Reap,
    collect::Collected,
    contract::{CommandAnswer, CommandEntry, CommandState, ExecutionMode, LogOutput, Logs, LogsAnswer},
    error::{Error, Result},
    limits::MaxOutputBytes,
    system::allocated_bytes,
    time::rfc3339,
};

/// How much of a journal file is read at once.
const PIECE_BYTES: u64 = 256 << 10;
/// SQLite's numbers have a sign; no command has a greater one.
const ROW_NUMBER_MAX: u64 = i64::MAX as u64;

impl From<&CommandRecord> for CommandEntry {
    fn from(record: &CommandRecord) -> Self {
        Self {
            sequence: record.sequence,
            command: record.argv.clone(),
            cwd: record.cwd.clone(),
            state: state(record),
            exit_code: record.exit_code,
            signal: record.signal,
            timed_out: record.timed_out,
            duration_ms: duration_ms(record),
            started_at: rfc3339(record.started_at_ms),
            ended_at: record.ended_at_ms.map(rfc3339),
            failure: record.failure.clone(),
            stdout_bytes: record.stdout_bytes,
            stderr_bytes: record.stderr_bytes,
        }
    }
}

fn state(record: &CommandRecord) -> CommandState {
    if record.ended_at_ms.is_some() { CommandState::Exited } else { CommandState::Running }
}

fn duration_ms(record: &CommandRecord) -> Option<f64> {
    record.duration_us.map(|microseconds| microseconds as f64 / 1000.0)
}

impl Workspace {
    pub(crate) async fn command(&self, sequence: u64) -> Result<CommandRecord> {
        let id = self.id().clone();
        if sequence > ROW_NUMBER_MAX {
            return Err(Error::from(StoreError::CommandNotFound { workspace: id.to_string(), sequence }).about(self.label()));
        }
        self.pyro().store(move |_, registry| Ok(registry.command(&id, sequence)?)).await.map_err(|error| error.about(self.label()))
    }

    /// Reads kept output of a command from `offset` on; empty at its end or when nothing is kept.
    ///
    /// # Errors
    /// The host cannot read the file.
    pub async fn read_output(&self, sequence: u64, stream: OutputStream, offset: u64, max_bytes: u64) -> Result<Vec<u8>> {
        // The kernel refuses such an offset; no file goes so far.
        if offset > i64::MAX as u64 {
            return Ok(Vec::new());
        }
        let output = CommandOutput::new(self.pyro().dirs(), self.id(), sequence, stream);
        crate::client::blocking(move || Ok(output.read(offset, max_bytes)?)).await
    }

    async fn collect_output(&self, sequence: u64, limit: MaxOutputBytes) -> Result<Collected> {
        let mut collected = Collected::new(limit);
        for (stream, sink) in [(OutputStream::Stdout, &mut collected.stdout), (OutputStream::Stderr, &mut collected.stderr)] {
            let mut offset = 0;
            loop {
                let piece = self.read_output(sequence, stream, offset, PIECE_BYTES).await?;
                if piece.is_empty() {
                    break;
                }
                offset += piece.len() as u64;
                sink.push(&piece);
            }
        }
        Ok(collected)
    }
}

/// Makes the answer of a command that was waited for.
pub(crate) async fn answer(
    workspace: &Workspace,
    record: &WorkspaceRecord,
    command: CommandRecord,
    limit: MaxOutputBytes,
) -> Result<CommandAnswer> {
    let output = workspace.collect_output(command.sequence, limit).await?.finish();
    let (written_stdout, written_stderr) = (command.stdout_bytes.max(output.stdout_bytes), command.stderr_bytes.max(output.stderr_bytes));
    let kept_bytes = output.stdout_bytes + output.stderr_bytes;
    Ok(CommandAnswer {
        workspace_id: Some(workspace.id().to_string()),
        sequence: Some(command.sequence),
        state: state(&command),
        exit_code: command.exit_code,
        signal: command.signal,
        timed_out: command.timed_out,
        duration_ms: duration_ms(&command),
        cwd: command.cwd,
        truncated: output.truncated || written_stdout > output.stdout_bytes || written_stderr > output.stderr_bytes,
        stdout: output.stdout,
        stderr: output.stderr,
        stdout_bytes: written_stdout,
        stderr_bytes: written_stderr,
        kept_bytes: Some(kept_bytes),
        failure: command.failure,
        network_refused: Vec::new(),
        execution_mode: ExecutionMode::Guest,
        accelerator: Some(record.shape.accelerator.to_string()),
    })
}

impl Pyro {
    /// Reads a workspace's journal. Does not count as activity and needs no machine.
    ///
    /// # Errors
    /// There is no such workspace or command.
    pub async fn logs(&self, request: Logs) -> Result<LogsAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let workspace_id = record.id.to_string();
        if request.network {
            return self.network_entries(record.id, request.after, request.tail).await;
        }
        let Some(sequence) = request.sequence else {
            let id = record.id.clone();
            let commands = self.store(move |_, registry| Ok(registry.commands(&id, request.tail.get())?)).await?;
            return Ok(LogsAnswer {
                workspace_id,
                commands: commands.iter().map(CommandEntry::from).collect(),
                output: None,
                entries: None,
            });
        };
        let command = workspace.command(sequence).await?;
        let output = match (request.stdout_offset, request.stderr_offset) {
            (None, None) => workspace.head_and_tail(&command, request.max_output_bytes).await?,
            (stdout, stderr) => workspace.page(&command, stdout, stderr, request.max_output_bytes).await?,
        };
        Ok(LogsAnswer { workspace_id, commands: vec![CommandEntry::from(&command)], output: Some(output), entries: None })
    }
}

impl Workspace {
    fn kept(&self, sequence: u64, stream: OutputStream) -> u64 {
        CommandOutput::new(self.pyro().dirs(), self.id(), sequence, stream).kept_bytes()
    }

    async fn head_and_tail(&self, command: &CommandRecord, limit: MaxOutputBytes) -> Result<LogOutput> {
        let output = self.collect_output(command.sequence, limit).await?.finish();
        Ok(LogOutput {
            stdout: output.stdout,
            stderr: output.stderr,
            stdout_kept_bytes: output.stdout_bytes,
            stderr_kept_bytes: output.stderr_bytes,
            stdout_next_offset: None,
            stderr_next_offset: None,
            truncated: output.truncated || command.stdout_bytes > output.stdout_bytes || command.stderr_bytes > output.stderr_bytes,
        })
    }

    async fn page(&self, command: &CommandRecord, stdout: Option<u64>, stderr: Option<u64>, limit: MaxOutputBytes) -> Result<LogOutput> {
        // One stream has the limit to itself, two share it.
        let share = if stdout.is_some() && stderr.is_some() { limit.get().div_ceil(2) } else { limit.get() };
        let mut pages = Vec::new();
        for (stream, offset) in [(OutputStream::Stdout, stdout), (OutputStream::Stderr, stderr)] {
            let kept = self.kept(command.sequence, stream);
            let bytes = match offset {
                Some(offset) => self.read_output(command.sequence, stream, offset, share).await?,
                None => Vec::new(),
            };
            let next = offset.map(|offset| offset.saturating_add(bytes.len() as u64)).filter(|&next| next < kept);
            pages.push((String::from_utf8_lossy(&bytes).into_owned(), kept, next));
        }
        let (stderr, stderr_kept_bytes, stderr_next_offset) = pages.pop().expect("two streams");
        let (stdout, stdout_kept_bytes, stdout_next_offset) = pages.pop().expect("two streams");
        Ok(LogOutput {
            stdout,
            stderr,
            stdout_kept_bytes,
            stderr_kept_bytes,
            truncated: stdout_next_offset.is_some() || stderr_next_offset.is_some(),
            stdout_next_offset,
            stderr_next_offset,
        })
    }
}

/// Returns what a workspace's kept output takes on the host's disk.
pub(crate) fn output_bytes(dirs: &Dirs, workspace: &WorkspaceId) -> u64 {
    let Ok(entries) = std::fs::read_dir(dirs.workspace(workspace).join("output")) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|status| allocated_bytes(&status)).sum()
}
