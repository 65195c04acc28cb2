//! `make bench`: measures Pyro beside its peers and prints what it finds. It asserts nothing: a missed target is a line of the table.

mod arguments;
mod bare;
mod bed;
mod command;
mod home;
mod keeper;
mod peers;
mod process;
mod report;
mod sample;
mod sections;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let result = match keeper::stage() {
        keeper::Stage::Keeper => {
            // Wrong usage is told before an environment is built.
            drop(arguments::Arguments::parse());
            keeper::keep()
        }
        keeper::Stage::Init(run) => keeper::init(&run),
        keeper::Stage::Worker(run) => sections::run(&arguments::Arguments::parse_from(keeper::worker_arguments()), &run),
    };
    report::exit(result)
}
