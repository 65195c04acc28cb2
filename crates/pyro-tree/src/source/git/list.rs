//! What of a `.git` is taken, and which of it is text.
//!
//! A name that is not listed stays behind: new versions of Git, and other programs, put new things here, and some hold secrets or are run.
//! What a folder's `.git` and what an archive's may bring is judged here, so that neither becomes a way around the other.

/// Text that may hold addresses is read whole to take credentials out; longer text stays behind.
pub(in crate::source) const TEXT_MAX_BYTES: u64 = 16 << 20;
/// Names taken that belong to one checkout. Those that end with a slash are folders taken whole.
pub(super) const OWN: [&str; 20] = [
    "HEAD",
    "index",
    "ORIG_HEAD",
    "MERGE_HEAD",
    "MERGE_MSG",
    "MERGE_MODE",
    "MERGE_AUTOSTASH",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "AUTO_MERGE",
    "SQUASH_MSG",
    "COMMIT_EDITMSG",
    "BISECT_LOG",
    "BISECT_START",
    "logs/HEAD",
    "info/sparse-checkout",
    "rebase-merge/",
    "rebase-apply/",
    "sequencer/",
];
/// Names taken that all checkouts of a repository share.
pub(super) const COMMON: [&str; 9] =
    ["objects/", "refs/", "packed-refs", "logs/refs/", "reftable/", "shallow", "description", "info/exclude", "info/attributes"];
/// References that belong to one checkout, although they lie among those that are shared.
pub(super) const OWN_REFS: [&str; 3] = ["refs/bisect/", "refs/worktree/", "refs/rewritten/"];

/// Returns whether a reference belongs to one checkout alone.
pub(super) fn is_own_reference(name: &[u8]) -> bool {
    OWN_REFS.iter().any(|refs| name.starts_with(refs.as_bytes()))
}

/// Names below which nothing is text, or which hold only names and hashes.
const NOT_TEXT: [&str; 3] = ["objects/", "refs/", "reftable/"];

/// What becomes of a path below a `.git`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Verdict<'a> {
    Taken,
    /// Stays behind unmentioned: half-written, or a way to make Git look elsewhere.
    Unwanted,
    /// Stays behind, together with everything else below this path.
    LeftOut(&'a [u8]),
}

/// Splits a path at its first component `.git`: where that is, and what stands below it; empty for the `.git` itself.
pub(in crate::source) fn split_dot_git(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut start = 0;
    for name in path.split(|byte| *byte == b'/') {
        let end = start + name.len();
        if name == b".git" {
            return Some((&path[..end], path.get(end + 1..).unwrap_or_default()));
        }
        start = end + 1;
    }
    None
}

/// Judges a path below a `.git`; the configuration is taken, though never as it is.
pub(in crate::source) fn judge(below: &[u8], folder: bool) -> Verdict<'_> {
    let listed = || OWN.iter().chain(&COMMON).chain(&["config"]).map(|name| name.as_bytes());
    let is_whole = |path: &[u8]| listed().any(|name| name.strip_suffix(b"/").is_some_and(|whole| path == whole));
    let is_above = |path: &[u8]| listed().any(|name| name.starts_with(path) && name.get(path.len()) == Some(&b'/'));
    let is_file = |path: &[u8]| listed().any(|name| path == name) || (path.starts_with(b"sharedindex.") && !path.contains(&b'/'));
    let ends = below.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| (at, true)).chain([(below.len(), folder)]);
    for (end, folder) in ends {
        let path = &below[..end];
        match folder {
            true if is_whole(path) => break,
            true if is_above(path) => {}
            false if is_file(path) => {}
            true | false => return Verdict::LeftOut(path),
        }
    }
    if is_unwanted(below) { Verdict::Unwanted } else { Verdict::Taken }
}

/// Returns whether something that lies where whole folders are taken is still not wanted.
pub(super) fn is_unwanted(below: &[u8]) -> bool {
    let odd = |name: &[u8]| name.ends_with(b".lock") || name.starts_with(b"tmp_") || name == b".git";
    below.starts_with(b"objects/info/alternates") || below.split(|byte| *byte == b'/').any(odd)
}

/// Returns whether a file that is taken is text, which may quote addresses.
pub(in crate::source) fn is_text(below: &[u8]) -> bool {
    let name = matches!(below, b"index" | b"packed-refs" | b"shallow") || below.starts_with(b"sharedindex.");
    !name && !NOT_TEXT.iter().any(|folder| below.starts_with(folder.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_at_its_first_git_folder() {
        assert_eq!(split_dot_git(b".git"), Some((&b".git"[..], &b""[..])));
        assert_eq!(split_dot_git(b"a/.git/b/.git"), Some((&b"a/.git"[..], &b"b/.git"[..])));
        assert_eq!(split_dot_git(b"a.git/.gitignore"), None);
    }

    #[test]
    fn only_listed_names_of_the_right_kind_are_taken() {
        for (below, folder) in [("HEAD", false), ("config", false), ("logs", true), ("logs/refs/x", false), ("objects/ab/cd", false)] {
            assert_eq!(judge(below.as_bytes(), folder), Verdict::Taken, "{below}");
        }
        for (below, folder, left_out) in [
            ("hooks/pre-commit", false, "hooks"),
            ("HEAD/x", false, "HEAD"),
            ("logs", false, "logs"),
            ("objects", false, "objects"),
            ("info/x/y", false, "info/x"),
            ("commondir", false, "commondir"),
            ("sharedindex.1/x", false, "sharedindex.1"),
            ("modules", true, "modules"),
        ] {
            assert_eq!(judge(below.as_bytes(), folder), Verdict::LeftOut(left_out.as_bytes()), "{below}");
        }
        for below in ["objects/info/alternates", "refs/heads/x.lock", "refs/.git/config"] {
            assert_eq!(judge(below.as_bytes(), false), Verdict::Unwanted, "{below}");
        }
    }
}
