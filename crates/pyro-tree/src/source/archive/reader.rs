//! Reads an archive entry by entry: v7, ustar, pax and GNU, with their long names and sparse files.
//!
//! The reader takes what GNU tar takes: an archive may end without the mark of its end, numbers may be oddly written, labels and the
//! folder lists of incremental backups are no files. What only a set of archives together says is refused. Everything but content is
//! bounded before it is read: a compressed archive can claim a terabyte of names in a kilobyte.

use std::io::{self, Read};

use super::{
    header::{BLOCK_BYTES, Header, Number, more_sparse, until_nul},
    pax::Extension,
    sparse::Map,
};
use crate::{entry::Timestamp, files::PIECE_BYTES, source::ArchiveProblem};

/// What headers of one entry may take: a path and a link's target, extended attributes, and a sparse map of 40 000 pieces.
const HEADERS_MAX_BYTES: u64 = 2 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Folder,
    Link,
    HardLink,
    Fifo,
}

/// One entry, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) kind: MemberKind,
    /// `None` when the header leaves it blank.
    pub(super) mode: Option<u32>,
    pub(super) mtime: Timestamp,
    /// Size of the content with its holes.
    pub(super) size_bytes: u64,
    /// Bytes of it that the archive really holds.
    pub(super) stored_bytes: u64,
    /// Of a link of either kind.
    pub(super) target: Vec<u8>,
}

/// Why no further entry can be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Damaged(io::Error),
    Refused { name: Vec<u8>, problem: ArchiveProblem },
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

/// An archive being read.
#[derive(Debug)]
pub(super) struct Reader<R> {
    inner: R,
    position: u64,
    global: Extension,
    content: Content,
    /// Entries and headers met; an archive without any is none.
    met: u64,
}

/// Where the reading of an entry's content stands.
#[derive(Debug, Default)]
struct Content {
    map: Map,
    /// Bytes of the content, holes included, that have been handed over.
    handed: u64,
    /// Bytes still stored in the archive, and what pads them to whole blocks.
    stored: u64,
    padding: u64,
}

/// What precedes an entry and belongs to it.
#[derive(Default)]
struct Before {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    own: Extension,
    taken: u64,
}

impl Before {
    /// Notes that headers take so much more.
    fn charge(&mut self, bytes: u64) -> io::Result<()> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken > HEADERS_MAX_BYTES { Err(io::Error::other("headers of one entry are too long")) } else { Ok(()) }
    }
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, position: 0, global: Extension::default(), content: Content::default(), met: 0 }
    }

    /// Returns how many bytes have been read.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next entry, skipping what is left of the last one; `None` at the archive's end.
    pub(super) fn next(&mut self) -> Result<Option<Member>, ReadError> {
        self.skip_content()?;
        let mut before = Before::default();
        loop {
            let mut block = [0; BLOCK_BYTES];
            // Like tar's, the end is the first block of zeros, or that of the file.
            if !self.fill_or_end(&mut block)? || block.iter().all(|byte| *byte == 0) {
                if self.met == 0 && self.position < BLOCK_BYTES as u64 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                if before.taken > 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends between the headers of an entry").into());
                }
                return Ok(None);
            }
            let Some(header) = Header::of(&block) else {
                let told = if self.met == 0 { "it is not a tar archive" } else { "the checksum of a header does not match" };
                return Err(io::Error::new(io::ErrorKind::InvalidData, told).into());
            };
            self.met += 1;
            let name = || before.long_name.clone().unwrap_or_else(|| header.name());
            let size = match header.size() {
                Number::Value(size) => u64::try_from(size).ok(),
                // Old archives leave the size of what has none blank.
                Number::Blank => Some(0),
                Number::Damaged => None,
            };
            let Some(size) = size else { return Err(ReadError::Refused { name: name(), problem: ArchiveProblem::Number }) };
            match header.kind() {
                b'L' => before.long_name = Some(until_nul(&self.read_header_content(size, &mut before)?).to_vec()),
                b'K' => before.long_link = Some(until_nul(&self.read_header_content(size, &mut before)?).to_vec()),
                // `X` is what Solaris called it before POSIX did.
                b'x' | b'X' => {
                    let shown = name();
                    before.own = Extension::default();
                    let records = self.read_header_content(size, &mut before)?;
                    before.own.read(&records).map_err(|problem| ReadError::Refused { name: shown, problem })?;
                }
                b'g' => {
                    let shown = name();
                    let records = self.read_header_content(size, &mut before)?;
                    self.global.read(&records).map_err(|problem| ReadError::Refused { name: shown, problem })?;
                    before.taken = 0;
                }
                // The label of a volume.
                b'V' => self.expect_stored(size),
                kind => return self.member(kind, header, size, before).map(Some),
            }
            if header.kind() == b'V' {
                self.skip_content()?;
            }
        }
    }

    fn member(&mut self, kind: u8, header: Header<'_>, size: u64, mut before: Before) -> Result<Member, ReadError> {
        let extension = self.global.with(&before.own);
        let name = extension.path.clone().or_else(|| before.long_name.take()).unwrap_or_else(|| header.name());
        let name = extension.other_volume.clone().or_else(|| extension.sparse.name.clone()).unwrap_or(name);
        let refused = |problem| ReadError::Refused { name: name.clone(), problem };
        if extension.other_volume.is_some() || kind == b'M' {
            return Err(refused(ArchiveProblem::Volume));
        }
        // Only what may have content has a size; elsewhere it is a hint about something else.
        let size = extension.size.unwrap_or(if matches!(kind, b'1'..=b'6') { 0 } else { size });
        let target = extension.link.clone().or_else(|| before.long_link.take()).unwrap_or_else(|| header.link().to_vec());
        let mode = match header.mode() {
            Number::Value(mode) => Some(u32::try_from(mode & 0o7777).unwrap_or(0)),
            Number::Blank => None,
            Number::Damaged => return Err(refused(ArchiveProblem::Number)),
        };
        let mtime = match (extension.mtime, header.mtime()) {
            (Some(mtime), _) => mtime,
            (None, Number::Value(seconds)) => Timestamp::from_seconds(seconds),
            (None, Number::Blank) => Timestamp::from_seconds(0),
            (None, Number::Damaged) => return Err(refused(ArchiveProblem::Number)),
        };
        let kind = match kind {
            // Before there was a kind for folders, they were files whose name ends with a slash.
            b'0' | 0 | b'7' if name.ends_with(b"/") => MemberKind::Folder,
            b'0' | 0 | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink,
            b'2' => MemberKind::Link,
            b'3' | b'4' => return Err(refused(ArchiveProblem::Device)),
            // Of an incremental backup, with the names of what the folder holds as its content.
            b'5' | b'D' => MemberKind::Folder,
            b'6' => MemberKind::Fifo,
            unknown => return Err(refused(ArchiveProblem::Kind(char::from(unknown).escape_default().to_string()))),
        };
        self.expect_stored(size);
        let sparse = if header.kind() == b'S' {
            Some(self.old_map(header, &mut before)?)
        } else if kind == MemberKind::File && extension.sparse.is_meant() {
            Some(self.pax_map(&extension, &mut before)?)
        } else {
            None
        };
        let size_bytes = match sparse {
            None => {
                self.content.map = Map::whole(size);
                size
            }
            Some((pieces, real_size)) => {
                let map = Map::new(pieces, real_size, self.content.stored).ok_or_else(|| refused(ArchiveProblem::Sparse))?;
                self.content.map = map;
                real_size
            }
        };
        let size_bytes = if kind == MemberKind::File { size_bytes } else { 0 };
        Ok(Member { name, kind, mode, mtime, size_bytes, stored_bytes: self.content.stored, target })
    }

    /// Reads the map of a sparse file in the old GNU form, the rest of which lies in blocks behind the header.
    fn old_map(&mut self, header: Header<'_>, before: &mut Before) -> Result<(Vec<(u64, u64)>, u64), ReadError> {
        let refused = || ReadError::Refused { name: header.name(), problem: ArchiveProblem::Sparse };
        let (mut pieces, mut goes_on) = header.sparse();
        while goes_on {
            before.charge(BLOCK_BYTES as u64)?;
            let mut block = [0; BLOCK_BYTES];
            self.fill(&mut block)?;
            let (more, further) = more_sparse(&block);
            pieces.extend(more);
            goes_on = further;
        }
        let positive = |number| if let Number::Value(value) = number { u64::try_from(value).ok() } else { None };
        let real_size = positive(header.real_size()).ok_or_else(refused)?;
        let pieces = pieces.into_iter().map(|(offset, length)| Some((positive(offset)?, positive(length)?)));
        Ok((pieces.collect::<Option<_>>().ok_or_else(refused)?, real_size))
    }

    /// Returns the map of a sparse file of a POSIX archive. In form 1.0 it is decimal text, padded to a block, before the content.
    fn pax_map(&mut self, extension: &Extension, before: &mut Before) -> Result<(Vec<(u64, u64)>, u64), ReadError> {
        let name = extension.sparse.name.clone().or_else(|| extension.path.clone()).unwrap_or_default();
        let refused = || ReadError::Refused { name: name.clone(), problem: ArchiveProblem::Sparse };
        let real_size = extension.sparse.real_size.ok_or_else(refused)?;
        if extension.sparse.major == 0 {
            return Ok((extension.sparse.map.clone().unwrap_or_default(), real_size));
        }
        if extension.sparse.major > 1 {
            return Err(refused());
        }
        let mut numbers = Vec::new();
        let mut wanted = 1_u64;
        let mut current: Option<u64> = None;
        while (numbers.len() as u64) < wanted {
            before.charge(BLOCK_BYTES as u64)?;
            self.content.stored = self.content.stored.checked_sub(BLOCK_BYTES as u64).ok_or_else(refused)?;
            let mut block = [0; BLOCK_BYTES];
            self.fill(&mut block)?;
            for byte in block {
                match (byte, current) {
                    _ if numbers.len() as u64 >= wanted => break,
                    (b'\n', Some(number)) => {
                        numbers.push(number);
                        current = None;
                        if numbers.len() == 1 {
                            wanted = number.checked_mul(2).and_then(|count| count.checked_add(1)).ok_or_else(refused)?;
                        }
                    }
                    (b'0'..=b'9', _) => {
                        let digit = u64::from(byte - b'0');
                        current =
                            Some(current.unwrap_or(0).checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or_else(refused)?);
                    }
                    _ => return Err(refused()),
                }
            }
        }
        let (pairs, _) = numbers[1..].as_chunks::<2>();
        Ok((pairs.iter().map(|[offset, length]| (*offset, *length)).collect(), real_size))
    }

    /// Reads the content of something that itself is a header.
    fn read_header_content(&mut self, size: u64, before: &mut Before) -> io::Result<Vec<u8>> {
        before.charge(size.saturating_add(BLOCK_BYTES as u64))?;
        self.expect_stored(size);
        let mut content = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        self.fill(&mut content)?;
        self.content.stored = 0;
        self.skip_content()?;
        Ok(content)
    }

    fn expect_stored(&mut self, size: u64) {
        let block = BLOCK_BYTES as u64;
        self.content = Content { map: Map::default(), handed: 0, stored: size, padding: (block - size % block) % block };
    }

    /// Reads over what has not been read of an entry.
    fn skip_content(&mut self) -> io::Result<()> {
        let mut left = self.content.stored.saturating_add(self.content.padding);
        self.content = Content::default();
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
        while left > 0 {
            let wanted = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            self.fill(&mut piece[..wanted])?;
            left -= wanted as u64;
        }
        Ok(())
    }

    /// Reads what follows the end of the archive, which lets a decompressor check its sum.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        while self.read_some(&mut piece)? > 0 {}
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.is_empty() || self.fill_or_end(buffer)? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Fills a buffer; `false` when nothing was left.
    fn fill_or_end(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(true)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.read(buffer) {
                Ok(count) => {
                    self.position = self.position.saturating_add(count as u64);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads the content of the entry that came last, with zeros for its holes.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.content.map.at(self.content.handed);
        let wanted = usize::try_from(piece.length).map_or(buffer.len(), |length| length.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let count = if piece.hole {
            buffer[..wanted].fill(0);
            wanted
        } else {
            let count = self.read_some(&mut buffer[..wanted])?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends in the middle of it"));
            }
            self.content.stored = self.content.stored.saturating_sub(count as u64);
            count
        };
        self.content.handed += count as u64;
        Ok(count)
    }
}
