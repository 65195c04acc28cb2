//! Paths inside a tree: relative, bytes, already checked.
//!
//! A `TreePath` never leaves its tree and never is a host path; only `source`, `landing` and `export` turn one into system calls, below
//! a folder they hold open. Its order is that of its bytes, so a folder comes before what it holds, but not directly before it: `a`,
//! `a.b`, `a/c`.

use std::{
    ffi::OsStr,
    fmt::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use pyro_proto::error::ErrorKind;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest path in a tree, in bytes: `PATH_MAX` of Linux. ext4 itself knows no limit, so a guest can make longer ones.
pub const PATH_MAX_BYTES: usize = 4096;
/// Longest name of one component, in bytes, on ext4 and every other file system of Linux.
pub const NAME_MAX_BYTES: usize = 255;

/// Relative path in a tree: 1 to 4096 bytes, components of 1 to 255 bytes, none of them `.` or `..`, no NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Box<[u8]>);

/// Why bytes are not a path in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// There are no bytes.
    #[error("is empty")]
    Empty,
    /// It begins with a slash.
    #[error("is absolute")]
    Absolute,
    /// A component is `.`, `..` or empty.
    #[error("has a component `.`, `..` or an empty one")]
    Component,
    /// It contains a NUL.
    #[error("contains a NUL")]
    Nul,
    /// It is longer than [`PATH_MAX_BYTES`].
    #[error("is longer than {PATH_MAX_BYTES} bytes")]
    TooLong,
    /// A component is longer than [`NAME_MAX_BYTES`].
    #[error("has a component longer than {NAME_MAX_BYTES} bytes")]
    NameTooLong,
}

/// Bytes that are not a path in a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path `{path}` {problem}")]
pub struct PathError {
    /// The bytes as they are shown, cut when they are long.
    pub path: String,
    /// What is wrong with them.
    pub problem: PathProblem,
}

impl PathError {
    /// Returns the kind of this error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

fn problem(bytes: &[u8]) -> Option<PathProblem> {
    if bytes.is_empty() {
        return Some(PathProblem::Empty);
    }
    if bytes.len() > PATH_MAX_BYTES {
        return Some(PathProblem::TooLong);
    }
    if bytes.contains(&0) {
        return Some(PathProblem::Nul);
    }
    if bytes[0] == b'/' {
        return Some(PathProblem::Absolute);
    }
    bytes.split(|byte| *byte == b'/').find_map(|name| match name {
        b"" | b"." | b".." => Some(PathProblem::Component),
        name if name.len() > NAME_MAX_BYTES => Some(PathProblem::NameTooLong),
        _ => None,
    })
}

impl TryFrom<&[u8]> for TreePath {
    type Error = PathError;

    fn try_from(bytes: &[u8]) -> Result<Self, PathError> {
        match problem(bytes) {
            None => Ok(Self(bytes.into())),
            Some(problem) => Err(PathError { path: printable_cut(bytes, 200), problem }),
        }
    }
}

impl TryFrom<&str> for TreePath {
    type Error = PathError;

    fn try_from(text: &str) -> Result<Self, PathError> {
        Self::try_from(text.as_bytes())
    }
}

impl TreePath {
    /// Returns the bytes, components separated by slashes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path for a system call relative to the tree's folder.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Returns the folder that holds it; `None` at the top of the tree.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0[..slash].into()))
    }

    /// Returns the folders that hold it, the outermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| Self(self.0[..at].into()))
    }

    /// Returns the last component.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or(&self.0)
    }

    /// Returns the components in order.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// Returns whether `folder` is one of the folders that hold it.
    #[must_use]
    pub fn is_below(&self, folder: &Self) -> bool {
        self.0.len() > folder.0.len() && self.0.starts_with(&folder.0) && self.0[folder.0.len()] == b'/'
    }

    /// Returns the name that a file system which folds case would look for.
    pub(crate) fn case_folded(&self) -> Vec<u8> {
        String::from_utf8_lossy(&self.0).to_lowercase().into_bytes()
    }

    /// Returns `below`, itself a path, seen from where this one lies.
    ///
    /// # Errors
    /// `below` is no path of a tree, or the two together are too long.
    pub fn join(&self, below: &[u8]) -> Result<Self, PathError> {
        let mut joined = Vec::with_capacity(self.0.len().saturating_add(below.len()).saturating_add(1).min(2 * PATH_MAX_BYTES));
        joined.extend_from_slice(&self.0);
        joined.push(b'/');
        joined.extend_from_slice(&below[..below.len().min(PATH_MAX_BYTES)]);
        Self::try_from(joined.as_slice())
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&printable(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TreePath({self})")
    }
}

/// Returns bytes as text that is safe to show: control characters escaped, what is not UTF-8 as `\xNN`.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            // Directional overrides make a terminal show another name than the one that is there.
            if character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}') {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to a string cannot fail");
        }
    }
    text
}

/// Returns what [`printable`] makes of the first `max` bytes, with `…` after it when there are more.
#[must_use]
pub fn printable_cut(bytes: &[u8], max: usize) -> String {
    if bytes.len() <= max {
        return printable(bytes);
    }
    // A character that is cut in two would be shown as bytes.
    let end = (max.saturating_sub(3)..=max).rev().find(|end| bytes[*end] & 0xc0 != 0x80).unwrap_or(max);
    format!("{}…", printable(&bytes[..end]))
}

impl Serialize for TreePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(self.0.iter()),
        }
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = TreePath;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a relative path as text or as an array of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TreePath, E> {
                TreePath::try_from(text).map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<TreePath, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = sequence.next_element::<u8>()? {
                    if bytes.len() == PATH_MAX_BYTES {
                        return Err(de::Error::custom(PathProblem::TooLong));
                    }
                    bytes.push(byte);
                }
                TreePath::try_from(bytes.as_slice()).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_leaves_the_tree_is_no_path() {
        for (bytes, expected) in [
            (&b""[..], PathProblem::Empty),
            (b"/a", PathProblem::Absolute),
            (b"a//b", PathProblem::Component),
            (b"a/../b", PathProblem::Component),
            (b"a/.", PathProblem::Component),
            (b"a/", PathProblem::Component),
            (b"a\0b", PathProblem::Nul),
            (&[b'a'; 256], PathProblem::NameTooLong),
            (&b"a/".repeat(2100), PathProblem::TooLong),
        ] {
            assert_eq!(TreePath::try_from(bytes).unwrap_err().problem, expected);
        }
    }

    #[test]
    fn a_path_shows_no_escape_sequence() {
        let path = TreePath::try_from(&b"a\x1b[31m\xff\xc3\xa9"[..]).unwrap();
        assert_eq!(path.to_string(), "a\\u{1b}[31m\\xffé");
    }

    #[test]
    fn parents_and_names_are_those_of_the_path() {
        let path = TreePath::try_from("a/b/c").unwrap();
        assert_eq!(path.parent().unwrap().to_string(), "a/b");
        assert_eq!(path.ancestors().map(|path| path.to_string()).collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(path.file_name(), b"c");
        assert!(path.is_below(&TreePath::try_from("a").unwrap()));
        assert!(!TreePath::try_from("ab").unwrap().is_below(&TreePath::try_from("a").unwrap()));
    }

    proptest! {
        #[test]
        fn every_path_survives_json(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = TreePath::try_from(bytes.as_slice()) {
                let json = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(serde_json::from_str::<TreePath>(&json).unwrap(), path);
            }
        }
    }
}
