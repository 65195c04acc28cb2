//! The host's own addresses, which are refused like those of its networks.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::error::EgressError;

/// The kernel's table of routes; its local entries are the addresses of this network namespace. A file, so neither netlink nor `unsafe`
/// is needed (`man 5 proc_pid_net` names it, `net/ipv4/fib_trie.c` writes it).
const ROUTES: &str = "/proc/self/net/fib_trie";

/// Reads the addresses that the host has now. They change, so read them again before a policy is made.
///
/// # Errors
///
/// Fails if the kernel's table cannot be read.
pub fn host_addresses() -> Result<BTreeSet<Ipv4Addr>, EgressError> {
    let table = std::fs::read_to_string(ROUTES).map_err(|source| EgressError::HostAddresses { path: ROUTES, source })?;
    Ok(local_addresses(&table))
}

// An address stands on a line of its own (`|-- 192.0.2.2`), its kinds on those below (`/32 host LOCAL`).
fn local_addresses(table: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut current: Option<Ipv4Addr> = None;
    for line in table.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            current = address.parse().ok();
        } else if line.ends_with("host LOCAL") {
            found.extend(current);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_told_from_networks_and_broadcasts() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n        \
                     |-- 192.0.2.2\n           /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\n";
        assert_eq!(local_addresses(table), BTreeSet::from([Ipv4Addr::new(192, 0, 2, 2)]));
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        assert!(host_addresses().unwrap().contains(&Ipv4Addr::LOCALHOST));
    }
}
