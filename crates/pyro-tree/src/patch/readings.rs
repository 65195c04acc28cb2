//! Chooses how many leading components of names are a prefix, by the files that are there.
//!
//! Most names say so themselves (`names`). Of the others all are read alike, as one program wrote them: with as many components taken off
//! as lead to files that exist. A name of a file that is to be made leads nowhere; it follows the others if it has their prefix, or the
//! directory it names, or is refused with what it can mean: nothing is ever written to a place that was only guessed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Operation, Patch, PatchError, PathState, PathStates, Section, SyntaxProblem,
    engine::Step,
    names::{Open, Place, Shape},
};
use crate::path::TreePath;

/// How a patch can be read.
pub(super) struct Readings<'a> {
    patch: &'a Patch,
    /// How many components each section takes off, where that is its own affair.
    own: Vec<Option<usize>>,
    /// How many all the others may take off, and the prefixes that speak for it.
    ways: BTreeMap<usize, BTreeSet<&'a [u8]>>,
    /// How many are taken off if the files say the same of all.
    pub(super) default: usize,
}

/// What is known of the real files.
struct Files<'a>(&'a PathStates);

impl Files<'_> {
    fn has(&self, path: &TreePath) -> bool {
        matches!(self.0.get(path), Some(PathState::File { .. } | PathState::Link { .. } | PathState::Unusable))
    }

    /// Returns whether the first component of a name is a directory.
    fn holds_first(&self, open: &Open) -> bool {
        let first = open.first().and_then(|first| TreePath::try_from(first).ok());
        first.is_some_and(|first| matches!(self.0.get(&first), Some(PathState::Directory)))
    }
}

/// Finds the ways a patch can be read.
pub(super) fn of<'a>(patch: &'a Patch, states: &PathStates) -> Result<Readings<'a>, PatchError> {
    let files = Files(states);
    for open in patch.sections.iter().filter(|section| !section.makes()).filter_map(|section| section.place.open()) {
        open.check_rename(&files)?;
    }
    let opens = || patch.sections.iter().filter_map(|section| section.place.open());
    let mut prefixes: BTreeSet<&[u8]> = BTreeSet::from([&b"a/"[..], b"b/"]);
    for open in opens().filter(|open| open.shape == (Shape::Apart { sure: true })) {
        prefixes.extend(open.prefixes(open.by_default()));
    }
    let is_prefixed = |open: &Open| open.with(1).is_some_and(|path| open.prefixes(path).any(|prefix| prefixes.contains(prefix)));
    let own = |section: &Section| {
        let open = section.place.open()?;
        (open.shape == Shape::OneSided && is_prefixed(open) && !files.holds_first(open)).then_some(1)
    };
    let own: Vec<Option<usize>> = patch.sections.iter().map(own).collect();
    let mut readings = Readings { patch, own, ways: BTreeMap::new(), default: 0 };
    let joint: Vec<(&Section, &Open)> = readings.joint().collect();
    // A file that is there is the best witness; for one that is to be made there are only signs.
    for (_, open) in joint.iter().filter(|(section, _)| !section.makes()) {
        let witnesses = open.candidates.iter().filter(|(strip, path)| files.has(path) && (*strip < 2 || open.shape != Shape::OneSided));
        for (strip, path) in witnesses {
            readings.ways.entry(*strip).or_default().extend(open.prefixes(path));
        }
    }
    if readings.ways.is_empty() {
        for (_, open) in joint.iter().filter(|(section, _)| section.makes()) {
            let plain = open.shape == (Shape::Same { git: true }) && !is_prefixed(open);
            let signs = [
                (0, files.holds_first(open) || plain),
                (1, is_prefixed(open) && open.shape == Shape::OneSided),
                (open.default, open.shape == (Shape::Apart { sure: true })),
            ];
            for (strip, _) in signs.into_iter().filter(|(_, says)| *says) {
                let prefixes = open.with(strip).into_iter().flat_map(|path| open.prefixes(path));
                readings.ways.entry(strip).or_default().extend(prefixes);
            }
        }
    }
    // Where all files are, nothing else is meant.
    let made = |strip: usize| -> BTreeSet<&TreePath> {
        patch.sections.iter().zip(&readings.own).filter_map(|(section, own)| section.made(own.unwrap_or(strip))).collect()
    };
    let is_complete = |strip: usize| {
        let made = made(strip);
        joint
            .iter()
            .filter(|(section, _)| !section.makes())
            .all(|(_, open)| open.with(strip).is_some_and(|path| files.has(path) || made.contains(path)))
    };
    let complete: Vec<usize> = readings.ways.keys().copied().filter(|strip| is_complete(*strip)).collect();
    if !complete.is_empty() {
        readings.ways.retain(|strip, _| complete.contains(strip));
    }
    readings.default = joint.iter().map(|(_, open)| open.default).max().unwrap_or(0);
    if readings.ways.is_empty() {
        if let Some((_, unclear)) = joint.iter().find(|(section, _)| section.makes()) {
            return Err(unclear.unclear());
        }
        // Nothing is there, which is for the engine to say.
        readings.ways.insert(joint.first().map_or(0, |(_, open)| open.default), BTreeSet::new());
    }
    Ok(readings)
}

impl<'a> Readings<'a> {
    /// Returns the sections that are read alike.
    fn joint(&self) -> impl Iterator<Item = (&'a Section, &'a Open)> {
        let sections = self.patch.sections.iter().zip(&self.own).filter(|(_, own)| own.is_none());
        sections.filter_map(|(section, _)| Some((section, section.place.open()?)))
    }

    /// Returns how many components may be taken off, the fewest first.
    pub(super) fn strips(&self) -> Vec<usize> {
        self.ways.keys().copied().collect()
    }

    /// Returns the patch as it is with so many components taken off.
    pub(super) fn steps(&self, strip: usize) -> Result<Vec<Step<'a>>, PatchError> {
        let step = |(section, own): (&'a Section, &Option<usize>)| {
            let (source, path) = match &section.place {
                Place::Moved { source, path } => (source, path),
                Place::Fixed(path) => (path, path),
                Place::Open(open) => {
                    let path = match own {
                        Some(own) => open.with(*own),
                        None => open.with(strip).filter(|path| !section.makes() || self.speaks_for(strip, open, path)),
                    };
                    // A file that is there, or not, is told by its content; one that is made must not be in the wrong place.
                    let sure = !section.makes() || open.shape == (Shape::Apart { sure: true });
                    let path = path.or_else(|| sure.then(|| open.by_default())).ok_or_else(|| open.unclear())?;
                    (path, path)
                }
            };
            Ok(Step { section, source, path })
        };
        self.patch.sections.iter().zip(&self.own).map(step).collect()
    }

    /// Returns whether a name has a prefix that those have which lead to files.
    fn speaks_for(&self, strip: usize, open: &Open, path: &TreePath) -> bool {
        let known = self.ways.get(&strip);
        strip == 0 || known.is_some_and(|known| open.prefixes(path).any(|prefix| known.contains(prefix)))
    }

    /// Says that several of the readings can be meant.
    pub(super) fn ambiguous(&self, strips: &[usize]) -> PatchError {
        let (_, open) = self.joint().next().expect("there are several readings only of names that are open");
        open.ambiguous(strips.iter().copied())
    }
}

impl Section {
    /// Returns where it makes a file, with so many components taken off.
    fn made(&self, strip: usize) -> Option<&TreePath> {
        match &self.place {
            Place::Moved { path, .. } => Some(path),
            Place::Fixed(path) => self.makes().then_some(path),
            Place::Open(open) => open.with(strip).filter(|_| self.makes()),
        }
    }

    /// Returns whether there need not be a file yet.
    fn makes(&self) -> bool {
        self.operation == Operation::Add || self.may_add
    }
}

impl Place {
    fn open(&self) -> Option<&Open> {
        match self {
            Self::Open(open) => Some(open),
            Self::Moved { .. } | Self::Fixed(_) => None,
        }
    }
}

impl Open {
    /// Refuses a file under the name after `---` and none under that after `+++`: a rename that does not say so.
    fn check_rename(&self, files: &Files<'_>) -> Result<(), PatchError> {
        let prefixed = self.shape == (Shape::Apart { sure: true }) && files.has(self.by_default());
        match (&self.old, self.candidates.first()) {
            (Some(old), Some((_, new))) if files.has(old) && !files.has(new) && !prefixed => {
                let problem = SyntaxProblem::NamesDiffer { old: old.to_string(), new: new.to_string() };
                Err(PatchError::Syntax { line: self.line.0, text: self.line.1.clone(), problem })
            }
            _ => Ok(()),
        }
    }

    /// Says that nothing tells which of its paths is meant.
    fn unclear(&self) -> PatchError {
        let far = usize::from(self.shape == Shape::OneSided) * 2;
        self.ambiguous(self.candidates.iter().map(|(strip, _)| *strip).filter(|strip| far == 0 || *strip < far))
    }

    fn ambiguous(&self, strips: impl Iterator<Item = usize>) -> PatchError {
        let mut paths: Vec<TreePath> = strips.map(|strip| self.with(strip).unwrap_or_else(|| self.by_default()).clone()).collect();
        paths.dedup();
        PatchError::Ambiguous { line: self.line.0, text: self.line.1.clone(), paths }
    }
}
