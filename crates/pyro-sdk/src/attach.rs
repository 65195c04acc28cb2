//! A person's terminal at a shell: what it shows now, then what comes, and what is typed.
//!
//! The picture is made here, from the shell's ring up to a position, and the supervisor sends what follows that position: nothing is shown
//! twice and nothing is missed.

use bytes::Bytes;
use pyro_proto::{
    limits::{OUTPUT_CHUNK_BYTES, TERMINAL_COLUMNS, TERMINAL_ROWS},
    v1::{ShellAttachInput, ShellAttachOutput, ShellAttachStart, TerminalSize as WireSize, shell_attach_input, shell_attach_output},
};
use pyro_store::MachineId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{CommandExit, Workspace, client::blocking, error::Result, exec::ANSWER_DEADLINE, screen, text::ShellId};

/// Pieces of input on their way to a shell; with their size this bounds what a slow one makes its client hold.
const INPUT_QUEUE: usize = 8;
const OPERATION: &str = "attach to a shell of";

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    columns: u16,
    rows: u16,
}

impl TerminalSize {
    /// Takes the size of a person's terminal, or what is accepted that comes nearest.
    #[must_use]
    pub fn nearest(columns: u16, rows: u16) -> Self {
        let within = |value: u16, range: std::ops::RangeInclusive<u32>| {
            u16::try_from(u32::from(value).clamp(*range.start(), *range.end())).unwrap_or(u16::MAX)
        };
        Self { columns: within(columns, TERMINAL_COLUMNS), rows: within(rows, TERMINAL_ROWS) }
    }

    /// Returns the width.
    #[must_use]
    pub const fn columns(self) -> u16 {
        self.columns
    }

    /// Returns the height.
    #[must_use]
    pub const fn rows(self) -> u16 {
        self.rows
    }
}

impl From<TerminalSize> for WireSize {
    fn from(size: TerminalSize) -> Self {
        Self { columns: size.columns.into(), rows: size.rows.into() }
    }
}

/// What a shell did that a terminal is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellEvent {
    /// It showed something.
    Output(Bytes),
    /// It ended; nothing follows.
    Ended(CommandExit),
}

/// Types into a shell. Clones type into the same one. Every call waits while the shell takes nothing; once it has ended they do nothing.
#[derive(Debug, Clone)]
pub struct ShellKeyboard(mpsc::Sender<ShellAttachInput>);

impl ShellKeyboard {
    async fn send(&self, input: shell_attach_input::Input) {
        // A shell that has ended reads nothing more; its exit tells the rest.
        drop(self.0.send(ShellAttachInput { input: Some(input) }).await);
    }

    /// Types bytes, as the keys of a terminal send them.
    pub async fn write(&self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(OUTPUT_CHUNK_BYTES));
            self.send(shell_attach_input::Input::Data(piece)).await;
        }
    }

    /// Tells that the terminal has another size.
    pub async fn resize(&self, size: TerminalSize) {
        self.send(shell_attach_input::Input::Resize(size.into())).await;
    }
}

/// A terminal at a shell. Dropping it detaches: the shell goes on.
#[derive(Debug)]
pub struct ShellSession {
    /// What to write to a terminal that shows nothing, so that it shows what the shell's does.
    pub initial: Vec<u8>,
    keyboard: ShellKeyboard,
    output: tonic::Streaming<ShellAttachOutput>,
    machine: MachineId,
    workspace: Workspace,
    ended: bool,
}

impl ShellSession {
    /// Returns a handle to type with.
    #[must_use]
    pub fn keyboard(&self) -> ShellKeyboard {
        self.keyboard.clone()
    }

    /// Types bytes; see [`ShellKeyboard::write`].
    pub async fn write(&self, bytes: Bytes) {
        self.keyboard.write(bytes).await;
    }

    /// Tells that the terminal has another size.
    pub async fn resize(&self, size: TerminalSize) {
        self.keyboard.resize(size).await;
    }

    /// Waits for what the shell does next; `None` after its end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The machine went away.
    pub async fn next(&mut self) -> Result<Option<ShellEvent>> {
        loop {
            let message = match self.output.message().await {
                Ok(message) => message,
                Err(status) => {
                    return Err(self.workspace.pyro().call_failed(&self.machine, OPERATION, self.workspace.label(), &status).await);
                }
            };
            return match message.map(|message| message.output) {
                Some(Some(shell_attach_output::Output::Data(bytes))) => Ok(Some(ShellEvent::Output(bytes))),
                Some(Some(shell_attach_output::Output::Exit(exit))) => {
                    self.ended = true;
                    Ok(Some(ShellEvent::Ended(exit.into())))
                }
                // Of a newer supervisor.
                Some(None) => continue,
                None if self.ended => Ok(None),
                None => {
                    let ended = tonic::Status::unavailable("the call ended before the shell did");
                    Err(self.workspace.pyro().call_failed(&self.machine, OPERATION, self.workspace.label(), &ended).await)
                }
            };
        }
    }
}

impl Workspace {
    /// Attaches a terminal of a size to a shell; the shell's own gets that size, too.
    ///
    /// Dropping the future leaves the shell as it was, but maybe with another size.
    ///
    /// # Errors
    /// The workspace does not run, or the shell has ended.
    pub async fn attach_shell(&self, shell: ShellId, size: TerminalSize) -> Result<ShellSession> {
        let record = self.record().await?;
        let machine = self.running_machine(&record)?;
        let row = self.open_shell_record(shell).await?;
        let output = self.shell_output(shell);
        let picture = blocking(move || screen::picture(&output, (row.columns, row.rows), (size.columns, size.rows))).await?;
        let (sender, receiver) = mpsc::channel(INPUT_QUEUE);
        let keyboard = ShellKeyboard(sender);
        let start = ShellAttachStart { number: shell.number(), cursor: picture.cursor, size: Some(size.into()) };
        keyboard.send(shell_attach_input::Input::Start(start)).await;
        let call = async {
            let mut client = self.pyro().supervisor(&machine, OPERATION, self.label()).await?;
            match client.shell_attach(ReceiverStream::new(receiver)).await {
                Ok(response) => Ok(response.into_inner()),
                Err(status) => Err(self.pyro().call_failed(&machine, OPERATION, self.label(), &status).await),
            }
        };
        let output = self.answered(OPERATION, ANSWER_DEADLINE, call).await?;
        Ok(ShellSession { initial: picture.bytes, keyboard, output, machine: machine.clone(), workspace: self.clone(), ended: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_no_terminal_of_a_workspace_can_have_are_brought_near() {
        let size = |columns, rows| {
            let size = TerminalSize::nearest(columns, rows);
            (size.columns(), size.rows())
        };
        assert_eq!(size(0, 0), (20, 5));
        assert_eq!(size(80, 24), (80, 24));
        assert_eq!(size(9999, 9999), (500, 200));
    }
}
