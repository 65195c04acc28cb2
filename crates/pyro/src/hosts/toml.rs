//! TOML, for Codex.
//!
//! `toml_edit` keeps comments, order and spelling, but writes lines with `\n`. So lines that stayed the same are taken from the original
//! text, and new ones end as most lines of the file do.

use imara_diff::{Algorithm, Diff, InternedInput};
use serde_json::{Map, Number, Value};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike};

use super::error::Malformed;

/// How many keys lead to an entry: `mcp_servers` and its name.
const ENTRY_DEPTH: usize = 2;

/// A parsed text.
#[derive(Debug)]
pub(super) struct TomlDocument {
    original: String,
    document: DocumentMut,
}

impl TomlDocument {
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let document = text.parse::<DocumentMut>().map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let (line, column) = place(text, at);
            Malformed::Syntax { line, column, reason: error.message().replace('\n', ", ") }
        })?;
        Ok(Self { original: text.to_owned(), document })
    }

    pub(super) fn get(&self, path: &[&str]) -> Result<Option<Value>, Malformed> {
        let mut table: &dyn TableLike = self.document.as_table();
        let Some((last, above)) = path.split_last() else { return Ok(Some(object(table))) };
        for key in above {
            match table.get(key) {
                Some(found) => table = found.as_table_like().ok_or_else(|| not_a_table(key))?,
                None => return Ok(None),
            }
        }
        Ok(table.get(last).and_then(value_of))
    }

    pub(super) fn set(&mut self, path: &[&str], value: &Value) -> Result<(), Malformed> {
        let Some((last, above)) = path.split_last() else { return Ok(()) };
        let mut table: &mut dyn TableLike = self.document.as_table_mut();
        let mut inline = false;
        for (depth, key) in above.iter().enumerate() {
            if table.get(key).is_none() {
                insert(table, inline, key, made_table(depth));
            }
            inline = table.get(key).is_some_and(Item::is_inline_table);
            table = table.get_mut(key).and_then(Item::as_table_like_mut).ok_or_else(|| not_a_table(key))?;
        }
        let mut made = item(value);
        match table.get_mut(last) {
            Some(found) => {
                // The comment behind a value belongs to its line, not to the value.
                if let (Some(old), Some(new)) = (found.as_value(), made.as_value_mut()) {
                    *new.decor_mut() = old.decor().clone();
                }
                *found = made;
            }
            None => insert(table, inline, last, made),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &[&str]) -> Result<(), Malformed> {
        let Some((last, above)) = path.split_last() else { return Ok(()) };
        let mut table: &mut dyn TableLike = self.document.as_table_mut();
        for key in above {
            match table.get_mut(key) {
                Some(found) => table = found.as_table_like_mut().ok_or_else(|| not_a_table(key))?,
                None => return Ok(()),
            }
        }
        table.remove(last);
        Ok(())
    }

    pub(super) fn into_text(self) -> String {
        with_line_ends_of(&self.original, &self.document.to_string())
    }
}

/// Makes a table of the form its place asks for: `[mcp_servers.pyro]` on top, `env = { … }` in an entry. Within an inline table both become
/// inline by themselves.
fn made_table(depth: usize) -> Item {
    if depth >= ENTRY_DEPTH {
        return toml_edit::value(InlineTable::new());
    }
    let mut table = Table::new();
    table.set_implicit(depth + 1 < ENTRY_DEPTH);
    Item::Table(table)
}

/// Adds a value. The space before an inline table's closing brace belongs to its last value, which is another one now.
fn insert(table: &mut dyn TableLike, inline: bool, key: &str, item: Item) {
    if !inline {
        table.insert(key, item);
        return;
    }
    let last = table.iter_mut().filter_map(|(_, item)| item.as_value_mut().map(toml_edit::Value::decor_mut)).last();
    let space = last.and_then(|decor| {
        let space = decor.suffix().cloned();
        decor.set_suffix("");
        space
    });
    table.insert(key, item);
    if let (Some(space), Some(value)) = (space, table.get_mut(key).and_then(Item::as_value_mut)) {
        value.decor_mut().set_suffix(space);
    }
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn not_a_table(key: &str) -> Malformed {
    Malformed::NotATable { key: key.to_owned() }
}

fn item(value: &Value) -> Item {
    match value {
        Value::Bool(value) => toml_edit::value(*value),
        Value::Number(number) => toml_edit::value(number.as_i64().unwrap_or(i64::MAX)),
        Value::Array(values) => {
            let array: Array = values.iter().filter_map(|value| item(value).into_value().ok()).collect();
            toml_edit::value(array)
        }
        Value::Object(map) => {
            let table: InlineTable = map.iter().filter_map(|(key, value)| Some((key.as_str(), item(value).into_value().ok()?))).collect();
            toml_edit::value(table)
        }
        Value::String(text) => toml_edit::value(text.as_str()),
        // TOML has no null, and no entry of ours has one.
        Value::Null => Item::None,
    }
}

fn value_of(item: &Item) -> Option<Value> {
    match item {
        Item::None => None,
        Item::Value(value) => Some(plain(value)),
        Item::Table(table) => Some(object(table)),
        Item::ArrayOfTables(tables) => Some(Value::Array(tables.iter().map(|table| object(table)).collect())),
    }
}

fn plain(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::String(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::Number((*number.value()).into()),
        toml_edit::Value::Float(number) => Number::from_f64(*number.value()).map_or(Value::Null, Value::Number),
        toml_edit::Value::Boolean(value) => Value::Bool(*value.value()),
        toml_edit::Value::Datetime(date) => Value::String(date.value().to_string()),
        toml_edit::Value::Array(values) => Value::Array(values.iter().map(plain).collect()),
        toml_edit::Value::InlineTable(table) => object(table),
    }
}

fn object(table: &dyn TableLike) -> Value {
    Value::Object(table.iter().filter_map(|(key, item)| Some((key.to_owned(), value_of(item)?))).collect::<Map<_, _>>())
}

/// Gives `edited`, whose lines end in `\n`, the line ends of `original` where a line stayed, and the usual one elsewhere.
fn with_line_ends_of(original: &str, edited: &str) -> String {
    let carriage_returns = original.matches("\r\n").count();
    if carriage_returns == 0 {
        return edited.to_owned();
    }
    let usual = if 2 * carriage_returns > original.matches('\n').count() { "\r\n" } else { "\n" };
    let bare = original.replace("\r\n", "\n");
    let edited = edited.replace("\r\n", "\n");
    let ends: Vec<&str> = original.split_inclusive('\n').collect();
    let input = InternedInput::new(bare.as_str(), edited.as_str());
    let diff = Diff::compute(Algorithm::Histogram, &input);
    let (mut text, mut old) = (String::with_capacity(original.len() + edited.len()), 0_u32);
    let lines: Vec<&str> = edited.split_inclusive('\n').collect();
    let mut hunks = diff.hunks().peekable();
    let mut new = 0_u32;
    while let Some(line) = lines.get(new as usize) {
        if let Some(hunk) = hunks.peek().filter(|hunk| hunk.after.start <= new && hunk.before.start <= old) {
            if new < hunk.after.end {
                text.push_str(&line.replace('\n', usual));
                new += 1;
                continue;
            }
            old = hunk.before.end;
            hunks.next();
            continue;
        }
        text.push_str(ends.get(old as usize).copied().unwrap_or(line));
        (old, new) = (old + 1, new + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(before: &str, edit: impl FnOnce(&mut TomlDocument) -> Result<(), Malformed>, after: &str) {
        let mut document = TomlDocument::parse(before).expect("it parses");
        edit(&mut document).expect("it can be edited");
        assert_eq!(document.into_text(), after);
    }

    fn pyro(document: &mut TomlDocument) -> Result<(), Malformed> {
        document.set(&["mcp_servers", "pyro", "command"], &json!("/bin/pyro"))?;
        document.set(&["mcp_servers", "pyro", "env", "PYRO_HOME"], &json!("/h"))
    }

    const ENTRY: &str = "[mcp_servers.pyro]\ncommand = \"/bin/pyro\"\nenv = { PYRO_HOME = \"/h\" }\n";

    #[test]
    fn new_entry_stands_at_the_end() {
        check("", pyro, ENTRY);
        check("# mine\nmodel = \"x\" # this\n", pyro, &format!("# mine\nmodel = \"x\" # this\n\n{ENTRY}"));
    }

    #[test]
    fn new_entry_stands_behind_other_servers() {
        let (other, more) = ("[mcp_servers.other] # theirs\ncommand = 'x'\n", "# mine\n[tui]\ntheme = \"a\"\n");
        check(&format!("{other}\n{more}"), pyro, &format!("{other}\n{ENTRY}\n{more}"));
    }

    #[test]
    fn entry_in_an_inline_table_stays_inline() {
        check(
            "mcp_servers = { other = { command = \"x\" } }\n",
            |document| document.set(&["mcp_servers", "pyro", "command"], &json!("p")),
            "mcp_servers = { other = { command = \"x\" }, pyro = { command = \"p\" } }\n",
        );
    }

    #[test]
    fn changed_value_keeps_the_comment_behind_it() {
        check(
            "[mcp_servers.pyro]\ncommand = \"old\" # here\nargs = []\n",
            |document| document.set(&["mcp_servers", "pyro", "command"], &json!("new")),
            "[mcp_servers.pyro]\ncommand = \"new\" # here\nargs = []\n",
        );
    }

    #[test]
    fn removed_entry_takes_its_tables_along() {
        check(
            "a = 1\n\n[mcp_servers.pyro]\ncommand = \"x\"\n\n[mcp_servers.pyro.env]\nA = \"b\"\n\n# theirs\n[tui]\nb = 2\n",
            |document| document.remove(&["mcp_servers", "pyro"]),
            "a = 1\n\n# theirs\n[tui]\nb = 2\n",
        );
    }

    #[test]
    fn line_ends_stay_even_where_they_differ() {
        check(
            "a = 1\r\nb = 2\nc = 3\r\n",
            |document| document.set(&["t", "x", "y"], &json!(1)),
            "a = 1\r\nb = 2\nc = 3\r\n\r\n[t.x]\r\ny = 1\r\n",
        );
        check("a = 1\r\nb = 2\r\nc = 3\r\n", |document| document.remove(&["b"]), "a = 1\r\nc = 3\r\n");
        check("s = '''x\r\ny'''\r\n", |document| document.set(&["a"], &json!(1)), "s = '''x\r\ny'''\r\na = 1\r\n");
    }

    #[test]
    fn errors_name_their_place() {
        let error = TomlDocument::parse("a = 1\nb = = 2\n").expect_err("it is refused");
        assert!(error.to_string().starts_with("line 2, column 5: "), "{error}");
        assert!(TomlDocument::parse("a = 1\na = 2\n").is_err(), "twice");
        let mut document = TomlDocument::parse("mcp_servers = 3\n").expect("it parses");
        assert_eq!(document.set(&["mcp_servers", "x"], &json!(1)), Err(Malformed::NotATable { key: "mcp_servers".into() }));
    }
}
