//! What a running guest's memory holds beyond its template: the private pages of QEMU's mapping.
//!
//! A clone maps the template's sealed memfd privately, so a page it has written is anonymous memory and one it has not is the file's.
//! `/proc/PID/pagemap` tells the two apart (bit 61 is clear for anonymous pages, bits 62 and 63 tell swapped and present; see
//! Documentation/admin-guide/mm/pagemap.rst of the kernel), and `/proc/PID/mem` reads and writes them. Pages are always relative to the
//! template, so a snapshot of a fork of a snapshot is no longer than its own changes.
//!
//! The file holds runs of pages: an 8-byte magic, the number of runs, for each run its first page and its length (little-endian 64 bit),
//! then, from the next page boundary on, the pages themselves in the order of the runs.

use std::{fs::File, io::Read as _, os::unix::fs::FileExt as _, path::Path};

use crate::error::{Doing as _, HostError, HostResult};

const PAGE_BYTES: u64 = 4096;
const MAGIC: [u8; 8] = *b"pyropag1";
/// Present or swapped, and not a page of the file.
const IN_USE: u64 = 0b11 << 62;
const OF_FILE: u64 = 1 << 61;
/// The name of the memfd, as the kernel shows it.
const MAPPING_NAME: &str = "/memfd:pyro-memory";
/// Copied at once.
const COPY_BYTES: usize = 1 << 20;
/// Entries of the page map read at once: 256 MiB of guest memory.
const MAP_ENTRIES: usize = 65536;

/// Adjacent pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    count: u64,
}

/// The private pages of a paused guest, copied out of it.
#[derive(Debug)]
pub(crate) struct PrivatePages {
    runs: Vec<Run>,
    content: Vec<u8>,
}

/// A guest's memory inside QEMU.
#[derive(Debug)]
struct Mapping {
    start: u64,
    bytes: u64,
}

impl Mapping {
    fn find(pid: u32) -> HostResult<Self> {
        let maps = fs_err::read_to_string(format!("/proc/{pid}/maps")).doing("look at the machine's memory")?;
        let mut found = None;
        for line in maps.lines().filter(|line| line.contains(MAPPING_NAME)) {
            let range = line.split(' ').next().unwrap_or_default();
            let (start, end) = range.split_once('-').unwrap_or_default();
            let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            let (start, end) = (number(start), number(end));
            // QEMU may split the mapping by giving parts of it different advice; the parts follow each other.
            match &mut found {
                None => found = Some(Self { start, bytes: end.saturating_sub(start) }),
                Some(Self { start: first, bytes }) if *first + *bytes == start => *bytes += end.saturating_sub(start),
                Some(_) => return Err(HostError::Monitor { problem: "has mapped guest memory twice" }),
            }
        }
        found.filter(|mapping| mapping.bytes > 0).ok_or(HostError::Monitor { problem: "has mapped no guest memory" })
    }
}

impl PrivatePages {
    /// Copies the private pages of a paused guest. What this costs is the guest's pause.
    pub(crate) fn copy(pid: u32) -> HostResult<Self> {
        let mapping = Mapping::find(pid)?;
        let map = fs_err::File::open(format!("/proc/{pid}/pagemap")).doing("look at the machine's memory")?;
        let memory = fs_err::File::open(format!("/proc/{pid}/mem")).doing("read the machine's memory")?;
        let runs = private_runs(map.file(), &mapping)?;
        let bytes: u64 = runs.iter().map(|run| run.count * PAGE_BYTES).sum();
        let mut content = vec![0; usize::try_from(bytes).map_err(std::io::Error::other).doing("make room for guest memory")?];
        let mut rest = content.as_mut_slice();
        for run in &runs {
            let (piece, behind) = rest.split_at_mut(usize::try_from(run.count * PAGE_BYTES).unwrap_or(usize::MAX));
            memory.file().read_exact_at(piece, mapping.start + run.first * PAGE_BYTES).doing("read the machine's memory")?;
            rest = behind;
        }
        Ok(Self { runs, content })
    }

    /// Returns how much they hold.
    pub(crate) fn bytes(&self) -> u64 {
        self.content.len() as u64
    }

    /// Writes them to a new file that only its owner can read.
    pub(crate) fn store(&self, path: &Path) -> HostResult<()> {
        use fs_err::os::unix::fs::OpenOptionsExt as _;
        let file = fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).doing("store guest memory")?;
        let mut header = Vec::with_capacity(16 + self.runs.len() * 16);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&(self.runs.len() as u64).to_le_bytes());
        for run in &self.runs {
            header.extend_from_slice(&run.first.to_le_bytes());
            header.extend_from_slice(&run.count.to_le_bytes());
        }
        file.file().write_all_at(&header, 0).doing("store guest memory")?;
        file.file().write_all_at(&self.content, content_offset(self.runs.len())).doing("store guest memory")
    }
}

fn content_offset(runs: usize) -> u64 {
    (16 + runs as u64 * 16).next_multiple_of(PAGE_BYTES)
}

fn private_runs(map: &File, mapping: &Mapping) -> HostResult<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    let mut buffer = vec![0; MAP_ENTRIES * 8];
    let (mut page, pages) = (0, mapping.bytes / PAGE_BYTES);
    while page < pages {
        let count = usize::try_from(pages - page).unwrap_or(MAP_ENTRIES).min(MAP_ENTRIES);
        let entries = &mut buffer[..count * 8];
        map.read_exact_at(entries, (mapping.start / PAGE_BYTES + page) * 8).doing("look at the machine's memory")?;
        for (index, entry) in entries.chunks_exact(8).enumerate() {
            let entry = u64::from_le_bytes(entry.try_into().expect("chunks of eight"));
            if entry & IN_USE == 0 || entry & OF_FILE != 0 {
                continue;
            }
            let at = page + index as u64;
            match runs.last_mut() {
                Some(run) if run.first + run.count == at => run.count += 1,
                Some(_) | None => runs.push(Run { first: at, count: 1 }),
            }
        }
        page += count as u64;
    }
    Ok(runs)
}

/// Writes stored pages into a clone whose guest has not run yet.
pub(crate) fn load(path: &Path, pid: u32) -> HostResult<()> {
    let mapping = Mapping::find(pid)?;
    let mut file = fs_err::File::open(path).doing("read stored guest memory")?;
    let damaged = || HostError::Program { program: "pyro", detail: format!("`{}` is damaged", path.display()) };
    let mut start = [0; 16];
    file.read_exact(&mut start).doing("read stored guest memory")?;
    let count = u64::from_le_bytes(start[8..].try_into().expect("eight bytes"));
    // No more runs than there are pages: the file is our own, but a cut one must not make us allocate what a random number says.
    if start[..8] != MAGIC || count > mapping.bytes / PAGE_BYTES {
        return Err(damaged());
    }
    let count = usize::try_from(count).map_err(|_| damaged())?;
    let mut table = vec![0; count * 16];
    file.read_exact(&mut table).doing("read stored guest memory")?;
    let memory = fs_err::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).doing("write the machine's memory")?;
    let mut offset = content_offset(count);
    let mut buffer = vec![0; COPY_BYTES];
    for run in table.chunks_exact(16) {
        let number = |at: usize| u64::from_le_bytes(run[at..at + 8].try_into().expect("eight bytes"));
        let (first, pages) = (number(0), number(8));
        let end = first.checked_add(pages).and_then(|end| end.checked_mul(PAGE_BYTES));
        if end.is_none_or(|end| end > mapping.bytes) {
            return Err(damaged());
        }
        let (mut at, mut left) = (mapping.start + first * PAGE_BYTES, pages * PAGE_BYTES);
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            file.file().read_exact_at(&mut buffer[..piece], offset).doing("read stored guest memory")?;
            memory.file().write_all_at(&buffer[..piece], at).doing("write the machine's memory")?;
            (at, offset, left) = (at + piece as u64, offset + piece as u64, left - piece as u64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(present: bool, swapped: bool, of_file: bool) -> u64 {
        (u64::from(present) << 63) | (u64::from(swapped) << 62) | (u64::from(of_file) << 61)
    }

    #[test]
    fn runs_are_anonymous_pages_present_or_swapped() {
        let entries = [
            entry(true, false, true),
            entry(true, false, false),
            entry(false, true, false),
            entry(false, false, false),
            entry(false, true, true),
            entry(true, false, false),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pagemap");
        // The mapping begins at the third page of the address space.
        let bytes: Vec<u8> = [0, 0].iter().chain(&entries).flat_map(|entry: &u64| entry.to_le_bytes()).collect();
        fs_err::write(&path, bytes).expect("writes");
        let mapping = Mapping { start: 2 * PAGE_BYTES, bytes: 6 * PAGE_BYTES };
        let runs = private_runs(&File::open(&path).expect("opens"), &mapping).expect("readable");
        assert_eq!(runs, [Run { first: 1, count: 2 }, Run { first: 5, count: 1 }]);
    }

    #[test]
    fn damaged_files_are_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memory");
        let pages = PrivatePages { runs: vec![Run { first: 3, count: 1 }], content: vec![7; 4096] };
        pages.store(&path).expect("stores");
        assert_eq!(fs_err::metadata(&path).expect("is there").len(), 8192);
        // This process has no guest memory mapped at all.
        assert!(load(&path, std::process::id()).is_err());
    }
}
