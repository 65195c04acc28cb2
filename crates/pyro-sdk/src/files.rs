//! Single files of a running workspace: listed, read, written, and text in them replaced.

use bytes::Bytes;
use pyro_proto::{
    error::ErrorKind,
    v1::{FileRange, FileStatus, ListFilesRequest},
};
use serde_json::json;

use crate::{
    Pyro, Workspace,
    client::Reap,
    contract::{
        ArtifactType, FileList, FileListAnswer, FileRead, FileReadAnswer, FileReplace, FileReplaceAnswer, FileWrite, FileWriteAnswer,
    },
    error::{Error, Problem, Result},
    guest_files::{self, GuestFiles, artifact_type, special, write_item},
    page::{self, CHARACTER_BYTES, HEAD_BYTES, LineCollector, Page},
    text::{LineRange, WorkspacePath},
    workspace_path::path_text,
};

/// Most entries looked at for those a pattern matches: a hostile guest has no end of them.
const SCAN_MAX: u64 = 2_000_000;
/// Largest file text is replaced in.
const REPLACE_MAX_BYTES: u64 = 16 << 20;
/// How often a replacement is tried when something else writes the file at the same time.
const REPLACE_TRIES: usize = 3;

impl Pyro {
    /// Lists files of a running workspace. Does not count as activity.
    ///
    /// # Errors
    /// The workspace does not run, or there is no such folder in it.
    pub async fn list_files(&self, request: FileList) -> Result<FileListAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let files = workspace.guest_files(&record, "list files of")?;
        let limit = request.limit.get();
        let folder = request.path.as_bytes();
        let (mut entries, mut scanned) = (Vec::new(), 0);
        let mut full = false;
        let list = ListFilesRequest {
            path: Bytes::copy_from_slice(folder),
            recursive: request.recursive || request.glob.as_ref().is_some_and(crate::text::Glob::is_deep),
            limit: if request.glob.is_some() { 0 } else { limit },
        };
        let each = |status: FileStatus| {
            scanned += 1;
            let wanted = request.glob.as_ref().is_none_or(|glob| glob.matches(below(folder, &status.path)));
            if wanted && entries.len() as u64 == limit {
                full = true;
                return false;
            }
            if wanted {
                entries.push(guest_files::entry(&status));
            }
            scanned < SCAN_MAX
        };
        let more = files.list(list, each).await?;
        Ok(FileListAnswer { workspace_id: record.id.to_string(), path: request.path.text(), entries, truncated: full || more })
    }

    /// Reads a text file of a running workspace. Does not count as activity.
    ///
    /// # Errors
    /// The workspace does not run, or there is no such file in it.
    pub async fn read_file(&self, request: FileRead) -> Result<FileReadAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let files = workspace.guest_files(&record, "read a file of")?;
        let read = match request.lines {
            Some(lines) => workspace.read_lines(&files, &request, lines).await,
            None => workspace.read_page(&files, &request).await,
        };
        read.map_err(|error| error.at(&request.path))
    }

    /// Writes a text file as a whole.
    ///
    /// # Errors
    /// The workspace does not run, a directory or a special file is in the way, or a link leads out of `/workspace`.
    pub async fn write_file(&self, request: FileWrite) -> Result<FileWriteAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let files = workspace.guest_files(&record, "write a file of")?;
        not_the_root(&request.path).map_err(|error| error.about(workspace.label()))?;
        let content = Bytes::from(request.text.as_str().to_owned());
        let item = write_item(request.path.as_bytes(), content.len(), Bytes::new());
        let bytes_written = content.len() as u64;
        let changed = files.change_items(vec![(item, content)]).await.map_err(|error| error.at(&request.path))?;
        let link_target = (!changed.followed.is_empty()).then(|| path_text(&changed.followed));
        workspace.remember("file_write", json!({ "path": request.path.text(), "bytes": bytes_written })).await?;
        Ok(FileWriteAnswer { workspace_id: record.id.to_string(), path: request.path.text(), link_target, bytes_written })
    }

    /// Replaces text in a file.
    ///
    /// # Errors
    /// The workspace does not run, there is no such file, or the text is not in it, or several times.
    pub async fn replace_in_file(&self, request: FileReplace) -> Result<FileReplaceAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let files = workspace.guest_files(&record, "replace text in a file of")?;
        not_the_root(&request.path).map_err(|error| error.about(workspace.label()))?;
        if request.old.as_str().is_empty() {
            return Err(Problem::NothingToReplace.into());
        }
        let mut tries = REPLACE_TRIES;
        loop {
            tries -= 1;
            match workspace.replace_once(&files, &request).await {
                // Something else wrote the file between our reading and our writing.
                Err(error) if error.kind() == ErrorKind::Conflict && tries > 0 => {}
                result => return result.map_err(|error| error.at(&request.path)),
            }
        }
    }
}

fn not_the_root(path: &WorkspacePath) -> Result<()> {
    match path.tree_path() {
        Some(_) => Ok(()),
        None => Err(Problem::NotAFile { path: path.text(), what: "a directory" }.into()),
    }
}

/// Returns a path seen from the folder that was listed.
fn below<'a>(folder: &[u8], path: &'a [u8]) -> &'a [u8] {
    if folder.is_empty() {
        return path;
    }
    path.strip_prefix(folder).and_then(|rest| rest.strip_prefix(b"/")).unwrap_or(path)
}

/// What was found at a path, for an answer.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) artifact_type: ArtifactType,
    pub(crate) size_bytes: u64,
    /// What it is called when it cannot be read.
    pub(crate) special: &'static str,
    /// What a link says, or where links have led.
    pub(crate) link_target: Option<&'a [u8]>,
    /// The beginning of the file.
    pub(crate) head: &'a [u8],
    pub(crate) page: Page,
}

/// Makes what a guest has said of a path into that.
fn found<'a>(path: &WorkspacePath, status: &'a FileStatus, head: &'a [u8], page: Page) -> Found<'a> {
    let artifact_type = artifact_type(status);
    let link_target = match artifact_type {
        // An older guest has not followed it.
        ArtifactType::Symlink => Some(&*status.link_target),
        ArtifactType::File | ArtifactType::Directory | ArtifactType::Other => led_to(path, &status.path),
    };
    Found { artifact_type, size_bytes: status.size_bytes, special: special(status), link_target, head, page }
}

/// Returns where links have led, when there were any.
pub(crate) fn led_to<'a>(path: &WorkspacePath, real: &'a [u8]) -> Option<&'a [u8]> {
    (real != path.as_bytes()).then_some(real)
}

/// Makes the answer of a read.
pub(crate) fn file_answer(workspace: &Workspace, path: &WorkspacePath, found: Found<'_>) -> Result<FileReadAnswer> {
    let is_file = match found.artifact_type {
        ArtifactType::File => true,
        ArtifactType::Symlink => false,
        ArtifactType::Directory => {
            return Err(Error::from(Problem::NotAFile { path: path.text(), what: "a directory" }).about(workspace.label()));
        }
        ArtifactType::Other => {
            return Err(Error::from(Problem::NotAFile { path: path.text(), what: found.special }).about(workspace.label()));
        }
    };
    let (content, offset, next_offset) = match found.page {
        Page::Text { text, offset, next } if is_file => (Some(text), offset, next),
        Page::Text { .. } | Page::Binary => (None, 0, None),
    };
    let binary = is_file && content.is_none();
    Ok(FileReadAnswer {
        workspace_id: workspace.id().to_string(),
        path: path.text(),
        artifact_type: found.artifact_type,
        size_bytes: found.size_bytes,
        binary,
        media_type: if is_file { page::media_type(found.head, binary) } else { "inode/symlink" }.to_owned(),
        content,
        offset,
        next_offset,
        truncated: next_offset.is_some(),
        link_target: found.link_target.map(path_text),
    })
}

impl Workspace {
    async fn read_page(&self, files: &GuestFiles, request: &FileRead) -> Result<FileReadAnswer> {
        let path = request.path.as_bytes();
        let max = request.max_bytes.get();
        let range = |offset, max_bytes| FileRange { path: Bytes::copy_from_slice(path), offset, max_bytes, follow: true };
        // What a file is is told by its beginning, also to whoever pages on in it.
        let ranges = vec![range(request.offset, max.max(CHARACTER_BYTES)), range(0, HEAD_BYTES)];
        let [body, head] = files.read_all(ranges).await?;
        let page = if page::is_binary(&head.content) {
            Page::Binary
        } else {
            page::page(&body.content, request.offset, max, body.status.size_bytes)
        };
        file_answer(self, &request.path, found(&request.path, &body.status, &head.content, page))
    }

    async fn read_lines(&self, files: &GuestFiles, request: &FileRead, lines: LineRange) -> Result<FileReadAnswer> {
        let max = request.max_bytes.get();
        let mut collector = LineCollector::new(lines, max);
        let mut head = Vec::new();
        let each = |piece: &[u8]| {
            let room = usize::try_from(HEAD_BYTES).unwrap_or(0).saturating_sub(head.len());
            head.extend_from_slice(&piece[..piece.len().min(room)]);
            collector.push(piece)
        };
        let status = files.read_pieces(request.path.as_bytes(), each).await?;
        let page = if collector.binary {
            Page::Binary
        } else {
            // Seen as a file of their own, lines that were taken whole end where that file ends.
            let size = collector.offset + collector.bytes.len() as u64 + u64::from(collector.full);
            page::page(&collector.bytes, collector.offset, max, size)
        };
        file_answer(self, &request.path, found(&request.path, &status, &head, page))
    }

    async fn replace_once(&self, files: &GuestFiles, request: &FileReplace) -> Result<FileReplaceAnswer> {
        let path = request.path.as_bytes();
        let file = files.read_one(path, 0, REPLACE_MAX_BYTES).await?;
        let what = match artifact_type(&file.status) {
            ArtifactType::File => None,
            ArtifactType::Directory => Some("a directory"),
            ArtifactType::Other => Some(special(&file.status)),
            ArtifactType::Symlink => Some("a link, which the agent of this machine does not follow"),
        };
        if let Some(what) = what {
            return Err(Error::from(Problem::NotAFile { path: request.path.text(), what }).about(self.label()));
        }
        if file.status.size_bytes > file.content.len() as u64 {
            let problem = Problem::FileTooLarge { path: request.path.text(), bytes: file.status.size_bytes, maximum: REPLACE_MAX_BYTES };
            return Err(Error::from(problem).about(self.label()));
        }
        let (old, new) = (request.old.as_str().as_bytes(), request.new.as_str().as_bytes());
        let places: Vec<usize> = memchr::memmem::find_iter(&file.content, old).collect();
        if places.is_empty() || (places.len() > 1 && !request.all) {
            let has_crlf = places.is_empty() && has_with_crlf(&file.content, old);
            let problem = Problem::ReplaceMismatch { path: request.path.text(), count: places.len(), has_crlf };
            return Err(Error::from(problem).about(self.label()));
        }
        let content = replaced(&file.content, &places, old.len(), new);
        if content.len() as u64 > REPLACE_MAX_BYTES {
            let problem = Problem::FileTooLarge { path: request.path.text(), bytes: content.len() as u64, maximum: REPLACE_MAX_BYTES };
            return Err(Error::from(problem).about(self.label()));
        }
        let (bytes_written, replacement_count) = (content.len() as u64, places.len() as u64);
        let link_target = led_to(&request.path, &file.status.path).map(path_text);
        let item = write_item(&file.status.path, content.len(), file.status.version);
        files.change_items(vec![(item, content.into())]).await?;
        self.remember("file_replace", json!({ "path": request.path.text(), "count": replacement_count })).await?;
        Ok(FileReplaceAnswer {
            workspace_id: self.id().to_string(),
            path: request.path.text(),
            link_target,
            replacement_count,
            bytes_written,
        })
    }

    /// Enters what was done, for the workspace's summary.
    pub(crate) async fn remember(&self, kind: &'static str, detail: serde_json::Value) -> Result<()> {
        let id = self.id().clone();
        self.pyro().store(move |_, registry| Ok(registry.add_event(&id, kind, &detail)?)).await.map_err(|error| error.about(self.label()))
    }
}

/// Tells whether a text of several lines is in a file whose lines end with CR LF.
fn has_with_crlf(content: &[u8], text: &[u8]) -> bool {
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    lines.len() > 1 && memchr::memmem::find(content, &lines.join(&b"\r\n"[..])).is_some()
}

fn replaced(content: &[u8], places: &[usize], old_length: usize, new: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(content.len());
    let mut rest = 0;
    for &place in places {
        made.extend_from_slice(&content[rest..place]);
        made.extend_from_slice(new);
        rest = place + old_length;
    }
    made.extend_from_slice(&content[rest..]);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_replaced_at_every_place_and_nothing_else_is_touched() {
        let check = |content: &[u8], old: &[u8], new: &[u8], expected: &[u8]| {
            let places: Vec<usize> = memchr::memmem::find_iter(content, old).collect();
            assert_eq!(replaced(content, &places, old.len(), new), expected);
        };
        check(b"a b a", b"a", b"xyz", b"xyz b xyz");
        check(b"aaa", b"aa", b"", b"a");
        check(b"\xffa\xff", b"a", b"b", b"\xffb\xff");
        check(b"none", b"z", b"y", b"none");
    }

    #[test]
    fn paths_are_seen_from_the_listed_folder() {
        assert_eq!(below(b"", b"src/a"), b"src/a");
        assert_eq!(below(b"src", b"src/a"), b"a");
        assert_eq!(below(b"src/a", b"src/a"), b"src/a");
    }
}
