//! Questions about the machine that change nothing: is a path there, how many processes belong to a command. All of it blocks.

use std::ffi::CString;
use std::io;

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::limits;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::commands::Whole;
use crate::group;

#[derive(Debug, thiserror::Error)]
enum InquiryError {
    #[error("cannot look for `{path}`")]
    Stat { path: String, source: io::Error },
    #[error("cannot count the processes of command `{id}`")]
    Count { id: u64, source: io::Error },
}

/// Returns whether something is at an absolute path; links are followed.
pub(crate) fn exists(path: &[u8]) -> Result<bool, Failure> {
    let invalid = |message: &str| Failure::message(ErrorKind::InvalidArgument, message);
    if path.len() >= limits::PATH_MAX_BYTES {
        return Err(Failure::message(ErrorKind::LimitExceeded, format!("the path exceeds {} bytes", limits::PATH_MAX_BYTES - 1)));
    }
    if path.first() != Some(&b'/') {
        return Err(invalid("the path is not absolute"));
    }
    let path = CString::new(path).map_err(|_| invalid("the path holds a zero byte"))?;
    match rustix::fs::stat(&path) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(false),
        Err(error) => {
            let path = path.to_string_lossy().into_owned();
            Err(Failure::new(ErrorKind::Io, &InquiryError::Stat { path, source: error.into() }))
        }
    }
}

/// Counts the processes that belong to a command.
pub(crate) fn count(id: u64, whole: &Whole) -> Result<u64, Failure> {
    let counted = match whole {
        Whole::Session(leader) => session(*leader).map_err(|source| Failure::new(ErrorKind::Io, &InquiryError::Count { id, source }))?,
        Whole::Group(path) => group::processes(path).len(),
    };
    Ok(counted as u64)
}

fn session(leader: Pid) -> io::Result<usize> {
    let wanted = leader.as_raw_nonzero().get();
    let mut counted = 0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
            // Gone when it has just ended.
            && let Ok(stat) = std::fs::read(format!("/proc/{}/stat", name.to_string_lossy()))
            && session_of(&stat) == Some(wanted)
        {
            counted += 1;
        }
    }
    Ok(counted)
}

/// Reads the session out of `/proc/PID/stat` (proc(5)); None for a process that has ended.
fn session_of(stat: &[u8]) -> Option<i32> {
    // The name before it may hold anything, spaces and parentheses included.
    let after_name = stat.rsplitn(2, |&byte| byte == b')').next()?;
    let mut fields = std::str::from_utf8(after_name).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let session = fields.nth(2)?.parse().ok()?;
    (!["Z", "X"].contains(&state)).then_some(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_is_found_behind_a_hostile_name() {
        assert_eq!(session_of(b"7 (a) S 1 2 (x) R 1 2 77 34816 7 0"), Some(77));
        assert_eq!(session_of(b"7 (sleep) Z 1 7 77 0 -1"), None);
        assert_eq!(session_of(b"7 (sleep"), None);
    }

    #[test]
    fn path_is_there_missing_or_refused() {
        let check = |path: &[u8], expected: Result<bool, ErrorKind>| {
            assert_eq!(exists(path).map_err(|failure| failure.kind()), expected, "{}", String::from_utf8_lossy(path));
        };
        check(b"/etc/passwd", Ok(true));
        check(b"/proc/self/cwd", Ok(true));
        check(b"/nonexistent/file", Ok(false));
        check(b"/etc/passwd/file", Ok(false));
        check(b"etc/passwd", Err(ErrorKind::InvalidArgument));
        check(b"", Err(ErrorKind::InvalidArgument));
        check(b"/a\0b", Err(ErrorKind::InvalidArgument));
        check(&[b'/'; limits::PATH_MAX_BYTES], Err(ErrorKind::LimitExceeded));
    }
}
