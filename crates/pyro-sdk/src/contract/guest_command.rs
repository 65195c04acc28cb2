//! A command for a guest: an argument list run as is, or a line for its shell.

use std::borrow::Cow;

use pyro_proto::limits::{ARGUMENTS_MAX, ARGUMENTS_MAX_BYTES};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::error::{Problem, Result};

/// A command for a guest. In JSON a list of arguments is run as is and a string by `sh -c`; arguments are bytes, as in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestCommand(Vec<Vec<u8>>);

impl GuestCommand {
    /// Takes an argument list.
    ///
    /// # Errors
    /// It is empty, too long, or has a zero byte in it.
    pub fn new<A: Into<Vec<u8>>>(arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        let arguments: Vec<Vec<u8>> = arguments.into_iter().map(Into::into).collect();
        let bytes = arguments.iter().map(|argument| argument.len() + 1).sum();
        if arguments.first().is_none_or(Vec::is_empty) || arguments.iter().any(|argument| argument.contains(&0)) {
            return Err(Problem::CommandMalformed.into());
        }
        if arguments.len() > ARGUMENTS_MAX {
            return Err(Problem::CommandTooLong { what: "arguments", count: arguments.len(), maximum: ARGUMENTS_MAX }.into());
        }
        if bytes > ARGUMENTS_MAX_BYTES {
            return Err(Problem::CommandTooLong { what: "bytes of arguments", count: bytes, maximum: ARGUMENTS_MAX_BYTES }.into());
        }
        Ok(Self(arguments))
    }

    /// Takes a line for the guest's `sh -c`.
    ///
    /// # Errors
    /// It is too long or has a zero byte in it.
    pub fn shell(line: &str) -> Result<Self> {
        Self::new(["sh", "-c", line])
    }

    /// Returns the arguments.
    #[must_use]
    pub fn arguments(&self) -> &[Vec<u8>] {
        &self.0
    }
}

impl Serialize for GuestCommand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|argument| String::from_utf8_lossy(argument)))
    }
}

impl<'de> Deserialize<'de> for GuestCommand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a command is a string, run by `sh -c`, or a list of strings, run as it is")]
        enum Form {
            Line(String),
            Arguments(Vec<String>),
        }
        match Form::deserialize(deserializer)? {
            Form::Line(line) => Self::shell(&line),
            Form::Arguments(arguments) => Self::new(arguments),
        }
        .map_err(D::Error::custom)
    }
}

impl JsonSchema for GuestCommand {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GuestCommand".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": ARGUMENTS_MAX },
                { "type": "string" }
            ]
        })
    }
}

#[cfg(feature = "cli")]
mod cli {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

    use clap::{ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};

    use super::GuestCommand;

    #[derive(Args)]
    struct Words {
        /// Command and arguments, run as they are
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    }

    impl Args for GuestCommand {
        fn augment_args(command: Command) -> Command {
            Words::augment_args(command)
        }

        fn augment_args_for_update(command: Command) -> Command {
            Words::augment_args_for_update(command)
        }
    }

    impl FromArgMatches for GuestCommand {
        fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
            let Words { command } = Words::from_arg_matches(matches)?;
            Self::new(command.into_iter().map(OsString::into_vec)).map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))
        }

        fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
            *self = Self::from_arg_matches(matches)?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use pyro_proto::error::ErrorKind;

    use super::*;

    #[test]
    fn list_is_run_as_is_and_string_by_a_shell() {
        let list: GuestCommand = serde_json::from_str(r#"["a", "b c"]"#).unwrap();
        assert_eq!(list.arguments(), [b"a".to_vec(), b"b c".to_vec()]);
        let line: GuestCommand = serde_json::from_str(r#""a | b""#).unwrap();
        assert_eq!(line.arguments(), [b"sh".to_vec(), b"-c".to_vec(), b"a | b".to_vec()]);
    }

    #[test]
    fn commands_beyond_the_limits_are_refused() {
        assert_eq!(GuestCommand::new(Vec::<String>::new()).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(GuestCommand::new(["a\0"]).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(GuestCommand::new(vec!["a"; 4097]).unwrap_err().kind(), ErrorKind::LimitExceeded);
        assert_eq!(GuestCommand::new(["a".repeat(1 << 20)]).unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
}
