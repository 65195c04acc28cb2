//! A disk as its guest sees it: a chain of layers, read only, with a cache for small reads.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use imago::file::File as Storage;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{FormatAccess, Mapping};

use crate::error::DiskError;
use crate::layer::{self, Layer, LayerFormat};

/// Unit of the cache: half of a qcow2 cluster, 128 inodes.
const CHUNK_BYTES: usize = 32 * 1024;
/// Chunks kept: 64 MiB.
const CHUNKS_MAX: usize = 2048;
/// Reads from this size on bypass the cache: they are file content, looked at once.
const DIRECT_BYTES: usize = 2 * CHUNK_BYTES;
/// Longest chain opened. The supervisor keeps chains at a handful.
const LAYERS_MAX: usize = 256;

/// A chain of layers, opened for reading. Reads need no `&mut` and may come from several threads.
pub struct Disk {
    image: FormatAccess<Storage>,
    size_bytes: u64,
    /// The top layer: what messages call the disk.
    path: PathBuf,
    /// The raw layer at the bottom, where one may ask the file system for holes.
    base: Option<(PathBuf, File)>,
    cache: Mutex<Cache>,
    /// When reading must have ended, if it must.
    deadline: Option<Instant>,
}

impl Disk {
    /// Opens a chain, top layer first.
    ///
    /// # Errors
    ///
    /// Fails if a layer cannot be opened or is not as Pyro writes them.
    pub fn open(chain: &[Layer]) -> Result<Self, DiskError> {
        let top = chain.first().ok_or(DiskError::NoLayers)?;
        if chain.len() > LAYERS_MAX {
            return Err(DiskError::TooMuch { path: top.path.clone(), what: "its chain has too many layers" });
        }
        let (mut below, mut base) = (None, None);
        for layer in chain.iter().rev() {
            let failed = |source| DiskError::io("open layer", &layer.path, source);
            let file = layer::open(layer)?;
            let opened = match layer.format {
                LayerFormat::Raw if below.is_some() => {
                    return Err(DiskError::CorruptLayer { path: layer.path.clone(), problem: "it is raw, but not the lowest" });
                }
                LayerFormat::Raw => {
                    base = Some((layer.path.clone(), file.try_clone().map_err(failed)?));
                    FormatAccess::new(Raw::open_image(storage(file, layer)?, false).map_err(failed)?)
                }
                LayerFormat::Qcow2 => {
                    // Opened like this imago follows no name in the header. There is none either: `layer::open` has looked.
                    let mut image = Qcow2::<Storage>::open_image(storage(file, layer)?, false).map_err(failed)?;
                    image.set_data_file(None);
                    image.set_backing(below.take());
                    FormatAccess::new(image)
                }
            };
            below = Some(opened);
        }
        let image = below.ok_or(DiskError::NoLayers)?;
        Ok(Self { image, size_bytes: top.size_bytes, path: top.path.clone(), base, cache: Mutex::default(), deadline: None })
    }

    /// Returns the size of the disk as the guest sees it.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills `buffer` with what the disk holds from `offset` on.
    ///
    /// # Errors
    ///
    /// Fails if the range passes the end of the disk, or a layer cannot be read or does not make sense.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.ensure_in_time()?;
        let end = u64::try_from(buffer.len()).ok().and_then(|length| offset.checked_add(length));
        if end.is_none_or(|end| end > self.size_bytes) {
            let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the disk ends before");
            return Err(DiskError::io("read", &self.path, source));
        }
        if buffer.len() >= DIRECT_BYTES {
            return self.read_through(offset, buffer);
        }
        let chunk_bytes = CHUNK_BYTES as u64;
        let (mut offset, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let chunk = self.chunk(offset / chunk_bytes)?;
            let start = usize::try_from(offset % chunk_bytes).unwrap_or_default();
            let count = rest.len().min(chunk.len().saturating_sub(start));
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&chunk[start..start + count]);
            offset += count as u64;
            rest = later;
        }
        Ok(())
    }

    /// Makes every read from `deadline` on fail.
    pub(crate) const fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Fails once the deadline is over. Whatever a file system makes a reader do goes through here again and again.
    pub(crate) fn ensure_in_time(&self) -> Result<(), DiskError> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(DiskError::TooLate { path: self.path.clone() }),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn image(&self) -> &FormatAccess<Storage> {
        &self.image
    }

    /// Returns the bottom layer's file if `mapping` lies in it, where file and disk have the same offsets.
    pub(crate) fn base_of(&self, mapping: &Mapping<'_, Storage>) -> Option<&File> {
        use imago::Storage as _;
        let (Mapping::Raw { storage, .. }, Some((path, file))) = (mapping, &self.base) else { return None };
        (storage.get_filename().as_deref() == Some(path)).then_some(file)
    }

    pub(crate) fn read_through(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.image.read(buffer, offset).map_err(|source| DiskError::io("read", &self.path, source))
    }

    /// Returns a chunk; the last one of the disk may be short, and never is when the read was checked against its size.
    fn chunk(&self, index: u64) -> Result<Arc<[u8]>, DiskError> {
        if let Some(chunk) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).chunks.get(&index) {
            return Ok(Arc::clone(chunk));
        }
        let offset = index * CHUNK_BYTES as u64;
        let mut bytes = vec![0; usize::try_from(self.size_bytes - offset).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES))];
        self.read_through(offset, &mut bytes)?;
        let chunk: Arc<[u8]> = bytes.into();
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(index, &chunk);
        Ok(chunk)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Disk").field("path", &self.path).field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

/// Chunks by their index, dropped in the order they came: walks read inode tables and folders from front to back.
#[derive(Default)]
struct Cache {
    chunks: HashMap<u64, Arc<[u8]>>,
    order: VecDeque<u64>,
}

impl Cache {
    fn insert(&mut self, index: u64, chunk: &Arc<[u8]>) {
        if self.chunks.insert(index, Arc::clone(chunk)).is_some() {
            return;
        }
        self.order.push_back(index);
        if self.order.len() > CHUNKS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.chunks.remove(&oldest);
        }
    }
}

fn storage(file: File, layer: &Layer) -> Result<Storage, DiskError> {
    let options = imago::StorageOpenOptions::new().write(false).filename(&layer.path);
    Storage::from_open_file(file, options).map_err(|source| DiskError::io("open layer", &layer.path, source))
}
