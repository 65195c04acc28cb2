//! The policy itself: rules in, verdicts out.
//!
//! Deny rules win over everything. Then come the refused addresses (`address.rs`), which only a rule for an address inside the refused
//! network opens: `10.0.0.0/8` opens private addresses, `0.0.0.0/0` and names do not, so no DNS answer and no broad rule leads inside.
//! A host's own address and a metadata service need a rule for exactly that address. What is left is open unless there is an allow-list;
//! then an address rule, or a name that lately resolved to the address, must cover it. What an address was reached by a name for is
//! checked against the name the connection shows ([`Policy::judge_visible`]).

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::address::{AddressClass, refused_class};
use super::name::Name;
use super::refusal::{Reason, Refusal};
use super::rule::{Rule, Target};

/// What a connection is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo.
    Echo,
}

/// Why something is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// There is no allow-list and nothing refuses it.
    Open,
    /// A rule names the address.
    Address(Rule),
    /// A rule names a name that lately resolved to the address.
    Name {
        /// The rule.
        rule: Rule,
        /// The name.
        name: Name,
    },
}

/// The name that the first bytes of a connection show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisibleName {
    /// TLS: the server name, if there is one in the clear, and whether the real one may be encrypted beside it.
    Tls {
        /// The name in the clear.
        server_name: Option<Name>,
        /// Whether the hello has an encrypted part.
        encrypted: bool,
    },
    /// HTTP/1: every name that the request says it is for; none if one of them is missing or no name.
    Http {
        /// The names of the request line and of the `Host` header.
        names: Vec<Name>,
    },
    /// Neither.
    Other,
}

/// On these ports a connection that shows no name is refused where only a name allows its address: other names of a shared front
/// end would be reachable by it, and its honest clients show one.
const NAME_SHOWING_PORTS: [u16; 2] = [80, 443];

/// What may leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    host_addresses: HashSet<Ipv4Addr>,
    only_allowed: bool,
}

/// Linux connects what is dialled as 0.0.0.0 to the loopback: no rule that names it can have meant that.
const fn is_this_host(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0
}

fn refused_by_default(class: AddressClass, address: Ipv4Addr, port: Option<u16>) -> Refusal {
    let reason = Reason::AddressClass(class);
    if is_this_host(address) { Refusal::final_word(reason) } else { Refusal::until(reason, Rule::for_address(address, port)) }
}

impl Policy {
    /// Returns the policy of these rules; their order does not matter. One allow rule makes it an allow-list.
    #[must_use]
    pub fn new(allow: Vec<Rule>, deny: Vec<Rule>, host_addresses: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        Self { only_allowed: !allow.is_empty(), allow, deny, host_addresses: host_addresses.into_iter().collect() }
    }

    /// Says whether only what a rule allows may be reached, whatever rules there are: none allows nothing, and those of an open policy open
    /// inner addresses beside it.
    #[must_use]
    pub const fn with_only_allowed(mut self, only_allowed: bool) -> Self {
        self.only_allowed = only_allowed;
        self
    }

    /// Returns the allow rules.
    #[must_use]
    pub fn allow(&self) -> &[Rule] {
        &self.allow
    }

    /// Returns the deny rules.
    #[must_use]
    pub fn deny(&self) -> &[Rule] {
        &self.deny
    }

    /// Returns whether only what a rule names may be reached.
    #[must_use]
    pub const fn is_allow_list(&self) -> bool {
        self.only_allowed
    }

    /// Judges a question for a name, before it leaves the host. Returns the rule that allows it, if there is an allow-list.
    ///
    /// # Errors
    ///
    /// Refuses names that are denied on every port, and names that no rule names.
    pub fn judge_question(&self, name: &Name) -> Result<Option<&Rule>, Refusal> {
        if let Some(rule) = self.deny.iter().find(|rule| rule.ports.are_any() && rule.names(name)) {
            return Err(Refusal::final_word(Reason::Denied(rule.clone())));
        }
        if !self.is_allow_list() {
            return Ok(None);
        }
        // The exact rule first: it is judged by no budget.
        let mut rules: Vec<&Rule> = self.allow.iter().filter(|rule| rule.names(name)).collect();
        rules.sort_by_key(|rule| matches!(rule.target, Target::Below(_)));
        rules.first().map(|rule| Some(*rule)).ok_or_else(|| {
            let suggestion = Rule { target: Target::Name(name.clone()), ports: super::Ports::ANY };
            Refusal::until(Reason::NameNotListed(name.clone()), suggestion)
        })
    }

    /// Returns whether an address may stand in an answer: one that could not be dialled anyway does not reach the guest.
    ///
    /// # Errors
    ///
    /// Refuses addresses that are denied on every port, and those refused by default that no rule names.
    pub fn judge_answer(&self, address: Ipv4Addr) -> Result<(), Refusal> {
        let covers = |rule: &&Rule| rule.network().is_some_and(|network| network.contains(address));
        if let Some(rule) = self.deny.iter().filter(covers).find(|rule| rule.ports.are_any()) {
            return Err(Refusal::final_word(Reason::Denied(rule.clone())));
        }
        match self.default_refusal(address) {
            Some(class) if !self.allow.iter().any(|rule| self.opens(rule, address)) => Err(refused_by_default(class, address, None)),
            _ => Ok(()),
        }
    }

    /// Judges a connection by the address it goes to; `names` are those that lately resolved to it, the latest last.
    ///
    /// # Errors
    ///
    /// Refuses with the narrowest rule that would allow it.
    pub fn judge_dial(&self, protocol: Protocol, address: Ipv4Addr, port: Option<u16>, names: &[Name]) -> Result<Grant, Refusal> {
        let at_address = |rule: &&Rule| rule.covers_port(port) && rule.network().is_some_and(|network| network.contains(address));
        // An echo request has no port, so a deny rule for some ports does not mean it.
        if let Some(rule) = self.deny.iter().find(at_address) {
            return Err(Refusal::final_word(Reason::Denied(rule.clone())));
        }
        // An address may have many names, and a front end's honest clients must not suffer for a denied one; the name shown decides.
        if let Some(rule) = names.last().and_then(|name| self.denying(name, port))
            && names.iter().all(|name| self.denying(name, port).is_some())
        {
            return Err(Refusal::final_word(Reason::Denied(rule.clone())));
        }
        let by_address = self.allow.iter().filter(at_address);
        if let Some(class) = self.default_refusal(address) {
            return by_address
                .clone()
                .find(|rule| self.opens(rule, address))
                .map(|rule| Grant::Address(rule.clone()))
                .ok_or_else(|| refused_by_default(class, address, port));
        }
        if !self.is_allow_list() {
            return Ok(Grant::Open);
        }
        if let Some(rule) = by_address.clone().next() {
            return Ok(Grant::Address(rule.clone()));
        }
        let by_name = names.iter().rev().filter(|name| self.denying(name, port).is_none()).find_map(|name| {
            let rule = self.allow.iter().find(|rule| rule.covers_port(port) && rule.names(name))?;
            Some(Grant::Name { rule: rule.clone(), name: name.clone() })
        });
        match by_name {
            Some(_) if protocol == Protocol::Udp && port.is_some_and(|port| NAME_SHOWING_PORTS.contains(&port)) => {
                // QUIC: clients fall back to TCP, where the name shows.
                Err(Refusal::until(Reason::NameNotCheckable, Rule::for_address(address, port)))
            }
            Some(grant) => Ok(grant),
            None => Err(match (names.last(), port) {
                (Some(name), Some(port)) => Refusal::until(Reason::NameNotListed(name.clone()), Rule::for_name(name.clone(), port)),
                _ => Refusal::until(Reason::AddressNotListed, Rule::for_address(address, port)),
            }),
        }
    }

    /// Judges a TCP connection by the name its first bytes show. Returns the name it is for, if it shows one.
    ///
    /// # Errors
    ///
    /// Refuses names that are denied and, where only a name opened the address, connections that are not visibly for an allowed one.
    pub fn judge_visible(&self, grant: &Grant, address: Ipv4Addr, port: u16, visible: &VisibleName) -> Result<Option<Name>, Refusal> {
        let shown: &[Name] = match visible {
            VisibleName::Tls { server_name, .. } => server_name.as_slice(),
            VisibleName::Http { names } => names,
            VisibleName::Other => &[],
        };
        if let Some(rule) = shown.iter().find_map(|name| self.denying(name, Some(port))) {
            return Err(Refusal::final_word(Reason::Denied(rule.clone())));
        }
        // Where names are denied, a handshake that shows none could be for one of them.
        let hides = matches!(visible, VisibleName::Tls { server_name: None, .. });
        let names_denied = self.deny.iter().any(|rule| rule.network().is_none() && rule.covers_port(Some(port)));
        if *grant == Grant::Open && hides && names_denied {
            return Err(Refusal::until(Reason::NameNotVisible, Rule::for_address(address, Some(port))));
        }
        let Grant::Name { name, .. } = grant else { return Ok(shown.first().cloned()) };
        let by_address = |reason| Err(Refusal::until(reason, Rule::for_address(address, Some(port))));
        match visible {
            VisibleName::Tls { encrypted: true, .. } => return by_address(Reason::NameEncrypted),
            VisibleName::Tls { server_name: None, .. } => return by_address(Reason::NameNotVisible),
            VisibleName::Http { names } if names.is_empty() => return by_address(Reason::NameNotVisible),
            VisibleName::Other if NAME_SHOWING_PORTS.contains(&port) => return by_address(Reason::NameNotVisible),
            VisibleName::Other => return Ok(Some(name.clone())),
            VisibleName::Tls { .. } | VisibleName::Http { .. } => {}
        }
        let listed = |name: &&Name| self.allow.iter().any(|rule| rule.covers_port(Some(port)) && rule.names(name));
        match shown.iter().find(|name| !listed(name)) {
            Some(name) => Err(Refusal::until(Reason::NameNotListed(name.clone()), Rule::for_name(name.clone(), port))),
            None => Ok(shown.first().cloned()),
        }
    }

    /// Returns whether the name that a connection shows can change what is thought of it.
    #[must_use]
    pub fn depends_on_name(&self, grant: &Grant) -> bool {
        matches!(grant, Grant::Name { .. }) || self.deny.iter().any(|rule| rule.network().is_none())
    }

    fn denying(&self, name: &Name, port: Option<u16>) -> Option<&Rule> {
        self.deny.iter().find(|rule| rule.covers_port(port) && rule.names(name))
    }

    fn default_refusal(&self, address: Ipv4Addr) -> Option<AddressClass> {
        let own = self.host_addresses.contains(&address).then_some(AddressClass::HostOwn);
        refused_class(address).map(|(class, _)| class).or(own)
    }

    // Whether an allow rule was written with the refused address in mind.
    fn opens(&self, rule: &Rule, address: Ipv4Addr) -> bool {
        if is_this_host(address) {
            return false;
        }
        let Some(network) = rule.network().filter(|network| network.contains(address)) else { return false };
        match refused_class(address) {
            // All of 127.0.0.0/8 is the host, so a rule for some of it means the host.
            Some((AddressClass::Loopback, refused)) => refused.covers(network),
            _ if self.host_addresses.contains(&address) => network.is_single(),
            Some((_, refused)) => refused.covers(network),
            None => true,
        }
    }
}
