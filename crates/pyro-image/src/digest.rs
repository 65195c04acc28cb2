//! The identity of a built environment: a SHA-256 over its three files.
//!
//! It is the SHA-256 of the text `sha256sum root.ext4 vmlinuz modules.cpio` prints, so that anyone can check it with two standard tools.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Names of the files the digest covers, in its order.
pub(crate) const DIGESTED_FILES: [&str; 3] = ["root.ext4", "vmlinuz", "modules.cpio"];
/// Characters of a digest: 32 bytes in lower-case hex.
const DIGEST_CHARS: usize = 64;
/// Read size while hashing: large enough that the system call does not show beside the hash.
const BUFFER_BYTES: usize = 1 << 20;

/// The content of an environment, as 64 hex digits; also the name of its folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentDigest(String);

/// A text that is not 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an environment digest is 64 lower-case hex digits")]
pub struct MalformedDigest;

impl EnvironmentDigest {
    /// Returns the 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Computes the digest of the three files in `folder`; `hashed` is told the bytes done so far and their total.
    pub(crate) fn of(folder: &Path, hashed: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let mut total = 0;
        for name in DIGESTED_FILES {
            let path = folder.join(name);
            total += fs_err::metadata(&path).map_err(|source| Error::io("read", &path, source))?.len();
        }
        let (mut manifest, mut done, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER_BYTES]);
        for name in DIGESTED_FILES {
            let path = folder.join(name);
            let failed = |source| Error::io("read", &path, source);
            let mut file = fs_err::File::open(&path).map_err(failed)?;
            let mut hasher = Sha256::new();
            loop {
                let count = file.read(&mut buffer).map_err(failed)?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
                done += count as u64;
                hashed(done, total);
            }
            manifest.update(format!("{}  {name}\n", hex(&hasher.finalize())));
        }
        Ok(Self(hex(&manifest.finalize())))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for EnvironmentDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for EnvironmentDigest {
    type Err = MalformedDigest;

    fn from_str(text: &str) -> std::result::Result<Self, MalformedDigest> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == DIGEST_CHARS && text.bytes().all(hex) { Ok(Self(text.to_owned())) } else { Err(MalformedDigest) }
    }
}

impl TryFrom<String> for EnvironmentDigest {
    type Error = MalformedDigest;

    fn try_from(text: String) -> std::result::Result<Self, MalformedDigest> {
        text.parse()
    }
}

impl From<EnvironmentDigest> for String {
    fn from(digest: EnvironmentDigest) -> Self {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_the_hash_of_what_sha256sum_prints() {
        let folder = tempfile::tempdir().unwrap();
        for name in DIGESTED_FILES {
            fs_err::write(folder.path().join(name), b"abc").unwrap();
        }
        const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let listing: String = DIGESTED_FILES.iter().map(|name| format!("{ABC}  {name}\n")).collect();
        let mut last = (0, 0);
        let digest = EnvironmentDigest::of(folder.path(), &mut |done, total| last = (done, total)).unwrap();
        assert_eq!(digest.as_str(), hex(&Sha256::digest(listing)));
        assert_eq!(last, (9, 9));
    }

    #[test]
    fn digest_is_never_a_path() {
        for text in ["", "../../etc/passwd", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65)] {
            assert_eq!(text.parse::<EnvironmentDigest>(), Err(MalformedDigest));
        }
        assert!("0123456789abcdef".repeat(4).parse::<EnvironmentDigest>().is_ok());
    }
}
