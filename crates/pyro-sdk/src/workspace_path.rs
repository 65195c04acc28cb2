//! Paths in `/workspace`, as requests give them and answers show them.
//!
//! A [`WorkspacePath`] is bytes, as in the guest, and never becomes a host path. Requests may write it absolute (`/workspace/src`) or
//! relative (`src`); everything outside is refused here, before anything is asked of a machine. In answers a path is relative, and bytes
//! that are not UTF-8 are shown as `\xNN`; a request in JSON names such a path by a list of its bytes.

use std::{borrow::Cow, fmt, str::FromStr};

use pyro_tree::{PathError, TreePath};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::text::GUEST_WORKSPACE;

/// Why a path is none of `/workspace`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkspacePathError {
    /// It leads out of `/workspace`.
    #[error("`{path}` is not below `/workspace`")]
    Outside {
        /// As it was given, cut and made printable.
        path: String,
    },
    /// It is no path at all.
    #[error(transparent)]
    Malformed(#[from] PathError),
}

/// A path in `/workspace`, or `/workspace` itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkspacePath(Option<TreePath>);

impl WorkspacePath {
    /// Reads a path as it is written in a request: absolute or relative to `/workspace`.
    ///
    /// # Errors
    /// It leads out of `/workspace`, or is no path.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WorkspacePathError> {
        let outside = || WorkspacePathError::Outside { path: pyro_tree::printable_cut(bytes, 200) };
        let absolute = bytes.first() == Some(&b'/');
        let mut names: Vec<&[u8]> = bytes.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
        // What `..` leads to depends on links in the guest: it is not resolved here.
        if names.contains(&&b".."[..]) {
            return Err(outside());
        }
        if absolute {
            if names.first() != Some(&&GUEST_WORKSPACE.as_bytes()[1..]) {
                return Err(outside());
            }
            names.remove(0);
        }
        match names.join(&b'/') {
            path if path.is_empty() && !bytes.is_empty() => Ok(Self(None)),
            path => Ok(Self(Some(TreePath::try_from(path.as_slice())?))),
        }
    }

    /// Returns the path below `/workspace`; `None` is `/workspace` itself.
    #[must_use]
    pub const fn tree_path(&self) -> Option<&TreePath> {
        self.0.as_ref()
    }

    /// Returns its bytes relative to `/workspace`; none for `/workspace` itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(b"", TreePath::as_bytes)
    }

    /// Returns the path as answers show it.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.as_ref().map_or_else(|| GUEST_WORKSPACE.to_owned(), |path| path_text(path.as_bytes()))
    }
}

/// Returns a path as answers show it: bytes that are not UTF-8 as `\xNN`. Control characters stay; whoever prints escapes them.
pub(crate) fn path_text(path: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to a string cannot fail");
        }
    }
    text
}

impl From<TreePath> for WorkspacePath {
    fn from(path: TreePath) -> Self {
        Self(Some(path))
    }
}

impl FromStr for WorkspacePath {
    type Err = WorkspacePathError;

    fn from_str(text: &str) -> Result<Self, WorkspacePathError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => path.fmt(formatter),
            None => formatter.write_str(GUEST_WORKSPACE),
        }
    }
}

impl Serialize for WorkspacePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(path) => path.serialize(serializer),
            None => serializer.serialize_str(GUEST_WORKSPACE),
        }
    }
}

impl<'de> Deserialize<'de> for WorkspacePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Bytes(Vec<u8>),
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Self::from_bytes(text.as_bytes()),
            Form::Bytes(bytes) => Self::from_bytes(&bytes),
        }
        .map_err(D::Error::custom)
    }
}

impl JsonSchema for WorkspacePath {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WorkspacePath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The list of bytes for names that are not UTF-8 is not offered to models: it costs tokens in every tool and is never needed there.
        json_schema!({ "type": "string" })
    }
}

#[cfg(feature = "cli")]
mod cli {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

    use clap::builder::{OsStringValueParser, TypedValueParser as _, ValueParser, ValueParserFactory};

    use super::WorkspacePath;

    impl ValueParserFactory for WorkspacePath {
        type Parser = ValueParser;

        fn value_parser() -> ValueParser {
            // Arguments are bytes; a parser of text would refuse names that are not UTF-8.
            ValueParser::new(OsStringValueParser::new().try_map(|text: OsString| Self::from_bytes(&text.into_vec())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[u8], expected: Option<&[u8]>) {
        let path = WorkspacePath::from_bytes(given);
        assert_eq!(path.as_ref().ok().map(WorkspacePath::as_bytes), expected, "{given:?}: {path:?}");
    }

    #[test]
    fn absolute_and_relative_paths_of_the_workspace_are_the_same() {
        check(b"src/a.rs", Some(b"src/a.rs"));
        check(b"/workspace/src/a.rs", Some(b"src/a.rs"));
        check(b"./src//a.rs/", Some(b"src/a.rs"));
        check(b"//workspace/./x", Some(b"x"));
        check(b"workspace/x", Some(b"workspace/x"));
        check(b"\xff\x1b", Some(b"\xff\x1b"));
        for root in [&b"/workspace"[..], b"/workspace/", b".", b"./"] {
            check(root, Some(b""));
        }
    }

    #[test]
    fn nothing_outside_the_workspace_is_a_path() {
        for outside in [&b"/"[..], b"/etc/passwd", b"..", b"a/../../b", b"a/..", b"/workspace/../etc", b"/workspacex", b"", b"a\0b"] {
            check(outside, None);
        }
        check(&[b'a'; 256], None);
        check(&b"a/".repeat(3000), None);
    }

    #[test]
    fn names_that_are_not_text_survive_json() {
        let path = WorkspacePath::from_bytes(b"a/\xff").unwrap();
        assert_eq!(path.text(), "a/\\xff");
        assert_eq!(serde_json::from_str::<WorkspacePath>(&serde_json::to_string(&path).unwrap()).unwrap(), path);
        assert_eq!(serde_json::to_string(&WorkspacePath::default()).unwrap(), "\"/workspace\"");
    }
}
