//! A host's file on disk: read once, replaced whole, and never when somebody else wrote it in between.
//!
//! The new text is written beside the file and renamed over it, so a reader sees the old or the new one. A link stays a link: what it
//! leads to is replaced. Mode and owner stay, also when root does it for a user. Before that the old file is kept beside the new one.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{Host, HostError, Scope, error::Malformed};

/// Far more than any host's file; without it a wrong path would fill memory.
const MAXIMUM_BYTES: u64 = 64 << 20;
/// How many earlier files are kept.
const BACKUPS: usize = 3;
/// What stands between a file's name and the moment it was replaced.
const BACKUP_MARK: &str = ".pyro-backup-";
/// Editors of some systems put it first; JSON does not know it, but hosts read over it.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A file as it was found.
#[derive(Debug)]
pub(super) struct HostFile {
    /// Where it is named.
    path: PathBuf,
    /// Where it lies: the same, but for links.
    target: PathBuf,
    /// What it held; nothing where there was none.
    found: Option<Found>,
    /// The mode of a new one.
    new_mode: u32,
}

#[derive(Debug)]
struct Found {
    bytes: Vec<u8>,
    metadata: fs::Metadata,
}

impl HostFile {
    /// Reads a host's file, or finds that there is none.
    pub(super) fn read(path: &Path, scope: Scope) -> Result<Self, HostError> {
        // Users' files of these hosts hold keys of other servers; those of a project are shared by it.
        let new_mode = if scope == Scope::User { 0o600 } else { 0o644 };
        let absent = |target: PathBuf| Self { path: path.to_owned(), target, found: None, new_mode };
        let target = match fs::canonicalize(path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match fs::symlink_metadata(path) {
                    Ok(_) => Err(HostError::NotAFile { path: path.to_owned(), what: "a link that leads nowhere" }),
                    Err(_) => Ok(absent(path.to_owned())),
                };
            }
            Err(source) => return Err(HostError::io("read", path, source)),
        };
        let metadata = fs::metadata(&target).map_err(|source| HostError::io("read", path, source))?;
        if !metadata.is_file() {
            return Err(HostError::NotAFile {
                path: path.to_owned(),
                what: if metadata.is_dir() { "a folder" } else { "no regular file" },
            });
        }
        if metadata.len() > MAXIMUM_BYTES {
            return Err(HostError::TooLarge { path: path.to_owned(), bytes: metadata.len(), maximum: MAXIMUM_BYTES });
        }
        let bytes = read_capped(&target).map_err(|source| HostError::io("read", path, source))?;
        Ok(Self { path: path.to_owned(), target, found: Some(Found { bytes, metadata }), new_mode })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn exists(&self) -> bool {
        self.found.is_some()
    }

    /// Returns its text, without a byte order mark.
    pub(super) fn text(&self, host: Host) -> Result<&str, HostError> {
        let Some(found) = &self.found else { return Ok("") };
        match std::str::from_utf8(&found.bytes) {
            Ok(text) => Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)),
            Err(error) => {
                Err(HostError::Malformed { host, path: self.path.clone(), source: Malformed::NotText { at: error.valid_up_to() } })
            }
        }
    }

    /// Replaces it by `text`, and returns where the old one is kept.
    ///
    /// When this fails the file is as it was; a backup may be there already.
    pub(super) fn replace(&self, text: &str) -> Result<Option<PathBuf>, HostError> {
        let folder = self.target.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(folder).map_err(|source| HostError::io("make the folder", folder, source))?;
        let write = |source| HostError::io("write", &self.path, source);
        let backup = self.found.as_ref().map(|found| self.back_up(found)).transpose()?;
        let mut temporary = tempfile::Builder::new().prefix(".pyro-").tempfile_in(folder).map_err(write)?;
        let mark = self.found.as_ref().is_some_and(|found| found.bytes.starts_with(BYTE_ORDER_MARK.as_bytes()));
        let file = temporary.as_file_mut();
        file.write_all(if mark { BYTE_ORDER_MARK } else { "" }.as_bytes()).and_then(|()| file.write_all(text.as_bytes())).map_err(write)?;
        let mode = self.found.as_ref().map_or(self.new_mode, |found| found.metadata.mode() & 0o7777);
        if let Some(found) = &self.found {
            keep_owner(file, &found.metadata);
        }
        file.set_permissions(fs::Permissions::from_mode(mode)).and_then(|()| file.sync_all()).map_err(write)?;
        self.check_unchanged()?;
        if self.found.is_some() {
            temporary.persist(&self.target).map_err(|error| write(error.error))?;
        } else {
            temporary.persist_noclobber(&self.target).map_err(|error| {
                if error.error.kind() == io::ErrorKind::AlreadyExists {
                    HostError::ChangedMeanwhile { path: self.path.clone() }
                } else {
                    write(error.error)
                }
            })?;
        }
        // The rename is what must survive a crash; a file system that cannot sync folders keeps it anyway or has nothing better.
        drop(fs::File::open(folder).and_then(|folder| folder.sync_all()));
        self.forget_old_backups();
        Ok(backup)
    }

    /// Looks a last time. What comes between this and the rename is lost, and that is as short as files allow.
    fn check_unchanged(&self) -> Result<(), HostError> {
        let now = match read_capped(&self.target) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(HostError::io("read", &self.path, source)),
        };
        if now.as_deref() == self.found.as_ref().map(|found| found.bytes.as_slice()) {
            Ok(())
        } else {
            Err(HostError::ChangedMeanwhile { path: self.path.clone() })
        }
    }

    fn back_up(&self, found: &Found) -> Result<PathBuf, HostError> {
        let stamp: String = pyro_sdk::now_rfc3339().chars().filter(char::is_ascii_alphanumeric).collect();
        let path = with_suffix(&self.target, &format!("{BACKUP_MARK}{stamp}"));
        let written = (|| {
            let mode = found.metadata.mode() & 0o777;
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(&found.bytes)?;
            keep_owner(&file, &found.metadata);
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()
        })();
        written.map_err(|source| HostError::io("keep the old file as", &path, source))?;
        Ok(path)
    }

    /// Removes all but the newest backups. Their names sort by time.
    fn forget_old_backups(&self) {
        let prefix = with_suffix(&self.target, BACKUP_MARK);
        let (Some(folder), Some(prefix)) = (prefix.parent(), prefix.file_name().and_then(|name| name.to_str())) else { return };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)).collect();
        names.sort_unstable();
        for name in names.iter().rev().skip(BACKUPS) {
            // One that cannot be removed is in nobody's way.
            drop(fs::remove_file(folder.join(name)));
        }
    }
}

fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAXIMUM_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Root writes for whoever owns the file; for everyone else the owner is right already, or cannot be changed.
fn keep_owner(file: &fs::File, metadata: &fs::Metadata) {
    drop(std::os::unix::fs::fchown(file, Some(metadata.uid()), Some(metadata.gid())));
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("the test can set itself up")
    }

    fn read(path: &Path) -> HostFile {
        HostFile::read(path, Scope::User).expect("it can be read")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o777
    }

    #[test]
    fn new_file_is_private_and_its_folders_are_made() {
        let folder = folder();
        let path = folder.path().join("a/b/c.json");
        assert_eq!(read(&path).replace("{}\n").expect("it is written"), None);
        assert_eq!((fs::read_to_string(&path).expect("it is there").as_str(), mode(&path)), ("{}\n", 0o600));
        let shared = folder.path().join("shared.json");
        HostFile::read(&shared, Scope::Project).expect("it can be read").replace("{}").expect("it is written");
        assert_eq!(mode(&shared), 0o644);
    }

    #[test]
    fn mode_link_and_byte_order_mark_stay() {
        let folder = folder();
        let (target, link) = (folder.path().join("dotfiles.json"), folder.path().join("link.json"));
        fs::write(&target, "\u{feff}{}").expect("writable");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).expect("ours");
        std::os::unix::fs::symlink("dotfiles.json", &link).expect("writable");
        let file = read(&link);
        assert_eq!(file.text(Host::Cursor).expect("text"), "{}");
        let backup = file.replace("{ }").expect("it is written").expect("there was one");
        assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
        assert_eq!((fs::read_to_string(&target).expect("it is there").as_str(), mode(&target)), ("\u{feff}{ }", 0o640));
        assert_eq!((fs::read_to_string(&backup).expect("it is there").as_str(), mode(&backup)), ("\u{feff}{}", 0o640));
        assert_eq!(backup.parent(), target.canonicalize().expect("it is there").parent());
    }

    #[test]
    fn change_of_another_program_is_not_overwritten() {
        let folder = folder();
        let path = folder.path().join("c.json");
        let absent = read(&path);
        fs::write(&path, "theirs").expect("writable");
        assert!(matches!(absent.replace("ours"), Err(HostError::ChangedMeanwhile { .. })));
        let found = read(&path);
        fs::write(&path, "theirs again").expect("writable");
        assert!(matches!(found.replace("ours"), Err(HostError::ChangedMeanwhile { .. })));
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "theirs again");
        let left = fs::read_dir(folder.path())
            .expect("readable")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(".pyro-"));
        assert_eq!(left.count(), 0, "a temporary file is left");
    }

    #[test]
    fn only_the_newest_backups_are_kept() {
        let folder = folder();
        let path = folder.path().join("c.json");
        fs::write(&path, "0").expect("writable");
        for number in 10..14 {
            fs::write(folder.path().join(format!("c.json.pyro-backup-20200101T0000{number}000Z")), "old").expect("writable");
        }
        let backup = read(&path).replace("1").expect("it is written").expect("there was one");
        let mut names: Vec<_> = fs::read_dir(folder.path()).expect("readable").flatten().map(|entry| entry.path()).collect();
        names.sort();
        let names: Vec<_> = names.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        let newest = backup.file_name().and_then(|name| name.to_str()).expect("a name");
        let kept = ["c.json", "c.json.pyro-backup-20200101T000012000Z", "c.json.pyro-backup-20200101T000013000Z", newest];
        assert_eq!(names, kept);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = folder();
        assert!(matches!(HostFile::read(folder.path(), Scope::User), Err(HostError::NotAFile { what: "a folder", .. })));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).expect("writable");
        assert!(matches!(HostFile::read(&link, Scope::User), Err(HostError::NotAFile { .. })));
        let bytes = folder.path().join("bytes");
        fs::write(&bytes, b"ab\xff").expect("writable");
        assert!(matches!(read(&bytes).text(Host::Codex), Err(HostError::Malformed { source: Malformed::NotText { at: 2 }, .. })));
    }
}
