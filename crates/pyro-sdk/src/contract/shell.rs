//! Operations on shells: terminals in a workspace that stay between calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::operation;
use crate::{
    limits::{IdleMs, ReadChars, TerminalColumns, TerminalRows, YieldAfterMs},
    text::{GuestLine, GuestPath, GuestUser, SecretVariable, ShellId, ShellInput, ShellSignal, WorkspaceReference},
};

/// Whether a shell runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ShellState {
    /// It does
    Open,
    /// It does not; its output can still be read
    Ended,
}

impl ShellState {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ended => "ended",
        }
    }
}

/// Why waiting for a shell came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ShellWait {
    /// It was quiet for as long as was asked for
    Idle,
    /// It waits for input
    Prompt,
    /// The time for waiting was over
    Timeout,
    /// It has ended
    Ended,
}

impl ShellWait {
    /// Returns the name used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Prompt => "prompt",
            Self::Timeout => "timeout",
            Self::Ended => "ended",
        }
    }
}

/// A shell of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shell {
    /// Id of the workspace
    pub workspace_id: String,
    /// `sh` and its number in the workspace
    pub shell_id: String,
    /// Whether it runs
    pub state: ShellState,
    /// The line it runs; absent when it is the user's shell itself
    pub command: Option<String>,
    /// Folder it began in
    pub cwd: String,
    /// Whose it is
    pub user: String,
    /// Width of its terminal
    pub cols: u16,
    /// Height of its terminal
    pub rows: u16,
    /// Where its output ends: a byte of the raw stream
    pub cursor: u64,
    /// As a shell reports it; absent while it runs, and when it did not end by itself
    pub exit_code: Option<i32>,
    /// Why it ended when it did not exit by itself
    pub end_reason: Option<String>,
    /// When it was opened
    pub opened_at: String,
    /// When it ended
    pub ended_at: Option<String>,
}

/// Open a shell in a workspace: a terminal that stays between calls
///
/// It is a login shell at a terminal of its own. Write to it, read what it shows, and close it when it is of no more use; what goes on in
/// it goes on while nobody looks. At most 32 are open in a workspace.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ShellOpen {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// Folder in the guest, absolute or relative to `/workspace`
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH", default_value_t))]
    pub cwd: GuestPath,
    /// Width of the terminal: 20 to 500
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub cols: TerminalColumns,
    /// Height of the terminal: 5 to 200
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub rows: TerminalRows,
    /// Line for the user's shell to run instead of reading from the terminal; the shell ends with it
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LINE"))]
    pub command: Option<GuestLine>,
    /// User in the guest, by name or number; root by default
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub user: Option<GuestUser>,
    /// Secret that it gets as a variable: `NAME`, or `NAME=VARIABLE`
    #[serde(default)]
    #[schemars(extend("x-pyro-profile" = "full"))]
    #[cfg_attr(feature = "cli", arg(long = "secret-env", value_name = "NAME[=VARIABLE]"))]
    pub secret_env: Vec<SecretVariable>,
    /// Turn bash's history expansion off, so that `!` is an ordinary character; always off in shells that MCP opens
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_history_expansion: bool,
}

/// List a workspace's shells, those that have ended too
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ShellList {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
}

/// A workspace's shells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShellListAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// The shells, oldest first
    pub shells: Vec<Shell>,
}

/// Read what a shell has shown
///
/// Reads from `cursor` on, and answers the cursor to read on from. With `wait_for_idle_ms` it first waits until the shell is quiet, at its
/// prompt, or at its end. `plain` shows what a person would see: no escapes, overwritten and erased text gone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ShellRead {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// The shell: `sh1`, or its number
    #[cfg_attr(feature = "cli", arg(value_name = "SHELL"))]
    pub shell_id: ShellId,
    /// Byte of the raw stream to read on from; `next_cursor` of the answer before
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BYTE", default_value_t))]
    pub cursor: u64,
    /// Most characters in one answer: 1 to 1048576
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t))]
    pub max_chars: ReadChars,
    /// What a person would see on the screen, instead of the raw stream
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub plain: bool,
    /// First wait until there was no output for so many milliseconds: 10 to 10000; 300 suits a chat
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MS"))]
    pub wait_for_idle_ms: Option<IdleMs>,
    /// How long waiting may take, in milliseconds: 1000 to 55000
    #[serde(default = "YieldAfterMs::call")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "MS", default_value_t = YieldAfterMs::call()))]
    pub yield_after_ms: YieldAfterMs,
}

/// What a shell has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShellReadAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// `sh` and its number in the workspace
    pub shell_id: String,
    /// Whether it runs
    pub state: ShellState,
    /// Folder it began in
    pub cwd: String,
    /// Width of its terminal
    pub cols: u16,
    /// Height of its terminal
    pub rows: u16,
    /// Byte of the raw stream at which the output begins
    pub cursor: u64,
    /// Byte to read on from
    pub next_cursor: u64,
    /// Byte at which the stream ends now
    pub end_cursor: u64,
    /// What was shown; bytes that are not UTF-8 are replaced
    pub output: String,
    /// Whether there is more between `next_cursor` and `end_cursor` that did not fit
    pub truncated: bool,
    /// Oldest byte that is kept, when older ones were asked for
    pub truncated_before: Option<u64>,
    /// Whether the output is what a person would see, rather than the raw stream
    pub plain: bool,
    /// Whether a program has the whole screen, as an editor does; the output is then the screen. Only when it is plain
    pub full_screen: bool,
    /// Why waiting came to its end; absent when there was no waiting
    pub wait: Option<ShellWait>,
    /// Whether a program runs in the foreground; absent when the machine was not asked
    pub program: Option<bool>,
    /// Whether the shell waits for input; absent when the machine was not asked
    pub prompt: Option<bool>,
    /// As a shell reports it; absent while it runs, and when it did not end by itself
    pub exit_code: Option<i32>,
}

/// Write to a shell, as if it were typed
///
/// Text that holds tabs or newlines is pasted if the program has asked for bracketed paste, as line editors do, and typed otherwise. Newlines
/// at its end are Enter, and without Enter behind it a tab at its end is the Tab key. Input that holds other control characters, a carriage
/// return among them, is keys and is typed as it is. A line of more than 4095 bytes for a program that reads whole lines is refused, since the
/// terminal would drop the rest.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ShellWrite {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// The shell: `sh1`, or its number
    #[cfg_attr(feature = "cli", arg(value_name = "SHELL"))]
    pub shell_id: ShellId,
    /// What is typed: at most 1 MiB
    #[cfg_attr(feature = "cli", arg(long, value_name = "TEXT", allow_hyphen_values = true))]
    pub input: ShellInput,
    /// Leave the Enter at its end away
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long))]
    pub no_newline: bool,
}

/// Input that is on its way to a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShellWriteAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// `sh` and its number in the workspace
    pub shell_id: String,
    /// Where its output ended before the input reached it: read on from here
    pub cursor: u64,
    /// Bytes that were written, with the Enter
    pub bytes_written: u64,
    /// Whether the text was pasted rather than typed
    pub pasted: bool,
}

/// Send a signal to what runs in a shell's foreground
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ShellSignalRequest {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// The shell: `sh1`, or its number
    #[cfg_attr(feature = "cli", arg(value_name = "SHELL"))]
    pub shell_id: ShellId,
    /// INT, TERM, KILL, HUP, QUIT, TSTP, CONT, USR1, USR2 or WINCH
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIGNAL", default_value_t))]
    pub signal: ShellSignal,
}

/// A signal that is on its way to a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShellSignalAnswer {
    /// Id of the workspace
    pub workspace_id: String,
    /// `sh` and its number in the workspace
    pub shell_id: String,
    /// The signal
    pub signal: String,
}

/// Give a shell's terminal another size
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ShellResize {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// The shell: `sh1`, or its number
    #[cfg_attr(feature = "cli", arg(value_name = "SHELL"))]
    pub shell_id: ShellId,
    /// Width of the terminal: 20 to 500
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub cols: TerminalColumns,
    /// Height of the terminal: 5 to 200
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub rows: TerminalRows,
}

/// Close a shell: its terminal is hung up, and what runs in it ends
///
/// Its output can still be read. Closing one that has ended is harmless.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct ShellClose {
    /// Workspace: its name, its id, or the beginning of its id
    #[cfg_attr(feature = "cli", arg(value_name = "WORKSPACE"))]
    pub workspace: WorkspaceReference,
    /// The shell: `sh1`, or its number
    #[cfg_attr(feature = "cli", arg(value_name = "SHELL"))]
    pub shell_id: ShellId,
}

operation!(ShellOpen => Shell, "shell_open", cli: ["workspace", "shell", "open"], python: Some("open_shell"),
    mcp: Some("shell_open"), Full, Changes, Counts, |request, pyro, _observer| pyro.open_shell(request));
operation!(ShellList => ShellListAnswer, "shell_list", cli: ["workspace", "shell", "list"], python: Some("list_shells"),
    mcp: Some("shell_list"), Full, Reads, Harmless, |request, pyro, _observer| pyro.list_shells(&request));
operation!(ShellRead => ShellReadAnswer, "shell_read", cli: ["workspace", "shell", "read"], python: Some("read_shell"),
    mcp: Some("shell_read"), Full, Reads, Harmless, |request, pyro, _observer| pyro.read_shell(&request));
operation!(ShellWrite => ShellWriteAnswer, "shell_write", cli: ["workspace", "shell", "write"], python: Some("write_shell"),
    mcp: Some("shell_write"), Full, Changes, Counts, |request, pyro, _observer| pyro.write_shell(request));
operation!(ShellSignalRequest => ShellSignalAnswer, "shell_signal", cli: ["workspace", "shell", "signal"], python: Some("signal_shell"),
    mcp: Some("shell_signal"), Full, Destroys, Counts, |request, pyro, _observer| pyro.signal_shell(&request));
operation!(ShellResize => Shell, "shell_resize", cli: ["workspace", "shell", "resize"], python: Some("resize_shell"),
    mcp: Some("shell_resize"), Full, Changes, Harmless, |request, pyro, _observer| pyro.resize_shell(&request));
operation!(ShellClose => Shell, "shell_close", cli: ["workspace", "shell", "close"], python: Some("close_shell"),
    mcp: Some("shell_close"), Full, Destroys, Harmless, |request, pyro, _observer| pyro.close_shell(&request));
