//! A guest that opens more than it may: everything it costs is counted, and stays where its cap is.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use kit::guest::syn;
use kit::{Guest, World, servers};
use pyro_egress::policy::Reason;
use pyro_egress::{Caps, Configuration, Event};
use smoltcp::wire::{TcpRepr, TcpSeqNumber};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const FLOOD: u16 = 10_000;
/// The guest's end keeps the frames it has seen in the same process, and the allocator keeps some of what was freed.
const GROWTH_BYTES_MAX: usize = 96 * 1024 * 1024;

fn flood(guest: &mut Guest, destination: SocketAddrV4) {
    for number in 0..FLOOD {
        let syn = TcpRepr { seq_number: TcpSeqNumber(i32::from(number)), ..syn(1024 + number, destination.port()) };
        guest.send_segment(*destination.ip(), &syn);
        if number % 100 == 0 {
            guest.settle();
            guest.seen.clear();
        }
    }
    guest.settle();
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn check_bounded(world: &World, caps: Caps, resident_before: usize) {
    let counters = world.counters();
    assert!(counters.half_open_flows <= caps.half_open_flows, "{counters:?}");
    assert!(counters.tcp_flows <= caps.half_open_flows, "{counters:?}");
    assert!(counters.half_open_evicted >= u64::from(FLOOD) / 2, "{counters:?}");
    assert!(counters.buffer_bytes <= caps.buffers_total_bytes, "{counters:?}");
    // Other tests of this binary hold some, too.
    assert!(descriptors() < 2 * (caps.tcp_flows + 100), "{}", descriptors());
    let grown = resident_bytes().saturating_sub(resident_before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown}");
}

/// A server whose queue is full after one connection or two: the host's further SYNs are not answered.
fn deaf() -> (OwnedFd, SocketAddrV4) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let server = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&server, &SocketAddrV4::new(LOOPBACK, 0)).unwrap();
    listen(&server, 0).unwrap();
    let address = SocketAddrV4::try_from(getsockname(&server).unwrap()).unwrap();
    (server, address)
}

#[test]
fn ten_thousand_connections_to_a_deaf_server_stay_bounded() {
    let (_server, address) = deaf();
    let honest = servers::tcp(LOOPBACK, servers::echo);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let before = resident_bytes();
    flood(&mut guest, address);
    check_bounded(&world, Caps::default(), before);
    let connection = guest.connect(honest).unwrap();
    guest.send(connection, b"\0still here").unwrap();
    assert_eq!(guest.receive(connection, 11).unwrap(), b"\0still here");
}

#[test]
fn ten_thousand_handshakes_that_are_never_completed_stay_bounded() {
    let honest = servers::tcp(LOOPBACK, servers::echo);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let before = resident_bytes();
    // smoltcp resets what it did not open, as any guest would; a hostile one is silent, so its answers are kept from the wire.
    guest.mute(|guest| flood(guest, honest));
    check_bounded(&world, Caps::default(), before);
    assert!(guest.connect(honest).is_ok());
}

#[test]
fn one_connection_too_many_is_reset_and_told() {
    let server = servers::tcp(LOOPBACK, servers::echo);
    let caps = Caps { tcp_flows: 20, ..Caps::default() };
    let configuration = Configuration { caps, ..Configuration::default() };
    let (world, mut guest) = World::start(configuration, kit::world::policy(&["127.0.0.1"]));
    for _ in 0..20 {
        guest.connect(server).unwrap();
    }
    assert!(guest.connect(server).is_err());
    let Event::Refused { refusal, .. } = world.event(|event| matches!(event, Event::Refused { .. })) else { unreachable!("filtered") };
    assert_eq!(refusal.reason, Reason::TooMany("connections"));
    assert_eq!(world.counters().tcp_flows, 20);
}

#[test]
fn many_connections_share_their_buffers() {
    let server = servers::tcp(LOOPBACK, servers::echo);
    let caps = Caps { buffers_total_bytes: 4 * 1024 * 1024, ..Caps::default() };
    let (world, mut guest) = World::start(Configuration { caps, ..Configuration::default() }, kit::world::policy(&["127.0.0.1"]));
    let connections: Vec<_> = (0..200)
        .map(|_| {
            let connection = guest.dial_with(server, 4096);
            guest.established(connection).unwrap()
        })
        .collect();
    assert!(world.counters().buffer_bytes <= 4 * 1024 * 1024 + 200 * 32 * 1024);
    for connection in connections {
        guest.send(connection, b"\0x").unwrap();
        assert_eq!(guest.receive(connection, 2).unwrap(), b"\0x");
    }
}

#[test]
fn a_guest_that_never_stops_sending_is_not_obeyed_before_its_owner() {
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let frame = guest.frame(0x0800, &guest.packet(guest.address, LOOPBACK, smoltcp::wire::IpProtocol::Unknown(99), &[0; 20]));
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                guest.send_frame(&frame);
            }
        });
        for _ in 0..100 {
            world.set_policy(kit::world::policy(&["127.0.0.1"]));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // Its frames may be on their way still.
    while world.counters().foreign == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn datagrams_to_everywhere_push_out_the_oldest() {
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let before = resident_bytes();
    // Without a pause: whatever is not cleaned up as fast as it is caused grows.
    for number in 0..40_000_u16 {
        guest.send_datagram(2000 + number, SocketAddrV4::new(LOOPBACK, 9), b"x");
        if number % 1000 == 0 {
            guest.poll();
            guest.seen.clear();
        }
    }
    guest.settle();
    let counters = world.counters();
    assert_eq!(counters.udp_associations, Caps::default().udp_associations);
    // Those of the last turns may still be ending.
    assert!(counters.helper_tasks < 1500, "{counters:?}");
    assert!(descriptors() < 2 * (Caps::default().tcp_flows + 100), "{}", descriptors());
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown}");
}

#[test]
fn events_that_nobody_takes_are_dropped_and_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, guests) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let configuration = Configuration { caps: Caps { events_waiting: 10, ..Caps::default() }, ..Configuration::default() };
        let mut guest = Guest::new(guests, &configuration);
        let socket = tokio::net::UnixStream::from_std(ours).unwrap();
        let (handle, mut events) = pyro_egress::start(socket, configuration, kit::world::policy(&["192.0.2.1"])).unwrap();
        let feeder = std::thread::spawn(move || {
            for port in 1..=500 {
                guest.send_datagram(port, SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 9), b"x");
            }
            guest.settle();
            guest
        });
        while !feeder.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(handle.counters().await.unwrap().events_dropped, 490);
        let mut taken = 0;
        while events.try_next().is_some() {
            taken += 1;
        }
        assert_eq!(taken, 10);
    });
}
