//! A repainted terminal is the terminal that was painted.

use proptest::prelude::*;

use crate::SIZE;
use crate::cuts::terminal_like;
use pyro_terminal::Terminal;

fn repainted(terminal: &Terminal) -> Terminal {
    let mut other = Terminal::new(SIZE);
    // The other terminal has a past.
    other.feed(b"\x1b[?6h\x1b[2;3r\x1b[7mleft over\x1b[?1003h\x1b[?2004h\x1b[4h\x0e");
    other.feed(&terminal.repaint());
    other
}

#[test]
fn the_screen_and_its_modes_are_painted() {
    let mut terminal = Terminal::new(SIZE);
    terminal.feed(b"one\r\n\x1b[31;1mred\x1b[0m \x1b[44m  \x1b[0m\r\n$ \x1b[?1h\x1b[?2004h\x1b[?1002h\x1b[?1006h\x1b[?25l\x1b=");
    let painted = String::from_utf8(terminal.repaint()).unwrap();
    for part in [
        "\x1b[2J",
        "\x1b[1;1Hone",
        "\x1b[0;1;31mred",
        "\x1b[0;44m  ",
        "\x1b[3;3H",
        "\x1b[?1h",
        "\x1b[?2004h",
        "\x1b[?1002h",
        "\x1b[?1006h",
        "\x1b[?25l",
        "\x1b=",
        "\x1b[?1049l",
    ] {
        assert!(painted.contains(part), "{part:?} in {painted:?}");
    }
}

#[test]
fn a_full_screen_program_is_painted_on_the_alternate_screen() {
    let mut terminal = Terminal::new(SIZE);
    terminal.feed("main\x1b[?1049h\x1b[Htext \u{65e5}\u{672c}\x1b[2;4r".as_bytes());
    let (plain, _) = repainted(&terminal).read(100).finish();
    assert_eq!((plain.text.as_str(), plain.full_screen), ("text \u{65e5}\u{672c}", true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_repainted_terminal_paints_the_same(bytes in terminal_like()) {
        let mut terminal = Terminal::new(SIZE);
        terminal.feed(&bytes);
        prop_assert_eq!(
            String::from_utf8(terminal.repaint()).unwrap(),
            String::from_utf8(repainted(&terminal).repaint()).unwrap()
        );
    }
}
