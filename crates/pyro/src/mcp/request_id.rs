//! Finds the id of a message that cannot be read, so that whoever waits for an answer under it gets one.
//!
//! A scanner is fed a message byte by byte and keeps nothing of it but the id: it finds the one of a message that is too long to be held, is
//! nested too deeply, is not UTF-8 or ends in the middle. Python's client writes the id behind the parameters, so it goes on to the end.

use serde_json::Value;

/// Longest id that is repeated; a message with a longer one is answered without.
const ID_MAX_BYTES: usize = 1024;

/// Looks for the member `id` of the outermost object.
#[derive(Debug, Default)]
pub(super) struct IdScanner {
    depth: usize,
    /// Whether the outermost value is an object; a list has members without names.
    object: bool,
    in_string: bool,
    escaped: bool,
    part: Part,
    /// The name or the value that is being read, as it is written.
    text: Vec<u8>,
    id: Option<String>,
}

/// Which half of a member of the outermost object is being read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    #[default]
    Name,
    Id,
    Other,
}

impl IdScanner {
    /// Returns the id in a message, as it is written there; a number that the message ends with may go on and is none.
    pub(super) fn find(message: &[u8]) -> Option<String> {
        let mut scanner = Self::default();
        scanner.push(message);
        scanner.id
    }

    /// Takes the next piece of the message.
    pub(super) fn push(&mut self, piece: &[u8]) {
        piece.iter().for_each(|&byte| self.byte(byte));
    }

    /// Returns what has been found; of several ids the last one, which is the one a reader of JSON takes.
    pub(super) fn into_id(self) -> Option<String> {
        self.id
    }

    fn byte(&mut self, byte: u8) {
        if self.in_string {
            self.keep(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth == 1 {
                    self.object = byte == b'{';
                    self.begin(Part::Name);
                } else {
                    self.keep(byte);
                }
            }
            b'}' | b']' => {
                if self.depth == 1 {
                    self.end_value();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 && self.part == Part::Name => {
                let is_id = serde_json::from_slice::<String>(self.text.trim_ascii()).is_ok_and(|name| name == "id");
                self.begin(if is_id { Part::Id } else { Part::Other });
            }
            b',' if self.depth == 1 => {
                self.end_value();
                self.begin(Part::Name);
            }
            byte => self.keep(byte),
        }
    }

    fn begin(&mut self, part: Part) {
        self.part = part;
        self.text.clear();
    }

    fn keep(&mut self, byte: u8) {
        // One byte more than an id may have: it is too long, then, and no longer the same.
        if self.depth == 1 && self.object && self.part != Part::Other && self.text.len() <= ID_MAX_BYTES {
            self.text.push(byte);
        }
    }

    fn end_value(&mut self) {
        if self.part != Part::Id || self.text.len() > ID_MAX_BYTES {
            return;
        }
        let text = self.text.trim_ascii();
        if let Ok(Value::String(_) | Value::Number(_)) = serde_json::from_slice(text) {
            self.id = String::from_utf8(text.to_vec()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn id_is_found_in_what_cannot_be_read() {
        let deep = format!(r#"{{"method":"x","params":{}1{},"id":"after"}}"#, "[".repeat(5000), "]".repeat(5000));
        for (message, expected) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":3}"#.as_bytes(), Some("7")),
            (br#"{"id":3,"method":"too"#, Some("3")),
            (br#"{"id":31"#, None),
            (br#"{"id":"text"#, None),
            (br#" { "id" : "a\"},b" , oops"#, Some(r#""a\"},b""#)),
            (b"{\"x\":\"\xff\xfe\",\"id\":4}", Some("4")),
            (br#"{"params":{"id":1},"id":2}"#, Some("2")),
            (br#"{"params":{"id":1}}"#, None),
            (br#"{"params":"\"id\":1,","id":-5.5}"#, Some("-5.5")),
            (br#"{"params":1e999,"id":18446744073709551616}"#, Some("18446744073709551616")),
            (br#"{"id":null,"method":"x"}"#, None),
            (br#"{"id":{"id":1}}"#, None),
            (br#"{"id":[1]}"#, None),
            (br#"{"id":true}"#, None),
            (br#"[{"id":1}]"#, None),
            (br#"{"\u0069d":9}"#, Some("9")),
            (br#"{"id":1,"id":2}"#, Some("2")),
            (deep.as_bytes(), Some(r#""after""#)),
            (b"\xef\xbb\xbf{\"id\":1,", Some("1")),
            (b"}}]]{\"id\":1}", Some("1")),
            (b"", None),
        ] {
            assert_eq!(IdScanner::find(message).as_deref(), expected, "{}", String::from_utf8_lossy(&message[..message.len().min(80)]));
        }
        let long = format!(r#"{{"id":"{}","method":"x"}}"#, "y".repeat(ID_MAX_BYTES));
        assert_eq!(IdScanner::find(long.as_bytes()), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"[a-z"\\{}\[\]:,]{0,6}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let name = prop_oneof![Just("id".to_owned()), r#"[a-z"\\{]{0,3}"#];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// A reader of JSON is the reference.
        #[test]
        fn id_is_the_one_a_reader_finds(message in json(), pretty: bool, cut in 0_usize..40) {
            let text = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) }.expect("JSON");
            let expected = message.get("id").filter(|id| id.is_string() || id.is_number()).map(ToString::to_string);
            prop_assert_eq!(IdScanner::find(text.as_bytes()), expected.clone());
            let mut scanner = IdScanner::default();
            text.as_bytes().chunks(cut.max(1)).for_each(|piece| scanner.push(piece));
            prop_assert_eq!(scanner.into_id(), expected);
        }

        #[test]
        fn any_bytes_are_scanned_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = IdScanner::find(&bytes);
        }
    }
}
