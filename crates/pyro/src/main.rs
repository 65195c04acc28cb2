//! Pyro's one binary: the command line, and by two hidden words the supervisor of each machine.

mod cli;
mod commands;
mod hosts;
mod mcp;
mod render;
mod supervise;
mod terminal;
mod top;

fn main() -> std::process::ExitCode {
    cli::main(std::env::args_os().collect())
}
