//! Reads ranges of files.

use std::borrow::Cow;

use bytes::Bytes;
use pyro_proto::limits::OUTPUT_CHUNK_BYTES;
use pyro_proto::v1::{FileKind, FileRange, ReadFilesAnswer, read_files_answer};
use rustix::fs::{OFlags, fstat};
use tokio::sync::mpsc;
use tonic::Status;

use super::list::link_target;
use super::status::{kind, status};
use super::{FileError, Files, TreePath};

/// Nobody reads the answers any more, or a file broke off.
pub(crate) struct Stop;

/// Answers for one range.
pub(crate) fn read(files: &Files, range: &FileRange, answers: &mpsc::Sender<Result<ReadFilesAnswer, Status>>) -> Result<(), Stop> {
    let send = |answer| answers.blocking_send(Ok(ReadFilesAnswer { answer: Some(answer) })).map_err(|_| Stop);
    let path = match TreePath::parse(&range.path) {
        Ok(path) => path,
        Err(error) => return send(read_files_answer::Answer::Failure(error.failure())),
    };
    let file = match open(files, &path, range.follow) {
        Ok((status, file)) => {
            send(read_files_answer::Answer::Status(status))?;
            file
        }
        Err(error) => return send(read_files_answer::Answer::Failure(error.failure())),
    };
    let (Some(file), Ok(mut offset)) = (file, i64::try_from(range.offset)) else { return Ok(()) };
    let mut left = range.max_bytes;
    while left > 0 && offset < i64::MAX {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(OUTPUT_CHUNK_BYTES);
        let mut piece = Vec::with_capacity(size);
        let count = rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut piece), offset.cast_unsigned());
        match count {
            Ok(0) => return Ok(()),
            Ok(count) => {
                left -= count as u64;
                offset = offset.saturating_add_unsigned(count as u64);
                send(read_files_answer::Answer::Content(Bytes::from(piece)))?;
            }
            Err(rustix::io::Errno::INTR) => {}
            // Past what the file system can address.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OVERFLOW) => return Ok(()),
            Err(error) => {
                let failure = FileError::io("read", path.bytes(), error).failure();
                let _ = answers.blocking_send(Err(failure.into_status()));
                return Err(Stop);
            }
        }
    }
    Ok(())
}

/// Returns what is there and, of a regular file, the file. Nothing else is ever opened: a FIFO would block and a device would act.
fn open(files: &Files, named: &TreePath, follow: bool) -> Result<(pyro_proto::v1::FileStatus, Option<std::os::fd::OwnedFd>), FileError> {
    let (path, target) = match follow {
        true => {
            let (real, target) = files.follow(named).map_err(|error| FileError::following(named, error))?;
            (Cow::Owned(real), target)
        }
        false => (Cow::Borrowed(named), None),
    };
    let missing = || match &target {
        Some(target) => FileError::Dangling { path: named.shown(), target: super::error::shown(target) },
        None => FileError::Missing { path: named.shown() },
    };
    let opening = |error| FileError::opening(&path, error);
    let place = files.open_at(&path, OFlags::PATH | OFlags::NOFOLLOW)?.ok_or_else(missing)?;
    let stat = fstat(&place).map_err(opening)?;
    let target = link_target(&place, b"", &stat);
    let name = Bytes::copy_from_slice(path.bytes());
    if kind(&stat) != FileKind::File {
        return Ok((status(name, &stat, target), None));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = files.open_at(&path, flags)?.ok_or_else(missing)?;
    // What was opened is what is told, should it have been replaced in between.
    let stat = fstat(&file).map_err(opening)?;
    let file = (kind(&stat) == FileKind::File).then_some(file);
    Ok((status(name, &stat, target), file))
}
