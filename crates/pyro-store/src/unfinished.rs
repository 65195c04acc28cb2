//! Notes on what is being done outside Pyro's folders: a folder beside an export's output, a copy of a disk, changes that are brought to
//! files of the user's. Whoever does it may be killed, and nobody would ever find it again. So a note is written first, and locked for as
//! long as its writer lives; the next client that sees one without a lock puts right what it speaks of.
//!
//! Nothing is removed that does not carry Pyro's mark in its name, and nothing through a link.

use std::{
    ffi::OsStr,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Dirs, FileLock, LockState, StoreResult, WorkspaceId, random_hex};

const FORMAT: u32 = 1;
/// What every name has that may be removed: `.NAME.pyro-0123456789abcdef`.
const MARK: &str = ".pyro-";
/// Longest note read.
const NOTE_MAX_BYTES: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    format: u32,
    work: Work,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    /// Something that is to be removed; its absolute path.
    Making(Vec<u8>),
    /// Changes of this workspace on their way to files of the host, or back.
    Applying {
        workspace: WorkspaceId,
        /// It was tried to put them right, and could not be: only its owner can decide.
        stuck: bool,
    },
}

/// A note on something that is being done. Dropping it takes the note back: the thing is then finished, or undone by its maker.
#[derive(Debug)]
pub struct Unfinished {
    note: PathBuf,
    _lock: FileLock,
}

impl Unfinished {
    /// Notes that `path` is about to be made. Its name must carry the mark: see [`Unfinished::name`].
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn announce(dirs: &Dirs, path: &Path) -> StoreResult<Self> {
        debug_assert!(is_marked(path), "what is announced can be removed");
        Self::write(dirs, Work::Making(std::path::absolute(path)?.into_os_string().into_vec()))
    }

    /// Notes that changes of a workspace are about to be brought to files of the host, or taken back.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn applying(dirs: &Dirs, workspace: &WorkspaceId) -> StoreResult<Self> {
        Self::write(dirs, Work::Applying { workspace: workspace.clone(), stuck: false })
    }

    fn write(dirs: &Dirs, work: Work) -> StoreResult<Self> {
        let folder = dirs.unfinished();
        std::fs::DirBuilder::new().recursive(true).create(&folder)?;
        let content = serde_json::to_vec(&Note { format: FORMAT, work }).expect("plain fields serialise");
        loop {
            let note = folder.join(random_hex(16));
            let lock = FileLock::acquire(&note)?;
            // Between its making and its lock somebody may have taken it for left behind.
            if !lock.is_at(&note) {
                continue;
            }
            fs_err::write(&note, &content)?;
            return Ok(Self { note, _lock: lock });
        }
    }

    /// Returns a name for what is made beside `name` until it is whole.
    #[must_use]
    pub fn name(name: &OsStr) -> PathBuf {
        // With its suffix the name must still be one (NAME_MAX in limits.h is 255).
        let kept = &name.as_bytes()[..name.len().min(200)];
        let mut marked = b".".to_vec();
        marked.extend_from_slice(kept);
        marked.extend_from_slice(format!("{MARK}{}", random_hex(16)).as_bytes());
        PathBuf::from(OsStr::from_bytes(&marked))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // One that stays names something that is gone, and goes with the next look.
        drop(std::fs::remove_file(&self.note));
    }
}

fn is_marked(path: &Path) -> bool {
    let Some(name) = path.file_name().map(OsStr::as_bytes) else { return false };
    let Some(at) = name.windows(MARK.len()).rposition(|window| window == MARK.as_bytes()) else { return false };
    let suffix = &name[at + MARK.len()..];
    name.starts_with(b".") && suffix.len() == 16 && suffix.iter().all(u8::is_ascii_hexdigit)
}

/// Something that a killed process left outside Pyro's folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it is.
    pub path: PathBuf,
    note: PathBuf,
}

/// Changes that were cut off on their way to files of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOff {
    /// Whose changes.
    pub workspace: WorkspaceId,
    /// It was tried to put them right, and could not be.
    pub stuck: bool,
    note: PathBuf,
}

/// Returns what processes that are gone left to be removed. Notes on what is not there any more are removed.
///
/// # Errors
/// A note cannot be read or removed.
pub fn leftovers(dirs: &Dirs) -> StoreResult<Vec<Leftover>> {
    let mut found = Vec::new();
    for (note, work) in abandoned(dirs)? {
        let path = match work {
            Some(Work::Applying { .. }) => continue,
            Some(Work::Making(path)) => Some(PathBuf::from(OsStr::from_bytes(&path))),
            None => None,
        };
        match path.filter(|path| is_marked(path)) {
            Some(path) if std::fs::symlink_metadata(&path).is_ok() => found.push(Leftover { path, note }),
            // Gone, or never made. Where its folder is not to be seen, say a disk that is not mounted, the note waits for it.
            Some(path) if path.parent().is_some_and(|parent| !parent.is_dir()) => {}
            Some(_) | None => crate::remove_if_present(&note)?,
        }
    }
    Ok(found)
}

/// Returns the changes that processes which are gone left half brought to the host.
///
/// # Errors
/// A note cannot be read.
pub fn cut_off(dirs: &Dirs) -> StoreResult<Vec<CutOff>> {
    let cut_off = |(note, work)| match work {
        Some(Work::Applying { workspace, stuck }) => Some(CutOff { workspace, stuck, note }),
        Some(Work::Making(_)) | None => None,
    };
    Ok(abandoned(dirs)?.into_iter().filter_map(cut_off).collect())
}

/// Tells whether changes of a workspace are half brought to the host, or on their way: what puts them right goes with the workspace.
///
/// # Errors
/// A note cannot be read.
pub fn is_applying(dirs: &Dirs, workspace: &WorkspaceId) -> StoreResult<bool> {
    for note in notes(dirs) {
        if matches!(read(&note)?, Some(Work::Applying { workspace: of, .. }) if of == *workspace) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl CutOff {
    /// Takes the note back: the changes are all there, or none is.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn settled(&self) -> StoreResult<()> {
        crate::remove_if_present(&self.note)
    }

    /// Remembers that nobody but the user can decide.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn set_stuck(&self) -> StoreResult<()> {
        let note = Note { format: FORMAT, work: Work::Applying { workspace: self.workspace.clone(), stuck: true } };
        crate::write_atomically(&self.note, &serde_json::to_vec(&note).expect("plain fields serialise"))
    }
}

fn notes(dirs: &Dirs) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(dirs.unfinished()).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Reads a note; `None` when it says nothing, or nothing any more. One that was cut off was written before what it would speak of was begun.
fn read(note: &Path) -> StoreResult<Option<Work>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    match std::fs::File::open(note).and_then(|file| file.take(NOTE_MAX_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => {}
        // Its writer has just come to its end.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    Ok(serde_json::from_slice::<Note>(&bytes).ok().filter(|note| note.format == FORMAT).map(|note| note.work))
}

/// Reads the notes nobody holds.
fn abandoned(dirs: &Dirs) -> StoreResult<Vec<(PathBuf, Option<Work>)>> {
    let mut found = Vec::new();
    for note in notes(dirs) {
        if FileLock::probe(&note)? == LockState::Free {
            let work = read(&note)?;
            found.push((note, work));
        }
    }
    Ok(found)
}

impl Leftover {
    /// Removes it, and the note.
    ///
    /// # Errors
    /// The file system refuses; the note stays for the next look.
    pub fn remove(&self) -> StoreResult<()> {
        let is_folder = std::fs::symlink_metadata(&self.path).is_ok_and(|status| status.is_dir());
        let removed = if is_folder { fs_err::remove_dir_all(&self.path) } else { fs_err::remove_file(&self.path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        crate::remove_if_present(&self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_maker_left_is_found_and_a_living_ones_is_not() {
        let home = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(home.path());
        let output = tempfile::tempdir().expect("a folder");
        let path = output.path().join(Unfinished::name(OsStr::new("report.txt")));
        let made = Unfinished::announce(&dirs, &path).expect("noted");
        std::fs::create_dir(&path).expect("writable");
        assert_eq!(leftovers(&dirs).expect("looks"), []);
        let note = made.note.clone();
        // Death takes the lock and not the note.
        let content = std::fs::read(&note).expect("there");
        drop(made);
        std::fs::write(&note, content).expect("writable");
        let found = leftovers(&dirs).expect("looks");
        assert_eq!(found.iter().map(|found| &found.path).collect::<Vec<_>>(), [&path]);
        found[0].remove().expect("removes");
        assert!(!path.exists() && !note.exists());
    }

    #[test]
    fn changes_that_were_cut_off_are_known_until_they_are_settled() {
        let home = tempfile::tempdir().expect("a folder");
        let (dirs, workspace) = (Dirs::under(home.path()), WorkspaceId::random());
        let applying = Unfinished::applying(&dirs, &workspace).expect("noted");
        assert_eq!(cut_off(&dirs).expect("looks"), []);
        assert!(is_applying(&dirs, &workspace).expect("looks") && !is_applying(&dirs, &WorkspaceId::random()).expect("looks"));
        let (note, content) = (applying.note.clone(), std::fs::read(&applying.note).expect("there"));
        drop(applying);
        std::fs::write(&note, content).expect("writable");
        let found = cut_off(&dirs).expect("looks");
        assert_eq!((found.len(), &found[0].workspace, found[0].stuck), (1, &workspace, false));
        found[0].set_stuck().expect("writable");
        let found = cut_off(&dirs).expect("looks");
        assert!(found[0].stuck && leftovers(&dirs).expect("looks").is_empty());
        found[0].settled().expect("removes");
        assert_eq!(cut_off(&dirs).expect("looks"), []);
    }

    #[test]
    fn nothing_without_the_mark_is_ever_removed() {
        let home = tempfile::tempdir().expect("a folder");
        let dirs = Dirs::under(home.path());
        std::fs::create_dir_all(dirs.unfinished()).expect("writable");
        let precious = home.path().join("precious");
        std::fs::write(&precious, "").expect("writable");
        let note = Note { format: FORMAT, work: Work::Making(precious.clone().into_os_string().into_vec()) };
        std::fs::write(dirs.unfinished().join("forged"), serde_json::to_vec(&note).expect("serialises")).expect("writable");
        assert_eq!(leftovers(&dirs).expect("looks"), []);
        assert!(precious.exists());
        for (name, marked) in [(".a.pyro-0123456789abcdef", true), ("a.pyro-0123456789abcdef", false), (".a.pyro-0123", false)] {
            assert_eq!(is_marked(Path::new(name)), marked, "{name}");
        }
        let long = Unfinished::name(OsStr::new(&"x".repeat(255)));
        assert!(is_marked(&long) && long.as_os_str().len() <= 255);
    }
}
