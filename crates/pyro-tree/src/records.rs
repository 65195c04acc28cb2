//! Files of one JSON object per line that are kept beside a workspace: its manifest, its ignore rules.
//!
//! The first line says the format and how many lines follow, so that a file cut anywhere is known to be. A newer format is refused, not
//! guessed. A line has a longest length, which is checked before it is held.

use std::{
    io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use pyro_proto::error::ErrorKind;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::files;

/// What a file of records is and how it is written.
#[derive(Debug)]
pub(crate) struct Records {
    /// What it is called in errors.
    pub(crate) what: &'static str,
    /// Version of its format.
    pub(crate) format: u32,
    /// Longest line.
    pub(crate) line_max_bytes: u64,
}

/// A file of records that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The file cannot be read.
    #[error("cannot read {what} `{}`", path.display())]
    Read {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {what} `{}`", path.display())]
    Write {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is not what this version writes.
    #[error("{what} `{}` is damaged in line {line}", path.display())]
    Damaged {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What the parser says; `None` when the line is too long, missing or senseless.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// A newer Pyro wrote it.
    #[error("{what} `{}` has format {found}, this version knows {known}", path.display())]
    Newer {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What this version writes.
        known: u32,
    },
}

impl RecordsError {
    /// Returns the kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => files::error_kind(source),
            Self::Damaged { .. } => ErrorKind::Io,
            Self::Newer { .. } => ErrorKind::Incompatible,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    entries: u64,
}

impl Records {
    /// Reads a file, handing each line to `take`, which returns `None` for one that makes no sense; `false` when there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or a newer version wrote it.
    pub(crate) fn read<L: DeserializeOwned>(&self, path: &Path, mut take: impl FnMut(L) -> Option<()>) -> Result<bool, RecordsError> {
        let what = self.what;
        let unreadable = |source| RecordsError::Read { what, path: path.into(), source };
        let damaged = |line, source| RecordsError::Damaged { what, path: path.into(), line, source };
        let mut reader = match fs_err::File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(unreadable(source)),
        };
        let mut line = Vec::new();
        let mut number = 0;
        let mut next = |line: &mut Vec<u8>, number: &mut u64| -> Result<bool, RecordsError> {
            line.clear();
            *number += 1;
            (&mut reader).take(self.line_max_bytes).read_until(b'\n', line).map_err(unreadable)?;
            match line.pop() {
                None => Ok(false),
                Some(b'\n') => Ok(true),
                Some(_) => Err(damaged(*number, None)),
            }
        };
        if !next(&mut line, &mut number)? {
            return Err(damaged(number, None));
        }
        let head: Head = serde_json::from_slice(&line).map_err(|source| damaged(number, Some(source)))?;
        if head.format != self.format {
            return Err(RecordsError::Newer { what, path: path.into(), found: head.format, known: self.format });
        }
        while next(&mut line, &mut number)? {
            let parsed = serde_json::from_slice(&line).map_err(|source| damaged(number, Some(source)))?;
            take(parsed).ok_or_else(|| damaged(number, None))?;
        }
        // A file cut at the end of a line parses, and would be taken for one that says less. The head and the end count as lines here.
        if number.checked_sub(2) != Some(head.entries) {
            return Err(damaged(number, None));
        }
        Ok(true)
    }

    /// Writes a file aside, syncs it and renames it to `path`.
    ///
    /// # Errors
    /// Any step fails; an older file is then untouched.
    pub(crate) fn write<L: Serialize>(&self, path: &Path, lines: impl ExactSizeIterator<Item = L>) -> Result<(), RecordsError> {
        let write = |file: &mut fs_err::File| -> std::io::Result<()> {
            let mut writer = BufWriter::new(file);
            let head = Head { format: self.format, entries: u64::try_from(lines.len()).map_err(std::io::Error::other)? };
            serde_json::to_writer(&mut writer, &head)?;
            writer.write_all(b"\n")?;
            for line in lines {
                serde_json::to_writer(&mut writer, &line)?;
                writer.write_all(b"\n")?;
            }
            writer.flush()
        };
        files::write_atomically(path, write).map_err(|source| RecordsError::Write { what: self.what, path: path.into(), source })
    }
}
