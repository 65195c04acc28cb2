//! Where a stream is cut never changes the answer.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::SIZE;
use pyro_terminal::{Plain, Reading, Size, Terminal};

/// Bytes like those of programs: text, controls, sequences that are whole, cut or odd.
pub(crate) fn terminal_like() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![4 => 0u32..30, 1 => Just(65_535u32), 1 => Just(1_000_000u32)];
    let sequence = (vec(number, 0..3), prop::sample::select(b"@ABCDEFGHIJKLMPSTXZbdfghlmnrsu`".to_vec()), any::<bool>()).prop_map(
        |(numbers, last, private)| {
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            format!("\x1b[{}{}{}", if private { "?" } else { "" }, numbers.join(";"), char::from(last)).into_bytes()
        },
    );
    let mode = (prop::sample::select(vec!["1049", "47", "1047", "1048", "6", "7", "25", "3", "2026", "1", "2004", "1000"]), any::<bool>())
        .prop_map(|(number, on)| format!("\x1b[?{number}{}", if on { 'h' } else { 'l' }).into_bytes());
    let words = prop::sample::select(vec![
        "a",
        "word ",
        "a longer piece of text than a row has",
        "日本語",
        "e\u{301}",
        "\u{301}",
        "\u{1f680}",
        "\u{1f468}\u{200d}\u{1f469}",
        "\u{ad}",
        "\u{85}",
        "\u{9b}",
        "\r",
        "\n",
        "\r\n",
        "\n\n\n",
        "\x08",
        "\t",
        "\x0b",
        "\x0e",
        "\x0f",
        "\x7f",
        "\x18",
        "\x1a",
        "\x07",
        "\x1b7",
        "\x1b8",
        "\x1bM",
        "\x1bD",
        "\x1bE",
        "\x1bH",
        "\x1bc",
        "\x1b#8",
        "\x1b(0",
        "\x1b(B",
        "\x1b=",
        "\x1b>",
        "\x1b[4h",
        "\x1b[20h",
        "\x1b[!p",
        "\x1b]0;title\x07",
        "\x1b]8;;http://x\x1b\\",
        "\x1b]52;c;aGk=\x07",
        "\x1b]open",
        "\x1bP1$q\x1b\\",
        "\x1b_apc\x1b\\",
        "\x1b[",
        "\x1b[?",
        "\x1b[3",
        "\x1b",
        "\x1b[c",
        "\x1b[6n",
        "\x1b]11;?\x07",
        "\x1b[38;2;1;2;3m",
        "\x1b[41;1;4m",
    ])
    .prop_map(|word| word.as_bytes().to_vec());
    let broken = prop::sample::select(vec![&b"\xff"[..], b"\xe2\x82", b"\xf0\x9f", b"\xc2", b"\x80", b"\x9b", b"\xed\xa0\x80"])
        .prop_map(<[u8]>::to_vec);
    vec(prop_oneof![8 => words, 4 => sequence, 2 => mode, 1 => broken], 0..80).prop_map(|parts| parts.concat())
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => terminal_like(), 1 => vec(any::<u8>(), 0..400)]
}

fn cut(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).collect()
}

/// Feeds the pieces to a read, as a caller does: what is not taken ends it.
fn feed(reading: &mut Reading, pieces: &[Vec<u8>]) -> usize {
    let mut taken = 0;
    for piece in pieces {
        let count = reading.feed(piece);
        taken += count;
        if count < piece.len() {
            break;
        }
    }
    taken
}

fn read(history: &[Vec<u8>], pieces: &[Vec<u8>], max_chars: usize) -> (Plain, usize, Vec<u8>) {
    let mut terminal = Terminal::new(SIZE);
    for piece in history {
        terminal.feed(piece);
    }
    let mut reading = terminal.read(max_chars);
    let taken = feed(&mut reading, pieces);
    let (plain, terminal) = reading.finish();
    (plain, taken, terminal.repaint())
}

fn assert_is_plain(plain: &Plain, max_chars: usize) {
    assert!(plain.text.chars().all(|character| character == '\n' || !character.is_control()), "{:?}", plain.text);
    assert!(plain.text.chars().count() <= max_chars);
    assert!(!plain.text.ends_with('\n') && plain.text.lines().all(|line| !line.ends_with(' ')), "{:?}", plain.text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn cuts_change_nothing(
        history in stream(),
        bytes in stream(),
        history_cuts in vec(any::<prop::sample::Index>(), 0..20),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
        max_chars in prop_oneof![1usize..60, Just(400usize), Just(65_536usize)],
    ) {
        let whole = read(std::slice::from_ref(&history), std::slice::from_ref(&bytes), max_chars);
        assert_is_plain(&whole.0, max_chars);
        let pieces = read(&cut(&history, &history_cuts), &cut(&bytes, &cuts), max_chars);
        prop_assert_eq!(&whole, &pieces);
        let single: Vec<Vec<u8>> = bytes.iter().map(|&byte| vec![byte]).collect();
        prop_assert_eq!(&whole, &read(&[history], &single, max_chars));
    }

    #[test]
    fn a_terminal_that_read_is_the_terminal_that_was_fed(history in stream(), bytes in stream(), after in stream()) {
        let mut fed = Terminal::new(SIZE);
        fed.feed(&history);
        let mut reading = fed.read(usize::MAX);
        prop_assert_eq!(reading.feed(&bytes), bytes.len());
        let (_, read) = reading.finish();
        let mut fed = Terminal::new(SIZE);
        fed.feed(&history);
        fed.feed(&bytes);
        let mut texts = Vec::new();
        for terminal in [read, fed] {
            let mut reading = terminal.read(usize::MAX);
            reading.feed(&after);
            let (plain, terminal) = reading.finish();
            texts.push((plain, terminal.repaint()));
        }
        prop_assert_eq!(&texts[0], &texts[1]);
    }

    #[test]
    fn resizes_never_panic_and_keep_text_plain(
        history in stream(),
        parts in vec((stream(), 0u16..40, 0u16..12), 0..6),
        max_chars in 1usize..300,
    ) {
        let mut terminal = Terminal::new(SIZE);
        terminal.feed(&history);
        for (bytes, columns, rows) in &parts {
            terminal.resize(Size { columns: *columns, rows: *rows });
            terminal.feed(bytes);
        }
        let mut reading = terminal.read(max_chars);
        for (bytes, columns, rows) in parts.iter().rev() {
            reading.feed(bytes);
            reading.resize(Size { columns: *columns, rows: *rows });
        }
        assert_is_plain(&reading.finish().0, max_chars);
    }
}
