//! Texts that requests on shells and services carry: which shell, which signal, what is typed, what is run, what is probed.

use std::{borrow::Cow, fmt, str::FromStr};

use pyro_proto::limits::{ARGUMENTS_MAX_BYTES, SHELL_INPUT_MAX_BYTES};
use pyro_store::IdError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    error::{Problem, Result},
    text::{GuestPath, Signal, refuse, text_type},
};

/// SQLite's numbers have a sign; no shell has a greater one.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Names a shell of a workspace: `sh` and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShellId(u64);

impl ShellId {
    /// Names the shell of a number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl FromStr for ShellId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix("sh").unwrap_or(text);
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
        let number = number.filter(|number| (1..=NUMBER_MAX).contains(number));
        number.map(Self).ok_or_else(|| refuse(text, "shell", "`sh` and a number, for example `sh1`, or the number alone"))
    }
}

impl fmt::Display for ShellId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sh{}", self.0)
    }
}

text_type!(ShellId);

/// A signal a shell's foreground can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShellSignal(Signal);

impl ShellSignal {
    const NAMES: [&'static str; 10] = ["INT", "TERM", "KILL", "HUP", "QUIT", "TSTP", "CONT", "USR1", "USR2", "WINCH"];

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0.number()
    }
}

impl Default for ShellSignal {
    fn default() -> Self {
        Self(Signal::INT)
    }
}

impl FromStr for ShellSignal {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let known = text.parse().ok().filter(|signal: &Signal| Self::NAMES.contains(&signal.to_string().as_str()));
        known.map(Self).ok_or_else(|| refuse(text, "signal for a shell", "INT, TERM, KILL, HUP, QUIT, TSTP, CONT, USR1, USR2 or WINCH"))
    }
}

impl fmt::Display for ShellSignal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

text_type!(ShellSignal);

/// A line for a shell of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestLine(String);

impl GuestLine {
    /// Returns the line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GuestLine {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.trim().is_empty() || text.len() > ARGUMENTS_MAX_BYTES || text.contains('\0') {
            return Err(refuse(text, "line for a shell", "not empty, at most 1 MiB, and without zero bytes"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for GuestLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_type!(GuestLine);

/// A path in the guest, absolute or relative to where a service runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProbePath(String);

impl ProbePath {
    /// Returns the path, absolute.
    #[must_use]
    pub fn in_folder(&self, folder: &GuestPath) -> String {
        if self.0.starts_with('/') { self.0.clone() } else { format!("{}/{}", folder.as_str().trim_end_matches('/'), self.0) }
    }
}

impl FromStr for ProbePath {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // Checked as any path of the guest; what it is relative to is known only with the rest of the request.
        text.parse::<GuestPath>().map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for ProbePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_type!(ProbePath);

/// What is typed into a shell: UTF-8, at most 1 MiB. Control characters are what the keys of a terminal send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ShellInput(String);

impl ShellInput {
    /// Checks a text.
    ///
    /// # Errors
    /// It is too long.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.len() > SHELL_INPUT_MAX_BYTES {
            return Err(Problem::TextTooLong { what: "input for a shell", bytes: text.len() as u64, maximum: SHELL_INPUT_MAX_BYTES }.into());
        }
        Ok(Self(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns how many bytes at its beginning are text rather than keys: what a line editor must not take for completion or for Enter. None
    /// are, where nothing in it would be taken so, and where it holds other keys as well. Newlines at its end are Enter, and without an
    /// Enter behind it a tab at its end is the key.
    pub(crate) fn text_bytes(&self, enter: bool) -> usize {
        let keys: &[char] = if enter { &['\n', '\r'] } else { &['\n', '\r', '\t'] };
        let text = self.0.trim_end_matches(keys);
        // A carriage return is the Enter key, but for one that belongs to a line's end.
        let has_keys =
            text.replace("\r\n", "\n").contains(|character: char| character.is_control() && character != '\t' && character != '\n');
        if has_keys || !text.contains(['\t', '\n']) { 0 } else { text.len() }
    }
}

impl FromStr for ShellInput {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for ShellInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for ShellInput {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ShellInput".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": SHELL_INPUT_MAX_BYTES })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_is_told_from_keys() {
        let check = |input: &str, enter, expected| {
            assert_eq!(super::ShellInput::new(input).unwrap().text_bytes(enter), expected, "{input:?}");
        };
        check("ls -l", true, 0);
        check(":wq", true, 0);
        check("all:\n\techo one", true, 14);
        check("all:\n\techo one\n\n", true, 14);
        check("a\r\nb\r\n", true, 4);
        check("a\tb", false, 3);
        check("a\tb\t", true, 4);
        check("ls /et\t", false, 0);
        check("\t\t", false, 0);
        check("ls\n", false, 0);
        check("\u{3}", true, 0);
        check("i\ta\nb\u{1b}", true, 0);
        check("one\rtwo\n\tthree", true, 0);
        check("\u{7f}a\tb", true, 0);
        check("\u{9b}201~a\tb", true, 0);
    }

    use super::*;

    #[test]
    fn shells_are_named_with_or_without_their_prefix() {
        assert_eq!("sh12".parse(), Ok(ShellId::new(12)));
        assert_eq!("12".parse(), Ok(ShellId::new(12)));
        assert_eq!(ShellId::new(12).to_string(), "sh12");
        for text in ["", "sh", "sh0", "0", "sh-1", "sh+1", "SH1", "sh1 ", "shell1", "99999999999999999999", "9223372036854775808"] {
            assert!(text.parse::<ShellId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn shells_take_the_signals_of_the_contract() {
        for name in ShellSignal::NAMES {
            assert_eq!(name.parse::<ShellSignal>().unwrap().to_string(), name);
        }
        assert_eq!("sigint".parse(), Ok(ShellSignal::default()));
        assert_eq!("2".parse(), Ok(ShellSignal::default()));
        for text in ["STOP", "PIPE", "0", "9x", ""] {
            assert!(text.parse::<ShellSignal>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn probed_path_is_relative_to_where_the_service_runs() {
        let path = |path: &str, folder: &str| path.parse::<ProbePath>().unwrap().in_folder(&folder.parse().unwrap());
        assert_eq!(path("run/ready", "app"), "/workspace/app/run/ready");
        assert_eq!(path("ready", "/"), "/ready");
        assert_eq!(path("/tmp/ready", "app"), "/tmp/ready");
        assert!("".parse::<ProbePath>().is_err() && "a\0".parse::<ProbePath>().is_err());
    }

    #[test]
    fn input_beyond_the_limit_is_refused() {
        assert!("x".repeat(SHELL_INPUT_MAX_BYTES).parse::<ShellInput>().is_ok());
        let error = "x".repeat(SHELL_INPUT_MAX_BYTES + 1).parse::<ShellInput>().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::LimitExceeded);
    }

    #[test]
    fn lines_of_nothing_are_refused() {
        assert!("make serve".parse::<GuestLine>().is_ok());
        assert!("  ".parse::<GuestLine>().is_err() && "a\0".parse::<GuestLine>().is_err());
    }
}
