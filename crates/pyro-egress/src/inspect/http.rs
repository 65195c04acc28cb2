//! The names an HTTP/1 request says it is for.
//!
//! Servers differ in what they forgive, so whatever begins like a request and is not exactly one shows no names, which a policy
//! that depends on names refuses. Only the first request of a connection is looked at.

use crate::policy::{Name, VisibleName};

use super::Opening;

/// More headers than servers commonly take.
const HEADERS_MAX: usize = 100;
/// The longest method that is waited for; the longest registered one has 17 characters.
const METHOD_LENGTH_MAX: usize = 20;

const METHODS: [&[u8]; 15] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PROPFIND ",
    b"REPORT ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"PRI ",
];

pub(super) fn look(bytes: &[u8]) -> Opening {
    // Servers skip empty lines before a request (RFC 9112, 2.2).
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let Some(bytes) = start.and_then(|start| bytes.get(start..)) else { return Opening::Incomplete };
    let other = Opening::Complete(VisibleName::Other);
    let method_length = bytes.iter().take_while(|byte| is_token(**byte)).count();
    match bytes.get(method_length) {
        None if method_length <= METHOD_LENGTH_MAX => return Opening::Incomplete,
        Some(b' ') if (1..=METHOD_LENGTH_MAX).contains(&method_length) => {}
        _ => return other,
    }
    // Mail, FTP and SSH speak in such lines, too; only HTTP ends them with its version.
    match bytes.iter().position(|byte| *byte == b'\n') {
        None => return Opening::Incomplete,
        Some(end) if !ends_with_version(bytes.get(..end).unwrap_or_default()) => return other,
        Some(_) => {}
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => Opening::Incomplete,
        Ok(httparse::Status::Complete(_)) => Opening::Complete(VisibleName::Http { names: names(&request).unwrap_or_default() }),
        Err(_) => Opening::Complete(VisibleName::Http { names: Vec::new() }),
    }
}

/// Returns whether bytes begin with a common method, or are the beginning of one.
pub(super) fn begins_with_method(bytes: &[u8]) -> bool {
    METHODS.iter().any(|method| method.iter().zip(bytes).all(|(expected, byte)| expected == byte))
}

/// Returns whether bytes are, or may be the beginning of, a request.
pub(super) fn is_begun(bytes: &[u8]) -> bool {
    look(bytes) != Opening::Complete(VisibleName::Other)
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

fn ends_with_version(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    line.len() > 9 && line[line.len() - 9..].starts_with(b" HTTP/")
}

fn names(request: &httparse::Request<'_, '_>) -> Option<Vec<Name>> {
    let mut hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let host = hosts.next()?;
    // Two of them are forbidden (RFC 9112, 3.2), and servers differ in which one they take.
    if hosts.next().is_some() {
        return None;
    }
    let mut names = vec![host_of(str::from_utf8(host.value).ok()?)?];
    let target = request.path?;
    if request.method == Some("CONNECT") {
        names.push(host_of(target)?);
    } else if let Some((_, rest)) = target.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?'])) {
        let authority = rest.split(['/', '?', '#']).next()?;
        names.push(host_of(authority.rsplit('@').next()?)?);
    }
    Some(names)
}

fn host_of(authority: &str) -> Option<Name> {
    authority.rsplit_once(':').map_or(authority, |(host, _)| host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str, expected: Option<&[&str]>) {
        let expected = match expected {
            None => VisibleName::Other,
            Some(names) => VisibleName::Http { names: names.iter().map(|name| name.parse().unwrap()).collect() },
        };
        assert_eq!(look(request.as_bytes()), Opening::Complete(expected), "{request:?}");
    }

    #[test]
    fn the_names_of_a_request_are_found() {
        check("GET / HTTP/1.1\r\nHost: A.example:8080\r\n\r\n", Some(&["a.example"]));
        check("\r\n\nGET / HTTP/1.1\r\nhOsT:a.example\r\n\r\n", Some(&["a.example"]));
        check("GET http://u:p@b.example:1/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", Some(&["a.example", "b.example"]));
        check("GET /?u=http://b.example HTTP/1.1\r\nHost: a.example\r\n\r\n", Some(&["a.example"]));
        check("CONNECT b.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", Some(&["a.example", "b.example"]));
    }

    #[test]
    fn requests_that_servers_may_read_otherwise_show_no_names() {
        check("GET / HTTP/1.0\r\n\r\n", Some(&[]));
        check("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", Some(&[]));
        check("GET / HTTP/1.1\r\nHost : b.example\r\n\r\n", Some(&[]));
        check("GET / HTTP/1.1\r\nHost: a.example\r\n b.example\r\n\r\n", Some(&[]));
        check("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", Some(&[]));
        check("GET http://[::1]/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Some(&[]));
        check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(&[]));
        check(&format!("GET / HTTP/1.1\r\n{}Host: a.example\r\n\r\n", "X: y\r\n".repeat(HEADERS_MAX)), Some(&[]));
    }

    #[test]
    fn beginnings_of_methods_are_told_from_other_words() {
        for likely in [&b"G"[..], b"PUT /x", b"PRI * HTTP/2.0"] {
            assert!(begins_with_method(likely));
        }
        for unlikely in [&b"hello"[..], b"PING", b"get /"] {
            assert!(!begins_with_method(unlikely));
        }
    }

    #[test]
    fn other_protocols_are_not_taken_for_requests() {
        check("SSH-2.0-OpenSSH_9.2 Debian\r\n", None);
        check("EHLO workspace\r\n", None);
        check("*1\r\n$4\r\nPING\r\n", None);
        check("\0\0\0\x08\x04\x12\x16\x2f", None);
        check("GET /\r\n", None);
    }
}
