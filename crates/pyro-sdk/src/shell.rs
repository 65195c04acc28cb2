//! Shells: opened, written to, signalled and closed through the workspace's supervisor. What they show is read from their rings, see
//! `shell_read`.

use std::time::Duration;

use bytes::Bytes;
use pyro_proto::v1::{
    ShellCloseRequest, ShellOpenRequest, ShellResizeRequest, ShellSignalRequest as SignalRequest, ShellWriteRequest, TerminalSize,
};
use pyro_store::{Dirs, RingReader, ShellRecord, StoreResult, WorkspaceId, WorkspaceRecord, shell_ring};
use tonic::{Response, Status};

use crate::{
    Pyro, Workspace,
    client::Reap,
    contract::{
        Shell, ShellClose, ShellList, ShellListAnswer, ShellOpen, ShellResize, ShellSignalAnswer, ShellSignalRequest, ShellState,
        ShellWrite, ShellWriteAnswer,
    },
    error::{Error, Problem, Result},
    exec::{ANSWER_DEADLINE, secret_variables},
    supervisor::Client,
    text::{GuestLine, GuestUser, ShellId},
    time::rfc3339,
};

/// How long a shell may take to end: the supervisor gives it two seconds after the hang-up, then kills it, and a busy guest takes seconds
/// to say so.
const CLOSE_DEADLINE: Duration = Duration::from_secs(30);
/// What Enter sends. The terminal's line discipline makes it a line feed; programs that have the whole screen expect it as it is.
const ENTER: &str = "\r";
/// Whose a process is that nobody asked to be another's.
pub(crate) const ROOT: &str = "root";

impl Pyro {
    /// Opens a shell and returns once it runs.
    ///
    /// Dropping the future may leave the shell open.
    ///
    /// # Errors
    /// The workspace does not run, has too many shells, or there is no such folder or user in it.
    pub async fn open_shell(&self, request: ShellOpen) -> Result<Shell> {
        const OPERATION: &str = "open a shell in";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        crate::secrets::has_all(&record, workspace.label(), &request.secret_env)?;
        let open = ShellOpenRequest {
            command: request.command.as_ref().map(|line| GuestLine::as_str(line).to_owned()).unwrap_or_default(),
            cwd: Bytes::copy_from_slice(request.cwd.as_str().as_bytes()),
            user: request.user.as_ref().map(GuestUser::to_string).unwrap_or_default(),
            env: Vec::new(),
            secret_env: secret_variables(&request.secret_env),
            size: Some(size(request.cols.get(), request.rows.get())),
            no_history_expansion: request.no_history_expansion,
        };
        let call = |mut client: Client| async move { client.shell_open(open).await };
        let number = workspace.ask(&record, OPERATION, ANSWER_DEADLINE, call).await?.number;
        workspace.shell(ShellId::new(number)).await
    }

    /// Lists a workspace's shells, oldest first. Does not count as activity and needs no machine.
    ///
    /// # Errors
    /// There is no such workspace.
    pub async fn list_shells(&self, request: &ShellList) -> Result<ShellListAnswer> {
        let (_, record) = self.find(&request.workspace, Reap::Now).await?;
        self.store(move |pyro, registry| {
            let shells = registry.shells(&record.id)?;
            let shells = shells.iter().map(|shell| describe(pyro.dirs(), &record.id, shell)).collect::<StoreResult<_>>()?;
            Ok(ShellListAnswer { workspace_id: record.id.to_string(), shells })
        })
        .await
    }

    /// Writes to a shell, with an Enter behind it unless the request says otherwise. Text is pasted where a program has asked for that.
    ///
    /// # Errors
    /// The workspace does not run, the shell has ended, or a line is longer than the terminal keeps.
    pub async fn write_shell(&self, request: ShellWrite) -> Result<ShellWriteAnswer> {
        const OPERATION: &str = "write to a shell of";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        workspace.open_shell_record(request.shell_id).await?;
        let text_bytes = request.input.text_bytes(!request.no_newline) as u64;
        let mut input = request.input.as_str().to_owned();
        if !request.no_newline {
            input.push_str(ENTER);
        }
        // The Enter of a text that has the whole size allowed is one too many.
        let input = crate::text::ShellInput::new(input).map_err(|error| error.about(workspace.label()))?;
        let bytes = Bytes::from(input.as_str().to_owned());
        let bytes_written = bytes.len() as u64;
        let write = ShellWriteRequest { number: request.shell_id.number(), input: bytes, text_bytes };
        let call = |mut client: Client| async move { client.shell_write(write).await };
        let written = workspace.ask(&record, OPERATION, ANSWER_DEADLINE, call).await?;
        Ok(ShellWriteAnswer {
            workspace_id: record.id.to_string(),
            shell_id: request.shell_id.to_string(),
            cursor: written.end_cursor,
            bytes_written,
            pasted: written.pasted,
        })
    }

    /// Sends a signal to what runs in a shell's foreground.
    ///
    /// # Errors
    /// The workspace does not run, or the shell has ended.
    pub async fn signal_shell(&self, request: &ShellSignalRequest) -> Result<ShellSignalAnswer> {
        const OPERATION: &str = "signal a shell of";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        workspace.open_shell_record(request.shell_id).await?;
        let signal = SignalRequest { number: request.shell_id.number(), signal: request.signal.number() };
        let call = |mut client: Client| async move { client.shell_signal(signal).await };
        workspace.ask(&record, OPERATION, ANSWER_DEADLINE, call).await?;
        Ok(ShellSignalAnswer {
            workspace_id: record.id.to_string(),
            shell_id: request.shell_id.to_string(),
            signal: request.signal.to_string(),
        })
    }

    /// Gives a shell's terminal another size.
    ///
    /// # Errors
    /// The workspace does not run, or the shell has ended.
    pub async fn resize_shell(&self, request: &ShellResize) -> Result<Shell> {
        const OPERATION: &str = "resize a shell of";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        workspace.open_shell_record(request.shell_id).await?;
        let resize = ShellResizeRequest { number: request.shell_id.number(), size: Some(size(request.cols.get(), request.rows.get())) };
        let call = |mut client: Client| async move { client.shell_resize(resize).await };
        workspace.ask(&record, OPERATION, ANSWER_DEADLINE, call).await?;
        workspace.shell(request.shell_id).await
    }

    /// Closes a shell and returns when it has ended; one that has is left as it is.
    ///
    /// Dropping the future does not call it off.
    ///
    /// # Errors
    /// There is no such workspace or shell, or its machine fails.
    pub async fn close_shell(&self, request: &ShellClose) -> Result<Shell> {
        const OPERATION: &str = "close a shell of";
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let shell = workspace.shell(request.shell_id).await?;
        if shell.state == ShellState::Ended {
            return Ok(shell);
        }
        let close = ShellCloseRequest { number: request.shell_id.number() };
        let call = |mut client: Client| async move { client.shell_close(close).await };
        workspace.ask(&record, OPERATION, CLOSE_DEADLINE, call).await?;
        workspace.shell(request.shell_id).await
    }
}

impl Workspace {
    /// Asks the workspace's supervisor and insists on an answer within `deadline`. Dropping the future calls off nothing that has begun.
    pub(crate) async fn ask<T, F>(
        &self,
        record: &WorkspaceRecord,
        operation: &'static str,
        deadline: Duration,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let machine = self.running_machine(record)?;
        let ask = async {
            let client = self.pyro().supervisor(&machine, operation, self.label()).await?;
            match call(client).await {
                Ok(answer) => Ok(answer.into_inner()),
                Err(status) => Err(self.pyro().call_failed(&machine, operation, self.label(), &status).await),
            }
        };
        self.answered(operation, deadline, ask).await
    }

    pub(crate) async fn shell_record(&self, shell: ShellId) -> Result<ShellRecord> {
        let id = self.id().clone();
        self.pyro().store(move |_, registry| Ok(registry.shell(&id, shell.number())?)).await.map_err(|error| error.about(self.label()))
    }

    /// Returns the row of a shell that runs.
    pub(crate) async fn open_shell_record(&self, shell: ShellId) -> Result<ShellRecord> {
        let record = self.shell_record(shell).await?;
        if record.ended_at_ms.is_some() {
            let ended = Problem::ShellEnded { workspace: self.label().to_owned(), shell: shell.to_string() };
            return Err(Error::from(ended).about(self.label()));
        }
        Ok(record)
    }

    /// Returns what is known of a shell. Does not count as activity.
    ///
    /// # Errors
    /// There is none of this id.
    pub async fn shell(&self, shell: ShellId) -> Result<Shell> {
        let id = self.id().clone();
        self.pyro()
            .store(move |pyro, registry| Ok(describe(pyro.dirs(), &id, &registry.shell(&id, shell.number())?)?))
            .await
            .map_err(|error| error.about(self.label()))
    }

    pub(crate) fn shell_output(&self, shell: ShellId) -> RingReader {
        RingReader::new(shell_ring(self.pyro().dirs(), self.id(), shell.number()))
    }
}

pub(crate) fn size(columns: u64, rows: u64) -> TerminalSize {
    TerminalSize { columns: u32::try_from(columns).unwrap_or(u32::MAX), rows: u32::try_from(rows).unwrap_or(u32::MAX) }
}

/// Names the user of a process.
pub(crate) fn user(stored: &str) -> String {
    if stored.is_empty() { ROOT.to_owned() } else { stored.to_owned() }
}

pub(crate) fn state(record: &ShellRecord) -> ShellState {
    if record.ended_at_ms.is_some() { ShellState::Ended } else { ShellState::Open }
}

/// Tells what the registry and the disk know of a shell.
fn describe(dirs: &Dirs, workspace: &WorkspaceId, record: &ShellRecord) -> StoreResult<Shell> {
    let (_, cursor) = RingReader::new(shell_ring(dirs, workspace, record.number)).range()?;
    Ok(Shell {
        workspace_id: workspace.to_string(),
        shell_id: ShellId::new(record.number).to_string(),
        state: state(record),
        command: Some(record.command.clone()).filter(|command| !command.is_empty()),
        cwd: record.cwd.clone(),
        user: user(&record.user),
        cols: record.columns,
        rows: record.rows,
        cursor,
        exit_code: record.exit_code,
        end_reason: record.end_reason.clone(),
        opened_at: rfc3339(record.opened_at_ms),
        ended_at: record.ended_at_ms.map(rfc3339),
    })
}
