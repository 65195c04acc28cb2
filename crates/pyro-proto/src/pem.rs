//! Certificates in text (RFC 7468), as host and guest hand them on.

/// The line a certificate begins with.
pub const CERTIFICATE_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
/// The line it ends with.
pub const CERTIFICATE_END: &str = "-----END CERTIFICATE-----";

/// Returns the whole certificates of a text, each from its first line to its last without the line's end, and nothing else of it: a key may
/// stand beside them.
pub fn certificates(text: &str) -> impl Iterator<Item = &str> {
    let whole = |part: &&str| part.ends_with(CERTIFICATE_END);
    text.split_inclusive(CERTIFICATE_END).filter_map(|part| part.find(CERTIFICATE_BEGIN).map(|begin| &part[begin..])).filter(whole)
}
