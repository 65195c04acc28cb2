//! Plays a target on stable and for a bounded time: the seeds, inputs that were wrong once, and mutations of both.
//!
//! Compiled into the tests of the crates whose parsers are fuzzed. The mutations come from fixed seeds, so a failure comes again; only how
//! many there are depends on the machine.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// What one target may take of a test run. `cargo fuzz` is for those who have longer.
const TIME: Duration = Duration::from_secs(2);
/// On a machine with no time to spare some are looked at all the same.
const ROUNDS_MIN: usize = 200;
const INPUT_BYTES_MAX: usize = 4096;

fn inputs(folder: &str, target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(folder).join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Changes an input in a few places; `telling` are bytes that the parser looks for.
fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], telling: &[u8], random: &mut TestRng) {
    for _ in 0..=random.next_u32() % 6 {
        let mut below = |end: usize| random.next_u32() as usize % end.max(1);
        let (at, kind, length) = (below(input.len()), below(8), below(16));
        let (byte, telling) = (below(256) as u8, telling[below(telling.len())]);
        let other = &others[below(others.len())];
        let (from, end) = (below(other.len()), (at + length).min(input.len()));
        match kind {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => input.insert(at.min(input.len()), byte),
            3 => drop(input.splice(at..at, other[from..].iter().copied().take(length * 16))),
            4 => drop(input.splice(at..end, input[at..end].repeat(2))),
            _ if input.is_empty() => input.push(byte),
            5 => input[at] ^= 1 << (byte % 8),
            6 => input[at] = telling,
            _ => input[at] = byte,
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// Plays a target; panics with the input that makes it panic.
pub fn check(name: &str, telling: &[u8], target: fn(&[u8])) {
    let try_one = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
            println!("fuzz target {name} failed on {}", input.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
            resume_unwind(panic);
        }
    };
    let seeds = [inputs("corpus", name), inputs("regressions", name)].concat();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    try_one(&[]);
    seeds.iter().for_each(|seed| try_one(seed));
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let (start, mut round) = (Instant::now(), 0);
    while round < ROUNDS_MIN || start.elapsed() < TIME {
        let mut input = seeds[round % seeds.len()].clone();
        mutate(&mut input, &seeds, telling, &mut random);
        try_one(&input);
        round += 1;
    }
    println!("fuzz target {name}: {} seeds, {round} mutations", seeds.len());
}
