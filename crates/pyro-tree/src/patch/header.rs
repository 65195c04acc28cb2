//! Names, modes and times in the headers of a patch.
//!
//! Git quotes a name as C does when it holds a quote, a backslash, a control character or (by default) a byte above 127. What a name means
//! is for `names` to say.

use super::{FileMode, SyntaxProblem};
use crate::path::{PATH_MAX_BYTES, printable};

/// The name that stands for no file.
const NOTHING: &[u8] = b"/dev/null";
/// Longest text that can hold two names: each byte of them may be written as four.
const PAIR_MAX_BYTES: usize = 2 * 4 * PATH_MAX_BYTES + 16;

/// A name after `---` or `+++`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// `None` when it, or the time after it, says that there is no file.
    pub(super) name: Option<Vec<u8>>,
    /// What is written, all the same.
    pub(super) raw: Vec<u8>,
}

impl Named {
    /// Makes a name of a file that is there.
    pub(super) fn there(name: &[u8]) -> Self {
        Self { name: Some(name.to_vec()), raw: name.to_vec() }
    }
}

/// Reads a name in quotes at the start of `text`; returns it and what follows.
pub(super) fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut name = Vec::new();
    loop {
        let (first, after) = rest.split_first()?;
        rest = after;
        match first {
            b'"' => return Some((name, rest)),
            b'\\' => {
                let (escape, after) = rest.split_first()?;
                rest = after;
                name.push(match escape {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    b'"' | b'\\' => *escape,
                    b'0'..=b'3' => {
                        let (digits, after) = rest.split_at_checked(2)?;
                        rest = after;
                        let mut value = escape - b'0';
                        for digit in digits {
                            value = value * 8 + digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
                        }
                        value
                    }
                    _ => return None,
                });
            }
            other => name.push(*other),
        }
    }
}

/// Reads the name after `rename from ` and its like.
pub(super) fn name(text: &[u8]) -> Result<Vec<u8>, SyntaxProblem> {
    if text.starts_with(b"\"") {
        return unquote(text).map(|(name, _)| name).ok_or(SyntaxProblem::Quoting);
    }
    // What follows a tab is a time. Git itself writes a tab after a name with blanks.
    let name = text.split(|byte| *byte == b'\t').next().unwrap_or(text);
    if name.trim_ascii_end().is_empty() { Err(SyntaxProblem::Names) } else { Ok(name.to_vec()) }
}

/// Reads the name after `--- ` or `+++ `.
pub(super) fn named(text: &[u8]) -> Result<Named, SyntaxProblem> {
    let raw = name(text)?;
    let time = text.split(|byte| *byte == b'\t').nth(1).unwrap_or_default().trim_ascii();
    let nothing = raw.trim_ascii_end() == NOTHING || is_epoch(time) || time == b"(nonexistent)";
    Ok(Named { name: (!nothing).then(|| raw.clone()), raw })
}

/// Returns whether a time is the beginning of 1970, with which GNU diff says that there is no file.
fn is_epoch(time: &[u8]) -> bool {
    let seconds = || -> Option<i64> {
        let mut parts = std::str::from_utf8(time).ok()?.split(' ').filter(|part| !part.is_empty());
        let day = match parts.next()? {
            "1970-01-01" => 0,
            "1969-12-31" => -86_400,
            _ => return None,
        };
        let clock = parts.next()?;
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        if !fraction.bytes().all(|digit| digit == b'0') {
            return None;
        }
        let mut numbers = clock.split(':').map(str::parse::<i64>);
        let mut number = || numbers.next()?.ok().filter(|number| (0..60).contains(number));
        let clock = number()? * 3600 + number()? * 60 + number()?;
        let zone = parts.next()?;
        let (sign, zone) = zone.split_at_checked(1)?;
        let digits = zone.replace(':', "");
        let (hours, minutes) = digits.split_at_checked(2).filter(|(_, minutes)| minutes.len() == 2)?;
        let zone = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
        match sign {
            "+" => Some(day + clock - zone),
            "-" => Some(day + clock + zone),
            _ => None,
        }
    };
    seconds() == Some(0)
}

/// Splits what follows `diff --git ` into its two names; `None` when they cannot be told apart, as in a rename of names with blanks.
pub(super) fn pair(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if text.len() > PAIR_MAX_BYTES {
        return None;
    }
    if text.starts_with(b"\"") {
        let (old, rest) = unquote(text)?;
        let rest = rest.strip_prefix(b" ")?;
        let new = if rest.starts_with(b"\"") { unquote(rest)?.0 } else { rest.to_vec() };
        return Some((old, new));
    }
    if let Some(at) = text.windows(2).position(|window| window == b" \"") {
        return Some((text[..at].to_vec(), unquote(&text[at + 1..])?.0));
    }
    // The names are the same, or the same behind their first component, so that only one blank can be the one between them.
    let behind = |name: &[u8]| name.iter().position(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let mut blanks = text.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let mut same = blanks.clone().filter(|(old, new)| {
        let (in_old, in_new) = (behind(old), behind(new));
        old == new || in_old > 0 && in_new > 0 && old.len() - in_old == new.len() - in_new && old[in_old..] == new[in_new..]
    });
    let (first, second) = (same.next(), same.next());
    let found = match (first, second) {
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => None,
        (None, _) => blanks.next().filter(|_| blanks.next().is_none()),
    };
    found.filter(|(old, new)| !old.is_empty() && !new.is_empty()).map(|(old, new)| (old.to_vec(), new.to_vec()))
}

/// Reads a mode as Git writes it.
pub(super) fn mode(text: &[u8]) -> Result<FileMode, SyntaxProblem> {
    match text.trim_ascii() {
        // Old patches carry the modes of the machine they were made on.
        b"100644" | b"100664" | b"100600" | b"100640" => Ok(FileMode::Plain),
        b"100755" | b"100775" | b"100700" => Ok(FileMode::Executable),
        b"120000" => Ok(FileMode::Link),
        b"160000" => Ok(FileMode::Submodule),
        other => Err(SyntaxProblem::Mode(printable(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_as_git_does() {
        let check = |text: &str, old: &str, new: &str| {
            assert_eq!(pair(text.as_bytes()), Some((old.as_bytes().to_vec(), new.as_bytes().to_vec())), "{text}");
        };
        check("a/x b/x", "a/x", "b/x");
        check("a/x y b/x y", "a/x y", "b/x y");
        check("x y x y", "x y", "x y");
        check("old/x y new/x y", "old/x y", "new/x y");
        check("longer/d/x z s/d/x z", "longer/d/x z", "s/d/x z");
        check("a/old b/new", "a/old", "b/new");
        check("\"a/\\303\\251\\t\" \"b/\\303\\251\\t\"", "a/é\t", "b/é\t");
        check("a/x \"b/\\n\"", "a/x", "b/\n");
        assert_eq!(pair(b"a/x y b/z"), None);
        assert_eq!(pair(&b" ".repeat(1 << 20)), None);
    }

    #[test]
    fn the_beginning_of_1970_is_no_file_in_every_time_zone() {
        let absent = |text: &str| named(text.as_bytes()).unwrap().name.is_none();
        for text in [
            "/dev/null",
            "x\t1970-01-01 00:00:00.000000000 +0000",
            "x\t1969-12-31 19:00:00.000000000 -0500",
            "x\t1970-01-01 05:45:00 +05:45",
            "x\t(nonexistent)",
        ] {
            assert!(absent(text), "{text}");
        }
        for text in [
            "x\t1970-01-01 01:00:00 +0000",
            "x\t2020-01-01 00:00:00.0 +0000",
            "x",
            "x\t(working copy)",
            "x\t1970-01-01 00:00:00.000000001 +0000",
        ] {
            assert!(!absent(text), "{text}");
        }
    }
}
