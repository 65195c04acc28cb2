//! Landings on real folders, broken off at every step.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use super::*;
use crate::{
    Content, Difference, EntryKind, Side,
    landing::{land::land_observed, restore},
};

/// A landing syncs the whole file system it is on, so tests use one without a disk if there is one.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn path(text: &str) -> TreePath {
    TreePath::try_from(text).unwrap()
}

fn file(text: &str, mode: u32) -> Option<Side> {
    let content = Content::Bytes(text.as_bytes().to_vec());
    Some(Side { kind: EntryKind::File, mode, size_bytes: u64::try_from(text.len()).unwrap(), content })
}

fn link(target: &str) -> Option<Side> {
    Some(Side { kind: EntryKind::Link, mode: 0o777, size_bytes: 0, content: Content::Link(target.as_bytes().to_vec()) })
}

const FOLDER: Option<Side> = Some(Side { kind: EntryKind::Directory, mode: 0o755, size_bytes: 0, content: Content::None });

fn difference(name: &str, before: Option<Side>, after: Option<Side>) -> Difference {
    Difference { path: path(name), before, after }
}

fn put(folder: &Path, name: &str, text: &str, mode: u32) {
    let place = folder.join(name);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, text).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
}

/// Kind and mode, time of the last change, content.
type Seen = (u32, (i64, i64), Vec<u8>);

/// A plan of changes that all come from the target.
fn thought<'a>(target: &Path, differences: &'a [Difference]) -> Plan<'a> {
    plan(target, differences, &|_| None).unwrap()
}

/// Everything below a folder.
fn picture(folder: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut picture = BTreeMap::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(place) = pending.pop() {
        let status = fs::symlink_metadata(&place).unwrap();
        let content = if status.is_dir() {
            pending.extend(fs::read_dir(&place).unwrap().map(|item| item.unwrap().path()));
            Vec::new()
        } else if status.is_symlink() {
            fs::read_link(&place).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(&place).unwrap()
        };
        picture.insert(place, (status.mode(), (status.mtime(), status.mtime_nsec()), content));
    }
    picture
}

/// The same without times, which a landing changes.
fn contents(folder: &Path) -> Vec<(String, u32, String)> {
    let shown = |place: &Path| place.strip_prefix(folder).unwrap().display().to_string();
    let picture = picture(folder).into_iter().skip(1);
    picture.map(|(place, (mode, _, content))| (shown(&place), mode & 0o777, String::from_utf8(content).unwrap())).collect()
}

/// A target and a difference that has everything in it.
fn story() -> (tempfile::TempDir, Vec<Difference>) {
    let folder = folder();
    let target = folder.path().join("target");
    put(&target, "changed", "old", 0o640);
    put(&target, "kept", "kept", 0o644);
    put(&target, "mode", "mode", 0o644);
    put(&target, "gone/deep/file", "x", 0o644);
    put(&target, "becomes-folder", "file", 0o600);
    put(&target, "becomes-file/inner", "inner", 0o644);
    put(&target, "becomes-link", "file", 0o644);
    symlink("kept", target.join("link")).unwrap();
    for (place, ..) in contents(&target) {
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000, 5);
        if !target.join(&place).is_symlink() {
            fs::File::open(target.join(&place)).unwrap().set_modified(time).unwrap();
        }
    }
    let differences = vec![
        difference("changed", file("old", 0o644), file("new", 0o644)),
        difference("mode", file("mode", 0o644), file("mode", 0o755)),
        difference("gone", FOLDER, None),
        difference("gone/deep", FOLDER, None),
        difference("gone/deep/file", file("x", 0o644), None),
        difference("becomes-folder", file("file", 0o600), FOLDER),
        difference("becomes-folder/new", None, file("in", 0o600)),
        difference("becomes-file", FOLDER, file("flat", 0o644)),
        difference("becomes-file/inner", file("inner", 0o644), None),
        difference("becomes-link", file("file", 0o644), link("/elsewhere")),
        difference("link", link("kept"), link("changed")),
        difference("made/on/the/way", None, file("way", 0o6755)),
    ];
    (folder, differences)
}

const LANDED: [(&str, u32, &str); 11] = [
    ("becomes-file", 0o644, "flat"),
    ("becomes-folder", 0o755, ""),
    ("becomes-folder/new", 0o600, "in"),
    ("becomes-link", 0o777, "/elsewhere"),
    ("changed", 0o640, "new"),
    ("kept", 0o644, "kept"),
    ("link", 0o777, "changed"),
    ("made", 0o755, ""),
    ("made/on", 0o755, ""),
    ("made/on/the", 0o755, ""),
    ("made/on/the/way", 0o755, "way"),
];

fn assert_landed(target: &Path) {
    let found = contents(target);
    let found: Vec<_> = found.iter().map(|(place, mode, content)| (place.as_str(), *mode, content.as_str())).collect();
    let mut expected = LANDED.to_vec();
    expected.push(("mode", 0o755, "mode"));
    assert_eq!(found, expected);
}

fn verdicts(target: &Path, differences: &[Difference]) -> Vec<String> {
    let plan = plan(target, differences, &|_| None).unwrap();
    let shown = |file: &Verdict| {
        let reason = file.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let never = if file.verdict == VerdictKind::Conflict && !file.forceable { " for ever" } else { "" };
        format!("{} {}{never}{reason}", file.path, file.verdict.as_str())
    };
    plan.files.iter().map(shown).collect()
}

#[test]
fn a_landing_brings_everything_home_and_undo_takes_it_back_to_the_byte() {
    let (folder, differences) = story();
    let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
    let before = picture(&target);
    let planned = thought(&target, &differences);
    assert!(planned.files.iter().all(|file| file.verdict == VerdictKind::Clean), "{:?}", planned.files);
    assert_eq!(picture(&target), before);
    let receipt = land(planned, &journal, false, &|| true).unwrap();
    assert_eq!(receipt, Receipt { written: 11, removed: 4, bytes_written: 16, already_there: 0 });
    assert_landed(&target);
    assert_eq!(recover(&journal, Strangers::Kept).unwrap(), Recovered::Landed);
    assert!(verdicts(&target, &differences).iter().all(|line| line.ends_with("already_there")));
    undo(&journal, Strangers::Kept).unwrap();
    assert_eq!(picture(&target), before);
    assert!(matches!(undo(&journal, Strangers::Kept), Err(LandingError::NothingToUndo { .. })));
}

#[test]
fn a_crash_anywhere_leaves_all_or_nothing() {
    let mut stop_at = 0;
    loop {
        let (folder, differences) = story();
        let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
        let before = picture(&target);
        let planned = thought(&target, &differences);
        let mut left = stop_at;
        let mut crash = || {
            if left == 0 {
                ControlFlow::Break(())
            } else {
                left -= 1;
                ControlFlow::Continue(())
            }
        };
        if land_observed(&planned, &journal, false, &|| true, &mut crash).is_ok() {
            break;
        }
        // The way back is broken off, too, one step later each time, until it comes through.
        let mut patience = stop_at % 5;
        loop {
            let mut left = patience;
            let mut crash = || {
                if left == 0 {
                    ControlFlow::Break(())
                } else {
                    left -= 1;
                    ControlFlow::Continue(())
                }
            };
            if let Ok(recovered) = restore::recover_observed(&journal, Strangers::Kept, &mut crash) {
                assert!(matches!(recovered, Recovered::TakenBack(_)), "{recovered:?}");
                break;
            }
            patience += 1;
        }
        assert_eq!(picture(&target), before, "crash at {stop_at}");
        stop_at += 1;
    }
    assert!(stop_at > 20, "{stop_at}");
}

#[test]
fn a_crash_while_undoing_is_undone_by_recover() {
    for stop_at in 0.. {
        let (folder, differences) = story();
        let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
        let before = picture(&target);
        land(thought(&target, &differences), &journal, false, &|| true).unwrap();
        let mut left = stop_at;
        let mut crash = || {
            if left == 0 {
                ControlFlow::Break(())
            } else {
                left -= 1;
                ControlFlow::Continue(())
            }
        };
        let through = restore::undo_observed(&journal, Strangers::Kept, &mut crash).is_ok();
        if !through {
            let recovered = recover(&journal, Strangers::Kept).unwrap();
            assert!(matches!(recovered, Recovered::TakenBack(_)), "{recovered:?}");
        }
        assert_eq!(recover(&journal, Strangers::Kept).unwrap(), Recovered::Undone);
        assert_eq!(picture(&target), before, "crash at {stop_at}");
        if through {
            break;
        }
    }
}

#[test]
fn what_came_from_elsewhere_is_a_conflict_that_can_be_forced() {
    let (folder, differences) = story();
    let target = folder.path().join("target");
    let elsewhere = |path: &TreePath| (path.as_bytes() == b"changed").then(|| PathBuf::from("/other/changed"));
    let planned = plan(&target, &differences, &elsewhere).unwrap();
    let conflicts: Vec<_> = planned.files.iter().filter(|file| file.verdict == VerdictKind::Conflict).collect();
    assert_eq!(conflicts.len(), 1);
    assert_eq!((conflicts[0].path.clone(), conflicts[0].forceable), (path("changed"), true));
    assert_eq!(conflicts[0].reason.as_deref(), Some("came from `/other/changed`, not from here"));
    land(planned, &folder.path().join("journal"), true, &|| true).unwrap();
    assert_landed(&target);
}

#[test]
fn undo_refuses_when_something_was_changed_since() {
    let (folder, differences) = story();
    let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
    land(thought(&target, &differences), &journal, false, &|| true).unwrap();
    put(&target, "changed", "by hand", 0o640);
    let now = picture(&target);
    let error = undo(&journal, Strangers::Kept).unwrap_err();
    assert_eq!(error.to_string(), "1 file is in conflict, nothing was changed: `changed` was changed on the host since the apply");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(picture(&target), now);
}

#[test]
fn undo_that_insists_brings_everything_back_over_what_was_changed_since() {
    let (folder, differences) = story();
    let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
    let before = picture(&target);
    land(thought(&target, &differences), &journal, false, &|| true).unwrap();
    put(&target, "changed", "by hand", 0o640);
    fs::remove_dir_all(target.join("made")).unwrap();
    undo(&journal, Strangers::Overwritten).unwrap();
    assert_eq!(picture(&target), before);
}

/// Breaks off, or does something, at one of the moments before a change.
fn at(moment: usize, mut act: impl FnMut() -> ControlFlow<()>) -> impl FnMut() -> ControlFlow<()> {
    let mut left = moment;
    move || {
        let now = left == 0;
        left = left.wrapping_sub(1);
        if now { act() } else { ControlFlow::Continue(()) }
    }
}

/// A folder that becomes a link, a link that becomes a folder, files of all fates.
fn kinds() -> (tempfile::TempDir, Vec<Difference>) {
    let folder = folder();
    let target = folder.path().join("target");
    for name in ["d/a", "d/b", "e/keep", "gone", "sub/x"] {
        put(&target, name, "old", 0o644);
    }
    symlink("sub", target.join("l")).unwrap();
    let old = || file("old", 0o644);
    let differences = vec![
        difference("d", FOLDER, link("e")),
        difference("d/a", old(), None),
        difference("d/b", old(), None),
        difference("e/keep", old(), file("new", 0o644)),
        difference("gone", old(), None),
        difference("l", link("sub"), FOLDER),
        difference("l/x", None, file("new", 0o644)),
        difference("n", None, FOLDER),
        difference("n/m", None, file("new", 0o644)),
    ];
    (folder, differences)
}

#[test]
fn folders_become_links_and_links_folders_and_both_come_back() {
    for stop_at in 0.. {
        let (folder, differences) = kinds();
        let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
        let before = picture(&target);
        let planned = thought(&target, &differences);
        assert!(planned.files.iter().all(|file| file.verdict == VerdictKind::Clean), "{:?}", planned.files);
        let landed = land_observed(&planned, &journal, false, &|| true, &mut at(stop_at, || ControlFlow::Break(()))).is_ok();
        if landed {
            assert_eq!(fs::read_link(target.join("d")).unwrap(), Path::new("e"));
            assert_eq!(fs::read_to_string(target.join("l/x")).unwrap(), "new");
            assert_eq!(fs::read_to_string(target.join("sub/x")).unwrap(), "old");
            // What is there already is no conflict, also behind the new link.
            assert!(thought(&target, &differences).files.iter().all(|file| file.verdict == VerdictKind::AlreadyThere));
            undo(&journal, Strangers::Kept).unwrap();
        } else {
            assert!(matches!(recover(&journal, Strangers::Kept).unwrap(), Recovered::TakenBack(undone) if undone.kept.is_empty()));
        }
        assert_eq!(picture(&target), before, "crash at {stop_at}");
        if landed {
            break;
        }
    }
}

#[test]
fn nothing_lands_behind_a_link_that_stays() {
    let (folder, mut differences) = kinds();
    let target = folder.path().join("target");
    // The workspace made a folder below another one, which is a link here.
    differences.retain(|difference| difference.path.as_bytes().starts_with(b"l/"));
    differences.push(difference("l/y", None, FOLDER));
    differences.push(difference("l/y/z", None, file("new", 0o644)));
    let planned = thought(&target, &differences);
    assert!(planned.files.iter().all(|file| file.verdict == VerdictKind::Conflict && !file.forceable), "{:?}", planned.files);
}

/// What somebody saves at any moment of a landing, of its way back and of an undo is there afterwards, and all else is old or new.
#[test]
fn what_somebody_saves_at_any_moment_stays() {
    let edits = ["e/keep", "n/m", "d/a", "gone", "l/x"];
    for edit in edits {
        for undoing in [false, true] {
            for moment in 0.. {
                let (folder, differences) = kinds();
                let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
                let before = contents(&target);
                let place = target.join(edit);
                let mut edited = false;
                let mut past = true;
                let mut save = at(moment, || {
                    past = false;
                    // An editor writes to what is there, and nothing is written through the link.
                    if fs::symlink_metadata(&place).is_ok() && !place.parent().unwrap().is_symlink() {
                        fs::write(&place, "by hand, and longer").unwrap();
                        edited = true;
                    }
                    ControlFlow::Continue(())
                });
                let planned = thought(&target, &differences);
                let kept = if undoing {
                    land(planned, &journal, false, &|| true).unwrap();
                    let Ok(undone) = restore::undo_observed(&journal, Strangers::Kept, &mut save) else { panic!("{edit} {moment}") };
                    undone.kept
                } else {
                    match land_observed(&planned, &journal, false, &|| true, &mut save) {
                        Ok(_) => Vec::new(),
                        Err(_) => vec![path(edit)],
                    }
                };
                drop(save);
                let mut now = contents(&target);
                if edited {
                    let hand = now.iter().position(|(_, _, text)| text == "by hand, and longer");
                    let hand = hand.unwrap_or_else(|| panic!("{edit} at {moment}, undoing: {undoing}: {now:?}"));
                    assert_eq!(now.remove(hand).0, edit);
                    if undoing {
                        assert!(kept.contains(&path(edit)) || before.iter().any(|(name, ..)| name == edit), "{kept:?}");
                    }
                }
                let differs = |name: &str| edited && (name == edit || edit.starts_with(&format!("{name}/")));
                let rest = |all: &[(String, u32, String)]| -> Vec<_> { all.iter().filter(|(name, ..)| !differs(name)).cloned().collect() };
                if undoing || !kept.is_empty() {
                    assert_eq!(rest(&now), rest(&before), "{edit} at {moment}, undoing: {undoing}");
                }
                assert!(!now.iter().any(|(name, ..)| name.contains(".pyro")), "{now:?}");
                if past {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_landing_that_is_called_off_at_any_moment_is_all_or_nothing_and_says_which() {
    let (mut called_off, mut landed) = (0, false);
    for patience in 0u32.. {
        let (folder, differences) = story();
        let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
        let before = picture(&target);
        let left = std::cell::Cell::new(patience);
        let is_wanted = || left.replace(left.get().saturating_sub(1)) > 0;
        match land(thought(&target, &differences), &journal, false, &is_wanted) {
            Ok(_) => {
                assert_landed(&target);
                landed = true;
                break;
            }
            Err(error) => {
                assert!(matches!(error, LandingError::CalledOff), "{error}");
                assert_eq!(picture(&target), before, "called off at {patience}");
                called_off += 1;
            }
        }
    }
    assert!(landed && called_off > 20, "{called_off}");
}

#[test]
fn what_replaces_a_file_is_its_owners_and_what_is_new_the_folders() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root makes files for others");
        return;
    }
    let (folder, differences) = story();
    let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
    let owner = |name: &str| {
        let status = fs::symlink_metadata(target.join(name)).unwrap();
        (status.uid(), status.gid())
    };
    std::os::unix::fs::chown(&target, Some(1234), Some(1234)).unwrap();
    std::os::unix::fs::chown(target.join("changed"), Some(2345), Some(2345)).unwrap();
    land(thought(&target, &differences), &journal, false, &|| true).unwrap();
    assert_eq!((owner("changed"), owner("made/on/the/way")), ((2345, 2345), (1234, 1234)));
    undo(&journal, Strangers::Kept).unwrap();
    assert_eq!(owner("changed"), (2345, 2345));
}

#[test]
fn what_the_host_changed_is_a_conflict_and_force_is_for_those_only() {
    let (folder, differences) = story();
    let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
    put(&target, "changed", "by hand", 0o644);
    put(&target, "made/on/the/way", "mine", 0o644);
    fs::remove_file(target.join("mode")).unwrap();
    put(&target, "becomes-file/more", "mine", 0o644);
    let conflicts: Vec<_> = verdicts(&target, &differences).into_iter().filter(|line| line.contains("conflict")).collect();
    assert_eq!(
        conflicts,
        [
            "becomes-file conflict for ever: is a folder on the host that holds `becomes-file/more`, which would be lost",
            "changed conflict: was changed on the host",
            "made/on/the/way conflict: exists on the host and was not in the seed",
            "mode conflict: was deleted on the host",
        ]
    );
    let before = picture(&target);
    for force in [false, true] {
        assert!(matches!(land(thought(&target, &differences), &journal, force, &|| true), Err(LandingError::Conflicts { .. })));
        assert_eq!(picture(&target), before);
    }
    fs::remove_file(target.join("becomes-file/more")).unwrap();
    land(thought(&target, &differences), &journal, true, &|| true).unwrap();
    assert_landed_but_for_modes(&target);
    undo(&journal, Strangers::Kept).unwrap();
    assert_eq!(fs::read_to_string(target.join("changed")).unwrap(), "by hand");
}

fn assert_landed_but_for_modes(target: &Path) {
    let found: Vec<_> = contents(target).into_iter().map(|(place, _, content)| (place, content)).collect();
    let mut expected: Vec<_> = LANDED.iter().map(|(place, _, content)| ((*place).to_owned(), (*content).to_owned())).collect();
    expected.push(("mode".to_owned(), "mode".to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn what_was_given_is_the_base_even_when_only_its_digest_is_known() {
    let folder = folder();
    put(folder.path(), "a", "seeded", 0o644);
    put(folder.path(), "b", "changed since", 0o644);
    put(folder.path(), "ignored", "mine", 0o644);
    let (digest, size_bytes) = crate::files::digest(&mut b"seeded".as_slice()).unwrap();
    let seeded = || Some(Side { kind: EntryKind::File, mode: 0o644, size_bytes, content: Content::Digested(digest) });
    let differences = [
        difference("a", seeded(), file("new", 0o644)),
        difference("b", seeded(), file("new", 0o644)),
        difference("ignored", None, file("new", 0o644)),
    ];
    assert_eq!(
        verdicts(folder.path(), &differences),
        ["a clean", "b conflict: was changed on the host", "ignored conflict: exists on the host and was not in the seed"]
    );
}

#[test]
fn nothing_is_written_behind_a_link_or_into_a_repository() {
    let folder = folder();
    let (target, outside) = (folder.path().join("target"), folder.path().join("outside"));
    fs::create_dir_all(&outside).unwrap();
    put(&target, "file", "x", 0o644);
    symlink(&outside, target.join("out")).unwrap();
    symlink(outside.join("victim"), target.join("dangling")).unwrap();
    let differences = [
        difference("out/x", None, file("x", 0o644)),
        difference("dangling", None, file("x", 0o644)),
        difference("file/x", None, file("x", 0o644)),
        difference("sub/.GIT/hooks/pre-commit", None, file("x", 0o755)),
        difference("large", None, Some(Side { kind: EntryKind::File, mode: 0o644, size_bytes: 1 << 40, content: Content::TooLarge })),
    ];
    assert_eq!(
        verdicts(&target, &differences),
        [
            "dangling conflict: exists on the host and was not in the seed",
            "file/x conflict for ever: lies below something that is no folder on the host",
            "large conflict for ever: its content was not read",
            "out/x conflict for ever: lies behind a link of the host",
            "sub/.GIT/hooks/pre-commit left_out: is inside a repository's `.git`, which is never written",
        ]
    );
    land(thought(&target, &differences[1..2]), &folder.path().join("journal"), true, &|| true).unwrap();
    assert!(!outside.join("victim").exists() && fs::symlink_metadata(target.join("dangling")).unwrap().is_file());
}

#[test]
fn a_repository_by_another_name_is_left_out_and_the_rest_lands() {
    let folder = folder();
    let (target, journal) = (folder.path().join("target"), folder.path().join("journal"));
    put(&target, "half/HEAD", "ref: refs/heads/main", 0o644);
    put(&target, "half/refs/x", "", 0o644);
    let differences = [
        difference(".GIT/config", None, file("x", 0o644)),
        difference("code", None, file("x", 0o644)),
        difference("half/config", None, file("x", 0o644)),
        difference("half/objects", None, FOLDER),
        difference("sub/HEAD", None, file("ref: refs/heads/main", 0o644)),
        difference("sub/config", None, file("[core]", 0o644)),
        difference("sub/hooks/post-checkout", None, file("x", 0o755)),
        difference("sub/objects", None, FOLDER),
        difference("sub/readme", None, file("x", 0o644)),
        difference("sub/refs/heads", None, FOLDER),
    ];
    let planned = thought(&target, &differences);
    let clean: Vec<_> = planned.files.iter().filter(|file| file.verdict == VerdictKind::Clean).map(|file| file.path.to_string()).collect();
    assert_eq!(clean, ["code", "sub/readme"]);
    assert!(planned.files.iter().all(|file| matches!(file.verdict, VerdictKind::Clean | VerdictKind::LeftOut)));
    land(planned, &journal, false, &|| true).unwrap();
    let names: Vec<_> = contents(&target).into_iter().map(|(place, ..)| place).collect();
    assert_eq!(names, ["code", "half", "half/HEAD", "half/refs", "half/refs/x", "sub", "sub/readme"]);
}

#[test]
fn a_link_put_in_the_way_after_the_plan_leads_nowhere() {
    let folder = folder();
    let (target, outside, journal) = (folder.path().join("target"), folder.path().join("outside"), folder.path().join("journal"));
    fs::create_dir_all(&outside).unwrap();
    put(&target, "d/file", "old", 0o644);
    put(&target, "z", "old", 0o644);
    let differences = [difference("d/new", None, file("x", 0o644)), difference("z", file("old", 0o644), file("new", 0o644))];
    let planned = thought(&target, &differences);
    fs::rename(target.join("d"), folder.path().join("d")).unwrap();
    symlink(&outside, target.join("d")).unwrap();
    assert!(land(planned, &journal, true, &|| true).is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(target.join("z")).unwrap(), "old");
}

#[test]
fn hazards_name_what_the_host_will_run() {
    let package = |scripts: &str, version: &str| file(&format!("{{\"version\":\"{version}\",\"scripts\":{{{scripts}}}}}"), 0o644);
    let differences = [
        difference(".husky/pre-commit", None, file("x", 0o644)),
        difference(".github/workflows/ci.yml", None, file("x", 0o644)),
        difference("a/package.json", package("", "1"), package("", "2")),
        difference("b/package.json", package("", "1"), package("\"test\":\"evil\"", "1")),
        difference("build.rs", file("", 0o644), file("x", 0o644)),
        difference("in", None, link("a/../b")),
        difference("out", None, link("../b")),
        difference("run", file("x", 0o644), file("x", 0o755)),
        difference("src/main.rs", file("", 0o644), file("x", 0o644)),
        difference("tool/.mcp.json", None, file("{}", 0o644)),
    ];
    let folder = folder();
    let planned = thought(folder.path(), &differences);
    let hazards: Vec<_> = planned.hazards.iter().map(|hazard| format!("{} {}", hazard.path, hazard.why)).collect();
    assert_eq!(
        hazards,
        [
            ".husky/pre-commit runs as a Git hook",
            ".github/workflows/ci.yml runs in continuous integration",
            "b/package.json changes the scripts of a package",
            "build.rs is run by a build",
            "in is a link that may point out of the folder",
            "out is a link that points out of the folder",
            "run is newly executable",
            "tool/.mcp.json configures a coding agent",
        ]
    );
}

#[test]
fn names_that_differ_in_case_only_clash() {
    let (one, other, third) = (path("Read/Me"), path("read/me"), path("else"));
    let clashes = clash::clashes([&one, &other, &third].into_iter());
    assert_eq!((clashes.get(&one), clashes.get(&other), clashes.get(&third)), (Some(&&other), Some(&&one), None));
}
