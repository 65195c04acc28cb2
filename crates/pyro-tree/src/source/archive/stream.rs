//! The bytes of an archive, decompressed.
//!
//! Like tar, this looks at the content to find out how it is packed: `curl -o x.tar` of a compressed archive is no damage.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    path::Path,
};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::header::Header;
use crate::{files::PIECE_BYTES, source::SourceError};

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTANDARD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// What else archives are packed with, so that it can be named.
const OTHERS: [(&[u8], &str); 6] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"LZIP", "lzip"),
    (b"\x1f\x9d", "compress"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
];

/// How an archive is packed, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Compression {
    None,
    Gzip,
    Zstandard,
}

impl Compression {
    /// Returns how a file of this name is packed; `None` when it is no archive's name.
    pub(in crate::source) fn of(name: &[u8]) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let ends = |suffix: &[u8]| name.ends_with(suffix);
        if ends(b".tar") {
            Some(Self::None)
        } else if ends(b".tar.gz") || ends(b".tgz") {
            Some(Self::Gzip)
        } else if ends(b".tar.zst") || ends(b".tar.zstd") || ends(b".tzst") {
            Some(Self::Zstandard)
        } else {
            None
        }
    }
}

/// Opens an archive by its content; what its name says only tells what to expect of one that is neither.
pub(super) fn open<E>(path: &Path, named: Compression) -> Result<Box<dyn Read>, SourceError<E>> {
    let failed = |source| SourceError::Read { path: path.into(), source };
    let file = fs_err::File::open(path).map_err(failed)?;
    let mut file = BufReader::with_capacity(PIECE_BYTES, file);
    let begin = file.fill_buf().map_err(failed)?;
    let other = OTHERS.iter().find(|(magic, _)| begin.starts_with(magic));
    if let Some((_, compression)) = other.filter(|_| !looks_plain(begin)) {
        return Err(SourceError::Compression { path: path.into(), compression });
    }
    let found = if begin.starts_with(GZIP_MAGIC) {
        Compression::Gzip
    } else if begin.starts_with(ZSTANDARD_MAGIC) || is_skippable(begin) {
        Compression::Zstandard
    } else if begin.is_empty() {
        named
    } else {
        Compression::None
    };
    Ok(match found {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(Members { decoder: Some(GzDecoder::new(file)) }),
        Compression::Zstandard => Box::new(Frames { file: Some(file), frame: None }),
    })
}

/// Returns whether content is a plain archive, whose first entry may have a name like the magic of a compression.
fn looks_plain(begin: &[u8]) -> bool {
    begin.first_chunk().and_then(Header::of).is_some()
}

fn is_skippable(begin: &[u8]) -> bool {
    begin.len() >= 4 && begin[0] & 0xf0 == 0x50 && begin[1..4] == [0x2a, 0x4d, 0x18]
}

/// gzip members one after the other, as `cat`, `pigz` and `bgzip` make them; zeros may follow the last, as a tape leaves them.
struct Members {
    decoder: Option<GzDecoder<BufReader<fs_err::File>>>,
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = &mut self.decoder else { return Ok(0) };
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut file) = self.decoder.take().map(GzDecoder::into_inner) else { return Ok(0) };
            let rest = file.fill_buf()?;
            if rest.first() == Some(&0) {
                return zeros_to_the_end(&mut file).map(|()| 0);
            }
            if !rest.is_empty() {
                self.decoder = Some(GzDecoder::new(file));
            }
        }
    }
}

fn zeros_to_the_end(file: &mut BufReader<fs_err::File>) -> io::Result<()> {
    loop {
        let rest = file.fill_buf()?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "trailing data follows the gzip stream"));
        }
        let count = rest.len();
        if count == 0 {
            return Ok(());
        }
        file.consume(count);
    }
}

/// Zstandard frames one after the other; the decoder ends after the first, `zstd -T0` and `cat` make several.
struct Frames {
    /// Present between two frames.
    file: Option<BufReader<fs_err::File>>,
    frame: Option<StreamingDecoder<BufReader<fs_err::File>, FrameDecoder>>,
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                let sums = (frame.decoder.get_checksum_from_data(), frame.decoder.get_calculated_checksum());
                if let (Some(written), Some(found)) = sums
                    && written != found
                {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum does not fit"));
                }
                self.file = self.frame.take().map(StreamingDecoder::into_inner);
            }
            let Some(mut file) = self.file.take() else { return Ok(0) };
            let begin = file.fill_buf()?;
            if begin.is_empty() {
                self.file = Some(file);
                return Ok(0);
            }
            // `pzstd` notes sizes in frames that say how long they are and nothing else.
            if is_skippable(begin) {
                let mut head = [0; 8];
                file.read_exact(&mut head)?;
                let length = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
                if io::copy(&mut (&mut file).take(length), &mut io::sink())? != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.file = Some(file);
                continue;
            }
            match StreamingDecoder::new(file) {
                Ok(frame) => self.frame = Some(frame),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            }
        }
    }
}
