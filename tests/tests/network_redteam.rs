//! A guest whose root wants out, with raw frames on its card.
//!
//! All that it must not reach is there and answers, and everything that comes over the wire to the world is looked at.

use pyro_tests::{
    anonymous_memory_kib, eventually,
    world::{DEAF, HOST, HOST_PORT, LAN, METADATA, OUTSIDE, Packet, Prober, ROUTER, World},
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// What a supervisor may grow by under attack: the caps of all tables together, and an allocator's slack.
const GROWTH_KIB: u64 = 64 << 10;

const WITHOUT_END: [&str; 13] =
    ["inner", "spoof", "arp", "macs", "ethertypes", "ipv6", "fragments", "options", "tunnels", "malformed", "lease", "datagrams", "inner"];

#[test]
fn nothing_that_root_puts_on_its_card_gets_out() {
    let Some(world) = World::new() else { return };
    let home = world.home();
    let guest = Prober::create(&home, &["--allow-host", "203.0.113.9:7"]);
    world.assert_within_the_hosts_reach(&[
        SocketAddrV4::new(LAN, 80),
        SocketAddrV4::new(METADATA, 80),
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, HOST_PORT),
        SocketAddrV4::new(HOST, HOST_PORT),
    ]);
    let (supervisor, _) = home.processes(guest.id());
    let before = anonymous_memory_kib(supervisor);
    let sent = guest.attacks(OUTSIDE, DEAF, &WITHOUT_END);
    assert!(sent.iter().all(|(_, count)| *count > 5), "{sent:?}");
    // The card still works, and what came before it has been dealt with.
    guest.meets("tcp 203.0.113.9 7 <hello> => got <hello>\ntcp 10.0.0.5 8000 => ECONNREFUSED");
    world.settle();
    // A thousand datagrams push out each other's sockets; what comes back too late the host's own kernel answers, unreachable (1, 3).
    let allowed = |packet: &Packet| match packet.destination {
        OUTSIDE => matches!((packet.protocol, packet.port), (6 | 17, 7) | (1, 3)),
        destination => destination == ROUTER,
    };
    let out: Vec<_> = world.watch().packets_but_to(&[]).into_iter().filter(|packet| !allowed(packet)).collect();
    assert_eq!(out, [], "these came over the wire");
    world.watch().assert_nothing_strange();
    assert_eq!(world.host_reached(), 0);
    assert!(world.connections().iter().all(|to| *to.ip() == OUTSIDE || *to.ip() == ROUTER), "{:?}", world.connections());
    let grown = anonymous_memory_kib(supervisor).saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{grown} KiB");
}

#[test]
fn an_open_network_gives_root_nothing_of_the_hosts_either() {
    let Some(world) = World::new() else { return };
    let home = world.home();
    let guest = Prober::create(&home, &[]);
    world.assert_within_the_hosts_reach(&[
        SocketAddrV4::new(LAN, 80),
        SocketAddrV4::new(METADATA, 80),
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, HOST_PORT),
        SocketAddrV4::new(HOST, HOST_PORT),
    ]);
    let sent = guest.attacks(OUTSIDE, DEAF, &["inner", "spoof", "arp", "ipv6", "fragments", "options", "tunnels", "lease"]);
    assert!(sent.iter().all(|(_, count)| *count > 5), "{sent:?}");
    guest.meets("tcp 203.0.113.9 7 <hello> => got <hello>");
    world.settle();
    // The two servers outside are open to it, by the protocols there are.
    let allowed = |packet: &Packet| packet.destination.octets()[..3] == [203, 0, 113] || packet.destination == ROUTER;
    let out: Vec<_> = world.watch().packets_but_to(&[]).into_iter().filter(|packet| !allowed(packet)).collect();
    assert_eq!(out, [], "these came over the wire");
    assert!(world.watch().packets().iter().all(|packet| [1, 6, 17].contains(&packet.protocol)));
    world.watch().assert_nothing_strange();
    assert_eq!(world.host_reached(), 0);
}

#[test]
fn ten_thousand_half_open_connections_stay_one_workspaces_affair() {
    let Some(world) = World::new() else { return };
    let home = world.home();
    let rules = ["--allow-host", "203.0.113.9:7", "--allow-host", "198.51.100.251:7"];
    let (guest, neighbour) = (Prober::create(&home, &rules), Prober::create(&home, &rules));
    let (supervisor, _) = home.processes(guest.id());
    let before = anonymous_memory_kib(supervisor);
    let deaf = DEAF.to_string();
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| guest.attacks(OUTSIDE, DEAF, &["flood"]));
        eventually("the flood has begun", 20, || world.watch().packets().iter().any(|packet| packet.destination == DEAF));
        while !flood.is_finished() {
            neighbour.meets("tcp 203.0.113.9 7 <hello> => got <hello>\nudp 203.0.113.9 7 <hello> => got <hello>");
        }
        assert_eq!(flood.join().expect("it is sent"), [("flood".to_owned(), 10_000)]);
    });
    let tried = world.watch().packets().iter().filter(|packet| packet.destination == DEAF).count();
    assert!(tried > 128, "only {tried} packets went to {deaf}");
    let grown = anonymous_memory_kib(supervisor).saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{grown} KiB");
    let descriptors = std::fs::read_dir(format!("/proc/{supervisor}/fd")).expect("it runs").count();
    assert!(descriptors < 400, "{descriptors} descriptors");
    // The one that did it can go on, too.
    guest.meets("tcp 203.0.113.9 7 <hello> => got <hello>");
}
