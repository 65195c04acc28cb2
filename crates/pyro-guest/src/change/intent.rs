//! The intent of a change: its steps, written down before the first of them.
//!
//! ```text
//! "pyro-intent" · generation u32 · steps u64 · for each: tag u8 · path length u32 · path · three numbers u64
//! ```
//!
//! Numbers are little-endian. The file gets its name only after its content is on the disk, so one that is found is whole. It lies on a
//! disk that belongs to the guest all the same: paths are checked as any other, lengths before anything is allocated.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::io::Errno;

use super::stage::write_out;
use super::step::{Place, Step};
use super::unlink;
use crate::files::{FileError, Files, TreePath};

const MAGIC: &[u8] = b"pyro-intent";
const GENERATION: u32 = 1;
const NAME: &str = "intent";
const WRITING: &str = "intent.new";

const OPEN_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Writes the steps down; from then on they will be carried out, whatever happens.
pub(super) fn write(place: &Place<'_>, steps: &[Step]) -> Result<(), FileError> {
    let failed = |error| FileError::io("write the intent of a change in", b"pyro", error);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(place.folder(), WRITING, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let mut writer = BufWriter::new(File::from(file));
    encode(steps, &mut writer).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let file = writer.into_inner().map_err(|error| failed(Errno::from_io_error(error.error()).unwrap_or(Errno::IO)))?;
    write_out(&OwnedFd::from(file), &TreePath::default())?;
    renameat(place.folder(), WRITING, place.folder(), NAME).map_err(failed)
}

/// Takes the intent back, or ends it: either way nothing is left to be done.
pub(super) fn remove(place: &Place<'_>) -> Result<(), FileError> {
    unlink(place.folder(), NAME.as_bytes()).map_err(|error| FileError::io("remove the intent of a change in", b"pyro", error))
}

/// What became of a change that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    /// Carried out, or never meant to be: its folder can go.
    Done,
    /// Written by an agent this one does not understand.
    Newer,
}

/// Carries out what the folder `name` intends.
pub(super) fn resume(files: &Files, name: &[u8]) -> Result<Resumed, FileError> {
    let failed = |error| FileError::io("read the intent of a change in", name, error);
    let folder = match openat(files.staging(), name, OPEN_FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Resumed::Done),
        Err(error) => return Err(failed(error)),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let intent = match openat(&folder, NAME, flags, Mode::empty()) {
        Ok(intent) => intent,
        Err(Errno::NOENT) => return Ok(Resumed::Done),
        Err(error) => return Err(failed(error)),
    };
    let new = openat(&folder, "new", OPEN_FOLDER, Mode::empty()).map_err(failed)?;
    let place = Place::new(files, folder.as_fd(), new.as_fd());
    let mut reader = BufReader::new(File::from(intent));
    let broken = |error: io::Error| failed(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    let Some(count) = head(&mut reader).map_err(broken)? else { return Ok(Resumed::Newer) };
    for _ in 0..count {
        let step = decode(&mut reader).map_err(broken)?;
        step.resume(&place).map_err(|error| FileError::io("go on with the change of", step.path().bytes(), error))?;
    }
    remove(&place)?;
    Ok(Resumed::Done)
}

fn encode(steps: &[Step], writer: &mut impl io::Write) -> io::Result<()> {
    writer.write_all(MAGIC)?;
    writer.write_all(&GENERATION.to_le_bytes())?;
    writer.write_all(&u64::try_from(steps.len()).unwrap_or(u64::MAX).to_le_bytes())?;
    for step in steps {
        let (tag, numbers) = match step {
            Step::Take { number, .. } => (0_u8, [*number, 0, 0]),
            Step::RemoveFolder { mode, uid, gid, .. } => (1, [u64::from(*mode), u64::from(*uid), u64::from(*gid)]),
            Step::Place { inode, .. } => (2, [*inode, 0, 0]),
            Step::Exchange { inode, .. } => (3, [*inode, 0, 0]),
            Step::SetMode { mode, before, .. } => (4, [u64::from(*mode), u64::from(*before), 0]),
        };
        let path = step.path().bytes();
        writer.write_all(&[tag])?;
        writer.write_all(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        writer.write_all(path)?;
        for number in numbers {
            writer.write_all(&number.to_le_bytes())?;
        }
    }
    writer.flush()
}

/// Reads the head; None when it is of a newer generation.
fn head(reader: &mut impl io::Read) -> io::Result<Option<u64>> {
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if number_u32(reader)? != GENERATION {
        return Ok(None);
    }
    number(reader).map(Some)
}

fn decode(reader: &mut impl io::Read) -> io::Result<Step> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut tag = [0];
    reader.read_exact(&mut tag)?;
    let length = usize::try_from(number_u32(reader)?).map_err(|_| invalid())?;
    if length >= pyro_proto::limits::PATH_MAX_BYTES {
        return Err(invalid());
    }
    let mut path = vec![0; length];
    reader.read_exact(&mut path)?;
    let path = TreePath::parse(&path).map_err(|_| invalid())?;
    let numbers = [number(reader)?, number(reader)?, number(reader)?];
    let small = |number: u64| u32::try_from(number).map_err(|_| invalid());
    Ok(match tag[0] {
        0 => Step::Take { path, number: numbers[0] },
        1 => Step::RemoveFolder { path, mode: small(numbers[0])?, uid: small(numbers[1])?, gid: small(numbers[2])? },
        2 => Step::Place { path, inode: numbers[0] },
        3 => Step::Exchange { path, inode: numbers[0] },
        4 => Step::SetMode { path, mode: small(numbers[0])?, before: small(numbers[1])? },
        _ => return Err(invalid()),
    })
}

fn number(reader: &mut impl io::Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn number_u32(reader: &mut impl io::Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
