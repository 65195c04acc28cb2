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
    rc::Rc,
};

use super::{
    config::{CONFIG_MAX_BYTES, Config},
    index::{INDEX_MAX_BYTES, Index, Tracked},
    rules::{RULES_MAX_BYTES, Rules},
};
use crate::source::folder::Folder;

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
#[derive(Debug)]
pub(in crate::source) struct Checkout {
    files: HashSet<Vec<u8>>,
    folders: HashSet<Vec<u8>>,
    pub(in crate::source) rules: Option<Rc<Rules>>,
    pub(in crate::source) head: Option<String>,
    /// What could not be read of it, for the report.
    pub(in crate::source) complaints: Vec<String>,
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

    /// Returns the configuration of the repository, that of the one checkout included.
    pub(super) fn config(&self) -> Result<Config, String> {
        let read = |folder: &Path, name: &str| -> Result<Config, String> {
            let bytes = Folder::open(folder).and_then(|folder| folder.read_small(name.as_bytes(), CONFIG_MAX_BYTES));
            let bytes = bytes.map_err(|error| format!("its configuration cannot be read: {error}"))?.unwrap_or_default();
            Config::parse(&bytes).map_err(|error| error.to_string())
        };
        let mut config = read(&self.common, "config")?;
        if config.get("extensions", "worktreeconfig").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            config.extend(read(&self.own, "config.worktree")?);
        }
        Ok(config)
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
    let Ok(Some(config)) = config.map(|bytes| bytes.and_then(|bytes| Config::parse(&bytes).ok())) else { return false };
    config.get("core", "worktree").is_some_and(|named| is_same(own.join(named), checkout))
}

impl Checkout {
    /// Reads what a repository tracks; whatever cannot be read becomes a complaint and less is known of it.
    pub(in crate::source) fn read(location: Option<&Location>, global_excludes: Option<&Path>) -> Self {
        let mut checkout = Self { files: HashSet::new(), folders: HashSet::new(), rules: None, head: None, complaints: Vec::new() };
        let mut add_rules = |folder: Option<&Path>, name: &[u8]| {
            let bytes = folder.and_then(|folder| Folder::open(folder).ok()?.read_small(name, RULES_MAX_BYTES).ok()?);
            if let Some(bytes) = bytes {
                checkout.rules = Rules::below(checkout.rules.take(), b"", &bytes);
            }
        };
        if let Some(excludes) = global_excludes {
            add_rules(excludes.parent(), excludes.file_name().unwrap_or_default().as_bytes());
        }
        let Some(location) = location else { return checkout };
        add_rules(Some(&location.common), b"info/exclude");
        match Self::tracked(location) {
            Ok(tracked) => tracked.into_iter().for_each(|tracked| checkout.add(tracked)),
            Err(problem) => checkout.complaints.push(format!("which files it tracks is unknown, so no ignored file was taken: {problem}")),
        }
        checkout.head = head(location);
        checkout
    }

    fn add(&mut self, tracked: Tracked) {
        for (at, _) in tracked.path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            if !self.folders.contains(&tracked.path[..at]) {
                self.folders.insert(tracked.path[..at].to_vec());
            }
        }
        if tracked.submodule {
            self.folders.insert(tracked.path)
        } else {
            self.files.insert(tracked.path)
        };
    }

    fn tracked(location: &Location) -> Result<Vec<Tracked>, String> {
        let id_bytes = match location.config()?.get("extensions", "objectformat") {
            Some(format) if format.eq_ignore_ascii_case("sha256") => 32,
            _ => 20,
        };
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
}

/// Returns the commit that is checked out; `None` before the first one.
fn head(location: &Location) -> Option<String> {
    let mut name = b"HEAD".to_vec();
    // HEAD names a branch, and a branch may be symbolic in turn.
    for _ in 0..5 {
        let value = [&location.own, &location.common].into_iter().find_map(|folder| {
            let folder = Folder::open(folder).ok()?;
            folder.read_small(&name, POINTER_MAX_BYTES).ok()?
        });
        let value = match value {
            Some(value) => value.trim_ascii().to_vec(),
            None => packed(&location.common, &name)?,
        };
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

fn packed(common: &Path, name: &[u8]) -> Option<Vec<u8>> {
    let bytes: io::Result<_> = Folder::open(common).and_then(|folder| folder.read_small(b"packed-refs", PACKED_REFS_MAX_BYTES));
    let bytes = bytes.ok()??;
    bytes.split(|byte| *byte == b'\n').find_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        (&line[space + 1..] == name).then(|| line[..space].to_vec())
    })
}
