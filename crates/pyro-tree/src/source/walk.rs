//! Walks a folder and hands over what it holds: files and links of a folder first, then its folders, each sorted by name.
//!
//! Below a Git checkout only what it tracks, or does not ignore, is handed over; a checkout inside another one chooses for itself.
//! The walk keeps a list of folders to visit instead of recursing, so depth costs no stack.

use std::{io, os::unix::ffi::OsStrExt as _, path::Path, rc::Rc};

use rustix::{
    fd::OwnedFd,
    fs::{FileType, OFlags},
};

use super::{
    OriginKind, Sink, SourceError, SourceOptions, SourceReport,
    emit::Emitter,
    folder::{Folder, Found, Opened, kind_name, mtime_of},
    git::{self, Checkout, Location},
};
use crate::{
    entry::{Entry, EntryKind, MODE_MASK},
    ignore::{Case, IGNORE_FILE_MAX_BYTES, IgnoreRules, Scope},
    path::{PATH_MAX_BYTES, TreePath, printable},
};

/// Files of a checkout that say what Git does with the others.
const GITIGNORE: &[u8] = b".gitignore";
const GITATTRIBUTES: &[u8] = b".gitattributes";

/// A folder to visit.
struct Visit {
    /// Relative to the source; empty at its top.
    path: Vec<u8>,
    within: Option<Within>,
}

/// Where in a checkout a folder lies.
#[derive(Clone)]
struct Within {
    checkout: Rc<Checkout>,
    /// Relative to the checkout.
    path: Vec<u8>,
    /// The folder is ignored: only what is tracked counts.
    tracked_only: bool,
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// Hands over a folder of the host.
pub(super) fn read<S: Sink>(path: &Path, options: &SourceOptions, sink: &mut S) -> Result<SourceReport, SourceError<S::Error>> {
    let failed = |source| SourceError::Read { path: path.into(), source };
    // The checkout around a folder is found by names, so they must be those of the folder that is opened.
    let path = std::fs::canonicalize(path).map_err(failed)?;
    let folder = Folder::open(&path).map_err(failed)?;
    let emitter = Emitter::new(sink, OriginKind::Directory, options.strict);
    let mut walk = Walk { folder, options, emitter, rules: IgnoreRules::default(), composed: Vec::new() };
    walk.emitter.report.top_mtime = walk.folder.status(b"").ok().map(|status| mtime_of(&status));
    let mut pending = vec![Visit { path: Vec::new(), within: walk.surroundings(&path)? }];
    while let Some(visit) = pending.pop() {
        walk.visit(visit, &mut pending)?;
    }
    walk.note_filters();
    walk.emitter.report.ignore = Some(walk.rules).filter(|rules| !rules.is_empty());
    Ok(walk.emitter.report)
}

struct Walk<'a, S: Sink> {
    folder: Folder,
    options: &'a SourceOptions,
    emitter: Emitter<'a, S>,
    /// What all checkouts ignore, by what has been met of them so far.
    rules: IgnoreRules,
    /// Checkouts whose `.git` was handed over, and where they lie.
    composed: Vec<(Vec<u8>, Rc<Checkout>)>,
}

impl<S: Sink> Walk<'_, S> {
    /// Finds out what checkout the source lies in, unless it is one itself.
    fn surroundings(&mut self, path: &Path) -> Result<Option<Within>, SourceError<S::Error>> {
        if Location::of(path).is_some() {
            return Ok(None);
        }
        let Some((top, location)) = path.ancestors().skip(1).find_map(|top| Some((top, Location::of(top)?))) else { return Ok(None) };
        let mut checkout = Checkout::read(Some(&location), top, &self.options.git_environment);
        let mut scope = checkout.scope.take().unwrap_or_else(|| Scope::new(Case::Sensitive));
        let host = Folder::open(top).map_err(|source| SourceError::Read { path: top.into(), source })?;
        let mut within = Within { checkout: Rc::new(checkout), path: Vec::new(), tracked_only: false };
        for name in path.strip_prefix(top).unwrap_or(path) {
            if let Some(bytes) = self.read_rules(&host, &within.path)? {
                scope.set_folder(&within.path, &bytes);
            }
            within.path = joined(&within.path, name.as_bytes());
            within.tracked_only |= scope.ignores(&within.path, true);
            // A folder that its surroundings ignore has nothing to do with them, like a project in a home that is itself a checkout.
            if within.tracked_only && !within.checkout.tracks(&within.path, true) {
                return Ok(None);
            }
        }
        scope.begin_at(&within.path, within.tracked_only);
        self.add_scope(b"", scope)?;
        self.emitter.report.origin = OriginKind::Git;
        self.emitter.report.origin_ref.clone_from(&within.checkout.head);
        for complaint in &within.checkout.complaints {
            self.emitter.leave_out(b".git", complaint.clone());
        }
        for note in &within.checkout.notes {
            self.emitter.note(b".git", note);
        }
        if self.options.git {
            self.emitter.leave_out(b".git", "the source is a part of a checkout, whose `.git` belongs to the whole");
        }
        Ok(Some(within))
    }

    /// Reads the `.gitignore` of a host folder. One that cannot be read fails the source, since what it hides would be taken; where all is
    /// taken, it hides nothing.
    fn read_rules(&self, host: &Folder, folder: &[u8]) -> Result<Option<Vec<u8>>, SourceError<S::Error>> {
        let name = joined(folder, GITIGNORE);
        match host.read_small(&name, IGNORE_FILE_MAX_BYTES) {
            Ok(bytes) => Ok(bytes),
            Err(_) if self.options.all => Ok(None),
            Err(source) => Err(SourceError::Read { path: host.host_path(&name), source }),
        }
    }

    fn add_scope(&mut self, root: &[u8], scope: Scope) -> Result<(), SourceError<S::Error>> {
        let added = self.rules.add_scope(root, scope);
        added.map_err(|error| SourceError::Read { path: self.folder.host_path(root), source: io::Error::other(error) })
    }

    /// Returns where an entry of a folder lies in its checkout, or `None` when it is not to be taken.
    fn admit(&self, within: &Within, path: &[u8], name: &[u8], folder: bool) -> Option<Within> {
        let ignored = !self.options.all && (within.tracked_only || self.rules.ignores_alone(path, folder));
        let below = joined(&within.path, name);
        let admitted = !ignored || within.checkout.tracks(&below, folder);
        admitted.then(|| Within { checkout: Rc::clone(&within.checkout), path: below, tracked_only: ignored })
    }

    /// Finds out whether a folder is the top of a checkout, and hands over its `.git`; reads what it says about the rest of the folder.
    fn enter(&mut self, visit: &mut Visit, found: &[Found]) -> Result<(), SourceError<S::Error>> {
        let has = |name: &[u8]| found.iter().any(|found| found.name == name);
        if has(b".git") {
            let host = self.folder.host_path(&visit.path);
            let location = Location::of(&host);
            let dot_git = TreePath::try_from(joined(&visit.path, b".git").as_slice());
            let dot_git = dot_git.map_err(|error| SourceError::Read { path: host.clone(), source: io::Error::other(error) })?;
            let mut checkout = Checkout::read(location.as_ref(), &host, &self.options.git_environment);
            for complaint in &checkout.complaints {
                self.emitter.leave_out(dot_git.as_bytes(), complaint.clone());
            }
            // What is said of the user's own configuration need not be said of each checkout.
            for note in &checkout.notes {
                if self.emitter.report.notes.iter().all(|before| before.text != *note) {
                    self.emitter.note(dot_git.as_bytes(), note);
                }
            }
            if visit.path.is_empty() && location.is_some() {
                self.emitter.report.origin = OriginKind::Git;
                self.emitter.report.origin_ref.clone_from(&checkout.head);
            }
            if let Some(scope) = checkout.scope.take() {
                self.add_scope(&visit.path, scope)?;
            }
            let checkout = Rc::new(checkout);
            match location {
                None => self.emitter.leave_out(dot_git.as_bytes(), "is no repository that can be read"),
                Some(_) if !self.options.git => {}
                Some(Location { distrusted: Some(reason), .. }) => self.emitter.leave_out(dot_git.as_bytes(), reason),
                Some(location) => {
                    git::compose(&location, &checkout, &dot_git, &mut self.emitter)?;
                    self.composed.push((visit.path.clone(), Rc::clone(&checkout)));
                }
            }
            visit.within = Some(Within { checkout, path: Vec::new(), tracked_only: false });
        }
        let Some(within) = &visit.within else { return Ok(()) };
        if has(GITIGNORE)
            && let Some(bytes) = self.read_rules(&self.folder, &visit.path)?
        {
            let added = self.rules.add_file(&visit.path, &bytes);
            added.map_err(|error| SourceError::Read { path: self.folder.host_path(&visit.path), source: io::Error::other(error) })?;
        }
        // Git reads one that a sparse checkout leaves out from its objects.
        if !has(GITIGNORE) && within.checkout.skips(&joined(&within.path, GITIGNORE)) {
            let name = printable(&joined(&within.path, GITIGNORE));
            let text = format!(
                "`{name}` is not in the sparse checkout, so files that it ignores were copied; `git sparse-checkout add /{name}` adds it"
            );
            self.emitter.note(&joined(&visit.path, b".git"), &text);
        }
        if has(GITATTRIBUTES) && within.checkout.conversions.wants_attributes() {
            // One that cannot be read is left out or fails the source when it is taken itself.
            if let Ok(Some(bytes)) = self.folder.read_small(&joined(&visit.path, GITATTRIBUTES), IGNORE_FILE_MAX_BYTES) {
                within.checkout.conversions.add_attributes(&within.path, &bytes);
            }
        }
        Ok(())
    }

    /// Notes which filters the checkouts need that a machine lacks.
    fn note_filters(&mut self) {
        for (place, checkout) in std::mem::take(&mut self.composed) {
            for note in checkout.conversions.missing_filters(&checkout, &self.folder, &place) {
                self.emitter.note(&joined(&place, b".git"), &note);
            }
        }
    }

    fn visit(&mut self, mut visit: Visit, pending: &mut Vec<Visit>) -> Result<(), SourceError<S::Error>> {
        let opened = self.folder.folder(&visit.path).and_then(|folder| Ok((self.folder.list(&folder)?, folder)));
        let (found, folder) = match opened {
            Ok(opened) => opened,
            Err(source) if visit.path.is_empty() => {
                return Err(SourceError::Read { path: self.folder.host_path(b""), source });
            }
            Err(error) => return self.emitter.unreadable(&visit.path, self.folder.host_path(&visit.path), error),
        };
        self.enter(&mut visit, &found)?;
        let mut folders = Vec::new();
        for found in found.into_iter().filter(|found| found.name != b".git") {
            let path = joined(&visit.path, &found.name);
            let within = match &visit.within {
                None => None,
                Some(within) => match self.admit(within, &path, &found.name, found.kind == FileType::Directory) {
                    None => continue,
                    admitted => admitted,
                },
            };
            let Ok(path) = TreePath::try_from(path.as_slice()) else {
                let error = io::Error::new(io::ErrorKind::InvalidFilename, format!("its path is longer than {PATH_MAX_BYTES} bytes"));
                self.emitter.unreadable(&path, self.folder.host_path(b""), error)?;
                continue;
            };
            match found.kind {
                FileType::Directory => folders.push((path, within)),
                FileType::RegularFile => file_of(&self.folder, &folder, &found.name, path, &mut self.emitter)?,
                FileType::Symlink => self.link(&folder, &found.name, path)?,
                kind @ (FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown) => {
                    self.emitter.leave_out(path.as_bytes(), kind_name(kind));
                }
            }
        }
        let mut entered = Vec::new();
        for (path, within) in folders {
            match self.folder.status(path.as_bytes()) {
                Ok(status) => self.emitter.folder(path.clone(), status.st_mode, mtime_of(&status))?,
                Err(error) => {
                    self.emitter.unreadable(path.as_bytes(), self.folder.host_path(path.as_bytes()), error)?;
                    continue;
                }
            }
            entered.push(Visit { path: path.as_bytes().to_vec(), within });
        }
        pending.extend(entered.into_iter().rev());
        Ok(())
    }

    fn link(&mut self, folder: &OwnedFd, name: &[u8], path: TreePath) -> Result<(), SourceError<S::Error>> {
        let read = || -> io::Result<_> {
            let link = rustix::fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
            let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
            Ok((target.into_bytes(), mtime_of(&rustix::fs::fstat(&link)?)))
        };
        match read() {
            Ok((target, mtime)) => self.emitter.link(path, target, mtime),
            Err(error) => self.emitter.unreadable(path.as_bytes(), self.folder.host_path(path.as_bytes()), error),
        }
    }
}

/// Hands over the file at `host` below a folder as `path`.
pub(super) fn file<S: Sink>(
    folder: &Folder,
    host: &[u8],
    path: TreePath,
    emitter: &mut Emitter<'_, S>,
) -> Result<(), SourceError<S::Error>> {
    let (parent, name) = match host.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&host[..slash], &host[slash + 1..]),
        None => (&[][..], host),
    };
    match folder.folder(parent) {
        Ok(parent) => file_of(folder, &parent, name, path, emitter),
        Err(error) => emitter.unreadable(path.as_bytes(), folder.host_path(host), error),
    }
}

fn file_of<S: Sink>(
    folder: &Folder,
    parent: &OwnedFd,
    name: &[u8],
    path: TreePath,
    emitter: &mut Emitter<'_, S>,
) -> Result<(), SourceError<S::Error>> {
    let shown = folder.host_path(path.as_bytes());
    let (opened, status) = match folder.open_file(parent, name, shown.clone()) {
        Ok(opened) => opened,
        Err(error) => return emitter.unreadable(path.as_bytes(), shown, error),
    };
    let mut entry =
        Entry { path, kind: EntryKind::File, mode: status.st_mode & MODE_MASK, size_bytes: 0, mtime: mtime_of(&status), link_target: None };
    match opened {
        Opened::Whole(bytes) => {
            entry.size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            emitter.emit(&entry, &mut bytes.as_slice(), &shown)
        }
        Opened::Stream(mut file, size) => {
            entry.size_bytes = size;
            emitter.emit(&entry, &mut file, &shown)
        }
    }
}
