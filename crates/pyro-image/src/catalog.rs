//! The environments Pyro knows how to build, by name.
//!
//! A name is parsed once, at the edge; everything below holds an [`EnvironmentName`], which cannot name an unknown environment. Where an
//! environment comes from is an enum because OCI images follow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The name of an environment of the catalog, for example `debian:12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct EnvironmentName(&'static str);

impl EnvironmentName {
    /// Returns the name as users write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Returns the name as one path component: no catalog name contains `_`, so this cannot collide.
    pub(crate) fn file_stem(self) -> String {
        self.0.replace(':', "_")
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl FromStr for EnvironmentName {
    type Err = UnknownEnvironment;

    fn from_str(text: &str) -> Result<Self, UnknownEnvironment> {
        CATALOG.iter().find(|definition| definition.name.0 == text).map(|definition| definition.name).ok_or_else(|| {
            // The name may come from a model: it is shown, so it is cut.
            UnknownEnvironment { name: text.chars().take(UNKNOWN_NAME_MAX_CHARS).collect() }
        })
    }
}

impl<'de> Deserialize<'de> for EnvironmentName {
    // By hand, since the derived form would borrow the static name from the input.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl From<EnvironmentName> for String {
    fn from(name: EnvironmentName) -> Self {
        name.0.to_owned()
    }
}

/// Longest unknown name repeated in a message.
const UNKNOWN_NAME_MAX_CHARS: usize = 64;

/// A name that is in no catalog; the message lists those that are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no environment is called `{name}`; known are {}", known())]
pub struct UnknownEnvironment {
    /// What was asked for, cut to a printable length.
    pub name: String,
}

fn known() -> String {
    CATALOG.iter().map(|definition| format!("`{}`", definition.name)).collect::<Vec<_>>().join(", ")
}

/// Where the root file system of an environment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Packages of a Debian release, fetched from the mirror the host itself uses.
    DebianPackages {
        /// Codename of the release, for example `bookworm`.
        codename: &'static str,
        /// Packages on top of Debian's minimal base; what they depend on follows, what they recommend does not.
        packages: &'static [&'static str],
    },
}

/// One environment of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name users give.
    pub name: EnvironmentName,
    /// One line for `pyro env list`.
    pub description: &'static str,
    /// How it is made.
    pub source: Source,
}

/// Returns every environment Pyro knows, the one for everyday use first.
#[must_use]
pub const fn all() -> &'static [Definition] {
    CATALOG
}

/// Returns the definition behind `name`.
#[must_use]
pub fn find(name: EnvironmentName) -> &'static Definition {
    CATALOG.iter().find(|definition| definition.name == name).expect("an EnvironmentName is only made from the catalog")
}

/// Module loading (design.md 3.3): software in the guest loads more of the shipped module tree through `modprobe`.
const BASE: &[&str] = &["kmod"];
const GENERAL: &[&str] = &["kmod", "ca-certificates", "git", "python3"];
const BUILD: &[&str] =
    &["kmod", "ca-certificates", "git", "python3", "python3-dev", "python3-venv", "build-essential", "pkg-config", "curl", "patch", "gdb"];

const CATALOG: &[Definition] = &[
    Definition {
        name: EnvironmentName("debian:12"),
        description: "Debian 12 with git, ca-certificates and python3",
        source: Source::DebianPackages { codename: "bookworm", packages: GENERAL },
    },
    Definition {
        name: EnvironmentName("debian:12-base"),
        description: "Debian 12, the minimal base alone",
        source: Source::DebianPackages { codename: "bookworm", packages: BASE },
    },
    Definition {
        name: EnvironmentName("debian:12-build"),
        description: "Debian 12 with git, python3 and the tools to compile C, C++ and Python extensions",
        source: Source::DebianPackages { codename: "bookworm", packages: BUILD },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_to_itself() {
        for definition in all() {
            assert_eq!(definition.name.to_string().parse(), Ok(definition.name));
            assert_eq!(find(definition.name), definition);
            assert!(!definition.name.as_str().contains(['_', '/']), "{} would not be a safe file name", definition.name);
        }
    }

    #[test]
    fn unknown_name_is_refused_with_the_known_ones() {
        let error = "debian:99".parse::<EnvironmentName>().unwrap_err();
        assert_eq!(error.to_string(), "no environment is called `debian:99`; known are `debian:12`, `debian:12-base`, `debian:12-build`");
        assert!("x".repeat(10_000).parse::<EnvironmentName>().unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn name_is_a_string_in_json() {
        let name: EnvironmentName = serde_json::from_str("\"debian:12-base\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"debian:12-base\"");
        assert!(serde_json::from_str::<EnvironmentName>("\"../x\"").is_err());
    }
}
