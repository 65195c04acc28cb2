//! Short texts with a form of their own: references to workspaces, guest paths and users, signals, `KEY=VALUE` pairs.

use std::{borrow::Cow, fmt, str::FromStr};

pub use pyro_store::IdError as TextError;
use pyro_store::{IdError, LabelKey, LabelValue, SnapshotName};
pub use pyro_tree::PATCH_MAX_BYTES;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use crate::{
    content::{FILE_TEXT_MAX_BYTES, FileText, Glob, LineRange, PatchText, SearchPattern},
    endpoint::{HttpUrl, PortPublication, TcpTarget, UrlError},
    network_text::{NetworkGroup, NetworkRule},
    process_text::{GuestLine, ProbePath, ShellId, ShellInput, ShellSignal},
    secret_text::{LiteralSecret, SecretFile, SecretHeader, SecretHost, SecretVariable},
    workspace_path::{WorkspacePath, WorkspacePathError},
};

/// Folder in the guest in which commands run.
pub const GUEST_WORKSPACE: &str = "/workspace";

pub(crate) fn refuse(value: &str, what: &'static str, rule: &'static str) -> IdError {
    IdError { value: value.chars().take(80).collect(), what, rule }
}

macro_rules! text_type {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = pyro_store::IdError;

            fn try_from(value: String) -> Result<Self, pyro_store::IdError> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
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
pub(crate) use text_type;

/// Addresses a workspace: its name, its id, or the beginning of its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceReference(String);

impl WorkspaceReference {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkspaceReference {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // The longest name has 63 characters, an id 16.
        if (1..=63).contains(&text.len()) && !text.chars().any(|character| character.is_control() || character.is_whitespace()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(text, "workspace", "name it by its name, its id, or the beginning of its id"))
        }
    }
}

impl From<&pyro_store::WorkspaceId> for WorkspaceReference {
    fn from(id: &pyro_store::WorkspaceId) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for WorkspaceReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_type!(WorkspaceReference);

/// Names a snapshot of a workspace, or its `baseline`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotReference(String);

impl SnapshotReference {
    /// What every workspace can be reset to and compared with.
    pub const BASELINE: &str = "baseline";

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the snapshot; `None` is the baseline.
    #[must_use]
    pub fn name(&self) -> Option<SnapshotName> {
        self.0.parse().ok()
    }
}

impl FromStr for SnapshotReference {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text != Self::BASELINE {
            text.parse::<SnapshotName>()?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SnapshotReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_type!(SnapshotReference);

/// What a diff is made against.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DiffReference {
    /// What the workspace began with.
    #[default]
    Baseline,
    /// What the host last gave, path by path: the seed, then what was pushed, then what was applied to the directory it came from.
    Host,
    /// A snapshot.
    Snapshot(SnapshotName),
}

impl DiffReference {
    /// The name of [`DiffReference::Host`].
    pub const HOST: &str = "host";

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Baseline => SnapshotReference::BASELINE,
            Self::Host => Self::HOST,
            Self::Snapshot(name) => name.as_str(),
        }
    }
}

impl FromStr for DiffReference {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            SnapshotReference::BASELINE => Ok(Self::Baseline),
            Self::HOST => Ok(Self::Host),
            name => name.parse().map(Self::Snapshot),
        }
    }
}

impl fmt::Display for DiffReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

text_type!(DiffReference);

/// An absolute path in the guest. There is no way from it to a path of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestPath(String);

impl GuestPath {
    /// Returns the path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for GuestPath {
    fn default() -> Self {
        Self(GUEST_WORKSPACE.to_owned())
    }
}

impl FromStr for GuestPath {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // PATH_MAX of the guest's kernel, with its terminating zero.
        if text.is_empty() || text.len() > 4095 || text.contains('\0') {
            return Err(refuse(text, "path in the guest", "1 to 4095 bytes, absolute or relative to /workspace"));
        }
        Ok(Self(if text.starts_with('/') { text.to_owned() } else { format!("{GUEST_WORKSPACE}/{text}") }))
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_type!(GuestPath);

/// Name or number of a user in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestUser(String);

impl FromStr for GuestUser {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let plain = |character: char| character.is_alphanumeric() || "._-$".contains(character);
        if (1..=64).contains(&text.len()) && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(text, "user", "a name or a number, at most 64 characters"))
        }
    }
}

impl fmt::Display for GuestUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_type!(GuestUser);

/// A signal for a command's process group, by name or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(i32);

impl Signal {
    /// The terminal is gone.
    pub const HUP: Self = Self(1);
    /// Ends a command that has no say in it.
    pub const KILL: Self = Self(9);
    /// What Ctrl-C sends.
    pub const INT: Self = Self(2);
    /// Asks a command to end.
    pub const TERM: Self = Self(15);
    /// Nobody reads the command's output any more.
    pub const PIPE: Self = Self(13);

    // The numbers of Linux on x86_64 and ARM (signal(7)).
    const NAMES: [(&'static str, i32); 14] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("WINCH", 28),
    ];

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let number = named.or_else(|| text.parse().ok()).filter(|number| (1..=64).contains(number));
        number.map(Self).ok_or_else(|| refuse(text, "signal", "a name such as TERM or KILL, or a number from 1 to 64"))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => formatter.write_str(name),
            None => self.0.fmt(formatter),
        }
    }
}

text_type!(Signal);

/// A label given as `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its key.
    pub key: LabelKey,
    /// Its value.
    pub value: LabelValue,
}

impl FromStr for Label {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (key, value) = text.split_once('=').ok_or_else(|| refuse(text, "label", "write it as KEY=VALUE"))?;
        Ok(Self { key: key.parse()?, value: value.parse()? })
    }
}

/// A variable of a command's environment, given as `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Variable {
    /// Checks a name and a value.
    ///
    /// # Errors
    /// The name is empty or holds `=`, or one of the two holds a zero byte.
    pub fn new(name: &str, value: &str) -> Result<Self, IdError> {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(refuse(name, "name of a variable", "at least one character, none of them `=`; no zero bytes in the value"));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl FromStr for Variable {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (name, value) = text.split_once('=').ok_or_else(|| refuse(text, "variable", "write it as NAME=VALUE"))?;
        Self::new(name, value)
    }
}

/// A list of labels is an object in JSON.
pub(crate) mod label_map {
    use std::collections::BTreeMap;

    use pyro_store::{LabelKey, LabelValue};
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Label;

    pub(crate) fn serialize<S: Serializer>(labels: &[Label], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(labels.iter().map(|label| (&label.key, &label.value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Label>, D::Error> {
        let map = BTreeMap::<LabelKey, LabelValue>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(key, value)| Label { key, value }).collect())
    }
}

/// A list of variables is an object in JSON.
pub(crate) mod variable_map {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::Variable;

    pub(crate) fn serialize<S: Serializer>(variables: &[Variable], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(variables.iter().map(|variable| (&variable.name, &variable.value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Variable>, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        map.iter().map(|(name, value)| Variable::new(name, value).map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_or_numbered() {
        assert_eq!("SIGTERM".parse(), Ok(Signal::TERM));
        assert_eq!("kill".parse(), Ok(Signal::KILL));
        assert_eq!("2".parse(), Ok(Signal::INT));
        assert_eq!(Signal::INT.to_string(), "INT");
        assert!("0".parse::<Signal>().is_err() && "65".parse::<Signal>().is_err() && "NONE".parse::<Signal>().is_err());
    }

    #[test]
    fn relative_guest_path_begins_in_the_workspace() {
        assert_eq!("src".parse::<GuestPath>().unwrap().as_str(), "/workspace/src");
        assert_eq!("/tmp".parse::<GuestPath>().unwrap().as_str(), "/tmp");
        assert!("a\0b".parse::<GuestPath>().is_err());
    }

    #[test]
    fn pairs_keep_everything_behind_the_first_equals_sign() {
        assert_eq!("A=b=c".parse::<Variable>().unwrap().value, "b=c");
        assert_eq!("k=".parse::<Label>().unwrap().value.as_str(), "");
        assert!("=x".parse::<Variable>().is_err() && "novalue".parse::<Variable>().is_err() && "K=v".parse::<Label>().is_err());
    }
}
