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
            let json = json(raw);
            // Some writers escape slashes, too; others everything that means something in HTML.
            add(json.replace("/", "\\/").into_bytes());
            add(json_for_html(&json, false));
            add(json_for_html(&json, true));
            add(json.into_bytes());
            let percent = percent(raw);
            add(lower_case_percent(&percent));
            add(percent.into_bytes());
            add(html(raw));
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
fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            '\0'..' ' => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Escapes what means something in HTML and, as some writers do, `+`, with hexadecimal digits of either case.
fn json_for_html(json: &str, upper_case: bool) -> Vec<u8> {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\'' | '+' if upper_case => escaped.push_str(&format!("\\u{:04X}", u32::from(character))),
            '<' | '>' | '&' | '\'' | '+' => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => escaped.push(character),
        }
    }
    escaped.into_bytes()
}

/// Escapes what means something in HTML (WHATWG HTML, 13.3).
fn html(text: &str) -> Vec<u8> {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped.into_bytes()
}

/// Escapes everything but RFC 3986's unreserved characters.
fn percent(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Writes the digits of escapes as other writers do.
fn lower_case_percent(percent: &str) -> Vec<u8> {
    let mut pieces = percent.split('%');
    let mut lower = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        lower.push('%');
        lower.push_str(&digits.to_ascii_lowercase());
        lower.push_str(rest);
    }
    lower.into_bytes()
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
        assert_eq!(json("a\"\\\n\t\u{1}é/"), "a\\\"\\\\\\n\\t\\u0001é/");
        assert_eq!(percent("a/b +é~"), "a%2Fb%20%2B%C3%A9~");
        assert_eq!(lower_case_percent("a%2Fb%20%2B%C3%A9~ABC"), b"a%2fb%20%2b%c3%a9~ABC");
        assert_eq!(json_for_html("a+b&c", true), b"a\\u002Bb\\u0026c");
        assert_eq!(html("a<b&\"'"), b"a&lt;b&amp;&quot;&#39;");
    }
}
