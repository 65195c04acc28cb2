//! Whether a request is for the host that the connection was judged to be for.
//!
//! One address often serves many names, and decides by `Host` or `:authority` whose a request is, not by the handshake's name. A guest
//! that opens a connection for `api.example.com` must not get its secret sent to `attacker.example` behind the same front end.

use http::header::HOST;
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, StatusCode, Version};
use pyro_egress::policy::Name;

use crate::answer::Refusal;

/// Checks that everything that says whom a request is for says the same, and that it is a request to a server, not to a proxy.
///
/// # Errors
///
/// With what the guest is to be answered.
pub(crate) fn check(parts: &Parts, host: &Name, port: u16) -> Result<(), Refusal> {
    let bad = |text: &str| Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    if parts.method == Method::CONNECT {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this is no proxy to CONNECT through"));
    }
    if parts.version == Version::HTTP_2 {
        if parts.uri.scheme() != Some(&Scheme::HTTPS) {
            return bad("its `:scheme` is not https");
        }
        let Some(authority) = parts.uri.authority() else { return bad("it has no `:authority`") };
        check_host(authority.as_str().as_bytes(), host, port)?;
    } else if parts.uri.authority().is_some() {
        return bad("its target is a whole URL, which only proxies are sent");
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(only), None) => check_host(only.as_bytes(), host, port),
        (None, None) if parts.version == Version::HTTP_2 => Ok(()),
        (None, _) => bad("it has no `Host`"),
        (Some(_), Some(_)) => bad("it has more than one `Host`"),
    }
}

fn check_host(said: &[u8], host: &Name, port: u16) -> Result<(), Refusal> {
    let said = std::str::from_utf8(said).unwrap_or("");
    let (name, said_port) = match said.rsplit_once(':') {
        Some((name, digits)) => (name, digits.parse::<u16>().ok()),
        // Left out even where it must not be, by clients that think of 443 as of every TLS port.
        None => (said, Some(port)),
    };
    if said_port == Some(port) && name.parse::<Name>().is_ok_and(|name| name == *host) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::MISDIRECTED_REQUEST,
        format!("it is for another host than the connection, which was opened for {host}, port {port}, and may carry a secret there"),
    ))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check_hosts(version: Version, uri: &str, hosts: &[&str], expected: Option<StatusCode>) {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let status = check(&parts, &"api.example.com".parse().unwrap(), 443).err().map(|refusal| refusal.status);
        assert_eq!(status, expected, "{uri} {hosts:?}");
    }

    #[test]
    fn a_request_is_for_the_host_of_the_connection_or_refused() {
        let check = |hosts: &[&str], expected| check_hosts(Version::HTTP_11, "/a", hosts, expected);
        check(&["api.example.com"], None);
        check(&["API.example.com."], None);
        check(&["api.example.com:443"], None);
        let misdirected = Some(StatusCode::MISDIRECTED_REQUEST);
        for other in [
            "other.example.com",
            "api.example.com:8443",
            "api.example.com:",
            "api.example.com:x",
            "api.example.com@other.example",
            "other.example@api.example.com",
            "api.example.com/other.example",
            "api.example.com other.example",
            "api.example.com,other.example",
            "203.0.113.7",
            "",
        ] {
            check(&[other], misdirected);
        }
        let bad = Some(StatusCode::BAD_REQUEST);
        check(&[], bad);
        check(&["api.example.com", "api.example.com"], bad);
        check_hosts(Version::HTTP_11, "https://api.example.com/", &["api.example.com"], bad);
        check_hosts(Version::HTTP_10, "/", &[], bad);
    }

    #[test]
    fn what_http2_says_twice_must_be_the_same() {
        let check = |uri: &str, hosts: &[&str], expected| check_hosts(Version::HTTP_2, uri, hosts, expected);
        check("https://api.example.com/", &[], None);
        check("https://api.example.com:443/", &["api.example.com"], None);
        check("https://api.example.com/", &["other.example"], Some(StatusCode::MISDIRECTED_REQUEST));
        check("https://other.example/", &["api.example.com"], Some(StatusCode::MISDIRECTED_REQUEST));
        check("http://api.example.com/", &[], Some(StatusCode::BAD_REQUEST));
        check("/", &["api.example.com"], Some(StatusCode::BAD_REQUEST));
    }
}
