//! Which hosts a secret may be sent to.

use std::fmt;
use std::str::FromStr;

use pyro_egress::policy::{Name, Ports, Rule, RuleError, Target};

/// A name or a wildcard, and ports; `FromStr` reads `api.example.com`, `*.example.org` and both with `:PORT`, and takes no port for 443.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(Rule);

/// Why a text is not a [`HostPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields are")]
pub enum HostPatternError {
    #[error("a secret is bound to a host by a name or a wildcard")]
    Rule(#[source] RuleError),
    #[error("a secret cannot be bound to `{text}`: certificates are checked by name, so it needs one")]
    Address { text: String },
}

impl HostPattern {
    /// Returns whether a secret with this pattern may be sent to a host that goes by this name, at this port.
    #[must_use]
    pub fn covers(&self, name: &Name, port: u16) -> bool {
        self.0.names(name) && self.0.covers_port(Some(port))
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let mut rule: Rule = text.parse().map_err(HostPatternError::Rule)?;
        match &rule.target {
            Target::Name(_) | Target::Below(_) => {}
            Target::Network(_) => return Err(HostPatternError::Address { text: rule.to_string() }),
        }
        if rule.ports.are_any() {
            rule.ports = Ports::single(443);
        }
        Ok(Self(rule))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_its_names_at_its_ports() {
        let check = |pattern: &str, name: &str, port: u16, expected: bool| {
            let pattern: HostPattern = pattern.parse().unwrap();
            assert_eq!(pattern.covers(&name.parse().unwrap(), port), expected, "{pattern} {name} {port}");
        };
        check("api.example.com", "api.example.com", 443, true);
        check("api.example.com", "api.example.com", 8443, false);
        check("api.example.com:8443", "api.example.com", 8443, true);
        check("api.example.com", "example.com", 443, false);
        check("*.example.com", "a.b.example.com", 443, true);
        check("*.example.com", "example.com", 443, false);
    }

    #[test]
    fn an_address_is_no_pattern() {
        for text in ["203.0.113.7", "10.0.0.0/8:443"] {
            assert!(matches!(text.parse::<HostPattern>(), Err(HostPatternError::Address { .. })), "{text}");
        }
        assert!(matches!("https://a.example".parse::<HostPattern>(), Err(HostPatternError::Rule(_))));
    }
}
