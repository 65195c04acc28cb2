//! One secret that a placeholder stands for, and how the placeholder becomes the secret in a header.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use pyro_egress::policy::Name;
use pyro_secret::{SecretName, SecretValue};
use zeroize::Zeroizing;

use crate::host::HostPattern;

/// The shortest placeholder, in bytes: one that ordinary text does not hold.
const PLACEHOLDER_BYTES_MIN: usize = 16;
/// The longest placeholder, in bytes.
const PLACEHOLDER_BYTES_MAX: usize = 256;

/// Headers that a secret cannot go into: they say where a message goes, where it ends, or what its answer may look like.
const FORBIDDEN_HEADERS: [HeaderName; 10] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Reads with and without padding, as clients write it.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// A placeholder that becomes a secret in one header of requests to some hosts.
#[derive(Debug, Clone)]
pub struct Substitution {
    name: SecretName,
    placeholder: String,
    value: SecretValue,
    host: HostPattern,
    header: HeaderName,
}

/// Why there is no [`Substitution`]. No message holds any of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields are")]
pub enum SubstitutionError {
    #[error("the value of secret `{name}` cannot stand in a header: it has a line end (a file's last one counts)")]
    LineEnd { name: SecretName },
    #[error("the value of secret `{name}` cannot stand in a header: it has a control character")]
    ControlCharacter { name: SecretName },
    #[error("the value of secret `{name}` cannot stand in a header: it begins or ends with a space")]
    OuterSpace { name: SecretName },
    #[error("secret `{name}` cannot go into the header `{header}`, which messages are framed or routed by")]
    Header { name: SecretName, header: HeaderName },
    #[error(
        "the placeholder of secret `{name}` must be {PLACEHOLDER_BYTES_MIN} to {PLACEHOLDER_BYTES_MAX} letters, digits, hyphens and underscores"
    )]
    Placeholder { name: SecretName },
    #[error("the placeholder of secret `{name}` and its value are part of each other")]
    Overlap { name: SecretName },
}

/// The request would become too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Substitution {
    /// Binds a secret to hosts, a header and the placeholder that the guest gets, which nobody should meet by chance or guess.
    ///
    /// # Errors
    ///
    /// If the value cannot stand in a header, the secret cannot go into this header, or the placeholder is not usable.
    pub fn new(
        name: SecretName,
        placeholder: String,
        value: SecretValue,
        host: HostPattern,
        header: HeaderName,
    ) -> Result<Self, SubstitutionError> {
        let text = value.expose();
        if text.contains(['\r', '\n']) {
            return Err(SubstitutionError::LineEnd { name });
        }
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(SubstitutionError::ControlCharacter { name });
        }
        // Servers trim it, so that it would not be the value that arrives.
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(SubstitutionError::OuterSpace { name });
        }
        if FORBIDDEN_HEADERS.contains(&header) {
            return Err(SubstitutionError::Header { name, header });
        }
        let plain = placeholder.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !plain || !(PLACEHOLDER_BYTES_MIN..=PLACEHOLDER_BYTES_MAX).contains(&placeholder.len()) {
            return Err(SubstitutionError::Placeholder { name });
        }
        if text.contains(&placeholder) || placeholder.contains(text) {
            return Err(SubstitutionError::Overlap { name });
        }
        Ok(Self { name, placeholder, value, host, header })
    }

    /// Returns the secret's name.
    #[must_use]
    pub fn name(&self) -> &SecretName {
        &self.name
    }

    /// Returns what stands for the secret in the guest.
    #[must_use]
    pub fn placeholder(&self) -> &str {
        &self.placeholder
    }

    /// Returns the hosts that the secret may be sent to.
    #[must_use]
    pub fn host(&self) -> &HostPattern {
        &self.host
    }

    pub(crate) fn value(&self) -> &SecretValue {
        &self.value
    }

    pub(crate) fn covers(&self, host: &Name, port: u16) -> bool {
        self.host.covers(host, port)
    }

    /// Puts the secret where its placeholder is in its header. Returns by how many bytes the headers have grown, if it is anywhere.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, room_bytes: usize) -> Result<Option<usize>, TooLarge> {
        let Entry::Occupied(mut entry) = headers.entry(&self.header) else { return Ok(None) };
        let mut grown = None;
        for header in entry.iter_mut() {
            let room = room_bytes.saturating_sub(grown.unwrap_or(0));
            if let Some(bytes) = self.substitute(header.as_bytes(), room)? {
                *grown.get_or_insert(0) += bytes.len().saturating_sub(header.len());
                let mut value = HeaderValue::from_bytes(&bytes).map_err(|_| TooLarge)?;
                // Not shown by `Debug`, and never put into HTTP/2's table of headers.
                value.set_sensitive(true);
                *header = value;
            }
        }
        Ok(grown)
    }

    fn substitute(&self, header: &[u8], room_bytes: usize) -> Result<Option<Zeroizing<Vec<u8>>>, TooLarge> {
        if let Some(replaced) = self.replace(header, room_bytes)? {
            return Ok(Some(replaced));
        }
        let Some((scheme, credentials)) = header.split_at_checked("Basic ".len()) else { return Ok(None) };
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return Ok(None);
        }
        let Ok(pair) = BASE64.decode(credentials.trim_ascii()) else { return Ok(None) };
        let Some(replaced) = self.replace(&pair, room_bytes)? else { return Ok(None) };
        let encoded = Zeroizing::new(BASE64.encode(&replaced));
        Ok(Some(Zeroizing::new([scheme, encoded.as_bytes()].concat())))
    }

    fn replace(&self, text: &[u8], room_bytes: usize) -> Result<Option<Zeroizing<Vec<u8>>>, TooLarge> {
        let found: Vec<usize> = memmem::find_iter(text, &self.placeholder).collect();
        if found.is_empty() {
            return Ok(None);
        }
        let (placeholder, value) = (self.placeholder.len(), self.value.expose().as_bytes());
        if found.len() * value.len().saturating_sub(placeholder) > room_bytes {
            return Err(TooLarge);
        }
        // As long as it can get, so that no half of the value stays behind in a buffer that was too small.
        let mut replaced = Zeroizing::new(Vec::with_capacity(text.len() + found.len() * value.len()));
        let mut position = 0;
        for at in found {
            replaced.extend_from_slice(&text[position..at]);
            replaced.extend_from_slice(value);
            position = at + placeholder;
        }
        replaced.extend_from_slice(&text[position..]);
        Ok(Some(replaced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACEHOLDER: &str = "pyro-secret-TOKEN-0123456789abcdef";

    fn substitution(value: &str, header: HeaderName) -> Result<Substitution, SubstitutionError> {
        let value = SecretValue::new(value.to_owned()).unwrap();
        Substitution::new("TOKEN".parse().unwrap(), PLACEHOLDER.to_owned(), value, "api.example.com".parse().unwrap(), header)
    }

    fn check(sent: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        headers.append("authorization", sent.parse().unwrap());
        headers.append("x-other", PLACEHOLDER.parse().unwrap());
        substitution("s3cret value", header::AUTHORIZATION).unwrap().apply(&mut headers, 1000).unwrap();
        assert_eq!(headers["authorization"], expected);
        assert_eq!(headers["x-other"], PLACEHOLDER);
    }

    #[test]
    fn the_placeholder_is_replaced_anywhere_in_its_header() {
        check(PLACEHOLDER, "s3cret value");
        check(&format!("Bearer {PLACEHOLDER}"), "Bearer s3cret value");
        check(&format!("a={PLACEHOLDER}, b={PLACEHOLDER};"), "a=s3cret value, b=s3cret value;");
        check("Bearer something else", "Bearer something else");
    }

    #[test]
    fn the_placeholder_is_replaced_within_basic_credentials() {
        let encoded = |pair: &str| BASE64.encode(pair);
        let expected = format!("Basic {}", encoded("user:s3cret value"));
        check(&format!("Basic {}", encoded(&format!("user:{PLACEHOLDER}"))), &expected);
        check(&format!("Basic {}", encoded(&format!("user:{PLACEHOLDER}")).trim_end_matches('=')), &expected);
        check(&format!("basic {}", encoded(PLACEHOLDER)), &format!("basic {}", encoded("s3cret value")));
        check("Basic !", "Basic !");
        check("Basic", "Basic");
        // Other schemes are not taken apart.
        let other = format!("Other {}", encoded(PLACEHOLDER));
        check(&other, &other);
    }

    #[test]
    fn every_line_of_a_header_is_looked_at_and_growth_is_bounded() {
        let substitution = substitution(&"v".repeat(100), header::AUTHORIZATION).unwrap();
        let mut headers = HeaderMap::new();
        for _ in 0..3 {
            headers.append(header::AUTHORIZATION, PLACEHOLDER.parse().unwrap());
        }
        let growth = 3 * (100 - PLACEHOLDER.len());
        assert_eq!(substitution.apply(&mut headers.clone(), growth), Ok(Some(growth)));
        assert_eq!(substitution.apply(&mut headers, growth - 1), Err(TooLarge));
    }

    #[test]
    fn a_substituted_header_is_not_shown_by_debug() {
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, PLACEHOLDER.parse().unwrap());
        let substitution = substitution("canary", header::AUTHORIZATION).unwrap();
        substitution.apply(&mut headers, 1000).unwrap();
        assert!(!format!("{headers:?} {substitution:?}").contains("canary"));
    }

    #[test]
    fn what_cannot_be_substituted_is_said() {
        let check = |value: &str, header: HeaderName, expected: &str| {
            assert_eq!(substitution(value, header).unwrap_err().to_string(), expected);
        };
        let cannot = "the value of secret `TOKEN` cannot stand in a header";
        check("a\nb", header::AUTHORIZATION, &format!("{cannot}: it has a line end (a file's last one counts)"));
        check("a\r", header::AUTHORIZATION, &format!("{cannot}: it has a line end (a file's last one counts)"));
        check("a\0b", header::AUTHORIZATION, &format!("{cannot}: it has a control character"));
        check("a\u{7f}", header::AUTHORIZATION, &format!("{cannot}: it has a control character"));
        check(" a", header::AUTHORIZATION, &format!("{cannot}: it begins or ends with a space"));
        check("a", header::HOST, "secret `TOKEN` cannot go into the header `host`, which messages are framed or routed by");
        check("secret", header::AUTHORIZATION, "the placeholder of secret `TOKEN` and its value are part of each other");
    }
}
