//! Why something was refused, and the narrowest rule that would have allowed it.

use std::fmt;

use super::address::AddressClass;
use super::name::Name;
use super::rule::Rule;

/// A refusal, as events, logs and the body of a 403 tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the refusal rests on.
    pub reason: Reason,
    /// The narrowest rule that would allow it; none where no rule of the allow-list can.
    pub suggestion: Option<Rule>,
}

/// What a refusal rests on. `Display` gives a clause without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The address is one of those that only a rule for the address itself opens.
    AddressClass(AddressClass),
    /// A deny rule covers it, whatever the allow-list says.
    Denied(Rule),
    /// There is an allow-list, and neither the address nor a name that lately had it is on it.
    AddressNotListed,
    /// There is an allow-list, and the name is not on it.
    NameNotListed(Name),
    /// The address is allowed through a name, and the connection does not say which name it is for.
    NameNotVisible,
    /// The address is allowed through a name, and the TLS handshake encrypts the name it is for.
    NameEncrypted,
    /// The address is allowed through a name, and the protocol can hide which name it is for.
    NameNotCheckable,
    /// The name is no host name: odd characters, or an address written as a name.
    NotAName,
    /// What stands before an allowed wildcard's suffix is longer than hosts' names are.
    NameTooLong(Name),
    /// Too many different names below one wildcard in too short a time.
    TooManyNames(Name),
    /// The question is of a kind that no client of ours needs.
    KindNotServed,
    /// As many connections of this kind are open as may be.
    TooMany(&'static str),
    /// What was sent is not what the protocol allows.
    Malformed,
    /// The gateway serves DHCP, DNS and echo, and nothing else.
    NotServed,
    /// The host refuses to pass such packets on for an ordinary user.
    HostCannot,
}

impl Refusal {
    /// Returns a refusal that no allow rule changes.
    #[must_use]
    pub const fn final_word(reason: Reason) -> Self {
        Self { reason, suggestion: None }
    }

    /// Returns a refusal that `suggestion` would lift.
    #[must_use]
    pub const fn until(reason: Reason, suggestion: Rule) -> Self {
        Self { reason, suggestion: Some(suggestion) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressClass(class) => write!(formatter, "{class} addresses are refused unless a rule names them"),
            Self::Denied(rule) => write!(formatter, "the deny rule `{rule}` covers it"),
            Self::AddressNotListed => write!(formatter, "the allow-list names neither this address nor a name that resolved to it"),
            Self::NameNotListed(name) => write!(formatter, "the allow-list does not cover `{name}`"),
            Self::NameNotVisible => write!(formatter, "the connection does not say which allowed name it is for"),
            Self::NameEncrypted => write!(formatter, "the connection encrypts the name it is for"),
            Self::NameNotCheckable => write!(formatter, "the protocol can hide which name it is for"),
            Self::NotAName => write!(formatter, "this is not a host name"),
            Self::NameTooLong(_) => write!(formatter, "the part before the wildcard's suffix is too long"),
            Self::TooManyNames(suffix) => write!(formatter, "too many different names below `{suffix}`"),
            Self::KindNotServed => write!(formatter, "questions of this kind are not answered"),
            Self::TooMany(what) => write!(formatter, "too many {what}"),
            Self::Malformed => write!(formatter, "malformed"),
            Self::NotServed => write!(formatter, "the gateway serves only DHCP, DNS and echo"),
            Self::HostCannot => write!(formatter, "the host does not pass it on"),
        }
    }
}
