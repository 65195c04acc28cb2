//! Takes credentials out of addresses, wherever they stand: in a configuration, a message, a reflog.

/// Takes the credentials out of a value or a name: its addresses may hold anything but the end of a line.
pub(super) fn strip_value(value: &str) -> String {
    String::from_utf8_lossy(&strip(value.as_bytes(), |byte| byte == b'\n')).into_owned()
}

/// Takes user names and passwords out of every address in a text, and the query of an address of the web.
///
/// The user of `ssh://git@host` is part of the address and stays; its password does not. `git@host:path` holds no secret. A text is bytes:
/// a message or a patch is in whatever encoding its author used.
pub(in crate::source) fn strip_credentials(text: &[u8]) -> Vec<u8> {
    strip(text, |byte| byte.is_ascii_whitespace())
}

fn strip(text: &[u8], ends_address: impl Fn(u8) -> bool) -> Vec<u8> {
    const MARK: &[u8] = b"://";
    let mut stripped = Vec::with_capacity(text.len());
    let mut at = 0;
    let mut end = 0;
    while let Some(found) = text[at..].windows(MARK.len()).position(|window| window == MARK) {
        let start = at + found + MARK.len();
        stripped.extend_from_slice(&text[at..start]);
        let scheme = text[(start - MARK.len()).saturating_sub("https".len())..start - MARK.len()].to_ascii_lowercase();
        // An address inside another one ends where that does; looking for the end each time would take for ever.
        if start > end {
            let length = text[start..].iter().position(|byte| ends_address(*byte)).unwrap_or(text.len() - start);
            // A quotation mark may be part of a password, so it only ends an address when nothing follows it.
            let last = text[start..start + length].iter().rposition(|byte| !matches!(byte, b'\'' | b'"'));
            end = start + last.map_or(0, |last| last + 1);
        }
        let address = &text[start..end];
        let mut length = address.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(address.len());
        if address[..length].ends_with(b":") && address[length..].starts_with(b"//") {
            length -= 1;
        }
        let (authority, path) = address.split_at(length);
        let sign = authority.iter().rposition(|byte| *byte == b'@');
        if let Some(sign) = sign.filter(|_| scheme.ends_with(b"ssh")) {
            stripped.extend(authority[..sign].iter().take_while(|byte| **byte != b':'));
            stripped.push(b'@');
        }
        stripped.extend_from_slice(&authority[sign.map_or(0, |sign| sign + 1)..]);
        let web = scheme.ends_with(b"http") || scheme.ends_with(b"https");
        let kept = (0..path.len()).find(|index| path[*index..].starts_with(MARK) || (web && matches!(path[*index], b'?' | b'#')));
        let kept = kept.unwrap_or(path.len());
        stripped.extend_from_slice(&path[..kept]);
        at = if path[kept..].starts_with(MARK) { start + length + kept } else { end };
    }
    stripped.extend_from_slice(&text[at..]);
    stripped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_prose_lose_their_secrets() {
        let check = |text: &str, expected: &str| assert_eq!(String::from_utf8(strip_credentials(text.as_bytes())).unwrap(), expected);
        check("pull https://t:k@h/x: ok, and git@h:p, ssh://u:p@h/y", "pull https://h/x: ok, and git@h:p, ssh://u@h/y");
        check("of 'https://t:k'k@h/x?s3cret'\nHTTPS://t@h", "of 'https://h/x'\nHTTPS://h");
        check("https://https://t:k@h/https://t:k@h/a?b ext::ftp://t@h/a?b", "https://https://h/https://h/a ext::ftp://h/a?b");
        check("://", "://");
        assert_eq!(strip_credentials(b"\xe9 https://\xe9@h/\xe9"), b"\xe9 https://h/\xe9");
    }

    #[test]
    fn text_made_to_be_slow_is_not() {
        let text = "https://".repeat(1 << 18);
        assert_eq!(strip_credentials(text.as_bytes()), text.as_bytes());
    }
}
