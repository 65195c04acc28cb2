//! Hostile and odd replies of resolvers.

use std::net::Ipv4Addr;
use std::time::Duration;

use domain::base::Message;
use domain::base::iana::Rcode;
use domain::rdata::A;
use proptest::prelude::*;

use crate::policy::{Policy, Refusal};

use super::answer::{Answer, AnswerError, answer};
use super::question::{Question, parse_question};

const A_TYPE: u16 = 1;
const CNAME_TYPE: u16 = 5;
const TXT_TYPE: u16 = 16;

fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn question(name: &str, kind: u16) -> Question {
    let header = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    parse_question(&[&header[..], &wire_name(name), &kind.to_be_bytes(), &[0, 1]].concat()).unwrap()
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    [owner, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

fn reply(name: &str, kind: u16, rcode: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let header = [0x11, 0x22, 0x81, 0x80 | rcode, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
    [&header[..], &wire_name(name), &kind.to_be_bytes(), &[0, 1], &records.concat()].concat()
}

fn address(owner: &str, address: [u8; 4]) -> Vec<u8> {
    record(&wire_name(owner), A_TYPE, 300, &address)
}

fn alias(owner: &str, target: &str) -> Vec<u8> {
    record(&wire_name(owner), CNAME_TYPE, 60, &wire_name(target))
}

fn judged(name: &str, records: &[Vec<u8>]) -> Result<Answer, AnswerError> {
    let policy = Policy::default();
    answer(&question(name, A_TYPE), &reply(name, A_TYPE, 0, records), 1232, &mut |address, _| policy.judge_answer(address))
}

#[test]
fn addresses_are_passed_on_under_the_name_asked_for() {
    let records = [alias("www.example", "edge.cdn.test"), alias("edge.cdn.test", "n1.cdn.test"), address("n1.cdn.test", [203, 0, 113, 7])];
    let answer = judged("www.example", &records).unwrap();
    assert_eq!(answer.addresses, [Ipv4Addr::new(203, 0, 113, 7)]);
    let message = Message::from_octets(answer.reply).unwrap();
    assert_eq!(message.header().id(), 0xabcd);
    let records: Vec<_> = message.answer().unwrap().limit_to::<A>().map(Result::unwrap).collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].owner().to_string(), "www.example");
    // The least TTL of the chain, or the guest would keep an address longer than its name pointed there.
    assert_eq!(records[0].ttl().as_secs(), 60);
}

#[test]
fn addresses_inside_are_stripped() {
    let records =
        [address("rebind.test", [127, 0, 0, 1]), address("rebind.test", [203, 0, 113, 7]), address("rebind.test", [169, 254, 169, 254])];
    let answer = judged("rebind.test", &records).unwrap();
    assert_eq!(answer.addresses, [Ipv4Addr::new(203, 0, 113, 7)]);
    assert_eq!(answer.rcode, Rcode::NOERROR);
    let only_inside = judged("rebind.test", &[alias("rebind.test", "in.test"), address("in.test", [10, 0, 0, 5])]).unwrap();
    assert!(only_inside.addresses.is_empty());
    assert_eq!(only_inside.rcode, Rcode::NXDOMAIN);
    let (address, refusal) = only_inside.stripped.unwrap();
    assert_eq!((address, refusal.suggestion.unwrap().to_string().as_str()), (Ipv4Addr::new(10, 0, 0, 5), "10.0.0.5"));
}

#[test]
fn addresses_of_other_names_are_not_taken() {
    let answer = judged("a.example", &[address("b.example", [203, 0, 113, 7])]).unwrap();
    assert!(answer.addresses.is_empty());
}

#[test]
fn loops_end() {
    let aliases = [alias("a.example", "b.example"), alias("b.example", "a.example")];
    assert_eq!(judged("a.example", &aliases), Err(AnswerError::Aliases));
    let pointing_at_itself = record(&[0xc0, 27], A_TYPE, 300, &[203, 0, 113, 7]);
    assert_eq!(judged("a.example", &[pointing_at_itself]), Err(AnswerError::Malformed));
    let chain: Vec<Vec<u8>> = (0..40).map(|link| alias(&format!("n{link}.test"), &format!("n{}.test", link + 1))).collect();
    assert_eq!(judged("n0.test", &chain), Err(AnswerError::Aliases));
}

#[test]
fn what_does_not_fit_is_truncated_and_empty() {
    let records: Vec<Vec<u8>> = (0..60).map(|last| address("many.example", [203, 0, 113, last])).collect();
    let whole = reply("many.example", A_TYPE, 0, &records);
    let asked = question("many.example", A_TYPE);
    let small = answer(&asked, &whole, asked.datagram_reply_bytes(), &mut |_, _| Ok(())).unwrap();
    let message = Message::from_octets(small.reply).unwrap();
    assert!(message.header().tc());
    assert_eq!(message.header_counts().ancount(), 0);
    let large = answer(&asked, &whole, usize::from(u16::MAX), &mut |_, _| Ok(())).unwrap();
    assert_eq!(Message::from_octets(large.reply).unwrap().header_counts().ancount(), 60);
}

#[test]
fn other_records_are_written_anew_and_failures_are_passed_on() {
    let text = record(&wire_name("a.example"), TXT_TYPE, 5, b"\x05hello");
    let texts = answer(&question("a.example", TXT_TYPE), &reply("a.example", TXT_TYPE, 0, &[text]), 512, &mut |_, _| Ok(())).unwrap();
    assert_eq!((texts.other_records, texts.rcode), (1, Rcode::NOERROR));
    let rcode =
        |rcode| answer(&question("a.example", A_TYPE), &reply("a.example", A_TYPE, rcode, &[]), 512, &mut |_, _| Ok(())).unwrap().rcode;
    assert_eq!(rcode(3), Rcode::NXDOMAIN);
    assert_eq!(rcode(5), Rcode::SERVFAIL);
}

proptest! {
    #[test]
    fn any_reply_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 12..400)) {
        let _ = answer(&question("a.example", A_TYPE), &bytes, 512, &mut |_, _| Ok(()));
    }

    #[test]
    fn a_damaged_reply_gives_no_address_inside(at in 0_usize..200, byte: u8) {
        let mut bytes = reply("a.example", A_TYPE, 0, &[alias("a.example", "b.test"), address("b.test", [127, 0, 0, 1]), address("b.test", [10, 0, 0, 1])]);
        let at = at % bytes.len();
        bytes[at] = byte;
        let policy = Policy::default();
        let mut judge = |address: Ipv4Addr, _: Duration| -> Result<(), Refusal> { policy.judge_answer(address) };
        if let Ok(answer) = answer(&question("a.example", A_TYPE), &bytes, 512, &mut judge) {
            prop_assert!(answer.addresses.iter().all(|address| policy.judge_answer(*address).is_ok()));
            prop_assert!(answer.reply.len() <= 512);
        }
    }
}
