//! Hostile streams: memory and text stay bounded, and they end in seconds.

use std::time::{Duration, Instant};

use crate::MANY;
use pyro_terminal::{Size, Terminal};

const SIZE: Size = Size { columns: 120, rows: 30 };
const MIB: usize = 1024 * 1024;
/// Of this process, with all tests of this file running beside each other.
const RESIDENT_MAX: usize = 300 * MIB;
/// Debug builds on a busy machine; an unbounded repeat would take hours.
const DEADLINE: Duration = Duration::from_secs(60);

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the status has the resident size");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("the size is a number of kB") * 1024
}

/// Feeds `bytes` before the mark and after it.
fn check(bytes: &[u8]) {
    let begun = Instant::now();
    let mut terminal = Terminal::new(SIZE);
    terminal.feed(bytes);
    let mut reading = terminal.read(MANY);
    reading.feed(bytes);
    let (plain, _) = reading.finish();
    assert!(plain.text.chars().count() <= MANY);
    assert!(resident_bytes() < RESIDENT_MAX, "{} MiB", resident_bytes() / MIB);
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
}

#[test]
fn newlines_are_bounded() {
    check(&vec![b'\n'; 2 * MIB]);
}

#[test]
fn scrolling_by_a_million_rows_is_bounded() {
    check(&b"x\x1b[999999S".repeat(10_000));
}

#[test]
fn repeating_a_character_a_million_times_is_bounded() {
    check(&b"x\x1b[1000000b".repeat(20_000));
    check("\u{301}\x1b[1000000b".repeat(5_000).as_bytes());
}

#[test]
fn commands_without_end_are_bounded() {
    let mut bytes = b"\x1b]8;;".to_vec();
    bytes.resize(8 * MIB, b'x');
    check(&bytes);
    check(&b"\x1b[22t\x1b]0;title\x07".repeat(50_000));
}

#[test]
fn combining_characters_without_end_are_bounded() {
    check(format!("e{}", "\u{301}".repeat(MIB)).as_bytes());
}

#[test]
fn a_synchronized_update_without_end_is_bounded() {
    let mut bytes = b"\x1b[?2026h".to_vec();
    bytes.resize(4 * MIB, b'x');
    check(&bytes);
}

#[test]
fn resizes_without_end_are_bounded() {
    let mut reading = Terminal::new(SIZE).read(MANY);
    for step in 0..200u16 {
        reading.feed(b"a line of text that is not so short as to fit a narrow screen\r\n");
        reading.resize(Size { columns: 2 + (step * 37) % 200, rows: 1 + (step * 13) % 60 });
    }
    assert!(reading.finish().0.text.chars().count() <= MANY);
    assert!(resident_bytes() < RESIDENT_MAX);
    let mut terminal = Terminal::new(Size { columns: u16::MAX, rows: u16::MAX });
    terminal.resize(Size { columns: 0, rows: 0 });
    terminal.feed(b"x");
}

/// Not a check: `cargo test --release -- --ignored speed --nocapture`.
#[test]
#[ignore = "prints how fast bytes are taken, for a person to compare"]
fn speed() {
    let log: Vec<u8> =
        (0..200_000).flat_map(|number| format!("\x1b[32m{number:>8}\x1b[0m a line of a build's log, not long\r\n").into_bytes()).collect();
    let bar: Vec<u8> = (0..200_000).flat_map(|number| format!("\r[##########          ] {number:>8} of 200000").into_bytes()).collect();
    for (name, bytes) in [("log", &log), ("progress bar", &bar)] {
        let mib = bytes.len() as f64 / MIB as f64;
        let begun = Instant::now();
        let mut terminal = Terminal::new(SIZE);
        terminal.feed(bytes);
        println!("{name}: before the mark {:.0} MiB/s", mib / begun.elapsed().as_secs_f64());
        for max_chars in [1024 * MIB, 3000] {
            let begun = Instant::now();
            let mut reading = Terminal::new(SIZE).read(max_chars);
            let taken = reading.feed(bytes) as f64 / MIB as f64;
            println!(
                "{name}: after the mark, at most {max_chars} characters: {:.0} MiB/s of {taken:.2} MiB",
                taken / begun.elapsed().as_secs_f64()
            );
        }
    }
}
