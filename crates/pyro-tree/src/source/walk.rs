//! Walks a folder and hands over what it holds: files and links of a folder first, then its folders, each sorted by name.
//!
//! Below a Git checkout only what it tracks, or does not ignore, is handed over; a checkout inside another one chooses for itself.
//! The walk keeps a list of folders to visit instead of recursing, so depth costs no stack.

use std::{io, path::Path, rc::Rc};

use rustix::{
    fd::OwnedFd,
    fs::{FileType, OFlags},
};

use super::{
    OriginKind, Sink, SourceError, SourceOptions, SourceReport,
    emit::Emitter,
    folder::{Folder, Opened, kind_name, mtime_of},
    git::{self, Checkout, Location, Rules},
};
use crate::{
    entry::{Entry, EntryKind, MODE_MASK},
    path::{PATH_MAX_BYTES, TreePath},
};

/// Largest `.gitignore` accepted; a longer one fails the source, since what it hides would be taken.
const GITIGNORE_MAX_BYTES: u64 = 4 << 20;

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
    rules: Option<Rc<Rules>>,
    /// Relative to the checkout.
    path: Vec<u8>,
    /// The folder is ignored: only what is tracked counts.
    tracked_only: bool,
}

impl Within {
    fn top(checkout: Checkout) -> Self {
        Self { rules: checkout.rules.clone(), checkout: Rc::new(checkout), path: Vec::new(), tracked_only: false }
    }

    /// Returns where an entry of this folder lies, or `None` when it is not to be taken.
    fn admit(&self, name: &[u8], folder: bool, all: bool) -> Option<Self> {
        let path = joined(&self.path, name);
        let ignored = !all && (self.tracked_only || self.rules.as_ref().is_some_and(|rules| rules.ignores(&path, folder)));
        let admitted = !ignored || self.checkout.tracks(&path, folder);
        admitted.then(|| Self { checkout: Rc::clone(&self.checkout), rules: self.rules.clone(), path, tracked_only: ignored })
    }
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
    let mut walk = Walk { folder, options, emitter: Emitter::new(sink, OriginKind::Directory, options.strict) };
    walk.emitter.report.top_mtime = walk.folder.status(b"").ok().map(|status| mtime_of(&status));
    let mut pending = vec![Visit { path: Vec::new(), within: walk.surroundings(&path)? }];
    while let Some(visit) = pending.pop() {
        walk.visit(visit, &mut pending)?;
    }
    Ok(walk.emitter.report)
}

struct Walk<'a, S: Sink> {
    folder: Folder,
    options: &'a SourceOptions,
    emitter: Emitter<'a, S>,
}

impl<S: Sink> Walk<'_, S> {
    /// Finds out what checkout the source lies in, unless it is one itself.
    fn surroundings(&mut self, path: &Path) -> Result<Option<Within>, SourceError<S::Error>> {
        if Location::of(path).is_some() {
            return Ok(None);
        }
        let Some((top, location)) = path.ancestors().skip(1).find_map(|top| Some((top, Location::of(top)?))) else { return Ok(None) };
        let checkout = Checkout::read(Some(&location), self.options.global_excludes.as_deref());
        let below = path.strip_prefix(top).unwrap_or(path);
        let host = Folder::open(top).map_err(|source| SourceError::Read { path: top.into(), source })?;
        let head = checkout.head.clone();
        let mut within = Within::top(checkout);
        for name in below {
            self.read_rules(&host, &within.path.clone(), &mut within)?;
            // A folder that its surroundings ignore has nothing to do with them, like a project in a home that is itself a checkout.
            let Some(next) = within.admit(std::os::unix::ffi::OsStrExt::as_bytes(name), true, false) else { return Ok(None) };
            within = next;
        }
        self.emitter.report.origin = OriginKind::Git;
        self.emitter.report.origin_ref = head;
        for complaint in &within.checkout.complaints {
            self.emitter.leave_out(b".git", complaint.clone());
        }
        if self.options.git {
            self.emitter.leave_out(b".git", "the source is a part of a checkout, whose `.git` belongs to the whole");
        }
        Ok(Some(within))
    }

    /// Reads the `.gitignore` at `path` of a host folder into `within`.
    fn read_rules(&self, host: &Folder, path: &[u8], within: &mut Within) -> Result<(), SourceError<S::Error>> {
        let name = joined(path, b".gitignore");
        let bytes = host.read_small(&name, GITIGNORE_MAX_BYTES);
        let bytes = bytes.map_err(|source| SourceError::Read { path: host.host_path(&name), source })?;
        if let Some(bytes) = bytes {
            within.rules = Rules::below(within.rules.take(), &within.path, &bytes);
        }
        Ok(())
    }

    /// Finds out whether a folder is the top of a checkout, and hands over its `.git`.
    fn enter(&mut self, visit: &mut Visit, has_dot_git: bool) -> Result<(), SourceError<S::Error>> {
        if has_dot_git {
            let host = self.folder.host_path(&visit.path);
            let location = Location::of(&host);
            let dot_git = TreePath::try_from(joined(&visit.path, b".git").as_slice());
            let dot_git = dot_git.map_err(|error| SourceError::Read { path: host, source: io::Error::other(error) })?;
            let checkout = Checkout::read(location.as_ref(), self.options.global_excludes.as_deref());
            for complaint in &checkout.complaints {
                self.emitter.leave_out(dot_git.as_bytes(), complaint.clone());
            }
            if visit.path.is_empty() && location.is_some() {
                self.emitter.report.origin = OriginKind::Git;
                self.emitter.report.origin_ref.clone_from(&checkout.head);
            }
            visit.within = Some(Within::top(checkout));
            match location {
                None => self.emitter.leave_out(dot_git.as_bytes(), "is no repository that can be read"),
                Some(_) if !self.options.git => {}
                Some(Location { distrusted: Some(reason), .. }) => self.emitter.leave_out(dot_git.as_bytes(), reason),
                Some(location) => git::compose(&location, &dot_git, &mut self.emitter)?,
            }
        }
        if let Some(mut within) = visit.within.take() {
            if !self.options.all {
                self.read_rules(&self.folder, &visit.path, &mut within)?;
            }
            visit.within = Some(within);
        }
        Ok(())
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
        self.enter(&mut visit, found.iter().any(|found| found.name == b".git"))?;
        let mut folders = Vec::new();
        for found in found.into_iter().filter(|found| found.name != b".git") {
            let within = match &visit.within {
                None => None,
                Some(within) => match within.admit(&found.name, found.kind == FileType::Directory, self.options.all) {
                    None => continue,
                    admitted => admitted,
                },
            };
            let path = joined(&visit.path, &found.name);
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
