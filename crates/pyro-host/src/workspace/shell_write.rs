//! What is written to a shell: keys that are typed, text that is pasted, and lines that a terminal would cut without a word.
//!
//! **Pasting.** A line editor takes a typed tab for completion and a typed newline for Enter. One that has asked for bracketed paste takes
//! text between two sequences as text. So text that holds tabs or newlines goes in between them where the program has asked, and as it is
//! to all others, as tmux's `paste-buffer -p` does. A newline is sent as the Enter key sends it, which is what every terminal does and what
//! programs are tried with.
//!
//! **Lines.** A terminal that makes lines of what is typed keeps 4095 bytes of one and drops the rest (termios(3), "Canonical mode"). Such
//! a line is refused.
//!
//! Both need to know what the program at the terminal wants, so a write that could go either way waits until the shell is at its prompt
//! or a program has become quiet. That is as much as can be known: a program says nothing when it has read its input.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pyro_proto::{
    limits::SHELL_INPUT_MAX_BYTES,
    v1::{ShellWriteAnswer, ShellWriteRequest, TerminalState},
};

use super::{Supervisor, shells::Shell};
use crate::{
    error::{HostError, HostResult},
    lock,
};

/// Most bytes of a line: `N_TTY_BUF_SIZE` of `drivers/tty/n_tty.c`, less its end.
const LINE_MAX_BYTES: usize = 4095;
/// How long a write waits for the shell to have read the one before. Scripts of many commands are typed ahead, and need not be waited for.
const SETTLE_DEADLINE: Duration = Duration::from_secs(2);
/// How long after a write and after its last output a program is believed to have said what it wants.
const SETTLE_QUIET: Duration = Duration::from_millis(100);
const PASTE_BEGIN: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

impl Supervisor {
    /// Writes to a shell.
    pub(super) async fn write_shell(&self, request: ShellWriteRequest) -> HostResult<ShellWriteAnswer> {
        self.not_paused()?;
        let input = request.input;
        if input.len() > SHELL_INPUT_MAX_BYTES {
            return Err(HostError::Invalid { problem: format!("one write to a shell carries at most {SHELL_INPUT_MAX_BYTES} bytes") });
        }
        let shell = self.shell(request.number)?;
        let text = &input[..input.len().min(usize::try_from(request.text_bytes).unwrap_or(usize::MAX))];
        // Keys within it would become text.
        let text = if text.contains(&0x1b) { &[][..] } else { text };
        let longest = longest_line(shell.line_bytes(), &input);
        let mut pasted = false;
        if !text.is_empty() || longest > LINE_MAX_BYTES {
            let terminal = shell.settled().await;
            pasted = !text.is_empty() && terminal.bracketed_paste;
            if terminal.canonical && !pasted && longest > LINE_MAX_BYTES {
                return Err(HostError::LineTooLong { bytes: longest, maximum: LINE_MAX_BYTES });
            }
        }
        let end_cursor = shell.end();
        let bytes = if pasted { Bytes::from([PASTE_BEGIN, &as_pasted(text), PASTE_END, &input[text.len()..]].concat()) } else { input };
        shell.write(bytes).await?;
        lock(&self.registry).touch_workspace(self.adopted()?)?;
        self.activity.notify_waiters();
        Ok(ShellWriteAnswer { end_cursor, pasted })
    }
}

impl Shell {
    /// Waits until it is known what the program at the terminal wants, or no longer.
    async fn settled(&self) -> TerminalState {
        let mut changes = self.progress.subscribe();
        let patience = Instant::now() + SETTLE_DEADLINE;
        loop {
            let progress = changes.borrow_and_update().clone();
            let now = Instant::now();
            let terminal = progress.terminal;
            let starts_until = progress.starts_until.filter(|&until| now < until);
            let deadline = starts_until.map_or(patience, |until| until.max(patience));
            let quiet_at = progress.last_output.max(progress.last_input) + SETTLE_QUIET;
            let is_read = self.has_taken_all(&progress) && starts_until.is_none();
            let settled = is_read && (terminal.prompt || terminal.program && now >= quiet_at);
            if settled || progress.ended.is_some() || now >= deadline {
                return terminal;
            }
            let next = if is_read && terminal.program { quiet_at.min(deadline) } else { deadline };
            // Its sender lives as long as the shell.
            drop(tokio::time::timeout_at(next.into(), changes.changed()).await);
        }
    }
}

/// Returns text as a terminal pastes it: every newline is what Enter sends.
fn as_pasted(text: &[u8]) -> Vec<u8> {
    let mut pasted = Vec::with_capacity(text.len());
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && text[at - 1] == b'\r' => {}
            b'\n' => pasted.push(b'\r'),
            byte => pasted.push(byte),
        }
    }
    pasted
}

/// Tells whether a byte ends the line of a terminal that makes lines, or makes it begin anew.
const fn ends_line(byte: u8) -> bool {
    byte < b' ' && byte != b'\t'
}

/// Returns the bytes of the longest line that comes of `input` behind a line of `before` bytes.
fn longest_line(before: usize, input: &[u8]) -> usize {
    let lines = input.split(|&byte| ends_line(byte)).map(<[u8]>::len);
    lines.enumerate().map(|(index, length)| if index == 0 { before + length } else { length }).max().unwrap_or(before)
}

/// Returns the bytes of the line that `input` leaves without an end.
pub(super) fn open_line(before: usize, input: &[u8]) -> usize {
    match input.iter().rposition(|&byte| ends_line(byte)) {
        Some(end) => input.len() - end - 1,
        None => before.saturating_add(input.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newlines_are_pasted_as_enter_sends_them() {
        for (text, expected) in
            [(&b"a\n\tb\n"[..], &b"a\r\tb\r"[..]), (b"a\r\nb", b"a\rb"), (b"\n\n", b"\r\r"), (b"\xc3\xa4\t", b"\xc3\xa4\t"), (b"", b"")]
        {
            assert_eq!(as_pasted(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn lines_are_measured_across_writes() {
        for (before, input, longest, open) in [
            (0, &b"abc"[..], 3, 3),
            (2, b"abc", 5, 5),
            (2, b"abc\r", 5, 0),
            (2, b"a\nbcdef\ng\tg", 5, 3),
            (9, b"\x03ab", 9, 2),
            (0, b"", 0, 0),
        ] {
            assert_eq!((longest_line(before, input), open_line(before, input)), (longest, open), "{before} {}", input.escape_ascii());
        }
    }
}
