//! The command an entry runs: this very `pyro`, with `mcp serve` and what it may do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use pyro_sdk::EnvironmentName;

use super::{HostError, Surroundings};
use crate::mcp::{CeilingArguments, Mode, ProfileName, without_credentials};

/// What the server is started with.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Which tools the server offers
    #[arg(long, value_enum, value_name = "PROFILE", default_value = "workspace-core", conflicts_with = "mode")]
    profile: ProfileName,
    /// The tools of one story, instead of a profile
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<Mode>,
    /// Folder or archive that new workspaces begin with. Without any of these three: the Git checkout the host starts the server in
    #[arg(long, value_name = "PATH", conflicts_with_all = ["repo_url", "no_project_source"])]
    project_path: Option<PathBuf>,
    /// Repository that is cloned for the server, for new workspaces to begin with
    #[arg(long, value_name = "URL", conflicts_with = "no_project_source")]
    repo_url: Option<String>,
    /// Branch, tag or commit of it
    #[arg(long, value_name = "REF", requires = "repo_url")]
    repo_ref: Option<String>,
    /// New workspaces begin empty
    #[arg(long)]
    no_project_source: bool,
    /// The environment of every workspace; the model's choice without it
    #[arg(long, value_name = "ENV")]
    environment: Option<EnvironmentName>,
    #[command(flatten)]
    ceiling: CeilingArguments,
}

impl ServeOptions {
    /// Writes them as `mcp serve` takes them. A host may start the server in any folder, so a path must not depend on one.
    fn arguments(&self, current: &Path) -> Result<Vec<String>, HostError> {
        let mut words = vec!["mcp".to_owned(), "serve".to_owned()];
        let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        match self.mode {
            Some(mode) => flag("mode", value_name(&mode)),
            None => flag("profile", value_name(&self.profile)),
        }
        if let Some(path) = &self.project_path {
            flag("project-path", text(&std::path::absolute(current.join(path)).unwrap_or_else(|_| path.clone()))?);
        }
        if let Some(url) = &self.repo_url {
            flag("repo-url", url.clone());
        }
        if let Some(reference) = &self.repo_ref {
            flag("repo-ref", reference.clone());
        }
        if let Some(environment) = self.environment {
            flag("environment", environment.to_string());
        }
        for (name, number) in self.ceiling.numbers() {
            flag(name, number);
        }
        for rule in self.ceiling.allow_hosts() {
            flag("allow-host", rule.to_string());
        }
        for folder in self.ceiling.host_folders() {
            flag("host-folder", text(&std::path::absolute(current.join(folder)).unwrap_or_else(|_| folder.clone()))?);
        }
        words.extend(self.no_project_source.then(|| "--no-project-source".to_owned()));
        words.extend(self.ceiling.allows_apply().then(|| "--allow-apply".to_owned()));
        Ok(words)
    }
}

fn value_name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

pub(super) fn text(path: &Path) -> Result<String, HostError> {
    path.to_str().map(ToOwned::to_owned).ok_or_else(|| HostError::PathNotText { path: path.to_owned() })
}

/// A server as an entry describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) command: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// The one variable that is Pyro's to set and to take away in an entry: it says where all of Pyro's files are.
pub(super) const HOME_VARIABLE: &str = "PYRO_HOME";

impl Server {
    /// Makes the server that `binary` is with these options. A `PYRO_HOME` of now goes along, since hosts that are started from a menu do
    /// not have it, and Codex does not hand it down.
    pub(crate) fn new(binary: &Path, options: &ServeOptions, surroundings: &Surroundings) -> Result<Self, HostError> {
        Ok(Self {
            command: text(binary)?,
            arguments: options.arguments(&surroundings.current)?,
            environment: Self::environment(surroundings)?,
        })
    }

    /// Returns it with Pyro's own variables only, and the names of the others: what a project's file sets may make any program run.
    pub(super) fn with_own_variables(&self) -> (Self, Vec<String>) {
        let (own, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.environment.clone().into_iter().partition(|(name, _)| name.starts_with("PYRO_"));
        (Self { environment: own, ..self.clone() }, others.into_keys().collect())
    }

    pub(super) fn environment(surroundings: &Surroundings) -> Result<BTreeMap<String, String>, HostError> {
        let home = surroundings.variable(HOME_VARIABLE).filter(|home| !home.is_empty());
        let home = home.map(|home| text(&surroundings.current.join(home))).transpose()?;
        Ok(home.map(|home| (HOME_VARIABLE.to_owned(), home)).into_iter().collect())
    }

    /// Tells whether an entry that runs this is Pyro's, of whatever version and place.
    pub(super) fn is_ours(&self) -> bool {
        self.serves() || Path::new(&self.command).file_name().is_some_and(|name| name == "pyro")
    }

    /// Tells whether it is told to serve.
    pub(super) fn serves(&self) -> bool {
        self.arguments.windows(2).any(|words| words == ["mcp", "serve"])
    }

    /// Writes it as a person would type it.
    pub(crate) fn line(&self) -> String {
        without_credentials(&std::iter::once(&self.command).chain(&self.arguments).map(String::as_str).collect::<Vec<_>>().join(" "))
    }
}
