//! Files in the guest, as calls: statuses and contents read, changes sent.
//!
//! The guest is hostile: more entries, longer paths or more bytes than were asked for end the call.

use std::time::Duration;

use bytes::Bytes;
use pyro_proto::{
    error::{ErrorKind, Failure},
    limits::{OUTPUT_CHUNK_BYTES, PATH_MAX_BYTES, READ_FILES_MAX, VERSION_MAX_BYTES},
    v1::{
        ChangeAnswer, ChangeCommit, ChangeInput, ChangeItem, ChangeKind, ChangeStart, FileKind, FileRange, FileStatus, ListFilesAnswer,
        ListFilesRequest, ReadFilesAnswer, ReadFilesRequest, change_input, read_files_answer,
    },
};
use pyro_store::{MachineId, WorkspaceRecord};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    Workspace,
    contract::{ArtifactType, FileEntry},
    error::{Cause, Error, Result},
    time::rfc3339,
    workspace_path::path_text,
};

/// How long the guest has for the next message of an answer. A translated guest lists 20 000 files in a second and a half.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(60);
/// What neither a file nor a directory nor a link is called where nothing more is known of it.
pub(crate) const SPECIAL: &str = "a FIFO, a socket or a device, not a regular file";
/// Messages of a change on their way, each at most 128 KiB: what a slow guest makes its client hold.
const CHANGE_QUEUE: usize = 8;

/// The workspace's machine, for a few calls in a row.
#[derive(Debug, Clone)]
pub(crate) struct GuestFiles {
    workspace: Workspace,
    machine: MachineId,
    operation: &'static str,
}

/// A file or link as it was read.
#[derive(Debug, Clone)]
pub(crate) struct FileRead {
    /// What it is.
    pub(crate) status: FileStatus,
    /// As many of its bytes as were asked for.
    pub(crate) content: Vec<u8>,
}

/// A change of `/workspace` in the making. Dropped before [`commit`](Self::commit), it changes nothing.
#[derive(Debug)]
pub(crate) struct ChangeSender(mpsc::Sender<ChangeInput>);

/// The other side of a change has ended; its answer says why.
#[derive(Debug, thiserror::Error)]
#[error("the change was called off")]
pub(crate) struct CalledOff;

impl ChangeSender {
    fn send(&self, input: change_input::Input) -> Result<(), CalledOff> {
        self.0.blocking_send(ChangeInput { input: Some(input) }).map_err(|_| CalledOff)
    }

    /// Sends an item. The bytes of a file follow in as many calls of [`content`](Self::content) as it takes. Blocks.
    pub(crate) fn item(&self, item: ChangeItem) -> Result<(), CalledOff> {
        self.send(change_input::Input::Item(item))
    }

    /// Sends bytes of the file sent last. Blocks while the guest does not take them.
    pub(crate) fn content(&self, mut bytes: Bytes) -> Result<(), CalledOff> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(OUTPUT_CHUNK_BYTES));
            self.send(change_input::Input::Content(piece))?;
        }
        Ok(())
    }

    /// Ends the change: all of it happens now. Blocks.
    pub(crate) fn commit(self) -> Result<(), CalledOff> {
        self.send(change_input::Input::Commit(ChangeCommit {}))
    }
}

impl Workspace {
    /// Finds the machine for calls on files; `operation` is what failures call it.
    pub(crate) fn guest_files(&self, record: &WorkspaceRecord, operation: &'static str) -> Result<GuestFiles> {
        Ok(GuestFiles { workspace: self.clone(), machine: self.running_machine(record)?, operation })
    }
}

impl GuestFiles {
    async fn failed(&self, status: &tonic::Status) -> Error {
        self.workspace.pyro().call_failed(&self.machine, self.operation, self.workspace.label(), status).await.about_files()
    }

    pub(crate) fn malformed(&self, what: &str) -> Error {
        Error::workspace(self.operation, self.workspace.label(), ErrorKind::MachineFailed, Cause::new(format!("its guest sent {what}")))
    }

    pub(crate) fn reported(&self, failure: Failure) -> Error {
        Error::reported(self.operation, self.workspace.label(), failure).about_files()
    }

    async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>> {
        let next = async {
            match stream.message().await {
                Ok(message) => Ok(message),
                Err(status) => Err(self.failed(&status).await),
            }
        };
        self.workspace.answered(self.operation, MESSAGE_DEADLINE, next).await
    }

    /// Lists a folder page by page, until `each` has enough; returns whether the guest says that there is more.
    pub(crate) async fn list(&self, request: ListFilesRequest, mut each: impl FnMut(FileStatus) -> bool) -> Result<bool> {
        let open = async {
            let mut client = self.workspace.pyro().supervisor(&self.machine, self.operation, self.workspace.label()).await?;
            match client.list_files(request).await {
                Ok(response) => Ok(response.into_inner()),
                Err(status) => Err(self.failed(&status).await),
            }
        };
        let mut stream: Streaming<ListFilesAnswer> = self.workspace.answered(self.operation, MESSAGE_DEADLINE, open).await?;
        let mut truncated = false;
        while let Some(page) = self.next(&mut stream).await? {
            truncated |= page.truncated;
            for status in page.files {
                self.check(&status)?;
                if !each(status) {
                    return Ok(true);
                }
            }
        }
        Ok(truncated)
    }

    fn check(&self, status: &FileStatus) -> Result<()> {
        let lengths = [status.path.len(), status.link_target.len()];
        if lengths.into_iter().any(|length| length > PATH_MAX_BYTES) || status.version.len() > VERSION_MAX_BYTES {
            return Err(self.malformed("a name that is too long"));
        }
        Ok(())
    }

    async fn read_call(&self, ranges: Vec<FileRange>) -> Result<Streaming<ReadFilesAnswer>> {
        let open = async {
            let mut client = self.workspace.pyro().supervisor(&self.machine, self.operation, self.workspace.label()).await?;
            match client.read_files(ReadFilesRequest { ranges }).await {
                Ok(response) => Ok(response.into_inner()),
                Err(status) => Err(self.failed(&status).await),
            }
        };
        self.workspace.answered(self.operation, MESSAGE_DEADLINE, open).await
    }

    /// Reads ranges of files, each whole or not at all; the failure of one is no failure of the others.
    pub(crate) async fn read(&self, ranges: Vec<FileRange>) -> Result<Vec<Result<FileRead, Failure>>> {
        let mut read = Vec::with_capacity(ranges.len());
        let mut rest = ranges;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(READ_FILES_MAX));
            self.read_some(rest, &mut read).await?;
            rest = later;
        }
        Ok(read)
    }

    async fn read_some(&self, ranges: Vec<FileRange>, read: &mut Vec<Result<FileRead, Failure>>) -> Result<()> {
        let maxima: Vec<u64> = ranges.iter().map(|range| range.max_bytes).collect();
        let first = read.len();
        let mut stream = self.read_call(ranges).await?;
        while let Some(message) = self.next(&mut stream).await? {
            let Some(answer) = message.answer else { continue };
            if matches!(answer, read_files_answer::Answer::Status(_) | read_files_answer::Answer::Failure(_))
                && read.len() - first == maxima.len()
            {
                return Err(self.malformed("more files than were asked for"));
            }
            match answer {
                read_files_answer::Answer::Status(status) => {
                    self.check(&status)?;
                    read.push(Ok(FileRead { status, content: Vec::new() }));
                }
                read_files_answer::Answer::Failure(failure) => read.push(Err(failure)),
                read_files_answer::Answer::Content(bytes) => {
                    let maximum = (read.len() - first).checked_sub(1).and_then(|index| maxima.get(index)).copied().unwrap_or(0);
                    let Some(Ok(file)) = read.last_mut() else { return Err(self.malformed("bytes of no file")) };
                    if (file.content.len() + bytes.len()) as u64 > maximum {
                        return Err(self.malformed("more bytes than were asked for"));
                    }
                    file.content.extend_from_slice(&bytes);
                }
            }
        }
        if read.len() - first == maxima.len() { Ok(()) } else { Err(self.malformed("less files than were asked for")) }
    }

    /// Reads ranges that must all be there.
    pub(crate) async fn read_all<const COUNT: usize>(&self, ranges: Vec<FileRange>) -> Result<[FileRead; COUNT]> {
        let files = self.read(ranges).await?.into_iter().map(|file| file.map_err(|failure| self.reported(failure)));
        let files: Vec<FileRead> = files.collect::<Result<_>>()?;
        files.try_into().map_err(|_| self.malformed("another number of files than was asked for"))
    }

    /// Reads one range of a file, following links.
    pub(crate) async fn read_one(&self, path: &[u8], offset: u64, max_bytes: u64) -> Result<FileRead> {
        let range = FileRange { path: Bytes::copy_from_slice(path), offset, max_bytes, follow: true };
        self.read_all(vec![range]).await.map(|[file]| file)
    }

    /// Reads a file from its beginning, following links, piece by piece, until `each` has enough; returns what the file is.
    pub(crate) async fn read_pieces(&self, path: &[u8], mut each: impl FnMut(&[u8]) -> bool) -> Result<FileStatus> {
        let range = FileRange { path: Bytes::copy_from_slice(path), offset: 0, max_bytes: u64::MAX, follow: true };
        let mut stream = self.read_call(vec![range]).await?;
        let mut found = None;
        while let Some(message) = self.next(&mut stream).await? {
            match message.answer {
                Some(read_files_answer::Answer::Status(status)) => {
                    self.check(&status)?;
                    found = Some(status);
                }
                Some(read_files_answer::Answer::Failure(failure)) => return Err(self.reported(failure)),
                Some(read_files_answer::Answer::Content(bytes)) if !each(&bytes) => break,
                Some(read_files_answer::Answer::Content(_)) | None => {}
            }
        }
        found.ok_or_else(|| self.malformed("no answer"))
    }

    /// Changes `/workspace`: `fill` sends the items, on a blocking thread, and commits.
    ///
    /// Dropping the future before the commit changes nothing.
    ///
    /// # Errors
    /// The guest refuses; that is told rather than that `fill` was called off by it. Or as `fill` says.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        start: ChangeStart,
        fill: impl FnOnce(ChangeSender) -> Result<T> + Send + 'static,
    ) -> Result<(ChangeAnswer, T)> {
        let (sender, receiver) = mpsc::channel(CHANGE_QUEUE);
        let mut client = self.workspace.pyro().supervisor(&self.machine, self.operation, self.workspace.label()).await?;
        let filling = tokio::task::spawn_blocking(move || {
            let sender = ChangeSender(sender);
            // A call that has ended says why by itself.
            drop(sender.send(change_input::Input::Start(start)));
            fill(sender)
        });
        let answer = client.change(ReceiverStream::new(receiver)).await;
        // The receiver is gone with the call, so this ends as soon as the next piece is ready.
        let filled = match filling.await {
            Ok(filled) => filled,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        match (answer, filled) {
            (Ok(answer), Ok(filled)) => Ok((answer.into_inner(), filled)),
            // The source failed first, and the guest only says that the change was cut short.
            (_, Err(error)) if !error.is_called_off() => Err(error),
            (Err(status), _) => Err(self.failed(&status).await),
            (Ok(_), Err(_)) => Err(self.malformed("an answer before the change was complete")),
        }
    }

    /// Changes a few files at once.
    pub(crate) async fn change_items(&self, items: Vec<(ChangeItem, Bytes)>) -> Result<ChangeAnswer> {
        let start = ChangeStart { destination: Bytes::new(), replace: false };
        let fill = move |sender: ChangeSender| {
            for (item, content) in items {
                sender.item(item)?;
                sender.content(content)?;
            }
            Ok(sender.commit()?)
        };
        self.change(start, fill).await.map(|(answer, ())| answer)
    }
}

/// Makes the item that writes a whole file which keeps the mode it has, through a link if there is one.
pub(crate) fn write_item(path: &[u8], size_bytes: usize, expected_version: Bytes) -> ChangeItem {
    ChangeItem {
        path: Bytes::copy_from_slice(path),
        kind: ChangeKind::File.into(),
        mode: 0o644,
        keep_mode: true,
        mtime_ns: None,
        link_target: Bytes::new(),
        size_bytes: size_bytes as u64,
        expected_version,
        expected_absent: false,
        follow: true,
    }
}

/// Returns what an entry of the guest is called.
pub(crate) fn artifact_type(status: &FileStatus) -> ArtifactType {
    match FileKind::try_from(status.kind) {
        Ok(FileKind::File) => ArtifactType::File,
        Ok(FileKind::Directory) => ArtifactType::Directory,
        Ok(FileKind::Link) => ArtifactType::Symlink,
        // A kind of a newer guest is nothing this client can open either.
        Ok(FileKind::Fifo | FileKind::Socket | FileKind::Device | FileKind::Other | FileKind::Unspecified) | Err(_) => ArtifactType::Other,
    }
}

/// Names an entry that is neither file, directory nor link.
pub(crate) fn special(status: &FileStatus) -> &'static str {
    match FileKind::try_from(status.kind) {
        Ok(FileKind::Fifo) => "a FIFO, not a regular file",
        Ok(FileKind::Socket) => "a socket, not a regular file",
        Ok(FileKind::Device) => "a device, not a regular file",
        // An older guest tells no more.
        Ok(FileKind::File | FileKind::Directory | FileKind::Link | FileKind::Other | FileKind::Unspecified) | Err(_) => SPECIAL,
    }
}

/// Shows an entry of the guest.
pub(crate) fn entry(status: &FileStatus) -> FileEntry {
    let artifact_type = artifact_type(status);
    FileEntry {
        path: path_text(&status.path),
        artifact_type,
        size_bytes: status.size_bytes,
        mode: format!("{:04o}", status.mode & 0o7777),
        modified_at: rfc3339(status.mtime_ns.div_euclid(1_000_000)),
        link_target: (artifact_type == ArtifactType::Symlink).then(|| path_text(&status.link_target)),
    }
}
