//! Reads which paths a Git index tracks: formats 2 to 4, SHA-1 and SHA-256, split indexes.
//!
//! Only names are wanted, so a crate of fifty dependencies is not. Object ids, stat data and caches are skipped; stages of a conflict
//! are one path. What is not understood is an error, never a shorter list: a path that is missing here may be left out of a seed.
//! Format: `gitformat-index(5)`, bitmaps as in `ewah/ewah_rlw.h`.

/// Largest index accepted; a million files take about 100 MiB.
pub(super) const INDEX_MAX_BYTES: u64 = 512 << 20;

const MODE_GITLINK: u32 = 0o160_000;
/// More flags follow, and one of those.
const FLAG_EXTENDED: u16 = 0x4000;
const FLAG_SKIP_WORKTREE: u16 = 0x4000;

/// One tracked path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tracked {
    pub(super) path: Vec<u8>,
    /// It is the root of a submodule.
    pub(super) submodule: bool,
    /// It is outside of a sparse checkout, so that it need not be there.
    pub(super) skipped: bool,
}

/// An index as it lies on the disk.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) entries: Vec<Tracked>,
    /// Of a split index: the name of the shared one, and which of its entries are gone.
    pub(super) shared: Option<(String, Vec<usize>)>,
}

/// An index that is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum IndexError {
    #[error("it ends in the middle of an entry")]
    Short,
    #[error("it does not begin like an index")]
    Signature,
    #[error("its format {0} is not known")]
    Version(u32),
    #[error("its extension `{}` is not known, but needed", crate::path::printable(.0))]
    Extension([u8; 4]),
    #[error("a bitmap in it is damaged")]
    Bitmap,
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], IndexError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(IndexError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], IndexError> {
        self.take(N)?.try_into().map_err(|_| IndexError::Short)
    }

    fn u16(&mut self) -> Result<u16, IndexError> {
        self.number().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, IndexError> {
        self.number().map(u32::from_be_bytes)
    }

    fn until_nul(&mut self) -> Result<&'a [u8], IndexError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(IndexError::Short)?;
        let taken = self.take(end)?;
        self.take(1)?;
        Ok(taken)
    }

    /// The offset encoding of pack files, which format 4 uses for how much of the last path goes.
    fn offset(&mut self) -> Result<usize, IndexError> {
        let mut value = 0_usize;
        for position in 0..5 {
            let [byte] = self.number::<1>()?;
            if position > 0 {
                value = value.checked_add(1).ok_or(IndexError::Short)?;
            }
            value = value.checked_mul(128).and_then(|value| value.checked_add(usize::from(byte & 0x7f))).ok_or(IndexError::Short)?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(IndexError::Short)
    }
}

impl Index {
    /// Reads an index whose object ids have `id_bytes` bytes.
    pub(super) fn parse(bytes: &[u8], id_bytes: usize) -> Result<Self, IndexError> {
        let body = bytes.len().checked_sub(id_bytes).ok_or(IndexError::Short)?;
        let mut cursor = Cursor(&bytes[..body]);
        if cursor.take(4)? != b"DIRC" {
            return Err(IndexError::Signature);
        }
        let version = cursor.u32()?;
        if !(2..=4).contains(&version) {
            return Err(IndexError::Version(version));
        }
        let mut index = Self::default();
        let mut last: Vec<u8> = Vec::new();
        for _ in 0..cursor.u32()? {
            let start = cursor.0.len();
            cursor.take(24)?;
            let mode = cursor.u32()?;
            cursor.take(12 + id_bytes)?;
            let extended = cursor.u16()? & FLAG_EXTENDED != 0;
            let skipped = extended && cursor.u16()? & FLAG_SKIP_WORKTREE != 0;
            if version == 4 {
                let kept = last.len().checked_sub(cursor.offset()?).ok_or(IndexError::Short)?;
                last.truncate(kept);
                last.extend_from_slice(cursor.until_nul()?);
            } else {
                last = cursor.until_nul()?.to_vec();
                let length = start - cursor.0.len();
                cursor.take((8 - length % 8) % 8)?;
            }
            index.entries.push(Tracked { path: last.clone(), submodule: mode == MODE_GITLINK, skipped });
        }
        while !cursor.0.is_empty() {
            let signature = cursor.number::<4>()?;
            let size = usize::try_from(cursor.u32()?).map_err(|_| IndexError::Short)?;
            let content = cursor.take(size)?;
            match &signature {
                b"link" => index.shared = Some(shared(content, id_bytes)?),
                // Sparse folders are entries whose name ends with a slash; they lie on no disk and match nothing.
                b"sdir" => {}
                [b'A'..=b'Z', ..] => {}
                _ => return Err(IndexError::Extension(signature)),
            }
        }
        Ok(index)
    }

    /// Joins a split index with its shared one.
    pub(super) fn joined(self, shared: Self) -> Vec<Tracked> {
        let gone = self.shared.map(|(_, gone)| gone).unwrap_or_default();
        let mut gone = gone.into_iter().peekable();
        let mut entries = Vec::with_capacity(shared.entries.len());
        for (position, entry) in shared.entries.into_iter().enumerate() {
            if gone.next_if_eq(&position).is_none() {
                entries.push(entry);
            }
        }
        // An entry that replaces a shared one has no name of its own: it is there already.
        entries.extend(self.entries.into_iter().filter(|entry| !entry.path.is_empty()));
        entries
    }
}

fn shared(content: &[u8], id_bytes: usize) -> Result<(String, Vec<usize>), IndexError> {
    let mut cursor = Cursor(content);
    let name = crate::files::hex(cursor.take(id_bytes)?);
    let gone = if cursor.0.is_empty() { Vec::new() } else { bits(&mut cursor)? };
    Ok((format!("sharedindex.{name}"), gone))
}

/// Returns the positions of the bits that are set in a compressed bitmap.
fn bits(cursor: &mut Cursor<'_>) -> Result<Vec<usize>, IndexError> {
    let total = usize::try_from(cursor.u32()?).map_err(|_| IndexError::Bitmap)?;
    let words = usize::try_from(cursor.u32()?).map_err(|_| IndexError::Bitmap)?;
    let mut words = Cursor(cursor.take(words.checked_mul(8).ok_or(IndexError::Bitmap)?)?);
    cursor.u32()?;
    // A run of four milliard bits takes eight bytes: what an index of the largest size could name is the bound.
    if u64::try_from(total).is_ok_and(|total| total > INDEX_MAX_BYTES / 62) {
        return Err(IndexError::Bitmap);
    }
    let mut set = Vec::new();
    let mut position = 0_usize;
    while !words.0.is_empty() {
        let marker = words.number().map(u64::from_be_bytes)?;
        let run = usize::try_from((marker >> 1) & 0xffff_ffff).map_err(|_| IndexError::Bitmap)? * 64;
        let end = position.checked_add(run).ok_or(IndexError::Bitmap)?;
        if marker & 1 == 1 {
            set.extend(position..end.min(total));
        }
        position = end;
        for _ in 0..marker >> 33 {
            let word = words.number().map(u64::from_be_bytes)?;
            set.extend((0..64).filter(|bit| word >> bit & 1 == 1).map(|bit| position + bit).filter(|bit| *bit < total));
            position = position.checked_add(64).ok_or(IndexError::Bitmap)?;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(version in 2_u32..5, count in 0_u32..4, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let whole = [b"DIRC".as_slice(), &version.to_be_bytes(), &count.to_be_bytes(), &bytes].concat();
            let _ = Index::parse(&whole, 20);
        }

        #[test]
        fn no_bitmap_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 20..100)) {
            let _ = shared(&bytes, 20);
        }
    }
}
