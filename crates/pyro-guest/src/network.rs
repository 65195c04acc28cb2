//! The network card, where the machine has one. Everything behind it is the host's: the gateway answers names, and lets out what it may.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr};

use pyro_proto::v1::Connection;
use pyro_sys::device::{LinkAddress, configure_link};

use crate::log;

/// What the kernel calls the first card.
const LINK: &str = "eth0";
/// The connections of both families of sockets; those of IPv6 may be to IPv4 addresses, too.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// `TCP_ESTABLISHED` of `net/tcp_states.h`. In every other state the kernel itself sends something sooner or later, or the program will.
const ESTABLISHED: &str = "01";
/// More are not told of. Programs that have so many have time limits, too.
const CONNECTIONS_MAX: usize = 1000;

/// Gives the card its address and makes it the way out. One that has them is left as it is.
pub(crate) fn configure(link: LinkAddress) -> io::Result<()> {
    // Before it is up: the kernel would send IPv6 solicitations, which nobody answers.
    let switch = format!("/proc/sys/net/ipv6/conf/{LINK}/disable_ipv6");
    if let Err(error) = std::fs::write(&switch, "1") {
        log::line(&format!("cannot write `{switch}`: {error}"));
    }
    configure_link(LINK, link)
}

/// Returns the open connections from an address of the card.
pub(crate) fn connections(from: Ipv4Addr) -> Vec<Connection> {
    let lines = TABLES.into_iter().filter_map(|table| match File::open(table) {
        Ok(file) => Some(BufReader::new(file).lines().map_while(Result::ok)),
        // A kernel without IPv6 has one table.
        Err(_) => None,
    });
    lines.flatten().filter_map(|line| connection(&line, from)).take(CONNECTIONS_MAX).collect()
}

/// Reads a line of a table: number, own end, other end, state and more (Documentation/networking/proc_net_tcp.rst).
fn connection(line: &str, from: Ipv4Addr) -> Option<Connection> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let ((own, guest_port), (address, port)) = (end(words.next()?)?, end(words.next()?)?);
    let open = words.next()? == ESTABLISHED && own == from;
    open.then(|| Connection { guest_port: guest_port.into(), address: address.to_bits(), port: port.into() })
}

/// Reads `ADDRESS:PORT`: the port is a number, the address its words of 32 bits as they lie in memory.
fn end(text: &str) -> Option<(Ipv4Addr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (to, at) in bytes.chunks_exact_mut(4).zip((0..32).step_by(8)) {
                to.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).to_ipv4_mapped()?
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn open_connections_of_both_families_are_found() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let by_ipv4 = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let _accepted = listener.accept().unwrap();
        let found = connections(Ipv4Addr::LOCALHOST);
        let own = by_ipv4.local_addr().unwrap().port();
        let expected = |guest_port: u16, port: u16| Connection {
            guest_port: guest_port.into(),
            address: Ipv4Addr::LOCALHOST.to_bits(),
            port: port.into(),
        };
        // One end is a socket of each family.
        assert!(found.contains(&expected(own, port)) && found.contains(&expected(port, own)), "{found:?}");
        assert!(connections(Ipv4Addr::new(192, 0, 2, 77)).is_empty());
    }

    #[test]
    fn lines_that_are_no_connection_are_passed_over() {
        let line = "0: 0100007F:A2B4 0200007F:0050 01 00000000:00000000";
        assert_eq!(
            connection(line, Ipv4Addr::LOCALHOST),
            Some(Connection { guest_port: 0xa2b4, address: Ipv4Addr::new(127, 0, 0, 2).to_bits(), port: 80 })
        );
        for line in
            ["", "  sl  local_address rem_address   st", "0: 0100007F:A2B4", "0: 0100:A2B4 0200007F:0050 01", &line.replace(" 01 ", " 06 ")]
        {
            assert_eq!(connection(line, Ipv4Addr::LOCALHOST), None, "{line}");
        }
    }
}
