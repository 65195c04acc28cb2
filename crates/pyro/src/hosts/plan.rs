//! What a command would change in a host's file: worked out first, shown, and carried out in one step.

use std::path::{Path, PathBuf};

use super::{
    Connection, HostError, Server, Surroundings, connection::Opened, difference::difference, file::HostFile, program, server, shape::Shape,
};

/// What an entry without a story gets when it is mended.
const PLAIN_ARGUMENTS: [&str; 4] = ["mcp", "serve", "--profile", "workspace-core"];

/// What a plan does to the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It was not there.
    Added,
    /// It was Pyro's, with other values.
    Updated,
    /// It was somebody else's.
    Replaced,
    Removed,
    /// It is as it should be.
    Unchanged,
}

impl Action {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Updated => "updated",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// A change that is worked out and not carried out yet.
#[derive(Debug)]
pub(crate) struct Plan {
    file: HostFile,
    /// What an entry that is not Pyro's runs.
    foreign: Option<String>,
    before: String,
    after: String,
    pub(crate) action: Action,
    /// What the entry runs afterwards, or ran.
    pub(crate) server: Server,
}

impl Plan {
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn changes(&self) -> bool {
        self.before != self.after
    }

    /// Shows the change as a unified difference, without what looks like other servers' secrets around it.
    pub(crate) fn difference(&self) -> String {
        if !self.changes() {
            return String::new();
        }
        let path = self.path().display();
        let old = if self.file.exists() { format!("{path}") } else { "/dev/null".to_owned() };
        format!("--- {old}\n+++ {path}\n{}", difference(&self.before, &self.after))
    }

    /// Returns the refusal to touch an entry that is not Pyro's.
    pub(crate) fn not_ours(&self, connection: &Connection) -> HostError {
        let command = self.foreign.clone().unwrap_or_else(|| "nothing".to_owned());
        HostError::NotOurs { name: connection.name.clone(), path: self.path().to_owned(), command }
    }

    /// Carries the change out, and returns where the old file is kept.
    pub(crate) fn carry_out(&self) -> Result<Option<PathBuf>, HostError> {
        if self.changes() { self.file.replace(&self.after) } else { Ok(None) }
    }
}

/// Returns the file the entry is in, or would be.
pub(crate) fn path(connection: &Connection, surroundings: &Surroundings) -> Result<PathBuf, HostError> {
    Ok(connection.open(surroundings)?.file.path().to_owned())
}

/// Plans that the entry runs `server`.
pub(crate) fn connect(connection: &Connection, server: Server, surroundings: &Surroundings) -> Result<Plan, HostError> {
    let opened = connection.open(surroundings)?;
    let entry = opened.entry(connection)?;
    let action = match &entry {
        None => Action::Added,
        Some(entry) if Shape::read(entry).is_some_and(|server| server.is_ours()) => Action::Updated,
        Some(_) => Action::Replaced,
    };
    let foreign = entry.as_ref().and_then(Shape::read).filter(|server| !server.is_ours()).map(|server| server.line());
    Ok(Plan { foreign, ..plan(connection, opened, action, server)? })
}

/// Plans that the entry is gone. One that runs something else is left to the user.
pub(crate) fn disconnect(connection: &Connection, surroundings: &Surroundings) -> Result<Plan, HostError> {
    let mut opened = connection.open(surroundings)?;
    let server = opened.server(connection)?;
    let path = opened.file.path().to_owned();
    let before = opened.file.text(connection.host)?.to_owned();
    opened.document.remove(&opened.shape.path(&connection.name)).map_err(|source| HostError::Malformed {
        host: connection.host,
        path,
        source,
    })?;
    Ok(Plan { before, after: opened.document.into_text(), action: Action::Removed, server, foreign: None, file: opened.file })
}

/// Plans that the entry runs `binary` in the form its host reads, with what it was given when it was made.
pub(crate) fn mend(connection: &Connection, binary: &Path, surroundings: &Surroundings) -> Result<Plan, HostError> {
    let opened = connection.open(surroundings)?;
    let mut server = opened.server(connection)?;
    let binary = server::text(binary)?;
    if !program::is_same(&server.command, &binary) {
        server.command = binary;
    }
    if !server.serves() {
        server.arguments = PLAIN_ARGUMENTS.map(ToOwned::to_owned).to_vec();
    }
    plan(connection, opened, Action::Updated, server)
}

fn plan(connection: &Connection, mut opened: Opened, action: Action, server: Server) -> Result<Plan, HostError> {
    let path = opened.file.path().to_owned();
    let before = opened.file.text(connection.host)?.to_owned();
    opened.shape.write(&mut opened.document, &connection.name, &server).map_err(|source| HostError::Malformed {
        host: connection.host,
        path,
        source,
    })?;
    let mut after = opened.document.into_text();
    // A text file ends with a line break; one that exists ends as it did.
    if before.is_empty() && !after.ends_with('\n') {
        after.push('\n');
    }
    let action = if before == after { Action::Unchanged } else { action };
    Ok(Plan { before, after, action, server, foreign: None, file: opened.file })
}

impl Opened {
    /// Returns the entry as it is.
    pub(super) fn entry(&self, connection: &Connection) -> Result<Option<serde_json::Value>, HostError> {
        self.document.get(&self.shape.path(&connection.name)).map_err(|source| HostError::Malformed {
            host: connection.host,
            path: self.file.path().to_owned(),
            source,
        })
    }

    /// Returns what Pyro's entry runs.
    fn server(&self, connection: &Connection) -> Result<Server, HostError> {
        let Some(entry) = self.entry(connection)? else {
            return Err(HostError::NotConnected {
                host: connection.host,
                scope: connection.scope,
                name: connection.name.clone(),
                path: self.file.path().to_owned(),
            });
        };
        let server = Shape::read(&entry);
        server.as_ref().filter(|server| server.is_ours()).cloned().ok_or_else(|| HostError::NotOurs {
            name: connection.name.clone(),
            path: self.file.path().to_owned(),
            command: server.map_or_else(|| "nothing".to_owned(), |server| server.line()),
        })
    }
}
