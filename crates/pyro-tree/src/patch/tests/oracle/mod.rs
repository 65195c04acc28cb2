//! The real `git` and `diff` make patches, which are damaged, and the real `git apply` and an applier of our own judge what becomes of them.
//!
//! What must hold of every patch, however damaged: we refuse it, or the tree we make is the one `git apply` makes, or it is one that
//! *every marked line* of the patch makes ([`reference`]), by an applier that shares nothing with ours.

mod damage;
mod make;
mod reference;

use std::{cell::RefCell, collections::BTreeMap};

use proptest::{prelude::*, test_runner::TestRunner};

use super::{
    super::{Applied, PatchError, parse},
    kit::{Files, after, git_apply, states},
};

/// Applies a patch with ours.
fn ours(before: &Files, patch: &[u8]) -> Result<Files, PatchError> {
    let applied: Applied = parse(patch)?.apply(&states(before))?;
    Ok(after(before, applied))
}

/// Ways to ask Git for what we forgive, the first of them being none.
const WAYS: [&[&str]; 6] =
    [&[], &["--unidiff-zero"], &["-p0"], &["-p0", "--unidiff-zero"], &["--recount"], &["--recount", "--unidiff-zero"]];

/// Checks that what ours made of a patch is right; returns who says so.
fn judge(before: &Files, patch: &[u8], made: &Files) -> Result<&'static str, String> {
    let theirs: Vec<Option<Files>> = WAYS.iter().map(|way| git_apply(before, patch, way).ok()).collect();
    if theirs.iter().flatten().any(|theirs| theirs == made) {
        return Ok("git");
    }
    // Git may apply a part, and then ours is right if it has all. It may not put the same lines elsewhere.
    if let Some(Some(other)) = theirs.first()
        && reference::makes(before, patch, other).is_ok()
    {
        return Err(format!("git makes this, which is whole, too\n{}", show_files(other)));
    }
    reference::makes(before, patch, made).map(|()| "marks")
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "␍").lines().fold(String::new(), |text, line| text + "  |" + line + "\n")
}

fn show_files(files: &Files) -> String {
    files
        .iter()
        .map(|(name, entry)| match entry {
            super::kit::Entry::File { executable, content } => format!("{} {executable}\n{}", String::from_utf8_lossy(name), show(content)),
            super::kit::Entry::Link(target) => format!("{} -> {}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(target)),
        })
        .collect()
}

#[test]
fn what_git_and_diff_make_is_applied_as_they_meant_it() {
    let mut runner = TestRunner::new(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() });
    let seen = Seen::default();
    let checked = runner.run(&(make::tree(), make::edits(), make::maker()), |(before, edits, maker)| {
        let wanted = make::edited(&before, &edits);
        let patch = maker.patch(&before, &wanted);
        match ours(&before, &patch) {
            Ok(made) => {
                prop_assert_eq!(&made, &maker.meant(&before, &wanted), "{:?}\n{}", maker, show(&patch));
                seen.count("applied");
            }
            Err(error) => {
                let on_purpose = maker.may_be_refused(&before, &wanted, &patch, &error);
                prop_assert!(on_purpose, "{:?}: {error}\n{}{}", maker, show_files(&before), show(&patch));
                seen.count("refused");
            }
        }
        Ok(())
    });
    seen.print();
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_damaged_patch_is_refused_or_applied_with_every_marked_line() {
    let mut runner = TestRunner::new(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() });
    let seen = Seen::default();
    let strategy = (make::tree(), make::edits(), make::maker(), damage::damages());
    let checked = runner.run(&strategy, |(before, edits, maker, damages)| {
        let wanted = make::edited(&before, &edits);
        let patch = damage::damaged(&maker.patch(&before, &wanted), &damages);
        match ours(&before, &patch) {
            Ok(made) if made == maker.meant(&before, &wanted) => seen.count("as meant"),
            Ok(made) => match judge(&before, &patch, &made) {
                Ok(judge) => seen.count(judge),
                Err(why) => prop_assert!(
                    false,
                    "{:?} {damages:?}: {why}\nbefore\n{}patch\n{}made\n{}",
                    maker,
                    show_files(&before),
                    show(&patch),
                    show_files(&made)
                ),
            },
            Err(_) => seen.count("refused"),
        }
        Ok(())
    });
    seen.print();
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Each case starts a dozen processes. `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    let default = ProptestConfig::default().cases;
    if default == 256 { 48 } else { default }
}

/// How often each judgement was made, for whoever looks at what the cases reach.
#[derive(Default)]
struct Seen(RefCell<BTreeMap<&'static str, usize>>);

impl Seen {
    fn count(&self, judgement: &'static str) {
        *self.0.borrow_mut().entry(judgement).or_default() += 1;
    }

    fn print(&self) {
        println!("{:?}", self.0.borrow());
    }
}

/// Writes the difference of two texts, with so many lines of context.
fn unified(before: &[u8], after: &[u8], context: usize) -> Vec<u8> {
    let (old, new): (Vec<&[u8]>, Vec<&[u8]>) = (before.split_inclusive(is_newline).collect(), after.split_inclusive(is_newline).collect());
    // The longest common part of what is left of both, from each pair of lines on.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, j) in (0..old.len()).rev().flat_map(|i| (0..new.len()).rev().map(move |j| (i, j))) {
        common[i][j] = if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
    }
    let (mut i, mut j, mut script) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            script.push((b' ', i, j));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            script.push((b'-', i, j));
            i += 1;
        } else {
            script.push((b'+', i, j));
            j += 1;
        }
    }
    let near = |at: usize| script[at.saturating_sub(context)..(at + context + 1).min(script.len())].iter().any(|(mark, ..)| *mark != b' ');
    let mut patch = b"--- a/f\n+++ b/f\n".to_vec();
    let mut at = 0;
    while at < script.len() {
        let end = (at..script.len()).find(|at| !near(*at)).unwrap_or(script.len());
        if end > at {
            let hunk = &script[at..end];
            let count = |without: u8| hunk.iter().filter(|(mark, ..)| *mark != without).count();
            let (old_count, new_count) = (count(b'+'), count(b'-'));
            let start = |line: usize, count: usize| if count == 0 { line } else { line + 1 };
            let header = format!("@@ -{},{old_count} +{},{new_count} @@\n", start(hunk[0].1, old_count), start(hunk[0].2, new_count));
            patch.extend_from_slice(header.as_bytes());
            for (mark, i, j) in hunk {
                let line = if *mark == b'+' { new[*j] } else { old[*i] };
                patch.push(*mark);
                patch.extend_from_slice(line);
                if !line.ends_with(b"\n") {
                    patch.extend_from_slice(b"\n\\ No newline at end of file\n");
                }
            }
        }
        at = end.max(at + 1);
    }
    patch
}

fn is_newline(byte: &u8) -> bool {
    *byte == b'\n'
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same without Git, which takes most of the time: far more cases of one file.
    #[test]
    fn no_marked_line_is_lost_from_a_damaged_patch_of_one_file(
        before in make::text(), edits in make::line_edits(), context in 0..4_usize, damages in damage::damages(),
    ) {
        let before = Files::from([(b"f".to_vec(), super::kit::text(&before))]);
        let wanted = make::edited(&before, &edits);
        let content = |files: &Files| match files.get(&b"f"[..]) {
            Some(super::kit::Entry::File { content, .. }) => content.clone(),
            Some(super::kit::Entry::Link(_)) | None => Vec::new(),
        };
        let whole = unified(&content(&before), &content(&wanted), context);
        if before != wanted && context > 0 {
            prop_assert_eq!(ours(&before, &whole), Ok(wanted.clone()), "{}", show(&whole));
        }
        let patch = damage::damaged(&whole, &damages);
        if let Ok(made) = ours(&before, &patch) && made != wanted {
            let judged = reference::makes(&before, &patch, &made);
            prop_assert!(
                judged.is_ok(), "{damages:?}: {}\nbefore\n{}patch\n{}made\n{}", judged.unwrap_err(), show_files(&before), show(&patch), show_files(&made)
            );
        }
    }
}
