//! An applier that answers one question: can this tree be what *all marked lines* of a patch make of that one?
//!
//! It knows no counts and no line numbers: a hunk is every line with a mark up to a line that begins something else, and may go wherever
//! its old lines are, after the hunk before it. So it gives all trees that a whole reading of a patch can make; a tree that lacks a line
//! of the patch is not among them. What it cannot read, nobody may apply.

use std::collections::BTreeSet;

use super::super::kit::{Entry, Files};

/// Most contents followed at once.
const CONTENTS_MAX: usize = 4000;

/// A tree as a sorted list: name, content, executable, link.
type Tree = Vec<(Vec<u8>, Vec<u8>, bool, bool)>;

/// The lines of a hunk with their marks.
type Hunk = Vec<(u8, Vec<u8>)>;

#[derive(Debug, Default)]
struct Section {
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
    adds: bool,
    deletes: bool,
    renamed: bool,
    executable: Option<bool>,
    link: bool,
    /// Its content is none of our business.
    binary: bool,
    hunks: Vec<Hunk>,
}

/// Says whether `after` can be what a patch makes of `before`, and if not, why.
pub(super) fn makes(before: &Files, patch: &[u8], after: &Files) -> Result<(), String> {
    let lines: Vec<&[u8]> = patch.split(|byte| *byte == b'\n').collect();
    let sections = sections(&lines)?;
    let mut trees: BTreeSet<Tree> = BTreeSet::new();
    trees.insert(flat(before));
    for section in &sections {
        let mut next = BTreeSet::new();
        for tree in &trees {
            for made in section.apply(tree, after) {
                next.insert(made);
            }
        }
        if next.is_empty() {
            return Err(format!("no reading of {section:?} applies"));
        }
        if next.len() > CONTENTS_MAX {
            return Err("too many readings".to_owned());
        }
        trees = next;
    }
    if trees.contains(&flat(after)) { Ok(()) } else { Err("no reading makes this tree".to_owned()) }
}

fn flat(files: &Files) -> Tree {
    let entry = |(name, entry): (&Vec<u8>, &Entry)| match entry {
        Entry::File { executable, content } => (name.clone(), content.clone(), *executable, false),
        Entry::Link(target) => (name.clone(), target.clone(), false, true),
    };
    files.iter().map(entry).collect()
}

fn sections(lines: &[&[u8]]) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    let mut at = 0;
    // Whether the lines read now are those of a header, behind `diff --git`.
    let mut in_header = false;
    while at < lines.len() {
        let line = lines[at];
        let header = |at: usize| {
            lines[at].starts_with(b"--- ") && lines[at].len() > 4 && lines.get(at + 1).is_some_and(|next| next.starts_with(b"+++ "))
        };
        let mut last = sections.last_mut();
        if let Some(names) = line.strip_prefix(b"diff --git ") {
            let (old, new) = split(names);
            sections.push(Section { old, new, ..Section::default() });
            in_header = true;
        } else if header(at) {
            if !in_header {
                sections.push(Section::default());
            }
            let section = sections.last_mut().ok_or("a name without header")?;
            let renamed = section.renamed;
            let (old, new) = (named(&line[4..]), named(&lines[at + 1][4..]));
            if !renamed {
                (section.adds, section.deletes) = (section.adds || old.is_none(), section.deletes || new.is_none());
                section.old = old.or_else(|| new.clone());
                section.new = new.or_else(|| section.old.clone());
            }
            in_header = false;
            at += 1;
        } else if line.starts_with(b"@@") {
            in_header = false;
            let (hunk, end) = hunk(lines, at + 1)?;
            last.as_mut().ok_or("a hunk without header")?.hunks.push(hunk);
            at = end;
            continue;
        } else if let (true, Some(section)) = (in_header, last) {
            let is = |prefix: &str| line.strip_prefix(prefix.as_bytes());
            if let Some(mode) = is("new file mode ").or_else(|| is("new mode ")) {
                section.adds |= line.starts_with(b"new file");
                section.executable = Some(mode == b"100755");
                section.link |= mode == b"120000";
            } else if is("deleted file mode ").is_some() {
                section.deletes = true;
            } else if let Some(name) = is("rename from ").or_else(|| is("copy from ")) {
                section.renamed = true;
                section.deletes = line.starts_with(b"rename");
                section.old = plain(name);
            } else if let Some(name) = is("rename to ").or_else(|| is("copy to ")) {
                section.new = plain(name);
            } else if line == b"GIT binary patch" {
                section.binary = true;
            }
        }
        at += 1;
    }
    Ok(sections)
}

/// Returns whether another hunk or file begins at a line.
fn begins_other(lines: &[&[u8]], at: usize) -> bool {
    let begins = |at: usize, prefix: &str| lines.get(at).is_some_and(|line| line.starts_with(prefix.as_bytes()));
    begins(at, "@@")
        || begins(at, "diff --git ")
        || begins(at, "--- ")
            && lines[at].len() > 4
            && begins(at + 1, "+++ ")
            && (at + 2..lines.len()).find(|at| !lines[*at].is_empty()).is_some_and(|at| begins(at, "@@"))
}

fn hunk(lines: &[&[u8]], from: usize) -> Result<(Hunk, usize), String> {
    let mut hunk: Hunk = Vec::new();
    let mut at = from;
    loop {
        // The last piece of a text that ends with a line break is no line.
        let end = at >= lines.len() || at + 1 == lines.len() && lines[at].is_empty();
        if end
            || begins_other(lines, at)
            || matches!(lines[at], b"-- " | b"--") && lines.get(at + 1).is_some_and(|next| next.starts_with(b"2."))
        {
            break;
        }
        let line = lines[at];
        match line.first() {
            None => hunk.push((b' ', b"\n".to_vec())),
            Some(mark @ (b' ' | b'+' | b'-')) => hunk.push((*mark, [&line[1..], b"\n"].concat())),
            Some(b'\\') => {
                let (_, text) = hunk.last_mut().ok_or("no line before")?;
                text.truncate(text.len() - usize::from(text.ends_with(b"\n")));
            }
            // Whatever it looks like, it is prose only if nothing after it could be a change of this hunk. A list could not.
            Some(_) => {
                let until = (at..lines.len()).find(|at| begins_other(lines, *at)).unwrap_or(lines.len());
                let is_change = |line: &&[u8]| matches!(line.first(), Some(b'+' | b'-')) && !matches!(*line, b"-- " | b"--" | b"---");
                let changes: Vec<&[u8]> = lines[at..until].iter().copied().filter(is_change).collect();
                let is_item = |line: &&[u8]| line.get(1) == Some(&b' ') && line.get(2).is_some_and(|byte| !byte.is_ascii_whitespace());
                let is_list = changes.iter().all(is_item) && changes.iter().all(|line| line[0] == changes[0][0]);
                if !is_list {
                    return Err(format!("line {} has no mark, and `{}` follows", at + 1, String::from_utf8_lossy(changes[0])));
                }
                break;
            }
        }
        at += 1;
    }
    while hunk.last().is_some_and(|(mark, text)| *mark == b' ' && text == b"\n") {
        hunk.pop();
    }
    Ok((hunk, at))
}

impl Section {
    /// Returns every tree that this can make of one.
    fn apply(&self, tree: &Tree, after: &Files) -> Vec<Tree> {
        let (Some(old), Some(new)) = (&self.old, &self.new) else { return Vec::new() };
        let mut made = Vec::new();
        // Any number of leading components can be a prefix.
        let strips = if self.renamed { 0..1 } else { 0..4 };
        for strip in strips {
            let (Some(old), Some(new)) = (stripped(old, strip), stripped(new, strip)) else { continue };
            let new = if self.renamed || self.adds || old.ends_with(new) { new } else { old };
            let names = if self.renamed { vec![(old, new)] } else { vec![(new, new), (old, old)] };
            for (old, new) in names {
                let at = tree.iter().position(|(name, ..)| name == old);
                let (content, executable, link) = match at {
                    Some(at) if !self.adds => (tree[at].1.clone(), tree[at].2, tree[at].3),
                    None if self.adds || self.hunks.iter().flatten().all(|(mark, _)| *mark == b'+') => (Vec::new(), false, self.link),
                    _ => continue,
                };
                let contents = match after.get(new) {
                    Some(Entry::File { content, .. }) if self.binary => BTreeSet::from([content.clone()]),
                    _ if self.binary => BTreeSet::from([Vec::new()]),
                    _ => contents(&content, &self.hunks),
                };
                for content in contents {
                    let mut rest: Vec<_> =
                        tree.iter().filter(|(name, ..)| !(self.deletes && name == old) && name != new).cloned().collect();
                    if !self.deletes || self.renamed {
                        rest.push((new.to_vec(), content, self.executable.unwrap_or(executable) && !link, link));
                    } else if !content.is_empty() {
                        continue;
                    }
                    rest.sort();
                    made.push(rest);
                }
            }
        }
        made
    }
}

/// Returns everything that hunks can make of a content, one after the other, each wherever its old lines are.
fn contents(before: &[u8], hunks: &[Hunk]) -> BTreeSet<Vec<u8>> {
    let mut made = of_lines(before, hunks);
    // A patch may not know that the file has no last line break.
    if !before.is_empty() && !before.ends_with(b"\n") {
        for content in of_lines(&[before, b"\n"].concat(), hunks) {
            made.insert(content.strip_suffix(b"\n").unwrap_or(&content).to_vec());
            made.insert(content);
        }
    }
    made
}

fn of_lines(before: &[u8], hunks: &[Hunk]) -> BTreeSet<Vec<u8>> {
    let lines: Vec<&[u8]> = before.split_inclusive(|byte| *byte == b'\n').collect();
    // What was made so far, and where in the file.
    let mut partial: BTreeSet<(Vec<u8>, usize)> = BTreeSet::from([(Vec::new(), 0)]);
    for hunk in hunks {
        let mut next = BTreeSet::new();
        // Behind a blank line that follows the last change there may be prose with blanks in front of it.
        let last = hunk.iter().rposition(|(mark, _)| *mark != b' ').unwrap_or(0);
        let blank = hunk[last..].iter().position(|(mark, text)| *mark == b' ' && text.trim_ascii().is_empty());
        for hunk in [Some(hunk.as_slice()), blank.map(|blank| &hunk[..last + blank])].into_iter().flatten() {
            let old: Vec<&[u8]> = hunk.iter().filter(|(mark, _)| *mark != b'+').map(|(_, text)| text.as_slice()).collect();
            let new: Vec<u8> = hunk.iter().filter(|(mark, _)| *mark != b'-').flat_map(|(_, text)| text.clone()).collect();
            for (made, done) in &partial {
                for at in *done..=lines.len() {
                    if lines[at..].starts_with(&old) {
                        next.insert(([made, lines[*done..at].concat().as_slice(), &new].concat(), at + old.len()));
                    }
                }
            }
        }
        partial = next;
        if partial.len() > CONTENTS_MAX {
            break;
        }
    }
    partial.into_iter().map(|(made, done)| [made, lines[done..].concat()].concat()).collect()
}

fn stripped(name: &[u8], count: usize) -> Option<&[u8]> {
    let mut rest = name;
    for _ in 0..count {
        rest = &rest[rest.iter().position(|byte| *byte == b'/')? + 1..];
    }
    Some(rest)
}

fn named(text: &[u8]) -> Option<Vec<u8>> {
    let time = text.split(|byte| *byte == b'\t').nth(1).unwrap_or_default();
    if text.starts_with(b"/dev/null") || time.starts_with(b"1970-01-01 00:00:00") { None } else { plain(text) }
}

fn plain(text: &[u8]) -> Option<Vec<u8>> {
    if text.starts_with(b"\"") {
        return super::super::super::header::unquote(text).map(|(name, _)| name);
    }
    text.split(|byte| *byte == b'\t').next().map(<[u8]>::to_vec)
}

/// Splits the names of `diff --git`, where they need no thought.
fn split(text: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    super::super::super::header::pair(text).map_or((None, None), |(old, new)| (Some(old), Some(new)))
}
