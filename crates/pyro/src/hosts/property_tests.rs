//! Whatever a host's file holds: an entry comes in once, goes out again, and nothing else is touched.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::Value;

use super::{
    Host, Server,
    document::{Document, Syntax},
    json::Dialect,
    shape::{self, Shape},
};

/// How a person laid a file out.
#[derive(Debug, Clone)]
struct Layout {
    indent: &'static str,
    line_end: &'static str,
    comments: bool,
    trailing_commas: bool,
    /// Whether the entry is already there, from another version.
    connected: bool,
    others: Vec<(String, bool)>,
}

fn layout() -> impl Strategy<Value = Layout> {
    let indent = prop_oneof![Just("  "), Just("    "), Just("\t")];
    let line_end = prop_oneof![Just("\n"), Just("\r\n")];
    let others = proptest::collection::btree_map("[a-oq-z][a-z0-9-]{0,8}", any::<bool>(), 0..4);
    (indent, line_end, any::<bool>(), any::<bool>(), any::<bool>(), others).prop_map(
        |(indent, line_end, comments, trailing_commas, connected, others)| Layout {
            indent,
            line_end,
            comments,
            trailing_commas,
            connected,
            others: others.into_iter().collect(),
        },
    )
}

fn server() -> impl Strategy<Value = Server> {
    let word = "[ -~é\"\\\\\u{1f980}]{1,12}";
    (word, proptest::option::of(word)).prop_map(|(path, home)| Server {
        command: format!("/opt/{path}/pyro"),
        arguments: ["mcp", "serve", "--profile", "workspace-core"].map(ToOwned::to_owned).to_vec(),
        environment: home.map(|home| ("PYRO_HOME".to_owned(), home)).into_iter().collect(),
    })
}

/// Writes a file of this layout for a host.
fn text(host: Host, layout: &Layout) -> String {
    match host.syntax() {
        Syntax::Toml => toml_text(layout),
        Syntax::Json(dialect) => json_text(host, dialect, layout),
    }
}

fn json_text(host: Host, dialect: Dialect, layout: &Layout) -> String {
    let comments = layout.comments && dialect != Dialect::Strict;
    let trailing = layout.trailing_commas && dialect == Dialect::CommentsAndTrailingCommas;
    let keys = shape::shapes(host)[0].path("");
    let container = keys[0];
    let (one, two, three) = (layout.indent, layout.indent.repeat(2), layout.indent.repeat(3));
    let mut lines = vec!["{".to_owned()];
    if comments {
        lines.push(format!("{one}// what this person thinks"));
    }
    lines.push(format!("{one}\"theme\":   \"dark\"{}", if comments { ", // odd spaces" } else { "," }));
    lines.push(format!("{one}\"{container}\": {{"));
    let mut entries: Vec<String> = layout
        .others
        .iter()
        .map(|(name, plain)| match plain {
            true => format!("{two}\"{name}\": {{ \"command\" : [\"x\",\"y\"], \"big\": 1.50e3 }}"),
            false => format!("{two}\"{name}\": {{{}{three}\"command\": \"{name}\"{}{two}}}", layout.line_end, layout.line_end),
        })
        .collect();
    if layout.connected {
        entries.push(format!("{two}\"pyro\": {{ \"command\": \"/old/pyro\", \"args\": [\"mcp\", \"serve\"], \"mine\": 1 }}"));
    }
    let count = entries.len();
    for (position, entry) in entries.into_iter().enumerate() {
        let comma = if position + 1 < count || trailing { "," } else { "" };
        lines.push(format!("{entry}{comma}{}", if comments { " /* kept */" } else { "" }));
    }
    lines.push(format!("{one}}}{}", if trailing { "," } else { "" }));
    lines.push("}".to_owned());
    lines.join(layout.line_end) + layout.line_end
}

fn toml_text(layout: &Layout) -> String {
    let mut text = String::from("model   = 'o'\n");
    if layout.comments {
        text.push_str("# what this person thinks\n");
    }
    for (name, plain) in &layout.others {
        if *plain {
            write!(text, "\n[mcp_servers.{name}] # kept\ncommand=\"x\"\nenv = {{ A =  \"b\" }}\n").expect("memory");
        } else {
            write!(text, "\n[mcp_servers.{name}]\nargs = [\n{}'''a''',\n]\n", layout.indent).expect("memory");
        }
    }
    if layout.connected {
        text.push_str("\n[mcp_servers.pyro]\ncommand = \"/old/pyro\"\nargs = [\"mcp\", \"serve\"]\nmine = 1\n");
    }
    text.push_str("\n[tui]\n theme = 1\n");
    text.replace('\n', layout.line_end)
}

fn edited(host: Host, text: &str, edit: impl FnOnce(Shape, &mut Document)) -> String {
    let mut document = Document::parse(text, host.syntax()).expect("it parses");
    let (shape, _) = shape::of(host, &document, "pyro").expect("it is well formed");
    edit(shape, &mut document);
    document.into_text()
}

fn connected(host: Host, text: &str, server: &Server) -> String {
    edited(host, text, |shape, document| shape.write(document, "pyro", server).expect("it can be written"))
}

/// Returns all values but the entry.
fn others(host: Host, text: &str) -> Value {
    let without = edited(host, text, |shape, document| document.remove(&shape.path("pyro")).expect("it can be removed"));
    let document = Document::parse(&without, host.syntax()).expect("it still parses");
    document.get(&[]).expect("it is well formed").unwrap_or_default()
}

/// Tells whether every line of `before` is in `after`, in order; only a comma may come to its end.
fn keeps_lines(before: &str, after: &str) -> Result<(), String> {
    let of_the_entry = |line: &&str| ["/old/pyro", "mine = 1", "args = [\"mcp\""].iter().any(|words| line.contains(words));
    let mut left = after.split_inclusive('\n');
    for line in before.split_inclusive('\n').filter(|line| !of_the_entry(line)) {
        let found = left.any(|candidate| candidate == line || candidate.replacen("},", "}", 1) == line);
        if !found {
            return Err(format!("lost {line:?} of\n{before}\nin\n{after}"));
        }
    }
    Ok(())
}

fn host() -> impl Strategy<Value = Host> {
    proptest::sample::select(Host::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn connecting_twice_is_connecting_once(host in host(), layout in layout(), server in server()) {
        let once = connected(host, &text(host, &layout), &server);
        prop_assert_eq!(connected(host, &once, &server), once);
    }

    #[test]
    fn everything_else_keeps_its_text(host in host(), layout in layout(), server in server()) {
        let before = text(host, &layout);
        let after = connected(host, &before, &server);
        prop_assert_eq!(keeps_lines(&before, &after), Ok(()));
        prop_assert_eq!(others(host, &before), others(host, &after));
        if layout.line_end == "\r\n" {
            prop_assert!(!after.replace("\r\n", "").contains('\n'), "{:?}", after);
        }
    }

    #[test]
    fn entry_is_read_as_it_was_written(host in host(), layout in layout(), server in server()) {
        let after = connected(host, &text(host, &layout), &server);
        let document = Document::parse(&after, host.syntax()).expect("it still parses");
        let (shape, found) = shape::of(host, &document, "pyro").expect("it is well formed");
        let entry = document.get(&shape.path("pyro")).expect("it is well formed").expect("it is there");
        prop_assert!(found && !shape.misses(&entry, &server), "{}", entry);
        prop_assert_eq!(Shape::read(&entry), Some(server));
        prop_assert_eq!(entry.get("mine").is_some(), layout.connected, "what the user added to it stays");
    }

    #[test]
    fn a_new_connection_leaves_no_trace_but_an_empty_place(host in host(), mut layout in layout(), server in server()) {
        layout.connected = false;
        let before = text(host, &layout);
        let after = connected(host, &before, &server);
        let gone = edited(host, &after, |shape, document| document.remove(&shape.path("pyro")).expect("it can be removed"));
        // An object without entries may come back on one line or with its comma; with others in it, it is what it was.
        if layout.others.is_empty() {
            prop_assert_eq!(others(host, &gone), others(host, &before));
        } else {
            prop_assert_eq!(gone, before);
        }
    }
}
