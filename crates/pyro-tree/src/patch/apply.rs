//! Applies a whole patch in memory, collecting everything that is wrong before answering.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    Edit, FileMode, FilePatch, FileState, Operation, Patch, PatchError, REPORT_MAX_BYTES,
    hunk::Hunk,
    nearest::{self, Budget},
};
use crate::{
    entry::EntryKind,
    path::{TreePath, printable_cut},
};

/// Places named for a hunk that fits several.
const CANDIDATES_SHOWN: usize = 8;
/// Longest hunk header shown, in bytes.
const HEADER_SHOWN_BYTES: usize = 120;

type State = BTreeMap<TreePath, Option<FileState>>;

pub(super) fn apply(patch: &Patch, state: &State) -> Result<Vec<Edit>, PatchError> {
    let mut engine = Engine { state, failures: Vec::new(), removed: BTreeSet::new(), edits: BTreeMap::new(), budget: Budget::default() };
    // What goes makes room for what comes, in whatever order the patch has them.
    for file in patch.files.iter().filter(|file| matches!(file.operation, Operation::Delete | Operation::Rename)) {
        if !engine.removed.insert(file.source.clone()) {
            engine.fail(file, "is deleted or renamed away twice in this patch");
        }
    }
    for file in &patch.files {
        engine.file(file);
    }
    engine.parents(patch);
    if !engine.failures.is_empty() {
        return Err(PatchError::Rejected { failures: engine.failures.len(), report: report(&engine.failures) });
    }
    let Engine { removed, edits, .. } = engine;
    let removals = removed.into_iter().filter(|path| !edits.contains_key(path)).map(|path| Edit::Remove { path });
    Ok(removals.collect::<Vec<_>>().into_iter().chain(edits.into_values()).collect())
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

struct Engine<'a> {
    state: &'a State,
    failures: Vec<String>,
    removed: BTreeSet<TreePath>,
    edits: BTreeMap<TreePath, Edit>,
    budget: Budget,
}

impl Engine<'_> {
    fn fail(&mut self, file: &FilePatch, reason: &str) {
        let place = if file.source == file.path { file.path.to_string() } else { format!("{} -> {}", file.source, file.path) };
        self.failures.push(format!("{} (patch line {}): {reason}", cut(&place), file.line));
    }

    fn at(&self, path: &TreePath) -> Option<&FileState> {
        self.state.get(path).and_then(Option::as_ref)
    }

    fn file(&mut self, file: &FilePatch) {
        let made = match file.operation {
            Operation::Add => self.add(file),
            Operation::Modify | Operation::Rename | Operation::Copy => self.modify(file),
            Operation::Delete => self.delete(file).map(|()| None),
        };
        match made {
            Ok(Some(edit)) => {
                if self.edits.contains_key(&file.path) {
                    self.fail(file, "is changed twice in this patch; join the two parts under one header");
                }
                self.edits.insert(file.path.clone(), edit);
            }
            Ok(None) => {}
            Err(reasons) => reasons.iter().for_each(|reason| self.fail(file, reason)),
        }
    }

    /// Says why nothing may be put at a path that must be free.
    fn occupied(&self, path: &TreePath) -> Option<String> {
        let state = self.at(path)?;
        match state.kind {
            EntryKind::Directory => Some("is a folder".to_owned()),
            EntryKind::File | EntryKind::Link if self.removed.contains(path) => None,
            EntryKind::File => Some("exists already; change it with `--- a/PATH` and hunks, or delete it in the same patch".to_owned()),
            EntryKind::Link => Some("exists already as a link".to_owned()),
        }
    }

    fn add(&self, file: &FilePatch) -> Result<Option<Edit>, Vec<String>> {
        let mut reasons: Vec<String> = self.occupied(&file.path).into_iter().collect();
        let content = match &file.binary {
            Some(binary) => binary.apply(&[]).ok_or_else(|| vec!["its binary patch was made for a file that exists".to_owned()]),
            None => hunks(file, &[], &self.budget),
        };
        match content {
            Ok(content) if reasons.is_empty() => {
                let mode = file.new_mode.unwrap_or(FileMode::Plain);
                let created = self.at(&file.path).is_none();
                Ok(Some(edit(&file.path, content, mode, if mode == FileMode::Executable { 0o755 } else { 0o644 }, false, created)?))
            }
            Ok(_) => Err(reasons),
            Err(others) => {
                reasons.extend(others);
                Err(reasons)
            }
        }
    }

    /// Returns the content a change starts from.
    fn source(&self, file: &FilePatch) -> Result<(&FileState, &[u8]), Vec<String>> {
        let state = self.at(&file.source).ok_or_else(|| vec!["does not exist".to_owned()])?;
        let wants_link = file.old_mode == Some(FileMode::Link);
        match (state.kind, wants_link) {
            (EntryKind::Directory, _) => Err(vec!["is a folder".to_owned()]),
            (EntryKind::File, false) => Ok((state, &state.content)),
            (EntryKind::Link, true) => Ok((state, state.link_target.as_deref().unwrap_or_default())),
            (EntryKind::Link, false) => Err(vec!["is a link; a patch of one needs `index … 120000` or a mode".to_owned()]),
            (EntryKind::File, true) => Err(vec!["is a file, the patch is for a link".to_owned()]),
        }
    }

    fn changed(&self, file: &FilePatch, before: &[u8]) -> Result<Vec<u8>, Vec<String>> {
        match &file.binary {
            Some(binary) => binary.apply(before).ok_or_else(|| vec!["its content is not the one the binary patch was made for".to_owned()]),
            None => hunks(file, before, &self.budget),
        }
    }

    fn modify(&self, file: &FilePatch) -> Result<Option<Edit>, Vec<String>> {
        let (state, before) = self.source(file)?;
        if file.operation == Operation::Modify && self.removed.contains(&file.path) {
            return Err(vec!["is both changed and deleted in this patch".to_owned()]);
        }
        if file.operation != Operation::Modify
            && let Some(reason) = self.occupied(&file.path)
        {
            return Err(vec![format!("{}: {reason}", file.path)]);
        }
        let content = self.changed(file, before)?;
        let old_kind = if state.kind == EntryKind::Link { FileMode::Link } else { FileMode::Plain };
        let new_mode = file.new_mode.unwrap_or(old_kind);
        if (new_mode == FileMode::Link) != (old_kind == FileMode::Link) {
            return Err(vec!["changes between a file and a link; delete one and add the other".to_owned()]);
        }
        let mode = match file.new_mode {
            // Whoever may read it may run it, as `chmod +x` does under a usual umask.
            Some(FileMode::Executable) => state.mode | (state.mode & 0o444) >> 2,
            Some(FileMode::Plain) => state.mode & !0o111,
            Some(FileMode::Link) | None => state.mode,
        };
        let created = file.operation != Operation::Modify && self.at(&file.path).is_none();
        // A file that is moved takes its mode along, so only a change in place can keep one.
        let keep_mode = file.operation == Operation::Modify && mode == state.mode;
        edit(&file.path, content, new_mode, mode, keep_mode, created).map(Some)
    }

    fn delete(&self, file: &FilePatch) -> Result<(), Vec<String>> {
        let (_, before) = self.source(file)?;
        let left = self.changed(file, before)?;
        if left.is_empty() {
            return Ok(());
        }
        let lines = left.split_inclusive(|byte| *byte == b'\n').count();
        Err(vec![format!("is deleted, but {lines} of its lines are not in the patch; the patch must hold all of them with `-`")])
    }

    /// Checks that what is written has folders to lie in.
    fn parents(&mut self, patch: &Patch) {
        for file in patch.files.iter().filter(|file| self.edits.contains_key(&file.path)).collect::<Vec<_>>() {
            for parent in file.path.ancestors() {
                let stays = self.at(&parent).is_some_and(|state| state.kind != EntryKind::Directory) && !self.removed.contains(&parent);
                if stays || self.edits.contains_key(&parent) {
                    self.fail(file, &format!("`{parent}` is no folder"));
                    break;
                }
            }
        }
    }
}

fn edit(path: &TreePath, content: Vec<u8>, kind: FileMode, mode: u32, keep_mode: bool, created: bool) -> Result<Edit, Vec<String>> {
    let path = path.clone();
    if kind != FileMode::Link {
        return Ok(Edit::Write { path, content, mode, keep_mode, created });
    }
    if content.is_empty() || content.contains(&0) || content.len() >= crate::path::PATH_MAX_BYTES {
        return Err(vec!["a link needs a target of 1 to 4095 bytes without NUL".to_owned()]);
    }
    Ok(Edit::Link { path, target: content, created })
}

fn cut(text: &str) -> String {
    printable_cut(text.as_bytes(), 200)
}

/// Applies all hunks of a file; every hunk that does not fit is named.
fn hunks(file: &FilePatch, before: &[u8], budget: &Budget) -> Result<Vec<u8>, Vec<String>> {
    let lines: Vec<&[u8]> = before.split_inclusive(|byte| *byte == b'\n').collect();
    // A patch whose own line ends were changed says nothing about the file's; the file does, if all of them are alike.
    let crlf = file.mangled && !lines.is_empty() && lines.iter().all(|line| line.ends_with(b"\r\n") || !line.ends_with(b"\n"));
    let restored: Vec<Hunk>;
    let hunks = if crlf {
        restored = file.hunks.iter().map(with_carriage_returns).collect();
        &restored
    } else {
        &file.hunks
    };
    let mut after: Vec<&[u8]> = Vec::with_capacity(lines.len());
    let mut failures = Vec::new();
    let mut done = 0;
    // Where this hunk is expected relative to its header, learned from the last one.
    let mut drift = 0_isize;
    for (position, hunk) in hunks.iter().enumerate() {
        match place(hunk, &lines, done, drift, budget) {
            Ok(at) => {
                if let Some(start) = hunk.start {
                    drift = at.cast_signed() - start.saturating_sub(1).cast_signed();
                }
                after.extend(&lines[done..at]);
                after.extend(hunk.new_lines());
                done = at + hunk.old_lines().count();
            }
            Err(reason) => {
                let header = printable_cut(&hunk.header, HEADER_SHOWN_BYTES);
                failures.push(format!("hunk {} `{header}` (patch line {}): {reason}", position + 1, hunk.line));
            }
        }
    }
    after.extend(&lines[done..]);
    // A line without an end would be joined with the one after it.
    if failures.is_empty() && after.iter().rev().skip(1).any(|line| !line.ends_with(b"\n")) {
        failures.push("`\\ No newline at end of file` stands after a line that is not the last".to_owned());
    }
    if failures.is_empty() { Ok(after.concat()) } else { Err(failures) }
}

fn with_carriage_returns(hunk: &Hunk) -> Hunk {
    let mut hunk = hunk.clone();
    for line in &mut hunk.lines {
        if line.text.ends_with(b"\n") && !line.text.ends_with(b"\r\n") {
            line.text.pop();
            line.text.extend_from_slice(b"\r\n");
        }
    }
    hunk
}

/// Finds the one place of a hunk at or after line `done`; lines are counted from 0.
fn place(hunk: &Hunk, lines: &[&[u8]], done: usize, drift: isize, budget: &Budget) -> Result<usize, String> {
    let old: Vec<&[u8]> = hunk.old_lines().collect();
    if old.is_empty() {
        let only_adds = "it only adds lines and has no context, so its place is unknown; put the lines around it before and after it";
        return if lines.is_empty() { Ok(0) } else { Err(only_adds.to_owned()) };
    }
    let expected = hunk.start.map(|start| start.saturating_sub(1).saturating_add_signed(drift));
    if let Some(at) = expected.filter(|at| *at >= done)
        && lines.get(at..).is_some_and(|rest| rest.starts_with(&old))
    {
        return Ok(at);
    }
    let found = nearest::occurrences(&old, &lines[done..]);
    match found.as_slice() {
        [at] => Ok(done + at),
        [] => Err(nearest::describe(&old, lines, done, expected, budget)),
        several => {
            let places: Vec<String> = several.iter().take(CANDIDATES_SHOWN).map(|at| (done + at + 1).to_string()).collect();
            let more = if several.len() > CANDIDATES_SHOWN { ", …" } else { "" };
            Err(format!("its lines occur at lines {}{more}; correct the line number, or add context", places.join(", ")))
        }
    }
}
