//! Texts about networks: rules, and names of groups of them.

use std::{borrow::Cow, fmt, str::FromStr};

use pyro_egress::policy::{Rule, RuleError};
use pyro_store::IdError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::text::{refuse, text_type};

/// Something a guest may or may not reach: a name, a wildcard, an address or a network, with or without ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkRule(Rule);

impl NetworkRule {
    /// Tells whether it is about names, not addresses.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.0.network().is_none()
    }

    /// Tells whether all that this rule is about, `other` is about, too.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.is_within(&other.0)
    }
}

impl FromStr for NetworkRule {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let form = |error: &RuleError| match error {
            RuleError::Url { .. } => "name the host alone, without `https://` and path",
            RuleError::Ipv6 { .. } => "workspaces have no IPv6",
            RuleError::Star { .. } => "a star stands only for whole leading labels, as in `*.example.org`",
            RuleError::Ports { .. } => "ports are numbers from 1 to 65535, as in `:443` or `:8000-8100`",
            RuleError::Network { .. } => "a network is an IPv4 address and the bits that count, with no other bit set: `203.0.113.0/24`",
            RuleError::Empty | RuleError::TooLong | RuleError::Name { .. } => {
                "a host name, `*.` and a suffix, an IPv4 address or `ADDRESS/BITS`, with or without `:PORT`: for example `*.example.org:443`"
            }
        };
        text.parse().map(Self).map_err(|error| refuse(text, "network rule", form(&error)))
    }
}

impl fmt::Display for NetworkRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

text_type!(NetworkRule);

/// Names a group of rules in `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkGroup(String);

impl NetworkGroup {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetworkGroup {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if fits { Ok(Self(text.to_owned())) } else { Err(refuse(text, "name of a network group", "1 to 63 letters, digits, `-` and `_`")) }
    }
}

impl fmt::Display for NetworkGroup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

text_type!(NetworkGroup);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_as_they_are_read() {
        for text in ["api.example.com", "*.example.org:443", "203.0.113.7", "10.0.0.0/8:5432"] {
            assert_eq!(text.parse::<NetworkRule>().unwrap().to_string(), text);
        }
        for text in ["", "a b", "https://example.com", "*.*.x", "1.2.3.4/33", "example.com:0", "::1"] {
            assert!(text.parse::<NetworkRule>().is_err(), "{text}");
        }
        let told = |text: &str| text.parse::<NetworkRule>().unwrap_err().to_string();
        assert!(told("https://example.com/a").contains("without `https://`"));
        assert!(told("::1").contains("IPv6") && told("10.0.0.1/8").contains("no other bit"));
    }

    #[test]
    fn groups_have_plain_names() {
        assert!("python-packages_2".parse::<NetworkGroup>().is_ok());
        for text in ["", "a.b", "a b", &"x".repeat(64)] {
            assert!(text.parse::<NetworkGroup>().is_err(), "{text}");
        }
    }
}
