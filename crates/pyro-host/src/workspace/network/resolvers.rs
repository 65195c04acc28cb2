//! Which resolvers a guest's questions are forwarded to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the host's resolvers stand: see resolv.conf(5).
const FILE: &str = "/etc/resolv.conf";
/// `MAXNS` of resolv.conf(5).
const RESOLVERS_MAX: usize = 3;
const DNS_PORT: u16 = 53;

/// Returns the configured resolvers, else the host's own.
pub(super) fn of_host(configured: &[SocketAddr]) -> Vec<SocketAddr> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    let named = named(&std::fs::read_to_string(FILE).unwrap_or_default());
    // What the C library asks where the file names none.
    if named.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))] } else { named }
}

fn named(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    addresses.take(RESOLVERS_MAX).map(|address| SocketAddr::new(address, DNS_PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_name_servers_count() {
        let text = "# nameserver 192.0.2.9\nsearch lan\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # x\nnameserver nonsense\noptions edns0\n\
                    nameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"].map(|address| address.parse::<SocketAddr>().unwrap());
        assert_eq!(named(text), expected);
        assert_eq!(of_host(&expected[..1]), expected[..1]);
    }
}
