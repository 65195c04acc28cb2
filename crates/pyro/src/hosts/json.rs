//! JSON as hosts read it: some take comments, some also commas after the last entry.
//!
//! Edited on the concrete syntax tree, whose leaves are the text itself.

use jsonc_parser::{
    CollectOptions, ParseOptions,
    cst::{CstInputValue, CstObject, CstObjectProp, CstRootNode},
    errors::ParseError,
    parse_to_ast,
};
use serde_json::Value;

use super::error::Malformed;

/// How much beyond JSON a host reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Strict,
    Comments,
    CommentsAndTrailingCommas,
}

/// A parsed text.
pub(super) struct JsonDocument {
    root: CstRootNode,
}

impl std::fmt::Debug for JsonDocument {
    // The tree's own form is a graph of parents and children, and the text may hold other servers' secrets.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JsonDocument").finish_non_exhaustive()
    }
}

impl JsonDocument {
    pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Self, Malformed> {
        let options = ParseOptions {
            allow_comments: dialect != Dialect::Strict,
            allow_trailing_commas: dialect == Dialect::CommentsAndTrailingCommas,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let syntax = |error: ParseError| Malformed::Syntax {
            line: error.line_display(),
            column: error.column_display(),
            reason: error.kind().to_string(),
        };
        // The tree takes comments whatever the options say, so they are looked for first.
        parse_to_ast(text, &CollectOptions::default(), &options).map_err(syntax)?;
        let root = CstRootNode::parse(text, &options).map_err(syntax)?;
        if root.value().is_some() && root.object_value().is_none() {
            return Err(Malformed::NotATable { key: "the file".to_owned() });
        }
        Ok(Self { root })
    }

    pub(super) fn get(&self, path: &[&str]) -> Result<Option<Value>, Malformed> {
        let Some(mut object) = self.root.object_value() else { return Ok(None) };
        let Some((last, above)) = path.split_last() else { return Ok(object.to_serde_value()) };
        for key in above {
            match property(&object, key)? {
                Some(found) => object = found.object_value().ok_or_else(|| not_a_table(key))?,
                None => return Ok(None),
            }
        }
        Ok(property(&object, last)?.and_then(|found| found.to_serde_value()))
    }

    pub(super) fn set(&mut self, path: &[&str], value: &Value) -> Result<(), Malformed> {
        let Some((last, above)) = path.split_last() else { return Ok(()) };
        let mut object = self.root.object_value_or_create().ok_or_else(|| not_a_table("the file"))?;
        for key in above {
            object = match property(&object, key)? {
                Some(found) => found.object_value().ok_or_else(|| not_a_table(key))?,
                None => object.append(key, CstInputValue::Object(Vec::new())).object_value().ok_or_else(|| not_a_table(key))?,
            };
        }
        match property(&object, last)? {
            Some(found) => found.set_value(input(value)),
            None => drop(object.append(last, input(value))),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &[&str]) -> Result<(), Malformed> {
        let (Some((last, above)), Some(mut object)) = (path.split_last(), self.root.object_value()) else { return Ok(()) };
        for key in above {
            match property(&object, key)? {
                Some(found) => object = found.object_value().ok_or_else(|| not_a_table(key))?,
                None => return Ok(()),
            }
        }
        if let Some(found) = property(&object, last)? {
            found.remove();
        }
        Ok(())
    }

    pub(super) fn into_text(self) -> String {
        self.root.to_string()
    }
}

/// Returns the property of this name. Of two, hosts take the last and people read the first: neither is ours to choose.
fn property(object: &CstObject, name: &str) -> Result<Option<CstObjectProp>, Malformed> {
    let mut found = object.properties().into_iter().filter(|property| property.decoded_name().as_deref() == Some(name));
    match (found.next(), found.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(Malformed::Twice { key: name.to_owned() }),
    }
}

fn not_a_table(key: &str) -> Malformed {
    Malformed::NotATable { key: key.to_owned() }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(values) => CstInputValue::Array(values.iter().map(input).collect()),
        Value::Object(map) => CstInputValue::Object(map.iter().map(|(key, value)| (key.clone(), input(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(before: &str, edit: impl FnOnce(&mut JsonDocument) -> Result<(), Malformed>, after: &str) {
        let mut document = JsonDocument::parse(before, Dialect::CommentsAndTrailingCommas).expect("it parses");
        edit(&mut document).expect("it can be edited");
        assert_eq!(document.into_text(), after);
    }

    #[test]
    fn new_entry_takes_the_files_indentation_and_keeps_comments() {
        check(
            "{\n    // mine\n    \"a\": 1, // one\n    \"s\": {\n        \"x\": {} /* y */\n    }\n}\n",
            |document| document.set(&["s", "pyro", "args"], &json!(["mcp", "serve"])),
            "{\n    // mine\n    \"a\": 1, // one\n    \"s\": {\n        \"x\": {}, /* y */\n        \"pyro\": {\n            \"args\": [\"mcp\", \"serve\"]\n        }\n    }\n}\n",
        );
    }

    #[test]
    fn trailing_commas_and_carriage_returns_stay() {
        check(
            "{\r\n\t\"s\": {\r\n\t\t\"x\": 1,\r\n\t},\r\n}\r\n",
            |document| document.set(&["s", "y"], &json!(true)),
            "{\r\n\t\"s\": {\r\n\t\t\"x\": 1,\r\n\t\t\"y\": true,\r\n\t},\r\n}\r\n",
        );
    }

    #[test]
    fn empty_text_becomes_an_object() {
        check("", |document| document.set(&["s", "y"], &json!("z")), "{\n  \"s\": {\n    \"y\": \"z\"\n  }\n}\n");
    }

    #[test]
    fn entry_goes_without_its_comma() {
        check("{\n  \"a\": 1,\n  \"b\": 2\n}", |document| document.remove(&["b"]), "{\n  \"a\": 1\n}");
        check("{\n  \"a\": 1\n}", |document| document.remove(&["b", "c"]), "{\n  \"a\": 1\n}");
    }

    #[test]
    fn what_a_host_would_refuse_is_refused_with_its_place() {
        let place = |text: &str, dialect| JsonDocument::parse(text, dialect).map(|_| ()).expect_err("it is refused").to_string();
        assert!(place("{\n  // c\n}", Dialect::Strict).starts_with("line 2, column 3: "));
        assert!(place("{\n  \"a\": 1,\n}", Dialect::Comments).starts_with("line 2, column 9: "));
        assert!(place("{\n  'a': 1\n}", Dialect::CommentsAndTrailingCommas).starts_with("line 2, column 3: "));
        assert_eq!(place("[1]", Dialect::Strict), "`the file` does not hold other entries, as it should");
        assert!(JsonDocument::parse("{ // c\n}", Dialect::Comments).is_ok());
    }

    #[test]
    fn a_key_that_is_there_twice_is_left_to_the_user() {
        let mut document = JsonDocument::parse("{\"s\": {}, \"s\": {}}", Dialect::Strict).expect("it parses");
        assert_eq!(document.set(&["s", "x"], &json!(1)), Err(Malformed::Twice { key: "s".into() }));
        assert_eq!(document.get(&["s"]), Err(Malformed::Twice { key: "s".into() }));
        let mut document = JsonDocument::parse("{\"s\": 3}", Dialect::Strict).expect("it parses");
        assert_eq!(document.set(&["s", "x"], &json!(1)), Err(Malformed::NotATable { key: "s".into() }));
    }
}
