//! Content for a request, from a file or from standard input.

use std::{io::Read as _, path::Path};

use pyro_sdk::ErrorKind;

use crate::cli::Failure;

/// Reads a file, `-` being standard input, of at most `max` bytes.
pub(super) fn read(path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    let fail = |kind: ErrorKind, causes| {
        let message = format!("cannot read `{}`", path.display());
        Failure::Pyro(pyro_sdk::Failure { kind: kind.into(), message, causes }.into())
    };
    let mut bytes = Vec::new();
    let limit = max as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) if bytes.len() > max => {
            Err(fail(ErrorKind::LimitExceeded, vec![format!("it has more than the {max} bytes that are accepted")]))
        }
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(fail(ErrorKind::PermissionDenied, vec![error.to_string()]))
        }
        Err(error) => Err(fail(ErrorKind::Io, vec![error.to_string()])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_is_accepted_is_refused_before_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        for (path, max, kind) in [(&path, 4, ErrorKind::LimitExceeded), (&folder.path().join("none"), 9, ErrorKind::Io)] {
            let Err(Failure::Pyro(error)) = read(path, max) else { panic!("refused") };
            assert_eq!(error.kind(), kind);
        }
    }
}
