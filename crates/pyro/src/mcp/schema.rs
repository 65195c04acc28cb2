//! Schemas as a model needs them: every word is paid for in each conversation, so what does not change a call is left out.

use pyro_sdk::contract::{Entry, Profile};
use serde_json::{Map, Value, json};

use super::words;

/// Words that mark a field as one of the full profile, in a request as in an answer.
const FULL_WORDS: [&str; 14] = [
    "network",
    "secret",
    "secrets",
    "shell",
    "shells",
    "service",
    "services",
    "snapshot",
    "snapshots",
    "disk",
    "port",
    "ports",
    "published",
    "against",
];
/// Fields of answers that a schema tells although the answer has too many to tell them all.
const TELLING: [&str; 14] = [
    "workspace_id",
    "name",
    "state",
    "exit_code",
    "stdout",
    "stderr",
    "sequence",
    "timed_out",
    "truncated",
    "environment",
    "expires_at",
    "left_out_count",
    "service_name",
    "outcome",
];
/// Fields up to which a schema tells them all.
const TOLD_WHOLE: usize = 12;

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// Tells whether a field of this name is kept for the full profile.
pub(super) fn is_full_field(name: &str) -> bool {
    name.split('_').any(|word| FULL_WORDS.contains(&word))
}

/// Returns the schema of a tool's arguments. `full` names fields beyond its profile that a mode adds; `hidden` are the operator's to set.
pub(super) fn arguments(entry: &Entry, profile: Profile, full: &[&str], hidden: &[&str]) -> Object {
    let tool = entry.definition.mcp.unwrap_or_default();
    let mut schema = object(entry.request_schema(Profile::Full).to_value());
    let own = object(entry.request_schema(profile).to_value());
    let own = own.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut properties = schema.remove("properties").map(object).unwrap_or_default();
    properties.retain(|name, _| {
        let in_profile = profile >= Profile::Full || own.contains_key(name) && !is_full_field(name);
        (in_profile || full.contains(&name.as_str())) && !hidden.contains(&name.as_str()) && !words::is_needless(tool, name)
    });
    let required = schema.remove("required").and_then(|value| value.as_array().cloned()).unwrap_or_default();
    let required: Vec<Value> = required
        .into_iter()
        .filter(|name| name.as_str().is_some_and(|name| properties.contains_key(name) && !words::is_optional(tool, name)))
        .collect();
    for (name, property) in &mut properties {
        slim(property);
        if let Some(property) = property.as_object_mut() {
            match words::field(tool, name) {
                Some("") => drop(property.remove("description")),
                Some(text) => drop(property.insert("description".into(), text.into())),
                None => {}
            }
        }
    }
    for (field, value) in words::defaults(tool) {
        if let Some(property) = properties.get_mut(field) {
            property["default"] = value.into();
        }
    }
    let mut result = Object::new();
    result.insert("type".into(), "object".into());
    if !properties.is_empty() {
        result.insert("properties".into(), Value::Object(properties));
    }
    if !required.is_empty() {
        result.insert("required".into(), Value::Array(required));
    }
    result.insert("additionalProperties".into(), false.into());
    result
}

/// Returns the schema of a tool's structured answer: names and types of its fields. None is required, for what is absent is left out of an
/// answer, and a failure, whose structured content is `{"error": …}`, must pass it too: some clients hold failures to it.
pub(super) fn answer(entry: &Entry, profile: Profile) -> Object {
    let schema = object(entry.answer_schema().to_value());
    let definitions = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let all = properties.len() <= TOLD_WHOLE;
    let mut told = Object::new();
    for (name, property) in properties {
        if (all || TELLING.contains(&name.as_str())) && (profile >= Profile::Full || !is_full_field(&name)) {
            told.insert(name, kind(&property, &definitions));
        }
    }
    let mut result = Object::new();
    result.insert("type".into(), "object".into());
    result.insert("properties".into(), Value::Object(told));
    result
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Object::new(),
    }
}

/// Returns the bare type of a field.
fn kind(property: &Value, definitions: &Object) -> Value {
    if let Some(name) = property.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/")) {
        return definitions.get(name).map_or_else(|| json!({}), |definition| kind(definition, &Object::new()));
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(first) = property.get(choice).and_then(Value::as_array).and_then(|all| all.first()) {
            return kind(first, definitions);
        }
    }
    match property.get("type") {
        Some(Value::Array(types)) => types.first().map_or_else(|| json!({}), |first| json!({ "type": first })),
        Some(name) => json!({ "type": name }),
        None => json!({}),
    }
}

/// Takes what tells a model nothing out of a schema.
fn slim(value: &mut Value) {
    let Some(object) = value.as_object_mut() else { return };
    // An optional value: whoever has none leaves the field away.
    if let Some(Value::Array(choices)) = object.get("anyOf")
        && let [single] = choices.iter().filter(|choice| choice.get("type").is_none_or(|name| name != "null")).collect::<Vec<_>>()[..]
    {
        let single = single.clone();
        object.remove("anyOf");
        if let Value::Object(single) = single {
            for (key, value) in single {
                let _ = object.entry(key).or_insert(value);
            }
        }
    }
    for key in ["$schema", "title", "format", "x-pyro-profile"] {
        object.remove(key);
    }
    if object.get("minimum").is_some_and(|minimum| minimum == 0) {
        object.remove("minimum");
    }
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    if object.get("default").is_some_and(empty) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get("type")
        && let Some(first) = types.iter().find(|name| *name != "null").cloned()
    {
        object.insert("type".into(), first);
    }
    // Described constants become a plain list: their names say it.
    if let Some(Value::Array(choices)) = object.get("oneOf") {
        let names: Vec<Value> = choices.iter().filter_map(|choice| choice.get("const").cloned()).collect();
        if !names.is_empty() && names.len() == choices.len() {
            object.remove("oneOf");
            object.insert("enum".into(), Value::Array(names));
        }
    }
    if object.contains_key("enum") {
        object.remove("type");
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            slim(inner);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.iter_mut().for_each(slim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_and_described_values_become_plain() {
        let mut schema = json!({
            "anyOf": [{ "type": ["string", "null"], "format": "x" }, { "type": "null" }], "default": null, "description": "D"
        });
        slim(&mut schema);
        assert_eq!(schema, json!({ "type": "string", "description": "D" }));
        let mut schema = json!({ "oneOf": [{ "const": "a", "description": "A" }, { "const": "b" }], "minimum": 0 });
        slim(&mut schema);
        assert_eq!(schema, json!({ "enum": ["a", "b"] }));
    }

    #[test]
    fn fields_of_the_full_profile_are_told_by_their_words() {
        for name in ["network_policy", "secrets", "open_shell_count", "service_count", "snapshot", "disk_gib", "published_ports"] {
            assert!(is_full_field(name), "{name}");
        }
        for name in ["export_count", "workspace", "output", "important"] {
            assert!(!is_full_field(name), "{name}");
        }
    }
}
