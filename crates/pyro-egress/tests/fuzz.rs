//! The fuzz targets of `fuzz/` that face the network of a guest, on stable and for a bounded time.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a helper that fails fails its test, and says on what")]

#[expect(unreachable_pub, reason = "to libFuzzer it is the interface of a library")]
#[path = "../../../fuzz/src/targets.rs"]
mod targets;

#[expect(unreachable_pub, reason = "each test that is compiled with it uses it")]
#[path = "../../../fuzz/src/play.rs"]
mod play;

fn check(name: &str, target: fn(&[u8])) {
    play::check(name, &[0, 1, 0x7f, 0x80, 0xc0, 0xff, b'.', b':'], target);
}

#[test]
fn any_stream_is_cut_into_its_frames() {
    check("deframer", targets::deframer);
}

#[test]
fn no_frames_harm_a_stack_or_make_it_grow() {
    check("ingress", targets::ingress);
}

#[test]
fn any_first_bytes_are_judged_once_and_for_all() {
    check("opening", targets::opening);
}

#[test]
fn any_question_is_read_or_refused() {
    check("question", targets::question);
}

#[test]
fn no_reply_of_a_resolver_gets_a_refused_address_to_the_guest() {
    check("answer", targets::answer);
}

#[test]
fn a_rule_that_is_read_is_written_the_same() {
    check("rule", targets::rule);
}
