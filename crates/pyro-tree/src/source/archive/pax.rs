//! Extended headers of POSIX archives: which of their records mean something to a seed, and what they say.
//!
//! A global header speaks for every entry that follows, a plain one for the next entry alone. What is not known is skipped, as tar does:
//! owners, extended attributes, the comment in which `git archive` notes its commit.

use crate::{entry::Timestamp, source::ArchiveProblem};

/// What extended headers say of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) sparse: Sparse,
    /// The entry continues this file of another archive.
    pub(super) other_volume: Option<Vec<u8>>,
}

/// What they say of a sparse file, in any of the three forms that GNU tar has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Of the forms 0.0 and 0.1; in form 1.0 the content begins with the map.
    pub(super) map: Option<Vec<(u64, u64)>>,
    pub(super) major: u64,
    /// Of a pair in the form 0.0, whose halves are records of their own.
    offset: Option<u64>,
}

impl Extension {
    /// Takes over the records of a header, later ones first.
    ///
    /// # Errors
    /// A record is not of the form `LENGTH KEY=VALUE`, or the value of one that counts is none.
    pub(super) fn read(&mut self, mut records: &[u8]) -> Result<(), ArchiveProblem> {
        while !records.is_empty() {
            // GNU tar takes NULs for the end, which old versions wrote to fill the block.
            if records.iter().all(|byte| *byte == 0) {
                break;
            }
            let (key, value, rest) = record(records).ok_or(ArchiveProblem::Extension)?;
            self.take(key, value)?;
            records = rest;
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveProblem> {
        // POSIX: a record without a value takes back what was said before.
        let said = !value.is_empty();
        match key {
            b"path" => self.path = said.then(|| value.to_vec()),
            b"linkpath" => self.link = said.then(|| value.to_vec()),
            b"size" => self.size = optional(value)?,
            b"mtime" => self.mtime = if said { Some(timestamp(value).ok_or(ArchiveProblem::Number)?) } else { None },
            b"GNU.sparse.name" => self.sparse.name = said.then(|| value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = optional(value)?,
            b"GNU.sparse.major" => self.sparse.major = number(value)?,
            b"GNU.sparse.numblocks" => self.sparse.map = Some(Vec::new()),
            b"GNU.sparse.map" => self.sparse.map = Some(map(value)?),
            b"GNU.sparse.offset" => self.sparse.offset = Some(number(value)?),
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take().ok_or(ArchiveProblem::Extension)?;
                self.sparse.map.get_or_insert_default().push((offset, number(value)?));
            }
            b"GNU.volume.filename" => self.other_volume = said.then(|| value.to_vec()),
            _ => {}
        }
        Ok(())
    }

    /// Returns what counts for one entry: what `own` says, and what this global one says of the rest.
    pub(super) fn with(&self, own: &Self) -> Self {
        let mut both = own.clone();
        both.path = both.path.or_else(|| self.path.clone());
        both.link = both.link.or_else(|| self.link.clone());
        both.size = both.size.or(self.size);
        both.mtime = both.mtime.or(self.mtime);
        both.other_volume = both.other_volume.or_else(|| self.other_volume.clone());
        both
    }
}

impl Sparse {
    /// Returns whether the entry is a sparse file at all.
    pub(super) const fn is_meant(&self) -> bool {
        self.map.is_some() || self.major > 0
    }
}

/// Splits off the first record; its length counts itself, the blank and the line break.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..blank]).ok()?.parse().ok()?;
    if length > records.len() || length <= blank + 1 {
        return None;
    }
    let (record, rest) = records.split_at(length);
    let content = record[blank + 1..].strip_suffix(b"\n")?;
    let equals = content.iter().position(|byte| *byte == b'=')?;
    Some((&content[..equals], &content[equals + 1..], rest))
}

fn number(value: &[u8]) -> Result<u64, ArchiveProblem> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(ArchiveProblem::Number)
}

fn optional(value: &[u8]) -> Result<Option<u64>, ArchiveProblem> {
    if value.is_empty() { Ok(None) } else { number(value).map(Some) }
}

/// Reads `OFFSET,LENGTH,OFFSET,LENGTH…`.
fn map(value: &[u8]) -> Result<Vec<(u64, u64)>, ArchiveProblem> {
    let numbers = value.split(|byte| *byte == b',').map(number).collect::<Result<Vec<_>, _>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ArchiveProblem::Number);
    }
    Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
}

/// Reads seconds with a sign and a fraction. What lies between two nanoseconds belongs to the earlier one, before 1970 as well.
fn timestamp(value: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    if !digits.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) || (digits.is_empty() && fraction.is_empty()) {
        return None;
    }
    // More than any clock can say is as good as the end of it.
    let seconds = if digits.is_empty() { 0 } else { digits.parse::<i64>().unwrap_or(i64::MAX) };
    let (kept, lost) = fraction.split_at(fraction.len().min(9));
    let nanoseconds: u32 = format!("{kept:0<9}").parse().ok()?;
    if !negative {
        return Some(Timestamp { seconds, nanoseconds });
    }
    let nanoseconds = nanoseconds + u32::from(lost.bytes().any(|byte| byte != b'0'));
    Some(if nanoseconds == 0 {
        Timestamp { seconds: -seconds, nanoseconds }
    } else {
        Timestamp { seconds: (-seconds).saturating_sub(1), nanoseconds: 1_000_000_000 - nanoseconds }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down_on_both_sides_of_1970() {
        let check = |text: &str, expected: Option<(i64, u32)>| {
            let found = timestamp(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
            assert_eq!(found, expected, "{text}");
        };
        check("1", Some((1, 0)));
        check("1.5", Some((1, 500_000_000)));
        check("1.1234567899", Some((1, 123_456_789)));
        check("-1", Some((-1, 0)));
        check("-1.5", Some((-2, 500_000_000)));
        check("-0.0000000001", Some((-1, 999_999_999)));
        check("-0.9999999991", Some((-1, 0)));
        check("99999999999999999999", Some((i64::MAX, 0)));
        for text in ["", "x", "1.x", "--1", "1e3", "-", "."] {
            check(text, None);
        }
    }

    #[test]
    fn a_record_without_a_value_takes_the_last_one_back() {
        let mut extension = Extension::default();
        extension.read(b"9 path=a\n11 mtime=1\n7 path=\n6 x=\n").unwrap_err();
        let mut extension = Extension::default();
        extension.read(b"10 path=a\n11 mtime=1\n8 path=\n5 x=\n").unwrap();
        assert_eq!((extension.path, extension.mtime.map(|time| time.seconds)), (None, Some(1)));
    }

    #[test]
    fn damaged_records_are_refused() {
        for records in [&b"x path=a\n"[..], b"99 path=a\n", b"10 path=a ", b"2 path=a\n", b"11 path=a\n", b"0 "] {
            assert_eq!(Extension::default().read(records), Err(ArchiveProblem::Extension), "{}", records.escape_ascii());
        }
    }
}
