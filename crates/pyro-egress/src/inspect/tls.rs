//! The server name of a TLS ClientHello, which may be split over segments and over records.
//!
//! A parser of our own, since the kept ones either want one whole record (`tls-parser`) or a TLS stack (`rustls`), and neither says
//! "incomplete" across records. It reads one message type (RFC 8446, 4.1.2) and two extensions, forwards only, within the cap of `mod.rs`.

use crate::policy::{Name, VisibleName};

use super::Opening;

/// The content type that a TLS connection starts with (RFC 8446, 5.1).
pub(super) const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// Encrypted Client Hello (RFC 9849), and what its drafts used.
const ENCRYPTED_HELLO: [u16; 3] = [0xfe0d, 0xffce, 0xff02];

const NOTHING: Opening = Opening::Complete(VisibleName::Tls { server_name: None, encrypted: false });

pub(super) fn look(bytes: &[u8]) -> Opening {
    let mut rest = bytes;
    let mut message = Vec::new();
    loop {
        let Some((header, after)) = rest.split_at_checked(5) else {
            // Two bytes tell TLS from what only looks like it.
            return if bytes.get(1).is_some_and(|major| *major != 3) { other() } else { Opening::Incomplete };
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != HANDSHAKE_RECORD || header[1] != 3 || length == 0 {
            return if message.is_empty() && header[1] != 3 { other() } else { NOTHING };
        }
        let whole = after.len() >= length;
        message.extend_from_slice(&after[..length.min(after.len())]);
        rest = after.get(length..).unwrap_or_default();
        if let Some(&[kind, high, middle, low]) = message.first_chunk::<4>() {
            let wanted = 4 + usize::from(high) * 65_536 + usize::from(middle) * 256 + usize::from(low);
            if kind != CLIENT_HELLO {
                return NOTHING;
            }
            if let Some(hello) = message.get(4..wanted) {
                return Opening::Complete(client_hello(hello).unwrap_or(VisibleName::Tls { server_name: None, encrypted: false }));
            }
        }
        if !whole {
            return Opening::Incomplete;
        }
    }
}

fn other() -> Opening {
    Opening::Complete(VisibleName::Other)
}

fn client_hello(hello: &[u8]) -> Option<VisibleName> {
    let mut rest = hello;
    take(&mut rest, 2 + 32)?;
    take_vector(&mut rest, 1)?;
    take_vector(&mut rest, 2)?;
    take_vector(&mut rest, 1)?;
    let mut extensions = take_vector(&mut rest, 2)?;
    let (mut server_name, mut encrypted) = (None, false);
    while !extensions.is_empty() {
        let kind = u16::from_be_bytes(take(&mut extensions, 2)?.try_into().ok()?);
        let body = take_vector(&mut extensions, 2)?;
        if kind == SERVER_NAME {
            // Twice is forbidden (RFC 8446, 4.2), and servers differ in which of the two they take.
            if server_name.is_some() {
                return None;
            }
            server_name = Some(host_name(body)?);
        }
        encrypted |= ENCRYPTED_HELLO.contains(&kind);
    }
    Some(VisibleName::Tls { server_name, encrypted })
}

fn host_name(mut body: &[u8]) -> Option<Name> {
    let mut list = take_vector(&mut body, 2)?;
    let kind = take(&mut list, 1)?;
    let name = take_vector(&mut list, 2)?;
    // One name, of the only kind there ever was.
    if kind != [HOST_NAME] || !list.is_empty() || !body.is_empty() {
        return None;
    }
    str::from_utf8(name).ok()?.parse().ok()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

// A vector with a length of `width` bytes before it (RFC 8446, 3.4).
fn take_vector<'a>(rest: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let length = take(rest, width)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(rest, length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector(width: usize, content: &[u8]) -> Vec<u8> {
        let length = content.len().to_be_bytes();
        [&length[8 - width..], content].concat()
    }

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [kind.to_be_bytes().as_slice(), &vector(2, body)].concat()
    }

    fn server_name(name: &str) -> Vec<u8> {
        extension(SERVER_NAME, &vector(2, &[&[HOST_NAME], vector(2, name.as_bytes()).as_slice()].concat()))
    }

    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [
            [3, 3].as_slice(),
            &[7; 32],
            &vector(1, &[9; 32]),
            &vector(2, &[0x13, 0x01]),
            &vector(1, &[0]),
            &vector(2, &[extension(43, &[2, 3, 4]), extensions.concat()].concat()),
        ]
        .concat();
        [&[CLIENT_HELLO], vector(3, &body).as_slice()].concat()
    }

    fn records(message: &[u8], record_length: usize) -> Vec<u8> {
        message.chunks(record_length).flat_map(|part| [&[HANDSHAKE_RECORD, 3, 1], vector(2, part).as_slice()].concat()).collect()
    }

    fn shown(name: Option<&str>, encrypted: bool) -> Opening {
        Opening::Complete(VisibleName::Tls { server_name: name.map(|name| name.parse().unwrap()), encrypted })
    }

    #[test]
    fn the_server_name_is_found() {
        assert_eq!(look(&records(&hello(&[server_name("Api.Example.com")]), 16_384)), shown(Some("api.example.com"), false));
        assert_eq!(look(&records(&hello(&[]), 16_384)), shown(None, false));
    }

    #[test]
    fn an_encrypted_hello_is_noticed() {
        let encrypted = hello(&[extension(0xfe0d, &[0; 40]), server_name("front.example")]);
        assert_eq!(look(&records(&encrypted, 16_384)), shown(Some("front.example"), true));
    }

    #[test]
    fn two_names_and_odd_names_are_none() {
        assert_eq!(look(&records(&hello(&[server_name("a.example"), server_name("b.example")]), 900)), shown(None, false));
        assert_eq!(look(&records(&hello(&[server_name("a.example\0.evil")]), 900)), shown(None, false));
        assert_eq!(look(&records(&hello(&[server_name("10.0.0.1")]), 900)), shown(None, false));
    }

    #[test]
    fn what_is_not_tls_is_other() {
        assert_eq!(look(&[22, 9]), other());
        assert_eq!(look(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), NOTHING);
    }

    proptest! {
        #[test]
        fn a_hello_is_found_however_it_is_split(record_length in 1_usize..200, cut in 0_usize..2000) {
            let bytes = records(&hello(&[server_name("api.example.com")]), record_length);
            prop_assert_eq!(look(&bytes), shown(Some("api.example.com"), false));
            let cut = cut % bytes.len();
            prop_assert_eq!(look(&bytes[..cut]), Opening::Incomplete);
        }

        #[test]
        fn a_damaged_hello_does_no_harm(at in 0_usize..150, byte: u8) {
            let mut bytes = records(&hello(&[server_name("api.example.com")]), 64);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = look(&bytes);
        }
    }
}
