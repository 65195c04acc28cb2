//! A group of commands that is described to clap only when the command line asks for it.
//!
//! A process looks at one command, and describing all hundred of them took a quarter of the time that `pyro workspace list` needs.

use std::cell::Cell;

use clap::{ArgMatches, Command, Error, FromArgMatches, Subcommand};

thread_local! {
    /// Whether groups are described with their parents. Clap asks for them by functions that take nothing else.
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
}

/// Describes commands with all their groups, for whoever writes them down: completions, manual pages.
pub(super) fn at_once(describe: impl FnOnce() -> Command) -> Command {
    AT_ONCE.set(true);
    let command = describe();
    AT_ONCE.set(false);
    command
}

/// The commands of a group. Its own name and description are the parent's to say, since they are wanted before the rest.
#[derive(Debug)]
pub(crate) struct Later<T>(pub(crate) T);

impl<T: FromArgMatches> FromArgMatches for Later<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<T: Subcommand> Subcommand for Later<T> {
    fn augment_subcommands(command: Command) -> Command {
        if AT_ONCE.get() { T::augment_subcommands(command) } else { command.defer(T::augment_subcommands) }
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        if AT_ONCE.get() { T::augment_subcommands_for_update(command) } else { command.defer(T::augment_subcommands_for_update) }
    }

    fn has_subcommand(name: &str) -> bool {
        T::has_subcommand(name)
    }
}
