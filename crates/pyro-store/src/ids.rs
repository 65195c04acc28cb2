//! Names and ids. A value of these types is valid: it was checked where it came in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name or id does not have the form the contract gives it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a {what}: {rule}")]
pub struct IdError {
    /// What was given, cut to 80 characters.
    pub value: String,
    /// What it should have been.
    pub what: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// Returns `count` random hexadecimal digits from the kernel.
#[must_use]
pub fn random_hex(count: usize) -> String {
    let mut bytes = vec![0u8; count.div_ceil(2)];
    let mut filled = 0;
    while filled < bytes.len() {
        // Up to 256 bytes are never interrupted once the pool is initialised (getrandom(2)), so errors are transient.
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(count);
    text
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(value: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(value) {
                    Ok(Self(value.to_owned()))
                } else {
                    Err(IdError { value: value.chars().take(80).collect(), what: $what, rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(value: String) -> Result<Self, IdError> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

fn is_lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_name(value: &str, extra: &[u8]) -> bool {
    let bytes = value.as_bytes();
    (1..=63).contains(&bytes.len())
        && is_lower_or_digit(bytes[0])
        && bytes.iter().all(|&byte| is_lower_or_digit(byte) || extra.contains(&byte))
}

fn is_hex(value: &str) -> bool {
    value.len() == 16 && value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

text_type!(
    /// Identifies a workspace for as long as it exists: 16 hexadecimal digits.
    WorkspaceId, "workspace id", "16 lower-case hexadecimal digits", is_hex
);
text_type!(
    /// Identifies a machine: a supervisor, its QEMU and their folder.
    MachineId, "machine id", "16 lower-case hexadecimal digits", is_hex
);
text_type!(
    /// Identifies a disk layer: random, or `blank-…` for the empty file systems all workspaces share.
    LayerId, "layer id", "lower-case letters, digits and `-`", |value| is_name(value, b"-")
);
text_type!(
    /// A name a person or an agent gave a workspace; unique among live ones.
    /// A name that has the form of an id is refused: it could shadow another workspace's.
    WorkspaceName, "workspace name", "1 to 63 of a-z 0-9 . _ -, beginning with a letter or digit, and not 16 hexadecimal digits",
    |value| is_name(value, b"._-") && !is_hex(value)
);
text_type!(
    /// Key of a label.
    LabelKey, "label key", "1 to 63 of a-z 0-9 . _ / -, beginning with a letter or digit", |value| is_name(value, b"._/-")
);
text_type!(
    /// Value of a label.
    LabelValue, "label value", "at most 256 characters, none of them a control character", |value| value.chars().count() <= 256
        && !value.chars().any(char::is_control)
);

text_type!(
    /// Name of a snapshot, unique in its workspace. `baseline` is reserved: it is what every workspace can be reset to.
    SnapshotName, "snapshot name", "1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit, and not `baseline`",
    |value| is_snapshot_name(value) && value != "baseline"
);

text_type!(
    /// Name of a service, unique in its workspace.
    ServiceName, "service name", "1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit", is_snapshot_name
);

fn is_snapshot_name(value: &str) -> bool {
    let bytes = value.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl SnapshotName {
    /// Makes the name of a fork's own checkpoint, which no user can give.
    #[must_use]
    pub fn internal() -> Self {
        Self(format!(".fork-{}", random_hex(16)))
    }

    /// Tells whether it is a fork's own.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.0.starts_with('.')
    }

    /// Takes a name from a client of the same user, which has checked it; a fork's own is allowed.
    #[must_use]
    pub const fn from_client(name: String) -> Self {
        Self(name)
    }

    /// Takes a name from the registry, where forks' own occur, too.
    #[must_use]
    pub(crate) const fn stored(name: String) -> Self {
        Self(name)
    }
}

impl WorkspaceId {
    /// Makes a new id.
    #[must_use]
    pub fn random() -> Self {
        Self(random_hex(16))
    }
}

impl MachineId {
    /// Makes a new id.
    #[must_use]
    pub fn random() -> Self {
        Self(random_hex(16))
    }
}

impl LayerId {
    /// Returns the id of a shared blank.
    pub(crate) fn blank(role: &str, gib: u64) -> Self {
        Self(format!("blank-{role}-{gib}"))
    }

    /// Makes a new id.
    #[must_use]
    pub fn random() -> Self {
        Self(random_hex(16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, valid: bool) {
        assert_eq!(name.parse::<WorkspaceName>().is_ok(), valid, "{name:?}");
    }

    #[test]
    fn workspace_names_follow_the_contract() {
        check("a", true);
        check("fix-123.b_c", true);
        check(&"a".repeat(63), true);
        check(&"a".repeat(64), false);
        check("", false);
        check("-a", false);
        check("A", false);
        check("a/b", false);
        check("ä", false);
        check("cc11dd533181e4bb", false);
        check("cc11dd533181e4b", true);
    }
}
