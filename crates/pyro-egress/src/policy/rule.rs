//! One rule: a name, a wildcard, an address or a network, and the ports it is about.
//!
//! ```text
//! api.example.com        *.example.org        10.0.0.5        10.0.0.0/8
//! api.example.com:443    *.example.org:1-1023                 10.0.0.0/8:5432
//! ```

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::address::{Network, NetworkError};
use super::name::{Name, NameError};

/// The longest text that is looked at as a rule: a name, a wildcard's star, two ports.
const RULE_LENGTH_MAX: usize = 300;

/// What a rule names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Exactly this name.
    Name(Name),
    /// Every name below this one, at any depth, but not the name itself.
    Below(Name),
    /// Every address of this network.
    Network(Network),
}

/// A range of ports, both ends within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Every port, and what has none, such as an echo request.
    pub const ANY: Self = Self { first: 0, last: u16::MAX };

    /// Returns the range of one port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Returns whether the port is in the range.
    #[must_use]
    pub const fn contain(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Returns whether this is [`Ports::ANY`].
    #[must_use]
    pub fn are_any(&self) -> bool {
        *self == Self::ANY
    }
}

/// One rule, the same for allowing and denying. `Display` and `FromStr` are each other's inverse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// What the rule names.
    pub target: Target,
    /// The ports it is about.
    pub ports: Ports,
}

/// Why a text is not a [`Rule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields are")]
pub enum RuleError {
    #[error("a rule cannot be empty")]
    Empty,
    #[error("a rule holds at most {RULE_LENGTH_MAX} characters")]
    TooLong,
    #[error("`{text}` is not a rule: name a host, not a URL")]
    Url { text: String },
    #[error("`{text}` is not a rule: workspaces have no IPv6")]
    Ipv6 { text: String },
    #[error("`{text}` is not a rule: a star stands only for whole leading labels, as in *.example.org")]
    Star { text: String },
    #[error("`{text}` is not a rule: ports are numbers from 1 to 65535, as in :443 or :8000-8100")]
    Ports { text: String },
    #[error("`{text}` is not a rule")]
    Name { text: String, source: NameError },
    #[error("`{text}` is not a rule")]
    Network { text: String, source: NetworkError },
}

impl Rule {
    /// Returns the rule for one name and port: the narrowest that allows a connection by name.
    #[must_use]
    pub const fn for_name(name: Name, port: u16) -> Self {
        Self { target: Target::Name(name), ports: Ports::single(port) }
    }

    /// Returns the rule for one address and port, or for the whole address where there are no ports.
    #[must_use]
    pub const fn for_address(address: Ipv4Addr, port: Option<u16>) -> Self {
        let ports = match port {
            Some(port) => Ports::single(port),
            None => Ports::ANY,
        };
        Self { target: Target::Network(Network::single(address)), ports }
    }

    /// Returns whether the rule names this name, whatever the port.
    #[must_use]
    pub fn names(&self, name: &Name) -> bool {
        match &self.target {
            Target::Name(own) => own == name,
            Target::Below(suffix) => name.is_below(suffix),
            Target::Network(_) => false,
        }
    }

    /// Returns whether all that this rule is about, `other` is about, too. A name is never within a network, nor the other way round.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let target = match (&self.target, &other.target) {
            (Target::Name(own), _) => other.names(own),
            (Target::Below(own), Target::Below(suffix)) => own == suffix || own.is_below(suffix),
            (Target::Network(own), Target::Network(network)) => network.covers(own),
            (Target::Below(_) | Target::Network(_), _) => false,
        };
        target && other.ports.first <= self.ports.first && self.ports.last <= other.ports.last
    }

    /// Returns the network the rule is about, if it is about one.
    #[must_use]
    pub const fn network(&self) -> Option<&Network> {
        match &self.target {
            Target::Network(network) => Some(network),
            Target::Name(_) | Target::Below(_) => None,
        }
    }

    /// Returns whether the rule covers a port; `None` is what has no ports, and only rules without ports cover it.
    #[must_use]
    pub fn covers_port(&self, port: Option<u16>) -> bool {
        port.map_or(self.ports.are_any(), |port| self.ports.contain(port))
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.is_empty() {
            return Err(RuleError::Empty);
        }
        if text.len() > RULE_LENGTH_MAX {
            return Err(RuleError::TooLong);
        }
        let quoted = || text.escape_debug().to_string();
        let without_prefix = text.rsplit_once('/').map_or(text, |(address, _)| address);
        if text.contains("://") {
            return Err(RuleError::Url { text: quoted() });
        }
        if text.starts_with('[') || without_prefix.parse::<Ipv6Addr>().is_ok() {
            return Err(RuleError::Ipv6 { text: quoted() });
        }
        let (host, ports) = match text.split_once(':') {
            None => (text, Ports::ANY),
            Some((host, ports)) => (host, parse_ports(ports).ok_or_else(|| RuleError::Ports { text: quoted() })?),
        };
        let target = if let Some(suffix) = host.strip_prefix("*.") {
            if suffix.contains('*') {
                return Err(RuleError::Star { text: quoted() });
            }
            Target::Below(suffix.parse().map_err(|source| RuleError::Name { text: quoted(), source })?)
        } else if host.contains('*') {
            return Err(RuleError::Star { text: quoted() });
        } else if host.contains('/') {
            if !host.starts_with(|first: char| first.is_ascii_digit()) {
                return Err(RuleError::Url { text: quoted() });
            }
            Target::Network(host.parse().map_err(|source| RuleError::Network { text: quoted(), source })?)
        } else if let Ok(network) = host.parse() {
            Target::Network(network)
        } else {
            Target::Name(host.parse().map_err(|source| RuleError::Name { text: quoted(), source })?)
        };
        Ok(Self { target, ports })
    }
}

fn parse_ports(text: &str) -> Option<Ports> {
    let parse = |digits: &str| {
        // `parse` would take a sign and leading zeros, which do not round-trip.
        if digits.starts_with(['+', '0']) {
            return None;
        }
        digits.parse::<u16>().ok()
    };
    match text.split_once('-') {
        None => parse(text).map(Ports::single),
        Some((first, last)) => {
            let (first, last) = (parse(first)?, parse(last)?);
            (first <= last).then_some(Ports { first, last })
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Name(name) => write!(formatter, "{name}")?,
            Target::Below(suffix) => write!(formatter, "*.{suffix}")?,
            Target::Network(network) => write!(formatter, "{network}")?,
        }
        match self.ports {
            Ports::ANY => Ok(()),
            Ports { first, last } if first == last => write!(formatter, ":{first}"),
            Ports { first, last } => write!(formatter, ":{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_round_trip() {
        for text in [
            "api.example.com",
            "api.example.com:443",
            "*.example.org",
            "*.example.org:8000-8100",
            "10.0.0.5",
            "10.0.0.5:5432",
            "10.0.0.0/8",
            "10.0.0.0/8:1-1023",
            "0.0.0.0/0:53",
            "localhost",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        assert_eq!("API.Example.com.:443".parse::<Rule>().unwrap().to_string(), "api.example.com:443");
    }

    #[test]
    fn what_is_no_rule_is_told_why() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<Rule>().unwrap_err();
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            assert_eq!(format!("{error}{cause}"), expected);
        };
        check("", "a rule cannot be empty");
        check("https://example.com/", "`https://example.com/` is not a rule: name a host, not a URL");
        check("example.com/path", "`example.com/path` is not a rule: name a host, not a URL");
        check("::1", "`::1` is not a rule: workspaces have no IPv6");
        check("fd00::/8", "`fd00::/8` is not a rule: workspaces have no IPv6");
        check("[::1]:80", "`[::1]:80` is not a rule: workspaces have no IPv6");
        check("*", "`*` is not a rule: a star stands only for whole leading labels, as in *.example.org");
        check("api.*.com", "`api.*.com` is not a rule: a star stands only for whole leading labels, as in *.example.org");
        for ports in ["0", "65536", "", "80-", "90-80", "+80", "http", "080"] {
            let text = format!("a.example:{ports}");
            check(&text, &format!("`{text}` is not a rule: ports are numbers from 1 to 65535, as in :443 or :8000-8100"));
        }
        check("10.0.0.5/8", "`10.0.0.5/8` is not a rule: this is an address within the network `10.0.0.0/8`: name one or the other");
        check("10.0.0.256", "`10.0.0.256` is not a rule: a name does not end in a number: that is how addresses are written");
        check(
            "a\u{1b}b",
            "`a\\u{1b}b` is not a rule: a name holds only letters, digits, hyphens, underscores and dots (write other scripts as xn--…)",
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_rule_that_round_trips_or_an_error(text in "[a-zA-Z0-9.:/*_-]{0,40}|\\PC{0,40}") {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
            }
        }

        #[test]
        fn a_network_rule_covers_what_its_bits_say(address: u32, probe: u32, bits in 0_u8..=32) {
            let mask = if bits == 0 { 0 } else { u32::MAX << (32 - u32::from(bits)) };
            let text = format!("{}/{bits}", Ipv4Addr::from_bits(address & mask));
            let rule = text.parse::<Rule>().unwrap();
            let covered = rule.network().unwrap().contains(Ipv4Addr::from_bits(probe));
            prop_assert_eq!(covered, probe & mask == address & mask);
        }
    }
}
