//! What becomes of a command line that cannot be parsed.
//!
//! Help, version and wrong usage are clap's, with exit code 2 for the last. A value that is not accepted is Pyro's own error, with a kind,
//! because every other surface reports it so.

use std::{error::Error as _, ffi::OsString, process::ExitCode};

use clap::error::ErrorKind;
use pyro_sdk::{Error, limits::LimitError};

use super::{Failure, FailureStyle, finish};
use crate::{commands, render::Printer};

/// Exit code for wrong usage.
const USAGE: u8 = 2;

pub(super) fn report(arguments: &[OsString], error: &clap::Error) -> ExitCode {
    let words: Vec<_> = arguments.iter().skip(1).map_while(|word| word.to_str().filter(|word| *word != "--")).collect();
    let printer = Printer::new(words.contains(&"--json"));
    if let Some(error) = value_error(error) {
        return finish(&printer, style(&words), Err(Failure::Pyro(error)));
    }
    let text = error.render();
    if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        printer.usage(&text);
        if let (ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument, FailureStyle::Exec(_), false) =
            (error.kind(), style(&words), arguments.iter().any(|word| word == "--"))
        {
            printer.tip("put `--` before the command to run, for example `-- ls -l`");
        }
        return ExitCode::from(USAGE);
    }
    match printer.help(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => finish(&printer, FailureStyle::ByKind, Err(Failure::Output(error))),
    }
}

fn style(words: &[&str]) -> FailureStyle {
    match words {
        ["run", ..] => FailureStyle::Exec(commands::run::STATUS_NAME),
        ["workspace", "exec", ..] => FailureStyle::Exec(commands::exec::STATUS_NAME),
        _ => FailureStyle::ByKind,
    }
}

/// Returns Pyro's error behind a value clap's parsers refused.
fn value_error(error: &clap::Error) -> Option<Error> {
    let source = error.source()?;
    if let Some(error) = source.downcast_ref::<LimitError>() {
        return Some(error.clone().into());
    }
    if let Some(error) = source.downcast_ref::<pyro_sdk::text::TextError>() {
        return Some(error.clone().into());
    }
    if let Some(error) = source.downcast_ref::<pyro_sdk::text::WorkspacePathError>() {
        return Some(error.clone().into());
    }
    if let Some(error) = source.downcast_ref::<pyro_sdk::text::UrlError>() {
        return Some(error.clone().into());
    }
    source.downcast_ref::<pyro_sdk::UnknownEnvironment>().map(|error| error.clone().into())
}
