//! What shells have shown, from their rings: the raw stream or what a person would see. A shell that runs can be waited for first.

use std::time::Duration;

use pyro_proto::v1::{QuietReason, ShellWaitAnswer, ShellWaitRequest};
use pyro_store::{RingReader, ShellRecord, WorkspaceRecord};

use crate::{
    Pyro, Workspace,
    client::{Reap, blocking},
    contract::{ShellRead, ShellReadAnswer, ShellWait},
    error::Result,
    exec::ANSWER_DEADLINE,
    ring::{self, Amount, Stream},
    screen,
    service_logs::beyond,
    shell::state,
    supervisor::Client,
    text::ShellId,
};

/// How long a supervisor may take to say what runs in a shell that is not waited for. What it showed is told all the same.
const GLANCE_DEADLINE: Duration = Duration::from_secs(2);

impl Pyro {
    /// Reads what a shell has shown, from a position on. Does not count as activity; a shell that has ended needs no machine.
    ///
    /// # Errors
    /// There is no such workspace or shell, the cursor lies beyond the end, or the machine fails while the shell is waited for.
    pub async fn read_shell(&self, request: &ShellRead) -> Result<ShellReadAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let shell = workspace.shell_record(request.shell_id).await?;
        let quiet = workspace.look_at(&record, &shell, request).await?;
        // It may have ended meanwhile.
        let shell = workspace.shell_record(request.shell_id).await?;
        let stream = if shell.ended_at_ms.is_some() { Stream::HasEnded } else { Stream::GoesOn };
        let output = workspace.shell_output(request.shell_id);
        let (cursor, max_chars, fallback) = (request.cursor, request.max_chars.get(), (shell.columns, shell.rows));
        let part = if request.plain {
            blocking(move || screen::read_plain(&output, cursor, max_chars, fallback)).await?
        } else {
            blocking(move || raw(&output, cursor, max_chars, stream)).await?
        };
        if cursor > part.text.end_cursor {
            return Err(
                beyond(&format!("what shell `{}` has shown", request.shell_id), cursor, part.text.end_cursor).about(workspace.label())
            );
        }
        let waited = request.wait_for_idle_ms.is_some();
        Ok(ShellReadAnswer {
            workspace_id: record.id.to_string(),
            shell_id: request.shell_id.to_string(),
            state: state(&shell),
            cwd: shell.cwd,
            cols: shell.columns,
            rows: shell.rows,
            cursor: part.text.cursor,
            next_cursor: part.text.next_cursor,
            end_cursor: part.text.end_cursor,
            truncated: part.text.cut,
            output: part.text.text,
            truncated_before: part.text.truncated_before,
            plain: request.plain,
            full_screen: part.full_screen,
            wait: quiet.as_ref().filter(|_| waited).and_then(|quiet| wait(quiet.reason())),
            program: quiet.as_ref().map(|quiet| quiet.program),
            prompt: quiet.as_ref().map(|quiet| quiet.prompt),
            exit_code: shell.exit_code,
        })
    }
}

/// A part of what a shell has shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) text: ring::Text,
    pub(crate) full_screen: bool,
}

fn raw(output: &RingReader, cursor: u64, max_chars: u64, stream: Stream) -> Result<Part> {
    let text = ring::read_text(output, cursor, Amount::Characters(max_chars), stream)?;
    Ok(Part { text, full_screen: false })
}

fn wait(reason: QuietReason) -> Option<ShellWait> {
    match reason {
        QuietReason::Idle => Some(ShellWait::Idle),
        QuietReason::Prompt => Some(ShellWait::Prompt),
        QuietReason::Timeout => Some(ShellWait::Timeout),
        QuietReason::Ended => Some(ShellWait::Ended),
        QuietReason::Unspecified => None,
    }
}

impl Workspace {
    /// Waits for a shell as the request says, or only asks what runs in it. `None` when nobody says.
    async fn look_at(&self, record: &WorkspaceRecord, shell: &ShellRecord, request: &ShellRead) -> Result<Option<ShellWaitAnswer>> {
        let ended = || ShellWaitAnswer { reason: QuietReason::Ended.into(), ..ShellWaitAnswer::default() };
        if shell.ended_at_ms.is_some() {
            return Ok(Some(ended()));
        }
        if self.running_machine(record).is_err() {
            return Ok(None);
        }
        let Some(idle) = request.wait_for_idle_ms else {
            return Ok(self.wait_for_shell(record, request.shell_id, 0, 0, GLANCE_DEADLINE).await.ok());
        };
        let timeout = request.yield_after_ms.get();
        let deadline = Duration::from_millis(timeout) + ANSWER_DEADLINE;
        let waited = self.wait_for_shell(record, request.shell_id, idle.get(), timeout, deadline).await;
        match waited {
            Ok(answer) => Ok(Some(answer)),
            // It may have ended, with its machine or without, before it was asked: what it showed can be read all the same.
            Err(error) => match self.shell_record(request.shell_id).await {
                Ok(shell) if shell.ended_at_ms.is_some() => Ok(Some(ended())),
                Ok(_) | Err(_) => Err(error),
            },
        }
    }

    async fn wait_for_shell(
        &self,
        record: &WorkspaceRecord,
        shell: ShellId,
        idle_ms: u64,
        timeout_ms: u64,
        deadline: Duration,
    ) -> Result<ShellWaitAnswer> {
        let wait = ShellWaitRequest { number: shell.number(), idle_ms, timeout_ms };
        let call = |mut client: Client| async move { client.shell_wait(wait).await };
        self.ask(record, "wait for a shell of", deadline, call).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ErrorKind, contract::ShellState, testing::Home};

    async fn read(home: &Home, shell: u64, more: serde_json::Value) -> Result<ShellReadAnswer> {
        let mut request = json!({ "workspace": "api", "shell_id": ShellId::new(shell).to_string() });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        home.pyro.read_shell(&serde_json::from_value(request).unwrap()).await
    }

    #[tokio::test]
    async fn a_shell_without_a_machine_is_read_as_it_is() {
        let home = Home::new().await;
        let before = home.workspace.status().await.unwrap().last_activity_at;
        let shell = home.add_shell("$ \x1b[1mä\r\n€".as_bytes(), Some(2));
        let whole = read(&home, shell, json!({ "wait_for_idle_ms": 300 })).await.unwrap();
        assert_eq!((whole.output.as_str(), whole.cursor, whole.next_cursor, whole.end_cursor), ("$ \x1b[1mä\r\n€", 0, 13, 13));
        assert_eq!(
            (whole.state, whole.exit_code, whole.wait, whole.program),
            (ShellState::Ended, Some(2), Some(ShellWait::Ended), Some(false))
        );
        assert_eq!((whole.cols, whole.rows, whole.plain, whole.truncated), (80, 24, false, false));
        let part = read(&home, shell, json!({ "cursor": 6, "max_chars": 1 })).await.unwrap();
        assert_eq!((part.output.as_str(), part.next_cursor, part.truncated), ("ä", 8, true));
        let end = read(&home, shell, json!({ "cursor": 13 })).await.unwrap();
        assert_eq!((end.output.as_str(), end.next_cursor), ("", 13));
        let after = home.workspace.status().await.unwrap();
        // Its end was an activity, and reading it was none.
        assert!(after.last_activity_at >= before && after.open_shell_count == 0);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused() {
        let home = Home::new().await;
        let missing = read(&home, 7, json!({})).await.unwrap_err();
        assert_eq!(
            (missing.kind(), missing.hint().as_str()),
            (ErrorKind::NotFound, "see the shells it has with `pyro workspace shell list api`")
        );
        let shell = home.add_shell(b"$ ", Some(0));
        for plain in [false, true] {
            let beyond = read(&home, shell, json!({ "cursor": 3, "plain": plain })).await.unwrap_err();
            assert_eq!(
                (beyond.kind(), beyond.to_string().as_str()),
                (ErrorKind::InvalidArgument, "what shell `sh1` has shown ends at 2, which lies before 3")
            );
        }
    }

    #[tokio::test]
    async fn a_shell_that_has_ended_takes_no_input_and_is_closed_already() {
        let home = Home::new().await;
        home.add_shell(b"$ ", Some(0));
        let write = json!({ "workspace": "api", "shell_id": "sh1", "input": "ls" });
        let ended = home.pyro.write_shell(serde_json::from_value(write).unwrap()).await.unwrap_err();
        assert_eq!((ended.kind(), ended.to_string().as_str()), (ErrorKind::WrongState, "shell `sh1` of workspace `api` has ended"));
        let close = json!({ "workspace": "api", "shell_id": "1" });
        let closed = home.pyro.close_shell(&serde_json::from_value(close).unwrap()).await.unwrap();
        assert_eq!((closed.state, closed.cursor, closed.user.as_str()), (ShellState::Ended, 2, "root"));
    }
}
