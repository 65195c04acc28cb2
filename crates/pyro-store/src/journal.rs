//! Output of commands on disk: `SEQUENCE.stdout` and `SEQUENCE.stderr` in the workspace's `output` folder.
//!
//! The supervisor writes, clients read. A file is capped per command; the whole folder is capped per workspace, oldest first. What was
//! written in all is in the registry, so a reader can always say how much is missing.

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Dirs, StoreResult, WorkspaceId};

/// How much output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Of one command, both streams together.
    pub command_max_bytes: u64,
    /// Of one workspace.
    pub workspace_max_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { command_max_bytes: 256 << 20, workspace_max_bytes: 2 << 30 }
    }
}

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    const fn extension(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

fn folder(dirs: &Dirs, workspace: &WorkspaceId) -> PathBuf {
    dirs.workspace(workspace).join("output")
}

/// Writes the output of one command.
#[derive(Debug)]
pub struct JournalWriter {
    folder: PathBuf,
    sequence: u64,
    files: [Option<fs_err::File>; 2],
    written: [u64; 2],
    kept: u64,
    cap: u64,
}

impl JournalWriter {
    /// Prepares for a command; files are made with the first byte.
    #[must_use]
    pub fn new(dirs: &Dirs, workspace: &WorkspaceId, sequence: u64, retention: Retention) -> Self {
        Self { folder: folder(dirs, workspace), sequence, files: [None, None], written: [0; 2], kept: 0, cap: retention.command_max_bytes }
    }

    /// Appends output. Past the cap, bytes are counted and not kept.
    ///
    /// # Errors
    /// The file cannot be written; the host's disk may be full. The bytes are counted all the same.
    pub fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> StoreResult<()> {
        let index = stream as usize;
        self.written[index] += bytes.len() as u64;
        let room = usize::try_from(self.cap.saturating_sub(self.kept)).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        if bytes.is_empty() {
            return Ok(());
        }
        let file = match &mut self.files[index] {
            Some(file) => file,
            empty => {
                fs_err::create_dir_all(&self.folder)?;
                let path = self.folder.join(format!("{}.{}", self.sequence, stream.extension()));
                empty.insert(fs_err::OpenOptions::new().create(true).append(true).open(path)?)
            }
        };
        file.write_all(bytes)?;
        self.kept += bytes.len() as u64;
        Ok(())
    }

    /// Returns how many bytes the command wrote to a stream, kept or not.
    #[must_use]
    pub fn written(&self, stream: OutputStream) -> u64 {
        self.written[stream as usize]
    }

    /// Removes the oldest output of the workspace until the whole fits; the files of this command stay.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn enforce_workspace_cap(&self, retention: Retention) -> StoreResult<()> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Ok(()) };
        let mut files: Vec<(u64, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let path = entry.path();
                let sequence = path.file_stem()?.to_str()?.parse().ok()?;
                Some((sequence, entry.metadata().ok()?.len(), path))
            })
            .collect();
        files.sort_unstable();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (sequence, size, path) in files {
            if total <= retention.workspace_max_bytes || sequence == self.sequence {
                break;
            }
            crate::remove_if_present(&path)?;
            total -= size;
        }
        Ok(())
    }
}

/// Kept output of one command.
#[derive(Debug)]
pub struct CommandOutput {
    path: PathBuf,
}

impl CommandOutput {
    /// Names the kept output of a command.
    #[must_use]
    pub fn new(dirs: &Dirs, workspace: &WorkspaceId, sequence: u64, stream: OutputStream) -> Self {
        Self { path: folder(dirs, workspace).join(format!("{sequence}.{}", stream.extension())) }
    }

    /// Returns the file's path; it is not there when nothing was written or it was removed to keep the cap.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of bytes kept.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |status| status.len())
    }

    /// Reads up to `max_bytes` from `offset` on.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(&self, offset: u64, max_bytes: u64) -> StoreResult<Vec<u8>> {
        let mut file = match fs_err::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(max_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_capped_per_command_and_per_workspace_and_counted_in_full() {
        let home = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(home.path());
        let workspace = WorkspaceId::random();
        let retention = Retention { command_max_bytes: 10, workspace_max_bytes: 15 };
        for sequence in 1..=3 {
            let mut writer = JournalWriter::new(&dirs, &workspace, sequence, retention);
            writer.write(OutputStream::Stdout, b"0123456").expect("writes");
            writer.write(OutputStream::Stderr, b"0123456").expect("writes");
            assert_eq!(writer.written(OutputStream::Stderr), 7);
            writer.enforce_workspace_cap(retention).expect("trims");
        }
        let kept = |sequence, stream| CommandOutput::new(&dirs, &workspace, sequence, stream).kept_bytes();
        assert_eq!(kept(1, OutputStream::Stdout), 0);
        assert_eq!(kept(3, OutputStream::Stdout), 7);
        assert_eq!(kept(3, OutputStream::Stderr), 3);
    }
}
