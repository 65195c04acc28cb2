//! PID 1 of a guest. Everything is in the library beside it.

fn main() {
    pyro_guest::run_as_init();
}
