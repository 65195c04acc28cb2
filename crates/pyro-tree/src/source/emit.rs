//! The one way from a source to its sink: counts, remembers what was left out, and tells a failed read from a failed sink.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{LEFT_OUT_MAX, LeftOut, NOTES_MAX, Note, OriginKind, Sink, SourceError, SourceReport};
use crate::{
    entry::{Entry, EntryKind, MODE_MASK, Timestamp},
    path::{TreePath, printable_cut},
};

/// Longest note, in bytes: names in it are a repository's.
const NOTE_MAX_BYTES: usize = 1000;
/// Longest path shown in a report, in bytes.
const SHOWN_MAX_BYTES: usize = 300;

pub(super) struct Emitter<'a, S: Sink> {
    sink: &'a mut S,
    strict: bool,
    pub(super) report: SourceReport,
}

impl<'a, S: Sink> Emitter<'a, S> {
    pub(super) const fn new(sink: &'a mut S, origin: OriginKind, strict: bool) -> Self {
        let report = SourceReport {
            origin,
            origin_ref: None,
            entry_count: 0,
            bytes: 0,
            left_out: Vec::new(),
            left_out_count: 0,
            notes: Vec::new(),
            ignore: None,
            top_mtime: None,
        };
        Self { sink, strict, report }
    }

    /// Hands one entry to the sink; `host` names its content in an error.
    pub(super) fn emit(&mut self, entry: &Entry, content: &mut dyn Read, host: &Path) -> Result<(), SourceError<S::Error>> {
        let mut exact = Exact { inner: content, left: entry.size_bytes, failure: None };
        let answer = self.sink.entry(entry, &mut exact);
        if let Some(source) = exact.failure {
            return Err(SourceError::Read { path: host.into(), source });
        }
        answer.map_err(SourceError::Sink)?;
        self.report.entry_count += 1;
        self.report.bytes = self.report.bytes.saturating_add(entry.size_bytes);
        Ok(())
    }

    pub(super) fn folder(&mut self, path: TreePath, mode: u32, mtime: Timestamp) -> Result<(), SourceError<S::Error>> {
        let mode = mode & MODE_MASK;
        let entry = Entry { path, kind: EntryKind::Directory, mode, size_bytes: 0, mtime, link_target: None };
        self.emit(&entry, &mut io::empty(), Path::new(""))
    }

    pub(super) fn link(&mut self, path: TreePath, target: Vec<u8>, mtime: Timestamp) -> Result<(), SourceError<S::Error>> {
        let entry = Entry { path, kind: EntryKind::Link, mode: 0o777, size_bytes: 0, mtime, link_target: Some(target) };
        self.emit(&entry, &mut io::empty(), Path::new(""))
    }

    /// Remembers something that is not taken.
    pub(super) fn leave_out(&mut self, path: &[u8], reason: impl Into<String>) {
        self.report.left_out_count += 1;
        if self.report.left_out.len() < LEFT_OUT_MAX {
            self.report.left_out.push(LeftOut { path: printable_cut(path, SHOWN_MAX_BYTES), reason: reason.into() });
        }
    }

    /// Remembers something that is different about what is taken.
    pub(super) fn note(&mut self, path: &[u8], text: &str) {
        if self.report.notes.len() < NOTES_MAX {
            self.report
                .notes
                .push(Note { path: printable_cut(path, SHOWN_MAX_BYTES), text: printable_cut(text.as_bytes(), NOTE_MAX_BYTES) });
        }
    }

    /// Leaves out something that cannot be read, or fails when nothing may be left out for that.
    pub(super) fn unreadable(&mut self, path: &[u8], host: PathBuf, error: io::Error) -> Result<(), SourceError<S::Error>> {
        if self.strict {
            return Err(SourceError::Read { path: host, source: error });
        }
        self.leave_out(path, format!("cannot be read: {error}"));
        Ok(())
    }
}

/// Yields exactly as much as was announced, or fails; a sink that has begun to write a size cannot take it back.
struct Exact<'a> {
    inner: &'a mut dyn Read,
    left: u64,
    failure: Option<io::Error>,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let room = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let error = match self.inner.read(&mut buffer[..room]) {
            Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "ended before its size; it was changed while it was read"),
            Ok(count) => {
                self.left -= u64::try_from(count).map_err(io::Error::other)?;
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => error,
        };
        let told = io::Error::new(error.kind(), error.to_string());
        self.failure = Some(error);
        Err(told)
    }
}
