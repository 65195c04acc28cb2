//! What a workspace was seeded with: the base that `landing` checks the host's files against.
//!
//! The file is one JSON object per line, the first of them the format. A newer format is refused, not guessed: an unknown manifest makes
//! a landing compare against the wrong base. It holds digests, never content.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use pyro_proto::error::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::{entry::EntryKind, files, path::TreePath};

/// Version of the file's format.
const FORMAT: u32 = 1;
/// Longest line accepted: a path whose bytes are written as an array takes five characters each, a link's target as many.
const LINE_MAX_BYTES: u64 = 64 * 1024;

/// What is remembered of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestEntry {
    /// What it is.
    pub kind: EntryKind,
    /// Its permission bits.
    pub mode: u32,
    /// Size of a file.
    pub size_bytes: u64,
    /// SHA-256 of a file's content.
    pub digest: Option<[u8; 32]>,
    /// Of a link, as it is written in it.
    pub link_target: Option<Vec<u8>>,
}

/// Every entry of a seed by its path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: BTreeMap<TreePath, ManifestEntry>,
}

/// A manifest that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("cannot read manifest `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write manifest `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is not what this version writes.
    #[error("manifest `{}` is damaged in line {line}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What the parser says; `None` when the line is too long or missing.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// A newer Pyro wrote it.
    #[error("manifest `{}` has format {format}, this version knows {FORMAT}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it says.
        format: u32,
    },
}

impl ManifestError {
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

#[derive(Serialize, Deserialize)]
struct Line {
    path: TreePath,
    #[serde(flatten)]
    entry: StoredEntry,
}

/// An entry as files have it.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredEntry {
    kind: EntryKind,
    mode: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link_target: Option<Vec<u8>>,
}

impl StoredEntry {
    /// Returns the entry; `None` when its digest is none.
    pub(crate) fn entry(self) -> Option<ManifestEntry> {
        let Self { kind, mode, size_bytes, sha256, link_target } = self;
        let digest = match sha256 {
            None => None,
            Some(text) => Some(digest_from_hex(&text)?),
        };
        Some(ManifestEntry { kind, mode, size_bytes, digest, link_target })
    }
}

impl From<&ManifestEntry> for StoredEntry {
    fn from(entry: &ManifestEntry) -> Self {
        Self {
            kind: entry.kind,
            mode: entry.mode,
            size_bytes: entry.size_bytes,
            sha256: entry.digest.map(|digest| files::hex(&digest)),
            link_target: entry.link_target.clone(),
        }
    }
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Reads a file of lines, each of them whole and none too long.
pub(crate) struct Lines {
    reader: BufReader<fs_err::File>,
    path: PathBuf,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens a file; `None` when there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, ManifestError> {
        match fs_err::File::open(path) {
            Ok(file) => Ok(Some(Self { reader: BufReader::new(file), path: path.into(), line: Vec::new(), number: 0 })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ManifestError::Read { path: path.into(), source }),
        }
    }

    /// Reads the next line; `None` at the end.
    pub(crate) fn next<'l, T: Deserialize<'l>>(&'l mut self) -> Result<Option<T>, ManifestError> {
        self.line.clear();
        self.number += 1;
        let mut limited = (&mut self.reader).take(LINE_MAX_BYTES);
        limited.read_until(b'\n', &mut self.line).map_err(|source| ManifestError::Read { path: self.path.clone(), source })?;
        match self.line.pop() {
            None => return Ok(None),
            Some(b'\n') => {}
            Some(_) => return Err(self.damaged(None)),
        }
        let (path, line) = (&self.path, self.number);
        let damaged = |source| ManifestError::Damaged { path: path.clone(), line, source: Some(source) };
        serde_json::from_slice(&self.line).map(Some).map_err(damaged)
    }

    /// Makes the error of a line that cannot be what it is.
    pub(crate) fn damaged(&self, source: Option<serde_json::Error>) -> ManifestError {
        ManifestError::Damaged { path: self.path.clone(), line: self.number, source }
    }
}

impl Manifest {
    /// Returns a manifest of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers an entry; one that is there under this path is replaced.
    pub fn insert(&mut self, path: TreePath, entry: ManifestEntry) {
        self.entries.insert(path, entry);
    }

    /// Returns what is remembered of this path.
    #[must_use]
    pub fn get(&self, path: &TreePath) -> Option<&ManifestEntry> {
        self.entries.get(path)
    }

    /// Returns every entry, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &ManifestEntry)> {
        self.entries.iter()
    }

    /// Returns how many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads a manifest; `None` when there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or a newer version wrote it.
    pub fn load(path: &Path) -> Result<Option<Self>, ManifestError> {
        let Some(mut lines) = Lines::open(path)? else { return Ok(None) };
        let Some(head) = lines.next::<Head>()? else { return Err(lines.damaged(None)) };
        if head.format != FORMAT {
            return Err(ManifestError::Newer { path: path.into(), format: head.format });
        }
        let mut manifest = Self::new();
        while let Some(Line { path, entry }) = lines.next()? {
            manifest.insert(path, entry.entry().ok_or_else(|| lines.damaged(None))?);
        }
        // A file cut at the end of a line parses, and would let a landing take what is missing for new.
        if u64::try_from(manifest.len()) != Ok(head.entries) {
            return Err(lines.damaged(None));
        }
        Ok(Some(manifest))
    }

    /// Writes the manifest aside, syncs it and renames it to `path`.
    ///
    /// # Errors
    /// Any step fails; an older file is then untouched.
    pub fn store(&self, path: &Path) -> Result<(), ManifestError> {
        let write = |file: &mut fs_err::File| -> std::io::Result<()> {
            let mut writer = BufWriter::new(file);
            let head = Head { format: FORMAT, entries: u64::try_from(self.len()).map_err(std::io::Error::other)? };
            serde_json::to_writer(&mut writer, &head)?;
            writer.write_all(b"\n")?;
            for (path, entry) in self.iter() {
                let line = Line { path: path.clone(), entry: entry.into() };
                serde_json::to_writer(&mut writer, &line)?;
                writer.write_all(b"\n")?;
            }
            writer.flush()
        };
        files::write_atomically(path, write).map_err(|source| ManifestError::Write { path: path.into(), source })
    }
}

fn digest_from_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let mut manifest = Manifest::new();
        let entry = ManifestEntry { kind: EntryKind::File, mode: 0o644, size_bytes: 3, digest: Some([0xab; 32]), link_target: None };
        manifest.insert(TreePath::try_from("a\n\"b").unwrap(), entry.clone());
        manifest.insert(TreePath::try_from(&b"\xff/c"[..]).unwrap(), entry);
        let link = ManifestEntry { kind: EntryKind::Link, mode: 0o777, size_bytes: 0, digest: None, link_target: Some(b"\xfe".to_vec()) };
        manifest.insert(TreePath::try_from("l").unwrap(), link);
        manifest
    }

    #[test]
    fn a_manifest_comes_back_as_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        assert_eq!(Manifest::load(&path).unwrap(), None);
        sample().store(&path).unwrap();
        assert_eq!(Manifest::load(&path).unwrap(), Some(sample()));
    }

    #[test]
    fn a_manifest_cut_anywhere_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        sample().store(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(Manifest::load(&path), Err(ManifestError::Damaged { .. })), "cut at {length}");
        }
    }

    #[test]
    fn a_newer_manifest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        std::fs::write(&path, "{\"format\":2,\"entries\":0}\n").unwrap();
        assert!(matches!(Manifest::load(&path), Err(ManifestError::Newer { format: 2, .. })));
    }
}
