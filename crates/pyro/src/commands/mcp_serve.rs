//! `pyro mcp serve`.

use std::{
    io::IsTerminal as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use pyro_sdk::{EnvironmentName, ErrorKind};

use super::mcp_tools::Selection;
use crate::{
    cli::{Context, Failure, Outcome},
    mcp::{CeilingArguments, HttpOptions, ProjectSource, Server, ServerOptions, serve_http, serve_stdio},
};

/// Serve workspaces to an MCP client, on standard input and output or over HTTP
///
/// Without a profile everything is offered; for chat hosts `workspace-core` is the one to choose, and what `pyro host connect` writes.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  pyro mcp serve --profile workspace-core\n  pyro mcp serve --mode repro-fix --project-path . \
                             --max-workspaces 4\n  pyro mcp serve --http 127.0.0.1:8765 --http-token-file token")]
pub(crate) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    source: SourceArguments,
    /// The environment of every workspace; the model's choice without it
    #[arg(long, value_name = "ENV")]
    environment: Option<EnvironmentName>,
    #[command(flatten)]
    ceiling: CeilingArguments,
    /// Listen here for streamable HTTP instead; port 0 lets the system choose. The path is /mcp
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// File with the token that clients give as `Authorization: Bearer`, 16 to 4096 characters. Without it `PYRO_MCP_TOKEN`, else one is made
    /// and its file told
    #[arg(long, value_name = "FILE", requires = "http")]
    http_token_file: Option<PathBuf>,
    /// Origin whose pages may call, for example `http://localhost:6274`; no page may without it
    #[arg(long = "http-allow-origin", value_name = "ORIGIN", requires = "http")]
    http_allow_origins: Vec<String>,
}

/// What new workspaces begin with when a model names nothing.
#[derive(Debug, Args)]
struct SourceArguments {
    /// Folder or archive that new workspaces begin with. Without any of these three: the Git checkout around the current folder
    #[arg(long, value_name = "PATH", group = "project_source")]
    project_path: Option<PathBuf>,
    /// Repository that is cloned for this server, for new workspaces to begin with
    #[arg(long, value_name = "URL", group = "project_source")]
    repo_url: Option<String>,
    /// Branch, tag or commit of it
    #[arg(long, value_name = "REF", requires = "repo_url")]
    repo_ref: Option<String>,
    /// New workspaces begin empty
    #[arg(long, group = "project_source")]
    no_project_source: bool,
}

impl SourceArguments {
    fn resolve(self) -> Result<ProjectSource, Failure> {
        if self.no_project_source {
            return Ok(ProjectSource::None);
        }
        if let Some(url) = self.repo_url {
            return Ok(ProjectSource::Repository { url, reference: self.repo_ref });
        }
        match self.project_path {
            Some(path) => Ok(ProjectSource::Path(existing(&path)?)),
            None => {
                let here = std::env::current_dir().map_err(|error| Failure::Bug(format!("cannot tell the current folder: {error}")))?;
                Ok(ProjectSource::checkout_around(&here))
            }
        }
    }
}

/// Resolves a path of the operator's. A server that was started with a wrong one would fail every model later on.
fn existing(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| {
        Failure::Pyro(pyro_sdk::Error::from(pyro_sdk::Failure {
            kind: ErrorKind::NotFound.into(),
            message: format!("`{}` cannot be used", path.display()),
            causes: vec![error.to_string()],
        }))
    })
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Outcome {
    let surface = arguments.selection.surface();
    let ceiling = arguments.ceiling.resolve(existing)?;
    let options = ServerOptions { environment: arguments.environment, source: arguments.source.resolve()?, ceiling };
    let server = Server::new(surface, options, context.clone());
    match arguments.http {
        Some(address) => {
            let token_file = arguments.http_token_file;
            serve_http(server, HttpOptions { address, token_file, allowed_origins: arguments.http_allow_origins }, context).await?;
        }
        None => {
            if std::io::stdin().is_terminal() {
                context.printer.notice("this waits for a client's messages; `pyro host connect HOST` has a host start it");
            }
            serve_stdio(server).await?;
        }
    }
    Ok(0)
}
