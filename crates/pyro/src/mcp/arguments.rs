//! A call's arguments, made plain before anything else looks at them: what hosts and models write in several ways is written in one, and
//! what has the wrong form is refused by its name, its type and what came.
//!
//! - `null` is as good as absent for every optional field: many hosts send each field of a schema.
//! - `30.0` and `3e1` are the integer 30: JSON has one kind of number, and some languages write it so. Not from 2^53 on, where a number with
//!   a point no longer says which integer is meant.
//! - `"30"` is refused: a text where a number belongs is a mistake whose next one would be `"soon"`.

use pyro_sdk::contract::Entry;
use serde_json::{Number, Value};

use super::{answer::Refusal, message::shown, schema::Object, surface::Surface};

/// From here on a floating-point number stands for several integers.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Most characters of a text that are repeated.
const TEXT_MAX_CHARS: usize = 40;
/// Values of these fields are never repeated, whatever is wrong with them.
const SECRET_FIELDS: [&str; 1] = ["secrets"];

/// What a value can be asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    TextOrInteger,
    Boolean,
    Object,
    List,
}

impl Kind {
    pub(super) fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Integer => value.as_number().is_some_and(|number| integer_of(number).is_some()),
            Self::TextOrInteger => Self::Text.accepts(value) || Self::Integer.accepts(value),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::List => value.is_array(),
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Integer => "an integer",
            Self::TextOrInteger => "a text or an integer",
            Self::Boolean => "true or false",
            Self::Object => "an object",
            Self::List => "a list",
        }
    }

    /// The kind that a schema calls so.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::Text,
            "integer" => Self::Integer,
            "boolean" => Self::Boolean,
            "object" => Self::Object,
            "array" => Self::List,
            _ => return None,
        })
    }
}

/// Returns the integer that a number stands for.
pub(super) fn integer_of(number: &Number) -> Option<Number> {
    if !number.is_f64() {
        return Some(number.clone());
    }
    let value = number.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "it is a whole number of 53 bits")]
    (value.fract() == 0.0 && value.abs() < EXACT_MAX).then(|| Number::from(value as i64))
}

/// Says what came.
pub(super) fn got(value: &Value) -> String {
    match value {
        Value::Null => "got null".to_owned(),
        Value::Bool(value) => format!("got {value}"),
        Value::Number(number) => format!("got the number {number}"),
        Value::String(text) if text.chars().nth(TEXT_MAX_CHARS).is_some() => {
            format!("got the text {:?}…", text.chars().take(TEXT_MAX_CHARS).collect::<String>())
        }
        Value::String(text) => format!("got the text {text:?}"),
        Value::Array(_) => "got a list".to_owned(),
        Value::Object(_) => "got an object".to_owned(),
    }
}

/// Says what kind of thing came, for values that must not be repeated.
const fn got_something(value: &Value) -> &'static str {
    match value {
        Value::Null => "got null",
        Value::Bool(_) => "got true or false",
        Value::Number(_) => "got a number",
        Value::String(_) => "got a text",
        Value::Array(_) => "got a list",
        Value::Object(_) => "got an object",
    }
}

/// Makes the arguments of a call plain, or says which of them is wrong. `schema` is the tool's as it is listed.
pub(super) fn tidy(surface: Surface, entry: &Entry, schema: &Object, arguments: &mut Object) -> Result<(), Refusal> {
    let tool = entry.definition.mcp.unwrap_or_default();
    let none = Object::new();
    let fields = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    if let Some(unknown) = arguments.keys().find(|name| !fields.contains_key(*name)) {
        return Err(unknown_field(surface, tool, unknown, fields));
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for field in required {
        let wrong = match arguments.get(field) {
            Some(Value::Null) => format!("`{field}` of {tool} must be {}, got null", expected(&fields[field])),
            None => format!("`{field}` of {tool} is missing: it must be {}", expected(&fields[field])),
            Some(_) => continue,
        };
        return Err(Refusal::invalid(wrong, format!("give `{field}` and call again")));
    }
    arguments.retain(|_, value| !value.is_null());
    // The contract's own schema says more than the listed one: where a value of a map may be null, and what the least number is.
    let whole = entry.request_schema(pyro_sdk::contract::Profile::Full).to_value();
    for (field, value) in arguments {
        let wanted = whole.get("properties").and_then(|properties| properties.get(field)).unwrap_or(&fields[field]);
        check(field, wanted, value).map_err(|wrong| {
            let wrong = wrong.replacen('`', &format!("{tool}: `"), 1);
            Refusal::invalid(wrong, "correct the field and call again".to_owned())
        })?;
    }
    Ok(())
}

fn unknown_field(surface: Surface, tool: &str, unknown: &str, fields: &Object) -> Refusal {
    let known = fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let message = format!("{tool} has no field {} in {}", shown(unknown), surface.name());
    let hint = match nearest(unknown, fields.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? Its fields are: {known}"),
        None => format!("its fields are: {known}"),
    };
    Refusal::invalid(message, hint)
}

/// Checks a value against its schema and makes it plain; the error names the place in it that is wrong.
fn check(place: &str, schema: &Value, value: &mut Value) -> Result<(), String> {
    let choices = choices(schema);
    let Some(schema) = choices.iter().copied().find(|choice| fits(choice, value)) else {
        let got = if is_secret(place) { got_something(value).to_owned() } else { got(value) };
        return Err(format!("`{place}` must be {}, {got}", expected(schema)));
    };
    match value {
        Value::Number(number) => {
            if let Some(integer) = integer_of(number).filter(|_| types(schema).contains(&"integer")) {
                in_range(place, schema, &integer)?;
                *number = integer;
            }
            Ok(())
        }
        Value::Array(items) => {
            let schema = &schema["items"];
            items.iter_mut().enumerate().try_for_each(|(index, item)| check(&format!("{place}[{index}]"), schema, item))
        }
        Value::Object(members) => check_object(place, schema, members),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

fn check_object(place: &str, schema: &Value, members: &mut Object) -> Result<(), String> {
    let (properties, more) = (&schema["properties"], &schema["additionalProperties"]);
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    // A member of a map is there because somebody named it, so its null is not taken for absent.
    members.retain(|name, value| !value.is_null() || properties.get(name).is_none() || required.iter().any(|field| field == name));
    members.iter_mut().try_for_each(|(name, value)| {
        let schema = properties.get(name).unwrap_or(more);
        check(&format!("{place}.{}", shown(name)), schema, value)
    })
}

/// Returns the schemas of which a value has to follow one.
fn choices(schema: &Value) -> Vec<&Value> {
    match schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        Some(several) => several.iter().flat_map(choices).collect(),
        None => vec![schema],
    }
}

/// Returns the types that a schema without choices allows.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Tells whether a value has the form that a schema asks for; what is inside is not looked at.
fn fits(schema: &Value, value: &Value) -> bool {
    if let Some(constant) = schema.get("const") {
        return constant == value;
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.contains(value);
    }
    let accepts = |name: &&str| match *name {
        "null" => value.is_null(),
        "number" => value.is_number(),
        name => Kind::named(name).is_none_or(|kind| kind.accepts(value)),
    };
    let types = types(schema);
    // A schema without a type asks for nothing.
    types.is_empty() || types.iter().any(accepts)
}

/// Says in words what a schema asks for.
fn expected(schema: &Value) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut constants: Vec<String> = Vec::new();
    for choice in choices(schema) {
        let constant = choice.get("const").into_iter();
        constants.extend(constant.chain(choice.get("enum").and_then(Value::as_array).into_iter().flatten()).map(plain));
        if choice.get("const").is_some() || choice.get("enum").is_some() {
            continue;
        }
        for name in types(choice).into_iter().filter(|name| *name != "null") {
            words.push(match name {
                "array" => format!("a list of {}", many(&choice["items"])),
                "object" if choice["additionalProperties"].is_object() => format!("an object of {}", many(&choice["additionalProperties"])),
                name => Kind::named(name).map_or("a value", Kind::words).to_owned(),
            });
        }
    }
    if !constants.is_empty() {
        words.push(format!("one of {}", constants.join(", ")));
    }
    if words.is_empty() { "a value".to_owned() } else { words.join(" or ") }
}

fn many(schema: &Value) -> &'static str {
    match choices(schema).into_iter().flat_map(types).find(|name| *name != "null") {
        Some("string") => "texts",
        Some("integer") => "integers",
        Some(_) | None => "values",
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn in_range(place: &str, schema: &Value, integer: &Number) -> Result<(), String> {
    // Every number of the contract is at least 0.
    let minimum = schema["minimum"].as_u64().unwrap_or(0);
    let maximum = schema["maximum"].as_u64();
    if integer.as_u64().is_some_and(|integer| integer >= minimum && maximum.is_none_or(|maximum| integer <= maximum)) {
        return Ok(());
    }
    Err(match maximum {
        Some(maximum) => format!("`{place}` must be between {minimum} and {maximum}, got {integer}"),
        None => format!("`{place}` must be at least {minimum}, got {integer}"),
    })
}

fn is_secret(place: &str) -> bool {
    let field = place.split(['.', '[']).next().unwrap_or_default();
    SECRET_FIELDS.contains(&field)
}

/// Returns the known name that was most likely meant.
fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| -> Vec<char> {
        name.chars().take(64).filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let given = plain(given);
    let distances = known.map(|name| {
        let known = plain(name);
        // `timeout` is no typing error of `timeout_seconds`, and means it all the same.
        let part = given.len() >= 3 && (known.starts_with(&given) || given.starts_with(&known));
        (if part { 1 } else { distance(&given, &known) }, name)
    });
    distances.min_by_key(|(distance, _)| *distance).filter(|(distance, _)| *distance <= (given.len() / 3).max(1)).map(|(_, name)| name)
}

/// Levenshtein's distance.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, character) in (1..).zip(one) {
        let mut diagonal = row[0];
        row[0] = at;
        for index in 1..row.len() {
            let changed = diagonal + usize::from(*character != other[index - 1]);
            diagonal = row[index];
            row[index] = changed.min(row[index] + 1).min(row[index - 1] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use pyro_sdk::contract::{Profile, operations};
    use serde_json::json;

    use super::*;
    use crate::mcp::server::ServerOptions;

    const FULL: Surface = Surface::Profile(Profile::Full);

    fn tidied(tool: &str, arguments: Value) -> Result<Value, String> {
        let entry = FULL.find(tool).expect(tool);
        let schema = FULL.arguments(entry, &ServerOptions::default());
        let mut arguments = arguments.as_object().cloned().expect("an object");
        tidy(FULL, entry, &schema, &mut arguments).map_err(|refusal| format!("{}\n{}", refusal.message, refusal.hint))?;
        Ok(Value::Object(arguments))
    }

    fn refused(tool: &str, arguments: Value, expected: &str) {
        let text = tidied(tool, arguments.clone()).expect_err(&arguments.to_string());
        assert!(text.contains(expected), "`{expected}` is missing in: {text}");
    }

    #[test]
    fn refusal_names_the_field_its_type_and_what_came() {
        let exec = |more: Value| {
            let mut arguments = json!({ "workspace": "w", "command": "true" });
            arguments.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
            arguments
        };
        for (more, expected) in [
            (json!({ "timeout_seconds": "30" }), "workspace_exec: `timeout_seconds` must be an integer, got the text \"30\""),
            (json!({ "timeout_seconds": 30.5 }), "`timeout_seconds` must be an integer, got the number 30.5"),
            (json!({ "timeout_seconds": 1e20 }), "`timeout_seconds` must be an integer, got the number 1e+20"),
            (json!({ "timeout_seconds": 9_007_199_254_740_992.0 }), "`timeout_seconds` must be an integer, got the number"),
            (json!({ "timeout_seconds": true }), "`timeout_seconds` must be an integer, got true"),
            (json!({ "timeout_seconds": -1 }), "`timeout_seconds` must be between "),
            (json!({ "timeout_seconds": [1] }), "`timeout_seconds` must be an integer, got a list"),
            (json!({ "cwd": 5 }), "`cwd` must be a text, got the number 5"),
            (json!({ "cwd": {} }), "`cwd` must be a text, got an object"),
            (json!({ "env": [] }), "`env` must be an object of texts, got a list"),
            (json!({ "env": { "A": 1 } }), "`env.A` must be a text, got the number 1"),
            (json!({ "env": { "A": null } }), "`env.A` must be a text, got null"),
            (json!({ "secret_env": "A" }), "`secret_env` must be a list of texts, got the text \"A\""),
            (json!({ "secret_env": ["A", 5] }), "`secret_env[1]` must be a text, got the number 5"),
            (json!({ "command": 5 }), "`command` must be a list of texts or a text, got the number 5"),
            (json!({ "command": ["a", null] }), "`command[1]` must be a text, got null"),
            (json!({ "command": null }), "`command` of workspace_exec must be a list of texts or a text, got null"),
            (json!({ "timeout": 5 }), "did you mean `timeout_seconds`?"),
            (json!({ "timeoutSeconds": 5 }), "did you mean `timeout_seconds`?"),
            (json!({ "workdir": "/" }), "workspace_exec has no field workdir in workspace-full\nits fields are: command, cwd"),
            (json!({ "cmd": null }), "has no field cmd"),
        ] {
            refused("workspace_exec", exec(more), expected);
        }
        refused(
            "workspace_exec",
            json!({ "workspace": "w" }),
            "`command` of workspace_exec is missing: it must be a list of texts or a text",
        );
        refused(
            "workspace_file_list",
            json!({ "workspace": "w", "recursive": "true" }),
            "`recursive` must be true or false, got the text \"true\"",
        );
        refused("workspace_create", json!({ "on_expire": "halt" }), "`on_expire` must be one of stop, delete, got the text \"halt\"");
        refused("workspace_create", json!({ "mem_mib": 1 }), "`mem_mib` must be at least 128, got 1");
        refused("port_publish", json!({ "workspace": "w", "port": 8080.5 }), "`port` must be a text or an integer, got the number 8080.5");
    }

    #[test]
    fn value_of_a_secret_is_never_repeated() {
        for secrets in [json!({ "TOKEN": 4_711_815 }), json!("TOKEN=4711815"), json!([4_711_815]), json!({ "TOKEN": ["4711815"] })] {
            let text = tidied("workspace_create", json!({ "secrets": secrets })).expect_err("it is refused");
            assert!(!text.contains("4711815"), "{text}");
        }
    }

    #[test]
    fn null_in_a_map_stands_where_it_means_something() {
        let arguments = json!({ "secrets": { "TOKEN": null } });
        assert_eq!(tidied("workspace_create", arguments.clone()), Ok(arguments));
    }

    /// A value that follows a schema, as far as types go.
    fn sample(schema: &Value) -> Value {
        let schema = choices(schema)[0];
        if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
            return value.clone();
        }
        match types(schema).first() {
            Some(&"integer") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
            Some(&"boolean") => json!(true),
            Some(&"array") => json!([sample(&schema["items"])]),
            Some(&"object") => json!({ "key": sample(&schema["additionalProperties"]) }),
            _ => json!("text"),
        }
    }

    #[test]
    fn every_optional_field_takes_null_and_every_integer_a_point_and_zero() {
        let (mut nulls, mut integers) = (0, 0);
        for entry in operations().iter().filter(|entry| entry.definition.mcp.is_some()) {
            let tool = entry.definition.mcp.unwrap_or_default();
            let schema = FULL.arguments(entry, &ServerOptions::default());
            let required: Vec<&str> =
                schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            let none = Object::new();
            let fields = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
            let least: Object = required.iter().map(|field| ((*field).to_owned(), sample(&fields[*field]))).collect();
            let absent = tidied(tool, Value::Object(least.clone())).expect(tool);
            for (field, schema) in fields {
                let with = |value: Value| {
                    let mut arguments = least.clone();
                    arguments.insert(field.clone(), value);
                    tidied(tool, Value::Object(arguments))
                };
                if required.contains(&field.as_str()) {
                    assert!(with(Value::Null).is_err_and(|text| text.contains(&format!("`{field}`"))), "{tool}.{field}");
                } else {
                    assert_eq!(with(Value::Null).as_ref(), Ok(&absent), "{tool}.{field}");
                    nulls += 1;
                }
                if choices(schema).into_iter().any(|schema| types(schema).contains(&"integer")) {
                    let least = choices(schema).into_iter().find_map(|schema| schema["minimum"].as_u64()).unwrap_or(1).max(2);
                    let whole = with(json!(least)).expect(field);
                    #[expect(clippy::cast_precision_loss, reason = "it is small")]
                    let point = least as f64;
                    assert_eq!(with(json!(point)), Ok(whole.clone()), "{tool}.{field}");
                    let exponent: Value = serde_json::from_str(&format!("{least}0e-1")).expect("a number");
                    assert_eq!(with(exponent), Ok(whole), "{tool}.{field}");
                    assert!(with(json!(point + 0.5)).is_err_and(|text| text.contains(&format!("`{field}`"))), "{tool}.{field}");
                    if types(choices(schema)[0]).contains(&"integer") {
                        assert!(with(json!(least.to_string())).is_err_and(|text| text.contains("got the text")), "{tool}.{field}");
                    }
                    integers += 1;
                }
                let wrong = with(json!({ "no": { "such": ["thing"] } }));
                assert!(wrong.is_err_and(|text| text.contains(&format!("`{field}"))), "{tool}.{field} takes anything");
            }
        }
        assert!(nulls > 100 && integers > 40, "{nulls} {integers}");
    }
}
