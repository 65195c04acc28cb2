//! A person's terminal, taken over for a while and given back whatever happens.
//!
//! Two things must be put back: the line discipline (termios), which the kernel keeps for the terminal and not for the process, and the modes
//! of the terminal itself (alternate screen, mouse, …), which nobody can read back. Whoever takes a terminal over may be killed or abort, so
//! a small process of its own, the guard, waits for that and puts both back.
//!
//! ```text
//! cooked ── guard started and ready ── raw ── word to the guard ── cooked
//!                                       └─ killed: the guard puts it back
//! ```

mod alternate;
mod attach;
mod detach;
mod guard;
mod input;
mod raw;
mod reset;

pub(crate) use self::{
    attach::{Attached, End, attach},
    guard::run as run_guard,
    input::TerminalInput,
    raw::{Asked, Flow, RawTerminal, Signals, is_interactive, size},
};
use crate::cli::Failure;

/// Makes a failure of the terminal's.
pub(crate) fn failure(error: std::io::Error) -> Failure {
    let failure = pyro_sdk::Failure {
        kind: pyro_sdk::ErrorKind::Io.into(),
        message: "cannot use the terminal".to_owned(),
        causes: vec![error.to_string()],
    };
    Failure::Pyro(failure.into())
}
