//! The bytes of an archive, decompressed, with a budget for everything that is not content.
//!
//! `tar` collects long names, extended headers and sparse maps in memory, as long as an archive says they are. A compressed archive can
//! say a terabyte in a kilobyte, so the stream itself fails once headers have taken more than any honest entry needs.

use std::{
    cell::Cell,
    io::{self, BufReader, Read},
    path::Path,
    rc::Rc,
};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::{files::PIECE_BYTES, source::SourceError};

/// What headers of one entry may take: a path and a link's target, extended attributes, and a sparse map of 40 000 pieces.
const HEADERS_MAX_BYTES: u64 = 2 << 20;

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

#[derive(Debug)]
struct Gauge {
    position: Cell<u64>,
    budget: Cell<Option<u64>>,
    ended: Cell<bool>,
}

/// An archive being read, and where the reading stands.
pub(super) struct Stream {
    inner: std::cell::RefCell<Option<Box<dyn Read>>>,
    gauge: Rc<Gauge>,
}

impl Stream {
    pub(super) fn open<E>(path: &Path, compression: Compression) -> Result<Self, SourceError<E>> {
        let file = fs_err::File::open(path).map_err(|source| SourceError::Read { path: path.into(), source })?;
        let file = BufReader::with_capacity(PIECE_BYTES, file);
        let inner: Box<dyn Read> = match compression {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
            Compression::Zstandard => Box::new(Frames { file: Some(file), frame: None }),
        };
        let gauge = Rc::new(Gauge { position: Cell::new(0), budget: Cell::new(None), ended: Cell::new(false) });
        Ok(Self { inner: std::cell::RefCell::new(Some(inner)), gauge })
    }

    /// Returns the reader; there is one.
    pub(super) fn reader(&self) -> impl Read + use<> {
        let inner = self.inner.borrow_mut().take();
        Gauged { inner: inner.unwrap_or_else(|| Box::new(io::empty())), gauge: Rc::clone(&self.gauge) }
    }

    /// Returns how many bytes have been read, decompressed.
    pub(super) fn position(&self) -> u64 {
        self.gauge.position.get()
    }

    /// Returns whether the last thing that was met is the end of the file.
    pub(super) fn ended(&self) -> bool {
        self.gauge.ended.get()
    }

    pub(super) fn expect_headers(&self) {
        self.gauge.budget.set(Some(HEADERS_MAX_BYTES));
    }

    pub(super) fn expect_content(&self) {
        self.gauge.budget.set(None);
    }

    /// Reads what is left of something, so that it does not count as headers of what follows.
    pub(super) fn drain(&self, reader: &mut dyn Read) -> io::Result<u64> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut total = 0_u64;
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Ok(total),
                Ok(count) => total = total.saturating_add(u64::try_from(count).map_err(io::Error::other)?),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

struct Gauged {
    inner: Box<dyn Read>,
    gauge: Rc<Gauge>,
}

impl Read for Gauged {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let bytes = u64::try_from(count).map_err(io::Error::other)?;
        if let Some(budget) = self.gauge.budget.get() {
            let left = budget.checked_sub(bytes).ok_or_else(|| io::Error::other("headers of one entry are too long"))?;
            self.gauge.budget.set(Some(left));
        }
        self.gauge.position.set(self.gauge.position.get().saturating_add(bytes));
        self.gauge.ended.set(count == 0 && !buffer.is_empty());
        Ok(count)
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
        use io::BufRead as _;
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
            if file.fill_buf()?.is_empty() {
                self.file = Some(file);
                return Ok(0);
            }
            match StreamingDecoder::new(file) {
                Ok(frame) => self.frame = Some(frame),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            }
        }
    }
}
