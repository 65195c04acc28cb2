//! Reads a patch: finds its files among prose, and says for each what is done to it.

use super::{
    FileMode, Operation, PATCH_MAX_BYTES, PATCH_MAX_FILES, Patch, PatchError, Section, SyntaxProblem,
    between::{Between, SUBMODULE},
    binary::{self, Binary},
    foreign::{self, Foreign},
    header::{self, Named},
    hunk::{self, Hunk, Problem},
    landmarks::is_file_header,
    names::{Header, Place},
};
use crate::path::{TreePath, printable_cut};

/// Longest line shown in an error, in bytes.
const SHOWN_MAX_BYTES: usize = 160;
/// Longest name shown, in bytes.
const NAME_SHOWN_MAX_BYTES: usize = 200;
/// Most bytes of all directories that the names of a patch lie in. A thousand files ten directories deep take one MiB.
const ANCESTORS_MAX_BYTES: usize = 16 << 20;

/// Reads a patch.
///
/// # Errors
/// It is too long, has too many files, holds no change, or a line of it cannot be understood.
pub fn parse(patch: &[u8]) -> Result<Patch, PatchError> {
    if patch.len() > PATCH_MAX_BYTES {
        return Err(PatchError::TooLarge { size_bytes: patch.len() });
    }
    let patch = patch.strip_prefix(b"\xef\xbb\xbf").unwrap_or(patch);
    let mut lines: Vec<&[u8]> = patch.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    // The headers of a patch never end with CR, whatever its files do; if they do, mail or a browser did that to every line.
    let headers = ["diff --git ", "--- ", "+++ ", "@@ -"];
    let is_header = |line: &&&[u8]| headers.iter().any(|header| line.starts_with(header.as_bytes()));
    let mangled = lines.iter().filter(is_header).all(|line| line.ends_with(b"\r")) && lines.iter().any(|line| is_header(&line));
    if mangled {
        for line in &mut lines {
            *line = line.strip_suffix(b"\r").unwrap_or(line);
        }
    }
    let failed = |(line, problem): Problem| {
        let text = lines.get(line).map(|line| printable_cut(line, SHOWN_MAX_BYTES)).unwrap_or_default();
        PatchError::Syntax { line: line + 1, text, problem }
    };
    if patch.starts_with(b"\xff\xfe") || patch.starts_with(b"\xfe\xff") {
        return Err(failed((0, SyntaxProblem::Foreign(Foreign::Utf16))));
    }
    if let Some(at) = lines.iter().position(|line| foreign::is_colored_header(line)) {
        return Err(failed((at, SyntaxProblem::Foreign(Foreign::Colored))));
    }
    let mut reader = Reader { lines: &lines, at: 0, mangled, unfolded: 0, counted: None, between: Between::new(), submodules: false };
    let mut sections = Vec::new();
    while let Some(section) = reader.section().map_err(failed)? {
        sections.push(section);
        if sections.len() > PATCH_MAX_FILES {
            return Err(PatchError::TooManyFiles);
        }
        if reader.unfolded > binary::UNFOLDED_MAX_BYTES {
            return Err(PatchError::BinaryTooLarge);
        }
    }
    let (left_out, mentioned) = (reader.between.left_out, reader.between.mentioned);
    let paths = sections.iter().flat_map(|section: &Section| section.place.paths());
    let ancestors = paths.map(|path| path.components().count() * path.as_bytes().len()).fold(0, usize::saturating_add);
    if ancestors > ANCESTORS_MAX_BYTES {
        return Err(PatchError::NamesTooDeep);
    }
    if sections.is_empty() {
        match mentioned.or_else(|| nothing(&lines)) {
            Some(problem) if !reader.submodules => return Err(failed(problem)),
            None if left_out.count == 0 => return Err(PatchError::Empty),
            Some(_) | None => {}
        }
    }
    Ok(Patch { sections, left_out })
}

/// Says why a text without any file in it is no patch.
fn nothing(lines: &[&[u8]]) -> Option<Problem> {
    let hidden = |line: &&[u8]| {
        let text: &[u8] = line.trim_ascii_start();
        let text = text.strip_prefix(b">").or_else(|| text.strip_prefix(b"|")).unwrap_or(text).trim_ascii_start();
        text.starts_with(b"diff --git ") || text.starts_with(b"@@ -")
    };
    if let Some(at) = lines.iter().position(hidden) {
        return Some((at, SyntaxProblem::Indented));
    }
    foreign::of_text(lines).map(|(at, format)| (at, SyntaxProblem::Foreign(format)))
}

/// What the lines between `diff --git` and the first hunk say.
#[derive(Default)]
struct Extended {
    pair: Option<(Vec<u8>, Vec<u8>)>,
    added: bool,
    deleted: bool,
    renamed: bool,
    copied: bool,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    old_mode: Option<FileMode>,
    new_mode: Option<FileMode>,
    /// Object ids of the content before and after.
    index: Option<(Vec<u8>, Vec<u8>)>,
    /// The files are not the same.
    dissimilar: bool,
}

struct Reader<'a> {
    lines: &'a [&'a [u8]],
    at: usize,
    mangled: bool,
    /// Bytes of binary content so far.
    unfolded: usize,
    /// Whether the hunk read last ended where its counts say.
    counted: Option<bool>,
    between: Between<'a>,
    /// There were parts about submodules.
    submodules: bool,
}

impl<'a> Reader<'a> {
    fn line(&self) -> Option<&'a [u8]> {
        self.lines.get(self.at).copied()
    }

    /// Reads the next file, and whatever stands before it.
    fn section(&mut self) -> Result<Option<Section>, Problem> {
        while let Some(line) = self.line() {
            let section = if let Some(names) = line.strip_prefix(b"diff --git ") {
                self.git_file(names)?
            } else if is_file_header(self.lines, self.at) {
                self.named_file(self.at, Extended::default(), false)?
            } else {
                self.between.line(self.lines, self.at)?;
                self.at += 1;
                continue;
            };
            self.between.file_ended(self.at, self.counted.take());
            if section.is_submodule() {
                let path = section.place.paths().next().map(TreePath::as_bytes).unwrap_or_default();
                self.between.left_out.add(path, SUBMODULE);
                self.submodules = true;
                continue;
            }
            return Ok(Some(section));
        }
        Ok(None)
    }

    fn git_file(&mut self, names: &[u8]) -> Result<Section, Problem> {
        let start = self.at;
        let mut extended = Extended { pair: header::pair(names), ..Extended::default() };
        self.at += 1;
        while let Some(line) = self.line() {
            let at = self.at;
            let failed = |problem| (at, problem);
            let mode = |text| header::mode(text).map(Some).map_err(failed);
            let name = |text| header::name(text).map(Some).map_err(failed);
            if let Some(text) = line.strip_prefix(b"old mode ") {
                extended.old_mode = mode(text)?;
            } else if let Some(text) = line.strip_prefix(b"new mode ") {
                extended.new_mode = mode(text)?;
            } else if let Some(text) = line.strip_prefix(b"new file mode ") {
                extended.added = true;
                extended.new_mode = mode(text)?;
            } else if let Some(text) = line.strip_prefix(b"deleted file mode ") {
                extended.deleted = true;
                extended.old_mode = mode(text)?;
            } else if let Some(text) = line.strip_prefix(b"rename from ") {
                extended.renamed = true;
                extended.from = name(text)?;
            } else if let Some(text) = line.strip_prefix(b"rename to ") {
                extended.to = name(text)?;
            } else if let Some(text) = line.strip_prefix(b"copy from ") {
                extended.copied = true;
                extended.from = name(text)?;
            } else if let Some(text) = line.strip_prefix(b"copy to ") {
                extended.to = name(text)?;
            } else if let Some(text) = line.strip_prefix(b"index ") {
                let mut words = text.split(|byte| *byte == b' ');
                extended.index = words.next().and_then(ids);
                if let Some(text) = words.next().filter(|text| !text.is_empty()) {
                    extended.old_mode = mode(text)?;
                }
            } else if let Some(percent) = line.strip_prefix(b"similarity index ") {
                extended.dissimilar = percent.trim_ascii() != b"100%";
            } else if !line.starts_with(b"dissimilarity index ") {
                break;
            }
            self.at += 1;
        }
        self.named_file(start, extended, true)
    }

    /// Reads `---` and `+++` if they are there, then what follows them.
    fn named_file(&mut self, start: usize, extended: Extended, git: bool) -> Result<Section, Problem> {
        let header_at = self.at;
        let failed = |problem| (header_at, problem);
        let mut named = None;
        if let Some(old) = self.line().and_then(|line| line.strip_prefix(b"--- ")) {
            let new = self.lines.get(self.at + 1).and_then(|line| line.strip_prefix(b"+++ "));
            let new = new.ok_or((self.at, SyntaxProblem::HalfHeader))?;
            named = Some((header::named(old).map_err(failed)?, header::named(new).map_err(failed)?));
            self.at += 2;
        } else if self.line().is_some_and(|line| line.starts_with(b"+++ ")) {
            return Err((self.at, SyntaxProblem::HalfHeader));
        }
        let (operation, place) = self.place(start, &extended, named.as_ref(), git).map_err(|problem| (start, problem))?;
        let path = place.paths().next().map(|path| printable_cut(path.as_bytes(), NAME_SHOWN_MAX_BYTES)).unwrap_or_default();
        let (hunks, binary) = self.content(&path)?;
        if hunks.is_empty() && binary.is_none() {
            if !(extended.added || extended.deleted || extended.renamed || extended.copied || extended.new_mode.is_some()) {
                return Err((start, SyntaxProblem::NoHunk(path)));
            }
            if extended.must_have_content() || named.is_some() {
                return Err((start, SyntaxProblem::ContentMissing(path)));
            }
        }
        let only_adds = matches!(hunks.as_slice(), [only] if only.old_lines().next().is_none());
        Ok(Section {
            operation,
            place,
            line: start + 1,
            begins_commit: self.between.begins_commit,
            may_add: !git && operation == Operation::Modify && only_adds,
            old_mode: extended.old_mode,
            new_mode: extended.new_mode,
            hunks,
            binary,
            mangled: self.mangled,
        })
    }

    fn place(
        &self,
        start: usize,
        extended: &Extended,
        named: Option<&(Named, Named)>,
        git: bool,
    ) -> Result<(Operation, Place), SyntaxProblem> {
        if let (Some(from), Some(to)) = (&extended.from, &extended.to) {
            let ends_with = |named: &Named, path: &[u8]| {
                named
                    .name
                    .as_ref()
                    .is_some_and(|name| name.ends_with(path) && (name.len() == path.len() || name[name.len() - path.len() - 1] == b'/'))
            };
            if named.is_some_and(|(old, new)| !ends_with(old, from) || !ends_with(new, to)) {
                return Err(SyntaxProblem::Inconsistent);
            }
            let operation = if extended.renamed { Operation::Rename } else { Operation::Copy };
            let (source, path) = (TreePath::try_from(from.as_slice())?, TreePath::try_from(to.as_slice())?);
            return Ok((operation, Place::Moved { source, path }));
        }
        if extended.from.is_some() || extended.to.is_some() {
            return Err(SyntaxProblem::Names);
        }
        // The line that names the file, and is shown if that is not clear.
        let at = if git { start } else { start + usize::from(named.is_some_and(|(_, new)| new.name.is_some())) };
        let line = (at + 1, printable_cut(self.lines[at], SHOWN_MAX_BYTES));
        let (place, sides) = Header { pair: extended.pair.as_ref(), named, git, line }.place()?;
        let operation = match (sides.old, sides.new) {
            (true, true) if extended.added => Operation::Add,
            (true, true) if extended.deleted => Operation::Delete,
            (true, true) => Operation::Modify,
            (false, _) => Operation::Add,
            (true, false) => Operation::Delete,
        };
        Ok((operation, place))
    }

    fn content(&mut self, path: &str) -> Result<(Vec<Hunk>, Option<Binary>), Problem> {
        let mut hunks = Vec::new();
        while let Some(line) = self.line() {
            if line == b"GIT binary patch" && hunks.is_empty() {
                let damaged = (self.at, SyntaxProblem::Binary(path.to_owned()));
                let (binary, end) = binary::read(self.lines, self.at + 1).ok_or(damaged)?;
                self.unfolded += binary.len();
                self.at = end;
                return Ok((hunks, Some(binary)));
            }
            if line.starts_with(b"Binary files ") && line.ends_with(b" differ") && hunks.is_empty() {
                return Err((self.at, SyntaxProblem::BinaryNamed(path.to_owned())));
            }
            // Blank lines between two hunks are a model's; anything else ends the file.
            let blank = self.lines[self.at..].iter().take_while(|line| line.is_empty()).count();
            if !self.lines.get(self.at + blank).is_some_and(|line| line.starts_with(b"@@")) {
                break;
            }
            self.at += blank;
            let read = hunk::read(self.lines, self.at, &self.between.surroundings)?;
            hunks.push(read.hunk);
            (self.at, self.counted) = (read.end, Some(read.counted));
        }
        Ok((hunks, None))
    }
}

impl Section {
    fn is_submodule(&self) -> bool {
        [self.old_mode, self.new_mode].contains(&Some(FileMode::Submodule))
    }
}

impl Extended {
    /// Returns whether the header says that content changes, so that a patch without it is not whole.
    fn must_have_content(&self) -> bool {
        // Ids of the empty blob, as SHA-1 and as SHA-256.
        const EMPTY: [&[u8]; 2] =
            [b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", b"473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813"];
        let is_empty = |id: &[u8]| EMPTY.iter().any(|empty| empty.starts_with(id)) || id.iter().all(|digit| *digit == b'0');
        let changes = self.index.as_ref().is_some_and(|(old, new)| old != new && !(is_empty(old) && is_empty(new)));
        changes || self.dissimilar
    }
}

/// Splits the two object ids of an `index` line.
fn ids(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let dots = text.windows(2).position(|window| window == b"..")?;
    let (old, new) = (&text[..dots], &text[dots + 2..]);
    let is_id = |id: &[u8]| id.len() >= 4 && id.iter().all(u8::is_ascii_hexdigit);
    (is_id(old) && is_id(new)).then(|| (old.to_vec(), new.to_vec()))
}
