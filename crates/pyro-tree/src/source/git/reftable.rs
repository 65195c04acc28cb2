//! Reads references from reftables, the form that `git init --ref-format=reftable` keeps them in, and writes them as files.
//!
//! Git before 2.45 cannot read them, Debian 12's included, so a seed gets files. A stack of tables is named by `tables.list`, the oldest first, and the newest that
//! speaks about a reference counts. Reflogs are not read. Format: `reftable(5)` of Git, without its indexes, which only serve to find one
//! reference fast.

use std::{collections::BTreeMap, path::Path};

use crate::{files::hex, source::folder::Folder};

/// Largest table accepted; a million references take about 30 MiB.
const TABLE_MAX_BYTES: u64 = 256 << 20;
const LIST_MAX_BYTES: u64 = 64 * 1024;
/// Most tables of one stack: Git joins them when there are a few dozen.
const TABLES_MAX: usize = 1000;
const MAGIC: &[u8] = b"REFT";
const REFERENCE_BLOCK: u8 = b'r';

/// What a reference points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    Object { id: Vec<u8>, peeled: Option<Vec<u8>> },
    Symbolic(Vec<u8>),
}

/// The references of a checkout, by name; `HEAD` is one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct References(BTreeMap<Vec<u8>, Reference>);

#[derive(Debug, thiserror::Error)]
pub(super) enum ReftableError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("a reftable is missing")]
    Missing,
    #[error("there are more than {TABLES_MAX} reftables")]
    TooMany,
    #[error("a reftable is damaged")]
    Damaged,
}

impl References {
    /// Reads the stack of a repository's folder.
    pub(super) fn read(repository: &Path) -> Result<Self, ReftableError> {
        let folder = Folder::open(repository)?;
        let list = folder.read_small(b"reftable/tables.list", LIST_MAX_BYTES)?.ok_or(ReftableError::Missing)?;
        let names: Vec<&[u8]> = list.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()).collect();
        if names.len() > TABLES_MAX {
            return Err(ReftableError::TooMany);
        }
        let mut references = Self::default();
        for name in names {
            if name.contains(&b'/') {
                return Err(ReftableError::Damaged);
            }
            let table = folder.read_small(&[b"reftable/", name].concat(), TABLE_MAX_BYTES)?.ok_or(ReftableError::Missing)?;
            references.add_table(&table).ok_or(ReftableError::Damaged)?;
        }
        Ok(references)
    }

    /// Takes over what a newer table says.
    fn add_table(&mut self, table: &[u8]) -> Option<()> {
        let (head, foot, id_bytes) = match (table.starts_with(MAGIC), table.get(4)?) {
            (true, 1) => (24, 68, 20),
            (true, 2) => (28, 72, if table.get(24..28)? == b"s256" { 32 } else { 20 }),
            _ => return None,
        };
        let block_size = number(table.get(5..8)?);
        let table = &table[..table.len().checked_sub(foot)?];
        let mut start = 0;
        loop {
            let content = if start == 0 { head } else { start };
            let Some([kind, length @ ..]) = table.get(content..content + 4) else { return Some(()) };
            if *kind != REFERENCE_BLOCK {
                return Some(());
            }
            // The first block counts from the beginning of the file.
            let length = number(length);
            let block = table.get(start..start.checked_add(length)?)?;
            self.add_block(block.get(content + 4 - start..)?, id_bytes)?;
            let end = start + length;
            // Blocks are padded to their size, unless the next one follows at once.
            let padded = block_size > length && table.get(end).is_none_or(|byte| *byte == 0);
            start = if padded { start + block_size } else { end };
        }
    }

    /// Takes over the records of a block; behind them stand offsets of some of them, and how many those are.
    fn add_block(&mut self, block: &[u8], id_bytes: usize) -> Option<()> {
        let (rest, count) = block.split_at_checked(block.len().checked_sub(2)?)?;
        let offsets = number(count).checked_mul(3)?;
        let mut records = rest.get(..rest.len().checked_sub(offsets)?)?;
        let mut name = Vec::new();
        while !records.is_empty() {
            let kept = varint(&mut records)?;
            let added = varint(&mut records)?;
            name.truncate(kept);
            if name.len() != kept {
                return None;
            }
            name.extend_from_slice(take(&mut records, added >> 3)?);
            varint(&mut records)?;
            let reference = match added & 7 {
                0 => None,
                1 => Some(Reference::Object { id: take(&mut records, id_bytes)?.to_vec(), peeled: None }),
                2 => {
                    let id = take(&mut records, id_bytes)?.to_vec();
                    Some(Reference::Object { id, peeled: Some(take(&mut records, id_bytes)?.to_vec()) })
                }
                3 => {
                    let length = varint(&mut records)?;
                    Some(Reference::Symbolic(take(&mut records, length)?.to_vec()))
                }
                _ => return None,
            };
            match reference {
                Some(reference) => self.0.insert(name.clone(), reference),
                None => self.0.remove(&name),
            };
        }
        Some(())
    }

    /// Takes the references of one worktree over those of its repository: `HEAD`, and what `own` says is its alone.
    pub(super) fn with_worktree(mut self, worktree: Self, own: impl Fn(&[u8]) -> bool) -> Self {
        let alone = |name: &[u8]| !name.starts_with(b"refs/") || own(name);
        self.0.retain(|name, _| !alone(name));
        self.0.extend(worktree.0.into_iter().filter(|(name, _)| alone(name)));
        self
    }

    /// Returns what `HEAD` or another name says: an object, or the name it stands for.
    pub(super) fn get(&self, name: &[u8]) -> Option<Vec<u8>> {
        match self.0.get(name)? {
            Reference::Object { id, .. } => Some(hex(id).into_bytes()),
            Reference::Symbolic(target) => Some([b"ref: ", target.as_slice()].concat()),
        }
    }

    /// Returns the files that say the same: `packed-refs`, and one for each reference that cannot be in it.
    pub(super) fn files(&self, own: impl Fn(&[u8]) -> bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut packed = b"# pack-refs with: peeled fully-peeled sorted \n".to_vec();
        let mut files = Vec::new();
        for (name, reference) in &self.0 {
            match reference {
                _ if !is_name(name) => {}
                Reference::Object { id, peeled } if name.starts_with(b"refs/") && !own(name) => {
                    packed.extend_from_slice(&[hex(id).as_bytes(), b" ", name, b"\n"].concat());
                    if let Some(peeled) = peeled {
                        packed.extend_from_slice(&[b"^", hex(peeled).as_bytes(), b"\n"].concat());
                    }
                }
                Reference::Object { .. } | Reference::Symbolic(_) => {
                    files.push((name.clone(), [self.get(name).unwrap_or_default(), b"\n".to_vec()].concat()));
                }
            }
        }
        files.push((b"packed-refs".to_vec(), packed));
        files
    }
}

/// Returns whether a reference may become a file of a `.git`: it lies in `refs`, or is one of Git's own in capitals.
fn is_name(name: &[u8]) -> bool {
    let plain = |part: &[u8]| !part.is_empty() && !part.starts_with(b".") && !part.ends_with(b".lock");
    let shown = name.iter().all(|byte| *byte > b' ' && *byte != 127);
    let capitals = || name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
    shown && name.split(|byte| *byte == b'/').all(plain) && (name.starts_with(b"refs/") || capitals())
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0_usize;
    for position in 0..10 {
        let byte = *take(rest, 1)?.first()?;
        if position > 0 {
            value = value.checked_add(1)?;
        }
        value = value.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(version in 1_u8..4, block_size in 0_u8..3, bytes in proptest::collection::vec(any::<u8>(), 60..300)) {
            let mut table = [MAGIC, &[version, 0, block_size, 0], &[0; 16], b"r\0\0", &bytes].concat();
            References::default().add_table(&table);
            table[27] = 100;
            References::default().add_table(&table);
        }
    }

    #[test]
    fn no_name_leads_to_another_file_of_the_repository() {
        for name in ["refs/heads/a", "HEAD", "ORIG_HEAD"] {
            assert!(is_name(name.as_bytes()), "{name}");
        }
        for name in ["config", "hooks/x", "refs/../config", "refs//a", "refs/heads/a.lock", "refs/a\nb", "refs/", "/refs/a", "index"] {
            assert!(!is_name(name.as_bytes()), "{name}");
        }
    }
}
