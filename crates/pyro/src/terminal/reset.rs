//! What puts a terminal back into the modes a command line expects. Nobody can ask a terminal for the modes it is in, so all that programs
//! are known to leave behind is put back, and each sequence is one that changes nothing where nothing was left.

use super::alternate::Shown;

/// Leaves the alternate screen; the cursor goes where it was before.
const LEAVE_ALTERNATE: &str = "\x1b[?1049l";

/// The other sequences, in order. See `ctlseqs` of xterm.
const MODES: &str = concat!(
    // Ends a string (a title, a clipboard) that was cut off; elsewhere it does nothing.
    "\x1b\\",
    // Scrolling region: setting it moves the cursor. Origin mode stays: turning it off would move the cursor where it was not on.
    "\x1b7\x1b[r\x1b8",
    // Mouse: X10, buttons, motion, all motion, focus, and the three ways to write positions.
    "\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l",
    // Bracketed paste, updates held back, application cursor keys and keypad, insert mode; line wrap is on.
    "\x1b[?2004l\x1b[?2026l\x1b[?1l\x1b>\x1b[4l\x1b[?7h",
    // Keys as of old: xterm's modifyOtherKeys, and the flags of the kitty protocol.
    "\x1b[>4m\x1b[=0u",
    // Character set, colours, and the cursor: visible, in its usual form.
    "\x0f\x1b(B\x1b[0m\x1b[?25h\x1b[0 q",
);

/// Returns what puts back a terminal that shows this screen.
pub(super) fn reset(shown: Shown) -> String {
    match shown {
        Shown::Main => MODES.to_owned(),
        // Last: where the cursor was is known to the terminal alone.
        Shown::Alternate => format!("{MODES}{LEAVE_ALTERNATE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_ends_with_plain_text_and_a_cursor_that_is_seen() {
        assert!(!reset(Shown::Main).contains(LEAVE_ALTERNATE) && reset(Shown::Alternate).ends_with(LEAVE_ALTERNATE));
        for sequence in ["\x1b[?25h", "\x1b[?2004l", "\x1b[?1000l", "\x1b[?1006l", "\x1b[?1l", "\x1b>", "\x1b[0m"] {
            assert!(MODES.contains(sequence), "{sequence:?}");
        }
    }
}
