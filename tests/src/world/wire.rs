//! DNS messages by hand, so that a resolver can write what no library would.

use domain::base::Message;

pub(super) const TRUNCATED: u8 = 2;

/// Returns the name and type that a question asks for.
pub(super) fn asked(question: &[u8]) -> Option<(String, u16)> {
    let message = Message::from_octets(question).ok()?;
    let question = message.sole_question().ok()?;
    Some((question.qname().to_string().to_lowercase(), question.qtype().to_int()))
}

pub(super) fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

pub(super) fn record(owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    [&name(owner), &kind.to_be_bytes()[..], &[0, 1], &ttl.to_be_bytes(), &(data.len() as u16).to_be_bytes(), data].concat()
}

/// Returns the reply to a question. `flags` go into the third byte, such as [`TRUNCATED`].
pub(super) fn reply(question: &[u8], flags: u8, rcode: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let Some((asked, kind)) = asked(question) else { return Vec::new() };
    let header = [question[0], question[1], 0x81 | flags, 0x80 | rcode, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
    [&header[..], &name(&asked), &kind.to_be_bytes(), &[0, 1], &records.concat()].concat()
}
