//! How fast the stack is: bytes per second each way and connections per second, printed.
//!
//! ```text
//! cargo run --release -p pyro-egress --example throughput [MTU]
//! ```
//!
//! smoltcp plays the guest on a thread of its own, so the figures are those of two TCP stacks and a server on the machine's cores, and a
//! lower bound for ours. Beside them stands what the same bytes cost over a loopback socket alone.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and one that fails has nothing to say")]

#[path = "../tests/kit/mod.rs"]
mod kit;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use kit::{Guest, World, servers};
use pyro_egress::Configuration;

const TRANSFER_BYTES: usize = 512 * 1024 * 1024;
const CONNECTIONS: u32 = 5000;
const CHUNK_BYTES: usize = 256 * 1024;

fn main() {
    let mtu_bytes = std::env::args().nth(1).map_or(1500, |text| text.parse().unwrap());
    println!("mtu {mtu_bytes}");
    let source = servers::tcp(Ipv4Addr::LOCALHOST, |mut stream| {
        let chunk = vec![7; CHUNK_BYTES];
        for _ in 0..TRANSFER_BYTES / CHUNK_BYTES {
            stream.write_all(&chunk).unwrap();
        }
    });
    let sink = servers::tcp(Ipv4Addr::LOCALHOST, |mut stream| {
        let mut chunk = vec![0; CHUNK_BYTES];
        while stream.read(&mut chunk).unwrap_or(0) > 0 {}
        // The guest's clock stops when this arrives.
        let _ = stream.write_all(b"x");
    });
    let echo = servers::tcp(Ipv4Addr::LOCALHOST, servers::echo);
    let configuration = Configuration { mtu_bytes, ..Configuration::default() };
    let (_world, mut guest) = World::start(configuration, kit::world::policy(&["127.0.0.1"]));
    say("to the guest", download(&mut guest, source));
    say("from the guest", upload(&mut guest, sink));
    say("loopback alone", loopback(source));
    let elapsed = connections(&mut guest, echo);
    println!("connections     {:8.0} /s, one after the other, with a byte each way", f64::from(CONNECTIONS) / elapsed.as_secs_f64());
}

fn say(what: &str, elapsed: Duration) {
    println!("{what:15} {:8.0} MB/s", TRANSFER_BYTES as f64 / 1e6 / elapsed.as_secs_f64());
}

fn download(guest: &mut Guest, source: SocketAddrV4) -> Duration {
    let connection = guest.connect(source).unwrap();
    let start = Instant::now();
    let mut received = 0;
    guest.until(|guest| {
        guest.seen.clear();
        let socket = guest.tcp(connection);
        while socket.can_recv() {
            received += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        (received == TRANSFER_BYTES).then_some(())
    });
    guest.close(connection);
    start.elapsed()
}

fn upload(guest: &mut Guest, sink: SocketAddrV4) -> Duration {
    let connection = guest.connect(sink).unwrap();
    let start = Instant::now();
    let chunk = vec![7; CHUNK_BYTES];
    let mut left = TRANSFER_BYTES;
    guest.until(|guest| {
        guest.seen.clear();
        while left > 0 {
            let count = guest.tcp(connection).send_slice(&chunk[..left.min(CHUNK_BYTES)]).unwrap();
            if count == 0 {
                return None;
            }
            left -= count;
        }
        Some(())
    });
    guest.close(connection);
    assert_eq!(guest.receive_to_end(connection).unwrap(), b"x");
    start.elapsed()
}

fn loopback(source: SocketAddrV4) -> Duration {
    let mut stream = TcpStream::connect(source).unwrap();
    let start = Instant::now();
    let mut chunk = vec![0; CHUNK_BYTES];
    while stream.read(&mut chunk).unwrap() > 0 {}
    start.elapsed()
}

fn connections(guest: &mut Guest, echo: SocketAddrV4) -> Duration {
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        guest.seen.clear();
        let connection = guest.dial_with(echo, 4096);
        guest.established(connection).unwrap();
        guest.send(connection, b"\0").unwrap();
        assert_eq!(guest.receive(connection, 1).unwrap(), b"\0");
        guest.close(connection);
        guest.receive_to_end(connection).unwrap();
        guest.forget(connection);
    }
    start.elapsed()
}
