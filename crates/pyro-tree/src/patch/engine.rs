//! Walks through the files of a patch once it is clear which ones it means, collecting everything that is wrong before answering.
//!
//! The files of one commit are changed at once: renames and copies take what was there before it, what goes makes room for what comes, in
//! whatever order the patch has them. A commit begins where a mail or a log says so, and where one diff would not go on: with a second
//! change of the same file. Git does not know commits here, and takes renames from the files as they were before the whole series.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    Applied, FileMode, Operation, Patch, PatchError, PatchedPath, PathStates, REPORT_MAX_BYTES, Section, WORK_MAX_BYTES, WRITTEN_MAX_BYTES,
    between::SUBMODULE,
    hunk::{Hunk, Mark},
    nearest::Budget,
    place::{self, Refusal},
    tree::{Found, Node, Tree},
};
use crate::path::{PATH_MAX_BYTES, TreePath, printable_cut};

/// Longest paths shown in front of a failure, in bytes.
const SHOWN_MAX_BYTES: usize = 200;

/// A section, and the files it means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) section: &'a Section,
    pub(super) source: &'a TreePath,
    pub(super) path: &'a TreePath,
}

/// Works out what the steps of a patch make of the files.
pub(super) fn run(patch: &Patch, steps: &[Step<'_>], states: &PathStates) -> Result<Applied, PatchError> {
    let applied =
        Applied { edits: Vec::new(), files: Vec::new(), left_out: patch.left_out.named.clone(), left_out_count: patch.left_out.count };
    let tree = Tree::new(states);
    let mut engine = Engine { tree, applied, failures: Vec::new(), failed: BTreeSet::new(), budget: Budget::default(), work: 0 };
    let mut rest = steps;
    while !rest.is_empty() {
        let (commit, later) = rest.split_at(commit_length(rest, &engine.tree));
        engine.commit(commit)?;
        rest = later;
    }
    if !engine.failures.is_empty() {
        return Err(PatchError::Rejected { failures: engine.failures.len(), report: report(&engine.failures) });
    }
    let Engine { tree, mut applied, .. } = engine;
    applied.edits = tree.edits();
    Ok(applied)
}

/// Returns how many of the steps belong to the first commit.
fn commit_length(steps: &[Step<'_>], tree: &Tree<'_>) -> usize {
    let (mut made, mut modified, mut gone) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let there = |path: &TreePath| matches!(tree.at(path), Found::File { .. } | Found::Link { .. });
    for (position, step) in steps.iter().enumerate() {
        let (source, path) = (step.source, step.path);
        let written = made.contains(path) || modified.contains(path);
        // What was made in this diff cannot be taken by it, unless it took the place of something that was there.
        let taken = |source: &TreePath| made.contains(source) && !there(source);
        let begins = match step.section.operation {
            Operation::Add => written,
            Operation::Modify => written || gone.contains(path),
            Operation::Delete => gone.contains(path) || modified.contains(path) || taken(path),
            Operation::Rename => gone.contains(source) || modified.contains(source) || taken(source) || written,
            Operation::Copy => taken(source) || written,
        };
        if position > 0 && (begins || step.section.begins_commit) {
            return position;
        }
        match step.section.operation {
            Operation::Modify => drop(modified.insert(path)),
            Operation::Delete => drop(gone.insert(path)),
            Operation::Rename => drop((gone.insert(source), made.insert(path))),
            Operation::Add | Operation::Copy => drop(made.insert(path)),
        }
    }
    steps.len()
}

struct Engine<'a> {
    tree: Tree<'a>,
    applied: Applied,
    failures: Vec<String>,
    /// What cannot be known any more because something before it failed.
    failed: BTreeSet<TreePath>,
    budget: Budget,
    /// Bytes read and written so far.
    work: usize,
}

impl Engine<'_> {
    fn fail(&mut self, step: &Step<'_>, reason: &str) {
        let place = if step.source == step.path { step.path.to_string() } else { format!("{} -> {}", step.source, step.path) };
        self.failures.push(format!("{} (patch line {}): {reason}", printable_cut(place.as_bytes(), SHOWN_MAX_BYTES), step.section.line));
    }

    /// Makes the changes of one commit.
    fn commit(&mut self, steps: &[Step<'_>]) -> Result<(), PatchError> {
        let removed: BTreeSet<&TreePath> = steps
            .iter()
            .filter(|step| matches!(step.section.operation, Operation::Delete | Operation::Rename))
            .map(|step| step.source)
            .collect();
        let mut made = Vec::new();
        for step in steps {
            // A change of something that could not be made says nothing about the change.
            if self.failed.contains(step.source) || self.failed.contains(step.path) {
                self.failed.insert(step.path.clone());
                continue;
            }
            match self.step(step, &removed) {
                Ok(node) => made.extend(node.map(|node| (step, node))),
                Err(Refusal::Limit(limit)) => return Err(limit),
                Err(Refusal::Reasons(reasons)) => {
                    reasons.iter().for_each(|reason| self.fail(step, reason));
                    self.failed.extend([step.source.clone(), step.path.clone()]);
                }
            }
        }
        for path in removed {
            self.tree.remove(path);
        }
        for (step, node) in &mut made {
            let node = std::mem::replace(node, Node::Link { target: Vec::new() });
            self.tree.put(step.path, node);
        }
        if self.tree.written() > WRITTEN_MAX_BYTES {
            return Err(PatchError::WritesTooMuch);
        }
        for (step, _) in made {
            let mut ancestors = step.path.ancestors();
            let blocking = ancestors.find(|parent| !matches!(self.tree.at(parent), Found::Absent | Found::Directory));
            if let Some(parent) = blocking {
                self.fail(step, &format!("`{parent}` is not a directory"));
            }
        }
        Ok(())
    }

    /// Works out one file; returns what it becomes, unless it goes.
    fn step(&mut self, step: &Step<'_>, removed: &BTreeSet<&TreePath>) -> Result<Option<Node>, Refusal> {
        let section = step.section;
        let absent = matches!(self.tree.at(step.source), Found::Absent);
        let operation = if section.may_add && absent { Operation::Add } else { section.operation };
        if is_dirty_submodule(section) && self.tree.at(step.path) == Found::Directory {
            self.applied.left_out_count += 1;
            let path = printable_cut(step.path.as_bytes(), SHOWN_MAX_BYTES);
            self.applied.left_out.push(crate::LeftOut { path, reason: SUBMODULE.to_owned() });
            return Ok(None);
        }
        let node = match operation {
            Operation::Add => self.add(step, removed).map(Some),
            Operation::Modify => self.modify(step).map(Some),
            Operation::Rename | Operation::Copy => match self.occupied(step.path, removed)? {
                Some(reason) => Err(format!("{}: {reason}", step.path).into()),
                None => self.modify(step).map(Some),
            },
            Operation::Delete => self.delete(step).map(|()| None),
        }?;
        let file = PatchedPath { operation, source: step.source.clone(), path: step.path.clone() };
        // Two commits that change the same file are one change of it.
        if self.applied.files.last() != Some(&file) {
            self.applied.files.push(file);
        }
        Ok(node)
    }

    /// Says why nothing may be put at a path that must be free.
    fn occupied(&self, path: &TreePath, removed: &BTreeSet<&TreePath>) -> Result<Option<String>, PatchError> {
        Ok(match self.tree.at(path) {
            Found::Absent => None,
            Found::Directory => Some("is a directory".to_owned()),
            Found::Unusable => return Err(PatchError::Unusable { path: path.clone() }),
            Found::File { .. } | Found::Link { .. } if removed.contains(path) => None,
            Found::File { .. } => Some("exists already; change it with `--- a/PATH` and hunks, or delete it in the same patch".to_owned()),
            Found::Link { .. } => Some("exists already as a link".to_owned()),
        })
    }

    fn charge(&mut self, bytes: usize) -> Result<(), PatchError> {
        self.work = self.work.saturating_add(bytes);
        if self.work > WORK_MAX_BYTES { Err(PatchError::TooMuchWork) } else { Ok(()) }
    }

    fn add(&mut self, step: &Step<'_>, removed: &BTreeSet<&TreePath>) -> Result<Node, Refusal> {
        let section = step.section;
        let occupied = self.occupied(step.path, removed)?;
        let content = match &section.binary {
            Some(binary) => binary.apply(&[]).ok_or_else(|| "its binary patch was made for a file that exists".to_owned().into()),
            None => place::hunks(section, &[], &self.budget),
        };
        let content = match (occupied, content) {
            (None, content) => content?,
            (Some(reason), Ok(_)) => return Err(reason.into()),
            (Some(reason), Err(Refusal::Reasons(others))) => return Err(Refusal::Reasons([vec![reason], others].concat())),
            (_, Err(limit)) => return Err(limit),
        };
        self.charge(content.len())?;
        let mode = section.new_mode.unwrap_or(FileMode::Plain);
        node(content, mode, if mode == FileMode::Executable { 0o755 } else { 0o644 })
    }

    /// Returns what a change makes of the content it starts from, with the mode and kind of that.
    fn changed(&mut self, step: &Step<'_>) -> Result<(Vec<u8>, u32, FileMode), Refusal> {
        let section = step.section;
        let wants_link = section.old_mode == Some(FileMode::Link);
        let refused = |reason: &str| Err(Refusal::from(reason.to_owned()));
        let (before, mode, kind) = match (self.tree.at(step.source), wants_link) {
            (Found::Absent, _) => return refused("does not exist"),
            (Found::Directory, _) => return refused("is a directory"),
            (Found::Unusable, _) => return Err(PatchError::Unusable { path: step.source.clone() }.into()),
            (Found::File { mode, content }, false) => (content, mode, FileMode::Plain),
            (Found::Link { target }, true) => (target, 0o777, FileMode::Link),
            // A move without any change says nothing about what it moves.
            (Found::Link { target }, false) if section.operation != Operation::Modify && is_unchanged(section) => {
                (target, 0o777, FileMode::Link)
            }
            (Found::Link { .. }, false) => return refused("is a link; a patch of one needs `index … 120000` or a mode"),
            (Found::File { .. }, true) => return refused("is a file, the patch is for a link"),
        };
        let after = match &section.binary {
            Some(binary) => binary.apply(before).ok_or_else(|| "its content is not the one the binary patch was made for".to_owned())?,
            None if section.hunks.is_empty() => before.to_vec(),
            None => place::hunks(section, before, &self.budget)?,
        };
        let bytes = before.len() + after.len();
        self.charge(bytes)?;
        Ok((after, mode, kind))
    }

    fn modify(&mut self, step: &Step<'_>) -> Result<Node, Refusal> {
        let (content, mode, kind) = self.changed(step)?;
        let new_kind = step.section.new_mode.unwrap_or(kind);
        if (new_kind == FileMode::Link) != (kind == FileMode::Link) {
            return Err("changes between a file and a link; delete one and add the other".to_owned().into());
        }
        let mode = match step.section.new_mode {
            // Whoever may read it may run it, as `chmod +x` does under a usual umask.
            Some(FileMode::Executable) => mode | (mode & 0o444) >> 2,
            Some(FileMode::Plain) => mode & !0o111,
            Some(FileMode::Link | FileMode::Submodule) | None => mode,
        };
        node(content, new_kind, mode)
    }

    fn delete(&mut self, step: &Step<'_>) -> Result<(), Refusal> {
        let (left, ..) = self.changed(step)?;
        if left.is_empty() {
            return Ok(());
        }
        let lines = left.split_inclusive(|byte| *byte == b'\n').count();
        Err(format!("is deleted, but {lines} of its lines are not in the patch; the patch must hold all of them with `-`").into())
    }
}

fn node(content: Vec<u8>, kind: FileMode, mode: u32) -> Result<Node, Refusal> {
    if kind != FileMode::Link {
        return Ok(Node::File { mode, content });
    }
    if content.is_empty() || content.contains(&0) || content.len() >= PATH_MAX_BYTES {
        return Err("a link needs a target of 1 to 4095 bytes without NUL".to_owned().into());
    }
    Ok(Node::Link { target: content })
}

fn is_unchanged(section: &Section) -> bool {
    section.hunks.is_empty() && section.binary.is_none() && section.new_mode.is_none()
}

/// Returns whether a section only says that a submodule has changes of its own. Git writes no mode into its header.
fn is_dirty_submodule(section: &Section) -> bool {
    let says = |hunk: &Hunk| {
        let mut marks = hunk.lines.iter().map(|line| (line.mark, line.text.starts_with(b"Subproject commit ")));
        marks.next() == Some((Mark::Remove, true)) && marks.next() == Some((Mark::Add, true)) && marks.next().is_none()
    };
    section.operation == Operation::Modify && matches!(section.hunks.as_slice(), [hunk] if says(hunk))
}

fn report(failures: &[String]) -> String {
    let mut report = String::new();
    for (position, failure) in failures.iter().enumerate() {
        // Room for the line that says how many are missing.
        if report.len() + failure.len() + 1 > REPORT_MAX_BYTES - 64 {
            write!(report, "… and {} more", failures.len() - position).expect("writing to a string cannot fail");
            break;
        }
        report.push_str(failure);
        report.push('\n');
    }
    report.truncate(report.trim_end().len());
    report
}
