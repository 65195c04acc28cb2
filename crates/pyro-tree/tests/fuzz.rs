//! The fuzz target of patches in `fuzz/`, on stable and for a bounded time.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a helper that fails fails its test, and says on what")]

#[expect(unreachable_pub, reason = "to libFuzzer it is the interface of a library")]
#[path = "../../../fuzz/src/patch.rs"]
mod patch;

#[expect(unreachable_pub, reason = "each test that is compiled with it uses it")]
#[path = "../../../fuzz/src/play.rs"]
mod play;

#[test]
fn any_patch_is_read_and_applied_or_refused() {
    play::check("patch", b"\n\r\t +-@\\/\"0123,", patch::patch);
}
