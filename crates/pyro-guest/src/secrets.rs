//! Secrets as files in memory: a file system of their own, whose pages are the machine's memory and nothing else.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pyro_proto::error::{ErrorKind, Failure};
use pyro_proto::v1::SecretValue;
use rustix::mount::MountFlags;

use crate::mounts::{self, MountError};

/// Where they lie.
const FOLDER: &str = "/run/pyro-secrets";
const NAME_MAX_BYTES: usize = 64;
/// What all secrets of a workspace may be, with room for the file system's own pages.
const OPTIONS: &std::ffi::CStr = c"mode=0700,size=16m,nr_inodes=256";

/// Mounts the file system, unless the machine has been frozen with it.
pub(crate) fn mount() -> Result<(), MountError> {
    if Path::new(FOLDER).is_dir() {
        return Ok(());
    }
    mounts::directory(FOLDER)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounts::special(c"tmpfs", c"/run/pyro-secrets", flags, OPTIONS)
}

/// Checks a secret and writes its file, readable by root alone.
pub(crate) fn put(secret: &SecretValue) -> Result<(), Failure> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if secret.name.is_empty() || secret.name.len() > NAME_MAX_BYTES || !secret.name.bytes().all(is_name) {
        return Err(Failure::message(ErrorKind::InvalidArgument, "the name of a secret is not made of 1 to 64 letters, digits and `_`"));
    }
    mount().map_err(|error| Failure::new(ErrorKind::Io, &error))?;
    write(Path::new(FOLDER), secret).map_err(|error| Failure::new(ErrorKind::Io, &error))
}

fn write(folder: &Path, secret: &SecretValue) -> io::Result<()> {
    let aside = folder.join(format!(".{}", secret.name));
    let _ = fs::remove_file(&aside);
    let mut file = fs::File::options().write(true).create_new(true).mode(0o400).open(&aside)?;
    file.write_all(&secret.value)?;
    fs::rename(aside, folder.join(&secret.name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_a_file_for_root_alone_and_can_be_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        for value in ["one", "two"] {
            let secret = SecretValue { name: "TOKEN".into(), value: value.into() };
            write(folder.path(), &secret).expect("written");
            let path = folder.path().join("TOKEN");
            assert_eq!(fs::read_to_string(&path).expect("read"), value);
            assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o400);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["", "../x", "a/b", "a.b", &"x".repeat(65)] {
            let secret = SecretValue { name: name.into(), value: "v".into() };
            assert_eq!(put(&secret).expect_err("refused").kind(), ErrorKind::InvalidArgument, "{name}");
        }
    }
}
