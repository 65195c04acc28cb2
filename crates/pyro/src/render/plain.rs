//! Text of a guest, made safe for a terminal.
//!
//! Only what people read goes through here: JSON and what is piped into a program keep every byte. Some characters drive a terminal without
//! being control characters: those that set the direction of writing show one name as another.

use std::borrow::Cow;

/// What is shown for a character that is not.
const REPLACEMENT: char = '\u{fffd}';

/// Tells whether a character changes how a terminal shows others.
pub(crate) fn acts(character: char) -> bool {
    let directs = matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || directs || matches!(character, '\u{2028}' | '\u{2029}')
}

fn replace(text: &str, kept: &[char]) -> String {
    text.chars().map(|character| if acts(character) && !kept.contains(&character) { REPLACEMENT } else { character }).collect()
}

/// Makes a line safe: no escapes, no line breaks, no turns of direction.
pub(crate) fn plain(text: &str) -> String {
    replace(text, &['\t'])
}

/// Makes text of several lines safe.
pub(crate) fn plain_lines(text: &str) -> String {
    replace(text, &['\t', '\n'])
}

/// Returns a patch as it is printed: byte for byte into a file or a program, safe on a terminal.
pub(super) fn patch(bytes: &[u8], terminal: bool) -> Cow<'_, [u8]> {
    if terminal { Cow::Owned(plain_lines(&String::from_utf8_lossy(bytes)).into_bytes()) } else { Cow::Borrowed(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_guest_cannot_drive_a_terminal() {
        assert_eq!(plain("a\x1b[31m\n\tb\r\u{9b}"), "a\u{fffd}[31m\u{fffd}\tb\u{fffd}\u{fffd}");
        assert_eq!(plain_lines("a\n\tb\x07"), "a\n\tb\u{fffd}");
        for directing in
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{2028}\u{2029}".chars()
        {
            assert_eq!(plain(&format!("x{directing}y")), "x\u{fffd}y", "{directing:?}");
        }
        assert_eq!(plain("caf\u{e9} \u{5d0} \u{1f980}"), "caf\u{e9} \u{5d0} \u{1f980}");
    }

    #[test]
    fn patch_is_safe_on_a_terminal_and_exact_everywhere_else() {
        let bytes = b"+a\x1b]0;x\x07\r\n+\tcaf\xe9 \xe2\x80\xae\n";
        assert_eq!(&*patch(bytes, false), bytes);
        let shown = "+a\u{fffd}]0;x\u{fffd}\u{fffd}\n+\tcaf\u{fffd} \u{fffd}\n";
        assert_eq!(&*patch(bytes, true), shown.as_bytes());
    }
}
