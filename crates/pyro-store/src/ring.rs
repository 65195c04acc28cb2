//! Output that never ends, of shells and services, on disk: the newest part of a byte stream, in segments named by where they begin.
//!
//! ```text
//! RING/00000000000000000000.out  RING/00000000000001048576.out …   the oldest are removed, the newest grows
//! RING/sizes                     one line per size of a terminal: OFFSET COLUMNS ROWS
//! ```
//!
//! The supervisor writes, clients read the files themselves. A position (a cursor) is a byte's offset in the whole stream, so it stays true
//! whatever is removed before it. Bytes that could not be kept, say on a full disk, are counted all the same: the stream has a gap then, and
//! what lies before a gap is as good as removed.

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use crate::{CarriedProcesses, Dirs, ServiceName, StoreResult, WorkspaceId, remove_if_present};

/// Bytes of one segment. Small enough that a ring of a shell has several, large enough that a log of a service has few.
const SEGMENT_BYTES: u64 = 1 << 20;
const EXTENSION: &str = "out";
/// How much of a shell's output is kept. A reader who wants plain text has to look at all of it.
pub const SHELL_RING_BYTES: u64 = 8 << 20;

/// Returns the name of a shell's ring below its workspace's folder.
#[must_use]
pub fn shell_ring_name(number: u64) -> String {
    format!("shells/{number}")
}

/// Returns the name of a service's ring below its workspace's folder.
#[must_use]
pub fn service_ring_name(name: &ServiceName) -> String {
    format!("services/{name}")
}

/// Returns the folder of a shell's output.
#[must_use]
pub fn shell_ring(dirs: &Dirs, workspace: &WorkspaceId, number: u64) -> PathBuf {
    dirs.workspace(workspace).join(shell_ring_name(number))
}

/// Returns the folder of a service's log.
#[must_use]
pub fn service_ring(dirs: &Dirs, workspace: &WorkspaceId, name: &ServiceName) -> PathBuf {
    dirs.workspace(workspace).join(service_ring_name(name))
}

/// Writes a ring.
#[derive(Debug)]
pub struct RingWriter {
    folder: PathBuf,
    cap: u64,
    /// Where the stream ends.
    end: u64,
    /// The newest segment, and how much it holds.
    segment: Option<(fs_err::File, u64)>,
}

impl RingWriter {
    /// Goes on where a ring ends, or begins one with the first byte.
    ///
    /// # Errors
    /// The folder is there and cannot be read.
    pub fn open(folder: &Path, cap_bytes: u64) -> StoreResult<Self> {
        let end = segments(folder)?.last().map_or(0, |(start, length)| start + length);
        Ok(Self { folder: folder.to_owned(), cap: cap_bytes.max(2 * SEGMENT_BYTES), end, segment: None })
    }

    /// Returns where the stream ends: the position of the next byte.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Appends bytes. They are counted even when they cannot be kept.
    ///
    /// # Errors
    /// A file cannot be written; the host's disk may be full.
    pub fn write(&mut self, mut bytes: &[u8]) -> StoreResult<()> {
        let end = self.end + bytes.len() as u64;
        while !bytes.is_empty() {
            match self.write_some(bytes) {
                Ok(count) => {
                    self.end += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) => {
                    // What follows begins a segment of its own, after the gap.
                    self.segment = None;
                    self.end = end;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> StoreResult<usize> {
        if self.segment.as_ref().is_none_or(|(_, held)| *held >= SEGMENT_BYTES) {
            self.next_segment()?;
        }
        let Some((file, held)) = &mut self.segment else { return Ok(0) };
        let room = usize::try_from(SEGMENT_BYTES - *held).unwrap_or(usize::MAX);
        let piece = &bytes[..bytes.len().min(room)];
        let count = file.write(piece)?;
        *held += count as u64;
        Ok(count)
    }

    fn next_segment(&mut self) -> StoreResult<()> {
        fs_err::create_dir_all(&self.folder)?;
        let known = segments(&self.folder)?;
        // A ring that is opened again may have an unfinished segment.
        let unfinished = known.last().filter(|(start, length)| start + length == self.end && *length < SEGMENT_BYTES).copied();
        let (start, held) = unfinished.unwrap_or((self.end, 0));
        let file = fs_err::OpenOptions::new().create(true).append(true).open(path(&self.folder, start))?;
        self.segment = Some((file, held));
        let oldest_kept = (self.end + SEGMENT_BYTES).saturating_sub(self.cap);
        for (start, length) in known {
            if start + length <= oldest_kept {
                remove_if_present(&path(&self.folder, start))?;
            }
        }
        Ok(())
    }

    /// Notes that a terminal has this size from here on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_size(&self, columns: u16, rows: u16) -> StoreResult<()> {
        /// A storm of sizes is not kept whole: the newest are.
        const SIZES_MAX: usize = 4096;
        fs_err::create_dir_all(&self.folder)?;
        let mut sizes = sizes(&self.folder);
        // Only the last one at a position has bytes of its own.
        while sizes.last().is_some_and(|size| size.offset == self.end) {
            sizes.pop();
        }
        sizes.push(RingSize { offset: self.end, columns, rows });
        let newest = &sizes[sizes.len().saturating_sub(SIZES_MAX)..];
        let text: String = newest.iter().map(|size| format!("{} {} {}\n", size.offset, size.columns, size.rows)).collect();
        // Aside and renamed for its readers; not synced, since it is worth nothing without the output beside it, which is not either.
        let aside = self.folder.join("sizes.new");
        fs_err::write(&aside, text)?;
        Ok(fs_err::rename(aside, self.folder.join("sizes"))?)
    }
}

/// A size a terminal had from a position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSize {
    /// Where in the stream.
    pub offset: u64,
    /// Width in columns.
    pub columns: u16,
    /// Height in rows.
    pub rows: u16,
}

/// Reads a ring.
#[derive(Debug, Clone)]
pub struct RingReader {
    folder: PathBuf,
}

impl RingReader {
    /// Names a ring; one that is not there is empty.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Returns the positions of the oldest byte that is kept and of the end.
    ///
    /// # Errors
    /// The folder is there and cannot be read.
    pub fn range(&self) -> StoreResult<(u64, u64)> {
        let segments = segments(&self.folder)?;
        let Some(&(mut start, length)) = segments.last() else { return Ok((0, 0)) };
        let end = start + length;
        for &(before, length) in segments.iter().rev().skip(1) {
            if before + length != start {
                break;
            }
            start = before;
        }
        Ok((start, end))
    }

    /// Returns the sizes the terminal had, oldest first.
    #[must_use]
    pub fn sizes(&self) -> Vec<RingSize> {
        sizes(&self.folder)
    }

    /// Reads up to `max_bytes` from a position on; less at the end, nothing at a position that is not kept.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn read(&self, mut offset: u64, max_bytes: u64) -> StoreResult<Vec<u8>> {
        let mut bytes = Vec::new();
        for (start, length) in segments(&self.folder)? {
            let wanted = max_bytes - bytes.len() as u64;
            if wanted == 0 {
                break;
            }
            if !(start..start + length).contains(&offset) {
                continue;
            }
            let mut file = match fs_err::File::open(path(&self.folder, start)) {
                Ok(file) => file,
                // Removed since it was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                Err(error) => return Err(error.into()),
            };
            file.seek(SeekFrom::Start(offset - start))?;
            // Not past what was listed, or the next segment would not follow.
            offset += file.take(wanted.min(start + length - offset)).read_to_end(&mut bytes)? as u64;
        }
        Ok(bytes)
    }
}

/// Makes a ring that goes on independently at a position of another one. Full segments never change, so they are shared where the file
/// system allows it.
///
/// # Errors
/// A file cannot be made. What was made is removed with the folder by its owner.
fn copy_ring(from: &Path, to: &Path, end: u64) -> StoreResult<()> {
    let segments = segments(from)?;
    if segments.is_empty() && !from.join("sizes").exists() {
        return Ok(());
    }
    fs_err::create_dir_all(to)?;
    for &(start, length) in segments.iter().filter(|(start, _)| *start < end) {
        let (source, target) = (path(from, start), path(to, start));
        let whole = length == SEGMENT_BYTES && start + length <= end;
        if whole && std::fs::hard_link(&source, &target).is_ok() {
            continue;
        }
        let file = match fs_err::File::open(&source) {
            Ok(file) => file,
            // The oldest may go meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        std::io::copy(&mut file.take(end - start), &mut fs_err::File::create(&target)?)?;
    }
    if from.join("sizes").exists() {
        fs_err::copy(from.join("sizes"), to.join("sizes"))?;
    }
    Ok(())
}

/// Returns the folder in which a live snapshot keeps the output of the shells and services that go on with it.
fn kept_rings(dirs: &Dirs, checkpoint: &str) -> PathBuf {
    dirs.checkpoints().join(checkpoint).join("rings")
}

/// Keeps the output of shells and services beside a live snapshot, up to where it had come when the machine was paused.
///
/// # Errors
/// A file cannot be made.
pub fn keep_rings(dirs: &Dirs, checkpoint: &str, workspace: &WorkspaceId, carried: &CarriedProcesses) -> StoreResult<()> {
    let (kept, folder) = (kept_rings(dirs, checkpoint), dirs.workspace(workspace));
    for (ring, end) in &carried.cursors {
        copy_ring(&folder.join(ring), &kept.join(ring), *end)?;
    }
    Ok(())
}

/// Gives a workspace made from a live snapshot the output that was kept with it.
///
/// # Errors
/// A file cannot be made.
pub fn restore_rings(dirs: &Dirs, checkpoint: &str, workspace: &WorkspaceId) -> StoreResult<()> {
    let (kept, folder) = (kept_rings(dirs, checkpoint), dirs.workspace(workspace));
    for kind in ["shells", "services"] {
        let Ok(rings) = std::fs::read_dir(kept.join(kind)) else { continue };
        for ring in rings.flatten() {
            copy_ring(&ring.path(), &folder.join(kind).join(ring.file_name()), u64::MAX)?;
        }
    }
    Ok(())
}

fn path(folder: &Path, start: u64) -> PathBuf {
    folder.join(format!("{start:020}.{EXTENSION}"))
}

/// Lists segments in order: where each begins and how much it holds.
fn segments(folder: &Path) -> StoreResult<Vec<(u64, u64)>> {
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut segments: Vec<(u64, u64)> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let start = path.file_stem()?.to_str()?.parse().ok()?;
            (path.extension()? == EXTENSION).then_some((start, entry.metadata().ok()?.len()))
        })
        .filter(|(_, length)| *length > 0)
        .collect();
    segments.sort_unstable();
    Ok(segments)
}

fn sizes(folder: &Path) -> Vec<RingSize> {
    let text = std::fs::read_to_string(folder.join("sizes")).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split(' ');
        Some(RingSize { offset: words.next()?.parse().ok()?, columns: words.next()?.parse().ok()?, rows: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = folder.path().join("ring");
        (folder, ring)
    }

    /// Bytes whose values tell their positions.
    fn stream(from: u64, count: u64) -> Vec<u8> {
        (from..from + count).map(|at| u8::try_from(at % 251).expect("below 256")).collect()
    }

    #[test]
    fn the_newest_part_is_kept_and_positions_stay_true() {
        let (_owner, folder) = ring();
        let cap = 3 * SEGMENT_BYTES;
        let mut at = 0;
        for round in 0..6 {
            // Opened again in between, in the middle of a segment.
            let mut writer = RingWriter::open(&folder, cap).expect("opens");
            assert_eq!(writer.end(), at);
            let count = SEGMENT_BYTES + 12_345 * round;
            writer.write(&stream(at, count)).expect("writes");
            at += count;
        }
        let reader = RingReader::new(folder);
        let (start, end) = reader.range().expect("readable");
        assert_eq!(end, at);
        assert!(end - start <= cap && end - start >= cap - SEGMENT_BYTES, "{start} {end}");
        assert_eq!(reader.read(start, u64::MAX).expect("readable"), stream(start, end - start));
        assert_eq!(reader.read(end - 3, 2).expect("readable"), stream(end - 3, 2));
        assert!(reader.read(end, 10).expect("readable").is_empty());
        assert!(reader.read(0, 10).expect("readable").is_empty(), "what is gone is not made up");
    }

    #[test]
    fn what_lies_before_a_gap_is_as_good_as_removed() {
        let (_owner, folder) = ring();
        let mut writer = RingWriter::open(&folder, 4 * SEGMENT_BYTES).expect("opens");
        writer.write(b"before").expect("writes");
        std::fs::rename(&folder, folder.with_extension("away")).expect("moves");
        std::fs::write(&folder, b"in the way").expect("writes");
        writer.segment = None;
        assert!(writer.write(b"lost").is_err());
        std::fs::remove_file(&folder).expect("removes");
        std::fs::rename(folder.with_extension("away"), &folder).expect("moves");
        writer.write(b"after").expect("writes");
        let reader = RingReader::new(folder);
        assert_eq!(reader.range().expect("readable"), (10, 15));
        assert_eq!(reader.read(10, 100).expect("readable"), b"after");
    }

    #[test]
    fn a_copy_goes_on_without_its_origin() {
        let (_owner, folder) = ring();
        let copy = folder.with_extension("copy");
        let mut origin = RingWriter::open(&folder, 8 * SEGMENT_BYTES).expect("opens");
        origin.note_size(120, 30).expect("writes");
        origin.write(&stream(0, SEGMENT_BYTES + 10)).expect("writes");
        origin.note_size(80, 24).expect("writes");
        origin.note_size(81, 25).expect("writes");
        origin.write(b"after the pause").expect("writes");
        copy_ring(&folder, &copy, SEGMENT_BYTES + 10).expect("copies");
        origin.write(b"origin").expect("writes");
        let mut writer = RingWriter::open(&copy, 8 * SEGMENT_BYTES).expect("opens");
        writer.write(b"copy").expect("writes");
        let tail = |folder: &Path| RingReader::new(folder.to_owned()).read(SEGMENT_BYTES + 10, 100).expect("readable");
        assert_eq!((tail(&folder).as_slice(), tail(&copy).as_slice()), (&b"after the pauseorigin"[..], &b"copy"[..]));
        let sizes = RingReader::new(copy).sizes();
        assert_eq!(sizes.iter().map(|size| (size.offset, size.columns)).collect::<Vec<_>>(), [(0, 120), (SEGMENT_BYTES + 10, 81)]);
    }
}
