//! What a workspace was seeded with: the base that `landing` checks the host's files against.
//!
//! It holds digests, never content. One that is not known for certain is refused: it would make a landing compare against the wrong base.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    entry::EntryKind,
    files,
    path::TreePath,
    records::{Records, RecordsError},
};

/// A path whose bytes are written as an array takes five characters each, a link's target as many.
const RECORDS: Records = Records { what: "manifest", format: 1, line_max_bytes: 64 * 1024 };

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

/// An entry as it is written in a file of records.
#[derive(Serialize, Deserialize)]
pub(crate) struct EntryRecord {
    path: TreePath,
    kind: EntryKind,
    mode: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link_target: Option<Vec<u8>>,
}

impl EntryRecord {
    pub(crate) fn new(path: &TreePath, entry: &ManifestEntry) -> Self {
        Self {
            path: path.clone(),
            kind: entry.kind,
            mode: entry.mode,
            size_bytes: entry.size_bytes,
            sha256: entry.digest.map(|digest| files::hex(&digest)),
            link_target: entry.link_target.clone(),
        }
    }

    /// Returns what it says; `None` when its digest is none.
    pub(crate) fn read(self) -> Option<(TreePath, ManifestEntry)> {
        let Self { path, kind, mode, size_bytes, sha256, link_target } = self;
        let digest = match sha256 {
            None => None,
            Some(text) => Some(digest_from_hex(&text)?),
        };
        Some((path, ManifestEntry { kind, mode, size_bytes, digest, link_target }))
    }
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
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
    pub fn load(path: &Path) -> Result<Option<Self>, RecordsError> {
        let mut manifest = Self::new();
        let found = RECORDS.read(path, |record: EntryRecord| {
            let (path, entry) = record.read()?;
            // Nothing is written twice.
            manifest.entries.insert(path, entry).is_none().then_some(())
        })?;
        Ok(found.then_some(manifest))
    }

    /// Writes the manifest aside, syncs it and renames it to `path`.
    ///
    /// # Errors
    /// Any step fails; an older file is then untouched.
    pub fn store(&self, path: &Path) -> Result<(), RecordsError> {
        RECORDS.write(path, self.entries.iter().map(|(path, entry)| EntryRecord::new(path, entry)))
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
            assert!(matches!(Manifest::load(&path), Err(RecordsError::Damaged { .. })), "cut at {length}");
        }
    }

    #[test]
    fn a_newer_manifest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        std::fs::write(&path, "{\"format\":2,\"entries\":0}\n").unwrap();
        assert!(matches!(Manifest::load(&path), Err(RecordsError::Newer { found: 2, .. })));
    }
}
