//! The kit's own world: what stories rest on when they say that something was refused.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket},
    time::Duration,
};

use pyro_tests::world::{Answer, ECHO_PORT, ELSEWHERE, HOST, HOST_PORT, LAN, METADATA, NOWHERE, OUTSIDE, PUBLIC_RESOLVER, ROUTER, World};

fn exchange(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect((OUTSIDE, port)).expect("it is served");
    stream.write_all(request.as_bytes()).expect("it reads");
    stream.shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it ends");
    String::from_utf8_lossy(&answer).into_owned()
}

fn ask(server: Ipv4Addr, name: &str) -> Vec<u8> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("there are ports");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("it has one");
    socket.connect((server, 53)).expect("there is a way");
    let labels: Vec<u8> = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    socket.send(&[&[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &labels, &[0, 0, 1, 0, 1]].concat()).expect("it goes out");
    let mut reply = vec![0; 600];
    let count = socket.recv(&mut reply).expect("it is answered");
    reply.truncate(count);
    reply
}

#[test]
fn the_world_serves_every_address_and_sees_all_that_comes() {
    let before = std::fs::read_link("/proc/thread-self/ns/net").expect("Linux has them");
    let Some(world) = World::new() else { return };
    let at = |address, port| SocketAddrV4::new(address, port);
    world.assert_within_the_hosts_reach(&[
        at(OUTSIDE, 80),
        at(ELSEWHERE, 443),
        at(LAN, 8000),
        at(METADATA, 80),
        at(PUBLIC_RESOLVER, 53),
        at(Ipv4Addr::LOCALHOST, HOST_PORT),
        at(HOST, HOST_PORT),
    ]);
    assert!(TcpStream::connect((OUTSIDE, 81)).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused));
    assert!(TcpStream::connect((NOWHERE, 80)).is_err_and(|error| error.kind() == std::io::ErrorKind::HostUnreachable));
    assert_eq!(exchange(ECHO_PORT, "hello"), "hellobye");
    let greeting = exchange(80, "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n");
    assert!(greeting.ends_with("hello from api.test by HTTP/1.1\n"), "{greeting}");
    let slow = exchange(80, "GET /slow HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n");
    assert!(slow.contains("piece 4"), "{slow}");
    world.names().set("api.test", Answer::addresses(&[OUTSIDE]));
    assert!(ask(ROUTER, "api.test").ends_with(&OUTSIDE.octets()));
    assert!(ask(PUBLIC_RESOLVER, "no.test")[3] == 0x83, "there is no such name");
    assert_eq!(world.names().asked(), ["api.test", "no.test"]);
    world.settle();
    assert_eq!(world.connections()[..2], [at(OUTSIDE, ECHO_PORT), at(OUTSIDE, 80)]);
    assert!(world.watch().packets_but_to(&[OUTSIDE, ROUTER, PUBLIC_RESOLVER]).iter().all(|packet| packet.destination == NOWHERE));
    world.watch().assert_nothing_strange();
    drop(world);
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").expect("Linux has them"), before, "the thread is back");
}

#[test]
fn a_host_with_a_folder_serves_what_lies_in_it_and_nothing_else() {
    let Some(world) = World::new() else { return };
    let folder = tempfile::tempdir().expect("there is room");
    let (served, outside) = (folder.path().join("served"), folder.path().join("outside"));
    std::fs::create_dir(&served).expect("there is room");
    std::fs::write(served.join("index.html"), "an index").expect("there is room");
    std::fs::write(served.join("file"), "a file").expect("there is room");
    std::fs::write(&outside, "not served").expect("there is room");
    world.serve("files.test", &served);
    world.redirect("old.test", "https://files.test");
    let get = |host: &str, path: &str| exchange(80, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    for (path, body) in [("/file", "a file"), ("/./file", "a file"), ("/", "an index")] {
        let answer = get("files.test", path);
        let length = format!("content-length: {}\r\n", body.len());
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&length) && answer.ends_with(body), "{path}: {answer}");
    }
    let absolute = format!("/{}", outside.display());
    for path in ["/none", "/../outside", "/x/../../outside", "/%2e%2e/outside", &absolute] {
        let answer = get("files.test", path);
        assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("not served"), "{path}: {answer}");
    }
    let answer = get("old.test", "/file");
    assert!(answer.starts_with("HTTP/1.1 302 ") && answer.contains("location: https://files.test/file\r\n"), "{answer}");
    assert!(get("files.test:80", "/file").ends_with("a file"), "a client may name the port");
    assert!(get("other.test", "/file").ends_with("hello from other.test by HTTP/1.1\n"));
}

#[test]
fn the_probe_tells_what_it_meets() {
    let Some(world) = World::new() else { return };
    world.names().set("api.test", Answer::addresses(&[OUTSIDE]));
    world
        .names()
        .set("long.test", Answer::addresses(&[OUTSIDE, ELSEWHERE]).through(&["a.test", "b.test"]).for_seconds(90_000).only_by_stream());
    world.names().set("note.test", Answer::text("hello"));
    let tries = [
        ("tcp 203.0.113.9 7", "open"),
        ("tcp 203.0.113.9 7 hello", "got hello"),
        ("tcp 203.0.113.9 81", "ECONNREFUSED"),
        ("tcp 198.51.100.250 7", "EHOSTUNREACH"),
        ("half 203.0.113.9 7 hello", "got hellobye"),
        ("udp 203.0.113.9 7 hello", "got hello"),
        ("udp 203.0.113.9 8 hello", "ECONNREFUSED"),
        ("ping 203.0.113.9", "pong"),
        ("ask api.test A 192.0.2.1", "NOERROR 203.0.113.9"),
        ("ask no.test A 192.0.2.1", "NXDOMAIN"),
        ("ask note.test TXT 8.8.8.8", "NOERROR hello"),
        ("ask long.test A 192.0.2.1", "NOERROR TRUNCATED"),
        ("ask long.test A 192.0.2.1 tcp", "NOERROR kind5 ttl=90000 kind5 ttl=90000 203.0.113.9 ttl=90000 198.51.100.7 ttl=90000"),
        ("http 203.0.113.9 80 api.test /", "200 hello from api.test by HTTP/1.1 (32 bytes, sum 2644)"),
        ("http 203.0.113.9 80 api.test /bytes/200000", "200 00000000xxxxxxxx"),
        ("post 203.0.113.9 80 api.test 100000", "200 abcdefghij"),
        ("ws 203.0.113.9 80 api.test hello", "got hello"),
        ("h2 203.0.113.9 80 api.test", "frame 1 first byte 88"),
        ("hold 203.0.113.9 7 held", "held"),
    ];
    let folder = tempfile::tempdir().expect("there is room");
    let mut command = std::process::Command::new("perl");
    command.args(["-"]).args(tries.map(|(try_, _)| try_)).current_dir(folder.path());
    let probe = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/src/world/probe.pl")).expect("it is there");
    let output = command.stdin(probe).stderr(std::process::Stdio::inherit()).output().expect("perl is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    for ((try_, expected), line) in tries.iter().zip(said.lines()) {
        println!("{try_}: {line}");
        assert!(line.starts_with(expected), "{try_}: {line}");
    }
    assert_eq!(said.lines().count(), tries.len());
}
