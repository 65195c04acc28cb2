//! Looks at a connection as its host would, step by step, and says for each step what mends it.

use std::path::{Path, PathBuf};

use pyro_sdk::contract::{Check, CheckStatus};

use super::{Connection, HostError, Scope, Server, Surroundings, program, shape::Shape, verify};

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// There is no entry, which is nobody's fault.
    NotConnected,
    /// The host can start the server.
    Ready,
    /// It is there and does not work.
    Broken,
}

impl State {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::Ready => "ready",
            Self::Broken => "broken",
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) connection: Connection,
    pub(crate) path: Option<PathBuf>,
    pub(crate) state: State,
    pub(crate) checks: Vec<Check>,
    /// How many tools the server offered.
    pub(crate) tool_count: Option<usize>,
}

impl Report {
    fn add(&mut self, name: &str, status: CheckStatus, detail: impl Into<String>, fix: Option<String>) {
        if status == CheckStatus::Fail {
            self.state = State::Broken;
        }
        self.checks.push(Check { name: name.to_owned(), status, detail: detail.into(), fix });
    }
}

/// Looks at a connection. `refused` says why this version's command line does not take the words of an entry.
pub(crate) fn diagnose(
    connection: &Connection,
    binary: &Path,
    surroundings: &Surroundings,
    refused: &dyn Fn(&[String]) -> Option<String>,
) -> Report {
    let host = connection.host;
    let mut report =
        Report { connection: connection.clone(), path: None, state: State::NotConnected, checks: Vec::new(), tool_count: None };
    check_program(&mut report, surroundings);
    let server = match read_entry(&mut report, surroundings) {
        Ok(Some(server)) => server,
        Ok(None) => return report,
        Err(error) => {
            report.add("file", CheckStatus::Fail, full_text(&error), Some(error.hint()));
            return report;
        }
    };
    report.state = State::Ready;
    if check_command(&mut report, &server, binary) {
        match refused(&server.arguments) {
            Some(reason) => {
                let fix = format!("{} with the options you want", command("connect", connection));
                report.add("arguments", CheckStatus::Fail, reason, Some(fix));
            }
            None => report.add("arguments", CheckStatus::Ok, server.arguments.join(" "), None),
        }
    }
    let (server, strangers) = server.with_own_variables();
    if !strangers.is_empty() {
        let detail = format!("the entry sets {}, without which the server is tried here", strangers.join(", "));
        report.add("variables", CheckStatus::Warn, detail, None);
    }
    if report.state == State::Ready {
        match verify::verify(&server) {
            Ok(answered) => {
                let count = answered.tools.len();
                let detail = format!("{} answered with {count} tools in {} ms", answered.server, answered.duration.as_millis());
                report.add("server", CheckStatus::Ok, detail, None);
                report.tool_count = Some(count);
            }
            Err(source) => {
                let error = HostError::ServerFailed { host, source };
                report.add("server", CheckStatus::Fail, full_text(&error), Some("pyro doctor".to_owned()));
            }
        }
    }
    report
}

fn check_program(report: &mut Report, surroundings: &Surroundings) {
    let host = report.connection.host;
    match program::find(host.programs(), surroundings) {
        Some(path) => {
            let version = program::version(&path).unwrap_or_else(|| "it does not tell its version".to_owned());
            report.add("program", CheckStatus::Ok, format!("{}: {version}", path.display()), None);
        }
        None => {
            let names: Vec<_> = host.programs().iter().map(|name| format!("`{name}`")).collect();
            report.add("program", CheckStatus::Warn, format!("{} is not on `PATH`: {}", host.title(), names.join(", ")), None);
        }
    }
}

/// Returns what the entry runs. Nothing means that there is no entry, or none that can be used, and that this is told.
fn read_entry(report: &mut Report, surroundings: &Surroundings) -> Result<Option<Server>, HostError> {
    let connection = report.connection.clone();
    let opened = connection.open(surroundings)?;
    let path = opened.file.path().to_owned();
    let shown = path.display().to_string();
    report.path = Some(path);
    if opened.file.exists() {
        report.add("file", CheckStatus::Ok, shown.clone(), None);
    } else {
        report.add("file", CheckStatus::Warn, format!("`{shown}` is not there"), None);
    }
    let Some(entry) = opened.entry(&connection)? else {
        let fix = command("connect", &connection);
        report.add("entry", CheckStatus::Warn, format!("there is no entry `{}`", connection.name), Some(fix));
        return Ok(None);
    };
    let Some(server) = Shape::read(&entry).filter(Server::is_ours) else {
        let fix = format!("remove it by hand, or choose another name: {} --name NAME", command("connect", &connection));
        report.add("entry", CheckStatus::Fail, format!("the entry `{}` does not run Pyro", connection.name), Some(fix));
        return Ok(None);
    };
    let repair = || Some(command("repair", &connection));
    if Shape::is_off(&entry) {
        report.add("entry", CheckStatus::Warn, format!("the entry `{}` is switched off", connection.name), repair());
    } else if opened.shape.misses(&entry, &server) {
        let detail = format!("the entry `{}` has not the form that {} reads", connection.name, connection.host.title());
        report.add("entry", CheckStatus::Fail, detail, repair());
        return Ok(None);
    } else {
        report.add("entry", CheckStatus::Ok, server.line(), None);
    }
    Ok(Some(server))
}

/// Tells whether the entry's command is this very program.
fn check_command(report: &mut Report, server: &Server, binary: &Path) -> bool {
    let connection = report.connection.clone();
    let path = Path::new(&server.command);
    let repair = Some(command("repair", &connection));
    if path.is_relative() {
        report.add("command", CheckStatus::Warn, format!("`{}` is searched for by the host, on its own `PATH`", server.command), repair);
        return false;
    }
    if !program::is_executable(path) {
        let what = if path.exists() { "cannot be started" } else { "is not there any more" };
        report.add("command", CheckStatus::Fail, format!("`{}` {what}", server.command), repair);
        return false;
    }
    if !program::is_same(&server.command, &binary.to_string_lossy()) {
        // It is not asked for its version: whoever wrote a project's file may have put a program of their own there.
        let detail = format!("`{}` is another `pyro` than this one, `{}`", server.command, binary.display());
        report.add("command", CheckStatus::Warn, detail, repair);
        return false;
    }
    report.add("command", CheckStatus::Ok, format!("`{}`, this program", server.command), None);
    true
}

fn full_text(error: &HostError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

/// Writes which connection it is: the host, and what is not as usual.
pub(crate) fn shown_name(connection: &Connection) -> String {
    let mut text = connection.host.title().to_owned();
    if connection.scope == Scope::Project {
        text.push_str(", this folder");
    }
    if connection.name != super::DEFAULT_NAME {
        text.push_str(&format!(", `{}`", connection.name));
    }
    text
}

/// Writes the command that does something about this connection.
fn command(verb: &str, connection: &Connection) -> String {
    let mut text = format!("pyro host {verb} {}", connection.host.name());
    if connection.scope == Scope::Project {
        text.push_str(" --scope project");
    }
    if connection.name != super::DEFAULT_NAME {
        text.push_str(&format!(" --name {}", connection.name));
    }
    text
}
