//! What leaves a workspace and what does not, as its guest feels it and its log tells it.
//!
//! The guests are real; the outside is `pyro_tests::world`. A try and its outcome stand in one line: `TRY => HOW THE ANSWER BEGINS`.

use std::net::{Ipv4Addr, SocketAddrV4};

use pyro_tests::{
    Home, eventually,
    world::{Answer, ELSEWHERE, HOST, HOST_PORT, LAN, METADATA, OUTSIDE, PUBLIC_RESOLVER, Prober, World, counted, posted},
};
use serde_json::Value;

const MEGABYTES: usize = 10 << 20;

fn network(home: &Home, arguments: &[&str]) -> Value {
    home.pyro(&[&["workspace", "network"], arguments, &["--json"]].concat()).ok().json()
}

#[test]
fn without_a_policy_there_is_no_card() {
    let home = Home::new();
    let w = home.create(&[]);
    assert_eq!(home.sh(&w, "ls /sys/class/net"), "lo");
    let refused = home.pyro(&["workspace", "network", "allow", &w, "api.test"]);
    assert_ne!(refused.code, 0, "there is nothing to allow on: {refused:?}");
}

#[test]
fn an_open_guest_reaches_the_outside_and_nothing_of_the_hosts() {
    let Some(world) = World::new() else { return };
    world.names().set("api.test", Answer::addresses(&[OUTSIDE]));
    let home = world.home();
    let guest = Prober::create(&home, &[]);
    let inner = [
        SocketAddrV4::new(LAN, 8000),
        SocketAddrV4::new(LAN, 80),
        SocketAddrV4::new(METADATA, 80),
        SocketAddrV4::new(HOST, HOST_PORT),
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, HOST_PORT),
    ];
    world.assert_within_the_hosts_reach(&inner);
    guest.meets(
        "tcp 203.0.113.9 7 <hello> => got <hello>
        tcp api.test 25 => open
        udp 203.0.113.9 7 <hello> => got <hello>
        ping 203.0.113.9 => pong
        ping 10.0.2.2 => pong
        http api.test 80 api.test / => 200 hello from api.test by HTTP/1.1
        tcp 203.0.113.9 81 => ECONNREFUSED
        tcp 198.51.100.250 7 => EHOSTUNREACH
        ask no.test A 10.0.2.2 => NXDOMAIN",
    );
    assert!(
        world.host_reached() == 0
            && world.watch().packets_but_to(&[OUTSIDE, ELSEWHERE]).iter().all(|packet| packet.port == 53 || packet.port == 7)
    );
    world.watch().forget();
    // Refusals come at once and can be read.
    guest.meets(
        "tcp 10.0.0.5 8000 => ECONNREFUSED
        tcp 192.0.2.2 8080 => ECONNREFUSED
        tcp 10.0.2.2 8080 => ECONNREFUSED
        tcp 127.0.0.1 8080 => ECONNREFUSED
        udp 10.0.0.5 7 hello => EHOSTUNREACH
        ping 10.0.0.5 => icmp 3 13
        http 169.254.169.254 80 169.254.169.254 /latest/meta-data => 403 Pyro refused this request: metadata",
    );
    world.settle();
    assert_eq!(world.watch().packets_but_to(&[pyro_tests::world::ROUTER]), [], "nothing of it came over the wire");
    assert_eq!(world.host_reached(), 0);
    let opened = guest.logged(&["event=opened", "destination=203.0.113.9:80"]);
    assert_eq!((&opened["name"], &opened["protocol"]), (&"api.test".into(), &"tcp".into()), "{opened}");
    let closed = guest.logged(&["event=closed", "destination=203.0.113.9:80"]);
    assert!(closed["sent_bytes"].as_u64() > Some(40) && closed["received_bytes"].as_u64() > Some(100), "{closed}");
    assert_eq!(closed["flow"], opened["flow"]);
    let refused = guest.logged(&["event=refused", "destination=10.0.0.5:8000"]);
    assert_eq!(refused["would_allow"], "10.0.0.5:8000", "{refused}");
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("private")), "{refused}");
    assert_eq!(guest.logged(&["event=refused", "destination=169.254.169.254:80"])["would_allow"], "169.254.169.254:80");
    assert_eq!(guest.logged(&["event=question", "name=api.test"])["addresses"][0], "203.0.113.9");
    let _ = guest.logged(&["event=unreachable", "destination=203.0.113.9:81"]);
}

#[test]
fn an_allow_list_holds_by_name_wildcard_network_and_port() {
    let Some(world) = World::new() else { return };
    for name in ["api.test", "a.cdn.test", "cdn.test", "evil.test"] {
        world.names().set(name, Answer::addresses(&[OUTSIDE]));
    }
    world.names().set("other.test", Answer::addresses(&[ELSEWHERE]));
    let home = world.home();
    let rules =
        ["--allow-host", "api.test", "--allow-host", "*.cdn.test:80", "--allow-host", "198.51.100.0/25:7", "--allow-host", "10.0.0.5:8000"];
    let guest = Prober::create(&home, &rules);
    guest.meets(
        "tcp 203.0.113.9 7 => ECONNREFUSED
        http 203.0.113.9 80 203.0.113.9 / => 403 Pyro refused this request: the allow-list names neither
        ask evil.test A 10.0.2.2 => NXDOMAIN
        ask cdn.test A 10.0.2.2 => NXDOMAIN
        ask api.test.evil.test A 10.0.2.2 => NXDOMAIN
        http api.test 80 api.test / => 200 hello from api.test
        http a.cdn.test 80 a.cdn.test / => 200 hello from a.cdn.test
        http 203.0.113.9 80 evil.test / => 403 Pyro refused this request: the allow-list does not cover `evil.test`
        http 203.0.113.9 80 203.0.113.9 / => 403
        tcp api.test 7 <hello> => got <hello>
        tcp 198.51.100.7 7 <hello> => got <hello>
        tcp 198.51.100.7 25 => ECONNREFUSED
        ping 198.51.100.7 => icmp 3 13
        http 10.0.0.5 8000 10.0.0.5 / => 200
        tcp 10.0.0.5 7 => ECONNREFUSED",
    );
    let asked = world.names().asked();
    assert!(asked.iter().all(|name| name == "api.test" || name == "a.cdn.test"), "{asked:?}");
    let refused = guest.logged(&["event=refused", "would_allow=evil.test:80"]);
    assert_eq!(refused["reason"], "the allow-list does not cover `evil.test`", "{refused}");
    assert_eq!(guest.logged(&["event=refused", "destination=198.51.100.7:25"])["would_allow"], "198.51.100.7:25");
    assert_eq!(guest.logged(&["event=opened", "destination=198.51.100.7:7"])["rule"], "198.51.100.0/25:7");
    let list = network(&home, &["list", guest.id()]).to_string();
    assert!(rules.iter().filter(|rule| !rule.starts_with("--")).all(|rule| list.contains(rule)), "{list}");

    // What changes while it runs holds at once, for open connections, too.
    guest.meets("hold api.test 7 held => held\nask other.test A 10.0.2.2 => NXDOMAIN");
    let _ = network(&home, &["allow", guest.id(), "other.test:80"]);
    guest.meets("http other.test 80 other.test / => 200 hello from other.test");
    let _ = network(&home, &["deny", guest.id(), "api.test"]);
    eventually("the open connection is reset", 10, || home.exec(guest.id(), &["cat", "held"]).text() == "ECONNRESET");
    guest.meets(
        "ask api.test A 10.0.2.2 => NXDOMAIN
        http 203.0.113.9 80 api.test / => 403 Pyro refused this request: the deny rule `api.test` covers it
        http a.cdn.test 80 a.cdn.test / => 200",
    );
}

#[test]
fn a_refused_name_is_final_and_a_failing_resolver_is_not() {
    let Some(world) = World::new() else { return };
    for name in ["allowed.test", "denied.test", "other.test"] {
        world.names().set(name, Answer::addresses(&[OUTSIDE]));
    }
    world.names().set("inner.test", Answer::addresses(&[LAN]));
    world.names().set("failing.test", Answer::failure());
    let home = world.home();
    let rules = ["allowed.test", "inner.test", "failing.test", "none.test", "denied.test"];
    let rules = rules.iter().flat_map(|rule| ["--allow-host", rule]).chain(["--deny-host", "denied.test"]).collect::<Vec<_>>();
    let guest = Prober::create(&home, &rules);
    // As the C library says it, for both kinds of addresses at once and for each: names of `netdb.h`.
    let resolve = |name: &str| {
        let program = r#"for my $family (AF_UNSPEC, AF_INET) {
            my ($error) = getaddrinfo(shift @ARGV, 80, { socktype => SOCK_STREAM, family => $family });
            print $error == 0 ? "found" : $error == EAI_NONAME ? "EAI_NONAME" : $error == EAI_AGAIN ? "EAI_AGAIN" : $error + 0, " ";
        }"#;
        home.exec(guest.id(), &["perl", "-MSocket=:addrinfo,AF_UNSPEC,AF_INET,SOCK_STREAM", "-e", program, name, name])
            .text()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(resolve("allowed.test"), "found found");
    for name in ["other.test", "denied.test", "inner.test", "none.test", "odd name.test"] {
        assert_eq!(resolve(name), "EAI_NONAME EAI_NONAME", "{name}");
    }
    assert_eq!(resolve("failing.test"), "EAI_AGAIN EAI_AGAIN");
    let _ = network(&home, &["allow", guest.id(), "other.test"]);
    assert_eq!(resolve("other.test"), "found found", "what is allowed is found at once");
    let asked = home.pyro(&["workspace", "exec", guest.id(), "--json", "--", "getent", "hosts", "third.test"]).json();
    assert_eq!(asked["network_refused"], serde_json::json!(["third.test"]), "{asked}");
}

#[test]
fn no_answer_of_a_resolver_leads_inside() {
    let Some(world) = World::new() else { return };
    let names = world.names();
    names.set_in_turn("turning.test", vec![Answer::addresses(&[OUTSIDE]).for_seconds(0), Answer::addresses(&[LAN]).for_seconds(0)]);
    for (name, address) in [
        ("loop.test", Ipv4Addr::LOCALHOST),
        ("meta.test", METADATA),
        ("lan.test", LAN),
        ("zero.test", Ipv4Addr::UNSPECIFIED),
        ("host.test", HOST),
    ] {
        names.set(name, Answer::addresses(&[address]));
    }
    names.set("mixed.test", Answer::addresses(&[LAN, OUTSIDE]));
    names.set("inner.alias.test", Answer::addresses(&[LAN]).through(&["a.test", "b.test"]));
    names.set("alias.test", Answer::addresses(&[OUTSIDE]).through(&["edge.cdn.test"]));
    names.set("edge.cdn.test", Answer::addresses(&[OUTSIDE]));
    names.set("ages.test", Answer::addresses(&[OUTSIDE]).for_seconds(i32::MAX.unsigned_abs()));
    names.set("liar.test", Answer::addresses(&[OUTSIDE]).after_strays());
    names.set("long.test", Answer::addresses(&[OUTSIDE]).only_by_stream());
    names.set("*.tunnel.test", Answer::text("data"));
    let home = world.home();
    let listed = ["alias.test", "turning.test", "*.test:80"];
    let guest = Prober::create(&home, &listed.iter().flat_map(|rule| ["--allow-host", rule]).collect::<Vec<_>>());
    let tunnel = format!("ask {}.{}.tunnel.test TXT 10.0.2.2 => NXDOMAIN", "a".repeat(60), "b".repeat(60));
    guest.meets(&format!(
        "ask turning.test A 10.0.2.2 => NOERROR 203.0.113.9
        ask turning.test A 10.0.2.2 => NXDOMAIN
        tcp 203.0.113.9 7 <hello> => got <hello>
        tcp 10.0.0.5 7 => ECONNREFUSED
        ask loop.test A 10.0.2.2 => NXDOMAIN
        ask meta.test A 10.0.2.2 => NXDOMAIN
        ask lan.test A 10.0.2.2 => NXDOMAIN
        ask zero.test A 10.0.2.2 => NXDOMAIN
        ask host.test A 10.0.2.2 => NXDOMAIN
        ask mixed.test A 10.0.2.2 => NOERROR 203.0.113.9
        ask inner.alias.test A 10.0.2.2 => NXDOMAIN
        ask alias.test A 10.0.2.2 => NOERROR 203.0.113.9
        ask ages.test A 10.0.2.2 => NOERROR 203.0.113.9
        ask liar.test A 10.0.2.2 => NOERROR 203.0.113.9
        ask long.test A 10.0.2.2 => NOERROR 203.0.113.9
        ask long.test A 10.0.2.2 tcp => NOERROR 203.0.113.9
        ask loop.test A 10.0.2.2 tcp => NXDOMAIN
        ask alias.test AAAA 10.0.2.2 => NOERROR
        ask alias.test HTTPS 10.0.2.2 => NOERROR
        ask evil.example A 10.0.2.2 tcp => NXDOMAIN
        ask alias.test A 8.8.8.8 => NOERROR 203.0.113.9
        ask evil.example A 8.8.8.8 => NXDOMAIN
        ask evil.example A 8.8.8.8 tcp => NXDOMAIN
        ask alias.test A 10.0.0.5 => EHOSTUNREACH
        ask data.tunnel.test TXT 10.0.2.2 => NOERROR data
        {tunnel}
        tcp 8.8.8.8 443 => ECONNREFUSED
        tcp 8.8.8.8 853 => ECONNREFUSED
        post 8.8.8.8 80 dns.google 30 => 403"
    ));
    let lied = guest.tries(&["ask ages.test A 10.0.2.2"]);
    assert_eq!(lied, ["NOERROR 203.0.113.9"], "a TTL above an hour is cut, or the guest would keep the address for longer than we do");
    // Random names below a wildcard run dry: a guest can tell its server 120 of them, and then one in two seconds.
    let tries: Vec<String> = (0..140).map(|number| format!("ask n{number}.tunnel.test TXT 10.0.2.2")).collect();
    let said = guest.tries(&tries.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.iter().filter(|line| *line == "REFUSED").count() > 5, "{said:?}");
    let asked = world.names().asked();
    assert!(!asked.iter().any(|name| name.contains("evil") || name.len() > 100), "{asked:?}");
    world.settle();
    assert_eq!(world.watch().packets_but_to(&[OUTSIDE, pyro_tests::world::ROUTER]), [], "only its own resolver and what is allowed");
    let stripped = guest.logged(&["event=question", "name=lan.test"]);
    assert!(stripped["reason"].as_str().is_some_and(|reason| reason.contains("private")), "{stripped}");
    assert_eq!(world.host_reached(), 0);
    assert!(!world.connections().iter().any(|to| *to.ip() == PUBLIC_RESOLVER), "{:?}", world.connections());
}

#[test]
fn a_policy_goes_where_its_workspace_goes() {
    let Some(world) = World::new() else { return };
    let home = world.home();
    let guest = Prober::create(&home, &["--allow-host", "203.0.113.9:7"]);
    let _ = network(&home, &["allow", guest.id(), "203.0.113.9:25"]);
    let _ = network(&home, &["deny", guest.id(), "203.0.113.9:80"]);
    let holds = "tcp 203.0.113.9 7 <hello> => got <hello>
        tcp 203.0.113.9 25 <hello> => got 220 hello
        http 203.0.113.9 80 203.0.113.9 / => 403 Pyro refused this request: the deny rule
        tcp 203.0.113.9 8000 => ECONNREFUSED";
    guest.meets(holds);
    guest.meets("hold 203.0.113.9 7 held => held\nlisten 203.0.113.9 7 heard => held");
    let forked = home.pyro(&["workspace", "fork", guest.id(), "--json"]).ok().json();
    let fork = Prober::of(&home, forked["forks"][0]["workspace_id"].as_str().expect("it has an id").to_owned());
    // Also where the guest has nothing to say, and would wait for ever.
    for end in ["held", "heard"] {
        eventually("the fork's copy of the connection is reset", 15, || {
            home.exec(fork.id(), &["sh", "-c", &format!("cat {end}; true")]).text() == "ECONNRESET"
        });
    }
    fork.meets(holds);
    // The original's is not touched.
    guest.meets(holds);
    assert_eq!(home.sh(guest.id(), "cat held heard 2>/dev/null; true"), "", "the original's connections are still open");
    let _ = network(&home, &["allow", fork.id(), "203.0.113.9:8000"]);
    fork.meets("tcp 203.0.113.9 8000 => open");
    guest.meets("tcp 203.0.113.9 8000 => ECONNREFUSED");
    let _ = home.pyro(&["workspace", "delete", fork.id()]).ok();

    let _ = home.pyro(&["workspace", "stop", guest.id()]).ok();
    let _ = home.pyro(&["workspace", "start", guest.id()]).ok();
    guest.meets(holds);
    let _ = home.pyro(&["workspace", "reset", guest.id()]).ok();
    let _ = home.pyro(&["workspace", "file", "write", guest.id(), "probe.pl", "--text", include_str!("../src/world/probe.pl")]).ok();
    guest.meets(holds);
    let _ = home.pyro(&["workspace", "delete", guest.id()]).ok();
    home.assert_nothing_left();
}

#[test]
fn bodies_upgrades_and_slow_peers_pass_whole() {
    let Some(world) = World::new() else { return };
    world.names().set("api.test", Answer::addresses(&[OUTSIDE]));
    let home = world.home();
    let guest = Prober::create(&home, &["--allow-host", "api.test", "--allow-host", "198.51.100.7"]);
    guest.meets(&format!(
        "http api.test 80 api.test /bytes/{MEGABYTES} => {}
        post api.test 80 api.test {MEGABYTES} => {}
        http api.test 80 api.test /slow => 200 piece 0 (40 bytes
        half api.test 7 <hello> => got <hello>bye
        tcp api.test 25 <hello> => got 220 hello
        ws api.test 80 api.test hello => got hello
        h2 198.51.100.7 80 api.test => frame 1 first byte 88",
        counted(MEGABYTES),
        posted(MEGABYTES)
    ));
    let closed = guest.logged(&["event=closed", "destination=203.0.113.9:80", "name=api.test"]);
    assert!(closed["duration_ms"].is_number() && closed["end"].is_string(), "{closed}");
}

#[test]
fn tls_passes_untouched_and_only_to_the_names_it_shows() {
    let Some(world) = World::with_environment("debian:12") else { return };
    for name in ["api.test", "evil.test"] {
        world.names().set(name, Answer::addresses(&[OUTSIDE]));
    }
    let home = world.home();
    let rules = ["--network-policy", "egress", "--allow-host", "api.test", "--allow-host", "198.51.100.7:443"];
    let guest = Prober::of(&home, home.create_from("debian:12", &[&["--mem-mib", "512"][..], &rules].concat()));
    guest.meets_by_tls(
        &world,
        "api.test 443 api.test http/1.1 / api.test => http/1.1 hello from api.test by HTTP/1.1
        api.test 443 api.test h2,http/1.1 / api.test => h2 hello from api.test by HTTP/2.0
        api.test 443 evil.test http/1.1 / evil.test => ConnectionResetError
        api.test 443 - http/1.1 / api.test => ConnectionResetError
        api.test 8443 evil.test http/1.1 / evil.test => ConnectionResetError
        198.51.100.7 443 evil.test http/1.1 / evil.test => http/1.1 hello from evil.test
        8.8.8.8 443 dns.google http/1.1 /dns-query dns.google => ConnectionRefusedError",
    );
    let refused = guest.logged(&["event=refused", "destination=203.0.113.9:443", "would_allow=evil.test:443"]);
    assert_eq!((&refused["name"], &refused["reason"]), (&"api.test".into(), &"the allow-list does not cover `evil.test`".into()));
}
