//! What a call answers: structured content for programs, a short text for models, and failures that say what to do next.

use pyro_sdk::contract::{Profile, operations};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use super::{
    schema::{self, Object},
    surface::Surface,
    text,
};

/// Why a call did not do what it was asked for. A tool result, so that the model reads it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) hint: String,
}

impl Refusal {
    pub(super) fn invalid(message: String, hint: String) -> Self {
        Self { kind: pyro_sdk::ErrorKind::InvalidArgument.code().to_owned(), message, hint }
    }

    pub(super) fn limit(message: String, hint: String) -> Self {
        Self { kind: pyro_sdk::ErrorKind::LimitExceeded.code().to_owned(), message, hint }
    }

    pub(super) fn denied(message: String, hint: String) -> Self {
        Self { kind: pyro_sdk::ErrorKind::PermissionDenied.code().to_owned(), message, hint }
    }

    pub(super) fn of_kind(kind: pyro_sdk::ErrorKind, message: String, hint: String) -> Self {
        Self { kind: kind.code().to_owned(), message, hint }
    }

    /// The client has lost interest; nobody reads this.
    pub(super) fn cancelled() -> Self {
        Self::of_kind(pyro_sdk::ErrorKind::DeadlineExceeded, "the call was cancelled".to_owned(), "call again".to_owned())
    }

    pub(super) fn into_result(self, surface: Surface) -> CallToolResult {
        let hint = in_tools(&self.hint, surface);
        let text = format!("{}: {}\nhint: {hint}", self.kind, self.message);
        let mut result = CallToolResult::error(vec![ContentBlock::text(text::capped(&text))]);
        result.structured_content = Some(json!({ "error": { "kind": self.kind, "message": text::capped(&self.message), "hint": hint } }));
        result
    }
}

impl From<pyro_sdk::Error> for Refusal {
    fn from(error: pyro_sdk::Error) -> Self {
        let message = std::iter::once(error.to_string()).chain(error.causes()).collect::<Vec<_>>().join(": ");
        Self { kind: error.kind().code().to_owned(), message, hint: error.hint() }
    }
}

/// Names the tools of a surface where a hint names commands of the terminal.
fn in_tools(hint: &str, surface: Surface) -> String {
    // An odd piece stands between two backticks.
    hint.split('`')
        .enumerate()
        .map(|(index, piece)| if index % 2 == 1 { format!("`{}`", in_tool(piece, surface)) } else { piece.to_owned() })
        .collect()
}

fn in_tool(command: &str, surface: Surface) -> String {
    // A flag of the terminal is a field here.
    if let Some(flag) = command.strip_prefix("--") {
        let (name, value) = flag.split_once([' ', '=']).unwrap_or((flag, ""));
        let field = name.replace('-', "_");
        return if value.is_empty() { field } else { format!("{field}: {value}") };
    }
    let Some(words) = command.strip_prefix("pyro ") else { return command.to_owned() };
    let words: Vec<&str> = words.split(' ').collect();
    let named = operations().iter().filter(|entry| !entry.definition.cli.is_empty() && words.starts_with(entry.definition.cli));
    let tool = named.max_by_key(|entry| entry.definition.cli.len()).and_then(|entry| entry.definition.mcp);
    match tool.filter(|tool| surface.find(tool).is_some()) {
        Some(tool) => tool.to_owned(),
        None => command.to_owned(),
    }
}

/// Makes the result of a call that did what it was asked for.
pub(super) fn result(tool: &str, profile: Profile, mut answer: Value) -> CallToolResult {
    tidy(&mut answer, profile);
    let text = text::of(tool, &answer);
    let mut result = CallToolResult::structured(answer);
    result.content = vec![ContentBlock::text(text)];
    result
}

/// Takes out what is absent, and what belongs to a larger profile.
fn tidy(value: &mut Value, profile: Profile) {
    match value {
        Value::Object(object) => tidy_object(object, profile),
        Value::Array(items) => items.iter_mut().for_each(|item| tidy(item, profile)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn tidy_object(object: &mut Object, profile: Profile) {
    object.retain(|name, value| !value.is_null() && (profile >= Profile::Full || !schema::is_full_field(name)));
    // The keys of labels are the user's words.
    object.iter_mut().filter(|(name, _)| *name != "labels").for_each(|(_, value)| tidy(value, profile));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_tools_where_there_are_any() {
        let surface = Surface::Profile(Profile::Core);
        assert_eq!(in_tools("see `pyro workspace logs api`, or `pyro doctor`", surface), "see `workspace_logs`, or `pyro doctor`");
        assert_eq!(in_tools("try `--check`, or `--output a/NAME`", surface), "try `check`, or `output: a/NAME`");
        assert_eq!(in_tools("start it with `pyro workspace start api`", surface), "start it with `pyro workspace start api`");
        assert_eq!(
            in_tools("start it with `pyro workspace start api`", Surface::Profile(Profile::Full)),
            "start it with `workspace_start`"
        );
    }

    #[test]
    fn absent_and_larger_fields_go_and_labels_stay_as_they_are() {
        let mut value = json!({ "a": null, "disk_gib": 8, "labels": { "service": "x" }, "list": [{ "b": null, "c": 1 }] });
        tidy(&mut value, Profile::Core);
        assert_eq!(value, json!({ "labels": { "service": "x" }, "list": [{ "c": 1 }] }));
    }
}
