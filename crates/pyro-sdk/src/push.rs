//! Copies a folder or an archive of the host into a running workspace, as one change.
//!
//! The source is read on a blocking thread and goes out as it is read: what waits is bounded by the change's queue, so a slow guest slows
//! the reading down.

use std::{io::Read, path::Path};

use bytes::Bytes;
use pyro_proto::{
    error::ErrorKind,
    limits::OUTPUT_CHUNK_BYTES,
    v1::{ChangeItem, ChangeKind, ChangeStart},
};
use pyro_tree::{Entry, EntryKind, Sink, SourceError, SourceOptions, read_source};
use serde_json::json;

use crate::{
    Observer, Progress, Pyro,
    client::Reap,
    contract::{LeftOut, SyncPush, SyncPushAnswer},
    error::{Error, Problem, Result},
    guest_files::{CalledOff, ChangeSender},
    meter::Meter,
};

/// Sends what a source holds.
struct PushSink {
    sender: ChangeSender,
    meter: Meter,
    buffer: Vec<u8>,
}

impl PushSink {
    fn content(&mut self, content: &mut dyn Read) -> Result<(), PushError> {
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(PushError::Content),
            };
            self.sender.content(Bytes::copy_from_slice(&self.buffer[..count]))?;
            self.meter.add(0, count as u64);
        }
    }
}

/// Why the sink cannot go on.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    CalledOff(#[from] CalledOff),
    /// The source says by itself what is wrong.
    #[error("its content cannot be read")]
    Content,
}

impl Sink for PushSink {
    type Error = PushError;

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), PushError> {
        self.sender.item(item(entry))?;
        self.meter.add(1, 0);
        match entry.kind {
            EntryKind::File => self.content(content),
            EntryKind::Directory | EntryKind::Link => Ok(()),
        }
    }
}

fn item(entry: &Entry) -> ChangeItem {
    ChangeItem {
        path: Bytes::copy_from_slice(entry.path.as_bytes()),
        kind: match entry.kind {
            EntryKind::File => ChangeKind::File,
            EntryKind::Directory => ChangeKind::Directory,
            EntryKind::Link => ChangeKind::Link,
        }
        .into(),
        mode: entry.mode,
        keep_mode: false,
        mtime_ns: Some(entry.mtime_seconds.saturating_mul(1_000_000_000)),
        link_target: entry.link_target.clone().unwrap_or_default().into(),
        size_bytes: if entry.kind == EntryKind::File { entry.size_bytes } else { 0 },
        expected_version: Bytes::new(),
        expected_absent: false,
        // What is pushed takes a link's place, as a link of the source takes a file's.
        follow: false,
    }
}

impl Pyro {
    /// Says what is taken of a source.
    pub(crate) fn source_options(&self, all: bool, git: bool, strict: bool) -> SourceOptions {
        let global_excludes = self.configuration().git_excludes.clone();
        SourceOptions { all, git, strict, global_excludes }
    }

    /// Copies a folder or an archive into a running workspace: all of it, or nothing.
    ///
    /// Dropping the future changes nothing, unless all had been sent already.
    ///
    /// # Errors
    /// The workspace does not run, the source cannot be read, or it does not fit.
    pub async fn sync_push(&self, request: SyncPush, observer: &Observer) -> Result<SyncPushAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let files = workspace.guest_files(&record, "copy files into")?;
        let start = ChangeStart { destination: Bytes::copy_from_slice(request.dest.as_bytes()), replace: request.delete };
        let options = self.source_options(request.all, request.delete && !request.no_git, request.strict);
        let meter = Meter::new(observer, "push");
        let source = request.source.clone();
        let fill = move |sender: ChangeSender| {
            let mut sink = PushSink { sender, meter, buffer: vec![0; OUTPUT_CHUNK_BYTES] };
            let report = read_source(&source, &options, &mut sink).map_err(|error| source_error(&source, error))?;
            sink.sender.commit()?;
            Ok(report)
        };
        let (changed, report) = files.change(start, fill).await?;
        if report.left_out_count > 0 {
            observer.notify(Progress::LeftOut { entries: report.left_out.clone(), count: report.left_out_count });
        }
        let answer = SyncPushAnswer {
            workspace_id: record.id.to_string(),
            dest: request.dest.text(),
            origin_kind: report.origin.as_str().to_owned(),
            origin_ref: report.origin_ref.clone(),
            entry_count: report.entry_count,
            bytes_written: report.bytes,
            removed_count: changed.removed,
            left_out: report.left_out.into_iter().map(LeftOut::from).collect(),
            left_out_count: report.left_out_count,
        };
        let detail = json!({ "source": request.source.display().to_string(), "dest": answer.dest, "entries": answer.entry_count });
        workspace.remember("sync_push", detail).await?;
        Ok(answer)
    }
}

fn source_error(path: &Path, error: SourceError<PushError>) -> Error {
    if matches!(error, SourceError::Sink(PushError::CalledOff(_))) {
        return CalledOff.into();
    }
    let kind = error.kind(|_| ErrorKind::Io);
    Problem::Source { path: path.to_owned(), kind, source: Box::new(error) }.into()
}
