//! Trees, edits of them, and patches made by the programs that make them.

use std::fs;

use proptest::prelude::*;

use super::super::{
    super::{PatchError, SyntaxProblem},
    kit::{Entry, Files, command, git, git_apply, read, write},
};

/// A small tree: names that need quoting and names that may be prefixes; contents of few different lines, so that hunks have company.
pub(super) fn tree() -> impl Strategy<Value = Files> {
    let entry = prop_oneof![
        8 => (any::<bool>(), content()).prop_map(|(executable, content)| Entry::File { executable, content }),
        1 => proptest::sample::select(vec!["f", "../x", "d"]).prop_map(|target| Entry::Link(target.into())),
    ];
    proptest::collection::btree_map(name(), entry, 1..6)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::select(vec!["f", "g h", "d/f", "d/\u{e9}", "d/q\"", "t\tn\n", "z", "a/f", "b/z", "d/e/f", "old/f"])
        .prop_map(Into::into)
}

fn line() -> impl Strategy<Value = &'static str> {
    let plain = proptest::sample::select(vec![
        "one\n", "two\n", "three\n", "four\n", "five\n", "six\n", "seven\n", "eight\n", "\n", " x\n", "\tx\n", "{\n", "}\n",
    ]);
    // Lines that look like something else once they have a mark.
    let odd = proptest::sample::select(vec![
        "c\r\n",
        "--- a/f\n",
        "-- a/f\n",
        "++ b/f\n",
        "+++ b/z\n",
        "@@ -1 +1 @@\n",
        "diff --git a/f b/f\n",
        "-- \n",
        "- \n",
        "...\n",
        "2.39.2\n",
        "old mode 100644\n",
        "\\ No newline at end of file\n",
    ]);
    prop_oneof![6 => plain, 1 => odd]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![12 => text(), 1 => proptest::collection::vec(any::<u8>(), 0..200)]
}

/// What is done to a tree. Numbers choose among what there is.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Insert(usize, usize, &'static str),
    Replace(usize, usize, &'static str),
    Remove(usize, usize),
    LastLine(usize),
    Write(Vec<u8>, Vec<u8>),
    Delete(usize),
    Rename(usize, Vec<u8>),
    Mode(usize),
    Link(usize),
}

/// A text of some lines.
pub(super) fn text() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![4 => Just(""), 1 => Just("end")];
    (proptest::collection::vec(line(), 0..24), end).prop_map(|(lines, end)| (lines.concat() + end).into_bytes())
}

/// Edits of the lines of one file.
pub(super) fn line_edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = 0..64_usize;
    let edit = prop_oneof![
        6 => (at.clone(), line()).prop_map(|(at, line)| Edit::Insert(0, at, line)),
        6 => (at.clone(), line()).prop_map(|(at, line)| Edit::Replace(0, at, line)),
        6 => at.prop_map(|at| Edit::Remove(0, at)),
        1 => Just(Edit::LastLine(0)),
    ];
    proptest::collection::vec(edit, 1..6)
}

pub(super) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = 0..64_usize;
    let edit = prop_oneof![
        6 => (at.clone(), at.clone(), line()).prop_map(|(file, at, line)| Edit::Insert(file, at, line)),
        6 => (at.clone(), at.clone(), line()).prop_map(|(file, at, line)| Edit::Replace(file, at, line)),
        6 => (at.clone(), at.clone()).prop_map(|(file, at)| Edit::Remove(file, at)),
        1 => at.clone().prop_map(Edit::LastLine),
        2 => (name(), content()).prop_map(|(name, content)| Edit::Write(name, content)),
        1 => at.clone().prop_map(Edit::Delete),
        1 => (at.clone(), name()).prop_map(|(file, name)| Edit::Rename(file, name)),
        1 => at.clone().prop_map(Edit::Mode),
        1 => at.prop_map(Edit::Link),
    ];
    proptest::collection::vec(edit, 1..8)
}

/// Returns whether a name could be there beside the others: none is a directory of another.
fn fits(files: &Files, name: &[u8]) -> bool {
    let below = |one: &[u8], other: &[u8]| one.starts_with(other) && one.get(other.len()) == Some(&b'/');
    !files.keys().any(|other| below(other, name) || below(name, other))
}

pub(super) fn edited(before: &Files, edits: &[Edit]) -> Files {
    let mut files = before.clone();
    files.retain(|name, _| !name.is_empty());
    for edit in edits {
        let nth = |number: usize| files.keys().nth(number % files.len().max(1)).cloned();
        match edit {
            Edit::Write(name, content) if fits(&files, name) => drop(files.insert(name.clone(), super::super::kit::text(content))),
            Edit::Write(..) => {}
            Edit::Delete(number) => drop(nth(*number).and_then(|name| files.remove(&name))),
            Edit::Rename(number, to) => {
                if let Some(name) = nth(*number).filter(|_| fits(&files, to))
                    && let Some(entry) = files.remove(&name)
                {
                    files.insert(to.clone(), entry);
                }
            }
            Edit::Mode(number) => {
                if let Some(Entry::File { executable, .. }) = nth(*number).and_then(|name| files.get_mut(&name)) {
                    *executable = !*executable;
                }
            }
            Edit::Link(number) => drop(nth(*number).map(|name| files.insert(name, Entry::Link(b"elsewhere".to_vec())))),
            Edit::Insert(number, ..) | Edit::Replace(number, ..) | Edit::Remove(number, ..) | Edit::LastLine(number) => {
                let Some(Entry::File { content, .. }) = nth(*number).and_then(|name| files.get_mut(&name)) else { continue };
                let mut lines: Vec<Vec<u8>> = content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                let count = lines.len();
                match edit {
                    Edit::Insert(_, at, line) => lines.insert(at % (count + 1), line.as_bytes().to_vec()),
                    Edit::Replace(_, at, line) if count > 0 => lines[at % count] = line.as_bytes().to_vec(),
                    Edit::Remove(_, at) if count > 0 => drop(lines.remove(at % count)),
                    Edit::LastLine(_) if count > 0 && lines[count - 1].ends_with(b"\n") => {
                        lines.last_mut().into_iter().for_each(|line| line.truncate(line.len() - 1))
                    }
                    Edit::LastLine(_) if count > 0 => lines[count - 1].push(b'\n'),
                    Edit::Replace(..) | Edit::Remove(..) | Edit::LastLine(_) => {}
                    Edit::Write(..) | Edit::Delete(_) | Edit::Rename(..) | Edit::Mode(_) | Edit::Link(_) => unreachable!("matched above"),
                }
                *content = lines.concat();
            }
        }
    }
    files
}

/// How a patch is made.
#[derive(Debug, Clone)]
pub(super) enum Maker {
    Git { context: usize, flags: Vec<&'static str> },
    Diff { context: usize, new_files: bool, names: (&'static str, &'static str) },
    Series,
}

pub(super) fn maker() -> impl Strategy<Value = Maker> {
    let flags = [
        vec!["-M", "--binary"],
        vec!["-M40%", "-C40%", "--find-copies-harder", "--binary"],
        vec!["--no-renames", "--binary", "--full-index"],
        vec!["-B", "-M", "--binary"],
        vec!["--no-prefix", "--binary"],
        vec!["--src-prefix=old/", "--dst-prefix=new/", "--binary"],
        vec!["--src-prefix=x/y/", "--dst-prefix=z/w/", "--binary", "--no-renames"],
        vec!["-R", "--binary"],
        vec!["-c", "diff.mnemonicPrefix=true", "--binary"],
        vec!["--text", "--no-renames"],
    ];
    prop_oneof![
        6 => (0..=5_usize, proptest::sample::select(flags.to_vec())).prop_map(|(context, flags)| Maker::Git { context, flags }),
        3 => (0..=5_usize, any::<bool>(), proptest::sample::select(vec![("project.orig", "project"), ("a", "b"), ("old", "new"), ("v/1", "v/2")]))
            .prop_map(|(context, new_files, names)| Maker::Diff { context, new_files, names }),
        1 => Just(Maker::Series),
    ]
}

impl Maker {
    pub(super) fn patch(&self, before: &Files, wanted: &Files) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        match self {
            Self::Git { context, flags } => {
                let (one, two) = if flags.contains(&"-R") { (wanted, before) } else { (before, wanted) };
                let place = folder.path();
                git(place, &["init", "-q"]);
                let trees: Vec<String> = [one, two].map(|files| commit_tree(place, files)).into();
                let lines = format!("-U{context}");
                let (settings, flags) = flags.split_at(if flags[0] == "-c" { 2 } else { 0 });
                git(place, &[settings, &["diff", &lines], flags, &[&trees[0], &trees[1]]].concat())
            }
            Self::Diff { context, new_files, names } => {
                write(&folder.path().join(names.0), before);
                write(&folder.path().join(names.1), wanted);
                let flags = format!("-{}rU{context}", if *new_files { "N" } else { "" });
                command("diff", folder.path()).args(["--no-dereference", &flags, names.0, names.1]).output().unwrap().stdout
            }
            Self::Series => {
                let place = folder.path();
                git(place, &["init", "-q"]);
                git(place, &["config", "core.quotePath", "true"]);
                // Two commits: the changes of files first, then what comes and goes.
                let mut middle = before.clone();
                for (name, entry) in wanted {
                    if let Some(before) = middle.get_mut(name) {
                        *before = entry.clone();
                    }
                }
                for files in [before, &middle, wanted] {
                    commit_tree(place, files);
                    git(place, &["commit", "-q", "--allow-empty", "-m", "a change\n\n- one thing\n- another"]);
                }
                git(place, &["format-patch", "-q", "--stdout", "--binary", "HEAD~2"])
            }
        }
    }

    /// Returns the tree a patch is meant to make: not everything is in a patch of GNU diff.
    pub(super) fn meant(&self, before: &Files, wanted: &Files) -> Files {
        let Self::Diff { new_files, .. } = self else { return wanted.clone() };
        // What is in it as text, lines and all: an empty file is not there to `diff -N`.
        let text = |entry: Option<&Entry>| match entry {
            Some(Entry::File { content, .. }) if !content.contains(&0) => Some(content.clone()),
            Some(_) | None => None,
        };
        let mut meant = before.clone();
        for name in before.keys().chain(wanted.keys()) {
            let (old, new) = (text(before.get(name)), text(wanted.get(name)));
            match (before.get(name), wanted.get(name), old, new) {
                (Some(Entry::File { executable, .. }), Some(_), Some(_), Some(content)) => {
                    meant.insert(name.clone(), Entry::File { executable: *executable, content });
                }
                (None, Some(_), None, Some(content)) if *new_files && !content.is_empty() => {
                    meant.insert(name.clone(), Entry::File { executable: false, content });
                }
                (Some(_), None, Some(content), None) if *new_files && !content.is_empty() => drop(meant.remove(name)),
                _ => {}
            }
        }
        meant
    }

    /// Returns whether we refuse this on purpose.
    pub(super) fn may_be_refused(&self, before: &Files, wanted: &Files, patch: &[u8], error: &PatchError) -> bool {
        let context = match self {
            Self::Git { context, .. } | Self::Diff { context, .. } => *context,
            Self::Series => 3,
        };
        let message = error.to_string();
        let unprefixed = matches!(self, Self::Git { flags, .. } if flags.contains(&"--no-prefix"));
        // With blanks in it, and prefixes of two components that Git cannot take off either.
        let blanks = before.keys().chain(wanted.keys()).any(|name| name.contains(&b' '));
        if blanks && matches!(self, Self::Git { flags, .. } if flags[0].contains("x/y/")) {
            return true;
        }
        match error {
            PatchError::Empty => patch.is_empty() || matches!(self, Self::Diff { .. }),
            // A name without prefix that is a file with and without its first directory, or one for which nothing speaks.
            PatchError::Ambiguous { .. } => {
                unprefixed || matches!(self, Self::Diff { .. }) || matches!(self, Self::Git { flags, .. } if flags[0].contains("x/y/"))
            }
            PatchError::Syntax { problem: SyntaxProblem::BinaryNamed(_) | SyntaxProblem::Mentioned(_), .. } => {
                matches!(self, Self::Diff { .. })
            }
            PatchError::Syntax { problem: SyntaxProblem::HeaderOrChange, .. } => context == 0,
            PatchError::Rejected { .. } => {
                context == 0 && (message.contains("has no context") || message.contains("its lines occur at lines"))
                    // With `-B` a rename takes the place of a file about which the patch says nothing.
                    || message.contains("exists already") && git_apply(before, patch, &[]).is_err()
                    // A file takes the place of a directory.
                    || message.contains("is a directory")
                    || matches!(self, Self::Diff { .. }) && (message.contains("is a link") || message.contains("is not a directory"))
            }
            PatchError::TooLarge { .. }
            | PatchError::TooManyFiles
            | PatchError::NamesTooDeep
            | PatchError::BinaryTooLarge
            | PatchError::WritesTooMuch
            | PatchError::TooMuchWork
            | PatchError::TooMuchSearch
            | PatchError::Syntax { .. }
            | PatchError::Unusable { .. } => false,
        }
    }
}

/// Makes a tree the index, and returns its object.
fn commit_tree(place: &std::path::Path, files: &Files) -> String {
    for name in read(place).keys() {
        let _ = fs::remove_file(place.join(std::str::from_utf8(name).unwrap()));
    }
    for entry in fs::read_dir(place).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() && entry.file_name() != ".git" {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    write(place, files);
    git(place, &["add", "-A", "-f", "."]);
    String::from_utf8(git(place, &["write-tree"])).unwrap().trim().to_owned()
}
