//! Recordings of real programs (`fixtures/record` made them) and what a read of each says.

use std::path::{Path, PathBuf};

use crate::{MANY, read_at};
use pyro_terminal::{Size, Terminal};

/// What the recordings were made with.
pub(crate) const SIZE: Size = Size { columns: 80, rows: 24 };

pub(crate) const NAMES: [&str; 11] =
    ["bash", "git-log", "less-closed", "less-open", "progress", "python", "top", "top-live", "vim-closed", "vim-open", "wide"];

pub(crate) fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)
}

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(&format!("{name}.bytes"))).expect("a recording of that name")
}

#[test]
fn recordings_read_as_a_person_saw_them() {
    for name in NAMES {
        let plain = read_at(SIZE, b"", &bytes(name));
        let expected = std::fs::read_to_string(path(&format!("{name}.txt"))).unwrap_or_default();
        assert_eq!(plain.text, expected.trim_end_matches('\n'), "{name}");
        assert_eq!(plain.full_screen, name.ends_with("-open") || name == "git-log", "{name}");
    }
}

#[test]
fn recordings_read_the_same_from_every_cursor_in_one_or_two_pieces() {
    for name in NAMES {
        let bytes = bytes(name);
        for cut in (0..bytes.len()).step_by(37) {
            let mut terminal = Terminal::new(SIZE);
            terminal.feed(&bytes[..cut]);
            let mut reading = terminal.read(MANY);
            for byte in &bytes[cut..] {
                reading.feed(std::slice::from_ref(byte));
            }
            assert_eq!(reading.finish().0, read_at(SIZE, &bytes[..cut], &bytes[cut..]), "{name} at {cut}");
        }
    }
}
