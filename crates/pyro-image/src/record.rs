//! What is kept on disk about environments, apart from the types the rest of Pyro sees.
//!
//! Fields are only added, as optional ones. A record of a newer format is read as far as its known fields go, and never rewritten.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::catalog::EnvironmentName;
use crate::digest::EnvironmentDigest;
use crate::error::{Error, Result};
use crate::files;

/// Format of both records.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Longest record read: they have a dozen short fields.
const RECORD_MAX_BYTES: u64 = 64 * 1024;

/// `DIGEST/environment.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnvironmentRecord {
    pub(crate) format_version: u32,
    pub(crate) name: EnvironmentName,
    pub(crate) created_at_unix_ms: u64,
    pub(crate) content_bytes: u64,
    pub(crate) package_count: u32,
    pub(crate) kernel_version: String,
}

/// `names/NAME.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    pub(crate) format_version: u32,
    pub(crate) name: EnvironmentName,
    pub(crate) digest: EnvironmentDigest,
}

/// Reads a record; `None` when there is no such file.
pub(crate) fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    use std::io::Read as _;
    let file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", path, source)),
    };
    let mut text = String::new();
    file.take(RECORD_MAX_BYTES).read_to_string(&mut text).map_err(|source| Error::io("read", path, source))?;
    serde_json::from_str(&text).map(Some).map_err(|source| Error::Record { path: path.to_owned(), source })
}

/// Writes a record, unless a newer Pyro has written the one that is there.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    // A damaged record is replaced: that is how a forced pull mends it.
    if let Ok(Some(Version { format_version: found })) = read::<Version>(path)
        && found > FORMAT_VERSION
    {
        return Err(Error::NewerFormat { path: path.to_owned(), found, known: FORMAT_VERSION });
    }
    let text = serde_json::to_vec_pretty(record).map_err(|source| Error::Record { path: path.to_owned(), source })?;
    files::write_atomically(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_record_is_read_and_not_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debian_12.json");
        let digest = "a".repeat(64);
        fs_err::write(&path, format!(r#"{{"format_version":7,"name":"debian:12","digest":"{digest}","novelty":1}}"#)).unwrap();
        let record: NameRecord = read(&path).unwrap().unwrap();
        assert_eq!(record.digest.as_str(), digest);
        let error = write(&path, &NameRecord { format_version: FORMAT_VERSION, ..record }).unwrap_err();
        assert_eq!(error.kind(), pyro_proto::error::ErrorKind::Incompatible);
    }

    #[test]
    fn damaged_record_names_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        fs_err::write(&path, "{").unwrap();
        assert_eq!(read::<NameRecord>(&path).unwrap_err().to_string(), format!("cannot read the record `{}`", path.display()));
        assert_eq!(read::<NameRecord>(&folder.path().join("y.json")).unwrap(), None);
    }
}
