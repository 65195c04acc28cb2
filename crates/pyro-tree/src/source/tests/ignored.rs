//! What Git ignores is left behind: the walk against the real `git ls-files`, and the rules that it hands back.

use proptest::prelude::*;

use super::*;
use crate::{
    ignore::tests::{make, path, patterns},
    path::TreePath,
};

/// Lists what Git tracks, or does not ignore, of a folder of a checkout.
fn listed(variables: &[(&str, &str)], folder: &Path) -> Vec<String> {
    let text = run_with(variables, folder, "git", &["-c", "core.quotePath=true", "ls-files", "-co", "--exclude-standard"]);
    let mut names: Vec<_> = text.lines().map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// Returns the files that were taken, as Git quotes their names.
fn files(taken: &Taken) -> Vec<String> {
    let own = |path: &str| path.starts_with(".git/");
    let files = taken.0.iter().filter(|(path, part)| part.0 != EntryKind::Directory && !own(path));
    files.map(|(path, _)| path.clone()).collect()
}

/// Names that are shown as they are, so that what was taken and what Git lists can be compared as text.
fn plain(paths: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let shown = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    paths.into_iter().map(|path| path.into_iter().map(|byte| if shown(byte) { byte } else { b'_' }).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_checkout_gives_what_git_lists(
        paths in prop::collection::vec(path(), 1..20),
        tracked in prop::collection::vec(any::<bool>(), 20),
        files_of_patterns in prop::collection::vec(patterns(), 4),
        folded in any::<bool>(),
    ) {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().join("r");
        fs::create_dir(&top).unwrap();
        let home_text = home.path().display().to_string();
        let variables = [("HOME", home_text.as_str()), ("GIT_CONFIG_NOSYSTEM", "1")];
        git(&top, &["init", "-q"]);
        git(&top, &["config", "core.ignoreCase", if folded { "true" } else { "false" }]);
        let mut paths = plain(paths);
        if folded {
            // Where case does not count, Git takes two names that differ in it for one.
            paths.iter_mut().for_each(|path| path.make_ascii_lowercase());
        }
        make(&top, &paths);
        let mut added = vec!["add", "-f", "--"];
        let text: Vec<_> = paths.iter().map(|path| format!("./{}", std::str::from_utf8(path).unwrap())).collect();
        let chosen = text.iter().zip(&tracked).filter(|(path, tracked)| **tracked && top.join(path).is_file());
        // A pattern of Git's own is not what is meant.
        added.extend(chosen.map(|(path, _)| path.as_str()));
        if added.len() > 3 {
            run_with(&[("GIT_LITERAL_PATHSPECS", "1")], &top, "git", &added);
        }
        fs::write(top.join(".git/info/exclude"), &files_of_patterns[0]).unwrap();
        fs::create_dir_all(home.path().join(".config/git")).unwrap();
        fs::write(home.path().join(".config/git/ignore"), &files_of_patterns[1]).unwrap();
        for (folder, patterns) in [("", &files_of_patterns[2]), ("a", &files_of_patterns[3])] {
            if top.join(folder).is_dir() && !top.join(folder).join(".gitignore").exists() {
                fs::write(top.join(folder).join(".gitignore"), patterns).unwrap();
            }
        }
        let options = SourceOptions { git_environment: environment(&variables), ..SourceOptions::default() };
        let (taken, report) = take(&top, &options);
        prop_assert_eq!(files(&taken), listed(&variables, &top));
        let rules = report.ignore.unwrap();
        let expected = rules.clone();
        let ignored = |path: &str, rules: &IgnoreRules| rules.ignores(&TreePath::try_from(path).unwrap(), EntryKind::File);
        let (all, report) = take(&top, &SourceOptions { all: true, ..options.clone() });
        for path in files(&all) {
            let known = taken.0.contains_key(&path);
            // What was taken although it is ignored is tracked.
            prop_assert!(known || ignored(&path, &expected), "{path}");
        }
        prop_assert!(report.ignore.is_some());
        if top.join("a").is_dir() {
            let (part, report) = take(&top.join("a"), &options);
            let below = listed(&variables, &top.join("a"));
            // A folder that is ignored and tracks nothing is one of its own.
            if report.origin == OriginKind::Git {
                prop_assert_eq!(files(&part), below);
                let rules_of_part = report.ignore.unwrap();
                for path in files(&take(&top.join("a"), &SourceOptions { all: true, ..options }).0) {
                    prop_assert_eq!(ignored(&path, &rules_of_part), ignored(&format!("a/{path}"), &expected), "{}", path);
                }
            } else {
                prop_assert!(ignored("a/x", &expected) && report.ignore.is_none());
            }
        }
    }
}

/// Checks that a file is left behind where a configuration says so, for Git and for us.
#[track_caller]
fn check(home: &Path, variables: &[(&str, &str)], path: &str, ignored: bool) {
    let home_text = home.display().to_string();
    let variables: Vec<_> =
        [("HOME", home_text.as_str()), ("GIT_CONFIG_NOSYSTEM", "1")].into_iter().chain(variables.iter().copied()).collect();
    let top = home.join("r");
    let options = SourceOptions { git_environment: environment(&variables), ..SourceOptions::default() };
    assert_eq!(!listed(&variables, &top).iter().any(|listed| listed == path), ignored, "git, {path}");
    let (taken, report) = take(&top, &options);
    assert_eq!(!taken.0.contains_key(path), ignored, "{path}");
    assert_eq!(report.ignore.unwrap().ignores(&TreePath::try_from(path).unwrap(), EntryKind::File), ignored);
}

fn home_with_checkout() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("r")).unwrap();
    git(&home.path().join("r"), &["init", "-q"]);
    put(home.path(), &[("r/secrets.local", "key"), ("r/app.py", ""), ("mine", "*.local\n"), ("other", "*.py\n")]);
    home
}

#[test]
fn the_excludes_of_every_level_count_and_the_strongest_is_the_one() {
    let home = home_with_checkout();
    let home = home.path();
    check(home, &[], "secrets.local", false);
    put(home, &[(".gitconfig", "[core]\n\texcludesFile = ~/mine\n")]);
    check(home, &[], "secrets.local", true);
    put(home, &[("global", "[core]\n\texcludesFile = ~/other\n")]);
    let global = home.join("global").display().to_string();
    check(home, &[("GIT_CONFIG_GLOBAL", &global)], "secrets.local", false);
    check(home, &[("GIT_CONFIG_GLOBAL", &global)], "app.py", true);
    check(home, &[("GIT_CONFIG_NOSYSTEM", "0"), ("GIT_CONFIG_SYSTEM", &global)], "app.py", false);
    let variables = [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "core.excludesfile"), ("GIT_CONFIG_VALUE_0", "~/other")];
    check(home, &variables, "app.py", true);
    check(home, &variables, "secrets.local", false);
    // The repository's own, relative to its top, is stronger than the user's; a worktree's is stronger still.
    git(&home.join("r"), &["config", "core.excludesFile", "../other"]);
    check(home, &[], "app.py", true);
    check(home, &[], "secrets.local", false);
    git(&home.join("r"), &["config", "extensions.worktreeConfig", "true"]);
    put(home, &[("r/.git/config.worktree", "[core]\n\texcludesFile = ../mine\n")]);
    check(home, &[], "secrets.local", true);
    fs::remove_file(home.join("r/.git/config.worktree")).unwrap();
    git(&home.join("r"), &["config", "--unset", "core.excludesFile"]);
    git(&home.join("r"), &["config", "include.path", "../../included"]);
    put(home, &[("included", "[core]\n\texcludesFile = ../other\n")]);
    check(home, &[], "app.py", true);
    // Nothing is taken of what an exclude file holds.
    let options = SourceOptions { git_environment: environment(&[("HOME", &home.display().to_string())]), ..SourceOptions::default() };
    let (taken, _) = take(&home.join("r"), &options);
    assert!(taken.0.values().all(|(_, _, content)| !content.windows(4).any(|window| window == b"*.py")));
}

#[test]
fn excludes_that_are_links_are_followed_where_git_follows_them() {
    let home = home_with_checkout();
    let home = home.path();
    fs::create_dir_all(home.join(".config/git")).unwrap();
    symlink("../../mine", home.join(".config/git/ignore")).unwrap();
    check(home, &[], "secrets.local", true);
    fs::remove_file(home.join(".config/git/ignore")).unwrap();
    fs::remove_file(home.join("r/.git/info/exclude")).unwrap();
    symlink("../../../mine", home.join("r/.git/info/exclude")).unwrap();
    check(home, &[], "secrets.local", true);
    fs::remove_file(home.join("r/.git/info/exclude")).unwrap();
    // That of a folder is not: the checkout may come from a stranger.
    symlink("../mine", home.join("r/.gitignore")).unwrap();
    check(home, &[], "secrets.local", false);
}

#[test]
fn a_list_of_ignored_files_that_cannot_be_read_is_said() {
    let home = home_with_checkout();
    put(home.path(), &[(".gitconfig", "[core]\n\texcludesFile = ~/large\n")]);
    fs::File::create(home.path().join("large")).unwrap().set_len(5 << 20).unwrap();
    let git_environment = environment(&[("HOME", &home.path().display().to_string()), ("GIT_CONFIG_NOSYSTEM", "1")]);
    let (_, report) = take(&home.path().join("r"), &SourceOptions { git_environment, ..SourceOptions::default() });
    assert_eq!(report.notes.len(), 1);
    assert!(report.notes[0].text.contains("large`, so files that it ignores may have been copied: is larger than"), "{:?}", report.notes);
}

#[test]
fn rules_of_checkouts_inside_each_other_stay_apart() {
    let folder = checkout();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    git(&inner, &["init", "-q"]);
    put(&inner, &[(".gitignore", "/own\n"), ("x.log", ""), ("own", "")]);
    let (taken, report) = take(folder.path(), &SourceOptions::default());
    assert!(taken.0.contains_key("inner/x.log") && !taken.0.contains_key("inner/own"));
    let rules = report.ignore.unwrap();
    let ignores = |path: &str| rules.ignores(&TreePath::try_from(path).unwrap(), EntryKind::File);
    assert!(ignores("x.log") && !ignores("inner/x.log") && ignores("inner/own") && !ignores("own"));
    let plain = tempfile::tempdir().unwrap();
    put(plain.path(), &[(".gitignore", "*\n"), ("a", "")]);
    assert_eq!(take(plain.path(), &SourceOptions::default()).1.ignore, None);
}
