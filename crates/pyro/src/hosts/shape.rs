//! How an entry is written: the keys differ from host to host, and opencode has two forms.
//!
//! An entry of Pyro's may hold more than Pyro writes (a list of allowed tools, a longer timeout, other variables): that stays, only the
//! keys below are set. An entry that is somebody else's is replaced as a whole.

use serde_json::{Value, json};

use super::{Host, Server, document::Document, error::Malformed, server::HOME_VARIABLE};

/// How long Codex waits for the server's first answer; its own 10 s are short on a machine that is busy building.
const CODEX_STARTUP_SECONDS: u64 = 20;
/// How long Codex waits for a tool: its own 60 s end a build, and Pyro's commands have deadlines of their own.
const CODEX_TOOL_SECONDS: u64 = 600;

/// The form of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    ClaudeCode,
    Codex,
    /// `mcp.NAME`, which every release reads
    OpencodeOne,
    /// `mcp.servers.NAME`, which is opencode 2's, and read by later releases of 1
    OpencodeTwo,
    Cursor,
    Vscode,
    Gemini,
}

/// The forms a host reads; the first is the one to write where nothing speaks for another.
pub(crate) const fn shapes(host: Host) -> &'static [Shape] {
    match host {
        Host::ClaudeCode => &[Shape::ClaudeCode],
        Host::Codex => &[Shape::Codex],
        Host::Opencode => &[Shape::OpencodeOne, Shape::OpencodeTwo],
        Host::Cursor => &[Shape::Cursor],
        Host::Vscode => &[Shape::Vscode],
        Host::Gemini => &[Shape::Gemini],
    }
}

/// Returns the form an entry has, or should have in this document, and whether it is there.
pub(super) fn of(host: Host, document: &Document, name: &str) -> Result<(Shape, bool), Malformed> {
    // The last form first: `mcp.servers` of the second one looks like an entry called `servers` of the first.
    for shape in shapes(host).iter().rev() {
        if document.get(&shape.path(name))?.is_some() {
            return Ok((*shape, true));
        }
    }
    if host == Host::Opencode && document.get(Shape::OpencodeTwo.container())?.is_some_and(|servers| servers.get("command").is_none()) {
        return Ok((Shape::OpencodeTwo, false));
    }
    Ok((shapes(host)[0], false))
}

/// Returns a file that holds nothing but the entry.
pub(crate) fn snippet(host: Host, shape: Shape, name: &str, server: &Server) -> String {
    let made = Document::parse("", host.syntax()).and_then(|mut document| {
        shape.write(&mut document, name, server)?;
        Ok(document.into_text())
    });
    let text = made.unwrap_or_default();
    if text.ends_with('\n') { text } else { text + "\n" }
}

impl Shape {
    /// Returns what tells it from a host's other forms.
    pub(crate) const fn form(self) -> &'static str {
        match self {
            Self::OpencodeOne => "opencode 1",
            Self::OpencodeTwo => "opencode 2",
            Self::ClaudeCode | Self::Codex | Self::Cursor | Self::Vscode | Self::Gemini => "",
        }
    }

    /// Returns the keys that lead to the entries.
    const fn container(self) -> &'static [&'static str] {
        match self {
            Self::ClaudeCode | Self::Cursor | Self::Gemini => &["mcpServers"],
            Self::Codex => &["mcp_servers"],
            Self::OpencodeOne => &["mcp"],
            Self::OpencodeTwo => &["mcp", "servers"],
            Self::Vscode => &["servers"],
        }
    }

    /// Returns the keys that lead to the entry.
    pub(super) fn path(self, name: &str) -> Vec<&str> {
        self.container().iter().copied().chain([name]).collect()
    }

    const fn environment_key(self) -> &'static str {
        match self {
            Self::OpencodeOne | Self::OpencodeTwo => "environment",
            Self::ClaudeCode | Self::Codex | Self::Cursor | Self::Vscode | Self::Gemini => "env",
        }
    }

    /// Returns what Pyro's entry always holds, in the order it is written.
    fn fields(self, server: &Server) -> Vec<(&'static str, Value)> {
        let words = || Value::from(std::iter::once(&server.command).chain(&server.arguments).cloned().collect::<Vec<_>>());
        let both = || [("command", json!(server.command)), ("args", json!(server.arguments))];
        match self {
            Self::ClaudeCode | Self::Cursor | Self::Vscode => [("type", json!("stdio"))].into_iter().chain(both()).collect(),
            Self::Codex | Self::Gemini => both().into(),
            Self::OpencodeOne | Self::OpencodeTwo => vec![("type", json!("local")), ("command", words())],
        }
    }

    /// Returns what it holds unless the user chose something else.
    fn defaults(self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Codex => vec![("startup_timeout_sec", json!(CODEX_STARTUP_SECONDS)), ("tool_timeout_sec", json!(CODEX_TOOL_SECONDS))],
            Self::OpencodeOne => vec![("enabled", json!(true))],
            Self::ClaudeCode | Self::OpencodeTwo | Self::Cursor | Self::Vscode | Self::Gemini => Vec::new(),
        }
    }

    /// Returns keys that say the same in the form of another host. They come from pages about that one, and this one refuses or ignores them.
    const fn superseded(self) -> &'static [&'static str] {
        match self {
            Self::OpencodeOne | Self::OpencodeTwo => &["args", "env"],
            Self::ClaudeCode | Self::Codex | Self::Cursor | Self::Vscode | Self::Gemini => &["environment", "url"],
        }
    }

    /// Reads an entry, also one in another host's form. An entry that runs nothing gives nothing.
    pub(super) fn read(entry: &Value) -> Option<Server> {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
        };
        let command = entry.get("command")?;
        let mut words = command.as_str().map_or_else(|| texts(command), |command| vec![command.to_owned()]);
        words.extend(entry.get("args").map(texts).unwrap_or_default());
        let variables = entry.get("env").or_else(|| entry.get("environment")).and_then(Value::as_object);
        let environment = variables.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let environment = environment.collect();
        let mut words = words.into_iter();
        Some(Server { command: words.next()?, arguments: words.collect(), environment })
    }

    /// Tells whether an entry is there but switched off.
    pub(super) fn is_off(entry: &Value) -> bool {
        entry.get("enabled") == Some(&json!(false)) || entry.get("disabled") == Some(&json!(true))
    }

    /// Tells whether an entry of Pyro's lacks what its host needs to read it, or says it in another host's words.
    pub(super) fn misses(self, entry: &Value, server: &Server) -> bool {
        // What has a command and no type is taken for a program everywhere but in opencode.
        let needs_type = matches!(self, Self::OpencodeOne | Self::OpencodeTwo);
        let lacks = |(key, value): (&str, Value)| match entry.get(key) {
            Some(found) => *found != value,
            None => key != "type" || needs_type,
        };
        self.fields(server).into_iter().any(lacks) || self.superseded().iter().any(|key| entry.get(key).is_some())
    }

    /// Writes the entry, and leaves what it holds beyond that if it is Pyro's.
    pub(super) fn write(self, document: &mut Document, name: &str, server: &Server) -> Result<(), Malformed> {
        let entry = self.path(name);
        let at = |key: &'static str| -> Vec<&str> { entry.iter().copied().chain([key]).collect() };
        let before = document.get(&entry)?;
        let fields = self.fields(server);
        if let Some(before) = &before {
            match before.as_object() {
                None => document.remove(&entry)?,
                Some(_) if Self::read(before).is_some_and(|server| server.is_ours()) => {}
                // What somebody else's server was given is nothing for ours, its variables least of all.
                Some(keys) => {
                    let kept = |key: &str| key != self.environment_key() && fields.iter().any(|(field, _)| *field == key);
                    for key in keys.keys().filter(|key| !kept(key)) {
                        document.remove(&entry.iter().copied().chain([key.as_str()]).collect::<Vec<_>>())?;
                    }
                }
            }
            for key in self.superseded() {
                document.remove(&at(key))?;
            }
        }
        for (key, value) in &fields {
            document.set(&at(key), value)?;
        }
        self.write_environment(document, &entry, server)?;
        for (key, value) in self.defaults() {
            if document.get(&at(key))?.is_none() {
                document.set(&at(key), &value)?;
            }
        }
        // Who connects wants it on.
        for (key, off) in [("enabled", false), ("disabled", true)] {
            if document.get(&at(key))? == Some(json!(off)) {
                document.set(&at(key), &json!(!off))?;
            }
        }
        Ok(())
    }

    fn write_environment(self, document: &mut Document, entry: &[&str], server: &Server) -> Result<(), Malformed> {
        let variables: Vec<&str> = entry.iter().copied().chain([self.environment_key()]).collect();
        let variable = |name| -> Vec<&str> { variables.iter().copied().chain([name]).collect() };
        if !server.environment.contains_key(HOME_VARIABLE)
            && document.get(&variables)?.is_some_and(|variables| variables.get(HOME_VARIABLE).is_some())
        {
            document.remove(&variable(HOME_VARIABLE))?;
            if document.get(&variables)?.is_some_and(|left| left.as_object().is_some_and(serde_json::Map::is_empty)) {
                document.remove(&variables)?;
            }
        }
        for (name, value) in &server.environment {
            document.set(&variable(name.as_str()), &json!(value))?;
        }
        Ok(())
    }
}
