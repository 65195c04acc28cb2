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
use sha2::{Digest as _, Sha256};

use crate::{
    Observer, Progress, Pyro,
    apply::{Pushed, seed_folder},
    client::{Reap, blocking},
    contract::{LeftOut, SourceNote, SyncPush, SyncPushAnswer},
    error::{Error, Problem, Result},
    guest_files::{CalledOff, ChangeSender},
    meter::Meter,
};

/// What an interruption leaves.
const UNCHANGED: &str = "nothing was changed in the workspace";

/// Sends what a source holds.
struct PushSink {
    sender: ChangeSender,
    pushed: Pushed,
    observer: Observer,
    meter: Meter,
    buffer: Vec<u8>,
}

impl PushSink {
    fn check(&self) -> Result<(), PushError> {
        if self.observer.is_called_off() { Err(PushError::Interrupted) } else { Ok(()) }
    }

    /// Returns the content's SHA-256.
    fn content(&mut self, content: &mut dyn Read) -> Result<[u8; 32], PushError> {
        let mut digest = Sha256::new();
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => return Ok(digest.finalize().into()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(PushError::Content),
            };
            self.check()?;
            self.sender.content(Bytes::copy_from_slice(&self.buffer[..count]))?;
            digest.update(&self.buffer[..count]);
            self.meter.add(0, count as u64);
        }
    }
}

/// Why the sink cannot go on.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    CalledOff(#[from] CalledOff),
    /// Its caller wants it no more.
    #[error("interrupted")]
    Interrupted,
    /// The source says by itself what is wrong.
    #[error("its content cannot be read")]
    Content,
}

impl Sink for PushSink {
    type Error = PushError;

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), PushError> {
        self.check()?;
        self.sender.item(item(entry))?;
        self.meter.add(1, 0);
        let digest = match entry.kind {
            EntryKind::File => Some(self.content(content)?),
            EntryKind::Directory | EntryKind::Link => None,
        };
        self.pushed.add(entry, digest);
        Ok(())
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
        mtime_ns: Some(entry.mtime.since_1970_ns()),
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
        SourceOptions { all, git, strict, git_environment: self.configuration().git.clone() }
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
        let (source, observed) = (request.source.clone(), observer.clone());
        let pushed = Pushed::new(request.dest.clone(), request.delete);
        let fill = move |sender: ChangeSender| {
            let mut sink = PushSink { sender, pushed, observer: observed, meter, buffer: vec![0; OUTPUT_CHUNK_BYTES] };
            let report = read_source(&source, &options, &mut sink).map_err(|error| source_error(&source, error))?;
            sink.check().map_err(|_| Problem::Interrupted { outcome: UNCHANGED })?;
            sink.sender.commit()?;
            Ok((report, sink.pushed))
        };
        let (changed, (mut report, pushed)) = files.change(start, fill).await?;
        let (dirs, seed_folder) = (self.dirs().clone(), seed_folder(&record));
        let (source, origin) = (request.source.clone(), report.origin);
        // Whoever wants ignored files there wants them back.
        let ignore = report.ignore.take().filter(|_| !request.all);
        blocking(move || pushed.note(&dirs, &record.id, seed_folder.as_deref(), &source, origin, ignore)).await?;
        if report.left_out_count > 0 {
            observer.notify(Progress::LeftOut { entries: report.left_out.clone(), count: report.left_out_count });
        }
        if !report.notes.is_empty() {
            observer.notify(Progress::Notes(report.notes.clone()));
        }
        let answer = SyncPushAnswer {
            workspace_id: workspace.id().to_string(),
            dest: request.dest.text(),
            origin_kind: report.origin.as_str().to_owned(),
            origin_ref: report.origin_ref.clone(),
            entry_count: report.entry_count,
            bytes_written: report.bytes,
            removed_count: changed.removed,
            left_out: report.left_out.into_iter().map(LeftOut::from).collect(),
            left_out_count: report.left_out_count,
            notes: report.notes.into_iter().map(SourceNote::from).collect(),
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
    if matches!(error, SourceError::Sink(PushError::Interrupted)) {
        return Problem::Interrupted { outcome: UNCHANGED }.into();
    }
    let kind = error.kind(|_| ErrorKind::Io);
    Problem::Source { path: path.to_owned(), kind, source: Box::new(error) }.into()
}
