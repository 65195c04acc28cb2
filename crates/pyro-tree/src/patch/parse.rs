//! Reads a patch: finds its files among prose, and says for each what is done to it.

use super::{
    FileMode, FilePatch, Operation, PATCH_MAX_BYTES, PATCH_MAX_FILES, Patch, PatchError, SyntaxProblem,
    binary::{self, Binary},
    header,
    hunk::{self, Hunk},
};
use crate::path::{TreePath, printable_cut};

/// Longest line shown in an error, in bytes.
const SHOWN_MAX_BYTES: usize = 160;

/// Reads a patch.
///
/// # Errors
/// It is too long, has too many files, holds no change, or a line of it cannot be understood.
pub fn parse(patch: &[u8]) -> Result<Patch, PatchError> {
    if patch.len() > PATCH_MAX_BYTES {
        return Err(PatchError::TooLarge { size_bytes: patch.len() });
    }
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
    let mut reader = Reader { lines, at: 0, mangled };
    let mut files = Vec::new();
    loop {
        match reader.file() {
            Ok(Some(file)) => files.push(file),
            Ok(None) => break,
            Err((line, problem)) => {
                let text = reader.lines.get(line).map(|line| printable_cut(line, SHOWN_MAX_BYTES)).unwrap_or_default();
                return Err(PatchError::Syntax { line: line + 1, text, problem });
            }
        }
        if files.len() > PATCH_MAX_FILES {
            return Err(PatchError::TooManyFiles);
        }
    }
    if files.is_empty() { Err(PatchError::Empty) } else { Ok(Patch { files }) }
}

type Problem = (usize, SyntaxProblem);

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
}

struct Reader<'a> {
    lines: Vec<&'a [u8]>,
    at: usize,
    mangled: bool,
}

impl<'a> Reader<'a> {
    fn line(&self) -> Option<&'a [u8]> {
        self.lines.get(self.at).copied()
    }

    /// Reads the next file, skipping whatever stands before it.
    fn file(&mut self) -> Result<Option<FilePatch>, Problem> {
        while let Some(line) = self.line() {
            if let Some(names) = line.strip_prefix(b"diff --git ") {
                return self.git_file(names).map(Some);
            }
            if line.starts_with(b"--- ") && self.lines.get(self.at + 1).is_some_and(|line| line.starts_with(b"+++ ")) {
                let start = self.at;
                return self.named_file(start, Extended::default()).map(Some);
            }
            if line.starts_with(b"@@ -") {
                return Err((self.at, SyntaxProblem::NoHeader));
            }
            if line.starts_with(b"*** Begin Patch") || line.starts_with(b"<<<<<<< SEARCH") {
                return Err((self.at, SyntaxProblem::Foreign));
            }
            self.at += 1;
        }
        Ok(None)
    }

    fn git_file(&mut self, names: &[u8]) -> Result<FilePatch, Problem> {
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
                if let Some(text) = text.split(|byte| *byte == b' ').nth(1).filter(|text| !text.is_empty()) {
                    extended.old_mode = mode(text)?;
                }
            } else if !(line.starts_with(b"similarity index ") || line.starts_with(b"dissimilarity index ")) {
                break;
            }
            self.at += 1;
        }
        self.named_file(start, extended)
    }

    /// Reads `---` and `+++` if they are there, then what follows them.
    fn named_file(&mut self, start: usize, extended: Extended) -> Result<FilePatch, Problem> {
        let header_at = self.at;
        let failed = |problem| (header_at, problem);
        let git = extended.pair.is_some() || self.lines[start].starts_with(b"diff --git ");
        let mut names = extended.pair.clone();
        if let Some(old) = self.line().and_then(|line| line.strip_prefix(b"--- ")) {
            let new =
                self.lines.get(self.at + 1).and_then(|line| line.strip_prefix(b"+++ ")).ok_or((self.at, SyntaxProblem::HalfHeader))?;
            names = Some((header::name(old).map_err(failed)?, header::name(new).map_err(failed)?));
            self.at += 2;
        }
        // `diff --git X X` tells that there are no prefixes.
        let prefixed = extended.pair.as_ref().map(|(old, new)| old != new);
        let (old, new) = match (&extended.from, &extended.to, &names) {
            (Some(from), Some(to), _) => {
                let path = |name: &[u8]| TreePath::try_from(name).map(Some).map_err(|error| failed(error.into()));
                (path(from)?, path(to)?)
            }
            (None, None, Some((old, new))) => header::paths(old, new, prefixed).map_err(failed)?,
            _ => return Err((start, SyntaxProblem::Names)),
        };
        let (operation, source, path) = operation(&extended, old, new, git).map_err(|problem| (start, problem))?;
        let (hunks, binary) = self.content(&path)?;
        let silent = hunks.is_empty() && binary.is_none();
        let said = extended.added || extended.deleted || extended.renamed || extended.copied || extended.new_mode.is_some();
        if silent && !said {
            return Err((start, SyntaxProblem::NoHunk(path)));
        }
        let (old_mode, new_mode, mangled) = (extended.old_mode, extended.new_mode, self.mangled);
        Ok(FilePatch { operation, source, path, line: start + 1, old_mode, new_mode, hunks, binary, mangled })
    }

    fn content(&mut self, path: &TreePath) -> Result<(Vec<Hunk>, Option<Binary>), Problem> {
        let mut hunks = Vec::new();
        while let Some(line) = self.line() {
            if line == b"GIT binary patch" && hunks.is_empty() {
                let (binary, end) = binary::read(&self.lines, self.at + 1).ok_or_else(|| (self.at, SyntaxProblem::Binary(path.clone())))?;
                self.at = end;
                return Ok((hunks, Some(binary)));
            }
            if line.starts_with(b"Binary files ") && line.ends_with(b" differ") && hunks.is_empty() {
                return Err((self.at, SyntaxProblem::BinaryNamed(path.clone())));
            }
            // A blank line between two hunks is a model's; anything else ends the file.
            if line.is_empty() && self.lines.get(self.at + 1).is_some_and(|line| line.starts_with(b"@@")) {
                self.at += 1;
                continue;
            }
            if !line.starts_with(b"@@") {
                break;
            }
            let (hunk, end) = hunk::read(&self.lines, self.at)?;
            hunks.push(hunk);
            self.at = end;
        }
        Ok((hunks, None))
    }
}

fn operation(
    extended: &Extended,
    old: Option<TreePath>,
    new: Option<TreePath>,
    git: bool,
) -> Result<(Operation, TreePath, TreePath), SyntaxProblem> {
    match (old, new) {
        (Some(old), Some(new)) if extended.renamed => Ok((Operation::Rename, old, new)),
        (Some(old), Some(new)) if extended.copied => Ok((Operation::Copy, old, new)),
        (None, Some(new)) => Ok((Operation::Add, new.clone(), new)),
        (Some(old), None) => Ok((Operation::Delete, old.clone(), old)),
        (Some(old), Some(new)) if old == new => {
            let operation = if extended.added {
                Operation::Add
            } else if extended.deleted {
                Operation::Delete
            } else {
                Operation::Modify
            };
            Ok((operation, old, new))
        }
        // `diff -u x.orig x` is about `x`.
        (Some(old), Some(new)) if !git && old.as_bytes().strip_suffix(b".orig") == Some(new.as_bytes()) => {
            Ok((Operation::Modify, new.clone(), new))
        }
        (Some(old), Some(new)) => Err(SyntaxProblem::NamesDiffer { old: old.to_string(), new: new.to_string() }),
        (None, None) => Err(SyntaxProblem::Names),
    }
}
