//! Keeps the beginning and the end of output of any length in bounded memory.

use std::collections::VecDeque;

use crate::{ExecEvent, limits::MaxOutputBytes};

/// Output of one stream.
#[derive(Debug)]
pub(crate) struct HeadTail {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl HeadTail {
    fn new(limit: usize) -> Self {
        Self { half: limit.div_ceil(2), head: Vec::new(), tail: VecDeque::new(), total: 0 }
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = (self.half - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        bytes = &bytes[room..];
        // Of a piece longer than the tail only its end can stay.
        let bytes = &bytes[bytes.len().saturating_sub(self.half)..];
        let excess = (self.tail.len() + bytes.len()).saturating_sub(self.half);
        self.tail.drain(..excess);
        self.tail.extend(bytes);
    }

    fn held(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Returns the output as text of at most about `budget` bytes, and whether some of it was left out.
    fn text(mut self, budget: usize) -> (String, bool) {
        let complete = self.total == self.held() as u64;
        let tail = self.tail.make_contiguous();
        if complete && self.head.len() + tail.len() <= budget {
            self.head.extend_from_slice(tail);
            return (String::from_utf8_lossy(&self.head).into_owned(), false);
        }
        let mut held = self.head;
        held.extend_from_slice(tail);
        let (first, last) = (budget.div_ceil(2).min(held.len()), (budget / 2).min(held.len()));
        let (head, tail) = (cut_end(&held[..first]), cut_start(&held[held.len() - last..]));
        let left_out = self.total - (head.len() + tail.len()) as u64;
        let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        (format!("{head}\n[… {left_out} bytes left out …]\n{tail}"), true)
    }
}

/// Drops the beginning of a character at the end.
fn cut_end(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        // No error length: the text ends inside a character.
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        Ok(_) | Err(_) => bytes,
    }
}

/// Drops the end of a character at the start.
fn cut_start(bytes: &[u8]) -> &[u8] {
    let continuation = bytes.iter().take(3).take_while(|&&byte| byte & 0b1100_0000 == 0b1000_0000).count();
    &bytes[continuation..]
}

/// Output of both streams of a command, sharing one limit.
#[derive(Debug)]
pub struct Collected {
    limit: usize,
    pub(crate) stdout: HeadTail,
    pub(crate) stderr: HeadTail,
}

/// Output as an answer carries it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) stdout_bytes: u64,
    pub(crate) stderr_bytes: u64,
    pub(crate) truncated: bool,
}

impl Collected {
    /// Begins with nothing.
    #[must_use]
    pub fn new(limit: MaxOutputBytes) -> Self {
        let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
        Self { limit, stdout: HeadTail::new(limit), stderr: HeadTail::new(limit) }
    }

    /// Takes the output an event carries.
    pub fn push(&mut self, event: &ExecEvent) {
        match event {
            ExecEvent::Stdout(bytes) => self.stdout.push(bytes),
            ExecEvent::Stderr(bytes) => self.stderr.push(bytes),
            ExecEvent::Exited(_) => {}
        }
    }

    /// Shares the limit: a stream that needs less than half leaves the rest to the other one.
    pub(crate) fn finish(self) -> Output {
        let half = self.limit / 2;
        let need = |stream: &HeadTail| usize::try_from(stream.total).unwrap_or(usize::MAX);
        let stderr_budget = need(&self.stderr).min(half.max(self.limit.saturating_sub(need(&self.stdout))));
        let stdout_budget = self.limit - stderr_budget;
        let (stdout_bytes, stderr_bytes) = (self.stdout.total, self.stderr.total);
        let (stdout, stdout_cut) = self.stdout.text(stdout_budget);
        let (stderr, stderr_cut) = self.stderr.text(stderr_budget);
        Output { stdout, stderr, stdout_bytes, stderr_bytes, truncated: stdout_cut || stderr_cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limit: u64, stdout: &[&[u8]], stderr: &[&[u8]], expected: (&str, &str, bool)) {
        let mut collected = Collected::new(MaxOutputBytes::new(limit).unwrap());
        stdout.iter().for_each(|bytes| collected.stdout.push(bytes));
        stderr.iter().for_each(|bytes| collected.stderr.push(bytes));
        let output = collected.finish();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.truncated), expected);
    }

    #[test]
    fn what_fits_is_kept_whole_whatever_its_pieces() {
        check(8, &[b"abcd", b"efgh"], &[], ("abcdefgh", "", false));
        check(8, &[b"abcdefgh"], &[], ("abcdefgh", "", false));
        check(7, &[b"a", b"bcdef", b"g"], &[], ("abcdefg", "", false));
        check(8, &[b"abcd"], &[b"efgh"], ("abcd", "efgh", false));
        check(1, &[], &[], ("", "", false));
    }

    #[test]
    fn beginning_and_end_are_kept_of_what_does_not_fit() {
        check(4, &[b"abcdefgh"], &[], ("ab\n[… 4 bytes left out …]\ngh", "", true));
        check(4, &[b"a", b"b", b"c", b"d", b"e"], &[], ("ab\n[… 1 bytes left out …]\nde", "", true));
    }

    #[test]
    fn silent_stream_leaves_its_share_to_the_other() {
        check(8, &[b"abcdefgh"], &[b"xy"], ("abc\n[… 2 bytes left out …]\nfgh", "xy", true));
        check(8, &[b"a"], &[b"0123456789"], ("a", "0123\n[… 3 bytes left out …]\n789", true));
    }

    #[test]
    fn characters_are_not_cut_in_two() {
        check(6, &["äöüäöü".as_bytes()], &[], ("ä\n[… 8 bytes left out …]\nü", "", true));
    }

    #[test]
    fn memory_stays_bounded() {
        let mut stream = HeadTail::new(10);
        (0..1000).for_each(|_| stream.push(&[b'x'; 100]));
        assert_eq!((stream.held(), stream.total), (10, 100_000));
    }
}
