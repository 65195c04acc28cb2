//! DNS messages by hand, so that tests can write what no library would.

use domain::base::Message;
use domain::base::iana::Rcode;
use domain::rdata::A;
use std::net::Ipv4Addr;

pub(crate) const A_TYPE: u16 = 1;
pub(crate) const CNAME_TYPE: u16 = 5;
pub(crate) const TXT_TYPE: u16 = 16;
pub(crate) const AAAA_TYPE: u16 = 28;
pub(crate) const HTTPS_TYPE: u16 = 65;

pub(crate) fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

pub(crate) fn question(name: &str, kind: u16) -> Vec<u8> {
    let header = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header[..], &wire_name(name), &kind.to_be_bytes(), &[0, 1]].concat()
}

/// The name and type that a question asks for.
pub(crate) fn asked(question: &[u8]) -> (String, u16) {
    let message = Message::from_octets(question).unwrap();
    let question = message.sole_question().unwrap();
    (question.qname().to_string(), question.qtype().to_int())
}

pub(crate) fn record(owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    [&wire_name(owner), &kind.to_be_bytes()[..], &[0, 1], &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

pub(crate) fn address(owner: &str, address: Ipv4Addr) -> Vec<u8> {
    record(owner, A_TYPE, 60, &address.octets())
}

pub(crate) fn alias(owner: &str, target: &str) -> Vec<u8> {
    record(owner, CNAME_TYPE, 60, &wire_name(target))
}

/// A reply to a question; bits are those of the second flag byte, such as the rcode.
pub(crate) fn reply(question: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let (name, kind) = asked(question);
    let header = [question[0], question[1], 0x81, 0x80, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
    [&header[..], &wire_name(&name), &kind.to_be_bytes(), &[0, 1], &records.concat()].concat()
}

pub(crate) fn rcode(reply: &[u8]) -> Rcode {
    Message::from_octets(reply).unwrap().header().rcode()
}

pub(crate) fn addresses(reply: &[u8]) -> Vec<Ipv4Addr> {
    let message = Message::from_octets(reply).unwrap();
    message.answer().unwrap().limit_to::<A>().map(|record| record.unwrap().data().addr()).collect()
}
