//! Names as Git writes them in a patch.

use std::fmt::Write as _;

/// Returns `prefix` and `path`, quoted as C does when `core.quotePath` wants it.
pub(super) fn quoted(prefix: &str, path: &[u8]) -> String {
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) && !matches!(byte, b'"' | b'\\');
    let mut text = String::with_capacity(prefix.len() + path.len() + 2);
    if path.iter().all(plain) {
        text.push_str(prefix);
        text.extend(path.iter().map(|byte| char::from(*byte)));
        return text;
    }
    text.push('"');
    text.push_str(prefix);
    for byte in path {
        match byte {
            7 => text.push_str("\\a"),
            8 => text.push_str("\\b"),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            11 => text.push_str("\\v"),
            12 => text.push_str("\\f"),
            b'\r' => text.push_str("\\r"),
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            byte if plain(byte) => text.push(char::from(*byte)),
            byte => write!(text, "\\{byte:03o}").expect("writing to a string cannot fail"),
        }
    }
    text.push('"');
    text
}

/// Returns a name for a `---` or `+++` line: one with a blank is followed by a tab, or its end could not be told.
pub(super) fn line_name(prefix: &str, path: &[u8]) -> String {
    let mut name = quoted(prefix, path);
    if !name.starts_with('"') && name.contains(' ') {
        name.push('\t');
    }
    name
}
