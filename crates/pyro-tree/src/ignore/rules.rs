//! The files of patterns of one or more checkouts, and what they say together.
//!
//! Within a checkout the deepest `.gitignore` that says something about a path decides, then `.git/info/exclude`, then the user's own
//! excludes; within a file the last line that does. What lies below an ignored folder is ignored, whatever is said about it. A checkout
//! inside another one is a *scope* of its own: the outer one decides about its folder, and nothing of it below. Paths are those of the tree
//! that was walked; where that is a part of a checkout, the patterns see them from the checkout's top.
//!
//! What is tracked is nobody's business here: Git never ignores it, and the caller knows what it is.

use std::{collections::BTreeMap, fmt, sync::Arc};

use pyro_proto::error::ErrorKind;

use super::{
    glob::Case,
    pattern::{Pattern, patterns},
};
use crate::{entry::EntryKind, path::TreePath};

/// Largest file of patterns that is accepted.
pub const IGNORE_FILE_MAX_BYTES: u64 = 4 << 20;
/// Most bytes of patterns in one set of rules: compiled, they take some forty times that.
const TOTAL_MAX_BYTES: usize = 16 << 20;

/// A set of rules would become too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its ignore rules exceed {} MiB", TOTAL_MAX_BYTES >> 20)]
pub struct TooManyRules;

impl TooManyRules {
    /// Returns the kind of this error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::LimitExceeded
    }
}

/// One file of patterns.
#[derive(Clone)]
struct PatternFile {
    bytes: Arc<[u8]>,
    patterns: Arc<[Pattern]>,
}

impl PatternFile {
    fn new(bytes: &[u8], case: Case) -> Self {
        Self { bytes: bytes.into(), patterns: patterns(bytes, case).into() }
    }

    /// Returns what the file says about a path seen from where it applies: ignored, not ignored, or nothing.
    fn verdict(&self, below: &[u8], folder: bool) -> Option<bool> {
        self.patterns.iter().rev().find(|pattern| pattern.matches(below, folder)).map(|pattern| !pattern.negated)
    }
}

impl fmt::Debug for PatternFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.bytes.escape_ascii())
    }
}

impl PartialEq for PatternFile {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PatternFile {}

/// Files of patterns that speak for a whole checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excludes {
    /// The user's own, `core.excludesFile`.
    User,
    /// `info/exclude` of the repository; it comes before the user's.
    Repository,
}

/// The rules of one checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Where the tree that was walked lies in the checkout; empty unless it is a part of one.
    pub(super) prefix: Vec<u8>,
    /// That place is itself ignored, so that only what is tracked in it is not.
    pub(super) ignored: bool,
    pub(super) case: Case,
    excludes: BTreeMap<Excludes, PatternFile>,
    /// `.gitignore` files by their folder, relative to the checkout.
    folders: BTreeMap<Vec<u8>, PatternFile>,
}

impl Scope {
    pub(crate) const fn new(case: Case) -> Self {
        Self { prefix: Vec::new(), ignored: false, case, excludes: BTreeMap::new(), folders: BTreeMap::new() }
    }

    pub(crate) fn set_excludes(&mut self, which: Excludes, bytes: &[u8]) {
        let file = PatternFile::new(bytes, self.case);
        // The one that `git init` makes holds nothing but comments.
        if !file.patterns.is_empty() {
            self.excludes.insert(which, file);
        }
    }

    /// Takes over the `.gitignore` of a folder of the checkout, instead of one that is known of it.
    pub(crate) fn set_folder(&mut self, folder: &[u8], bytes: &[u8]) {
        let file = PatternFile::new(bytes, self.case);
        if file.patterns.is_empty() {
            self.folders.remove(folder);
        } else {
            self.folders.insert(folder.to_vec(), file);
        }
    }

    /// Says where in the checkout the tree lies that is walked, and whether that place is ignored.
    pub(crate) fn begin_at(&mut self, prefix: &[u8], ignored: bool) {
        self.prefix = prefix.to_vec();
        self.ignored = ignored;
    }

    /// Returns whether a path of the checkout is ignored; the folders above it are known not to be.
    pub(crate) fn ignores(&self, path: &[u8], folder: bool) -> bool {
        let ends = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let of_folders = ends.map(Some).chain([None]).filter_map(|end| {
            let below = end.map_or(path, |end| &path[end + 1..]);
            self.folders.get(&path[..end.unwrap_or(0)])?.verdict(below, folder)
        });
        let of_checkout = self.excludes.values().rev().filter_map(|file| file.verdict(path, folder));
        self.ignored || of_folders.chain(of_checkout).next().unwrap_or(false)
    }

    pub(super) fn excludes(&self) -> impl Iterator<Item = (Excludes, &[u8])> {
        self.excludes.iter().map(|(which, file)| (*which, &*file.bytes))
    }

    pub(super) fn folders(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.folders.iter().map(|(folder, file)| (folder.as_slice(), &*file.bytes))
    }

    /// Returns a path of the tree, given from the scope's top, as the checkout names it.
    fn rebased(&self, below: &[u8]) -> Vec<u8> {
        match (self.prefix.is_empty(), below.is_empty()) {
            (true, _) => below.to_vec(),
            (false, true) => self.prefix.clone(),
            (false, false) => [&self.prefix, b"/".as_slice(), below].concat(),
        }
    }

    fn bytes(&self) -> usize {
        self.excludes.values().chain(self.folders.values()).map(|file| file.bytes.len()).sum()
    }
}

/// Every rule that was met in a tree.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    /// By the folder of the tree that is a checkout's top, which is empty for the tree's own.
    scopes: BTreeMap<Vec<u8>, Scope>,
    /// What was ever taken in; files that were replaced count still.
    total_bytes: usize,
}

impl PartialEq for IgnoreRules {
    fn eq(&self, other: &Self) -> bool {
        self.scopes == other.scopes
    }
}

impl Eq for IgnoreRules {}

impl IgnoreRules {
    /// Adds a checkout whose top is a folder of the tree.
    pub(crate) fn add_scope(&mut self, root: &[u8], mut scope: Scope) -> Result<(), TooManyRules> {
        // A folder may hold hundreds of checkouts, and the user's excludes are the same in all of them.
        let first = self.scopes.values().next().filter(|first| first.case == scope.case);
        let known = first.and_then(|first| first.excludes.get(&Excludes::User)).cloned();
        match known.filter(|known| scope.excludes.get(&Excludes::User) == Some(known)) {
            Some(known) => {
                scope.excludes.remove(&Excludes::User);
                self.grow(scope.bytes())?;
                scope.excludes.insert(Excludes::User, known);
            }
            None => self.grow(scope.bytes())?,
        }
        self.scopes.insert(root.to_vec(), scope);
        Ok(())
    }

    /// Adds the `.gitignore` of a folder of the tree.
    pub(crate) fn add_file(&mut self, folder: &[u8], bytes: &[u8]) -> Result<(), TooManyRules> {
        self.grow(bytes.len())?;
        let Some(root) = self.scope_of(folder).map(|(root, _)| root.to_vec()) else { return Ok(()) };
        let below = below(&root, folder).to_vec();
        if let Some(scope) = self.scopes.get_mut(&root) {
            let folder = scope.rebased(&below);
            scope.set_folder(&folder, bytes);
        }
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> Result<(), TooManyRules> {
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        if self.total_bytes > TOTAL_MAX_BYTES { Err(TooManyRules) } else { Ok(()) }
    }

    /// Returns the same rules with the `.gitignore` of a folder, `None` being the tree's top, instead of what was known of it. What lies in
    /// no checkout has no rules, and gets none.
    ///
    /// # Errors
    /// The rules would become too large, or this file alone is larger than [`IGNORE_FILE_MAX_BYTES`].
    pub fn with_file(mut self, folder: Option<&TreePath>, bytes: &[u8]) -> Result<Self, TooManyRules> {
        if u64::try_from(bytes.len()).is_ok_and(|length| length > IGNORE_FILE_MAX_BYTES) {
            return Err(TooManyRules);
        }
        self.add_file(folder.map(TreePath::as_bytes).unwrap_or_default(), bytes)?;
        Ok(self)
    }

    /// Takes in the rules of a tree that was put at a folder of this one, `None` being its top: its checkouts take the place of those that
    /// were there.
    pub fn extend_at(&mut self, folder: Option<&TreePath>, tree: Self) {
        let folder = folder.map(TreePath::as_bytes).unwrap_or_default();
        for (root, scope) in tree.scopes {
            let root = match (folder.is_empty(), root.is_empty()) {
                (true, _) => root,
                (false, true) => folder.to_vec(),
                (false, false) => [folder, b"/", &root].concat(),
            };
            self.scopes.insert(root, scope);
        }
        self.total_bytes = self.total_bytes.saturating_add(tree.total_bytes);
    }

    /// Returns whether there is no rule, so that nothing is ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }

    /// Returns whether a path is ignored, by itself or with a folder that holds it. To ask about many, see [`Self::judge`].
    #[must_use]
    pub fn ignores(&self, path: &TreePath, kind: EntryKind) -> bool {
        self.judge().ignores(path, kind)
    }

    /// Returns someone to ask about many paths, who remembers the folders of the last one: fast when they come in order.
    #[must_use]
    pub fn judge(&self) -> IgnoreJudge<'_> {
        IgnoreJudge { rules: self, above: Vec::new() }
    }

    pub(super) fn scopes(&self) -> impl Iterator<Item = (&[u8], &Scope)> {
        self.scopes.iter().map(|(root, scope)| (root.as_slice(), scope))
    }

    /// Returns the innermost checkout that a folder is or lies in.
    fn scope_of(&self, folder: &[u8]) -> Option<(&[u8], &Scope)> {
        let ends = folder.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let found = [folder.len()].into_iter().chain(ends).chain([0]).find_map(|end| self.scopes.get_key_value(&folder[..end]));
        found.map(|(root, scope)| (root.as_slice(), scope))
    }

    /// Returns whether a path is ignored; the folders above it are known not to be.
    pub(crate) fn ignores_alone(&self, path: &[u8], folder: bool) -> bool {
        // The top of a checkout was walked, so it is tracked or not ignored.
        if folder && self.scopes.contains_key(path) {
            return false;
        }
        let above = path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |slash| &path[..slash]);
        self.scope_of(above).is_some_and(|(root, scope)| scope.ignores(&scope.rebased(below(root, path)), folder))
    }
}

/// Returns what of a path lies below a folder that holds it; of the folder itself, nothing.
fn below<'a>(folder: &[u8], path: &'a [u8]) -> &'a [u8] {
    if folder.is_empty() { path } else { path.get(folder.len() + 1..).unwrap_or_default() }
}

/// Answers about one path after the other.
#[derive(Debug)]
pub struct IgnoreJudge<'a> {
    rules: &'a IgnoreRules,
    /// The folders of the last path, outermost first: where each ends, and whether it is ignored. The path is in the last of them.
    above: Vec<(Vec<u8>, bool)>,
}

impl IgnoreJudge<'_> {
    /// Returns whether a path is ignored, by itself or with a folder that holds it.
    pub fn ignores(&mut self, path: &TreePath, kind: EntryKind) -> bool {
        let bytes = path.as_bytes();
        let holds = |folder: &[u8]| bytes.len() > folder.len() && bytes.starts_with(folder) && bytes[folder.len()] == b'/';
        while self.above.last().is_some_and(|(folder, _)| !holds(folder)) {
            self.above.pop();
        }
        let known = self.above.last().map_or(0, |(folder, _)| folder.len() + 1);
        for (at, _) in bytes.iter().enumerate().skip(known).filter(|(_, byte)| **byte == b'/') {
            let ignored = self.above.last().is_some_and(|(_, ignored)| *ignored) || self.rules.ignores_alone(&bytes[..at], true);
            self.above.push((bytes[..at].to_vec(), ignored));
        }
        self.above.last().is_some_and(|(_, ignored)| *ignored) || self.rules.ignores_alone(bytes, kind == EntryKind::Directory)
    }
}
