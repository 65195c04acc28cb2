//! Which entry of which file is meant, and what it is surrounded by.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{
    Host, HostError, Scope,
    document::Document,
    file::HostFile,
    shape::{self, Shape},
};

/// Longest name of an entry. Hosts put it before the names of tools, which models' APIs cap at 64 characters.
const NAME_MAXIMUM: usize = 32;

/// Looks a variable of the process up.
type Lookup = Box<dyn Fn(&str) -> Option<OsString>>;

/// What commands are told of the process they run in.
pub(crate) struct Surroundings {
    /// The folder projects' files are in.
    pub(crate) current: PathBuf,
    lookup: Lookup,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Surroundings").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Surroundings {
    pub(crate) fn new(current: PathBuf, lookup: impl Fn(&str) -> Option<OsString> + 'static) -> Self {
        Self { current, lookup: Box::new(lookup) }
    }

    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        (self.lookup)(name)
    }

    /// Returns the path a variable holds. An empty one counts as none, as the XDG rules have it.
    pub(super) fn folder(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).filter(|value| !value.is_empty()).map(|value| self.current.join(value))
    }
}

/// One entry of one host's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) host: Host,
    pub(crate) scope: Scope,
    pub(crate) name: String,
}

impl Connection {
    pub(crate) fn new(host: Host, scope: Scope, name: &str) -> Result<Self, HostError> {
        let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
        if name.is_empty() || name.len() > NAME_MAXIMUM || !name.chars().all(allowed) {
            return Err(HostError::Name { name: name.to_owned(), maximum: NAME_MAXIMUM });
        }
        Ok(Self { host, scope, name: name.to_owned() })
    }

    /// Opens the file that holds the entry, or that should.
    pub(super) fn open(&self, surroundings: &Surroundings) -> Result<Opened, HostError> {
        let mut opened = Vec::new();
        for path in self.host.files(self.scope, surroundings)? {
            // A project's files may come from anybody; a link of theirs must not have us write elsewhere.
            if self.scope == Scope::Project && leads_out(&path, &surroundings.current) {
                return Err(HostError::NotAFile { path, what: "behind a link that leads out of this folder" });
            }
            opened.push(self.open_file(&path)?);
        }
        // Where hosts merge several files the entry is changed where it is; a new one goes into the first that is there.
        let place = opened.iter().position(|found| found.shape_found).or_else(|| opened.iter().position(|found| found.file.exists()));
        let place = place.unwrap_or(opened.len().saturating_sub(1));
        opened.into_iter().nth(place).ok_or(HostError::NoHome { host: self.host })
    }

    fn open_file(&self, path: &Path) -> Result<Opened, HostError> {
        let file = HostFile::read(path, self.scope)?;
        let malformed = |source| HostError::Malformed { host: self.host, path: path.to_owned(), source };
        let document = Document::parse(file.text(self.host)?, self.host.syntax()).map_err(malformed)?;
        let (shape, shape_found) = shape::of(self.host, &document, &self.name).map_err(malformed)?;
        Ok(Opened { file, document, shape, shape_found })
    }
}

/// Tells whether links on the way to a path end outside of a folder.
fn leads_out(path: &Path, folder: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok());
    let inside = |existing: &Path| existing.canonicalize().ok()?.starts_with(folder.canonicalize().ok()?).then_some(());
    existing.is_none_or(|existing| inside(existing).is_none())
}

/// A host's file, read and understood.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: HostFile,
    pub(super) document: Document,
    pub(super) shape: Shape,
    /// Whether the entry is in it.
    pub(super) shape_found: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_project_stay_in_it() {
        let home = tempfile::tempdir().expect("a folder");
        let project = home.path().join("project");
        std::fs::create_dir_all(project.join("real")).expect("writable");
        std::fs::write(home.path().join("own"), "{}").expect("writable");
        std::os::unix::fs::symlink(home.path(), project.join(".cursor")).expect("writable");
        std::os::unix::fs::symlink(home.path().join("own"), project.join(".mcp.json")).expect("writable");
        std::os::unix::fs::symlink("real", project.join(".vscode")).expect("writable");
        let out = |name: &str| leads_out(&project.join(name), &project);
        assert!(out(".cursor/mcp.json") && out(".mcp.json"));
        assert!(!out(".vscode/mcp.json") && !out("new/mcp.json") && !out("opencode.json"));
    }
}
