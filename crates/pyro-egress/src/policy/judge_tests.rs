//! What the policy must say, by example and by property.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::address::{AddressClass, refused_class};
use super::judge::{Grant, Policy, Protocol, VisibleName};
use super::name::Name;
use super::refusal::{Reason, Refusal};
use super::rule::Rule;

const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn policy(allow: &[&str], deny: &[&str]) -> Policy {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Policy::new(rules(allow), rules(deny), [HOST])
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn dial(policy: &Policy, destination: &str, names: &[&str]) -> Result<Grant, Refusal> {
    let (address, port) = destination.split_once(':').unwrap();
    let names: Vec<Name> = names.iter().map(|text| name(text)).collect();
    policy.judge_dial(Protocol::Tcp, address.parse().unwrap(), Some(port.parse().unwrap()), &names)
}

fn check_refused(verdict: Result<Grant, Refusal>, reason: &Reason, suggestion: Option<&str>) {
    let refusal = verdict.unwrap_err();
    assert_eq!(&refusal.reason, reason);
    assert_eq!(refusal.suggestion.map(|rule| rule.to_string()).as_deref(), suggestion);
}

fn tls(name_shown: Option<&str>, encrypted: bool) -> VisibleName {
    VisibleName::Tls { server_name: name_shown.map(name), encrypted }
}

fn http(names: &[&str]) -> VisibleName {
    VisibleName::Http { names: names.iter().map(|text| name(text)).collect() }
}

#[test]
fn open_egress_reaches_the_world_and_nothing_inside() {
    let open = policy(&[], &[]);
    assert_eq!(dial(&open, "203.0.113.80:22", &[]), Ok(Grant::Open));
    let refused = |destination: &str, class, rule: &str| {
        check_refused(dial(&open, destination, &[]), &Reason::AddressClass(class), Some(rule));
    };
    refused("10.0.0.5:5432", AddressClass::Private, "10.0.0.5:5432");
    refused("169.254.169.254:80", AddressClass::Metadata, "169.254.169.254:80");
    refused("127.0.0.1:22", AddressClass::Loopback, "127.0.0.1:22");
    refused("192.0.2.2:22", AddressClass::HostOwn, "192.0.2.2:22");
}

#[test]
fn only_a_rule_written_for_the_inside_opens_it() {
    let opens = |rule: &str, destination: &str| dial(&policy(&[rule], &[]), destination, &["db.example"]).is_ok();
    assert!(opens("10.0.0.5:5432", "10.0.0.5:5432"));
    assert!(opens("10.0.0.0/8", "10.0.0.5:5432"));
    assert!(opens("127.0.0.1", "127.0.0.1:80"));
    assert!(opens("169.254.169.254", "169.254.169.254:80"));
    assert!(opens("192.0.2.2", "192.0.2.2:80"));
    assert!(opens("0.0.0.0/0", "203.0.113.80:80"));
    assert!(!opens("0.0.0.0/0", "10.0.0.5:5432"));
    assert!(!opens("8.0.0.0/5", "10.0.0.5:5432"));
    assert!(!opens("169.254.0.0/16", "169.254.169.254:80"));
    assert!(!opens("192.0.2.0/24", "192.0.2.2:80"));
    assert!(!opens("db.example", "10.0.0.5:5432"));
    assert!(!opens("10.0.0.5:5432", "10.0.0.5:5433"));
}

#[test]
fn a_name_opens_the_address_it_resolved_to() {
    let listed = policy(&["api.example.com:443", "*.example.org"], &[]);
    let rule: Rule = "api.example.com:443".parse().unwrap();
    let grant = Grant::Name { rule, name: name("api.example.com") };
    assert_eq!(dial(&listed, "203.0.113.80:443", &["other.test", "api.example.com"]), Ok(grant));
    assert!(dial(&listed, "203.0.113.80:9", &["deep.below.example.org"]).is_ok());
    check_refused(dial(&listed, "203.0.113.80:443", &[]), &Reason::AddressNotListed, Some("203.0.113.80:443"));
    check_refused(
        dial(&listed, "203.0.113.80:22", &["api.example.com"]),
        &Reason::NameNotListed(name("api.example.com")),
        Some("api.example.com:22"),
    );
}

#[test]
fn deny_rules_win() {
    let both = policy(&["*.example.org", "203.0.113.0/24"], &["bad.example.org", "203.0.113.80:25"]);
    assert!(dial(&both, "203.0.113.80:443", &["good.example.org"]).is_ok());
    check_refused(dial(&both, "203.0.113.80:25", &[]), &Reason::Denied("203.0.113.80:25".parse().unwrap()), None);
    check_refused(dial(&both, "203.0.113.81:443", &["bad.example.org"]), &Reason::Denied("bad.example.org".parse().unwrap()), None);
    // One denied name does not take a shared address from the others.
    assert!(dial(&both, "203.0.113.81:443", &["good.example.org", "bad.example.org"]).is_ok());
    let grant = Grant::Address("203.0.113.0/24".parse().unwrap());
    let refusal = both.judge_visible(&grant, PUBLIC, 443, &tls(Some("bad.example.org"), false)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Denied("bad.example.org".parse().unwrap()));
}

#[test]
fn questions_leave_only_for_names_on_the_list() {
    let listed = policy(&["api.example.com:443", "*.example.org", "www.example.org"], &["bad.example.org", "odd.example.org:25"]);
    let ask = |text: &str| listed.judge_question(&name(text)).map(|rule| rule.unwrap().to_string());
    assert_eq!(ask("api.example.com").unwrap(), "api.example.com:443");
    assert_eq!(ask("cdn.example.org").unwrap(), "*.example.org");
    assert_eq!(ask("www.example.org").unwrap(), "www.example.org");
    assert_eq!(ask("odd.example.org").unwrap(), "*.example.org");
    assert_eq!(ask("example.org").unwrap_err().suggestion.unwrap().to_string(), "example.org");
    assert_eq!(ask("bad.example.org").unwrap_err().reason, Reason::Denied("bad.example.org".parse().unwrap()));
    assert_eq!(policy(&[], &[]).judge_question(&name("anything.test")), Ok(None));
}

#[test]
fn a_connection_by_name_must_show_a_listed_name() {
    let listed = policy(&["api.example.com"], &[]);
    let grant = Grant::Name { rule: "api.example.com".parse().unwrap(), name: name("api.example.com") };
    let see = |port, visible: &VisibleName| listed.judge_visible(&grant, PUBLIC, port, visible);
    assert_eq!(see(443, &tls(Some("api.example.com"), false)), Ok(Some(name("api.example.com"))));
    assert_eq!(see(80, &http(&["api.example.com"])), Ok(Some(name("api.example.com"))));
    assert_eq!(see(22, &VisibleName::Other), Ok(Some(name("api.example.com"))));
    let refused = |port, visible: &VisibleName, reason: &Reason, suggestion: &str| {
        check_refused(see(port, visible).map(|_| Grant::Open), reason, Some(suggestion));
    };
    refused(443, &tls(Some("evil.test"), false), &Reason::NameNotListed(name("evil.test")), "evil.test:443");
    refused(8443, &tls(Some("evil.test"), false), &Reason::NameNotListed(name("evil.test")), "evil.test:8443");
    refused(443, &tls(None, false), &Reason::NameNotVisible, "203.0.113.80:443");
    refused(443, &tls(Some("api.example.com"), true), &Reason::NameEncrypted, "203.0.113.80:443");
    refused(443, &VisibleName::Other, &Reason::NameNotVisible, "203.0.113.80:443");
    refused(80, &http(&[]), &Reason::NameNotVisible, "203.0.113.80:80");
    refused(80, &http(&["api.example.com", "evil.test"]), &Reason::NameNotListed(name("evil.test")), "evil.test:80");
    let by_address = Grant::Address("203.0.113.80".parse().unwrap());
    for visible in [tls(None, true), VisibleName::Other, http(&[])] {
        assert!(listed.judge_visible(&by_address, PUBLIC, 443, &visible).is_ok());
    }
}

#[test]
fn datagrams_by_name_go_where_no_name_could_be_hidden() {
    let listed = policy(&["time.example", "203.0.113.81:443"], &[]);
    let send = |address: Ipv4Addr, port| listed.judge_dial(Protocol::Udp, address, Some(port), &[name("time.example")]);
    assert!(send(PUBLIC, 123).is_ok());
    check_refused(send(PUBLIC, 443), &Reason::NameNotCheckable, Some("203.0.113.80:443"));
    assert!(send(Ipv4Addr::new(203, 0, 113, 81), 443).is_ok());
}

#[test]
fn echo_needs_a_rule_without_ports() {
    let echo = |rules: &[&str]| policy(rules, &[]).judge_dial(Protocol::Echo, PUBLIC, None, &[]);
    assert!(echo(&[]).is_ok());
    assert!(echo(&["203.0.113.80"]).is_ok());
    check_refused(echo(&["203.0.113.80:443"]), &Reason::AddressNotListed, Some("203.0.113.80"));
}

#[test]
fn every_reason_reads_as_a_clause() {
    let rule: Rule = "10.0.0.0/8".parse().unwrap();
    let texts: Vec<String> = [
        Reason::AddressClass(AddressClass::Metadata),
        Reason::Denied(rule),
        Reason::AddressNotListed,
        Reason::NameNotListed(name("a.example")),
        Reason::NameNotVisible,
        Reason::NameEncrypted,
        Reason::NameNotCheckable,
        Reason::NotAName,
        Reason::NameTooLong(name("a.example")),
        Reason::TooManyNames(name("example.org")),
        Reason::KindNotServed,
        Reason::TooMany("connections"),
        Reason::Malformed,
        Reason::NotServed,
        Reason::HostCannot,
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    assert_eq!(texts[0], "metadata service addresses are refused unless a rule names them");
    assert_eq!(texts[1], "the deny rule `10.0.0.0/8` covers it");
    assert_eq!(texts[3], "the allow-list does not cover `a.example`");
    assert!(texts.iter().all(|text| !text.ends_with('.') && !text.is_empty()));
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let host = prop_oneof![
        Just("a.example".to_owned()),
        Just("*.example".to_owned()),
        (any::<u32>(), 0_u8..=32).prop_map(|(bits, prefix)| {
            let mask = if prefix == 0 { 0 } else { u32::MAX << (32 - u32::from(prefix)) };
            format!("{}/{prefix}", Ipv4Addr::from_bits(bits & mask))
        }),
        Just("10.0.0.0/8".to_owned()),
    ];
    let ports = prop_oneof![Just(String::new()), (1_u16..=u16::MAX).prop_map(|port| format!(":{port}"))];
    (host, ports).prop_map(|(host, ports)| format!("{host}{ports}").parse().unwrap())
}

proptest! {
    #[test]
    fn nothing_inside_is_reached_without_a_rule_for_it(
        allow in prop::collection::vec(any_rule(), 0..5), address: u32, inside in 0_u32..1 << 24, port in 1_u16.., by_name: bool
    ) {
        let policy = Policy::new(allow.clone(), Vec::new(), [HOST]);
        let names = if by_name { vec![name("a.example")] } else { Vec::new() };
        for address in [Ipv4Addr::from_bits(address), Ipv4Addr::from_bits(0x0a00_0000 + inside), HOST] {
            if policy.judge_dial(Protocol::Tcp, address, Some(port), &names).is_ok()
                && let Some((_, refused)) = refused_class(address)
            {
                let meant = allow.iter().any(|rule| {
                    rule.ports.contain(port)
                        && rule.network().is_some_and(|network| network.contains(address) && refused.covers(network))
                });
                prop_assert!(meant);
            }
        }
    }

    #[test]
    fn the_suggested_rule_is_enough(allow in prop::collection::vec(any_rule(), 0..5), address: u32, port in 1_u16.., by_name: bool) {
        let names = if by_name { vec![name("other.test")] } else { Vec::new() };
        let address = Ipv4Addr::from_bits(address);
        let verdict = Policy::new(allow.clone(), Vec::new(), []).judge_dial(Protocol::Tcp, address, Some(port), &names);
        if let Err(Refusal { suggestion: Some(rule), .. }) = verdict {
            let wider = Policy::new([allow, vec![rule]].concat(), Vec::new(), []);
            prop_assert!(wider.judge_dial(Protocol::Tcp, address, Some(port), &names).is_ok());
        }
    }

    #[test]
    fn a_deny_rule_only_takes_away(
        allow in prop::collection::vec(any_rule(), 0..4), deny in prop::collection::vec(any_rule(), 0..4), address: u32, port in 1_u16..
    ) {
        let address = Ipv4Addr::from_bits(address);
        let with = Policy::new(allow.clone(), deny, []).judge_dial(Protocol::Tcp, address, Some(port), &[name("a.example")]);
        let without = Policy::new(allow, Vec::new(), []).judge_dial(Protocol::Tcp, address, Some(port), &[name("a.example")]);
        prop_assert!(with.is_err() || without.is_ok());
    }
}

#[test]
fn no_rule_opens_what_linux_takes_for_the_loopback() {
    for allowed in ["0.0.0.0", "0.0.0.0/8", "0.0.0.0:80", "0.0.0.0/0"] {
        let policy = Policy::new(vec![allowed.parse().unwrap()], Vec::new(), []);
        let refusal = policy.judge_dial(Protocol::Tcp, Ipv4Addr::UNSPECIFIED, Some(80), &[]).unwrap_err();
        assert_eq!(refusal.suggestion, None, "{allowed}");
        assert!(policy.judge_answer(Ipv4Addr::UNSPECIFIED).is_err(), "{allowed}");
    }
}

#[test]
fn where_a_name_is_denied_a_handshake_must_show_one() {
    let address = Ipv4Addr::new(203, 0, 113, 5);
    let hidden = VisibleName::Tls { server_name: None, encrypted: false };
    let open = Policy::default();
    assert!(open.judge_visible(&Grant::Open, address, 443, &hidden).is_ok());
    let denying = Policy::new(Vec::new(), vec!["evil.example:443".parse().unwrap()], []);
    assert!(denying.judge_visible(&Grant::Open, address, 443, &hidden).is_err());
    assert!(denying.judge_visible(&Grant::Open, address, 8443, &hidden).is_ok());
    let named = Grant::Address("203.0.113.5".parse().unwrap());
    assert!(denying.judge_visible(&named, address, 443, &hidden).is_ok());
}
