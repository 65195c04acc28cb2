//! A resolver's reply made into the guest's: nothing is copied, everything is read and written anew.
//!
//! A chain of aliases ends in addresses of the name that was asked for: the links are followed here and left out, so what the guest
//! learns, and what the policy ties addresses to, is the name that was judged. Addresses that may not be dialled are stripped, which
//! is the protection against rebinding. Authority and additional records are dropped.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::name::ParsedName;
use domain::base::{Message, MessageBuilder, Name as WireName, RecordData, Ttl};
use domain::rdata::AllRecordData;

use crate::policy::{Name, Refusal, TTL_MAX};

use super::question::{EDNS_REPLY_BYTES, Question, QuestionKind};

/// The most links of aliases that are followed; resolvers stop at about as many.
const ALIASES_MAX: usize = 16;
/// The most records of one answer that are passed on.
const RECORDS_MAX: usize = 64;

type Data<'a> = AllRecordData<&'a [u8], ParsedName<&'a [u8]>>;
type Record<'a> = (Ttl, Data<'a>);

/// Judges an address before it is passed on.
pub type AddressJudge<'a> = dyn FnMut(Ipv4Addr, Duration) -> Result<(), Refusal> + 'a;

/// The guest's reply, and what was in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The whole reply.
    pub reply: Vec<u8>,
    /// How it went, as the guest is told.
    pub rcode: Rcode,
    /// The addresses passed on.
    pub addresses: Vec<Ipv4Addr>,
    /// How many records of other kinds were passed on.
    pub other_records: usize,
    /// Why addresses were stripped, for the first of them.
    pub stripped: Option<(Ipv4Addr, Refusal)>,
}

/// Why a resolver's reply is not passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum AnswerError {
    #[error("the resolver's reply is malformed")]
    Malformed,
    #[error("the resolver's reply has a loop or too long a chain of aliases")]
    Aliases,
}

/// Makes a resolver's reply into the guest's. `size_max` is what fits; a reply that does not fit is empty and marked as truncated.
///
/// # Errors
///
/// Fails for replies that cannot be read or whose aliases lead nowhere. The caller has checked id and question.
pub fn answer(question: &Question, resolver_reply: &[u8], size_max: usize, judge: &mut AddressJudge<'_>) -> Result<Answer, AnswerError> {
    let message = Message::from_octets(resolver_reply).map_err(|_| AnswerError::Malformed)?;
    let records = read(&message)?;
    let (end, alias_ttl) = follow(question, &records)?;
    let wanted = question.record_type();
    let mut answer = Answer { reply: Vec::new(), rcode: message.header().rcode(), addresses: Vec::new(), other_records: 0, stripped: None };
    let mut kept: Vec<Record<'_>> = Vec::new();
    for (owner, ttl, data) in records {
        if owner != end || data.rtype() != wanted || kept.len() == RECORDS_MAX {
            continue;
        }
        let ttl = ttl.min(alias_ttl).min(Ttl::from_secs(TTL_MAX.as_secs() as u32));
        if let AllRecordData::A(address) = &data {
            match judge(address.addr(), Duration::from_secs(u64::from(ttl.as_secs()))) {
                Ok(()) => answer.addresses.push(address.addr()),
                Err(refusal) => {
                    answer.stripped.get_or_insert((address.addr(), refusal));
                    continue;
                }
            }
        } else {
            answer.other_records += 1;
        }
        kept.push((ttl, data));
    }
    answer.rcode = match answer.rcode {
        // Final, as for a name that is refused: trying again finds no other address.
        Rcode::NOERROR if answer.addresses.is_empty() && answer.stripped.is_some() => Rcode::NXDOMAIN,
        rcode @ (Rcode::NOERROR | Rcode::NXDOMAIN) => rcode,
        _ => Rcode::SERVFAIL,
    };
    answer.reply = reply(question, answer.rcode, &kept, size_max);
    Ok(answer)
}

// The records of the answer section with printable owners and readable data.
fn read<'a>(message: &'a Message<&'a [u8]>) -> Result<Vec<(Name, Ttl, Data<'a>)>, AnswerError> {
    let mut records = Vec::new();
    for record in message.answer().map_err(|_| AnswerError::Malformed)? {
        let record = record.map_err(|_| AnswerError::Malformed)?;
        if record.class() != Class::IN {
            continue;
        }
        let Ok(owner) = record.owner().to_string().parse::<Name>() else { continue };
        let record = record.to_any_record::<AllRecordData<_, _>>().map_err(|_| AnswerError::Malformed)?;
        records.push((owner, record.ttl(), record.into_data()));
    }
    Ok(records)
}

// Where the aliases lead, and the least TTL on the way.
fn follow(question: &Question, records: &[(Name, Ttl, Data<'_>)]) -> Result<(Name, Ttl), AnswerError> {
    let mut end = (question.name.clone(), Ttl::MAX);
    if question.kind == QuestionKind::Record(Rtype::CNAME) {
        return Ok(end);
    }
    let mut aliases: HashMap<&Name, (Name, Ttl)> = HashMap::new();
    for (owner, ttl, data) in records {
        if let AllRecordData::Cname(alias) = data {
            let target = alias.cname().to_string().parse().map_err(|_| AnswerError::Malformed)?;
            aliases.entry(owner).or_insert((target, *ttl));
        }
    }
    for _ in 0..=ALIASES_MAX {
        let Some((target, ttl)) = aliases.get(&end.0) else { return Ok(end) };
        end = (target.clone(), end.1.min(*ttl));
    }
    Err(AnswerError::Aliases)
}

/// Writes a reply with records about the name asked for.
pub(super) fn reply(question: &Question, rcode: Rcode, records: &[Record<'_>], size_max: usize) -> Vec<u8> {
    let full = write(question, rcode, records, false);
    match full {
        Some(bytes) if bytes.len() <= size_max => bytes,
        _ => write(question, rcode, &[], true).unwrap_or_default(),
    }
}

// `None` if the records do not fit into any message.
fn write(question: &Question, rcode: Rcode, records: &[Record<'_>], truncated: bool) -> Option<Vec<u8>> {
    // A `Name` is a valid domain name, so this holds for every question.
    let owner: WireName<Vec<u8>> = question.name.as_str().parse().ok()?;
    let target = domain::base::StaticCompressor::new(Vec::new());
    let mut builder = MessageBuilder::from_target(target).ok()?;
    let header = builder.header_mut();
    header.set_id(question.id);
    header.set_qr(true);
    header.set_rd(question.recursion_desired);
    header.set_ra(true);
    header.set_tc(truncated);
    header.set_rcode(rcode);
    let mut builder = builder.question();
    builder.push((&owner, question.record_type())).ok()?;
    let mut builder = builder.answer();
    for (ttl, data) in records {
        builder.push((&owner, Class::IN, *ttl, data)).ok()?;
    }
    let mut builder = builder.additional();
    if question.edns_reply_bytes.is_some() {
        builder
            .opt(|opt| {
                opt.set_udp_payload_size(EDNS_REPLY_BYTES);
                Ok(())
            })
            .ok()?;
    }
    Some(builder.finish().into_target())
}
