//! The tree as a patch has made it so far, laid over the real one.

use std::{collections::BTreeMap, ops::Bound};

use super::{Edit, PathState, PathStates};
use crate::path::TreePath;

/// A file or a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    File { mode: u32, content: Vec<u8> },
    Link { target: Vec<u8> },
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Absent,
    Directory,
    File { mode: u32, content: &'a [u8] },
    Link { target: &'a [u8] },
    Unusable,
}

/// The tree.
pub(super) struct Tree<'a> {
    states: &'a PathStates,
    changed: BTreeMap<TreePath, Option<Node>>,
    /// Bytes of what was written and is still there.
    written: usize,
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Self::File { content, .. } => content.len(),
            Self::Link { target } => target.len(),
        }
    }

    fn found(&self) -> Found<'_> {
        match self {
            Self::File { mode, content } => Found::File { mode: *mode, content },
            Self::Link { target } => Found::Link { target },
        }
    }
}

impl PathState {
    fn found(&self) -> Found<'_> {
        match self {
            Self::Absent => Found::Absent,
            Self::Directory => Found::Directory,
            Self::File { mode, content } => Found::File { mode: *mode, content },
            Self::Link { target } => Found::Link { target },
            Self::Unusable => Found::Unusable,
        }
    }
}

impl<'a> Tree<'a> {
    pub(super) fn new(states: &'a PathStates) -> Self {
        Self { states, changed: BTreeMap::new(), written: 0 }
    }

    /// Returns what is at a path now.
    pub(super) fn at(&self, path: &TreePath) -> Found<'_> {
        let found = match self.changed.get(path) {
            Some(Some(node)) => node.found(),
            Some(None) => Found::Absent,
            None => self.states.get(path).map_or(Found::Absent, PathState::found),
        };
        if found == Found::Absent && self.holds(path) { Found::Directory } else { found }
    }

    /// Returns whether something was put below a path.
    fn holds(&self, path: &TreePath) -> bool {
        // Names such as `path-x` lie between a directory and what it holds.
        let below = [path.as_bytes(), b"/"].concat();
        let Ok(first) = TreePath::try_from([below.as_slice(), b"\x01"].concat().as_slice()) else { return false };
        let after = self.changed.range((Bound::Included(first), Bound::Unbounded));
        after.take_while(|(other, _)| other.as_bytes().starts_with(&below)).any(|(_, node)| node.is_some())
    }

    pub(super) fn remove(&mut self, path: &TreePath) {
        self.set(path, None);
    }

    pub(super) fn put(&mut self, path: &TreePath, node: Node) {
        self.set(path, Some(node));
    }

    fn set(&mut self, path: &TreePath, node: Option<Node>) {
        self.written += node.as_ref().map_or(0, Node::len);
        let before = self.changed.insert(path.clone(), node);
        self.written -= before.flatten().as_ref().map_or(0, Node::len);
    }

    /// Returns how many bytes were written and are still there.
    pub(super) const fn written(&self) -> usize {
        self.written
    }

    /// Returns what is to be done to the real tree, removals first.
    pub(super) fn edits(self) -> Vec<Edit> {
        let (mut removals, mut writes) = (Vec::new(), Vec::new());
        for (path, node) in self.changed {
            let real = self.states.get(&path).map_or(Found::Absent, PathState::found);
            let created = real == Found::Absent;
            match node {
                None if created => {}
                None => removals.push(Edit::Remove { path }),
                Some(node) if node.found() == real => {}
                Some(Node::Link { target }) => writes.push(Edit::Link { path, target, created }),
                Some(Node::File { mode, content }) => {
                    let keep_mode = matches!(real, Found::File { mode: real, .. } if real == mode);
                    writes.push(Edit::Write { path, content, mode, keep_mode, created });
                }
            }
        }
        removals.append(&mut writes);
        removals
    }
}
