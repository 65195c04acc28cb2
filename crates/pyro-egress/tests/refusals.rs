//! The red team: a guest that is root and wants out, and the readable way in which it is told no.
//!
//! Everything it must not reach is really there and listens, so that a hole shows.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use kit::guest::{AT_ONCE, Broken};
use kit::names::{A_TYPE, address, addresses, asked, question, reply};
use kit::namespace::{ELSEWHERE, INSIDE, OUTSIDE, in_namespace};
use kit::tls::{ENCRYPTED_HELLO, extension, hello};
use kit::world::{policy, rules};
use kit::{DEADLINE, Guest, World, servers};
use pyro_egress::policy::{AddressClass, Policy, Reason};
use pyro_egress::{Configuration, End, Event, Interceptor, OpenedFlow};
use tokio::net::UnixStream;

const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A world whose resolver says that every name is at `OUTSIDE`.
fn world(policy: Policy) -> (World, Guest) {
    world_with(Configuration::default(), policy)
}

fn world_with(configuration: Configuration, policy: Policy) -> (World, Guest) {
    let answer = |question: &[u8]| vec![reply(question, &[address(&asked(question).0, OUTSIDE)])];
    let resolver = servers::udp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), answer);
    World::start(Configuration { resolvers: vec![resolver.into()], ..configuration }, policy)
}

/// The world of `api.example`, whose address the guest has asked for.
fn world_of_api() -> (World, Guest) {
    let (world, mut guest) = world(policy(&["api.example"]));
    look_up(&mut guest, "api.example");
    (world, guest)
}

fn look_up(guest: &mut Guest, name: &str) {
    let gateway = guest.gateway;
    assert_eq!(addresses(&guest.ask(gateway, &question(name, A_TYPE))), [OUTSIDE]);
}

fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

fn refusal(world: &World) -> (String, Option<String>) {
    let Event::Refused { refusal, .. } = world.event(|event| matches!(event, Event::Refused { .. })) else { unreachable!("filtered") };
    (refusal.reason.to_string(), refusal.suggestion.map(|rule| rule.to_string()))
}

/// A server that tells of every connection and what came by it.
fn listening(address: SocketAddrV4) -> mpsc::Receiver<Vec<u8>> {
    let (told, heard) = mpsc::channel();
    let told = Arc::new(Mutex::new(told));
    servers::tcp_at(address, move |mut stream| {
        let mut received = Vec::new();
        // A reset is as good an end as any.
        let _ = stream.read_to_end(&mut received);
        let _ = told.lock().unwrap().send(received);
    });
    heard
}

fn get(guest: &mut Guest, destination: SocketAddrV4, host: &str) -> String {
    let connection = guest.connect(destination).unwrap();
    guest.send(connection, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
    let answer = guest.receive_to_end(connection).unwrap();
    guest.close(connection);
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_listed_name_is_reached_and_named_in_events() {
    in_namespace("a_listed_name_is_reached_and_named_in_events", || {
        servers::tcp_at(at(OUTSIDE, 80), servers::http);
        let (world, mut guest) = world_of_api();
        assert!(get(&mut guest, at(OUTSIDE, 80), "api.example").ends_with("ok"));
        let Event::Opened { name, allowed_by, .. } = world.event(|event| matches!(event, Event::Opened { .. })) else {
            unreachable!("filtered")
        };
        assert_eq!((name.unwrap().as_str(), allowed_by.unwrap().to_string().as_str()), ("api.example", "api.example"));
        let Event::Closed { end, .. } = world.event(|event| matches!(event, Event::Closed { .. })) else { unreachable!("filtered") };
        assert_eq!(end, End::Finished);
    });
}

#[test]
fn an_address_without_a_name_is_refused_at_once_and_readably() {
    in_namespace("an_address_without_a_name_is_refused_at_once_and_readably", || {
        let heard = [listening(at(OUTSIDE, 443)), listening(at(OUTSIDE, 80)), listening(at(ELSEWHERE, 443)), listening(at(ELSEWHERE, 853))];
        let (world, mut guest) = world(policy(&["api.example"]));
        let start = Instant::now();
        assert_eq!(guest.connect(at(OUTSIDE, 443)), Err(Broken::Reset));
        let listed = "the allow-list names neither this address nor a name that resolved to it";
        assert_eq!(refusal(&world), (listed.into(), Some("203.0.113.1:443".into())));
        let answer = get(&mut guest, at(OUTSIDE, 80), "203.0.113.1");
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        let way_out = "To allow it: pyro workspace network allow WORKSPACE 203.0.113.1:80\n";
        assert!(answer.ends_with(&format!("Pyro refused this request: {listed}.\n{way_out}")), "{answer}");
        // Resolvers by HTTPS and TLS are addresses like any other.
        look_up(&mut guest, "api.example");
        assert_eq!(guest.connect(at(ELSEWHERE, 443)), Err(Broken::Reset));
        assert_eq!(guest.connect(at(ELSEWHERE, 853)), Err(Broken::Reset));
        assert!(start.elapsed() < AT_ONCE);
        guest.settle();
        assert!(heard.iter().all(|heard| heard.try_recv().is_err()));
    });
}

#[test]
fn another_name_on_a_listed_address_gets_nothing_out() {
    in_namespace("another_name_on_a_listed_address_gets_nothing_out", || {
        let (http, tls) = (listening(at(OUTSIDE, 80)), listening(at(OUTSIDE, 443)));
        let (world, mut guest) = world_of_api();
        let answer = get(&mut guest, at(OUTSIDE, 80), "evil.test");
        assert!(answer.contains("403") && answer.contains("network allow WORKSPACE evil.test:80"), "{answer}");
        assert_eq!(refusal(&world), ("the allow-list does not cover `evil.test`".into(), Some("evil.test:80".into())));
        assert!(http.recv_timeout(DEADLINE).unwrap().is_empty());

        let check = |guest: &mut Guest, hello: Vec<u8>, reason: &str| {
            for step in [hello.len(), 7] {
                let connection = guest.connect(at(OUTSIDE, 443)).unwrap();
                for part in hello.chunks(step) {
                    // It may be refused before the last part.
                    if guest.send(connection, part).is_err() {
                        break;
                    }
                }
                guest.broken(connection);
                assert_eq!(refusal(&world).0, reason);
                assert!(tls.recv_timeout(DEADLINE).unwrap().is_empty());
            }
        };
        check(&mut guest, hello(Some("evil.test"), &[], 16_384), "the allow-list does not cover `evil.test`");
        check(&mut guest, hello(Some("evil.test"), &[], 40), "the allow-list does not cover `evil.test`");
        check(&mut guest, hello(None, &[], 16_384), "the connection does not say which allowed name it is for");
        let encrypted = extension(ENCRYPTED_HELLO, &[0; 80]);
        check(&mut guest, hello(Some("api.example"), &encrypted, 16_384), "the connection encrypts the name it is for");
        check(&mut guest, b"\0tunnel".to_vec(), "the connection does not say which allowed name it is for");
    });
}

#[test]
fn a_name_that_is_never_finished_is_no_name() {
    in_namespace("a_name_that_is_never_finished_is_no_name", || {
        let (http, tls) = (listening(at(OUTSIDE, 80)), listening(at(OUTSIDE, 443)));
        let (world, mut guest) = world_of_api();
        let hello = hello(Some("api.example"), &[], 16_384);
        for (port, half) in [(443, &hello[..hello.len() - 1]), (80, b"GET / HTTP/1.1\r\nHost: api.example\r\n")] {
            let connection = guest.connect(at(OUTSIDE, port)).unwrap();
            guest.send(connection, half).unwrap();
            guest.close(connection);
            assert!(guest.receive_to_end(connection).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 403")) == (port == 80));
            assert_eq!(refusal(&world).0, "the connection does not say which allowed name it is for");
        }
        assert!(http.recv_timeout(DEADLINE).unwrap().is_empty() && tls.recv_timeout(DEADLINE).unwrap().is_empty());
    });
}

#[test]
fn an_opening_that_takes_too_long_is_judged_as_it_is() {
    in_namespace("an_opening_that_takes_too_long_is_judged_as_it_is", || {
        let (tls, plain) = (listening(at(OUTSIDE, 443)), listening(at(OUTSIDE, 2525)));
        let (_world, mut guest) = world_of_api();
        let (stalled, slow) = (guest.connect(at(OUTSIDE, 443)).unwrap(), guest.connect(at(OUTSIDE, 2525)).unwrap());
        guest.send(stalled, &[22, 3, 1]).unwrap();
        // A mail client that is typed by hand, perhaps.
        guest.send(slow, &[200]).unwrap();
        guest.broken(stalled);
        guest.close(slow);
        assert!(tls.recv_timeout(DEADLINE).unwrap().is_empty());
        assert_eq!(plain.recv_timeout(DEADLINE).unwrap(), [200]);
    });
}

#[test]
fn a_hello_for_the_listed_name_passes_whole() {
    in_namespace("a_hello_for_the_listed_name_passes_whole", || {
        let tls = listening(at(OUTSIDE, 443));
        let (_world, mut guest) = world_of_api();
        let hello = hello(Some("api.example"), &[], 50);
        let connection = guest.connect(at(OUTSIDE, 443)).unwrap();
        for part in hello.chunks(11) {
            guest.send(connection, part).unwrap();
        }
        guest.send(connection, b"and more").unwrap();
        guest.close(connection);
        assert_eq!(tls.recv_timeout(DEADLINE).unwrap(), [&hello[..], b"and more"].concat());
    });
}

#[test]
fn the_inside_is_not_reached_whatever_the_list_says_in_general() {
    in_namespace("the_inside_is_not_reached_whatever_the_list_says_in_general", || {
        let inner = [INSIDE, METADATA, Ipv4Addr::LOCALHOST];
        let heard: Vec<_> = inner.iter().flat_map(|inner| [listening(at(*inner, 80)), listening(at(*inner, 5432))]).collect();
        let own = listening(at(ELSEWHERE, 22));
        for allow in [&[][..], &["0.0.0.0/0", "*.test"]] {
            let (world, mut guest) = world(Policy::new(rules(allow), Vec::new(), [ELSEWHERE]));
            for inner in inner {
                assert_eq!(guest.connect(at(inner, 5432)), Err(Broken::Reset));
                let is = |event: &Event| matches!(event, Event::Refused { destination, .. } if *destination == at(inner, 5432));
                let Event::Refused { refusal, .. } = world.event(is) else { unreachable!("filtered") };
                assert!(matches!(refusal.reason, Reason::AddressClass(_)), "{}", refusal.reason);
                assert_eq!(refusal.suggestion.unwrap().to_string(), format!("{inner}:5432"));
                assert!(get(&mut guest, at(inner, 80), "metadata.test").contains("403"));
                guest.send_datagram(800, at(inner, 5353), b"anybody?");
                assert_eq!(guest.expect_unreachable(inner), 13);
            }
            assert_eq!(guest.connect(at(ELSEWHERE, 22)), Err(Broken::Reset));
            let own = |event: &Event| matches!(event, Event::Refused { refusal, .. } if refusal.reason == Reason::AddressClass(AddressClass::HostOwn));
            world.event(own);
            // Linux takes these for itself.
            assert_eq!(guest.connect(at(Ipv4Addr::new(0, 0, 0, 1), 5432)), Err(Broken::Reset));
            assert_eq!(guest.connect(at(Ipv4Addr::new(127, 9, 9, 9), 5432)), Err(Broken::Reset));
        }
        assert!(heard.iter().all(|heard| heard.try_recv().is_err()) && own.try_recv().is_err());
    });
}

#[test]
fn a_rule_for_the_inside_opens_it() {
    in_namespace("a_rule_for_the_inside_opens_it", || {
        servers::tcp_at(at(INSIDE, 5432), servers::echo);
        let (world, mut guest) = world(policy(&["10.0.0.5:5432"]));
        let connection = guest.connect(at(INSIDE, 5432)).unwrap();
        guest.send(connection, b"\0query").unwrap();
        assert_eq!(guest.receive(connection, 6).unwrap(), b"\0query");
        assert_eq!(guest.connect(at(INSIDE, 22)), Err(Broken::Reset));
        assert_eq!(refusal(&world).1.unwrap(), "10.0.0.5:22");
    });
}

#[test]
fn datagrams_go_where_the_list_allows() {
    in_namespace("datagrams_go_where_the_list_allows", || {
        let time = servers::udp(at(OUTSIDE, 123), |datagram| vec![datagram.to_vec()]);
        let quic = servers::udp(at(OUTSIDE, 443), |datagram| vec![datagram.to_vec()]);
        let (world, mut guest) = world(policy(&["time.example"]));
        guest.send_datagram(900, time, b"what time?");
        assert_eq!(guest.expect_unreachable(OUTSIDE), 13);
        look_up(&mut guest, "time.example");
        guest.send_datagram(900, time, b"what time?");
        assert_eq!(guest.expect_datagram(time, 900), b"what time?");
        guest.send_datagram(901, quic, b"hidden name");
        assert_eq!(guest.expect_unreachable(OUTSIDE), 13);
        let hidden = |event: &Event| matches!(event, Event::Refused { refusal, .. } if refusal.reason == Reason::NameNotCheckable);
        world.event(hidden);
        assert_eq!(world.set_policy(policy(&["203.0.113.1:443"])), 1);
        assert_eq!(world.counters().udp_associations, 0);
        guest.send_datagram(900, time, b"what time now?");
        assert_eq!(guest.expect_unreachable(OUTSIDE), 13);
        guest.send_datagram(901, quic, b"by address");
        assert_eq!(guest.expect_datagram(quic, 901), b"by address");
    });
}

#[test]
fn a_changed_policy_resets_what_it_refuses_and_leaves_the_rest() {
    in_namespace("a_changed_policy_resets_what_it_refuses_and_leaves_the_rest", || {
        servers::tcp_at(at(OUTSIDE, 7000), servers::echo);
        servers::tcp_at(at(ELSEWHERE, 7000), servers::echo);
        let (world, mut guest) = world(policy(&[]));
        let (one, other) = (guest.connect(at(OUTSIDE, 7000)).unwrap(), guest.connect(at(ELSEWHERE, 7000)).unwrap());
        for connection in [one, other] {
            guest.send(connection, b"\0before").unwrap();
            assert_eq!(guest.receive(connection, 7).unwrap(), b"\0before");
        }
        assert_eq!(world.set_policy(policy(&["203.0.113.2"])), 1);
        guest.broken(one);
        assert_eq!(refusal(&world).1.unwrap(), "203.0.113.1:7000");
        let Event::Closed { end, sent_bytes, received_bytes, .. } = world.event(|event| matches!(event, Event::Closed { .. })) else {
            unreachable!("filtered")
        };
        assert_eq!((end, sent_bytes, received_bytes), (End::Refused, 7, 7));
        guest.send(other, b"\0after").unwrap();
        assert_eq!(guest.receive(other, 6).unwrap(), b"\0after");
        assert_eq!(guest.connect(at(OUTSIDE, 7000)), Err(Broken::Reset));
        assert_eq!(world.set_policy(Policy::new(Vec::new(), rules(&["203.0.113.2:7000"]), [])), 1);
        guest.broken(other);
        assert!(guest.connect(at(OUTSIDE, 7000)).is_ok());
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once_and_still_judged() {
    in_namespace("a_server_that_speaks_first_is_heard_at_once_and_still_judged", || {
        let (told, heard) = mpsc::channel();
        let told = Arc::new(Mutex::new(told));
        servers::tcp_at(at(OUTSIDE, 22), move |mut stream| {
            stream.write_all(b"SSH-2.0-server\r\n").unwrap();
            let mut received = Vec::new();
            let _ = stream.read_to_end(&mut received);
            let _ = told.lock().unwrap().send(received);
        });
        let (world, mut guest) = world_of_api();
        let start = Instant::now();
        let connection = guest.connect(at(OUTSIDE, 22)).unwrap();
        assert_eq!(guest.receive(connection, 16).unwrap(), b"SSH-2.0-server\r\n");
        guest.send(connection, b"SSH-2.0-client with words\r\n").unwrap();
        guest.close(connection);
        assert_eq!(heard.recv_timeout(DEADLINE).unwrap(), b"SSH-2.0-client with words\r\n");
        assert!(start.elapsed() < AT_ONCE);

        let connection = guest.connect(at(OUTSIDE, 22)).unwrap();
        assert_eq!(guest.receive(connection, 16).unwrap(), b"SSH-2.0-server\r\n");
        guest.send(connection, &hello(Some("evil.test"), &[], 16_384)).unwrap();
        guest.broken(connection);
        assert_eq!(refusal(&world).1.unwrap(), "evil.test:22");
        assert!(heard.recv_timeout(DEADLINE).unwrap().is_empty());
    });
}

#[test]
fn denied_names_are_refused_where_they_show() {
    in_namespace("denied_names_are_refused_where_they_show", || {
        let heard = listening(at(OUTSIDE, 80));
        let (_world, mut guest) = world(Policy::new(Vec::new(), rules(&["*.ads.test"]), []));
        let gateway = guest.gateway;
        assert_eq!(kit::names::rcode(&guest.ask(gateway, &question("x.ads.test", A_TYPE))), domain::base::iana::Rcode::NXDOMAIN);
        let answer = get(&mut guest, at(OUTSIDE, 80), "x.ads.test");
        assert!(answer.contains("the deny rule `*.ads.test` covers it.\nNo allow rule changes this.\n"), "{answer}");
        assert!(heard.recv_timeout(DEADLINE).unwrap().is_empty());
    });
}

#[test]
fn echo_passes_where_it_may() {
    in_namespace("echo_passes_where_it_may", || {
        let (world, mut guest) = world(policy(&[]));
        let send = |guest: &mut Guest, destination| {
            let mut request = vec![8, 0, 0, 0, 0x77, 0x66, 0, 5, b'p', b'i', b'n', b'g'];
            let sum = !smoltcp::wire::checksum::data(&request);
            request[2..4].copy_from_slice(&sum.to_be_bytes());
            guest.send_packet(destination, smoltcp::wire::IpProtocol::Icmp, &request);
        };
        send(&mut guest, OUTSIDE);
        let reply = guest.expect_frame(|frame| {
            let packet = kit::guest::packet_of(frame, smoltcp::wire::IpProtocol::Icmp).filter(|packet| packet.src_addr() == OUTSIDE)?;
            Some(packet.payload().to_vec())
        });
        assert_eq!((reply[0], &reply[4..]), (0, &[0x77, 0x66, 0, 5, b'p', b'i', b'n', b'g'][..]));
        send(&mut guest, INSIDE);
        assert_eq!(guest.expect_unreachable(INSIDE), 13);
        assert_eq!(world.counters().echo_associations, 1);
    });
}

#[test]
fn what_the_host_cannot_reach_is_unreachable() {
    in_namespace("what_the_host_cannot_reach_is_unreachable", || {
        let nowhere = Ipv4Addr::new(198, 51, 100, 7);
        let (world, mut guest) = world(policy(&[]));
        guest.dial(at(nowhere, 443));
        assert_eq!(guest.expect_unreachable(nowhere), 0);
        let Event::Unreachable { cause, .. } = world.event(|event| matches!(event, Event::Unreachable { .. })) else {
            unreachable!("filtered")
        };
        assert_eq!(cause, std::io::ErrorKind::NetworkUnreachable);
    });
}

/// Ends connections to port 8000 itself, and passes on what it hears in upper case.
#[derive(Debug)]
struct Shouting;

impl Interceptor for Shouting {
    fn wants(&self, flow: &OpenedFlow) -> bool {
        flow.destination.port() == 8000
    }

    fn serve(&self, _: OpenedFlow, mut guest: UnixStream, mut upstream: tokio::net::TcpStream) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        tokio::spawn(async move {
            let mut heard = Vec::new();
            guest.read_to_end(&mut heard).await.unwrap();
            upstream.write_all(&heard.to_ascii_uppercase()).await.unwrap();
            upstream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            upstream.read_to_end(&mut answer).await.unwrap();
            guest.write_all(&answer).await.unwrap();
        });
    }
}

#[test]
fn an_interceptor_stands_between() {
    in_namespace("an_interceptor_stands_between", || {
        let say_back = |mut stream: TcpStream| {
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            stream.write_all(&[b"heard ", heard.as_slice()].concat()).unwrap();
            stream.shutdown(Shutdown::Both).unwrap();
        };
        servers::tcp_at(at(OUTSIDE, 8000), say_back);
        servers::tcp_at(at(OUTSIDE, 8001), say_back);
        let configuration = Configuration { interceptor: Some(Arc::new(Shouting)), ..Configuration::default() };
        let (_world, mut guest) = world_with(configuration, policy(&[]));
        for (port, expected) in [(8000, &b"heard \0WORDS"[..]), (8001, b"heard \0words")] {
            let connection = guest.connect(at(OUTSIDE, port)).unwrap();
            guest.send(connection, b"\0words").unwrap();
            guest.close(connection);
            assert_eq!(guest.receive_to_end(connection).unwrap(), expected);
        }
    });
}
