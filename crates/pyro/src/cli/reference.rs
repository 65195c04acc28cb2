//! Writes `docs/reference/` from the definitions. The tests fail when a page is stale; `PYRO_UPDATE=1 cargo test -p pyro` writes them.

use std::fmt::Write as _;

use pyro_sdk::{
    ErrorKind,
    config::Configuration,
    contract::{Effect, Entry, Profile, Repeat, operations},
};
use serde_json::Value;

use super::{
    Cli,
    tests::{check_file, command_of},
};

const NOTE: &str = "<!-- Generated: PYRO_UPDATE=1 cargo test -p pyro -->\n";

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn docs_of_errors_are_fresh() {
    let mut page = format!("{NOTE}# Errors and exit codes\n\n");
    page.push_str(
        "Every failure has a kind, the same in `--json`, in the SDKs and in MCP, and an exit code of its own. `run` and `workspace exec` exit \
         with 125 for Pyro's own failures, because all other codes belong to the guest's command; the kind is in the status line on standard \
         error and in `--json`.\n\n| exit code | kind | hint |\n|---|---|---|\n",
    );
    for kind in ErrorKind::ALL {
        writeln!(page, "| {} | `{}` | {} |", kind.exit_code(), kind.code(), cell(kind.hint())).unwrap();
    }
    page.push_str(
        "\n| exit code | meaning |\n|---|---|\n| 0 | done |\n| 2 | wrong usage: an unknown flag, a missing argument |\n\
         | 124 | the command's time was up |\n| 125 | `run`, `workspace exec`: Pyro failed, not the command |\n\
         | 126, 127 | the command could not be executed, was not found |\n| 128 + N | the command was ended by signal N |\n\
         | 130 | interrupted twice: the command of `workspace exec` goes on, that of `run` is gone |\n\
         | 141 | nobody reads standard output any more |\n\
         | 75 | `workspace exec --yield-after-ms`, `workspace exec-wait`: the command still runs; the status line and `--json` say `running` |\n\
         | 75 | `workspace service start`: the service was not ready in time, and goes on; the status line and `--json` say `timed_out` |\n\
         | 67 | `workspace service start`: the service ended before it was ready; the status line and `--json` say `exited` or `stopped` |\n",
    );
    check_file("docs/reference/errors.md", &page);
}

#[test]
fn docs_of_configuration_are_fresh() {
    let mut page = format!("{NOTE}# Configuration\n\n");
    page.push_str(
        "`config.toml` in the configuration folder, then environment variables, then flags; the later wins. `pyro config show` tells every \
         value's origin. An unknown key is an error.\n\n| key | variable | accepted | default | meaning |\n|---|---|---|---|---|\n",
    );
    let defaults = Configuration::default();
    for (key, variable, rule, meaning) in Configuration::documentation() {
        let default = defaults.values.iter().find(|value| value.key == key).map(|value| value.value.clone()).unwrap_or_default();
        writeln!(page, "| `{key}` | `{variable}` | {} | `{default}` | {} |", cell(rule), cell(meaning)).unwrap();
    }
    page.push_str(
        "\n`PYRO_HOME` moves all of Pyro's folders under one. Without it they follow the XDG rules: `XDG_CONFIG_HOME`, `XDG_DATA_HOME`, \
         `XDG_CACHE_HOME`, `XDG_STATE_HOME`, and `XDG_RUNTIME_DIR` for access tokens of `pyro mcp serve`. Programs that use the library find the binary by `PYRO_BINARY`, beside \
         themselves, or on `PATH`.\n",
    );
    check_file("docs/reference/configuration.md", &page);
}

#[test]
fn docs_of_commands_are_fresh() {
    let mut page = format!("{NOTE}# Command line\n\n");
    page.push_str("`pyro man` prints the manual page, `pyro completions SHELL` a completion script.\n");
    let mut root = Cli::whole().term_width(100);
    root.build();
    write_command(&mut page, &mut root);
    check_file("docs/reference/cli.md", &page);
}

fn write_command(page: &mut String, command: &mut clap::Command) {
    let name = command.get_bin_name().unwrap_or("pyro").to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()).unwrap();
    // The help command repeats the whole tree.
    for child in command.get_subcommands_mut().filter(|child| child.get_name() != "help") {
        write_command(page, child);
    }
}

#[test]
fn docs_of_operations_are_fresh() {
    let mut page = format!("{NOTE}# Operations\n\n");
    page.push_str(
        "Each operation is defined once, in `crates/pyro-sdk/src/contract/`; every surface is derived from that. *Profile* is the smallest MCP \
         tool list it is in.\n\n| SDK | CLI | Python | MCP | profile | effect | repeat |\n|---|---|---|---|---|---|---|\n",
    );
    let code = |name: Option<String>| name.map_or_else(|| "—".to_owned(), |name| format!("`{name}`"));
    for Entry { definition, .. } in operations() {
        let cli = (!definition.cli.is_empty()).then(|| format!("pyro {}", definition.cli.join(" ")));
        let effect = match definition.effect {
            Effect::Reads => "reads",
            Effect::Changes => "changes",
            Effect::Destroys => "destroys",
        };
        let repeat = match definition.repeat {
            Repeat::Harmless => "harmless",
            Repeat::Counts => "counts",
        };
        writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {effect} | {repeat} |",
            definition.name,
            code(cli),
            code(definition.python.map(Into::into)),
            code(definition.mcp.map(Into::into)),
            definition.profile.as_str()
        )
        .unwrap();
    }
    page.push_str(
        "\n## Planned\n\nOperations of this page that a surface does not have yet. Operations of later versions are not listed here yet.\n\n",
    );
    let root = Cli::whole();
    let lacks_cli = operations().iter().filter(|entry| !entry.definition.cli.is_empty() && command_of(&root, entry).is_none());
    write_missing(&mut page, "CLI", lacks_cli.map(|entry| entry.definition.name));
    // Both come with issues of their own; when they do, these lists are made by asking them.
    write_missing(&mut page, "Python", operations().iter().filter_map(|entry| entry.definition.python));
    write_missing(&mut page, "MCP", operations().iter().filter_map(|entry| entry.definition.mcp));
    for entry in operations() {
        write_operation(&mut page, entry);
    }
    check_file("docs/reference/operations.md", &page);
}

fn write_missing<'a>(page: &mut String, surface: &str, names: impl Iterator<Item = &'a str>) {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    writeln!(page, "- {surface}: {names}").unwrap();
}

fn write_operation(page: &mut String, entry: &Entry) {
    write!(page, "\n## `{}`\n\n{}.\n", entry.definition.name, entry.description().replace("\n\n", ".\n\n").trim_end_matches('.')).unwrap();
    write_fields(page, "Request", &entry.request_schema(Profile::Full));
    write_fields(page, "Answer", &entry.answer_schema());
}

fn write_fields(page: &mut String, title: &str, schema: &schemars::Schema) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|properties| !properties.is_empty()) else { return };
    let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    write!(page, "\n| {} | type | default | meaning |\n|---|---|---|---|\n", title.to_lowercase()).unwrap();
    for (name, property) in properties {
        let default = match property.get("default") {
            Some(Value::Null) | None if title == "Request" && required.contains(&name.as_str()) => "required".to_owned(),
            Some(Value::Null) | None => "—".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let description = property["description"].as_str().unwrap_or_default();
        writeln!(page, "| `{name}` | {} | {default} | {} |", type_name(property), cell(description)).unwrap();
    }
}

fn type_name(property: &Value) -> String {
    let of = |value: &Value| value.as_str().unwrap_or("object").to_owned();
    if let Some(reference) = property["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(choices) = property["anyOf"].as_array().or_else(|| property["oneOf"].as_array()) {
        let names: Vec<_> = choices.iter().filter(|choice| choice["type"] != "null").map(choice_name).collect();
        return names.join(" or ");
    }
    if let Some(types) = property["type"].as_array() {
        return types.iter().filter(|name| *name != "null").map(of).collect::<Vec<_>>().join(" or ");
    }
    if property["type"] == "array" { format!("list of {}", type_name(&property["items"])) } else { of(&property["type"]) }
}

fn choice_name(choice: &Value) -> String {
    choice["const"].as_str().map_or_else(|| type_name(choice), |name| format!("`{name}`"))
}
