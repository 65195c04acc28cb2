//! The DNS proxy: what leaves the host, what comes back, and what a hostile resolver achieves.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::mpsc;
use std::time::Instant;

use domain::base::iana::Rcode;
use kit::guest::AT_ONCE;
use kit::names::{A_TYPE, AAAA_TYPE, HTTPS_TYPE, TXT_TYPE, address, addresses, alias, asked, question, rcode, record, reply, wire_name};
use kit::{Guest, World, servers};
use pyro_egress::policy::{NEW_NAMES_BURST, Policy, Reason};
use pyro_egress::{Configuration, Event, QuestionOutcome};

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// A resolver that answers every question with what `answer` makes of it, and tells of each.
fn resolver(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> (SocketAddr, mpsc::Receiver<String>) {
    let (told, questions) = mpsc::channel();
    let server = servers::udp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), move |question| {
        // A test that has seen enough no longer listens.
        let _ = told.send(asked(question).0);
        answer(question)
    });
    (server.into(), questions)
}

fn world(policy: Policy, resolvers: Vec<SocketAddr>) -> (World, Guest) {
    World::start(Configuration { resolvers, ..Configuration::default() }, policy)
}

fn answering(records: impl Fn(&str) -> Vec<Vec<u8>> + Send + 'static) -> impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static {
    move |question| vec![reply(question, &records(&asked(question).0))]
}

fn outcome(world: &World) -> QuestionOutcome {
    let Event::Question { outcome, .. } = world.event(|event| matches!(event, Event::Question { .. })) else { unreachable!("filtered") };
    outcome
}

fn ask(guest: &mut Guest, name: &str, kind: u16) -> Vec<u8> {
    let gateway = guest.gateway;
    guest.ask(gateway, &question(name, kind))
}

#[test]
fn a_name_is_answered() {
    let (server, _) = resolver(answering(|name| vec![address(name, OUTSIDE)]));
    let (world, mut guest) = world(kit::world::policy(&[]), vec![server]);
    let answer = ask(&mut guest, "api.example", A_TYPE);
    assert_eq!(addresses(&answer), [OUTSIDE]);
    assert_eq!(outcome(&world), QuestionOutcome::Answered { addresses: vec![OUTSIDE], other_records: 0, stripped: None });
    assert_eq!(world.counters().learnt_pairs, 1);
}

#[test]
fn what_a_client_has_built_in_as_its_resolver_is_ours() {
    let (server, _) = resolver(answering(|name| vec![address(name, OUTSIDE)]));
    let (world, mut guest) = world(kit::world::policy(&["api.example"]), vec![server]);
    assert_eq!(addresses(&guest.ask(Ipv4Addr::new(8, 8, 8, 8), &question("api.example", A_TYPE))), [OUTSIDE]);
    assert_eq!(rcode(&guest.ask(Ipv4Addr::new(8, 8, 8, 8), &question("evil.test", A_TYPE))), Rcode::NXDOMAIN);
    // An inner one is no resolver to the guest.
    guest.send_datagram(900, SocketAddrV4::new(Ipv4Addr::new(10, 255, 255, 53), 53), &question("api.example", A_TYPE));
    assert_eq!(guest.expect_unreachable(Ipv4Addr::new(10, 255, 255, 53)), 13);
    drop(world);
}

#[test]
fn ipv6_is_answered_empty_at_once_and_asked_of_nobody() {
    let (server, questions) = resolver(answering(|_| panic!("asked")));
    let (_world, mut guest) = world(kit::world::policy(&[]), vec![server]);
    for kind in [AAAA_TYPE, HTTPS_TYPE] {
        let answer = ask(&mut guest, "api.example", kind);
        assert_eq!((rcode(&answer), answer[7]), (Rcode::NOERROR, 0));
    }
    assert_eq!(rcode(&ask(&mut guest, "api.example", 255)), Rcode::NOTIMP);
    assert!(questions.try_recv().is_err());
}

#[test]
fn ipv6_shares_the_fate_of_the_question_beside_it() {
    // A name that fails, one that does not exist, one that leads inside, and one that is answered, each after a moment.
    let (server, questions) = resolver(|asked_now| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let name = asked(asked_now).0;
        let records = if name == "inner.test" { vec![address(&name, Ipv4Addr::LOCALHOST)] } else { vec![address(&name, OUTSIDE)] };
        let mut reply = reply(asked_now, &records);
        reply[3] |= match name.as_str() {
            "fails.test" => 2,
            "none.test" => 3,
            _ => 0,
        };
        vec![reply]
    });
    let (_world, mut guest) = world(kit::world::policy(&[]), vec![server]);
    let gateway = SocketAddrV4::new(guest.gateway, 53);
    for (port, name, expected) in [
        (2000, "fails.test", Rcode::SERVFAIL),
        (2002, "none.test", Rcode::NXDOMAIN),
        (2004, "inner.test", Rcode::NXDOMAIN),
        (2006, "good.test", Rcode::NOERROR),
    ] {
        guest.send_datagram(port, gateway, &question(name, A_TYPE));
        guest.send_datagram(port + 1, gateway, &question(name, AAAA_TYPE));
        assert_eq!(rcode(&guest.expect_datagram(gateway, port + 1)), expected, "{name}");
        assert_eq!(rcode(&guest.expect_datagram(gateway, port)), expected, "{name}");
        assert_eq!(rcode(&ask(&mut guest, name, AAAA_TYPE)), expected, "{name}, one after the other");
    }
    assert_eq!(questions.try_iter().collect::<Vec<_>>(), ["fails.test", "none.test", "inner.test", "good.test"]);
}

#[test]
fn refusal_is_kept_by_no_cache() {
    let (server, _) = resolver(answering(|_| panic!("asked")));
    let (_world, mut guest) = world(kit::world::policy(&["api.example"]), vec![server]);
    let answer = ask(&mut guest, "evil.test", A_TYPE);
    // Counts of answers, authorities and additional records: without an SOA record there is no time to keep it for.
    assert_eq!((rcode(&answer), &answer[6..12]), (Rcode::NXDOMAIN, &[0; 6][..]));
}

#[test]
fn questions_for_unlisted_names_never_leave() {
    let (server, questions) = resolver(answering(|name| vec![address(name, OUTSIDE)]));
    let (world, mut guest) = world(kit::world::policy(&["api.example", "*.example.org"]), vec![server]);
    let start = Instant::now();
    let tunnel = format!("{}.{}.evil.test", "a".repeat(63), "b".repeat(63));
    for name in ["evil.test", tunnel.as_str(), "api.example.evil.test", "sub.api.example", "example.org"] {
        for kind in [A_TYPE, TXT_TYPE, AAAA_TYPE] {
            assert_eq!(rcode(&ask(&mut guest, name, kind)), Rcode::NXDOMAIN, "{name}");
        }
    }
    assert!(start.elapsed() < AT_ONCE);
    let QuestionOutcome::Refused(refusal) = outcome(&world) else { panic!("not refused") };
    assert_eq!(
        (refusal.reason, refusal.suggestion.unwrap().to_string().as_str()),
        (Reason::NameNotListed("evil.test".parse().unwrap()), "evil.test")
    );
    assert_eq!(addresses(&ask(&mut guest, "api.example", A_TYPE)), [OUTSIDE]);
    assert_eq!(questions.iter().next().unwrap(), "api.example");
    assert!(questions.try_recv().is_err());
}

#[test]
fn random_names_below_a_wildcard_run_dry() {
    let (server, questions) = resolver(answering(|_| Vec::new()));
    let (_world, mut guest) = world(kit::world::policy(&["*.example.org"]), vec![server]);
    let mut refused = 0;
    for number in 0..NEW_NAMES_BURST + 30 {
        refused += u32::from(rcode(&ask(&mut guest, &format!("data{number}.example.org"), A_TYPE)) == Rcode::REFUSED);
    }
    // A slow machine may have earned back a few.
    assert!((10..=30).contains(&refused), "{refused}");
    assert_eq!(questions.try_iter().count() as u32, NEW_NAMES_BURST + 30 - refused);
    let long = format!("{}.{}.example.org", "a".repeat(63), "b".repeat(63));
    assert_eq!(rcode(&ask(&mut guest, &long, A_TYPE)), Rcode::NXDOMAIN);
}

#[test]
fn rebinding_is_stripped() {
    let inner = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(0, 0, 0, 0)];
    let (server, _) = resolver(answering(move |name| match name {
        "mixed.test" => vec![address(name, inner[0]), address(name, OUTSIDE)],
        "chain.test" => vec![alias(name, "in.test"), address("in.test", inner[2])],
        _ => inner.iter().map(|inner| address(name, *inner)).collect(),
    }));
    let (world, mut guest) = world(kit::world::policy(&[]), vec![server]);
    assert_eq!(rcode(&ask(&mut guest, "inner.test", A_TYPE)), Rcode::NXDOMAIN);
    let QuestionOutcome::Answered { stripped: Some((stripped, refusal)), .. } = outcome(&world) else { panic!("nothing stripped") };
    assert_eq!((stripped, refusal.suggestion.unwrap().to_string().as_str()), (Ipv4Addr::LOCALHOST, "127.0.0.1"));
    assert_eq!(addresses(&ask(&mut guest, "mixed.test", A_TYPE)), [OUTSIDE]);
    assert_eq!(rcode(&ask(&mut guest, "chain.test", A_TYPE)), Rcode::NXDOMAIN);
    assert_eq!(world.counters().learnt_pairs, 1);
}

#[test]
fn alias_chains_are_judged_by_the_name_asked_for() {
    let (server, _) = resolver(answering(|name| vec![alias(name, "edge.cdn.test"), address("edge.cdn.test", OUTSIDE)]));
    let (_world, mut guest) = world(kit::world::policy(&["www.example"]), vec![server]);
    assert_eq!(addresses(&ask(&mut guest, "www.example", A_TYPE)), [OUTSIDE]);
    assert_eq!(rcode(&ask(&mut guest, "edge.cdn.test", A_TYPE)), Rcode::NXDOMAIN);
}

#[test]
fn strange_replies_are_waited_out_or_failed() {
    let (server, _) = resolver(|asked_now| {
        let good = reply(asked_now, &[address(&asked(asked_now).0, OUTSIDE)]);
        let (mut other_id, mut other_name) = (good.clone(), reply(&question("other.test", A_TYPE), &[]));
        other_id[0] ^= 1;
        other_name[..2].copy_from_slice(&asked_now[..2]);
        vec![other_id, other_name, asked_now.to_vec(), Vec::new(), vec![0; 3000], good]
    });
    let looping = |asked_now: &[u8]| {
        let mut reply = reply(asked_now, &[record("x.test", A_TYPE, 1, &[203, 0, 113, 1])]);
        let at = reply.len() - 14 - wire_name("x.test").len();
        reply.splice(at..at + wire_name("x.test").len(), [0xc0, at as u8]);
        vec![reply]
    };
    let (looping, _) = resolver(looping);
    let (_first, mut guest) = world(kit::world::policy(&[]), vec![server]);
    assert_eq!(addresses(&ask(&mut guest, "api.example", A_TYPE)), [OUTSIDE]);
    let (second, mut guest) = world(kit::world::policy(&[]), vec![looping]);
    assert_eq!(rcode(&ask(&mut guest, "api.example", A_TYPE)), Rcode::SERVFAIL);
    assert_eq!(outcome(&second), QuestionOutcome::Failed);
}

#[test]
fn a_dead_resolver_is_followed_by_the_next_one() {
    let dead = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (server, _) = resolver(answering(|name| vec![address(name, OUTSIDE)]));
    let (_world, mut guest) = world(kit::world::policy(&[]), vec![dead, server]);
    assert_eq!(addresses(&ask(&mut guest, "api.example", A_TYPE)), [OUTSIDE]);
    let (_world, mut guest) = world(kit::world::policy(&[]), vec![dead]);
    assert_eq!(rcode(&ask(&mut guest, "api.example", A_TYPE)), Rcode::SERVFAIL);
}

// A resolver whose replies by datagram are truncated and by stream are long.
fn truncating() -> SocketAddr {
    let serve = |mut stream: TcpStream| {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message).unwrap();
        let name = asked(&message).0;
        let records: Vec<Vec<u8>> = (1..=60).map(|last| address(&name, Ipv4Addr::new(203, 0, 113, last))).collect();
        let reply = reply(&message, &records);
        stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat()).unwrap();
    };
    let server = servers::tcp(Ipv4Addr::LOCALHOST, serve);
    servers::udp(server, |question| {
        let mut reply = reply(question, &[]);
        reply[2] |= 2;
        vec![reply]
    })
    .into()
}

#[test]
fn long_answers_are_fetched_and_given_by_stream() {
    let (world, mut guest) = world(kit::world::policy(&["many.example"]), vec![truncating()]);
    let by_datagram = ask(&mut guest, "many.example", A_TYPE);
    assert_eq!((by_datagram[2] & 2, addresses(&by_datagram).len()), (2, 0));

    let resolver = SocketAddrV4::new(guest.gateway, 53);
    let connection = guest.connect(resolver).unwrap();
    let mut ask_by_stream = |name: &str| {
        let message = question(name, A_TYPE);
        guest.send(connection, &(message.len() as u16).to_be_bytes()).unwrap();
        guest.send(connection, &message).unwrap();
        let length = guest.receive(connection, 2).unwrap();
        guest.receive(connection, usize::from(u16::from_be_bytes([length[0], length[1]]))).unwrap()
    };
    assert_eq!(addresses(&ask_by_stream("many.example")).len(), 60);
    // The same rules on the same connection.
    assert_eq!(rcode(&ask_by_stream("evil.test")), Rcode::NXDOMAIN);
    let elsewhere = guest.connect(SocketAddrV4::new(Ipv4Addr::new(8, 8, 8, 8), 53)).unwrap();
    guest.send(elsewhere, &[0xff, 0xff, 1]).unwrap();
    assert!(guest.receive_to_end(elsewhere).is_err() || guest.tcp(elsewhere).recv_queue() == 0, "no question is that long");
    drop(world);
}

#[test]
fn too_many_questions_at_once_fail_instead_of_piling_up() {
    let (server, _) = resolver(|_| Vec::new());
    let (world, mut guest) = world(kit::world::policy(&[]), vec![server]);
    let gateway = SocketAddrV4::new(guest.gateway, 53);
    for number in 0..200_u16 {
        guest.send_datagram(10_000 + number, gateway, &question(&format!("n{number}.example"), A_TYPE));
    }
    guest.settle();
    assert_eq!(world.counters().questions_in_flight, Configuration::default().caps.questions_in_flight);
    let last = guest.expect_datagram(gateway, 10_199);
    assert_eq!(rcode(&last), Rcode::SERVFAIL);
}
