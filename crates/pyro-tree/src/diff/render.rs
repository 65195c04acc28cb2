//! Writes the patch of a list of differences, and the entries beside it.

use std::collections::{HashMap, HashSet};

use super::{
    Change, Content, DiffEntry, DiffLimits, DiffReport, Difference, Side,
    quote::{line_name, quoted},
    text::{self, Counts},
};
use crate::{entry::EntryKind, path::TreePath};

/// Renders differences as a patch and as entries.
#[must_use]
pub fn render(mut differences: Vec<Difference>, limits: DiffLimits) -> DiffReport {
    differences.sort_by(|one, other| one.path.cmp(&other.path));
    let moved = if limits.renames { renames(&differences) } else { HashMap::new() };
    let sources: HashSet<usize> = moved.values().copied().collect();
    let mut report = DiffReport::default();
    let mut binaries = Vec::new();
    for (position, difference) in differences.iter().enumerate() {
        if sources.contains(&position) {
            continue;
        }
        let mut file = File { difference, from: moved.get(&position).map(|from| &differences[*from]), limits, patch: Vec::new() };
        let Some(entry) = file.render() else { continue };
        report.insertions += entry.insertions;
        report.deletions += entry.deletions;
        if entry.binary && !matches!(entry.change, Change::Renamed | Change::ModeChanged) {
            binaries.extend_from_slice(named(difference).as_bytes());
        }
        let size = report.patch.len() + file.patch.len();
        if report.truncated || u64::try_from(size).is_ok_and(|size| size > limits.patch_max_bytes) {
            report.truncated = true;
        } else {
            report.patch.append(&mut file.patch);
        }
        report.entries.push(entry);
    }
    if !binaries.is_empty() {
        binaries.append(&mut report.patch);
        report.patch = binaries;
    }
    report
}

/// The line Git writes for a file whose content it does not show.
fn named(difference: &Difference) -> String {
    let name = |side: &Option<Side>, prefix| match side {
        Some(_) => quoted(prefix, difference.path.as_bytes()),
        None => "/dev/null".to_owned(),
    };
    format!("Binary files {} and {} differ\n", name(&difference.before, "a/"), name(&difference.after, "b/"))
}

/// Finds new files whose content is that of one that is gone: from the position of the new one to that of the old.
fn renames(differences: &[Difference]) -> HashMap<usize, usize> {
    fn content(side: Option<&Side>) -> Option<&[u8]> {
        match side {
            Some(Side { kind: EntryKind::File, content: Content::Bytes(bytes), .. }) if !bytes.is_empty() => Some(bytes),
            _ => None,
        }
    }
    let mut gone: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (position, difference) in differences.iter().enumerate().filter(|(_, difference)| difference.after.is_none()) {
        if let Some(content) = content(difference.before.as_ref()) {
            gone.entry(content).or_default().push(position);
        }
    }
    let mut moved = HashMap::new();
    for (position, difference) in differences.iter().enumerate().filter(|(_, difference)| difference.before.is_none()) {
        let Some(candidates) = content(difference.after.as_ref()).and_then(|content| gone.get_mut(content)) else { continue };
        // One of the same name is the better guess.
        let same = |from: &usize| differences[*from].path.file_name() == difference.path.file_name();
        if !candidates.is_empty() {
            let chosen = candidates.iter().position(same).unwrap_or(0);
            moved.insert(position, candidates.remove(chosen));
        }
    }
    moved
}

struct File<'a> {
    difference: &'a Difference,
    from: Option<&'a Difference>,
    limits: DiffLimits,
    patch: Vec<u8>,
}

/// What Git knows of the mode of a file or link.
const fn git_mode(side: &Side) -> &'static str {
    match side.kind {
        EntryKind::Link => "120000",
        EntryKind::File if side.mode & 0o100 != 0 => "100755",
        EntryKind::File | EntryKind::Directory => "100644",
    }
}

impl File<'_> {
    /// Writes the patch of one path; `None` when nothing differs that a tree holds.
    fn render(&mut self) -> Option<DiffEntry> {
        let (before, after) = (self.from.unwrap_or(self.difference).before.as_ref(), self.difference.after.as_ref());
        let kind = after.or(before)?.kind;
        let change = match (before, after) {
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Deleted,
            (Some(_), Some(_)) if self.from.is_some() => Change::Renamed,
            (Some(before), Some(after)) if before.kind != after.kind => Change::TypeChanged,
            (Some(before), Some(after)) if before.content == after.content && before.content != Content::TooLarge => Change::ModeChanged,
            (Some(_), Some(_)) => Change::Modified,
            (None, None) => return None,
        };
        let mode = |side: Option<&Side>| side.map(|side| side.mode);
        // The mode of a link means nothing.
        if change == Change::ModeChanged && (kind == EntryKind::Link || mode(before) == mode(after)) {
            return None;
        }
        let binary = [before, after].into_iter().flatten().any(|side| self.text(side).is_none());
        let counts = if binary { self.binary(before, after) } else { self.sides(before, after) };
        Some(DiffEntry {
            path: self.difference.path.clone(),
            old_path: self.from.map(|from| from.path.clone()),
            change,
            kind,
            binary,
            old_mode: mode(before),
            new_mode: mode(after),
            insertions: counts.insertions,
            deletions: counts.deletions,
            old_size: before.map(|side| side.size_bytes),
            new_size: after.map(|side| side.size_bytes),
        })
    }

    /// Returns what of a side can be shown line by line; a folder shows nothing, `None` is binary.
    fn text<'s>(&self, side: &'s Side) -> Option<&'s [u8]> {
        match &side.content {
            Content::None => Some(&[]),
            Content::Link(target) => Some(target),
            Content::Bytes(bytes) => {
                let short = u64::try_from(bytes.len()).is_ok_and(|length| length <= self.limits.text_max_bytes);
                (short && !text::is_binary(bytes)).then_some(bytes)
            }
            Content::Spooled(_) | Content::Digested(_) | Content::TooLarge => None,
        }
    }

    /// A binary file's content is not in the patch, but that it moved or became executable can be.
    fn binary(&mut self, before: Option<&Side>, after: Option<&Side>) -> Counts {
        if let (Some(before), Some(after)) = (before, after)
            && before.kind == after.kind
            && before.content == after.content
            && before.content != Content::TooLarge
        {
            self.header(Some(before), Some(after));
        }
        Counts::default()
    }

    fn sides(&mut self, before: Option<&Side>, after: Option<&Side>) -> Counts {
        match (before, after) {
            // Git has no word for a change of kind: the one goes, the other comes.
            (Some(old), Some(new)) if old.kind != new.kind => {
                let mut counts = Counts::default();
                if old.kind != EntryKind::Directory {
                    counts.deletions = self.one(Some(old), None).deletions;
                }
                if new.kind != EntryKind::Directory {
                    counts.insertions = self.one(None, Some(new)).insertions;
                }
                counts
            }
            _ if before.or(after).is_some_and(|side| side.kind == EntryKind::Directory) => Counts::default(),
            _ => self.one(before, after),
        }
    }

    fn one(&mut self, before: Option<&Side>, after: Option<&Side>) -> Counts {
        let same_mode = before.map(git_mode) == after.map(git_mode);
        let old = before.and_then(|side| self.text(side)).unwrap_or_default().to_vec();
        let new = after.and_then(|side| self.text(side)).unwrap_or_default().to_vec();
        if before.is_some() && after.is_some() && old == new && same_mode && self.from.is_none() {
            // A mode that Git does not know differs; the entry says so.
            return Counts::default();
        }
        self.header(before, after);
        if old == new {
            return Counts::default();
        }
        let path = |side: Option<&Side>, prefix, path: &TreePath| match side {
            Some(_) => line_name(prefix, path.as_bytes()),
            None => "/dev/null".to_owned(),
        };
        let from = &self.from.unwrap_or(self.difference).path;
        let names = format!("--- {}\n+++ {}\n", path(before, "a/", from), path(after, "b/", &self.difference.path));
        self.patch.extend_from_slice(names.as_bytes());
        text::hunks(&old, &new, &mut self.patch)
    }

    fn header(&mut self, before: Option<&Side>, after: Option<&Side>) {
        let path = &self.difference.path;
        let from = &self.from.unwrap_or(self.difference).path;
        let mut text = format!("diff --git {} {}\n", quoted("a/", from.as_bytes()), quoted("b/", path.as_bytes()));
        match (before.map(|side| (side.kind, git_mode(side))), after.map(|side| (side.kind, git_mode(side)))) {
            (None, Some((_, mode))) => text += &format!("new file mode {mode}\n"),
            (Some((_, mode)), None) => text += &format!("deleted file mode {mode}\n"),
            // That a link stays one is said, too: the patch has no index line that would.
            (Some((kind, old)), Some((_, new))) if old != new || kind == EntryKind::Link => {
                text += &format!("old mode {old}\nnew mode {new}\n")
            }
            _ => {}
        }
        if self.from.is_some() {
            let (from, path) = (quoted("", from.as_bytes()), quoted("", path.as_bytes()));
            text += &format!("similarity index 100%\nrename from {from}\nrename to {path}\n");
        }
        self.patch.extend_from_slice(text.as_bytes());
    }
}
