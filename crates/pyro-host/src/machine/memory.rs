//! Template memory: stored as a sparse file, used as a sealed memfd.
//!
//! Every clone maps the same memfd privately. The seals make it impossible for any process, a QEMU taken over by its guest included, to
//! change a byte of it or its size; QEMU 7.2 insists on opening its memory file for writing, which a sealed memfd still allows.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::FileExt as _,
    path::Path,
};

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};

use crate::error::{Doing as _, HostResult};

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);
/// Copied at once; large enough to be limited by memory, small enough to stay in the cache.
const COPY_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;

/// Memory that can no longer change.
#[derive(Debug)]
pub(crate) struct SealedMemory(OwnedFd);

/// Makes memory a template is about to boot in.
pub(crate) fn create(size_bytes: u64) -> HostResult<OwnedFd> {
    let memory = memfd_create("pyro-memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).doing("make guest memory")?;
    ftruncate(&memory, size_bytes).doing("size guest memory")?;
    Ok(memory)
}

/// Seals memory; fails while anyone still maps it shared and writable.
pub(crate) fn seal(memory: OwnedFd) -> HostResult<SealedMemory> {
    fcntl_add_seals(&memory, SEALS).doing("seal template memory")?;
    Ok(SealedMemory(memory))
}

impl SealedMemory {
    /// Accepts memory from another supervisor, if it is sealed and of the right size.
    pub(crate) fn verify(memory: OwnedFd, size_bytes: u64) -> Option<Self> {
        let sealed = fcntl_get_seals(&memory).is_ok_and(|seals| seals.contains(SEALS));
        let right_size = rustix::fs::fstat(&memory).is_ok_and(|status| u64::try_from(status.st_size).is_ok_and(|size| size == size_bytes));
        (sealed && right_size).then_some(Self(memory))
    }

    /// Loads the stored copy and waits for it.
    #[cfg(test)]
    fn load(path: &Path) -> HostResult<Self> {
        let stored = fs_err::File::open(path).doing("open template memory")?;
        let memory = create(stored.metadata().doing("size template memory")?.len())?;
        fill(&stored, memory)
    }
}

/// Memory that may still be filling up. A machine can be started on it, because a private mapping reads the file page by page as it is
/// touched; its guest must not run before [`TemplateMemory::settle`].
#[derive(Debug)]
pub(crate) enum TemplateMemory {
    /// Whole and sealed.
    Sealed(SealedMemory),
    /// Being read from the stored copy by another thread, which seals it when it is whole.
    Loading(OwnedFd, tokio::task::JoinHandle<HostResult<SealedMemory>>),
}

impl TemplateMemory {
    /// Begins to load the stored copy: 50 ms for 100 MiB, about as long as QEMU takes to start.
    pub(crate) fn load(path: &Path) -> HostResult<Self> {
        let stored = fs_err::File::open(path).doing("open template memory")?;
        let memory = create(stored.metadata().doing("size template memory")?.len())?;
        let filled = memory.try_clone().doing("duplicate template memory")?;
        Ok(Self::Loading(memory, tokio::task::spawn_blocking(move || fill(&stored, filled))))
    }

    /// Waits until it is whole and sealed.
    pub(crate) async fn settle(self) -> HostResult<SealedMemory> {
        match self {
            Self::Sealed(memory) => Ok(memory),
            Self::Loading(_, task) => task.await.map_err(std::io::Error::from).doing("load template memory")?,
        }
    }
}

impl From<SealedMemory> for TemplateMemory {
    fn from(memory: SealedMemory) -> Self {
        Self::Sealed(memory)
    }
}

impl AsFd for TemplateMemory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Sealed(memory) => memory.as_fd(),
            Self::Loading(memory, _) => memory.as_fd(),
        }
    }
}

fn fill(stored: &fs_err::File, memory: OwnedFd) -> HostResult<SealedMemory> {
    let memory = File::from(memory);
    copy_data(stored.file(), &memory).doing("load template memory")?;
    seal(memory.into())
}

impl AsFd for SealedMemory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Stores memory as a sparse file: pages of zeros take no room.
pub(crate) fn store(memory: &OwnedFd, path: &Path) -> HostResult<()> {
    let source = File::from(memory.try_clone().doing("read template memory")?);
    let file = fs_err::File::create_new(path).doing("store template memory")?;
    file.set_len(source.metadata().doing("read template memory")?.len()).doing("store template memory")?;
    copy_data(&source, file.file()).doing("store template memory")?;
    file.sync_all().doing("store template memory")
}

/// Copies what is not a hole and not zero.
fn copy_data(source: &File, target: &File) -> std::io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        let start = match rustix::fs::seek(source, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(start))?;
        let mut at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            source.read_exact_at(&mut buffer[..wanted], at)?;
            write_nonzero(target, &buffer[..wanted], at)?;
            at += wanted as u64;
        }
        offset = end;
    }
}

/// Writes the runs of pages that hold anything.
fn write_nonzero(target: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    let mut run = 0;
    let is_zero = |page: &[u8]| page.iter().all(|&byte| byte == 0);
    for start in (0..bytes.len()).step_by(PAGE_BYTES) {
        let end = (start + PAGE_BYTES).min(bytes.len());
        if is_zero(&bytes[start..end]) {
            if run < start {
                target.write_all_at(&bytes[run..start], offset + run as u64)?;
            }
            run = end;
        }
    }
    if run < bytes.len() { target.write_all_at(&bytes[run..], offset + run as u64) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_survives_storing_and_cannot_be_changed_after_loading() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memory");
        let memory = create(8 << 20).expect("memory");
        let file = File::from(memory.try_clone().expect("a copy"));
        file.write_all_at(b"first", 0).expect("writes");
        file.write_all_at(b"last", (8 << 20) - 4).expect("writes");
        file.write_all_at(&[1; 5000], (3 << 20) + 17).expect("writes");
        store(&memory, &path).expect("stores");
        let mut before = vec![0; 8 << 20];
        file.read_exact_at(&mut before, 0).expect("reads");

        let sealed = SealedMemory::load(&path).expect("loads");
        let file = File::from(sealed.as_fd().try_clone_to_owned().expect("a copy"));
        let mut after = vec![0; 8 << 20];
        file.read_exact_at(&mut after, 0).expect("reads");
        assert!(before == after, "the loaded memory differs");
        assert!(file.write_all_at(b"x", 0).is_err());
        assert!(file.set_len(1).is_err());
        assert!(SealedMemory::verify(file.into(), 8 << 20).is_some());
        assert!(SealedMemory::verify(memory, 8 << 20).is_none(), "unsealed memory was accepted");
    }
}
