//! Data through the stack: whole, both ways, at the pace of the slower end, and to the end that each side chooses.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener};

use kit::guest::Broken;
use kit::{DEADLINE, World, servers};
use pyro_egress::{Configuration, End, Event};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const BODY_BYTES: usize = 10 * 1024 * 1024;

fn body() -> Vec<u8> {
    (0..BODY_BYTES as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn closed(world: &World) -> (u64, u64, End) {
    let event = world.event(|event| matches!(event, Event::Closed { .. }));
    let Event::Closed { sent_bytes, received_bytes, end, .. } = event else { unreachable!("filtered") };
    (sent_bytes, received_bytes, end)
}

fn check_download(configuration: Configuration) {
    let server = servers::tcp(LOOPBACK, |mut stream| stream.write_all(&body()).unwrap());
    let (world, mut guest) = World::start(configuration, kit::world::policy(&["127.0.0.1"]));
    let connection = guest.connect(server).unwrap();
    let received = guest.receive_to_end(connection).unwrap();
    guest.close(connection);
    assert!(received == body(), "{} bytes", received.len());
    guest.until(|_| Some(()));
    assert_eq!(closed(&world), (0, BODY_BYTES as u64, End::Finished));
}

#[test]
fn ten_megabytes_arrive_in_the_guest() {
    check_download(Configuration::default());
}

#[test]
fn ten_megabytes_arrive_in_large_frames() {
    check_download(Configuration { mtu_bytes: 65_520, ..Configuration::default() });
}

#[test]
fn ten_megabytes_leave_the_guest() {
    let (server, streams) = servers::told(LOOPBACK);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let connection = guest.connect(server).unwrap();
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    });
    guest.send(connection, &body()).unwrap();
    guest.close(connection);
    assert!(guest.receive_to_end(connection).unwrap().is_empty());
    assert!(reader.join().unwrap() == body());
    assert_eq!(closed(&world), (BODY_BYTES as u64, 0, End::Finished));
}

#[test]
fn an_echo_runs_both_ways_at_once() {
    let server = servers::tcp(LOOPBACK, servers::echo);
    let (_world, mut guest) = World::allowing(&["127.0.0.1"]);
    let connection = guest.connect(server).unwrap();
    let body = body();
    let (mut sent, mut received) = (0, Vec::new());
    guest.until(|guest| {
        let socket = guest.tcp(connection);
        sent += socket.send_slice(&body[sent..]).unwrap();
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
        }
        (received.len() == body.len()).then_some(())
    });
    assert!(received == body);
}

#[test]
fn a_client_that_says_half_a_line_and_listens_is_not_held_up() {
    let server = servers::tcp(LOOPBACK, servers::echo);
    let (_world, mut guest) = World::allowing(&["127.0.0.1"]);
    let start = std::time::Instant::now();
    let connection = guest.connect(server).unwrap();
    guest.send(connection, b"hello").unwrap();
    assert_eq!(guest.receive(connection, 5).unwrap(), b"hello");
    assert!(start.elapsed() < kit::guest::AT_ONCE);
}

#[test]
fn a_half_closed_guest_still_hears() {
    let server = servers::tcp(LOOPBACK, |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(&[b"heard ", request.as_slice()].concat()).unwrap();
    });
    let (_world, mut guest) = World::allowing(&["127.0.0.1"]);
    let connection = guest.connect(server).unwrap();
    guest.send(connection, b"\0question").unwrap();
    guest.close(connection);
    assert_eq!(guest.receive_to_end(connection).unwrap(), b"heard \0question");
}

#[test]
fn a_half_closed_server_still_hears() {
    let (server, streams) = servers::told(LOOPBACK);
    let (_world, mut guest) = World::allowing(&["127.0.0.1"]);
    let connection = guest.connect(server).unwrap();
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(guest.receive_to_end(connection).unwrap().is_empty());
    guest.send(connection, b"\0last words").unwrap();
    guest.close(connection);
    guest.poll();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"\0last words");
}

#[test]
fn a_server_that_does_not_read_stops_the_guest_and_costs_bounded_memory() {
    let (server, streams) = servers::told(LOOPBACK);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let connection = guest.connect(server).unwrap();
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    let body = body();
    // Until nothing has moved for a while: the guest's own buffer is full, as is everything behind it.
    let (mut sent, mut still) = (0, 0);
    guest.until(|guest| {
        let count = guest.tcp(connection).send_slice(&body[sent..]).unwrap();
        sent += count;
        still = if count == 0 { still + 1 } else { 0 };
        (still == 50).then_some(())
    });
    assert!(sent < body.len(), "the host's sockets take some megabytes at most");
    assert!(world.counters().buffer_bytes <= 2 * 256 * 1024);
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    });
    guest.send(connection, &body[sent..]).unwrap();
    guest.close(connection);
    assert!(guest.receive_to_end(connection).unwrap().is_empty());
    assert!(reader.join().unwrap() == body);
}

#[test]
fn a_guest_that_does_not_read_stops_the_server() {
    let (server, streams) = servers::told(LOOPBACK);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let connection = guest.dial_with(server, 20_000);
    guest.established(connection).unwrap();
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    // More than the host's sockets take, less than a guest with a small buffer is slow with.
    let part = 6 * 1024 * 1024;
    let writer = std::thread::spawn(move || stream.write_all(&body()[..part]));
    guest.until(|guest| (guest.tcp(connection).recv_queue() == 20_000).then_some(()));
    assert!(!writer.is_finished());
    assert!(world.counters().buffer_bytes <= 2 * 256 * 1024);
    assert!(guest.receive_to_end(connection).unwrap() == body()[..part]);
    writer.join().unwrap().unwrap();
}

#[test]
fn resets_pass_both_ways() {
    let (server, streams) = servers::told(LOOPBACK);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    let connection = guest.connect(server).unwrap();
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    guest.abort(connection);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(closed(&world).2, End::ResetByGuest);

    let connection = guest.connect(server).unwrap();
    let stream = streams.recv_timeout(DEADLINE).unwrap();
    guest.send(connection, b"\0never read").unwrap();
    guest.until(|_| (stream.peek(&mut [0]).unwrap() == 1).then_some(()));
    // Closing with data unread is a reset.
    drop(stream);
    guest.broken(connection);
    assert_eq!(closed(&world).2, End::ResetByPeer);
    assert_eq!(world.counters().tcp_flows, 0);
}

#[test]
fn a_refused_port_looks_refused() {
    let unused = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    assert_eq!(guest.connect(SocketAddrV4::new(LOOPBACK, port)), Err(Broken::Reset));
    let Event::Unreachable { cause, .. } = world.event(|event| matches!(event, Event::Unreachable { .. })) else {
        unreachable!("filtered")
    };
    assert_eq!(cause, std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn datagrams_are_echoed_and_closed_ports_told() {
    let server = servers::udp(SocketAddrV4::new(LOOPBACK, 0), |datagram| vec![datagram.to_vec(), b"twice".to_vec()]);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    guest.send_datagram(5000, server, b"ping");
    assert_eq!(guest.expect_datagram(server, 5000), b"ping");
    assert_eq!(guest.expect_datagram(server, 5000), b"twice");
    assert_eq!(world.counters().udp_associations, 1);
    let unused = std::net::UdpSocket::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap().port();
    guest.send_datagram(5001, SocketAddrV4::new(LOOPBACK, unused), b"anybody?");
    assert_eq!(guest.expect_unreachable(LOOPBACK), 3);
}

#[test]
fn the_end_of_a_stack_is_the_end_of_its_connections() {
    let (server, streams) = servers::told(LOOPBACK);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    guest.connect(server).unwrap();
    let mut stream = streams.recv_timeout(DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    drop(world);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn many_short_connections_leave_nothing() {
    let server = servers::tcp(LOOPBACK, servers::echo);
    let (world, mut guest) = World::allowing(&["127.0.0.1"]);
    for round in 0..700_u32 {
        let connection = guest.connect(server).unwrap();
        guest.send(connection, &round.to_be_bytes()).unwrap();
        assert_eq!(guest.receive(connection, 4).unwrap(), round.to_be_bytes());
        guest.close(connection);
        assert!(guest.receive_to_end(connection).unwrap().is_empty());
    }
    guest.until(|_| (world.counters().tcp_flows == 0).then_some(()));
    assert_eq!(world.counters().buffer_bytes, 0);
}
