//! Which untracked paths Git would ignore: `.gitignore` files, `.git/info/exclude` and the user's own excludes.
//!
//! The patterns are matched by ripgrep's `ignore`; this module only knows which file speaks when. The deepest file that says something
//! about a path wins, and a file below an ignored folder is never asked about, because the walk does not go there.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, rc::Rc};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Largest file of patterns accepted.
pub(super) const RULES_MAX_BYTES: u64 = 4 << 20;

/// The patterns of one file, and what lies above it.
#[derive(Debug)]
pub(in crate::source) struct Rules {
    /// The folder the patterns are relative to, itself relative to the repository; empty at its top.
    folder: Vec<u8>,
    patterns: Gitignore,
    above: Option<Rc<Self>>,
}

impl Rules {
    /// Adds the patterns of a file that lies in `folder`; patterns that Git would not understand are skipped, as Git does.
    pub(in crate::source) fn below(above: Option<Rc<Self>>, folder: &[u8], bytes: &[u8]) -> Option<Rc<Self>> {
        let mut builder = GitignoreBuilder::new("");
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Ok(line) = std::str::from_utf8(line) {
                drop(builder.add_line(None, line));
            }
        }
        match builder.build() {
            Ok(patterns) if !patterns.is_empty() => Some(Rc::new(Self { folder: folder.to_vec(), patterns, above })),
            Ok(_) | Err(_) => above,
        }
    }

    /// Returns whether a path of the repository is ignored; its parents are known not to be.
    pub(in crate::source) fn ignores(&self, path: &[u8], folder: bool) -> bool {
        let mut rules = Some(self);
        while let Some(level) = rules {
            let below =
                if level.folder.is_empty() { Some(path) } else { path.strip_prefix(level.folder.as_slice()).map(|rest| &rest[1..]) };
            if let Some(below) = below {
                let verdict = level.patterns.matched(Path::new(OsStr::from_bytes(below)), folder);
                if !verdict.is_none() {
                    return verdict.is_ignore();
                }
            }
            rules = level.above.as_deref();
        }
        false
    }
}
