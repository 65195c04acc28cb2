//! What a guest asks, and the replies that need no resolver.

use std::fmt;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::{Message, MessageBuilder};

use crate::policy::{Name, Reason, Refusal};

/// Without EDNS a reply by datagram holds this much (RFC 1035, 4.2.1).
const DATAGRAM_REPLY_BYTES: usize = 512;
/// With EDNS we send and ask for this much: what passes everywhere unfragmented.
pub(super) const EDNS_REPLY_BYTES: u16 = 1232;

/// A question that can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name asked about.
    pub name: Name,
    /// What is asked about it.
    pub kind: QuestionKind,
    pub(super) id: u16,
    pub(super) recursion_desired: bool,
    pub(super) edns_reply_bytes: Option<u16>,
}

/// What is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionKind {
    /// IPv4 addresses.
    Address,
    /// Something whose answer is empty here, so that clients turn to IPv4: IPv6 addresses (workspaces have none) and service bindings (they
    /// carry address hints, and keys to encrypt the server name with).
    Empty(Rtype),
    /// Other records that programs use.
    Record(Rtype),
    /// Anything else.
    NotServed(Rtype),
}

impl fmt::Display for QuestionKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => formatter.write_str("A"),
            Self::Empty(kind) | Self::Record(kind) | Self::NotServed(kind) => write!(formatter, "{kind}"),
        }
    }
}

impl Question {
    /// Returns how large a reply by datagram may be.
    #[must_use]
    pub fn datagram_reply_bytes(&self) -> usize {
        self.edns_reply_bytes
            .map_or(DATAGRAM_REPLY_BYTES, |bytes| usize::from(bytes).clamp(DATAGRAM_REPLY_BYTES, usize::from(EDNS_REPLY_BYTES)))
    }

    pub(super) const fn record_type(&self) -> Rtype {
        match self.kind {
            QuestionKind::Address => Rtype::A,
            QuestionKind::Empty(kind) | QuestionKind::Record(kind) | QuestionKind::NotServed(kind) => kind,
        }
    }
}

/// A message that is no question we judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// It deserves no reply: too short, or a reply itself.
    Ignored,
    /// It is answered by this error.
    Refused {
        /// The whole reply.
        reply: Vec<u8>,
        /// Why.
        refusal: Refusal,
    },
}

/// Reads a message of a guest.
///
/// # Errors
///
/// Fails for what is not one question of class IN about a printable name.
pub fn parse_question(bytes: &[u8]) -> Result<Question, Unusable> {
    let message = Message::from_slice(bytes).map_err(|_| Unusable::Ignored)?;
    let header = message.header();
    if header.qr() {
        return Err(Unusable::Ignored);
    }
    let refuse = |reason: Reason| {
        let reply = bare_reply(message, refusal_rcode(&reason));
        Unusable::Refused { reply, refusal: Refusal::final_word(reason) }
    };
    if header.opcode() != Opcode::QUERY {
        return Err(refuse(Reason::KindNotServed));
    }
    let question = message.sole_question().map_err(|_| refuse(Reason::Malformed))?;
    if question.qclass() != Class::IN {
        return Err(refuse(Reason::KindNotServed));
    }
    if question.qname().is_root() {
        // Below a root that does not exist there would be nothing at all (RFC 8020).
        let reply = bare_reply(message, Rcode::REFUSED);
        return Err(Unusable::Refused { reply, refusal: Refusal::final_word(Reason::NotAName) });
    }
    // `Display` escapes what is not printable, and no name of ours holds a backslash.
    let name = question.qname().to_string().parse().map_err(|_| refuse(Reason::NotAName))?;
    let kind = match question.qtype() {
        Rtype::A => QuestionKind::Address,
        kind @ (Rtype::AAAA | Rtype::HTTPS | Rtype::SVCB) => QuestionKind::Empty(kind),
        kind @ (Rtype::CNAME | Rtype::MX | Rtype::TXT | Rtype::SRV | Rtype::NS | Rtype::SOA | Rtype::PTR | Rtype::CAA | Rtype::NAPTR) => {
            QuestionKind::Record(kind)
        }
        kind => QuestionKind::NotServed(kind),
    };
    let edns_reply_bytes = message.opt().map(|opt| opt.udp_payload_size());
    Ok(Question { name, kind, id: header.id(), recursion_desired: header.rd(), edns_reply_bytes })
}

/// Returns the reply to a question that says only how it went.
#[must_use]
pub fn error_reply(question: &Question, rcode: Rcode) -> Vec<u8> {
    super::answer::reply(question, rcode, &[], usize::MAX)
}

/// Returns how a question is answered that is refused for this reason.
///
/// A refusal is final, and so is `NXDOMAIN`: the C library reports `EAI_NONAME`. `REFUSED` would be passed on as `EAI_AGAIN`, "temporary
/// failure", and programs would try again and again. No record says for how long, so no cache keeps it (RFC 2308, section 5), and what is
/// allowed a moment later is found at once.
#[must_use]
pub const fn refusal_rcode(reason: &Reason) -> Rcode {
    match reason {
        Reason::KindNotServed => Rcode::NOTIMP,
        Reason::Malformed => Rcode::FORMERR,
        // These pass by themselves.
        Reason::TooManyNames(_) | Reason::TooMany(_) => Rcode::REFUSED,
        Reason::Denied(_)
        | Reason::NameNotListed(_)
        | Reason::NameTooLong(_)
        | Reason::NotAName
        | Reason::AddressClass(_)
        | Reason::AddressNotListed
        | Reason::NameNotVisible
        | Reason::NameEncrypted
        | Reason::NameNotCheckable
        | Reason::NotServed
        | Reason::HostCannot => Rcode::NXDOMAIN,
    }
}

// Repeats the question if it can be read, since clients compare it.
fn bare_reply(message: &Message<[u8]>, rcode: Rcode) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    let header = builder.header_mut();
    header.set_id(message.header().id());
    header.set_qr(true);
    header.set_opcode(message.header().opcode());
    header.set_rd(message.header().rd());
    header.set_ra(true);
    header.set_rcode(rcode);
    let mut builder = builder.question();
    if let Ok(question) = message.sole_question() {
        // A `Vec` has room for one name, whatever is in it.
        let _ = builder.push(question);
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(name: &[&[u8]], kind: u16, class: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label);
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(class.to_be_bytes());
        bytes
    }

    fn check_refused(bytes: &[u8], expected: Rcode, expected_reason: &Reason) {
        let Err(Unusable::Refused { reply, refusal }) = parse_question(bytes) else { panic!("not refused") };
        let reply = Message::from_octets(reply).unwrap();
        assert_eq!((reply.header().rcode(), &refusal.reason), (expected, expected_reason));
        assert_eq!(reply.header().id(), 0x1234);
        assert!(reply.header().qr());
    }

    #[test]
    fn a_question_is_read() {
        let question = parse_question(&message(&[b"API", b"example", b"com"], 1, 1)).unwrap();
        assert_eq!((question.name.as_str(), question.kind), ("api.example.com", QuestionKind::Address));
        assert_eq!(question.datagram_reply_bytes(), 512);
        let question = parse_question(&message(&[b"a", b"example"], 28, 1)).unwrap();
        assert_eq!(question.kind, QuestionKind::Empty(Rtype::AAAA));
    }

    #[test]
    fn odd_questions_are_refused_at_once() {
        check_refused(&message(&[b"a\x00b", b"example"], 1, 1), Rcode::NXDOMAIN, &Reason::NotAName);
        check_refused(&message(&[b"a.b", b"example"], 1, 1), Rcode::NXDOMAIN, &Reason::NotAName);
        check_refused(&message(&[], 2, 1), Rcode::REFUSED, &Reason::NotAName);
        check_refused(&message(&[b"version", b"bind"], 16, 3), Rcode::NOTIMP, &Reason::KindNotServed);
        let mut two = message(&[b"a", b"example"], 1, 1);
        two[5] = 2;
        check_refused(&two, Rcode::FORMERR, &Reason::Malformed);
        let looped = [&message(&[], 1, 1)[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
        check_refused(&looped, Rcode::FORMERR, &Reason::Malformed);
        let mut reply = message(&[b"a", b"example"], 1, 1);
        reply[2] |= 0x80;
        assert_eq!(parse_question(&reply), Err(Unusable::Ignored));
        assert_eq!(parse_question(&[0; 11]), Err(Unusable::Ignored));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_question(&bytes);
        }

        #[test]
        fn a_damaged_question_is_read_without_harm(at in 0_usize..30, byte: u8) {
            let mut bytes = message(&[b"api", b"example"], 1, 1);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = parse_question(&bytes);
        }
    }
}
