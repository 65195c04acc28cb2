//! What the first bytes of a connection show about whom it is for. Pure: bytes in, verdict or "more, please" out.

mod http;
mod tls;

use crate::policy::VisibleName;

/// The most bytes that are held back while looking. A ClientHello with post-quantum keys and tickets has some 2 KiB, a request with
/// generous cookies 8; whoever needs more is taken for one who does not want to be read.
pub const OPENING_BYTES_MAX: usize = 16 * 1024;

/// What the first bytes say so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// They are the beginning of something; more will tell.
    Incomplete,
    /// This is all they will say.
    Complete(VisibleName),
}

/// Looks at all that a client has sent so far.
#[must_use]
pub fn look(bytes: &[u8]) -> Opening {
    let Some(first) = bytes.first() else { return Opening::Incomplete };
    let bytes = bytes.get(..OPENING_BYTES_MAX).unwrap_or(bytes);
    let opening = if *first == tls::HANDSHAKE_RECORD { tls::look(bytes) } else { http::look(bytes) };
    if opening == Opening::Incomplete && bytes.len() == OPENING_BYTES_MAX {
        return Opening::Complete(unreadable(bytes));
    }
    opening
}

/// Returns what to make of first bytes that never became complete.
#[must_use]
pub fn unreadable(bytes: &[u8]) -> VisibleName {
    match bytes.first() {
        Some(&tls::HANDSHAKE_RECORD) => VisibleName::Tls { server_name: None, encrypted: false },
        _ if http::is_begun(bytes) => VisibleName::Http { names: Vec::new() },
        _ => VisibleName::Other,
    }
}

/// Returns whether bytes begin like what shows a name, for those who would rather pass them on than wait for a name they do not need.
#[must_use]
pub fn is_likely(bytes: &[u8]) -> bool {
    bytes.first() == Some(&tls::HANDSHAKE_RECORD) || http::begins_with_method(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = look(&bytes);
        }

        #[test]
        fn any_bytes_after_a_record_header_are_looked_at_without_harm(
            kind in 0_u8..3, length in 0_u16..500, bytes in prop::collection::vec(any::<u8>(), 0..600)
        ) {
            let mut record = vec![tls::HANDSHAKE_RECORD, 3, kind];
            record.extend(length.to_be_bytes());
            record.extend(bytes);
            let _ = look(&record);
        }

        #[test]
        fn a_request_is_never_complete_before_its_head_is(cut in 0_usize..60) {
            let request = b"GET /a HTTP/1.1\r\nUser-Agent: x\r\nHost: a.example\r\n\r\nrest";
            let head_length = request.len() - 4;
            let seen = look(&request[..cut.min(request.len())]);
            prop_assert_eq!(seen == Opening::Incomplete, cut < head_length);
        }
    }

    #[test]
    fn what_never_ends_is_unreadable_at_the_cap() {
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; OPENING_BYTES_MAX]].concat();
        assert_eq!(look(&endless), Opening::Complete(VisibleName::Http { names: Vec::new() }));
        let line = [b"GET /".as_slice(), &vec![b'x'; OPENING_BYTES_MAX]].concat();
        assert_eq!(look(&line), Opening::Complete(VisibleName::Http { names: Vec::new() }));
    }
}
