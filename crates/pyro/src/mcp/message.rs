//! Reads a message of a client, or says what is wrong with it, where, and under which id it is to be answered.
//!
//! `rmcp` drops what it cannot read or answers it under no id, and a client waits for an answer to its own. So a message is looked at here
//! first, whatever transport it came by: `null` members go, as they are as good as absent, and what is left is what `rmcp` can read.

use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorCode};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

use super::{
    arguments::{Kind, got},
    request_id::IdScanner,
};

/// Longest name that is repeated.
const NAME_MAX_CHARS: usize = 80;
/// Where a request of a client without a session says which version it speaks.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
/// Most messages of a batch that are answered one by one.
const BATCH_MAX: usize = 1024;

/// The parameters of a method that have a form we can tell: name, kind, whether it must be there.
type Form = (&'static str, &'static [(&'static [&'static str], Kind, bool)]);

const FORMS: [Form; 3] = [
    ("tools/call", &[(&["name"], Kind::Text, true), (&["arguments"], Kind::Object, false)]),
    ("tools/list", &[(&["cursor"], Kind::Text, false)]),
    (
        "initialize",
        &[
            (&["protocolVersion"], Kind::Text, true),
            (&["capabilities"], Kind::Object, true),
            (&["clientInfo"], Kind::Object, true),
            (&["clientInfo", "name"], Kind::Text, true),
            (&["clientInfo", "version"], Kind::Text, true),
        ],
    ),
];

/// A message that cannot be read, and what its sender is told.
#[derive(Debug)]
pub(super) struct Unreadable {
    code: ErrorCode,
    message: String,
    /// What it is answered under, as written by the client; under `null` when nothing was found.
    ids: Vec<String>,
}

impl Unreadable {
    fn new(code: ErrorCode, message: impl Into<String>, id: Option<String>) -> Self {
        Self { code, message: message.into(), ids: id.into_iter().collect() }
    }

    /// A message longer than is read; its id is what the scanner has seen of it.
    pub(super) fn too_long(maximum: usize, scanner: IdScanner) -> Self {
        Self::new(ErrorCode::INVALID_REQUEST, format!("the message is longer than {maximum} bytes"), scanner.into_id())
    }

    /// Tells whether an id was found.
    pub(super) fn has_id(&self) -> bool {
        !self.ids.is_empty()
    }

    /// Returns the answers as JSON, one for each id.
    pub(super) fn answers(&self) -> Vec<String> {
        let error = json!({ "code": self.code.0, "message": self.message });
        // The id is put in as it was written: a number may be one that we could not write again.
        let answer = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
        if self.ids.is_empty() { vec![answer("null")] } else { self.ids.iter().map(|id| answer(id)).collect() }
    }
}

/// Reads a message into JSON that [`parse`] understands; `None` when there is nothing in it.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Value>, Unreadable> {
    // Some programs of Windows begin what they write with it.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let refuse = |code, message: String| Unreadable::new(code, message, IdScanner::find(bytes));
    let text = std::str::from_utf8(bytes)
        .map_err(|error| refuse(ErrorCode::PARSE_ERROR, format!("the message is not UTF-8: invalid byte at {}", error.valid_up_to())))?;
    let mut first_duplicate = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Unique { duplicate: &mut first_duplicate }.deserialize(&mut reader);
    let mut value = read
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| refuse(ErrorCode::PARSE_ERROR, format!("the message cannot be read as JSON: {error}")))?;
    if let Value::Array(messages) = &value {
        // Revisions up to 2025-03-26 know batches, and no client has been seen to send one.
        let id = |message: &Value| {
            message.get("method").and(message.get("id")).filter(|id| id.is_string() || id.is_number()).map(Value::to_string)
        };
        let message = "batches are not supported: send each message by itself".to_owned();
        return Err(Unreadable {
            code: ErrorCode::INVALID_REQUEST,
            message,
            ids: messages.iter().filter_map(id).take(BATCH_MAX).collect(),
        });
    }
    let invalid = |message: String| refuse(ErrorCode::INVALID_REQUEST, message);
    let Some(object) = value.as_object_mut() else { return Err(invalid(format!("a message must be an object, {}", got(&value)))) };
    if let Some(path) = first_duplicate {
        return Err(invalid(format!("`{path}` is given twice")));
    }
    check_envelope(object).map_err(invalid)?;
    if object.get("params").is_some_and(Value::is_null) {
        object.remove("params");
    }
    if let Some(params) = object.get_mut("params").and_then(Value::as_object_mut) {
        params.retain(|_, value| !value.is_null());
        if let Some(meta) = params.get_mut("_meta").and_then(Value::as_object_mut) {
            meta.retain(|_, value| !value.is_null());
        }
    }
    if object.contains_key("id")
        && let Some(fault) = fault_of_parameters(object)
    {
        return Err(refuse(ErrorCode::INVALID_PARAMS, fault));
    }
    Ok(Some(value))
}

/// Makes a message of what was read.
pub(super) fn parse(value: Value) -> Result<ClientJsonRpcMessage, Unreadable> {
    let is_response = value.get("method").is_none();
    // Under the id of a response we would answer another request, one of the client's own.
    let id = value.get("id").filter(|_| !is_response).map(Value::to_string);
    let refuse = |code, message: String| Unreadable::new(code, message, id.clone());
    let method = value.get("method").and_then(Value::as_str);
    let known = method.is_some_and(|method| !form(method, value.get("params").unwrap_or(&Value::Null)).is_empty());
    let what = if is_response { "response" } else { "message" };
    let message = serde_json::from_value(value).map_err(|error| {
        refuse(ErrorCode::INVALID_REQUEST, format!("the {what} does not have the form the protocol describes: {error}"))
    })?;
    if let ClientJsonRpcMessage::Request(request) = &message
        && let ClientRequest::CustomRequest(request) = &request.request
        && known
    {
        let text = format!("the parameters of {} do not have the form the protocol describes", request.method);
        return Err(refuse(ErrorCode::INVALID_PARAMS, text));
    }
    Ok(message)
}

fn check_envelope(message: &Map<String, Value>) -> Result<(), String> {
    match message.get("jsonrpc") {
        Some(Value::String(version)) if version == "2.0" => {}
        Some(other) => return Err(format!("`jsonrpc` must be \"2.0\", {}", got(other))),
        None => return Err("`jsonrpc` is missing: it must be \"2.0\"".to_owned()),
    }
    match message.get("method") {
        Some(Value::String(_)) => {}
        Some(other) => return Err(format!("`method` must be a text, {}", got(other))),
        None if message.contains_key("result") || message.contains_key("error") => return Ok(()),
        None => return Err("`method` is missing".to_owned()),
    }
    match message.get("id") {
        None | Some(Value::String(_)) => {}
        Some(Value::Number(number)) if is_id(number) => {}
        Some(other) => return Err(format!("`id` must be a text or an integer of at most 64 bits, {}", got(other))),
    }
    match message.get("params") {
        None | Some(Value::Object(_) | Value::Null) => Ok(()),
        Some(other) => Err(format!("`params` must be an object, {}", got(other))),
    }
}

/// Tells whether `rmcp` takes a number for an id; `1.0` is 1.
fn is_id(number: &Number) -> bool {
    number.is_i64() || super::arguments::integer_of(number).is_some_and(|number| number.is_i64())
}

/// Returns what is wrong with the parameters of a method we know.
fn fault_of_parameters(message: &Map<String, Value>) -> Option<String> {
    let method = message.get("method")?.as_str()?;
    let none = Value::Object(Map::new());
    let params = message.get("params").unwrap_or(&none);
    let meta = [(&["_meta"][..], Kind::Object, false), (&["_meta", "progressToken"], Kind::TextOrInteger, false)];
    let form = form(method, params);
    form.iter().chain(&meta).find_map(|(path, kind, required)| {
        let place = path.join(".");
        match path.iter().try_fold(params, |value, name| value.get(name)) {
            Some(value) if !kind.accepts(value) => Some(format!("`params.{place}` must be {}, {}", kind.words(), got(value))),
            None if *required => Some(format!("`params.{place}` is missing: {method} needs {}", kind.words())),
            Some(_) | None => None,
        }
    })
}

/// Returns the form of a method's parameters; none for a method we do not know.
fn form(method: &str, params: &Value) -> &'static [(&'static [&'static str], Kind, bool)] {
    // Since 2026-07-28 each request says its version, and `initialize` is a method that there is not.
    let says_version = params.get("_meta").is_some_and(|meta| meta.get(VERSION_KEY).is_some());
    let known = FORMS.iter().find(|(name, _)| *name == method && !(says_version && *name == "initialize"));
    known.map_or(&[], |(_, form)| form)
}

/// Returns a name that a client has given, fit to be repeated.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(NAME_MAX_CHARS).flat_map(char::escape_debug).collect()
}

/// Reads JSON and notes where an object has a name twice. A reader that takes the last of them would not do what another one, which asked a
/// person for permission, has shown.
struct Unique<'a> {
    duplicate: &'a mut Option<String>,
}

impl Unique<'_> {
    /// Reads what is inside, and puts its place in front of that of a duplicate it has found.
    fn inside<T, E>(&mut self, place: impl FnOnce() -> String, read: impl FnOnce(Unique<'_>) -> Result<T, E>) -> Result<T, E> {
        let found_before = self.duplicate.is_some();
        let result = read(Unique { duplicate: self.duplicate })?;
        if let Some(path) = self.duplicate.as_mut().filter(|_| !found_before) {
            let dot = if path.starts_with('[') { "" } else { "." };
            *path = format!("{}{dot}{path}", place());
        }
        Ok(result)
    }
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = self.inside(|| format!("[{}]", list.len()), |inner| items.next_element_seed(inner))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = self.inside(|| shown(&name), |inner| members.next_value_seed(inner))?;
            if self.duplicate.is_none() && object.contains_key(&name) {
                *self.duplicate = Some(shown(&name));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a message, and returns it or the answers to it.
    fn outcome(bytes: &[u8]) -> Result<Value, Vec<Value>> {
        let read = read(bytes).and_then(|value| value.map(parse).transpose());
        read.map(|message| serde_json::to_value(message.expect("a message")).expect("it serialises"))
            .map_err(|error| error.answers().iter().map(|answer| serde_json::from_str(answer).expect("JSON")).collect())
    }

    fn refused(message: &[u8], id: Value, code: i64, parts: &[&str]) {
        let shown = String::from_utf8_lossy(message);
        let answers = outcome(message).expect_err(&shown);
        let [answer] = &answers[..] else { panic!("one answer, not {answers:?} to {shown}") };
        assert_eq!((&answer["jsonrpc"], &answer["id"], &answer["error"]["code"]), (&json!("2.0"), &id, &json!(code)), "{shown}: {answer}");
        for part in parts {
            assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains(part)), "`{part}` is missing in {answer}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_answered_under_its_id_and_says_what_and_where() {
        let deep = format!(r#"{{"jsonrpc":"2.0","method":"ping","params":{{"x":{}1{}}},"id":8}}"#, "[".repeat(200), "]".repeat(200));
        for (message, id, code, parts) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":3}"#, json!(7), -32600, &["`method` must be a text", "the number 3"][..]),
            (r#"{"jsonrpc":"2.0","id":7}"#, json!(7), -32600, &["`method` is missing"]),
            (r#"{"id":7,"method":"ping"}"#, json!(7), -32600, &["`jsonrpc` is missing"]),
            (r#"{"jsonrpc":2.0,"id":"a","method":"ping"}"#, json!("a"), -32600, &["`jsonrpc` must be \"2.0\"", "the number 2.0"]),
            (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[1]}"#, json!(7), -32600, &["`params` must be an object", "a list"]),
            (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#, json!(7), -32602, &["`params.name` is missing"]),
            (
                r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":5}}"#,
                json!(7),
                -32602,
                &["`params.name` must be a text", "the number 5"],
            ),
            (
                r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","arguments":[1]}}"#,
                json!(7),
                -32602,
                &["`params.arguments` must be an object", "a list"],
            ),
            (
                r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","arguments":"{}"}}"#,
                json!(7),
                -32602,
                &["`params.arguments` must be an object", "the text \"{}\""],
            ),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"_meta":3}}"#, json!(7), -32602, &["`params._meta` must be an object"]),
            (
                r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"_meta":{"progressToken":[]}}}"#,
                json!(7),
                -32602,
                &["`params._meta.progressToken` must be a text or an integer"],
            ),
            (r#"{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}"#, json!(7), -32602, &["`params.protocolVersion` is missing"]),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, Value::Null, -32600, &["`id` must be a text or an integer", "null"]),
            (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, Value::Null, -32600, &["`id` must be", "true"]),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, json!(1.5), -32600, &["`id` must be"]),
            (r#"{"jsonrpc":"2.0","id":18446744073709551615,"method":"ping"}"#, json!(u64::MAX), -32600, &["64 bits"]),
            (r#"{"jsonrpc":"2.0","id":9,"method":"ping","params":{"x":1e999}}"#, json!(9), -32700, &["number out of range"]),
            (r#"{"jsonrpc":"2.0","id":9,"method":"ping","params":{"x":"\ud800"}}"#, json!(9), -32700, &["JSON"]),
            (r#"{"jsonrpc":"2.0","id":9,"method":"ping""#, json!(9), -32700, &["EOF"]),
            (r#"{"jsonrpc":"2.0","id":9,"method":"ping"} x"#, json!(9), -32700, &["trailing characters"]),
            (
                r#"{"jsonrpc":"2.0","id":9,"method":"x","params":{"a":[{"b":1,"c":{"d":1,"d":2}}]}}"#,
                json!(9),
                -32600,
                &["`params.a[0].c.d` is given twice"],
            ),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, json!(2), -32600, &["`id` is given twice"]),
            (deep.as_str(), json!(8), -32700, &["recursion limit"]),
            (r#""text""#, Value::Null, -32600, &["a message must be an object", "the text \"text\""]),
            (r#"{"jsonrpc":"2.0"}"#, Value::Null, -32600, &["`method` is missing"]),
            (r#"{"jsonrpc":"2.0","id":9,"result":5,"error":5}"#, Value::Null, -32600, &["response"]),
        ] {
            refused(message.as_bytes(), id, code, parts);
        }
        refused(b"{\"jsonrpc\":\"2.0\",\"method\":\"p\xff\",\"id\":4}", json!(4), -32700, &["not UTF-8: invalid byte at 28"]);
    }

    #[test]
    fn messages_of_a_batch_are_refused_one_by_one() {
        let batch =
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":"b","method":"ping"},5]"#;
        let answers = outcome(batch.as_bytes()).expect_err("a batch");
        assert_eq!(answers.iter().map(|answer| &answer["id"]).collect::<Vec<_>>(), [&json!(1), &json!("b")]);
        refused(b"[]", Value::Null, -32600, &["batches"]);
    }

    #[test]
    fn null_is_as_good_as_absent_around_a_call() {
        let read = |text: &str| outcome(text.as_bytes()).expect(text);
        let plain = read(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#);
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":null,"_meta":null}}"#,
            r#"{"jsonrpc":"2.0","id":1.0,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":null}}}"#,
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"x\",\"inputResponses\":null}}",
        ] {
            let mut message = read(text);
            if let Some(params) = message["params"].as_object_mut() {
                params.retain(|name, value| name != "_meta" || value.as_object().is_none_or(|meta| !meta.is_empty()));
            }
            assert_eq!(message, plain, "{text}");
        }
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":null}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"prompts/list","params":{"cursor":null}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":null}"#,
        ] {
            read(text);
        }
    }

    #[test]
    fn greeting_of_a_client_that_needs_none_is_for_the_protocol_to_refuse() {
        let meta = json!({ VERSION_KEY: "2026-07-28" });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "_meta": meta } });
        assert!(outcome(message.to_string().as_bytes()).is_ok());
    }
}
