//! The command line and the contract say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use pyro_sdk::contract::{Entry, Profile, operations};
use serde_json::Value;

use super::Cli;

/// Flags a terminal needs beside a request's fields.
const PRESENTATION: [&str; 10] =
    ["json", "id_only", "stdin", "detach", "follow", "help", "accelerator", "content_only", "text_file", "patch_file"];

/// Compares `content` with a file of the repository, or writes the file when `PYRO_UPDATE` is set.
pub(crate) fn check_file(path: &str, content: &str) {
    let full: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    #[expect(clippy::disallowed_methods, reason = "a test's switch, not the product's")]
    let update = std::env::var_os("PYRO_UPDATE").is_some();
    if update {
        std::fs::create_dir_all(full.parent().expect("a path in the repository")).unwrap();
        std::fs::write(&full, content).unwrap();
    }
    let found = std::fs::read_to_string(&full).unwrap_or_default();
    if found != content {
        let at = found
            .lines()
            .zip(content.lines())
            .position(|(found, made)| found != made)
            .unwrap_or(found.lines().count().min(content.lines().count()));
        let line = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_owned();
        panic!(
            "{path} is stale at line {}\n  is:        {}\n  should be: {}\nregenerate: PYRO_UPDATE=1 cargo test -p pyro",
            at + 1,
            line(&found),
            line(content)
        );
    }
}

/// Returns the command of an operation, if the command line has it.
pub(crate) fn command_of<'a>(root: &'a clap::Command, entry: &Entry) -> Option<&'a clap::Command> {
    if entry.definition.cli.is_empty() {
        return None;
    }
    entry.definition.cli.iter().try_fold(root, |command, word| command.find_subcommand(word))
}

fn properties(entry: &Entry) -> BTreeMap<String, Value> {
    let schema = entry.request_schema(Profile::Full);
    schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default().into_iter().collect()
}

#[test]
fn tree_is_well_formed() {
    Cli::whole().debug_assert();
}

#[test]
fn every_command_shows_examples_that_parse() {
    fn check(command: &clap::Command) {
        if command.has_subcommands() {
            command.get_subcommands().for_each(check);
            return;
        }
        let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<_> = text.strip_prefix("Examples:\n").unwrap_or_default().lines().map(str::trim).collect();
        assert!((1..=3).contains(&examples.len()), "{}: {text}", command.get_name());
        for example in examples {
            // A shell's own words around the command are not Pyro's.
            let words = &example[example.find("pyro").expect("an example of Pyro")..];
            let words = words.split(" > ").next().and_then(|words| words.split(" | ").next()).expect("splits have a first part");
            let words = words.split("   # ").next().expect("splits have a first part");
            assert!(Cli::command().try_get_matches_from(words.split_whitespace()).is_ok(), "{example}");
        }
    }
    check(&Cli::whole());
}

#[test]
fn command_line_lacks_no_operation() {
    let root = Cli::whole();
    let missing: Vec<_> = operations()
        .iter()
        .filter(|entry| !entry.definition.cli.is_empty() && command_of(&root, entry).is_none())
        .map(|entry| entry.definition.name)
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_command_takes_exactly_the_fields_of_its_request() {
    let root = Cli::whole();
    for entry in operations() {
        let Some(command) = command_of(&root, entry) else { continue };
        let flags: BTreeSet<String> = command
            .get_arguments()
            .map(|argument| argument.get_id().to_string())
            .filter(|id| !PRESENTATION.contains(&id.as_str()))
            .collect();
        let fields: BTreeSet<String> = properties(entry).into_keys().collect();
        assert_eq!(flags, fields, "{}", entry.definition.name);
        for argument in command.get_arguments().filter(|argument| fields.contains(argument.get_id().as_str())) {
            let Some(long) = argument.get_long() else { continue };
            let field = argument.get_id().as_str().replace('_', "-");
            assert!(field == long || field == format!("{long}s"), "{}: `--{long}` is not `{field}`", entry.definition.name);
        }
    }
}

#[test]
fn help_and_schema_describe_alike() {
    let root = Cli::whole();
    for entry in operations() {
        let Some(command) = command_of(&root, entry) else { continue };
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(entry.description().starts_with(&about) && !about.is_empty(), "{}: {about}", entry.definition.name);
    }
}

#[test]
fn every_limit_is_told_in_help() {
    for entry in operations() {
        for (field, property) in properties(entry) {
            let description = property["description"].as_str().unwrap_or_default();
            for bound in ["minimum", "maximum"] {
                if let Some(bound) = property[bound].as_u64() {
                    // The schema library gives every unsigned number a minimum of 0.
                    assert!(
                        bound == 0 || description.contains(&bound.to_string()),
                        "{}.{field} does not tell {bound}",
                        entry.definition.name
                    );
                }
            }
        }
    }
}

#[test]
fn defaults_of_flags_and_of_json_are_the_same() {
    let root = Cli::whole();
    for entry in operations() {
        let Some(command) = command_of(&root, entry) else { continue };
        for (field, property) in properties(entry) {
            let Some(default) = property.get("default").filter(|default| default.is_number() || default.is_string()) else { continue };
            let argument = command.get_arguments().find(|argument| argument.get_id() == field.as_str()).expect("fields are flags");
            let shown: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
            let default = default.as_str().map_or_else(|| default.to_string(), ToOwned::to_owned);
            assert_eq!(shown, [default], "{}.{field}", entry.definition.name);
        }
    }
}
