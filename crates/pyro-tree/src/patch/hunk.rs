//! Hunks: reading one, and finding where it goes.

use super::SyntaxProblem;

/// What a line of a hunk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Context,
    Remove,
    Add,
}

/// A line of a hunk; `text` ends with a line break unless the file does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HunkLine {
    pub(super) mark: Mark,
    pub(super) text: Vec<u8>,
}

/// A hunk as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hunk {
    /// Line of the patch where it begins, counted from 1.
    pub(super) line: usize,
    /// Its header as it is shown.
    pub(super) header: Vec<u8>,
    /// Where it says it begins, counted from 1; `None` for a bare `@@`.
    pub(super) start: Option<usize>,
    pub(super) lines: Vec<HunkLine>,
}

impl Hunk {
    /// Returns the lines that must be there.
    pub(super) fn old_lines(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.lines.iter().filter(|line| line.mark != Mark::Add).map(|line| line.text.as_slice())
    }

    /// Returns the lines that will be there.
    pub(super) fn new_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(|line| line.mark != Mark::Remove).map(|line| line.text.as_slice())
    }
}

struct Range {
    start: usize,
    count: usize,
}

fn range(text: &[u8]) -> Option<Range> {
    let text = std::str::from_utf8(text).ok()?;
    let (start, count) = text.split_once(',').unwrap_or((text, "1"));
    Some(Range { start: start.parse().ok()?, count: count.parse().ok()? })
}

/// Reads `@@ -1,2 +1,3 @@ …`; the bare `@@` of some models gives no ranges.
fn ranges(header: &[u8]) -> Result<Option<(Range, Range)>, SyntaxProblem> {
    let inner = header.strip_prefix(b"@@").ok_or(SyntaxProblem::HunkHeader)?.trim_ascii();
    if !inner.starts_with(b"-") {
        return if inner.is_empty() || inner.ends_with(b"@@") || !inner.contains(&b'@') {
            Ok(None)
        } else {
            Err(SyntaxProblem::HunkHeader)
        };
    }
    let mut parts = inner.split(|byte| *byte == b' ').filter(|part| !part.is_empty());
    let old = parts.next().and_then(|part| range(part.strip_prefix(b"-")?));
    let new = parts.next().and_then(|part| range(part.strip_prefix(b"+")?));
    let closed = parts.next().is_some_and(|part| part.starts_with(b"@@"));
    match (old, new) {
        (Some(old), Some(new)) if closed => Ok(Some((old, new))),
        _ => Err(SyntaxProblem::HunkHeader),
    }
}

/// Returns whether the body of a hunk ends before `lines[at]` whatever was announced.
fn ends(lines: &[&[u8]], at: usize) -> bool {
    let Some(line) = lines.get(at) else { return true };
    let next_file = line.starts_with(b"--- ") && lines.get(at + 1).is_some_and(|line| line.starts_with(b"+++ "));
    // The last two lines of a mail written by Git are `-- ` and its version.
    let signature = *line == b"-- " && at + 3 >= lines.len();
    next_file || signature || !matches!(line.first(), None | Some(b' ' | b'+' | b'-' | b'\\'))
}

/// Reads the hunk at `lines[at]`; returns it and where it ends.
pub(super) fn read(lines: &[&[u8]], at: usize) -> Result<(Hunk, usize), (usize, SyntaxProblem)> {
    let announced = ranges(lines[at]).map_err(|problem| (at, problem))?;
    let body = at + 1;
    let counted = announced.as_ref().and_then(|(old, new)| take(lines, body, Some((old.count, new.count))));
    // Counts that do not fit are a model's arithmetic: the body itself says how long it is.
    let (taken, end) = match counted {
        Some(taken) => taken,
        None => take(lines, body, None).ok_or((body, SyntaxProblem::EmptyHunk))?,
    };
    if taken.iter().all(|line| line.mark == Mark::Context) {
        if let Some((old, new)) = announced.filter(|_| !taken.is_empty() && end < lines.len()) {
            let found = taken.len();
            return Err((end, SyntaxProblem::Cut { old: old.count, new: new.count, found_old: found, found_new: found }));
        }
        return Err((at, SyntaxProblem::EmptyHunk));
    }
    // A start of 0 means the file is empty or not there.
    let start = announced.map(|(old, _)| if old.count == 0 { old.start + 1 } else { old.start.max(1) });
    Ok((Hunk { line: at + 1, header: lines[at].to_vec(), start, lines: taken }, end))
}

/// Takes the lines of a body: as many as announced, if the body then really ends, or all there are.
fn take(lines: &[&[u8]], from: usize, announced: Option<(usize, usize)>) -> Option<(Vec<HunkLine>, usize)> {
    let mut taken: Vec<HunkLine> = Vec::new();
    let (mut old, mut new) = (0, 0);
    let mut at = from;
    // Blank lines without even their leading blank: context in the middle, nothing at the end.
    let mut kept = (0, from);
    loop {
        let line = lines.get(at).copied();
        if let Some(text) = line.and_then(|line| line.strip_prefix(b"\\")) {
            // Said in the language of whoever made it, but always so long.
            let last = taken.last_mut().filter(|_| text.len() >= 2)?;
            if last.text.last() == Some(&b'\n') {
                last.text.pop();
            }
            at += 1;
            kept = (taken.len(), at);
            continue;
        }
        let full = announced.is_some_and(|(wanted_old, wanted_new)| old == wanted_old && new == wanted_new);
        if full || (announced.is_none() && ends(lines, at)) {
            break;
        }
        let line = line?;
        let (mark, text) = match line.split_first() {
            None => (Mark::Context, line),
            Some((b' ', text)) => (Mark::Context, text),
            Some((b'+', text)) => (Mark::Add, text),
            Some((b'-', text)) => (Mark::Remove, text),
            Some(_) => return None,
        };
        old += usize::from(mark != Mark::Add);
        new += usize::from(mark != Mark::Remove);
        if announced.is_some_and(|(wanted_old, wanted_new)| old > wanted_old || new > wanted_new) {
            return None;
        }
        taken.push(HunkLine { mark, text: [text, b"\n"].concat() });
        at += 1;
        if !line.is_empty() {
            kept = (taken.len(), at);
        }
    }
    match announced {
        None => taken.truncate(kept.0),
        // The body goes on: what was announced is too little.
        Some(_) if !lines.get(at).is_none_or(|line| line.is_empty()) && !ends(lines, at) => return None,
        Some(_) => {}
    }
    let end = if announced.is_none() { kept.1 } else { at };
    (!taken.is_empty()).then_some((taken, end))
}
