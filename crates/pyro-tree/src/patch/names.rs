//! What the names in a header can mean: one path, or several of which the tree decides.
//!
//! Git writes a prefix before each name (`a/`, `b/`, or whatever `diff.srcPrefix` and its like say), GNU diff the directories it compared,
//! Subversion nothing. Where both sides agree behind their first component and differ in it, that is the prefix, as `git apply` takes it
//! off. Everything else stays open until the files are known: see `readings`.

use super::{
    SyntaxProblem,
    header::{self, Named},
};
use crate::path::{TreePath, printable_cut};

/// Pairs of prefixes Git puts before names, the last four with `diff.mnemonicPrefix`.
const PREFIXES: [(&[u8], &[u8]); 6] = [(b"a/", b"b/"), (b"b/", b"a/"), (b"i/", b"w/"), (b"c/", b"i/"), (b"c/", b"w/"), (b"o/", b"w/")];
/// Leading components that are looked for at most: a name says nothing more about where it lies.
const STRIP_MAX: usize = 4;
/// Longest name shown.
const SHOWN_MAX_BYTES: usize = 200;

/// Where a section is at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A rename or copy: its names are without prefixes.
    Moved { source: TreePath, path: TreePath },
    /// There is only one way to read it.
    Fixed(TreePath),
    /// There are several.
    Open(Open),
}

/// A name that can be read in several ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    /// How many leading components are taken off, and what is left; the fewest first. At least two.
    pub(super) candidates: Vec<(usize, TreePath)>,
    /// What `strip` is if no file tells.
    pub(super) default: usize,
    pub(super) shape: Shape,
    /// The one after `---` as a path, where they differ: a file there means that this is a rename.
    pub(super) old: Option<TreePath>,
    /// The names as they are written: both where they differ.
    pub(super) names: Vec<Vec<u8>>,
    /// The header line that holds the name, counted from 1, and as it is shown.
    pub(super) line: (usize, String),
}

/// What makes a name open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Both sides have the same name, so there may be no prefix; Git writes it so only when it was told to leave the prefix out.
    Same { git: bool },
    /// One side is `/dev/null`.
    OneSided,
    /// The sides differ. `sure` if in one component each, which everybody takes off.
    Apart { sure: bool },
}

impl Place {
    /// Returns every path it can mean.
    pub(super) fn paths(&self) -> impl Iterator<Item = &TreePath> {
        let (several, one): (&[(usize, TreePath)], [Option<&TreePath>; 2]) = match self {
            Self::Moved { source, path } => (&[], [Some(source), Some(path)]),
            Self::Fixed(path) => (&[], [Some(path), None]),
            Self::Open(open) => (&open.candidates, [open.old.as_ref(), None]),
        };
        several.iter().map(|(_, path)| path).chain(one.into_iter().flatten())
    }
}

impl Open {
    /// Returns the path with so many components taken off.
    pub(super) fn with(&self, strip: usize) -> Option<&TreePath> {
        self.candidates.iter().find(|(candidate, _)| *candidate == strip).map(|(_, path)| path)
    }

    /// Returns the path it has if nothing else is known.
    pub(super) fn by_default(&self) -> &TreePath {
        self.with(self.default).unwrap_or(&self.candidates[0].1)
    }

    /// Returns what is in front of a path in the names.
    pub(super) fn prefixes<'a>(&'a self, path: &'a TreePath) -> impl Iterator<Item = &'a [u8]> {
        self.names.iter().filter_map(|name| name.strip_suffix(path.as_bytes()))
    }

    /// Returns the first component of the name, which may be a prefix.
    pub(super) fn first(&self) -> Option<&[u8]> {
        self.candidates.iter().find(|(strip, _)| *strip == 0).and_then(|(_, path)| path.components().next())
    }
}

/// The names a header has.
pub(super) struct Header<'a> {
    /// After `diff --git`, if they could be told apart.
    pub(super) pair: Option<&'a (Vec<u8>, Vec<u8>)>,
    /// After `---` and `+++`.
    pub(super) named: Option<&'a (Named, Named)>,
    pub(super) git: bool,
    /// The line to name, counted from 1, and as it is shown.
    pub(super) line: (usize, String),
}

/// Whether the sides of a section are there.
pub(super) struct Sides {
    pub(super) old: bool,
    pub(super) new: bool,
}

fn path(name: &[u8]) -> Result<TreePath, SyntaxProblem> {
    Ok(TreePath::try_from(plain(name))?)
}

fn plain(mut name: &[u8]) -> &[u8] {
    while let Some(rest) = name.strip_prefix(b"./") {
        name = rest;
    }
    name
}

/// Takes leading components off.
fn stripped(name: &[u8], count: usize) -> Option<&[u8]> {
    let mut rest = plain(name);
    for _ in 0..count {
        rest = &rest[rest.iter().position(|byte| *byte == b'/')? + 1..];
    }
    Some(rest)
}

fn depth(name: &[u8]) -> usize {
    plain(name).iter().filter(|byte| **byte == b'/').count() + 1
}

/// Returns whether `long` is `short` with something behind it that backups are marked with.
fn is_variation(long: &[u8], short: &[u8]) -> bool {
    long.strip_prefix(short).is_some_and(|rest| matches!(rest.first(), Some(b'.' | b'~')) && !rest.contains(&b'/'))
}

/// Returns what two names agree on, if it is as `one` ends: that many bytes.
fn common<'a>(one: &'a [u8], other: &'a [u8]) -> Option<&'a [u8]> {
    let equal = one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count();
    let tail = &one[one.len() - equal..];
    let whole = |name: &[u8]| equal == name.len() || name[name.len() - equal - 1] == b'/';
    if whole(one) && whole(other) {
        return Some(tail);
    }
    tail.iter().position(|byte| *byte == b'/').map(|slash| &tail[slash + 1..])
}

impl Header<'_> {
    /// Says where a section that neither renames nor copies is at work, and which of its sides are there.
    pub(super) fn place(&self) -> Result<(Place, Sides), SyntaxProblem> {
        let (old, new) = match (self.named, self.pair) {
            (Some((old, new)), pair) => {
                let says = |named: &Named, name: &Vec<u8>| named.name.as_ref().is_none_or(|named| named == name);
                if pair.is_some_and(|(first, second)| !says(old, first) || !says(new, second)) {
                    return Err(SyntaxProblem::Inconsistent);
                }
                (old.clone(), new.clone())
            }
            (None, Some((old, new))) => (Named::there(old), Named::there(new)),
            (None, None) => return Err(SyntaxProblem::Names),
        };
        let sides = Sides { old: old.name.is_some(), new: new.name.is_some() };
        if !sides.old && !sides.new {
            return Err(SyntaxProblem::Names);
        }
        // `diff --git` and, with a time that means no file, GNU diff name both sides even if one is not there.
        let (first, second) = self.pair.map_or((&old.raw, &new.raw), |(first, second)| (first, second));
        let place = match (is_nothing(first), is_nothing(second)) {
            (true, true) => return Err(SyntaxProblem::Names),
            (true, false) => self.one_sided(second)?,
            (false, true) => self.one_sided(first)?,
            (false, false) => self.two_sided(first, second)?,
        };
        Ok((place, sides))
    }

    fn open(&self, candidates: Vec<(usize, TreePath)>, default: usize, shape: Shape, names: &[&[u8]]) -> Place {
        let old = if let [old, _] = names { path(old).ok() } else { None };
        let names = names.iter().map(|name| name.to_vec()).collect();
        Place::Open(Open { candidates, default, shape, old, names, line: self.line.clone() })
    }

    fn one_sided(&self, name: &[u8]) -> Result<Place, SyntaxProblem> {
        let whole = path(name)?;
        if whole.parent().is_none() {
            return Ok(Place::Fixed(whole));
        }
        let mut candidates = vec![(0, whole)];
        for (strip, name) in (1..=STRIP_MAX).map_while(|strip| Some((strip, stripped(name, strip)?))) {
            candidates.push((strip, path(name)?));
        }
        let default = usize::from(name.starts_with(b"a/") || name.starts_with(b"b/"));
        Ok(self.open(candidates, default, Shape::OneSided, &[plain(name)]))
    }

    /// The sides have the same name.
    fn same(&self, name: &[u8]) -> Result<Place, SyntaxProblem> {
        let whole = path(name)?;
        let Some(rest) = stripped(name, 1) else { return Ok(Place::Fixed(whole)) };
        Ok(self.open(vec![(0, whole), (1, path(rest)?)], 0, Shape::Same { git: self.git }, &[plain(name)]))
    }

    fn two_sided(&self, old: &[u8], new: &[u8]) -> Result<Place, SyntaxProblem> {
        let differ = |old: &[u8], new: &[u8]| {
            let shown = |name: &[u8]| printable_cut(name, SHOWN_MAX_BYTES);
            Err(SyntaxProblem::NamesDiffer { old: shown(old), new: shown(new) })
        };
        let backup = |old, new| if self.git { None } else { variation(old, new) };
        let prefixed = PREFIXES.iter().find_map(|(one, other)| Some((old.strip_prefix(*one)?, new.strip_prefix(*other)?)));
        if let Some((old, new)) = prefixed {
            let agreed = if old == new { Some(new) } else { backup(old, new) };
            return agreed.map_or_else(|| differ(old, new), |name| Ok(Place::Fixed(path(name)?)));
        }
        let (old, new) = (plain(old), plain(new));
        if old == new {
            return self.same(new);
        }
        // A backup beside its file agrees with it.
        if let Some(name) = backup(old, new) {
            return self.same(name);
        }
        let Some(name) = common(old, new).filter(|name| !name.is_empty()) else { return differ(old, new) };
        let strip = depth(new) - depth(name);
        let mut candidates = vec![(strip, path(name)?)];
        let sure = strip == 1 && depth(old) == depth(new);
        if !sure {
            // Directories of different depth were compared: more of the names can be where those lie.
            for (strip, name) in (strip + 1..=STRIP_MAX).map_while(|strip| Some((strip, stripped(new, strip)?))) {
                candidates.push((strip, path(name)?));
            }
        }
        if !self.git
            && strip > 0
            && let Ok(whole) = path(new)
        {
            candidates.insert(0, (0, whole));
        }
        if sure && candidates.len() == 1 {
            return Ok(Place::Fixed(candidates.remove(0).1));
        }
        Ok(self.open(candidates, strip, Shape::Apart { sure }, &[old, new]))
    }
}

/// Returns the shorter of two names, if the other is a backup of it.
fn variation<'a>(old: &'a [u8], new: &'a [u8]) -> Option<&'a [u8]> {
    if is_variation(old, new) {
        Some(new)
    } else if is_variation(new, old) {
        Some(old)
    } else {
        None
    }
}

/// Returns whether what follows `--- ` and `+++ ` can be the names of one file.
pub(super) fn are_of_one_file(old: &[u8], new: &[u8]) -> bool {
    let (Ok(old), Ok(new)) = (header::named(old), header::named(new)) else { return false };
    Header { pair: None, named: Some(&(old, new)), git: false, line: (0, String::new()) }.place().is_ok()
}

fn is_nothing(name: &[u8]) -> bool {
    name.trim_ascii_end() == b"/dev/null"
}
