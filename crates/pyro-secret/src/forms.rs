//! The forms in which a value shows up in what programs print.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::value::SecretValue;

/// The shortest value whose encodings are looked for. Those of shorter ones are a few characters that ordinary text holds by chance.
const ENCODED_VALUE_BYTES_MIN: usize = 6;

/// The shortest line of a value that is looked for by itself, as programs show it that number or indent lines. That of a key has 64 or more.
const LINE_BYTES_MIN: usize = 16;
/// What lines begin with that say what kind of text theirs is (RFC 7468): no secret.
const ARMOUR: &str = "-----";

/// One form; wiped when dropped.
pub(crate) type Form = Zeroizing<Vec<u8>>;

/// Returns every form of a value, each once, none empty.
///
/// Its longer lines by themselves, in lower case, without its trailing line ends (as `$(cat …)` gives it), with line ends as terminals write them, and, for values that are long enough,
/// as JSON, in a URL, and in base64 at each of the three places within a group of three bytes at which it may begin: the last are how
/// `user:value` shows in HTTP's basic authentication.
pub(crate) fn forms(value: &SecretValue) -> Vec<Form> {
    let text = value.expose();
    let trimmed = text.trim_end_matches(['\r', '\n']);
    let mut forms: Vec<Form> = Vec::new();
    for raw in [text, trimmed] {
        let mut add = |form: Vec<u8>| {
            let form = Zeroizing::new(form);
            if !form.is_empty() && !forms.contains(&form) {
                forms.push(form);
            }
        };
        add(raw.as_bytes().to_vec());
        // A value that has `\r\n` already would get `\r\r\n` from a terminal, and that is what is looked for.
        add(raw.replace('\n', "\r\n").into_bytes());
        if raw.len() >= ENCODED_VALUE_BYTES_MIN {
            add(json(raw));
            add(percent(raw));
            base64_forms(raw, &mut add);
            // As a name of a host comes back.
            add(raw.to_ascii_lowercase().into_bytes());
        }
        if raw.contains('\n') {
            for line in raw.lines().map(str::trim).filter(|line| line.len() >= LINE_BYTES_MIN && !line.starts_with(ARMOUR)) {
                add(line.as_bytes().to_vec());
            }
        }
    }
    forms
}

/// Escapes as RFC 8259 asks and most writers do: nothing but quotes, backslashes and control characters.
fn json(text: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' => escaped.extend(b"\\\""),
            b'\\' => escaped.extend(b"\\\\"),
            b'\n' => escaped.extend(b"\\n"),
            b'\r' => escaped.extend(b"\\r"),
            b'\t' => escaped.extend(b"\\t"),
            0x08 => escaped.extend(b"\\b"),
            0x0c => escaped.extend(b"\\f"),
            0..0x20 => escaped.extend(format!("\\u{byte:04x}").into_bytes()),
            _ => escaped.push(byte),
        }
    }
    escaped
}

/// Escapes everything but RFC 3986's unreserved characters.
fn percent(text: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(byte);
        } else {
            escaped.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    escaped
}

/// Adds what a value looks like in base64, in both alphabets, without padding.
fn base64_forms(text: &str, add: &mut impl FnMut(Vec<u8>)) {
    for before in 0..3 {
        // The characters that hold bits of what stands before it are not the value's alone, nor are those with bits of what follows, if
        // something does. If nothing does, or only a line end, the last character is known as well.
        let first = (before * 8_usize).div_ceil(6);
        let determined = (before + text.len()) * 8 / 6;
        for suffix in ["", "\n"] {
            let bytes = Zeroizing::new([vec![0; before].as_slice(), text.as_bytes(), suffix.as_bytes()].concat());
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                let encoded = Zeroizing::new(engine.encode(&bytes).into_bytes());
                add(encoded[first..determined].to_vec());
                add(encoded[first..].to_vec());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(value: &str, expected: &[&str]) {
        let forms = forms(&SecretValue::new(value.to_owned()).unwrap());
        let found: BTreeSet<&str> = forms.iter().map(|form| std::str::from_utf8(form).unwrap()).collect();
        assert_eq!(found, expected.iter().copied().collect(), "{value:?}");
    }

    #[test]
    fn short_values_are_looked_for_as_they_are() {
        check("a b", &["a b"]);
        check("\n", &["\n", "\r\n"]);
        check("a\nb\n", &["a\nb\n", "a\r\nb\r\n", "a\nb", "a\r\nb"]);
    }

    #[test]
    fn lines_are_looked_for_by_themselves_but_not_what_says_their_kind() {
        let value =
            SecretValue::new("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\nshort\n-----END PRIVATE KEY-----\n".to_owned()).unwrap();
        let is_form = |text: &str| forms(&value).iter().any(|form| form.as_slice() == text.as_bytes());
        assert!(is_form("MC4CAQAwBQYDK2VwBCIEIA"));
        assert!(!is_form("short") && !is_form("-----BEGIN PRIVATE KEY-----"));
    }

    #[test]
    fn a_value_is_looked_for_as_the_name_of_a_host_gives_it_back() {
        let value = SecretValue::new("AbCdEf-TokenQ7".to_owned()).unwrap();
        assert!(forms(&value).iter().any(|form| form.as_slice() == b"abcdef-tokenq7"));
    }

    #[test]
    fn longer_values_are_looked_for_in_encodings() {
        // `abcdef`, `xabcdef`, `xyabcdef`, each alone, before a line end, and before anything.
        let base64 = ["YWJjZGVm", "YWJjZGVmCg", "FiY2RlZ", "FiY2RlZg", "FiY2RlZgo", "hYmNkZW", "hYmNkZWY", "hYmNkZWYK"];
        check("abcdef", &[["abcdef"].as_slice(), &base64].concat());
    }

    #[test]
    fn json_and_urls_escape_what_they_must() {
        assert_eq!(json("a\"\\\n\t\u{1}é/"), "a\\\"\\\\\\n\\t\\u0001é/".as_bytes());
        assert_eq!(percent("a/b +é~"), b"a%2Fb%20%2B%C3%A9~");
    }
}
