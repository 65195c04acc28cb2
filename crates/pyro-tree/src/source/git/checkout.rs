//! One checkout: where its repository lies, what it tracks, and which commit is checked out.
//!
//! A `.git` that is a file or a link names a repository elsewhere. Its list of tracked paths is believed, but its content is handed over
//! only when that repository names this checkout in return, and another repository is shared only by a worktree's folder in it: an unpacked archive must not be able to name a private repository next door.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use super::{
    config::{CONFIG_MAX_BYTES, Config, Level},
    conversions::Conversions,
    environment::GitEnvironment,
    index::{INDEX_MAX_BYTES, Index, Tracked},
    levels::{Facts, Levels, read_config_file},
    list::is_own_reference,
    reftable::{References, ReftableError},
};
use crate::{
    ignore::{Case, Excludes, IGNORE_FILE_MAX_BYTES, Scope},
    path::printable,
    source::folder::Folder,
};

/// Longest small file of a repository: a reference, a pointer to another folder.
const POINTER_MAX_BYTES: u64 = 8192;
/// Largest list of packed references read for the one commit that is checked out.
const PACKED_REFS_MAX_BYTES: u64 = 256 << 20;

/// Where the parts of a repository lie.
#[derive(Debug)]
pub(in crate::source) struct Location {
    /// What belongs to this checkout alone: its index and HEAD.
    pub(super) own: PathBuf,
    /// What linked checkouts share; most often the same folder.
    pub(super) common: PathBuf,
    /// Why its content must not be handed over.
    pub(in crate::source) distrusted: Option<String>,
}

/// A checkout whose files are being walked.
#[derive(Debug, Default)]
pub(in crate::source) struct Checkout {
    files: HashSet<Vec<u8>>,
    folders: HashSet<Vec<u8>>,
    /// Outside of a sparse checkout.
    skipped: HashSet<Vec<u8>>,
    /// What it ignores; whoever walks it takes that.
    pub(in crate::source) scope: Option<Scope>,
    pub(in crate::source) head: Option<String>,
    /// What could not be read of it, for the report.
    pub(in crate::source) complaints: Vec<String>,
    /// What is different about it in a machine.
    pub(in crate::source) notes: Vec<String>,
    /// Why its configuration cannot be read.
    pub(super) damaged: Option<String>,
    /// What all levels of configuration say.
    pub(super) config: Config,
    pub(super) reftable: Option<References>,
    pub(in crate::source) conversions: Conversions,
}

impl Location {
    /// Finds the repository that the `.git` of a folder is or names; `None` when it is nothing that Git would take for one.
    pub(in crate::source) fn of(checkout: &Path) -> Option<Self> {
        let dot_git = checkout.join(".git");
        let kind = std::fs::symlink_metadata(&dot_git).ok()?.file_type();
        if kind.is_dir() {
            // Git never writes a `commondir` here, and whoever packed this folder could name any repository around it.
            if dot_git.join("commondir").symlink_metadata().is_ok() {
                let distrusted = Some("has a `commondir`, which names another repository".to_owned());
                return has_head(&dot_git).then(|| Self { own: dot_git.clone(), common: dot_git, distrusted });
            }
            return Self::whole(dot_git, None);
        }
        let named = if kind.is_symlink() {
            std::fs::read_link(&dot_git).ok()?
        } else {
            let text = read_pointer(&dot_git)?;
            PathBuf::from(OsStr::from_bytes(text.strip_prefix(b"gitdir:")?.trim_ascii()))
        };
        let own = checkout.join(named);
        match read_pointer(&own.join("commondir")) {
            Some(common) => Self::linked(checkout, &own, OsStr::from_bytes(common.trim_ascii())),
            None => {
                let distrusted = (!is_worktree_of(&own, checkout)).then(|| stranger(&own));
                Self::whole(own, distrusted)
            }
        }
    }

    /// A repository that shares nothing with another one.
    fn whole(own: PathBuf, distrusted: Option<String>) -> Option<Self> {
        (has_head(&own) && own.join("objects").is_dir()).then(|| Self { common: own.clone(), own, distrusted })
    }

    /// The repository of a linked worktree, whose folder `own` names the one it shares.
    fn linked(checkout: &Path, own: &Path, common: &OsStr) -> Option<Self> {
        if !has_head(own) {
            return None;
        }
        let checkout = std::fs::canonicalize(checkout).ok()?;
        let named = own.join(common);
        let own = std::fs::canonicalize(own).ok()?;
        let common = std::fs::canonicalize(&named).ok().filter(|common| {
            let worktrees = own.parent().filter(|parent| parent.file_name() == Some(OsStr::new("worktrees")));
            // A checkout that holds its own worktree's folder was packed that way; Git keeps the two apart.
            worktrees.and_then(Path::parent) == Some(common) && !own.starts_with(&checkout) && common.join("objects").is_dir()
        });
        let Some(common) = common else {
            // Nothing is read of a repository to which the folder does not belong.
            let distrusted = Some(format!("names `{}`, to which it does not belong", named.display()));
            return Some(Self { common: own.clone(), own, distrusted });
        };
        let distrusted = (!is_linked_to(&own, &checkout)).then(|| stranger(&own));
        Some(Self { own, common, distrusted })
    }

    /// Returns the repository's own files of configuration, that of the one checkout included.
    fn config_files(&self) -> Result<Vec<(PathBuf, Config)>, String> {
        let read = |folder: &Path, name: &str| -> Result<(PathBuf, Config), String> {
            let bytes = Folder::open(folder).and_then(|folder| folder.read_small(name.as_bytes(), CONFIG_MAX_BYTES));
            let bytes = bytes.map_err(|error| format!("its configuration cannot be read: {error}"))?.unwrap_or_default();
            Ok((folder.join(name), Config::parse(&bytes, Level::Repository).map_err(|error| error.to_string())?))
        };
        let mut files = vec![read(&self.common, "config")?];
        if files[0].1.get_bool("extensions", "worktreeconfig") == Some(true) {
            files.push(read(&self.own, "config.worktree")?);
        }
        Ok(files)
    }

    /// Returns whether linked checkouts share the repository.
    pub(super) fn is_linked(&self) -> bool {
        self.own != self.common
    }

    /// Returns the references of this checkout, when they lie in reftables.
    fn reftable(&self) -> Result<References, ReftableError> {
        let common = References::read(&self.common)?;
        if !self.is_linked() {
            return Ok(common);
        }
        Ok(common.with_worktree(References::read(&self.own)?, is_own_reference))
    }
}

fn has_head(own: &Path) -> bool {
    own.join("HEAD").symlink_metadata().is_ok_and(|status| status.is_file() || status.is_symlink())
}

fn stranger(own: &Path) -> String {
    format!("names `{}`, which does not name this checkout", own.display())
}

fn read_pointer(path: &Path) -> Option<Vec<u8>> {
    let folder = Folder::open(path.parent()?).ok()?;
    folder.read_small(path.file_name()?.as_bytes(), POINTER_MAX_BYTES).ok()?
}

fn is_same(named: PathBuf, expected: &Path) -> bool {
    matches!((std::fs::canonicalize(named), std::fs::canonicalize(expected)), (Ok(named), Ok(expected)) if named == expected)
}

/// Returns whether the folder of a linked worktree says that the checkout is its own: it holds the path of the checkout's `.git`.
fn is_linked_to(own: &Path, checkout: &Path) -> bool {
    let named = read_pointer(&own.join("gitdir"));
    named.is_some_and(|named| is_same(own.join(OsStr::from_bytes(named.trim_ascii())), &checkout.join(".git")))
}

/// Returns whether a repository outside a checkout says that the checkout is its own, as that of a submodule does.
fn is_worktree_of(own: &Path, checkout: &Path) -> bool {
    let config = Folder::open(own).and_then(|folder| folder.read_small(b"config", CONFIG_MAX_BYTES));
    let Ok(Some(config)) = config.map(|bytes| bytes.and_then(|bytes| Config::parse(&bytes, Level::Repository).ok())) else { return false };
    config.get("core", "worktree").is_some_and(|named| is_same(own.join(named), checkout))
}

impl Checkout {
    /// Reads what a repository tracks and what Git would make of it at `top`; whatever cannot be read becomes a complaint, and less is known.
    pub(in crate::source) fn read(location: Option<&Location>, top: &Path, environment: &GitEnvironment) -> Self {
        let mut checkout = Self::default();
        let own = location.map_or(Ok(Vec::new()), Location::config_files);
        let files = own.unwrap_or_else(|problem| {
            checkout.damaged = Some(problem);
            Vec::new()
        });
        let own_get = |section: &str, name: &str| files.iter().rev().find_map(|(_, config)| config.get(section, name)).map(str::to_owned);
        if let Some(location) = location {
            if own_get("extensions", "refstorage").is_some_and(|form| form.eq_ignore_ascii_case("reftable")) {
                match location.reftable() {
                    Ok(references) => checkout.reftable = Some(references),
                    Err(error) => checkout.notes.push(format!("its refs cannot be read: {error}")),
                }
            }
            checkout.head = head(location, checkout.reftable.as_ref());
        }
        let facts = Facts {
            git_dir: location.map_or_else(|| top.join(".git"), |location| location.own.clone()),
            branch: location.and_then(|location| branch(location, checkout.reftable.as_ref())),
        };
        let levels = Levels::read(environment, &facts, &files);
        checkout.notes.extend(levels.complaints.iter().cloned());
        let case = if levels.config.get_bool("core", "ignorecase") == Some(true) { Case::Folded } else { Case::Sensitive };
        checkout.read_excludes(location, top, environment, &levels, case);
        checkout.conversions = Conversions::read(location, top, environment, &levels, case, &mut checkout.notes);
        checkout.config = levels.config;
        let Some(location) = location else { return checkout };
        let sha256 = own_get("extensions", "objectformat").is_some_and(|format| format.eq_ignore_ascii_case("sha256"));
        let tracked = match &checkout.damaged {
            None => Self::tracked(location, if sha256 { 32 } else { 20 }),
            Some(problem) => Err(problem.clone()),
        };
        match tracked {
            Ok(tracked) => tracked.into_iter().for_each(|tracked| checkout.add(tracked)),
            Err(problem) => checkout.complaints.push(format!("which files it tracks is unknown, so no ignored file was taken: {problem}")),
        }
        checkout
    }

    /// Reads the lists of ignored files that speak for the whole checkout.
    fn read_excludes(&mut self, location: Option<&Location>, top: &Path, environment: &GitEnvironment, levels: &Levels, case: Case) {
        let mut scope = Scope::new(case);
        let user = levels.path(environment, "excludesfile", top).map(|(path, _)| path).or_else(|| environment.usual_excludes());
        let repository = location.map(|location| location.common.join("info/exclude"));
        for (which, path) in [(Excludes::User, user), (Excludes::Repository, repository)] {
            let Some(path) = path else { continue };
            match read_config_file(&path, IGNORE_FILE_MAX_BYTES) {
                Ok(Some(bytes)) => scope.set_excludes(which, &bytes),
                Ok(None) => {}
                Err(error) => {
                    let path = printable(path.as_os_str().as_bytes());
                    self.notes.push(format!("cannot read `{path}`, so files that it ignores may have been copied: {error}"));
                }
            }
        }
        self.scope = Some(scope);
    }

    fn add(&mut self, tracked: Tracked) {
        for (at, _) in tracked.path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            if !self.folders.contains(&tracked.path[..at]) {
                self.folders.insert(tracked.path[..at].to_vec());
            }
        }
        if tracked.skipped {
            self.skipped.insert(tracked.path.clone());
        }
        if tracked.submodule {
            self.folders.insert(tracked.path)
        } else {
            self.files.insert(tracked.path)
        };
    }

    fn tracked(location: &Location, id_bytes: usize) -> Result<Vec<Tracked>, String> {
        let folder = Folder::open(&location.own).map_err(|error| error.to_string())?;
        let read = |name: &[u8]| folder.read_small(name, INDEX_MAX_BYTES).map_err(|error| error.to_string());
        // A repository without an index tracks nothing yet.
        let Some(bytes) = read(b"index")? else { return Ok(Vec::new()) };
        let index = Index::parse(&bytes, id_bytes).map_err(|error| error.to_string())?;
        let Some((name, _)) = &index.shared else { return Ok(index.entries) };
        if name.bytes().skip("sharedindex.".len()).all(|byte| byte == b'0') {
            return Ok(index.entries);
        }
        let shared = read(name.as_bytes())?.ok_or_else(|| format!("`{name}` is missing"))?;
        let shared = Index::parse(&shared, id_bytes).map_err(|error| error.to_string())?;
        Ok(index.joined(shared))
    }

    /// Returns whether a path of the checkout is tracked.
    pub(in crate::source) fn tracks(&self, path: &[u8], folder: bool) -> bool {
        if folder { self.folders.contains(path) } else { self.files.contains(path) }
    }

    /// Returns whether a path is tracked, but left out of a sparse checkout.
    pub(in crate::source) fn skips(&self, path: &[u8]) -> bool {
        self.skipped.contains(path)
    }

    /// Returns every file that is tracked.
    pub(in crate::source) fn tracked_files(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(Vec::as_slice)
    }
}

/// Returns the commit that is checked out; `None` before the first one.
fn head(location: &Location, reftable: Option<&References>) -> Option<String> {
    let mut name = b"HEAD".to_vec();
    // HEAD names a branch, and a branch may be symbolic in turn.
    for _ in 0..5 {
        let value = reference(location, reftable, &name)?;
        match value.strip_prefix(b"ref:") {
            Some(next) => name = next.trim_ascii().to_vec(),
            None => {
                let hexadecimal = matches!(value.len(), 40 | 64) && value.iter().all(u8::is_ascii_hexdigit);
                return hexadecimal.then(|| String::from_utf8_lossy(&value).into_owned());
            }
        }
        let plain = Path::new(OsStr::from_bytes(&name)).components().all(|component| matches!(component, Component::Normal(_)));
        if !plain || !name.starts_with(b"refs/") {
            return None;
        }
    }
    None
}

/// Returns the branch that is checked out, without `refs/heads/`.
fn branch(location: &Location, reftable: Option<&References>) -> Option<String> {
    let value = reference(location, reftable, b"HEAD")?;
    let branch = value.strip_prefix(b"ref:")?.trim_ascii().strip_prefix(b"refs/heads/")?;
    Some(String::from_utf8_lossy(branch).into_owned())
}

/// Returns what a reference says, as its file would.
fn reference(location: &Location, reftable: Option<&References>, name: &[u8]) -> Option<Vec<u8>> {
    if let Some(reftable) = reftable {
        return reftable.get(name);
    }
    let value = [&location.own, &location.common].into_iter().find_map(|folder| {
        let folder = Folder::open(folder).ok()?;
        folder.read_small(name, POINTER_MAX_BYTES).ok()?.or_else(|| linked_reference(&folder, name))
    });
    match value {
        Some(value) => Some(value.trim_ascii().to_vec()),
        None => packed(&location.common, name),
    }
}

/// Returns what a reference says that is a link to another one, as the first versions of Git made them and `core.preferSymlinkRefs` does.
pub(super) fn linked_reference(folder: &Folder, name: &[u8]) -> Option<Vec<u8>> {
    let target = folder.read_link(name)?;
    target.starts_with(b"refs/").then(|| [b"ref: ", target.as_slice()].concat())
}

fn packed(common: &Path, name: &[u8]) -> Option<Vec<u8>> {
    let bytes: io::Result<_> = Folder::open(common).and_then(|folder| folder.read_small(b"packed-refs", PACKED_REFS_MAX_BYTES));
    let bytes = bytes.ok()??;
    bytes.split(|byte| *byte == b'\n').find_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        (&line[space + 1..] == name).then(|| line[..space].to_vec())
    })
}
