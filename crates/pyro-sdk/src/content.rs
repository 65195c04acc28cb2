//! What requests on files carry: texts with a limit, patterns, and ranges of lines.

use std::{borrow::Cow, fmt, str::FromStr};

use pyro_store::IdError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::error::{Problem, Result};

/// Most bytes a file can be written with.
pub const FILE_TEXT_MAX_BYTES: usize = 1 << 20;
/// Longest pattern: what a person or a model writes is far shorter, and a regular expression's size bounds the memory it compiles to.
const PATTERN_MAX_BYTES: usize = 4096;

/// Text for a file: UTF-8, at most 1 MiB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FileText(String);

impl FileText {
    /// Checks a text.
    ///
    /// # Errors
    /// It is too long.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.len() > FILE_TEXT_MAX_BYTES {
            return Err(Problem::TextTooLong { what: "text for a file", bytes: text.len() as u64, maximum: FILE_TEXT_MAX_BYTES }.into());
        }
        Ok(Self(text))
    }

    /// Checks the content of a file.
    ///
    /// # Errors
    /// It is too long, or no UTF-8.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        match String::from_utf8(bytes) {
            Ok(text) => Self::new(text),
            Err(error) => Err(Problem::NotText { at: error.utf8_error().valid_up_to() as u64 }.into()),
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A patch. It is bytes: lines of files in other encodings than UTF-8 occur in it. In JSON it is text, in which they are replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchText(Vec<u8>);

impl PatchText {
    /// Returns its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for PatchText {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Serialize for PatchText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(&self.0))
    }
}

/// A pattern for paths, as shells and `.gitignore` write them.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Glob {
    pattern: String,
    #[serde(skip)]
    matcher: globset::GlobMatcher,
}

impl Glob {
    /// Tells whether the pattern is about more than a name, so that folders below are looked into.
    #[must_use]
    pub fn is_deep(&self) -> bool {
        self.pattern.contains('/')
    }

    /// Tells whether a path relative to the folder that is looked at matches.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        self.matcher.is_match(OsStr::from_bytes(if self.is_deep() { path } else { name }))
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Glob {}

impl FromStr for Glob {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let rule = "write it like `*.rs`, `test_?.py`, `src/**/*.{c,h}`; at most 4096 bytes";
        let refuse = || IdError { value: text.chars().take(80).collect(), what: "pattern for paths", rule };
        if text.is_empty() || text.len() > PATTERN_MAX_BYTES {
            return Err(refuse());
        }
        let anchored = text.strip_prefix("./").or_else(|| text.strip_prefix('/')).unwrap_or(text);
        let glob = globset::GlobBuilder::new(anchored).literal_separator(true).build().map_err(|_| refuse())?;
        Ok(Self { pattern: text.to_owned(), matcher: glob.compile_matcher() })
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.pattern)
    }
}

/// A regular expression to search for. Only its length is checked here; what it means, where it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SearchPattern(String);

impl SearchPattern {
    /// Returns the expression.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SearchPattern {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if (1..=PATTERN_MAX_BYTES).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError { value: text.chars().take(80).collect(), what: "regular expression", rule: "1 to 4096 bytes" })
        }
    }
}

impl fmt::Display for SearchPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Lines of a file, counted from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRange {
    first: u64,
    last: Option<u64>,
}

impl LineRange {
    /// Returns the first line.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// Returns the last line; `None` is the end of the file.
    #[must_use]
    pub const fn last(self) -> Option<u64> {
        self.last
    }
}

impl FromStr for LineRange {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let rule = "write it as A:B, A: or :B, with 1 <= A <= B";
        let refuse = || IdError { value: text.chars().take(80).collect(), what: "range of lines", rule };
        let number = |text: &str| text.parse::<u64>().ok().filter(|&number| number > 0).ok_or_else(refuse);
        let (first, last) = match text.split_once(':') {
            Some(("", "")) => return Err(refuse()),
            Some((first, last)) => {
                let first = if first.is_empty() { 1 } else { number(first)? };
                (first, if last.is_empty() { None } else { Some(number(last)?) })
            }
            // A single number is one line.
            None => (number(text)?, Some(number(text)?)),
        };
        if last.is_some_and(|last| last < first) {
            return Err(refuse());
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for LineRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.first)?;
        self.last.map_or(Ok(()), |last| last.fmt(formatter))
    }
}

impl Serialize for LineRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

macro_rules! parsed_text {
    ($name:ident, |$text:ident| $parse:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let $text = String::deserialize(deserializer)?;
                $parse.map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string" })
            }
        }
    };
}

parsed_text!(FileText, |text| Self::new(text));
parsed_text!(PatchText, |text| Ok::<_, std::convert::Infallible>(Self(text.into_bytes())));
parsed_text!(Glob, |text| text.parse());
parsed_text!(SearchPattern, |text| text.parse());
parsed_text!(LineRange, |text| text.parse());

impl FromStr for FileText {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl FromStr for PatchText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_lines_are_closed_and_count_from_one() {
        let check = |text: &str, expected: Option<(u64, Option<u64>)>| {
            assert_eq!(text.parse::<LineRange>().ok().map(|range| (range.first(), range.last())), expected, "{text}");
        };
        check("2:5", Some((2, Some(5))));
        check("3", Some((3, Some(3))));
        check("7:", Some((7, None)));
        check(":4", Some((1, Some(4))));
        for refused in [":", "", "0:3", "5:4", "a:b", "1:2:3", "-1:2"] {
            check(refused, None);
        }
    }

    #[test]
    fn glob_without_slash_is_about_names_and_with_one_about_paths() {
        let check =
            |glob: &str, path: &[u8], expected| assert_eq!(glob.parse::<Glob>().unwrap().matches(path), expected, "{glob} {path:?}");
        check("*.rs", b"a/b/c.rs", true);
        check("*.rs", b"a/b.rs/c", false);
        check("src/*.rs", b"src/a.rs", true);
        check("src/*.rs", b"src/b/a.rs", false);
        check("./src/**/*.rs", b"src/b/a.rs", true);
        check("*\u{fffd}*", b"a\xff", false);
        check("a*", b"a\xff", true);
        assert!("a{".parse::<Glob>().is_err() && "".parse::<Glob>().is_err());
    }

    #[test]
    fn text_beyond_its_limit_is_refused() {
        assert!(FileText::new("x".repeat(FILE_TEXT_MAX_BYTES)).is_ok());
        assert_eq!(FileText::new("x".repeat(FILE_TEXT_MAX_BYTES + 1)).unwrap_err().kind(), crate::ErrorKind::LimitExceeded);
        assert_eq!(FileText::from_bytes(vec![b'a', 0xff]).unwrap_err().kind(), crate::ErrorKind::InvalidArgument);
    }
}
