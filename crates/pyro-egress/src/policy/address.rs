//! Which IPv4 addresses are refused unless a rule names them, and the networks that rules name.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network in prefix notation; its host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: Ipv4Addr,
    prefix_bits: u8,
}

/// Why a text is not a [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum NetworkError {
    #[error("an address has four numbers from 0 to 255, such as 192.0.2.7")]
    BadAddress,
    #[error("a prefix is a number from 0 to 32")]
    BadPrefix,
    #[error("this is an address within the network `{network}`: name one or the other")]
    HostBits { network: Network },
}

impl Network {
    /// Returns the network of one address.
    #[must_use]
    pub const fn single(address: Ipv4Addr) -> Self {
        Self { address, prefix_bits: 32 }
    }

    const fn literal(first: [u8; 4], prefix_bits: u8) -> Self {
        Self { address: Ipv4Addr::new(first[0], first[1], first[2], first[3]), prefix_bits }
    }

    /// Returns whether the address lies in the network.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix_bits) == self.address.to_bits()
    }

    /// Returns whether all of `other` lies in this network.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix_bits <= other.prefix_bits && self.contains(other.address)
    }

    /// Returns whether the network is one address.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.prefix_bits == 32
    }
}

const fn mask(prefix_bits: u8) -> u32 {
    match prefix_bits {
        0 => 0,
        bits => u32::MAX << (32 - bits as u32),
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: Ipv4Addr = address.parse().map_err(|_| NetworkError::BadAddress)?;
        let prefix_bits = match prefix {
            None => 32,
            // `parse` takes a sign and leading zeros, which would not round-trip.
            Some(digits) if digits.starts_with(['+', '-']) || (digits.len() > 1 && digits.starts_with('0')) => {
                return Err(NetworkError::BadPrefix);
            }
            Some(digits) => digits.parse::<u8>().ok().filter(|bits| *bits <= 32).ok_or(NetworkError::BadPrefix)?,
        };
        let network = Self { address: Ipv4Addr::from_bits(address.to_bits() & mask(prefix_bits)), prefix_bits };
        if network.address == address { Ok(network) } else { Err(NetworkError::HostBits { network }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix_bits {
            32 => write!(formatter, "{}", self.address),
            bits => write!(formatter, "{}/{bits}", self.address),
        }
    }
}

/// Why an address is refused unless a rule names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// A metadata service of a cloud.
    Metadata,
    /// 127.0.0.0/8: the host itself.
    Loopback,
    /// 0.0.0.0/8: Linux takes it for the host itself.
    Unspecified,
    /// 169.254.0.0/16.
    LinkLocal,
    /// 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16.
    Private,
    /// 100.64.0.0/10: a carrier's private network.
    CarrierGrade,
    /// 198.18.0.0/15.
    Benchmarking,
    /// 192.0.0.0/24 and 240.0.0.0/4.
    Reserved,
    /// 224.0.0.0/4.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// An address of the host, as the configuration lists them.
    HostOwn,
}

impl fmt::Display for AddressClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Metadata => "metadata service",
            Self::Loopback => "loopback",
            Self::Unspecified => "unspecified",
            Self::LinkLocal => "link-local",
            Self::Private => "private",
            Self::CarrierGrade => "carrier-grade NAT",
            Self::Benchmarking => "benchmarking",
            Self::Reserved => "reserved",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::HostOwn => "host's own",
        })
    }
}

// First match wins, so the single addresses stand before the networks around them. Documentation networks (RFC 5737) are left out on
// purpose: some sites route them. 168.63.129.16 is public space, but what answers there is the host's own cloud platform.
const REFUSED: [(Network, AddressClass); 16] = [
    (Network::literal([169, 254, 169, 254], 32), AddressClass::Metadata),
    (Network::literal([100, 100, 100, 200], 32), AddressClass::Metadata),
    (Network::literal([168, 63, 129, 16], 32), AddressClass::Metadata),
    (Network::literal([192, 0, 0, 192], 32), AddressClass::Metadata),
    (Network::literal([255, 255, 255, 255], 32), AddressClass::Broadcast),
    (Network::literal([127, 0, 0, 0], 8), AddressClass::Loopback),
    (Network::literal([0, 0, 0, 0], 8), AddressClass::Unspecified),
    (Network::literal([169, 254, 0, 0], 16), AddressClass::LinkLocal),
    (Network::literal([10, 0, 0, 0], 8), AddressClass::Private),
    (Network::literal([172, 16, 0, 0], 12), AddressClass::Private),
    (Network::literal([192, 168, 0, 0], 16), AddressClass::Private),
    (Network::literal([100, 64, 0, 0], 10), AddressClass::CarrierGrade),
    (Network::literal([198, 18, 0, 0], 15), AddressClass::Benchmarking),
    (Network::literal([192, 0, 0, 0], 24), AddressClass::Reserved),
    (Network::literal([224, 0, 0, 0], 4), AddressClass::Multicast),
    (Network::literal([240, 0, 0, 0], 4), AddressClass::Reserved),
];

/// Returns why an address is refused unless named, and the refused network it lies in.
#[must_use]
pub fn refused_class(address: Ipv4Addr) -> Option<(AddressClass, Network)> {
    REFUSED.iter().find(|(network, _)| network.contains(address)).map(|(network, class)| (*class, *network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_fall_into_their_class() {
        let check = |text: &str, expected: Option<AddressClass>| {
            assert_eq!(refused_class(text.parse().unwrap()).map(|(class, _)| class), expected, "{text}");
        };
        check("169.254.169.254", Some(AddressClass::Metadata));
        check("169.254.0.1", Some(AddressClass::LinkLocal));
        check("127.255.255.254", Some(AddressClass::Loopback));
        check("0.0.0.0", Some(AddressClass::Unspecified));
        check("0.1.2.3", Some(AddressClass::Unspecified));
        check("10.255.255.255", Some(AddressClass::Private));
        check("11.0.0.0", None);
        check("172.15.255.255", None);
        check("172.16.0.0", Some(AddressClass::Private));
        check("172.31.255.255", Some(AddressClass::Private));
        check("172.32.0.0", None);
        check("192.168.1.1", Some(AddressClass::Private));
        check("100.64.0.0", Some(AddressClass::CarrierGrade));
        check("100.100.100.200", Some(AddressClass::Metadata));
        check("100.128.0.0", None);
        check("198.18.0.1", Some(AddressClass::Benchmarking));
        check("198.20.0.1", None);
        check("192.0.0.8", Some(AddressClass::Reserved));
        check("224.0.0.251", Some(AddressClass::Multicast));
        check("239.255.255.255", Some(AddressClass::Multicast));
        check("240.0.0.1", Some(AddressClass::Reserved));
        check("255.255.255.254", Some(AddressClass::Reserved));
        check("255.255.255.255", Some(AddressClass::Broadcast));
        check("168.63.129.16", Some(AddressClass::Metadata));
    }

    #[test]
    fn documentation_networks_are_real_somewhere() {
        for text in ["203.0.113.9", "198.51.100.9", "192.0.2.9"] {
            assert_eq!(refused_class(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn networks_round_trip_and_say_what_is_wrong() {
        for text in ["10.0.0.5", "10.0.0.0/8", "0.0.0.0/0", "192.0.2.4/30"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.5/32".parse::<Network>().unwrap().to_string(), "10.0.0.5");
        assert_eq!("10.0.0.256".parse::<Network>(), Err(NetworkError::BadAddress));
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::BadPrefix));
        assert_eq!("10.0.0.0/08".parse::<Network>(), Err(NetworkError::BadPrefix));
        assert_eq!("10.0.0.0/".parse::<Network>(), Err(NetworkError::BadPrefix));
        assert_eq!("10.0.0.5/8".parse::<Network>(), Err(NetworkError::HostBits { network: "10.0.0.0/8".parse().unwrap() }));
    }
}
