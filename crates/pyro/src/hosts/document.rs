//! A configuration text that can be changed in places: what is not touched keeps its bytes, whatever the syntax.

use serde_json::Value;

use super::{
    error::Malformed,
    json::{Dialect, JsonDocument},
    toml::TomlDocument,
};

/// In which language a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Json(Dialect),
    Toml,
}

/// A parsed text.
#[derive(Debug)]
pub(super) enum Document {
    Json(JsonDocument),
    Toml(Box<TomlDocument>),
}

impl Document {
    /// Parses a text; an empty one is a document without entries.
    pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Self, Malformed> {
        Ok(match syntax {
            Syntax::Json(dialect) => Self::Json(JsonDocument::parse(text, dialect)?),
            Syntax::Toml => Self::Toml(Box::new(TomlDocument::parse(text)?)),
        })
    }

    /// Returns what is at a path of keys.
    pub(super) fn get(&self, path: &[&str]) -> Result<Option<Value>, Malformed> {
        match self {
            Self::Json(document) => document.get(path),
            Self::Toml(document) => document.get(path),
        }
    }

    /// Puts a value at a path, and makes what is missing above it. A value that is there already is not touched.
    pub(super) fn set(&mut self, path: &[&str], value: &Value) -> Result<(), Malformed> {
        if self.get(path)?.as_ref() == Some(value) {
            return Ok(());
        }
        match self {
            Self::Json(document) => document.set(path, value),
            Self::Toml(document) => document.set(path, value),
        }
    }

    /// Takes what is at a path away, if there is something.
    pub(super) fn remove(&mut self, path: &[&str]) -> Result<(), Malformed> {
        match self {
            Self::Json(document) => document.remove(path),
            Self::Toml(document) => document.remove(path),
        }
    }

    pub(super) fn into_text(self) -> String {
        match self {
            Self::Json(document) => document.into_text(),
            Self::Toml(document) => document.into_text(),
        }
    }
}
