//! Why a command never ran, in the words of a shell.

use std::io;

use pyro_proto::v1::{ExecExit, SpawnFailure};
use pyro_sys::spawn::{Command, SpawnError, Step};

/// A command that never ran.
#[derive(Debug)]
pub(crate) struct Refused {
    failure: SpawnFailure,
    message: String,
}

impl Refused {
    pub(crate) fn new(failure: SpawnFailure, message: String) -> Self {
        Self { failure, message }
    }

    pub(crate) fn pipe(error: io::Error) -> Self {
        Self::new(SpawnFailure::Other, format!("cannot make a pipe: {error}"))
    }

    pub(crate) fn terminal(error: io::Error) -> Self {
        Self::new(SpawnFailure::Other, format!("cannot make a terminal: {error}"))
    }

    pub(crate) fn group(error: &dyn std::fmt::Display) -> Self {
        Self::new(SpawnFailure::Other, format!("cannot make a control group: {error}"))
    }

    pub(crate) fn spawn(error: &SpawnError, command: &Command<'_>, program: &str, user: &str) -> Self {
        let cause = &error.source;
        match error.step {
            Step::Clone => Self::new(SpawnFailure::Other, format!("cannot start a process for `{program}`: {cause}")),
            Step::Group => Self::new(SpawnFailure::Other, format!("cannot put `{program}` into its control group: {cause}")),
            Step::Terminal => Self::new(SpawnFailure::Other, format!("cannot give `{program}` its terminal: {cause}")),
            Step::Setup => Self::new(SpawnFailure::Other, format!("cannot set up the process for `{program}`: {cause}")),
            Step::Root => Self::new(SpawnFailure::Other, format!("cannot enter the root of `{program}`: {cause}")),
            Step::Identity => Self::new(SpawnFailure::User, format!("cannot become user `{user}`: {cause}")),
            Step::Directory => {
                let directory = command.directory.to_string_lossy();
                Self::new(SpawnFailure::WorkingDirectory, format!("cannot enter the working directory `{directory}`: {cause}"))
            }
            Step::Execute => match (cause.kind(), error.found) {
                (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, false) => {
                    Self::new(SpawnFailure::NotFound, format!("the guest has no program `{program}`"))
                }
                (io::ErrorKind::NotFound, true) => Self::new(SpawnFailure::NotFound, format!("the interpreter of `{program}` is missing")),
                _ => Self::new(SpawnFailure::NotExecutable, format!("cannot execute `{program}`: {cause}")),
            },
        }
    }

    pub(crate) fn into_exit(self) -> ExecExit {
        let exit_code = match self.failure {
            SpawnFailure::NotFound => 127,
            SpawnFailure::Unspecified
            | SpawnFailure::NotExecutable
            | SpawnFailure::WorkingDirectory
            | SpawnFailure::User
            | SpawnFailure::Other => 126,
        };
        ExecExit { exit_code, spawn_failure: self.failure.into(), spawn_message: self.message, ..ExecExit::default() }
    }
}
