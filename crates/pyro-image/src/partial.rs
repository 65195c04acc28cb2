//! A file that is being made beside its final name. Its lock says that somebody is at it: whoever finds one without removes it, so that a
//! killed maker leaves nothing for long, in whatever namespace it was.

use std::{
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// What the sweeper knows such files by.
const MARK: &str = "partial-";

/// A file in the making. Dropped before it is published, it goes.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    file: std::fs::File,
}

impl Partial {
    /// Makes an empty file beside `path`, readable by its owner only.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn beside(path: &Path) -> io::Result<Self> {
        loop {
            let aside = path.with_extension(format!("{MARK}{}", random()?));
            let named = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", aside.display()));
            let mut options = std::fs::OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(&aside).map_err(named)?;
            rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
            // Between its making and its lock somebody may have taken it for left behind.
            let own = file.metadata()?;
            if std::fs::symlink_metadata(&aside).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
                return Ok(Self { path: aside, file });
            }
        }
    }

    /// Returns where it lies until it is published.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file. Its lock belongs to it and goes with it.
    #[must_use]
    pub const fn file(&self) -> &std::fs::File {
        &self.file
    }

    /// Gives it its name, in place of what is there.
    ///
    /// # Errors
    /// It cannot be renamed; it goes then.
    pub fn publish(self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Once published there is nothing of this name.
        drop(std::fs::remove_file(&self.path));
    }
}

fn random() -> io::Result<String> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_making_is_locked_and_goes_unless_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let partial = Partial::beside(&path).unwrap();
        let aside = partial.path().to_owned();
        assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("disk.partial-"));
        let other = std::fs::File::open(&aside).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockShared).is_err());
        drop(partial);
        assert!(!aside.exists());
        Partial::beside(&path).unwrap().publish(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let published = std::fs::File::open(&path).unwrap();
        flock(&published, FlockOperation::NonBlockingLockShared).unwrap();
    }
}
