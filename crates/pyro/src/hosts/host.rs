//! What is known of each host: its names, where its file lies, how strict it reads it.
//!
//! Everything here was tried with the hosts' own programs where they are to be had (`tests/tests/hosts.rs`), and is told in `docs/hosts/`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::{HostError, Surroundings, document::Syntax, json::Dialect};

/// A program that starts MCP servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Host {
    /// Claude Code
    ClaudeCode,
    /// Codex
    Codex,
    /// opencode
    Opencode,
    /// Cursor
    Cursor,
    /// Visual Studio Code
    Vscode,
    /// Gemini CLI
    Gemini,
}

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// Yours, for every folder
    User,
    /// The current folder's, which its other users share
    Project,
}

impl Scope {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Project => "project",
        }
    }
}

impl Host {
    pub(crate) const ALL: [Self; 6] = [Self::ClaudeCode, Self::Codex, Self::Opencode, Self::Cursor, Self::Vscode, Self::Gemini];

    /// Returns the name commands take.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Opencode => "opencode",
            Self::Cursor => "cursor",
            Self::Vscode => "vscode",
            Self::Gemini => "gemini",
        }
    }

    /// Returns the name people use.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::ClaudeCode => "Claude Code",
            Self::Codex => "Codex",
            Self::Opencode => "opencode",
            Self::Cursor => "Cursor",
            Self::Vscode => "VS Code",
            Self::Gemini => "Gemini CLI",
        }
    }

    /// Returns what it is started by; the first that is on `PATH` counts.
    pub(super) const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::ClaudeCode => &["claude"],
            Self::Codex => &["codex"],
            Self::Opencode => &["opencode"],
            Self::Cursor => &["cursor-agent", "cursor"],
            Self::Vscode => &["code", "code-insiders", "codium"],
            Self::Gemini => &["gemini"],
        }
    }

    /// Returns how its file is read: a file its host would refuse is refused here, too.
    pub(super) const fn syntax(self) -> Syntax {
        match self {
            Self::ClaudeCode => Syntax::Json(Dialect::Strict),
            Self::Gemini => Syntax::Json(Dialect::Comments),
            Self::Opencode | Self::Cursor | Self::Vscode => Syntax::Json(Dialect::CommentsAndTrailingCommas),
            Self::Codex => Syntax::Toml,
        }
    }

    /// Returns the files that may hold its servers, the one that counts most first.
    pub(super) fn files(self, scope: Scope, surroundings: &Surroundings) -> Result<Vec<PathBuf>, HostError> {
        let home = || surroundings.folder("HOME").ok_or(HostError::NoHome { host: self });
        let configuration = || surroundings.folder("XDG_CONFIG_HOME").map_or_else(|| home().map(|home| home.join(".config")), Ok);
        let named = |variable: &str| surroundings.folder(variable);
        let here = &surroundings.current;
        Ok(match (self, scope) {
            (Self::ClaudeCode, Scope::User) => vec![named("CLAUDE_CONFIG_DIR").map_or_else(home, Ok)?.join(".claude.json")],
            (Self::ClaudeCode, Scope::Project) => vec![here.join(".mcp.json")],
            (Self::Codex, Scope::User) => {
                vec![named("CODEX_HOME").map_or_else(|| home().map(|home| home.join(".codex")), Ok)?.join("config.toml")]
            }
            (Self::Codex, Scope::Project) => vec![here.join(".codex/config.toml")],
            (Self::Opencode, Scope::User) => match named("OPENCODE_CONFIG") {
                Some(file) => vec![file],
                None => opencode_files(configuration()?.join("opencode")),
            },
            (Self::Opencode, Scope::Project) => opencode_files(here.clone()),
            (Self::Cursor, Scope::User) => vec![home()?.join(".cursor/mcp.json")],
            (Self::Cursor, Scope::Project) => vec![here.join(".cursor/mcp.json")],
            (Self::Vscode, Scope::User) => vec![configuration()?.join("Code/User/mcp.json")],
            (Self::Vscode, Scope::Project) => vec![here.join(".vscode/mcp.json")],
            (Self::Gemini, Scope::User) => vec![named("GEMINI_CLI_HOME").map_or_else(home, Ok)?.join(".gemini/settings.json")],
            (Self::Gemini, Scope::Project) => vec![here.join(".gemini/settings.json")],
        })
    }

    /// Returns what the host wants of its user before it starts the server, where it wants something.
    pub(crate) const fn afterwards(self, scope: Scope) -> Option<&'static str> {
        match (self, scope) {
            (Self::ClaudeCode, Scope::Project) => Some("Claude Code asks each user once before it starts a server of `.mcp.json`"),
            (Self::Codex, Scope::Project) => Some("Codex reads `.codex/config.toml` only in folders you trust: start `codex` there once"),
            (Self::Gemini, Scope::User | Scope::Project) => {
                Some("Gemini CLI starts servers only in folders you trust: start `gemini` there once and say so")
            }
            (Self::Vscode, Scope::User | Scope::Project) => Some("VS Code asks once before it starts the server"),
            (Self::ClaudeCode | Self::Codex, Scope::User) | (Self::Opencode | Self::Cursor, _) => None,
        }
    }
}

/// opencode merges both files of a folder, and the one with comments wins.
fn opencode_files(folder: PathBuf) -> Vec<PathBuf> {
    vec![folder.join("opencode.jsonc"), folder.join("opencode.json")]
}
