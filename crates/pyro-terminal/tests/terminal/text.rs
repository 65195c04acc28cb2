//! The rules of a read, one by one.

use crate::{MANY, SIZE, check, read_at};
use pyro_terminal::{Size, Terminal};

#[test]
fn text_without_escapes_is_itself() {
    check("", "one\r\ntwo\r\n", "one\ntwo");
}

#[test]
fn carriage_returns_and_erases_are_applied() {
    check("", "10 %\r55 %\r100 %\r\n", "100 %");
    check("", "loading...\r\x1b[Kdone\r\n", "done");
    check("", "abc\x08\x08X\r\n", "aXc");
    check("", "abcdef\x1b[3D\x1b[P\x1b[2@-\r\n", "abc- ef");
}

#[test]
fn colours_titles_bells_and_queries_leave_nothing() {
    check("", "\x1b]0;title\x07\x1b[1;31mred\x1b[0m\x07\x1b[c\x1b[6n\x1b]11;?\x1b\\\x1b]52;c;aGk=\x07\x1bP+q544e\x1b\\ end", "red end");
}

#[test]
fn a_read_begins_with_the_whole_line_the_cursor_was_on() {
    check("old\r\n$ ", "echo hi\r\nhi\r\n$ ", "$ echo hi\nhi\n$");
    check("old\r\n12 %", "\r99 %", "99 %");
}

#[test]
fn a_read_begins_with_all_rows_of_a_line_that_was_wrapped_at_the_mark() {
    check("old\r\n$ a command longer than the row", " and more\r\n", "$ a command longer than the row and more");
}

#[test]
fn a_read_begins_with_the_topmost_line_the_cursor_visited() {
    check("old\r\none: 0\r\ntwo: 0\r\n", "\x1b[2Aone: 1\r\ntwo: 1\r\n\x1b[2Aone: 2\r\ntwo: 2\r\n", "one: 2\ntwo: 2");
}

#[test]
fn lines_that_scrolled_off_are_kept_in_order() {
    let lines: Vec<String> = (1..=50).map(|number| format!("line {number}")).collect();
    check("old\r\n", &lines.join("\r\n"), &lines.join("\n"));
}

#[test]
fn a_progress_display_that_scrolls_shows_its_lines_once() {
    let frame = |percent| format!("\x1b[2A\x1b[Kone {percent}\r\n\x1b[Ktwo {percent}\r\n");
    check("1\r\n2\r\n3\r\n4\r\n", &format!("build\r\n\r\n\r\n{}{}{}", frame(1), frame(2), frame(3)), "build\none 3\ntwo 3");
}

#[test]
fn a_line_longer_than_the_screen_is_one_line() {
    let long: String = ('a'..='z').cycle().take(130).collect();
    check("", &format!("{long}\r\nnext"), &format!("{long}\nnext"));
    let wide = "語".repeat(33);
    check("", &format!("x{wide}\r\nnext"), &format!("x{wide}\nnext"));
}

#[test]
fn a_clear_screen_erases_instead_of_scrolling() {
    check("", "one\r\ntwo\x1b[H\x1b[2J\x1b[3Jthree", "three");
    check("", "1\x1b[2J\x1b[Htick 1\x1b[2J\x1b[Htick 2", "tick 2");
    check("", "one\r\ntwo\x1b[1J", "");
}

#[test]
fn wide_combining_and_emoji_characters_hold() {
    check("", "日本 e\u{301} \u{1f680} ok\r\n", "日本 e\u{301} \u{1f680} ok");
    check("", "日本\x1b[3DX", " X\u{672c}");
}

#[test]
fn tabs_become_the_spaces_a_person_sees() {
    check("", "a\tb\r\n", "a       b");
    check("", "a\t\r\n", "a");
}

#[test]
fn bytes_that_are_no_characters_become_replacements() {
    let plain = read_at(SIZE, b"", b"a\xff\xe2\x82b\x85c\xf0\x90\x1b[mx");
    assert_eq!(plain.text, "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}x");
}

#[test]
fn a_full_screen_program_gives_its_screen() {
    let plain = read_at(SIZE, b"$ ", b"vim\r\n\x1b[?1049h\x1b[2J\x1b[1;1Hfirst\x1b[3;1Hthird  \x1b[5;1H");
    assert_eq!((plain.text.as_str(), plain.full_screen), ("first\n\nthird", true));
}

#[test]
fn rows_of_a_full_screen_program_stay_rows() {
    let plain = read_at(SIZE, b"", b"\x1b[?1049h\x1b[Haaaaaaaaaaaaaaaaaaaabbb");
    assert_eq!(plain.text, "aaaaaaaaaaaaaaaaaaaa\nbbb");
}

#[test]
fn a_full_screen_program_that_came_and_went_leaves_the_lines_around_it() {
    check("$ ", "vim\r\n\x1b[?1049h\x1b[Htext\x1b[?1049l$ ", "$ vim\n$");
    check("$ ", "old way\r\n\x1b[?47h\x1b[Htext\x1b[?47l\r$ ", "$ old way\n$");
}

#[test]
fn a_full_screen_program_left_after_the_mark_gives_the_main_screen_from_the_cursor() {
    check("old\r\n$ vim\r\n\x1b[?1049h\x1b[Htext", "\x1b[5;1H\x1b[?1049l$ ls\r\nfile", "$ ls\nfile");
}

#[test]
fn a_synchronized_update_is_shown_as_far_as_it_came() {
    check("", "a\x1b[?2026hb\x1b[?2026lc\x1b[?2026hd", "abcd");
}

#[test]
fn relative_movement_in_origin_mode_stays_where_it_is() {
    check("", "\x1b[2;4r\x1b[?6h\x1b[2;1Hrow\x1b[9Gx\x1b[Ay\x1b[9Az\x1b[?6l", "\n         yz\nrow     x");
}

#[test]
fn deleting_more_than_there_is_keeps_what_is_before_the_cursor() {
    check("", "0123456789abcdef\x1b[12G\x1b[19P", "0123456789a");
}

#[test]
fn erasing_above_the_second_row_erases_the_first() {
    check("", "one\r\ntwo three\x1b[4G\x1b[1J", "\n    three");
}

#[test]
fn a_full_read_stops_and_the_next_one_goes_on_without_loss() {
    let lines: Vec<String> = (1..=300).map(|number| format!("line {number}\r\n")).collect();
    let stream = lines.concat();
    for max_chars in [1, 7, 40, 100, 1000] {
        let mut terminal = Terminal::new(SIZE);
        let mut rest = stream.as_bytes();
        let mut seen = String::new();
        while !rest.is_empty() {
            let mut reading = terminal.read(max_chars);
            let taken = reading.feed(rest);
            assert!(taken > 0, "a read of {max_chars} characters takes something");
            rest = &rest[taken..];
            let plain;
            (plain, terminal) = reading.finish();
            assert!(plain.text.chars().count() <= max_chars);
            seen.push_str(&plain.text);
            seen.push('\n');
        }
        // Parts of a line may come again, but each line comes whole as soon as it fits.
        if max_chars >= 40 {
            for number in 1..=300 {
                assert!(seen.contains(&format!("line {number}\n")), "line {number} of {max_chars}");
            }
        }
    }
}

#[test]
fn a_line_longer_than_a_read_is_got_past() {
    let long = "0123456789".repeat(500);
    let mut terminal = Terminal::new(SIZE);
    let mut rest = long.as_bytes();
    let mut reads = 0;
    while !rest.is_empty() {
        let mut reading = terminal.read(50);
        let taken = reading.feed(rest);
        rest = &rest[taken..];
        terminal = reading.finish().1;
        reads += 1;
    }
    assert!(reads <= 500, "{reads} reads");
}

#[test]
fn a_screen_larger_than_a_read_keeps_its_end_from_a_line_start() {
    let mut terminal = Terminal::new(SIZE);
    terminal.feed(b"\x1b[?1049h\x1b[Hone\r\ntwo\r\nthree\r\nfour");
    let (plain, _) = terminal.read(12).finish();
    assert_eq!((plain.text.as_str(), plain.truncated), ("three\nfour", true));
}

#[test]
fn a_resize_puts_the_beginning_at_the_top_of_the_screen() {
    let mut terminal = Terminal::new(SIZE);
    terminal.feed(b"old\r\n$ ");
    let mut reading = terminal.read(MANY);
    reading.feed(b"ls\r\n1\r\n2\r\n3\r\n4\r\n5\r\n");
    reading.resize(Size { columns: 10, rows: 3 });
    reading.feed(b"a line of twenty one.\r\n$ ");
    assert_eq!(reading.finish().0.text, "$ ls\n1\n2\n3\n4\n5\na line of twenty one.\n$");
}

#[test]
fn a_terminal_reads_on_where_a_read_ended() {
    let (first, terminal) = {
        let mut reading = Terminal::new(SIZE).read(MANY);
        reading.feed("one\r\ntwo \u{65e5}".as_bytes());
        reading.feed(&"\u{672c}".as_bytes()[..1]);
        reading.finish()
    };
    assert_eq!(first.text, "one\ntwo \u{65e5}");
    let mut reading = terminal.read(MANY);
    reading.feed(&"\u{672c}!".as_bytes()[1..]);
    assert_eq!(reading.finish().0.text, "two \u{65e5}\u{672c}!");
}
