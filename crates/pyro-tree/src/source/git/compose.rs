//! Makes the `.git` of a seed from a repository: complete enough for `git status` and `git log`, without hooks and credentials.
//!
//! What is taken is on a list (see `list`); whatever a repository holds beyond it stays behind. A linked worktree and the repository it belongs to
//! become one. A repository that borrows objects from another one stays behind whole. The configuration is written anew (see `config`), and
//! addresses in text lose their credentials.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::fs::FileType;

use super::{
    checkout::{Checkout, Location, linked_reference},
    config::CONFIG_MAX_BYTES,
    credentials::strip_credentials,
    guest::{GuestConfig, References},
    list::{COMMON, OWN, OWN_REFS, TEXT_MAX_BYTES, is_own_reference, is_text, is_unwanted},
    reftable,
};
use crate::{
    entry::{Entry, EntryKind, Timestamp},
    path::{TreePath, printable},
    source::{
        Sink, SourceError,
        emit::Emitter,
        folder::{Folder, is_absent, kind_name, mtime_of},
        walk,
    },
};

/// Where the attributes lie that the user has for all repositories.
const HOST_ATTRIBUTES: &str = "info/attributes-of-the-host";
/// Names of the lists that hold references.
const REFERENCES: [&str; 6] = ["HEAD", "ORIG_HEAD", "refs/", "packed-refs", "logs/refs/", "reftable/"];

/// What is to be written, by its path below `.git`; a folder comes before what it holds.
type Parts = BTreeMap<Vec<u8>, Part>;

enum Part {
    Folder,
    /// A file at this path below a host folder.
    File(Rc<Folder>, Vec<u8>),
    /// A file that is made here.
    Text(Vec<u8>),
}

/// Hands the `.git` at `prefix` to the sink.
pub(in crate::source) fn compose<S: Sink>(
    location: &Location,
    checkout: &Checkout,
    prefix: &TreePath,
    emitter: &mut Emitter<'_, S>,
) -> Result<(), SourceError<S::Error>> {
    if let Some(problem) = &checkout.damaged {
        emitter.leave_out(prefix.as_bytes(), problem.clone());
        return Ok(());
    }
    let linked = location.is_linked();
    if let Some(lender) = lender(&location.common.join("objects")) {
        let reason = format!(
            "borrows its objects from `{}`, which is no part of the seed; `git repack -a -d && rm .git/objects/info/alternates` makes it whole",
            printable(lender.as_os_str().as_bytes())
        );
        emitter.leave_out(prefix.as_bytes(), reason);
        return Ok(());
    }
    let mut gatherer = Gatherer::default();
    let gathered = gatherer.gather(location, linked, checkout.reftable.as_ref());
    for (path, reason) in std::mem::take(&mut gatherer.left_out) {
        emitter.leave_out(&[prefix.as_bytes(), b"/", &path].concat(), reason);
    }
    if let Err(error) = gathered {
        return emitter.unreadable(prefix.as_bytes(), location.common.clone(), error);
    }
    // What is made here is as old as the repository, whose folders are not all looked at.
    let made = std::fs::metadata(&location.own).map_or_else(|_| Timestamp::default(), |status| Timestamp::of(&status));
    emitter.folder(prefix.clone(), 0o755, made)?;
    let references = if checkout.reftable.is_some() { References::Files } else { References::AsTheyAre };
    let mut config = GuestConfig::of(&checkout.config, references);
    if !checkout.conversions.host_attributes.is_empty() {
        // Git works at the top of a checkout, which a relative path is seen from.
        config.add_attributes_file(&format!(".git/{HOST_ATTRIBUTES}"));
        gatherer.add_text(HOST_ATTRIBUTES.as_bytes(), checkout.conversions.host_attributes.clone());
    }
    if checkout.reftable.is_some() {
        config.notes.push("its refs were converted from reftables to files; reflogs, and stashes with them, were left out".to_owned());
    }
    for note in config.notes {
        emitter.note(prefix.as_bytes(), &note);
    }
    let Ok(path) = prefix.join(b"config") else { return Ok(()) };
    emit_text(path, config.text.as_bytes(), made, &location.common, emitter)?;
    for (below, part) in &gatherer.parts {
        let Ok(path) = prefix.join(below) else {
            emitter.leave_out(below, "its path is too long");
            continue;
        };
        match part {
            Part::Folder => emitter.folder(path, 0o755, made)?,
            Part::Text(text) => emit_text(path, text, made, &location.common, emitter)?,
            Part::File(folder, host) if is_text(below) => match folder.read_small(host, TEXT_MAX_BYTES) {
                Ok(Some(text)) => {
                    let mtime = folder.status(host).map_or(made, |status| mtime_of(&status));
                    emit_text(path, &strip_credentials(&text), mtime, &folder.host_path(host), emitter)?;
                }
                Ok(None) => {}
                Err(error) => emitter.leave_out(path.as_bytes(), format!("cannot be freed of credentials: {error}")),
            },
            Part::File(folder, host) => walk::file(folder, host, path, emitter)?,
        }
    }
    Ok(())
}

/// Hands over text that was made here.
pub(in crate::source) fn emit_text<S: Sink>(
    path: TreePath,
    mut text: &[u8],
    mtime: Timestamp,
    host: &Path,
    emitter: &mut Emitter<'_, S>,
) -> Result<(), SourceError<S::Error>> {
    let size_bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let entry = Entry { path, kind: EntryKind::File, mode: 0o644, size_bytes, mtime, link_target: None };
    emitter.emit(&entry, &mut text, host)
}

#[derive(Default)]
struct Gatherer {
    parts: Parts,
    left_out: Vec<(Vec<u8>, String)>,
}

impl Gatherer {
    fn gather(&mut self, location: &Location, linked: bool, reftable: Option<&reftable::References>) -> io::Result<()> {
        // Git takes a folder without these two for none of its own.
        self.parts.insert(b"objects".to_vec(), Part::Folder);
        self.parts.insert(b"refs".to_vec(), Part::Folder);
        for (path, text) in reftable.map(|references| references.files(is_own_reference)).unwrap_or_default() {
            self.add_text(&path, text);
        }
        let own = Rc::new(Folder::open(&location.own)?);
        let common = if linked { Rc::new(Folder::open(&location.common)?) } else { Rc::clone(&own) };
        // Beside reftables lie a `HEAD` and a `refs` that only say so.
        let of_files = |name: &&str| reftable.is_none() || !REFERENCES.contains(name);
        for name in OWN.iter().chain(&OWN_REFS).filter(|name| of_files(name)) {
            self.take(&own, name)?;
        }
        for found in own.list(&own.folder(b"")?)? {
            if found.name.starts_with(b"sharedindex.") && found.kind == FileType::RegularFile {
                self.add(&own, &found.name, b"", FileType::RegularFile);
            }
        }
        for name in COMMON.iter().filter(|name| of_files(name)) {
            self.take(&common, name)?;
        }
        if linked {
            // What `refs` holds of the main checkout alone would be taken for this one's.
            self.parts
                .retain(|path, part| !(is_own_reference(path) && matches!(part, Part::File(folder, _) if Rc::ptr_eq(folder, &common))));
        }
        Ok(())
    }

    /// Takes one name of the lists; what is not there is fine.
    fn take(&mut self, folder: &Rc<Folder>, name: &str) -> io::Result<()> {
        let path = name.trim_end_matches('/').as_bytes();
        let status = match folder.status(path) {
            Ok(status) => status,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        match (FileType::from_raw_mode(status.st_mode), name.ends_with('/')) {
            (FileType::Directory, true) => {
                self.add(folder, path, b"", FileType::Directory);
                self.descend(folder, path, b"")
            }
            (FileType::RegularFile, false) => {
                self.add(folder, path, b"", FileType::RegularFile);
                Ok(())
            }
            (FileType::Symlink, false) if name == "HEAD" && linked_reference(folder, path).is_some() => {
                self.add_text(path, [linked_reference(folder, path).unwrap_or_default(), b"\n".to_vec()].concat());
                Ok(())
            }
            (FileType::Symlink, _) => {
                self.left_out.push((path.to_vec(), "is a link inside a repository".to_owned()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes everything below `top`, under its path with `prefix` before it.
    fn descend(&mut self, folder: &Rc<Folder>, top: &[u8], prefix: &[u8]) -> io::Result<()> {
        let mut pending = vec![top.to_vec()];
        while let Some(path) = pending.pop() {
            for found in folder.list(&folder.folder(&path)?)? {
                let below = if path.is_empty() { found.name.clone() } else { [&path, b"/".as_slice(), &found.name].concat() };
                let place = [prefix, &below].concat();
                match found.kind {
                    _ if is_unwanted(&place) => {}
                    FileType::Directory => {
                        self.add(folder, &below, prefix, FileType::Directory);
                        pending.push(below);
                    }
                    FileType::RegularFile if !prefix.is_empty() && below.starts_with(b"info/") => {}
                    FileType::RegularFile => self.add(folder, &below, prefix, FileType::RegularFile),
                    FileType::Symlink => self.left_out.push((place, "is a link inside a repository".to_owned())),
                    kind @ (FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown) => {
                        self.left_out.push((place, kind_name(kind).to_owned()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes a file that is made here, unless something else lies in its place or on its way.
    fn add_text(&mut self, path: &[u8], text: Vec<u8>) {
        let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        if above.clone().any(|folder| self.parts.get(folder).is_some_and(|part| !matches!(part, Part::Folder))) {
            return;
        }
        for folder in above {
            self.parts.entry(folder.to_vec()).or_insert(Part::Folder);
        }
        self.parts.entry(path.to_vec()).or_insert(Part::Text(text));
    }

    /// Notes one part and the folders above it; what is noted already stays.
    fn add(&mut self, folder: &Rc<Folder>, path: &[u8], prefix: &[u8], kind: FileType) {
        let place = [prefix, path].concat();
        for (at, _) in place.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.parts.entry(place[..at].to_vec()).or_insert(Part::Folder);
        }
        let part = if kind == FileType::Directory { Part::Folder } else { Part::File(Rc::clone(folder), path.to_vec()) };
        self.parts.entry(place).or_insert(part);
    }
}

/// Returns the first object folder that a repository borrows from.
///
/// What lies there is another repository's: a seed that reached into it would carry across what nobody named, and whoever prepared the
/// checkout could name any repository of this host.
fn lender(objects: &Path) -> Option<PathBuf> {
    let text = Folder::open(objects).and_then(|folder| folder.read_small(b"info/alternates", CONFIG_MAX_BYTES)).ok()??;
    let line = text.split(|byte| *byte == b'\n').find(|line| !line.is_empty() && !line.starts_with(b"#"))?;
    Some(objects.join(OsStr::from_bytes(line)))
}
