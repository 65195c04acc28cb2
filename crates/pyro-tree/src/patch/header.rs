//! Names and modes in the headers of a patch.
//!
//! Git quotes a name as C does when it holds a quote, a backslash, a control character or (by default) a byte above 127. `a/` and `b/` are
//! taken off only when both names have theirs, so a patch made with `--no-prefix` keeps a real folder `a`.

use super::{FileMode, SyntaxProblem};
use crate::path::{TreePath, printable};

/// The name that stands for no file.
const NOTHING: &[u8] = b"/dev/null";
/// Pairs of prefixes Git puts before names, the last four with `diff.mnemonicPrefix`.
const PREFIXES: [(&[u8], &[u8]); 6] = [(b"a/", b"b/"), (b"i/", b"w/"), (b"c/", b"i/"), (b"c/", b"w/"), (b"o/", b"w/"), (b"b/", b"a/")];

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

/// Reads the name after `--- `, `+++ `, `rename from ` and their like.
pub(super) fn name(text: &[u8]) -> Result<Vec<u8>, SyntaxProblem> {
    if text.starts_with(b"\"") {
        return unquote(text).map(|(name, _)| name).ok_or(SyntaxProblem::Quoting);
    }
    // What follows a tab is a time. Git itself writes a tab after a name with blanks.
    let name = text.split(|byte| *byte == b'\t').next().unwrap_or(text);
    let trimmed = name.trim_ascii_end();
    if trimmed.is_empty() { Err(SyntaxProblem::Names) } else { Ok(if trimmed == NOTHING { trimmed } else { name }.to_vec()) }
}

/// Splits what follows `diff --git ` into its two names; `None` when they cannot be told apart, as in a rename of names with blanks.
pub(super) fn pair(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if text.starts_with(b"\"") {
        let (old, rest) = unquote(text)?;
        let rest = rest.strip_prefix(b" ")?;
        let new = if rest.starts_with(b"\"") { unquote(rest)?.0 } else { rest.to_vec() };
        return Some((old, new));
    }
    if let Some(at) = text.windows(2).position(|window| window == b" \"") {
        return Some((text[..at].to_vec(), unquote(&text[at + 1..])?.0));
    }
    // The same name twice, so the blank is in the middle.
    let middle = text.len() / 2;
    if let Some((old, new)) = text.split_at_checked(middle).filter(|(_, new)| new.first() == Some(&b' ')) {
        let new = &new[1..];
        let same = old == new
            || PREFIXES
                .iter()
                .any(|(one, other)| matches!((old.strip_prefix(*one), new.strip_prefix(*other)), (Some(a), Some(b)) if a == b));
        if same {
            return Some((old.to_vec(), new.to_vec()));
        }
    }
    let mut parts = text.split(|byte| *byte == b' ');
    let both = (parts.next()?.to_vec(), parts.next()?.to_vec());
    parts.next().is_none().then_some(both)
}

/// The two names of a header without their prefixes; `None` for one that is `/dev/null`.
pub(super) fn paths(old: &[u8], new: &[u8], prefixed: Option<bool>) -> Result<(Option<TreePath>, Option<TreePath>), SyntaxProblem> {
    let strip = |old: &[u8], new: &[u8]| -> Option<(Vec<u8>, Vec<u8>)> {
        PREFIXES.iter().find_map(|(one, other)| {
            let old = if old == NOTHING { old } else { old.strip_prefix(*one)? };
            let new = if new == NOTHING { new } else { new.strip_prefix(*other)? };
            Some((old.to_vec(), new.to_vec()))
        })
    };
    let stripped = if prefixed == Some(false) { None } else { strip(old, new) };
    let (old, new) = stripped.unwrap_or_else(|| (old.to_vec(), new.to_vec()));
    let path = |name: &[u8]| -> Result<Option<TreePath>, SyntaxProblem> {
        if name == NOTHING {
            return Ok(None);
        }
        let name = name.strip_prefix(b"./").unwrap_or(name);
        Ok(Some(TreePath::try_from(name)?))
    };
    Ok((path(&old)?, path(&new)?))
}

/// Reads a mode as Git writes it.
pub(super) fn mode(text: &[u8]) -> Result<FileMode, SyntaxProblem> {
    match text.trim_ascii() {
        // Old patches carry the modes of the machine they were made on.
        b"100644" | b"100664" | b"100600" | b"100640" => Ok(FileMode::Plain),
        b"100755" | b"100775" | b"100700" => Ok(FileMode::Executable),
        b"120000" => Ok(FileMode::Link),
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
        check("a/old b/new", "a/old", "b/new");
        check("\"a/\\303\\251\\t\" \"b/\\303\\251\\t\"", "a/é\t", "b/é\t");
        check("a/x \"b/\\n\"", "a/x", "b/\n");
        assert_eq!(pair(b"a/x y b/z"), None);
    }

    #[test]
    fn prefixes_go_only_in_pairs() {
        let check = |old: &str, new: &str, expected: (Option<&str>, Option<&str>)| {
            let (old, new) = paths(old.as_bytes(), new.as_bytes(), None).unwrap();
            assert_eq!((old.map(|path| path.to_string()).as_deref(), new.map(|path| path.to_string()).as_deref()), expected);
        };
        check("a/x", "b/x", (Some("x"), Some("x")));
        check("a/x", "a/x", (Some("a/x"), Some("a/x")));
        check("/dev/null", "b/x", (None, Some("x")));
        check("a/x", "/dev/null", (Some("x"), None));
        check("x", "x", (Some("x"), Some("x")));
        assert!(paths(b"a/../x", b"b/../x", None).is_err());
        assert!(paths(b"/etc/x", b"/etc/x", None).is_err());
    }
}
