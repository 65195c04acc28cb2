//! A set of rules as it is kept beside a seed's manifest: what was read, in the order it is taken in again.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{
    glob::Case,
    rules::{Excludes, IGNORE_FILE_MAX_BYTES, IgnoreRules, Scope},
};
use crate::records::{Records, RecordsError};

/// A control character of a file of patterns takes six characters.
const RECORDS: Records = Records { what: "the set of ignore rules", format: 1, line_max_bytes: 6 * IGNORE_FILE_MAX_BYTES + 64 * 1024 };

/// Bytes that most often are text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Valid(String),
    Raw(Vec<u8>),
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Raw(bytes.to_vec()), |text| Self::Valid(text.to_owned()))
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Valid(text) => text.into_bytes(),
            Self::Raw(bytes) => bytes,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    /// A checkout; the files that follow are its own.
    Checkout { root: Text, prefix: Text, ignored: bool, ignore_case: bool },
    /// `core.excludesFile`.
    UserExcludes { patterns: Text },
    /// `info/exclude`.
    RepositoryExcludes { patterns: Text },
    /// A `.gitignore` and its folder, relative to the checkout.
    Gitignore { folder: Text, patterns: Text },
}

impl IgnoreRules {
    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (root, scope) in self.scopes() {
            let ignore_case = scope.case == Case::Folded;
            lines.push(Line::Checkout { root: Text::of(root), prefix: Text::of(&scope.prefix), ignored: scope.ignored, ignore_case });
            lines.extend(scope.excludes().map(|(which, bytes)| match which {
                Excludes::User => Line::UserExcludes { patterns: Text::of(bytes) },
                Excludes::Repository => Line::RepositoryExcludes { patterns: Text::of(bytes) },
            }));
            lines.extend(scope.folders().map(|(folder, bytes)| Line::Gitignore { folder: Text::of(folder), patterns: Text::of(bytes) }));
        }
        lines
    }

    /// Reads a set of rules; `None` when there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or a newer version wrote it.
    pub fn load(path: &Path) -> Result<Option<Self>, RecordsError> {
        let mut rules = Self::default();
        let mut current: Option<(Vec<u8>, Scope)> = None;
        let found = RECORDS.read(path, |line: Line| {
            match (line, &mut current) {
                (Line::Checkout { root, prefix, ignored, ignore_case }, current) => {
                    if let Some((root, scope)) = current.take() {
                        rules.add_scope(&root, scope).ok()?;
                    }
                    let mut scope = Scope::new(if ignore_case { Case::Folded } else { Case::Sensitive });
                    scope.begin_at(&prefix.bytes(), ignored);
                    *current = Some((root.bytes(), scope));
                }
                (Line::UserExcludes { patterns }, Some((_, scope))) => scope.set_excludes(Excludes::User, &patterns.bytes()),
                (Line::RepositoryExcludes { patterns }, Some((_, scope))) => scope.set_excludes(Excludes::Repository, &patterns.bytes()),
                (Line::Gitignore { folder, patterns }, Some((_, scope))) => scope.set_folder(&folder.bytes(), &patterns.bytes()),
                (Line::UserExcludes { .. } | Line::RepositoryExcludes { .. } | Line::Gitignore { .. }, None) => return None,
            }
            Some(())
        })?;
        if let Some((root, scope)) = current {
            rules.add_scope(&root, scope).map_err(|error| RecordsError::Read {
                what: RECORDS.what,
                path: path.into(),
                source: std::io::Error::other(error),
            })?;
        }
        Ok(found.then_some(rules))
    }

    /// Writes the rules aside, syncs them and renames them to `path`.
    ///
    /// # Errors
    /// Any step fails; an older file is then untouched.
    pub fn store(&self, path: &Path) -> Result<(), RecordsError> {
        RECORDS.write(path, self.lines().into_iter())
    }
}
