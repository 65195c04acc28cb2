//! Ports, addresses and URLs that requests on services carry.

use std::{borrow::Cow, fmt, num::NonZeroU16, str::FromStr};

use pyro_store::{IdError, PortSpec};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::text::{refuse, text_type};

/// Longest name of a host (RFC 1035, 2.3.4).
const HOST_MAX_BYTES: usize = 253;
/// Longest path of a URL: it is sent in one line, and servers refuse longer ones.
const TARGET_MAX_BYTES: usize = 4096;
/// Port of a URL that names none (RFC 9110, 4.2.1).
const HTTP_PORT: u16 = 80;

/// Parses a port; 0 is none.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse::<NonZeroU16>().ok()).flatten().map(NonZeroU16::get)
}

/// Tells whether a text can be a host's name or address: what is not goes into no request and no message.
fn is_host(text: &str) -> bool {
    (1..=HOST_MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Splits `HOST:PORT`, `[ADDRESS]:PORT` and what has no port.
fn authority(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(digits) => Some((address, Some(port(digits)?))),
            None => rest.is_empty().then_some((address, None)),
        };
    }
    match text.split_once(':') {
        Some((host, digits)) => is_host(host).then_some((host, Some(port(digits)?))),
        None => is_host(text).then_some((text, None)),
    }
}

/// A port of the guest, and the host's port it is published at: `[HOSTPORT:]GUESTPORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct PortPublication {
    /// In the guest.
    pub guest_port: u16,
    /// On the host; `None` takes a free one, or means every one.
    pub host_port: Option<u16>,
}

impl FromStr for PortPublication {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || match text.split_once(':') {
            Some((host, guest)) => Some(Self { guest_port: port(guest)?, host_port: Some(port(host)?) }),
            None => Some(Self { guest_port: port(text)?, host_port: None }),
        };
        parse().ok_or_else(|| refuse(text, "port", "write it as GUESTPORT or HOSTPORT:GUESTPORT, each from 1 to 65535"))
    }
}

impl fmt::Display for PortPublication {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_port {
            Some(host_port) => write!(formatter, "{host_port}:{}", self.guest_port),
            None => self.guest_port.fmt(formatter),
        }
    }
}

impl From<PortPublication> for String {
    fn from(publication: PortPublication) -> Self {
        publication.to_string()
    }
}

impl From<PortPublication> for PortSpec {
    fn from(publication: PortPublication) -> Self {
        Self { guest_port: publication.guest_port, host_port: publication.host_port }
    }
}

/// A port alone may be a number: models write it as one.
impl<'de> Deserialize<'de> for PortPublication {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Number(u64),
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => text.parse(),
            Form::Number(number) => number.to_string().parse(),
        }
        .map_err(D::Error::custom)
    }
}

impl JsonSchema for PortPublication {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PortPublication".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 1, "maximum": 65535 }] })
    }
}

/// Where a service accepts connections, seen from the guest: `[HOST:]PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TcpTarget {
    /// As the guest resolves it; empty is its loopback.
    pub host: String,
    /// In the guest.
    pub port: u16,
}

impl FromStr for TcpTarget {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || match port(text) {
            Some(port) => Some(Self { host: String::new(), port }),
            None => authority(text).and_then(|(host, port)| Some(Self { host: host.to_owned(), port: port? })),
        };
        parse().ok_or_else(|| refuse(text, "TCP address", "write it as PORT or HOST:PORT, the port from 1 to 65535"))
    }
}

impl fmt::Display for TcpTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.host {
            "" => self.port.fmt(formatter),
            address if address.contains(':') => write!(formatter, "[{address}]:{}", self.port),
            host => write!(formatter, "{host}:{}", self.port),
        }
    }
}

text_type!(TcpTarget);

/// Why a URL cannot be probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The probe speaks no TLS.
    #[error("`{url}` cannot be probed: only `http://` is spoken")]
    Https {
        /// The URL, cut to 80 characters.
        url: String,
    },
    /// It has another form.
    #[error("`{url}` is not a URL to probe: write it as http://HOST[:PORT][/PATH], without user, fragment and spaces")]
    Malformed {
        /// The URL, cut to 80 characters.
        url: String,
    },
}

/// A `http://` URL of a service, seen from the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpUrl {
    url: String,
    /// As the guest resolves it.
    pub host: String,
    /// In the guest.
    pub port: u16,
    /// Path and query.
    pub target: String,
}

impl FromStr for HttpUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let url = || text.chars().take(80).collect::<String>();
        let scheme = |name: &str| text.get(..name.len()).filter(|scheme| scheme.eq_ignore_ascii_case(name)).map(|_| &text[name.len()..]);
        if scheme("https://").is_some() {
            return Err(UrlError::Https { url: url() });
        }
        let parse = || {
            let rest = scheme("http://")?;
            let (place, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let (host, port) = authority(place)?;
            // What is not plain in a URL is percent-encoded (RFC 3986, 2.1); a line break here would be a second header.
            let plain = target.len() <= TARGET_MAX_BYTES && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
            plain.then(|| Self { url: text.to_owned(), host: host.to_owned(), port: port.unwrap_or(HTTP_PORT), target })
        };
        parse().ok_or_else(|| UrlError::Malformed { url: url() })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.url)
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = UrlError;

    fn try_from(value: String) -> Result<Self, UrlError> {
        value.parse()
    }
}

impl From<HttpUrl> for String {
    fn from(value: HttpUrl) -> Self {
        value.url
    }
}

impl JsonSchema for HttpUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HttpUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_published_by_number_or_as_a_pair() {
        assert_eq!("80".parse(), Ok(PortPublication { guest_port: 80, host_port: None }));
        assert_eq!("8080:80".parse(), Ok(PortPublication { guest_port: 80, host_port: Some(8080) }));
        assert_eq!("8080:80".parse::<PortPublication>().unwrap().to_string(), "8080:80");
        assert_eq!(serde_json::from_str::<PortPublication>("8000").unwrap().guest_port, 8000);
        for text in ["", "0", "65536", "0:80", "80:0", ":80", "80:", "1:2:3", "+80", " 80", "http", "127.0.0.1:80:80"] {
            assert!(text.parse::<PortPublication>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn tcp_targets_have_a_port_and_maybe_a_host() {
        let check = |text: &str, host: &str, port| {
            let target: TcpTarget = text.parse().unwrap();
            assert_eq!((target.host.as_str(), target.port, target.to_string().as_str()), (host, port, text));
        };
        check("5432", "", 5432);
        check("localhost:5432", "localhost", 5432);
        check("10.0.0.5:80", "10.0.0.5", 80);
        check("[::1]:80", "::1", 80);
        for text in ["", "localhost", "localhost:", "localhost:0", ":80", "::1:80", "[::1]", "[x]:80", "a b:80", "a/b:80"] {
            assert!(text.parse::<TcpTarget>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let check = |text: &str, host: &str, port, target: &str| {
            let url: HttpUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.target.as_str(), url.to_string().as_str()), (host, port, target, text));
        };
        check("http://localhost:8000/health?full=1", "localhost", 8000, "/health?full=1");
        check("http://127.0.0.1", "127.0.0.1", 80, "/");
        check("HTTP://app:80?q", "app", 80, "/?q");
        check("http://[::1]:8080/", "::1", 8080, "/");
    }

    #[test]
    fn urls_that_cannot_be_probed_say_why() {
        assert!(matches!("https://localhost".parse::<HttpUrl>(), Err(UrlError::Https { .. })));
        for text in [
            "",
            "localhost:8000",
            "http://",
            "http:///x",
            "ftp://a/",
            "http://user@a/",
            "http://a/#x",
            "http://a/x y",
            "http://a/\r\nHost: b",
            "http://a:0/",
            "http://a:99999/",
            "http://ä/",
        ] {
            assert!(matches!(text.parse::<HttpUrl>(), Err(UrlError::Malformed { .. })), "{text:?}");
        }
    }
}
